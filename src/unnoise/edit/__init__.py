"""Changing a picture on purpose, and nothing else: each edit a function (pipeline, picture, …) -> Result, composed from the core.

    from unnoise.edit import image_to_image
    result = image_to_image(unnoise.load(), "apple.png", "a green apple", strength=0.6, seed=3)

`edits()` is what the command line and `replay` know by name.
"""
from __future__ import annotations

from collections.abc import Callable

from unnoise.edit.image_to_image import image_to_image

__all__ = ["edits", "image_to_image"]


def edits() -> dict[str, Callable]:
    """{name on the command line and in a PNG's recipe: the function}."""
    return {"image-to-image": image_to_image}
