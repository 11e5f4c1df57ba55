"""Anomalies: what a model of the normal cannot restore (AnoDDPM, Wyatt et al. 2022).

    x = alpha x0 + sigma eps at a level part-way, several eps;  map = mean over them of (x0 - E[x0 | x])^2;
    score = the map's mean
    relative = score / detail,  detail^2 = mean of (difference of neighbouring pixels)^2

`relative` is the one to tell pictures by: busy pictures, normal or not, come back worse than plain ones, and
hide what is strange (Serra et al. 2020 say the same of likelihoods; lab/anomaly has the figures).

A model that saw normal data alone fills in what noise hid with something normal. With too little noise it
need not fill in anything, with too much it restores nothing of the picture at all: the level matters. `steps`
> 1 comes down by DDIM instead of one call, to a picture and not a mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput
from unnoise.codec import of_pictures
from unnoise.denoiser import Denoiser
from unnoise.edit.picture import Given, Picture, decoded, read
from unnoise.edit.run import Progress, begin, strength_of
from unnoise.pipeline import Count, Pipeline
from unnoise.process.level import corrupt
from unnoise.process.noise import seeded
from unnoise.process.schedule import path_of
from unnoise.sample import SAMPLERS, last

STRENGTH, NOISES, BATCH = 0.7, 8, 64
FLAT = 2 / 255  # the detail of a picture that has none: one step of a byte


@dataclass(frozen=True)
class Anomaly:
    """score: the map's mean; relative: the score over the picture's detail; map: float (h, w) of the model's
    pixels, squared differences with pictures running from -1 to 1, mean over channels; restored: uint8 (h, w,
    3), the mean of what came back; nfe: network calls a noise.
    """

    score: float
    relative: float
    map: np.ndarray
    restored: np.ndarray
    nfe: int

    def heat(self, top: float | None = None) -> np.ndarray:
        """uint8 (h, w, 3): black, red, yellow, white from 0 to `top` (by default the map's largest value)."""
        v = (self.map / max(top or float(self.map.max()), 1e-12)).clip(0, 1)
        return (np.stack([3 * v, 3 * v - 1, 3 * v - 2], -1).clip(0, 1) * 255).round().astype(np.uint8)


def anomaly(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    strength: float = STRENGTH,
    noises: int = NOISES,
    steps: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
    on_begin: Callable[[Any], None] | None = None,
    work: str | os.PathLike | None = None,
) -> Anomaly:
    """How far a picture is from what the model takes for normal, and where. The picture is brought to the
    model's size.

    strength: how much noise, a fraction of the schedule's time above 0. noises: how many are averaged;
    batch_size: at once. work: a folder in which what came back of this very picture is kept, noise by noise,
    and found again. progress, on_begin: as for `edit.run.begin`. Errors: BadInput.
    """
    strength = _checked(pipe, strength, steps)
    noises = arguments.integer("noises", noises, 1, 10_000)
    seed = arguments.integer("seed", seed, -(2**63), 2**63 - 10_001)
    prompt = arguments.string("prompt", "" if prompt is None else prompt)
    how = {"seed": seed, "num_images": noises, "guidance_scale": 1.0}
    how |= {"batch_size": batch_size, "progress": progress, "on_begin": on_begin}
    options = {"strength": strength, "noises": noises, "steps": steps}
    run = begin(pipe, "anomaly", image, prompt, options, how).keeping(work)
    x0 = run.encoded()

    def draw(places: list[int], count: Count) -> Tensor:
        model = pipe.denoiser([prompt] * len(places), net=pipe.runner.counted(count))
        noise = seeded(run.request.only(places).seeds, "anomaly")
        return restored(model, x0.repeat(len(places), 1, 1, 1), pipe.schedule, strength, noise, steps)

    x, nfe = run.batched(draw)
    shown = read(pipe.decode(x0)[0])
    return _compared(shown, decoded(pipe, x, shown), nfe)


def _checked(pipe: Pipeline, strength: float, steps: int) -> float:
    of_pictures(pipe.codec, pipe.name, "it cannot look at pictures")
    pipe.check_draws()
    arguments.integer("steps", steps, 1, 10_000)
    strength = strength_of(strength)
    if strength == 0:
        raise BadInput("strength must be above 0: without noise everything is restored")
    return strength


def _compared(shown: Picture, back: np.ndarray, nfe: int) -> Anomaly:
    """The picture as the model can show it, and what came back of it, uint8 (noises, h, w, 3)."""
    pixels = back.astype(np.float64)
    gap = ((pixels - shown.pixels) / 127.5) ** 2
    score, busy = (
        float(gap.mean()),
        float(detail(torch.from_numpy(shown.pixels / 127.5).movedim(-1, 0)[None])),
    )
    return Anomaly(score, score / busy, gap.mean((0, 3)), pixels.mean(0).round().astype(np.uint8), nfe)


def restored(model: Denoiser, x0: Tensor, schedule, strength: float, noise, steps: int = 1) -> Tensor:
    """What comes back of x0 (n, …) from noise at `strength` of the schedule's time: E[x0 | x], or DDIM's way
    down in so many steps.
    """
    times = strength * np.arange(steps, 0, -1) / steps
    path = path_of([schedule.level(float(u)) for u in times])
    x = corrupt(x0, noise(x0), path[0])
    with torch.no_grad():
        return model(x, path[0]) if steps == 1 else last(SAMPLERS["ddim"](model, x, path))


def detail(x: Tensor) -> Tensor:
    """(n,) root mean square differences between neighbours of x (n, c, h, w), down and across together; FLAT
    where there are none.
    """
    down, across = (x.diff(dim=d).double().square().flatten(1) for d in (2, 3))
    return (
        sum((v.mean(1) for v in (down, across) if v.shape[1]), torch.zeros(len(x), dtype=torch.float64))
        .sqrt()
        .clamp(min=FLAT)
    )


def scores(
    model: Denoiser, x0: Tensor, schedule, strength: float, noises: int = NOISES, seed: int = 0
) -> Tensor:
    """(n,) scores of encoded pictures, in the model's own space: for many at once. Picture i has noises of
    its own. Over `detail` they are relative.
    """
    total = torch.zeros(len(x0), dtype=torch.float64)
    for k in range(noises):
        for i in range(0, len(x0), BATCH):
            part = x0[i : i + BATCH]
            eps = seeded(range(i, i + len(part)), f"anomaly/{seed}/{k}")
            total[i : i + BATCH] += (
                (restored(model, part, schedule, strength, eps) - part).double().square().flatten(1).mean(1)
            )
    return total / noises


def auroc(normal: Tensor, abnormal: Tensor) -> float:
    """The chance that an abnormal score exceeds a normal one, ties counting half (Mann & Whitney 1947)."""
    both = torch.cat([normal, abnormal]).double()
    _, place, times = torch.unique(both, return_inverse=True, return_counts=True)
    rank = (times.cumsum(0) - (times - 1) / 2)[place]  # of equal values the mean rank
    m, n = len(normal), len(abnormal)
    return float((rank[m:].sum() - n * (n + 1) / 2) / (m * n))
