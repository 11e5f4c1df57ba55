"""`unnoise edit image-to-image`."""

from __future__ import annotations

from typing import Annotated

import typer

from unnoise.cli import common as words
from unnoise.cli.edit import common as c

Strength = Annotated[
    float, typer.Option("--strength", help="How far: 0 gives the picture back, 1 is text-to-image.")
]
Then = Annotated[
    list[str] | None,
    typer.Option(
        "--then", metavar="PROMPT", help="Edit the outcome again with another prompt; may be repeated."
    ),
]


@c.command()
def image_to_image(
    image: c.Image,
    prompt: c.Prompt = "",
    strength: Strength = 0.6,
    then: Then = None,
    guide: words.Guide = None,
    guide_through: words.Through = False,
    guide_linear: words.Linear = False,
    *,
    common: c.Common,
) -> None:
    """Change a picture, or finish a drawing, towards a prompt: noise it part-way and come down again."""
    guides = c.given(
        guide=guide or None, guide_through=guide_through or None, guide_linear=guide_linear or None
    )

    def run(pipe, advance, **how):
        from unnoise.edit import image_to_image as edit

        return edit(
            pipe, image, prompt, strength=strength, then=then or (), progress=advance, **guides, **how
        )

    c.edit(common, image, run)
