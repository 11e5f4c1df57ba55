"""What every edit is made of: a request, a start on a path part-way up, guides around the denoiser, and the
way back to the picture.

    request = asked(pipe, working_size(pipe, picture), "a green apple", seed=3, num_images=4)
    x, nfe = drawn(pipe, request, path=part(pipe, request, 0.6), start=noised_from(x0))

Strength is a noise level: the fraction of the schedule's time at which an edit begins. The grid of a run is
scaled into it, so that N steps asked for are N steps run at every strength and with every sampler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.denoiser import Denoiser
from unnoise.edit.picture import Picture
from unnoise.pipeline import Count, Pipeline, Request, Result
from unnoise.process.level import Level, spread
from unnoise.process.schedule import Path, path_of
from unnoise.sample import State

VANISHING = 1e-6  # the strength that stands for 0: levels need some noise to be different from each other
Progress = Callable[[int], None]
Begin = Callable[[Tensor, Level, Sequence[int]], Tensor]
Wrap = Callable[[Denoiser, Sequence[int]], Denoiser]


def asked(
    pipe: Pipeline, size: tuple[int, int], prompt: str | Sequence[str] | None = None, **how: Any
) -> Request:
    """The request for edits at a working size, checked: `how` is what `Pipeline.request` takes beside it."""
    check_no_size(how)
    return pipe.request(prompt, height=size[0], width=size[1], **how)


def check_no_size(how: Mapping[str, Any]) -> None:
    """BadInput where an edit that works at the picture's own size is given another."""
    for name in ("height", "width"):
        if name in how:
            raise BadInput(
                f"{name} is not for this edit, which works at the picture's own size: given"
                f" {short(how[name])}"
            )


def strength_of(given: float) -> float:
    """A strength, a number from 0 (the picture itself) to 1 (nothing of it), or BadInput."""
    try:
        return arguments.number("strength", given, 0, 1)
    except BadInput:
        raise BadInput(
            "strength must be a number from 0 (the picture itself) to 1 (nothing of it), given"
            f" {short(given)}"
        ) from None


def part(pipe: Pipeline, request: Request, strength: float) -> Path:
    """The request's path from `strength` of the schedule's time down to clean data: as many steps, scaled; at
    1 the path itself.
    """
    path, s = pipe.path(request), max(strength_of(strength), VANISHING)
    if s == 1:
        return path
    levels = pipe.schedule.level(s * pipe.schedule.time(Level(*map(torch.stack, zip(*path[:-1])))))
    return path_of([Level(*l) for l in zip(*levels)])


def noised_from(x0: Tensor) -> Begin:
    """The start at a level of x0 (1 or n, …): alpha x0 + sigma eps, each sample with its own eps."""

    def start(eps: Tensor, l: Level, places: Sequence[int]) -> Tensor:
        return spread(l.alpha, eps) * rows(x0, places).to(eps) + spread(l.sigma, eps) * eps

    return start


def rows(v: Tensor, places: Sequence[int]) -> Tensor:
    """The samples of a batch among all (n, …); of what holds for all, (1, …), that."""
    return v if len(v) == 1 else v[list(places)]


def drawn(
    pipe: Pipeline,
    request: Request,
    *,
    path: Path | None = None,
    start: Begin | None = None,
    wrap: Wrap | None = None,
    within: Wrap | None = None,
    net: Callable[..., Tensor] | None = None,
    progress: Progress | None = None,
    on_state: Callable[[int, State], None] | None = None,
    batch_size: int | None = None,
) -> tuple[Tensor, int]:
    """(x (n, …), network calls an image) of a request run as `Pipeline.run` says, in batches of which no
    image depends.

    start(eps, level, places) -> x at the path's first level; wrap(denoiser, places) -> the denoiser to run:
    places are those of the batch's images among all n; within: the same of the denoiser whose answers
    guidance mixes (`Pipeline.denoiser`). net: in place of the model's network.
    """

    def draw(places: list[int], count: Count) -> Tensor:
        watch = None if on_state is None else partial(on_state, places[0])
        begin = None if start is None else (lambda eps, l, f=start: f(eps, l, places))
        around, inner = (
            None if w is None else (lambda denoise, f=w: f(denoise, places)) for w in (wrap, within)
        )
        return pipe.finish(
            request.only(places), count, watch, path=path, start=begin, wrap=around, within=inner, net=net
        )

    return batched(pipe, request, draw, batch_size, progress)


def batched(
    pipe: Pipeline,
    request: Request,
    draw: Callable[[list[int], Count], Tensor],
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, int]:
    """(x (n, …), network calls an image) of draw(places, count) -> the rows of those images, for each batch
    of a request.
    """
    made: list[Tensor] = [torch.empty(0)] * len(request.seeds)
    calls = []
    for places, x, n in pipe.batches(request, draw, batch_size, progress):
        calls.append(n)
        for i, row in zip(places, x):
            made[i] = row
    return torch.stack(made), sum(calls) // len(calls)


def result(
    pipe: Pipeline,
    request: Request,
    arrays: np.ndarray,
    nfe: int,
    kind: str,
    inputs: Mapping[str, Picture | None],
    options: Mapping[str, Any],
) -> Result:
    """The Result of an edit: its recipes also say which edit, of which pictures (path and sha256), with which
    options.

    `replay` calls the edit of that name with these inputs and options again.
    """
    told = {k: {"path": p.path, "sha256": p.sha256} for k, p in inputs.items() if p is not None}
    edit = {"kind": kind, "inputs": told, "options": {k: v for k, v in options.items() if v is not None}}
    recipes = tuple({**request.recipe(pipe, i), "edit": edit} for i in range(len(request.seeds)))
    return Result(arrays, request.seeds, nfe, recipes)


def parts_of(
    pipe: Pipeline, first: int, n: int, shape: Sequence[int], batch_size: int | None = None
) -> list[range]:
    """The seeds first, …, first + n - 1 in batches: of batch_size, or of as many samples of this shape as the
    pipeline makes at once.
    """
    size = (
        pipe.runner.batch(tuple(shape))
        if batch_size is None
        else arguments.integer("batch_size", batch_size, 1)
    )
    return [range(i, min(i + size, first + n)) for i in range(first, first + n, size)]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in dB; inf where they are equal."""
    mse = float(np.mean((a.astype(np.float64) - b) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)
