"""Exact inversion: two coupled states, of which each move can be undone by arithmetic alone, whatever the
denoiser and its guidance.

EDICT (Wallace et al. 2023, eq. 12 to 14). With r = alpha_b / alpha_a and c = sigma_b - r sigma_a, a step down
from level a to b is
    x' = r x + c eps(y, a),    y' = r y + c eps(x', a),       DDIM's move of each, with the other's eps:
                                                              affine couplings
    x <- p x' + (1 - p) y',    y <- p y' + (1 - p) x          mixing, which holds the two together
and every line can be solved for what it replaced. Equal states follow DDIM to first order in the step.

Undoing the mixing divides by p, step by step, and what was rounded grows with it, so that a float32 network
would be shown other numbers on the way back. Therefore the states are held as u = x / (alpha p^n) and v = y /
(alpha p^n) at the n-th level of the path, where every line is an addition,
    u += k eps(y, a),   v += k eps(x', a),   u += (1 - p) / p v,   v += (1 - p) u,       k = c / (alpha_b
    p^n),
and every summand is rounded to a grid on which float64 adds without error. So a trip up and down comes back
to the bit of the grid (below 1e-9 in x), as long as the denoiser gives the same answer to the same numbers.
At p = .93 u would outgrow the grid after some 250 steps; longer paths have a p nearer to 1 (`MIX`). Two calls
a step. Of the reversible schemes tried (this one; the form of McCallum & Foster 2024 with DDIM as its step)
this one's states stay closest together under guidance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.denoiser.adapt import Denoiser
from unnoise.process.level import Level, noisier, spread
from unnoise.sample.ladder import Path, bounded, checked, eps_of

MIX, STEPS = 0.93, 50  # p of a path of so many steps or fewer; a longer one mixes as much in all
COARSEST = 2.0**-20  # a grid for u that is worth having
Rounded = Callable[[Tensor], Tensor]


class Pair(NamedTuple):
    """Two coupled states (n, …) of one sample, float64; x is the one that is shown."""

    x: Tensor
    y: Tensor


def coupled_invert(denoise: Denoiser, x: Tensor, path: Path, mix: float | None = None) -> list[Pair]:
    """The pairs at every level of a path of growing noise (a sampler's, reversed), the first of them (x, x).

    x (n, …) at path[0], usually clean data; mix: p, by default that of MIX. `coupled_sample` of the last pair
    along the same path comes back to x exactly. Errors: BadInput, also on a path that reaches pure noise:
    from there nothing can be undone.
    """
    path = checked(path, len(x))
    if not all(noisier(a, b) for a, b in pairwise(path)):
        raise BadInput("inversion needs a path of growing noise, clean data first: give path[::-1]")
    return _run(denoise, Pair(x, x), path, mix, down=False)


def coupled_sample(denoise: Denoiser, pair: Pair, path: Path, mix: float | None = None) -> list[Pair]:
    """The pairs at every level of a path of falling noise, from a pair at path[0]. Errors: BadInput."""
    path = checked(path, len(pair.x))
    if any(noisier(a, b) for a, b in pairwise(path)):
        raise BadInput("coupled sampling needs a path of falling noise")
    return _run(denoise, pair, path, mix, down=True)


@torch.no_grad()
def _run(denoise: Denoiser, pair: Pair, path: Path, mix: float | None, down: bool) -> list[Pair]:
    """The pairs along a path, from one at its first level."""
    p = MIX ** min(1.0, STEPS / max(len(path) - 1, 1)) if mix is None else mix
    bounded("mix", p, 0.5, 1)
    if not all((l.alpha > 0).all() for l in path):
        raise BadInput("coupled states cannot leave pure noise (alpha = 0): give a path that ends below it")
    pair = Pair(*(v.double() for v in pair))
    levels = path if down else path[::-1]  # the noisiest first
    scales = [l.alpha.to(pair.x).reshape(-1, *[1] * (pair.x.ndim - 1)) * p**n for n, l in enumerate(levels)]
    rounded, first = _grid(levels, scales), scales[0 if down else -1]
    u, v, pairs = rounded(pair.x / first), rounded(pair.y / first), [pair]
    steps = [*zip(pairwise(levels), pairwise(scales))]
    for (a, b), (s, t) in steps if down else steps[::-1]:
        moved = _moved(denoise, a, b, s, t / p, rounded)
        u, v = (_down if down else _up)(u, v, moved, s, t / p, p, rounded)
        pairs.append(Pair(*(w * (t if down else s) for w in (u, v))))
    return pairs


def _down(
    u: Tensor, v: Tensor, moved: Rounded, s: Tensor, end: Tensor, p: float, rounded: Rounded
) -> tuple[Tensor, Tensor]:
    """A step down: x is s u before it, `end` u between its moves and its mixing."""
    u = u + moved(v * s)
    v = v + moved(u * end)
    u = u + rounded((1 - p) / p * v)
    return u, v + rounded((1 - p) * u)


def _up(
    u: Tensor, v: Tensor, moved: Rounded, s: Tensor, end: Tensor, p: float, rounded: Rounded
) -> tuple[Tensor, Tensor]:
    """The lines of `_down`, each taken back, last one first."""
    v = v - rounded((1 - p) * u)
    u = u - rounded((1 - p) / p * v)
    v = v - moved(u * end)
    return u - moved(v * s), v


def _moved(denoise: Denoiser, a: Level, b: Level, s: Tensor, end: Tensor, rounded: Rounded) -> Rounded:
    """A state x at level a -> what its eps adds to the other in DDIM's move to b, where that is scaled by
    `end`.
    """
    k = spread(b.sigma, s) / end - spread(a.sigma, s) / s
    return lambda x: rounded(k * eps_of(x, denoise(x, a), a))


def _grid(path: Path, scales: Sequence[Tensor]) -> Rounded:
    """Rounding to a power of two of which float64 holds all sums that u can come to (states up to 8 times
    what they are on average); none where that would be coarser than COARSEST, for a p that is far from 1 on a
    long path."""
    most = max(float((8 * (l.alpha**2 + l.sigma**2) ** 0.5).max() / s.min()) for l, s in zip(path, scales))
    unit = 2.0 ** (math.ceil(math.log2(most)) - 48)
    return (lambda u: torch.round(u / unit) * unit) if unit <= COARSEST else (lambda u: u)


def seen_as(denoise: Denoiser, like: Tensor) -> Denoiser:
    """The denoiser of a network in float32 for float64 states on the CPU: it sees them in the dtype and on
    the device of `like`.
    """
    return lambda x, l: denoise(x.to(like), l).to(x)
