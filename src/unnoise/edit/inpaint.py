"""Inpainting: what the mask marks (white) is drawn anew under a prompt; everything else stays, to the byte.

    inpaint(pipe, "street.png", "mask.png", "a red apple")

The model works on its own cells (of 8 x 8 pixels with the bundled one): a cell is drawn anew where any of its
pixels is masked, and the picture's own pixels are put back afterwards. Methods, by how the drawing is told of
what stays:
    replace     what stays is shown at each level with fresh noise: `guide.replace`; biased, see there
    repaint     the same on a path that goes back up, `jump` moves at a time, until each was made `times`
                times: `sample.rewind` (RePaint)
    dps, pigdm, covariance   what stays is an observation of the whole: `guide.inverse`, of the network's own
                             answers, which guidance then
                mixes: the derivative of a guided denoiser, 5 times the one less 4 times the other, is no
                covariance
    model       a network that was trained to: it takes [x, mask, masked picture] as 2 C + 1 channels, mask 1
                = to be drawn (SD-inpaint)
Network calls an image, of N steps with one call each: N; repaint N + (times - 1) jump ((N - 1) // jump). The
three observations also go back through the network, once a call, `covariance` twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput
from unnoise.denoiser import Denoiser
from unnoise.edit.picture import Given, Picture, cells, decoded, encoded, pasted, read, read_mask, resized
from unnoise.edit.run import Run, Wrap, begin, noised_from, rows, strength_of
from unnoise.guide import covariance, dps, interval, keep, pigdm, replace, seen
from unnoise.pipeline import Pipeline, Request, Result
from unnoise.process.noise import seeded
from unnoise.process.schedule import Path
from unnoise.sample import rewind

OBSERVED = ("dps", "pigdm", "covariance")
METHODS = ("repaint", "replace", *OBSERVED, "model")
TIMES, JUMP, SOFT = 4, 5, 2
# of what stays, as an observation, in units of the model's data: keeps the division by its variance from
# running away
NOISE = 0.2
ZETA = 0.5  # of `dps` with the square: the full step where the posterior variance is 1
TRUST = {
    "dps": 3.0,
    "pigdm": 3.0,
    "covariance": 10.0,
}  # sigma / alpha above which a network's derivative is more noise than signal: observations wait


@dataclass(frozen=True)
class Filling:
    """How a masked part is drawn, checked: `of` makes it from what the user gave."""

    method: str
    strength: float = 1.0
    soft: int = SOFT
    times: int = TIMES
    jump: int = JUMP

    @classmethod
    def of(
        cls,
        pipe: Pipeline,
        method: str | None,
        strength: float,
        soft: int,
        times: int | None,
        jump: int | None,
    ) -> Filling:
        """method None: "model" for a network that takes the mask, else "repaint". BadInput on what does not
        go together.
        """
        method = _method(pipe, method)
        for name, value, least in (("soft", soft, 0), ("times", times, 1), ("jump", jump, 1)):
            if value is None:
                continue
            arguments.integer(name, value, least, 10_000)
            if name != "soft" and method != "repaint":
                raise BadInput(f"{name} is for method repaint, given method {method!r}")
        counts = (int(usual if v is None else v) for v, usual in ((soft, SOFT), (times, TIMES), (jump, JUMP)))
        return cls(method, strength_of(strength), *counts)


def _method(pipe: Pipeline, given: str | None) -> str:
    """The method that is meant. BadInput where it does not go with the model."""
    trained = takes_mask(pipe)
    if given is None:
        return "model" if trained else "repaint"
    method = arguments.choice("inpainting method", given, METHODS)
    if trained and method != "model":
        raise BadInput(f"model {pipe.name!r} takes the mask itself: method must be model, given {method!r}")
    if method == "model" and not trained:
        raise BadInput(
            f"model {pipe.name!r} does not take a mask: method must be another than model, given {method!r}"
        )
    return method


def inpaint(
    pipe: Pipeline,
    image: Given,
    mask: Given,
    prompt: str | None = None,
    *,
    method: str | None = None,
    strength: float = 1.0,
    soft: int = SOFT,
    times: int | None = None,
    jump: int | None = None,
    **how: Any,
) -> Result:
    """Pictures of the image's size that differ from it only where the mask does not say 0.

    mask: of the image's size, white changes, black stays, grey changes in part; white all over is
    text-to-image on the picture's size, black all over an error. method: one of METHODS, by default "model"
    for models that take a mask, else "repaint". strength: how much of what is under the mask is forgotten: 1
    all, 0 nothing (the picture itself). soft: over how many pixels, inside the mask, the new fades in. times,
    jump: of repaint. how: what `edit.run.begin` takes. Errors: BadInput.
    """
    filling = Filling.of(pipe, method, strength, soft, times, jump)
    picture, shape = read(image), read(mask)
    area = read_mask(shape, picture)
    options = {
        "method": filling.method,
        "strength": filling.strength,
        "soft": soft,
        "times": times,
        "jump": jump,
    }
    run = begin(pipe, "inpaint", picture, prompt, options, how, mask=shape)
    return run.result(*fill(run, [picture], area, filling))


def fill(run: Run, pictures: Sequence[Picture], mask: np.ndarray, f: Filling) -> tuple[list[np.ndarray], int]:
    """(uint8 (h, w, 3 or 4) an image, network calls an image): the mask's part of one picture, or of one an
    image, drawn as `f` says.
    """
    n = len(run.request.seeds)
    each = [*pictures] * (n if len(pictures) == 1 else 1)
    if f.strength == 0:
        return [p.whole() for p in each], 0
    if f.method == "model" and len(pictures) > 1:  # its network is given one masked picture
        alone = [fill(run.only([i]), [p], mask, f) for i, p in enumerate(pictures)]
        return [a for arrays, _ in alone for a in arrays], alone[0][1]
    x, nfe = _filled(run, pictures, mask, f)
    soft = softened(mask, f.soft)
    return [pasted(p, decoded(run.pipe, x[i : i + 1], p)[0], soft) for i, p in enumerate(each)], nfe


def _filled(run: Run, pictures: Sequence[Picture], mask: np.ndarray, f: Filling) -> tuple[Tensor, int]:
    """(x (n, …), network calls an image): what the mask does not touch is the pictures' x0."""
    pipe, x0 = run.pipe, torch.cat([encoded(run.pipe, p.pixels, run.size) for p in pictures])
    area = cells(mask, x0)
    stays = (area == 0).expand(1, *x0.shape[1:])
    size = run.size or pictures[0].size
    net = conditioned(pipe, pictures[0], mask, area, x0, size) if f.method == "model" else None
    # what stays is x0's cells: kept as they are; else a picture of its own
    by_cells = net is None or _hides_cells(pipe)
    know = _knowing(run.request, f.method, x0, stays) if stays.any() and by_cells else None
    where = {"within" if f.method in OBSERVED else "wrap": know}
    start = None if f.strength == 1 else noised_from(x0)
    x, nfe = run.drawn(path=_path(run, f, bool(stays.any())), start=start, net=net, **where)
    if by_cells:
        x = torch.where(stays, x0.to(x), x)  # it is told of all that stays, and of nothing under the mask
    return x, nfe


def _path(run: Run, f: Filling, some_stays: bool) -> Path:
    """The levels to visit: those of repaint go back up again and again."""
    path = run.path(f.strength)
    if f.method != "repaint" or not some_stays:
        return path
    if run.request.noise == "brownian":
        raise BadInput(
            "method repaint goes back up to noisier levels, where Brownian noise would repeat itself: use"
            " noise 'seeded'"
        )
    return tuple(rewind(path, f.times, f.jump))


def _knowing(request: Request, method: str, x0: Tensor, stays: Tensor) -> Wrap:
    """The denoiser of a batch, told of what stays of x0 by a method."""
    operator = seen(stays)

    def wrap(denoise: Denoiser, places: Sequence[int]) -> Denoiser:
        known = rows(x0, places)
        if method == "model":
            return keep(denoise, known, stays)  # as GLIDE samples
        if method not in OBSERVED:
            return replace(denoise, known, stays, seeded([request.seeds[i] for i in places], "known"))
        y = operator(known)
        rows_of = lambda x: (
            torch.cat([y] * (len(x) // len(y))) if len(y) > 1 else y
        )  # the batch's, or its prompts' and then its negatives'
        return lambda x, l: _observed(method, denoise, operator, rows_of(x))(x, l)

    return wrap


def _observed(method: str, denoise: Denoiser, operator: Callable[[Tensor], Tensor], y: Tensor) -> Denoiser:
    until = lambda amount: interval(amount, 0, TRUST[method], outside=0)
    if method == "dps":
        return dps(denoise, operator, y, until(ZETA), squared=True)
    if method == "pigdm":
        return pigdm(denoise, operator, y, NOISE, weight=until(1.0), iterations=1)
    return covariance(denoise, operator, y, NOISE, until(1.0), how="iterative", iterations=1)


# --- networks that take the mask ----------------------------------------------------------------------------


def takes_mask(pipe: Pipeline) -> bool:
    """Whether the model's network takes [x, mask, masked picture]: 2 C + 1 channels where a picture has C."""
    return pipe.folder.abilities.mask is not None


def conditioned(
    pipe: Pipeline, picture: Picture, mask: np.ndarray, area: Tensor, x0: Tensor, size: tuple[int, int]
) -> Callable[..., Tensor]:
    """The model's network, (x, t, …) -> prediction, with the mask and the masked picture beside x.

    The masked picture is encoded with grey under the mask, as published models were trained; a folder whose
    defaults say masked = "cells" was trained on x0 with its masked cells at 0 instead (see `train.inpaint`).
    """
    hidden = x0 * (1 - area) if _hides_cells(pipe) else _without(pipe, picture, mask, size)
    beside, fast = torch.cat([area, hidden], 1), pipe.fast

    def net(x: Tensor, t: Tensor | None, **given: Any) -> Tensor:
        return fast(torch.cat([x, beside.to(x).expand(len(x), -1, -1, -1)], 1), t, **given)

    return net


def _hides_cells(pipe: Pipeline) -> bool:
    """Whether the model was trained to see x0 without its masked cells (`train.inpaint`), not the picture
    without its masked pixels.
    """
    return pipe.folder.abilities.mask == "cells"


def _without(pipe: Pipeline, picture: Picture, mask: np.ndarray, size: tuple[int, int]) -> Tensor:
    """x0 of the picture with grey under the mask; of latents with exactly 0, which no byte is."""
    grey = np.where(mask[..., None] > 0, np.uint8(128), picture.pixels)
    codec: Any = pipe.codec
    if codec.autoencoder is None or codec.channels != 3:
        return encoded(pipe, grey, size)
    blank = cells(mask, torch.empty(1, 1, *size))[0, 0].numpy() > 0
    return codec.encode(resized(grey, size)[None], blank=blank).to(pipe.runner.device)


def softened(mask: np.ndarray, soft: int) -> np.ndarray:
    """The mask (h, w) fading in over `soft` pixels inside itself: the mean of itself and of it with its edge
    taken away 1 … soft times.

    0 stays 0, so that what the mask leaves alone is left alone; 1 stays 1 from `soft` pixels on inside, and
    at the picture's own border. Where the mask is too thin for that (a stroke, a dot) its middle counts as
    that far inside: the new comes out in full there too.
    """
    m = torch.from_numpy(np.ascontiguousarray(mask, np.float64))[None, None]
    middle = _faded((m > 0).double(), soft)
    for _ in range(soft):
        middle = F.max_pool2d(middle, 3, 1, 1)  # the farthest inside that there is nearby
    return torch.where(m > 0, _faded(m, soft) / middle, m)[0, 0].numpy()


def _faded(m: Tensor, soft: int) -> Tensor:
    total = m.clone()
    for _ in range(soft):
        m = -F.max_pool2d(-m, 3, 1, 1)
        total += m
    return total / (soft + 1)
