"""Super-resolution: a picture twice or four times as large, whose small version is the given one.

    upscale(unnoise.load("emoji-upscale"), "apple.png", scale=2)
    upscale(unnoise.load("emoji"), "apple.png", "a red apple", scale=2)

With a network that is shown the small picture (`train.upscale`) samples of p(large | small) are drawn, by
overlapping tiles, so that any size is taken; scale 4 is scale 2 twice. `noise` says how much noise the
picture bears, `augment` adds some more before it is shown: what a network has learnt to disbelieve it also
repairs (noise-conditioning augmentation; Ho et al. 2021). With 1 step it is the posterior mean, in one call.

With any other model it is a linear inverse problem, y = A x0, A = averages of the decoded picture: the run
starts at the bicubic picture, noised by `strength`, and `guide.dps` holds it to y. No network was trained for
it.

consistency "range" puts what y tells into the outcome: the averages of its blocks are then y, to the byte,
and what y does not tell stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.codec import is_of_pictures
from unnoise.codec import scale as scales
from unnoise.codec.scale import down, up
from unnoise.denoiser import Denoiser
from unnoise.edit.canvas import folded, numbers, over_tiles, shows, tensor, unfolded
from unnoise.edit.picture import LIMIT, Given, Picture, encoded, read, resized
from unnoise.edit.run import Run, begin, no_size, noised_from, sampled, strength_of
from unnoise.evaluate.noise_level import SMALLEST, estimate_sigma
from unnoise.guide import dps, interval
from unnoise.pipeline import Count, Pipeline, Request, Result
from unnoise.process.noise import seeded

SCALES, CONSISTENCIES = (2, 4), ("range", "none")
Images = Callable[[Tensor], Tensor]  # of x0, to differentiate
STRENGTH, ZETA, TRUST = 0.5, 0.5, 3.0  # of the inverse problem; TRUST as in `edit.inpaint`


def upscale(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    scale: int = 2,
    noise: float | str = 0.0,
    augment: float = 0.0,
    consistency: str | None = None,
    strength: float | None = None,
    **how: Any,
) -> Result:
    """Pictures exactly `scale` times as large as the image, 2 or 4.

    noise: the standard deviation of what the image bears, pictures running from -1 to 1 (a grey level is 1 /
    127.5), or "estimate". augment: how much more is added. consistency: "range" or "none"; by default range
    where the image is clean. strength, prompt: of a model that was not trained for this. how: what
    `edit.run.begin` takes, but for a size. The Result's nfe counts looks at the whole picture. Errors:
    BadInput.
    """
    picture = read(image)
    _check_scale(scale, picture)
    augment, borne = arguments.number("augment", augment, 0), known(noise, picture)
    _check_model(pipe, bool(borne or augment), prompt, strength)
    usual = "none" if borne or augment else "range"
    chosen = usual if consistency is None else arguments.choice("consistency", consistency, CONSISTENCIES)
    options = {
        "scale": scale,
        "noise": noise,
        "augment": augment,
        "consistency": chosen,
        "strength": strength,
    }
    run = begin(pipe, "upscale", picture, prompt, options, how, no_size)
    if shows(pipe):
        floats, nfe = _cascade(run, scale, borne, augment, chosen)
    else:
        begins_at = strength_of(STRENGTH if strength is None else strength)
        floats, nfe = _inverse(run, scale, begins_at, chosen)
    return run.result([_with_alpha(a, picture) for a in floats], nfe)


def _check_scale(scale: int, picture: Picture) -> None:
    if arguments.integer("scale", scale) not in SCALES:
        raise BadInput(f"scale must be 2 or 4, given {short(scale)}")
    if scale * max(picture.size) > LIMIT:
        raise BadInput(
            f"{scale} times {max(picture.size)} pixels are more than {LIMIT}, the most that is accepted"
        )


def _check_model(pipe: Pipeline, noisy: bool, prompt: str | None, strength: float | None) -> None:
    """BadInput for options of the other kind of model."""
    if noisy and not shows(pipe):
        raise BadInput(
            "noise and augment are for a model that is shown the picture (emoji-upscale), given"
            f" {pipe.name!r}"
        )
    if shows(pipe) and (prompt or strength is not None):
        raise BadInput(f"model {pipe.name!r} takes no prompt and no strength: it is shown the picture")


def _with_alpha(a: np.ndarray, picture: Picture) -> np.ndarray:
    """Pixels (h, w, 3) with the picture's alpha, enlarged to them."""
    if picture.alpha is None:
        return a
    return np.dstack([a, resized(np.repeat(picture.alpha[..., None], 3, 2), a.shape[:2])[..., 0]])


def known(noise: float | str, picture: Picture) -> float:
    """The standard deviation of a picture's noise: as given, or estimated from it where `noise` is
    "estimate".
    """
    if isinstance(noise, str) and noise == "estimate":
        if min(picture.size) < SMALLEST:
            raise BadInput(
                f"to tell its noise a picture needs {SMALLEST} pixels a side, given {picture.size[1]} x"
                f" {picture.size[0]}: say how much it is"
            )
        return float(estimate_sigma(picture.pixels[None])[0])
    try:
        return arguments.number("noise", noise, 0)
    except BadInput:
        raise BadInput(
            f"noise must be a number from 0 (pictures run from -1 to 1), or 'estimate', given {short(noise)}"
        ) from None


# --- a network that is shown the small picture --------------------------------------------------------------


def _cascade(
    run: Run, scale: int, borne: float, augment: float, consistency: str
) -> tuple[Sequence[np.ndarray], int]:
    """uint8 (h, w, 3) an image, and looks at the whole picture: as often as the scale takes."""
    pipe, small, noise = run.pipe, run.picture.pixels, math.hypot(borne, augment)
    stages = _stages(pipe, scale)
    _check_noise(pipe, noise)

    def draw(places: list[int], count: Count) -> Tensor:
        arrays, r = [small] * len(places), run.request.only(places)
        for stage in range(stages):
            y = torch.cat([tensor(pipe, a) for a in arrays])
            shown, more = (noise, augment) if stage == 0 else (0.0, 0.0)
            x = samples(pipe, r, y, shown, more, count, f"upscale/{stage}")
            arrays = [_held(numbers(a[None])[0], s, consistency) for a, s in zip(x, arrays)]
        return torch.from_numpy(np.stack(arrays))

    p = pipe.codec.cell  # type: ignore[attr-defined]
    x, nfe = run.batched(draw, (1, 3, *(scale * side // p for side in small.shape[:2])))
    return list(x.cpu().numpy()), nfe


def _stages(pipe: Pipeline, scale: int) -> int:
    """How often the network makes pictures larger. BadInput for a scale that it cannot come to."""
    f = (shows(pipe) or {})["factor"]
    stages = round(math.log(scale, f))
    if f**stages != scale:
        raise BadInput(
            f"model {pipe.name!r} makes pictures {f} times as large: scale {scale} is none of its powers"
        )
    return stages


def _check_noise(pipe: Pipeline, noise: float) -> None:
    most = (shows(pipe) or {})["noise"]
    if noise > max(most, 1e-9):
        raise BadInput(
            f"model {pipe.name!r} knows noise from 0 to {most}, given {noise:.3g} (noise and augment"
            " together)"
        )


def samples(
    pipe: Pipeline,
    r: Request,
    y: Tensor,
    noise: float,
    augment: float,
    count: Count,
    stream: str = "upscale/0",
) -> Tensor:
    """Large pictures (n, 3, f h, f w) in [-1, 1] for small ones y (n, 3, h, w): each from its own seed;
    noise: what y bears when it is shown.
    """
    f = (shows(pipe) or {})["factor"]
    if augment:
        y = y + augment * seeded(r.seeds, stream + "/augment")(y)
    size = f * y.shape[2], f * y.shape[3]
    z = folded(pipe, up(y, f))
    condition = torch.cat([z, torch.full_like(z[:, :1], noise)], dim=1)
    path = pipe.path(r)
    x = seeded(r.seeds, stream + "/init")(z) * float(path[0].sigma)
    x = sampled(r, over_tiles(pipe, condition, count), x, path)
    return unfolded(pipe, x / scales.GAIN + z, size)  # the network makes what the raised picture lacks


def _held(a: np.ndarray, small: np.ndarray, consistency: str) -> np.ndarray:
    """Floats (h, w, 3) in 0 … 255 as uint8, with the small picture's averages where asked."""
    return scales.exact(a, small) if consistency == "range" else a.round().clip(0, 255).astype(np.uint8)


# --- a model that was not trained for it --------------------------------------------------------------------


def _inverse(run: Run, scale: int, strength: float, consistency: str) -> tuple[Sequence[np.ndarray], int]:
    """uint8 (h, w, 3) an image, and network calls an image."""
    pipe, codec, (h, w) = run.pipe, run.pipe.codec, run.picture.size
    if not is_of_pictures(codec) or not codec.free:
        raise BadInput(
            f"model {pipe.name!r} was not trained to upscale, and only models of latents can do so without"
            " (accepted: emoji-upscale, emoji, …)"
        )
    images = codec.images()
    small = _padded(run.picture.pixels, scale, codec.cell)
    y, size = tensor(pipe, small), (scale * small.shape[0], scale * small.shape[1])
    run = run.at(size)
    x, nfe = run.drawn(
        path=run.path(strength),
        start=noised_from(encoded(pipe, resized(small, size))),
        wrap=lambda d, places: _measured(d, images, y, scale),
    )
    floats = [numbers(images(z[None]))[0] for z in x]
    return [_held(a, small, consistency)[: scale * h, : scale * w] for a in floats], nfe


def _padded(pixels: np.ndarray, scale: int, multiple: int) -> np.ndarray:
    """The picture with its edge repeated until its large version has sides that the model takes."""
    sides = [max(-(-scale * s // multiple), 2) * multiple for s in pixels.shape[:2]]
    more = [(0, -(-side // scale) - s) for side, s in zip(sides, pixels.shape[:2])]
    return np.pad(pixels, [*more, (0, 0)], mode="edge")


def _measured(denoise: Denoiser, images: Images, y: Tensor, scale: int) -> Denoiser:
    """The denoiser held to what the decoded picture's averages shall be."""
    return dps(denoise, lambda z: down(images(z), scale), y, interval(ZETA, 0, TRUST, outside=0))
