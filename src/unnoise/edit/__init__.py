"""Changing a picture on purpose, and nothing else: each edit a function (pipeline, picture, …) -> Result,
composed from the core.

    from unnoise.edit import image_to_image
    result = image_to_image(unnoise.load(), "apple.png", "a green apple", strength=0.6, seed=3)

`edits()` is what the command line and `replay` know by name.
"""

from __future__ import annotations

from collections.abc import Callable

from unnoise.edit.anomaly import anomaly
from unnoise.edit.denoise import denoise
from unnoise.edit.diffedit import diffedit
from unnoise.edit.image_to_image import image_to_image
from unnoise.edit.imagic import imagic
from unnoise.edit.inpaint import inpaint
from unnoise.edit.invert import invert
from unnoise.edit.outpaint import outpaint, zoom_out
from unnoise.edit.prompt_to_prompt import prompt_to_prompt
from unnoise.edit.style import style
from unnoise.edit.upscale import upscale

__all__ = [
    "anomaly",
    "denoise",
    "diffedit",
    "edits",
    "image_to_image",
    "imagic",
    "inpaint",
    "invert",
    "outpaint",
    "prompt_to_prompt",
    "style",
    "upscale",
    "zoom_out",
]


def edits() -> dict[str, Callable]:
    """{name on the command line and in a PNG's recipe: the function}."""
    return {
        "denoise": denoise,
        "diffedit": diffedit,
        "image-to-image": image_to_image,
        "imagic": imagic,
        "inpaint": inpaint,
        "invert": invert,
        "outpaint": outpaint,
        "prompt-to-prompt": prompt_to_prompt,
        "style": style,
        "upscale": upscale,
    }
