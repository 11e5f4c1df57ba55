"""Exact inversion: two coupled states, of which each move can be undone by arithmetic alone, whatever the denoiser and its guidance.

EDICT (Wallace et al. 2023, eq. 12 to 14). With r = alpha_b / alpha_a and c = sigma_b - r sigma_a, a step down from level a to b is
    x' = r x + c eps(y, a),    y' = r y + c eps(x', a),       DDIM's move of each, with the other's eps: affine couplings
    x <- p x' + (1 - p) y',    y <- p y' + (1 - p) x          mixing, which holds the two together
and every line can be solved for what it replaced. Equal states follow DDIM to first order in the step.

The states are float64, also where the denoiser takes float32 (`seen_as`): both ways it sees the same numbers, so its own rounding
cancels. A trip up and down 50 levels comes back to 1e-10 with a float64 denoiser, to about 1e-5 with a float32 network (where a state
lies on the edge of two float32 numbers the network sees another one). Two calls a step. Of the reversible schemes tried (this one; the form of McCallum &
Foster 2024 with DDIM as its step) this one's states stay closest together under guidance.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from unnoise.denoiser.adapt import Denoiser
from unnoise.errors import BadInput
from unnoise.process.level import Level, noisier, spread
from unnoise.sample.ladder import Path, bounded, checked, eps_of

MIX = 0.93


class Pair(NamedTuple):
    """Two coupled states (n, …) of one sample, float64; x is the one that is shown."""

    x: Tensor
    y: Tensor


def coupled_invert(denoise: Denoiser, x: Tensor, path: Path, mix: float = MIX) -> list[Pair]:
    """The pairs at every level of a path of growing noise (a sampler's, reversed), the first of them (x, x).

    x (n, …) at path[0], usually clean data. `coupled_sample` of the last pair comes back to x exactly. Errors: BadInput, also on a
    path that reaches pure noise: from there nothing can be undone.
    """
    path = checked(path, len(x))
    if not all(noisier(a, b) for a, b in pairwise(path)): raise BadInput("inversion needs a path of growing noise, clean data first: give path[::-1]")
    return _run(denoise, Pair(x, x), path, mix, _up)


def coupled_sample(denoise: Denoiser, pair: Pair, path: Path, mix: float = MIX) -> list[Pair]:
    """The pairs at every level of a path of falling noise, from a pair at path[0]. Errors: BadInput."""
    path = checked(path, len(pair.x))
    if any(noisier(a, b) for a, b in pairwise(path)): raise BadInput("coupled sampling needs a path of falling noise")
    return _run(denoise, pair, path, mix, _down)


Step = Callable[[Denoiser, Pair, Level, Level, float], Pair]


def _run(denoise: Denoiser, pair: Pair, path: Path, mix: float, step: Step) -> list[Pair]:
    bounded("mix", mix, 0.5, 1)
    if not all((l.alpha > 0).all() for l in path): raise BadInput("coupled states cannot leave pure noise (alpha = 0): give a path that ends below it")
    return list(_pairs(denoise, Pair(*(v.double() for v in pair)), path, mix, step))


@torch.no_grad()
def _pairs(denoise: Denoiser, pair: Pair, path: Path, mix: float, step: Step) -> Iterator[Pair]:
    yield pair
    for a, b in pairwise(path):
        pair = step(denoise, pair, a, b, mix)
        yield pair


def _down(denoise: Denoiser, p: Pair, a: Level, b: Level, mix: float) -> Pair:
    r, c = _coefficients(a, b, p.x)
    x = r * p.x + c * eps_of(p.y, denoise(p.y, a), a)
    y = r * p.y + c * eps_of(x, denoise(x, a), a)
    x = mix * x + (1 - mix) * y
    return Pair(x, mix * y + (1 - mix) * x)


def _up(denoise: Denoiser, p: Pair, b: Level, a: Level, mix: float) -> Pair:
    """The lines of `_down` from a to b, each solved, last one first."""
    r, c = _coefficients(a, b, p.x)
    y = (p.y - (1 - mix) * p.x) / mix
    x = (p.x - (1 - mix) * y) / mix
    y = (y - c * eps_of(x, denoise(x, a), a)) / r
    return Pair((x - c * eps_of(y, denoise(y, a), a)) / r, y)


def _coefficients(a: Level, b: Level, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
    r = b.alpha / a.alpha
    return spread(r, x), spread(b.sigma - r * a.sigma, x)


def seen_as(denoise: Denoiser, like: Tensor) -> Denoiser:
    """The denoiser of a network in float32 for float64 states on the CPU: it sees them in the dtype and on the device of `like`."""
    return lambda x, l: denoise(x.to(like), l).to(x)
