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

from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.edit.picture import Given
from unnoise.edit.run import begin, noised_from, strength_of
from unnoise.pipeline import Pipeline, Result

STRENGTH = 0.6


def image_to_image(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    strength: float = STRENGTH,
    then: Sequence[str] = (),
    **how: Any,
) -> Result:
    """Pictures of the image's size, changed towards the prompt as far as `strength` says.

    image: a file, PIL image or uint8 array. strength: where on the schedule's time to begin, 0 (the picture
    itself) to 1 (text-to-image); N steps are N steps at each. then: further prompts, each an image-to-image
    of what came before, at the same strength. how: what `edit.run.begin` takes (negative_prompt,
    num_inference_steps, guidance_scale, seed, num_images, sampler, height, width, …). The Result's nfe counts
    all calls an image. Errors: BadInput.
    """
    strength = strength_of(strength)
    if isinstance(then, str) or not isinstance(then, Sequence):
        raise BadInput(f"then must be a list of prompts, given {short(then)}")
    options = {"strength": strength, "then": list(then) or None}
    run = begin(pipe, "image-to-image", image, prompt, options, how)
    x, nfe = run.encoded(), 0
    for stage in [run, *(run.under(p) for p in then)]:
        start = None if strength == 1 else noised_from(x)
        x, calls = stage.drawn(path=stage.path(strength), start=start)
        nfe += calls
    return run.result(run.pictures(x) if strength else [run.picture.whole()] * len(x), nfe)
