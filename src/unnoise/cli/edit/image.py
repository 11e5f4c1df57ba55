"""`unnoise edit image-to-image`."""
from __future__ import annotations

from typing import Annotated, Optional

import typer

from unnoise.cli import common
from unnoise.cli.edit import common as c


def image_to_image(
    image: c.Image,
    prompt: c.Prompt = "",
    strength: Annotated[float, typer.Option("--strength", help="How far: 0 gives the picture back, 1 is text-to-image.")] = 0.6,
    then: Annotated[Optional[list[str]], typer.Option("--then", metavar="PROMPT", help="Edit the outcome again with another prompt; may be repeated.")] = None,  # noqa: UP045
    guide: common.Guide = None, guide_through: common.Through = False, guide_linear: common.Linear = False,
    output: c.Output = None, overwrite: c.Overwrite = False, n: c.Number = 1, model: c.Model = c.DEFAULT, steps: c.Steps = None,
    guidance: c.Guidance = None, negative: c.Negative = "", seed: c.Seed = None, sampler: c.Sampler = None, height: c.Height = None,
    width: c.Width = None, batch_size: c.BatchSize = None, as_json: c.Json = False,
) -> None:
    """Change a picture, or finish a drawing, towards a prompt: noise it part-way and come down again."""
    how = c.given(negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, seed=seed, sampler=sampler, height=height, width=width,
                  guide=guide or None, guide_through=guide_through or None, guide_linear=guide_linear or None)

    def run(pipe, advance):
        from unnoise.edit import image_to_image as edit

        return edit(pipe, image, prompt, strength=strength, then=then or (), num_images=n, batch_size=batch_size, progress=advance, **how)
    c.edit(model, image, output, overwrite, as_json, run)
