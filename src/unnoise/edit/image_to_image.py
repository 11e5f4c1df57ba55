"""Image to image (SDEdit; Meng et al. 2022): a picture is taken part-way up in noise and comes down under a
prompt.

    image_to_image(pipe, "apple.png", "a green apple", strength=0.6)

x = alpha x0 + sigma eps at the level `strength`, then any sampler down to clean data. Strength 0 gives the
picture back, byte for byte; 1 is text-to-image with that seed, bit for bit (there nothing of x0 is mixed in).
A drawing becomes a finished picture the same way, at .6 to .9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.edit.picture import Given, decoded, encoded, read, working_size
from unnoise.edit.run import Progress, asked, drawn, noised_from, part, result, strength_of
from unnoise.pipeline import Pipeline, Result

STRENGTH = 0.6


def image_to_image(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    strength: float = STRENGTH,
    then: Sequence[str] = (),
    height: int | None = None,
    width: int | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> Result:
    """Pictures of the image's size, changed towards the prompt as far as `strength` says.

    image: a file, PIL image or uint8 array. strength: where on the schedule's time to begin, 0 (the picture
    itself) to 1 (text-to-image); N steps are N steps at each. then: further prompts, each an image-to-image
    of what came before, at the same strength. how: what `Pipeline.request` takes (negative_prompt,
    num_inference_steps, guidance_scale, seed, num_images, sampler, …). height, width: at which the model
    works. The Result's nfe counts all calls an image. Errors: BadInput.
    """
    strength, picture = strength_of(strength), read(image)
    if isinstance(then, str) or not isinstance(then, Sequence):
        raise BadInput(f"then must be a list of prompts, given {short(then)}")
    size = working_size(pipe, picture, height, width)
    first = asked(pipe, size, prompt, **how)
    later = [asked(pipe, size, p, **{**how, "seed": first.seeds}) for p in then]
    x, nfe = encoded(pipe, picture.pixels, size), 0
    for r in (first, *later):
        x, calls = drawn(
            pipe,
            r,
            path=part(pipe, r, strength),
            start=None if strength == 1 else noised_from(x),
            progress=progress,
            batch_size=batch_size,
        )
        nfe += calls
    arrays = np.stack(
        [picture.whole(p) for p in decoded(pipe, x, picture)] if strength else [picture.whole()] * len(x)
    )
    return result(
        pipe,
        first,
        arrays,
        nfe,
        "image-to-image",
        {"image": picture},
        {"strength": strength, "then": list(then) or None, "height": height, "width": width},
    )
