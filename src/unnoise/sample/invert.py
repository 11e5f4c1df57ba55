"""DDIM inversion: the deterministic path from clean data up to noise, to be come down again by `ddim` at eta
= 0.

Plain inversion makes the upward move with eps of the level it leaves (Song et al. 2021, sec. 4.3), which
returns to the image to first order in the step. The downward move from b to a uses eps at b, so its exact
inverse is the x_b that solves
    x_b = (alpha_b / alpha_a) (x_a - sigma_a eps) + sigma_b eps,   eps = (x_b - alpha_b denoise(x_b, b)) /
                                                                   sigma_b,
found by fixed-point iteration (AIDI, Pan et al. 2023; ReNoise, Garibi et al. 2024), which converges where
steps are short enough; most slowly at the first step away from clean data, where a network is steepest. From
the second iteration on it is accelerated (Anderson 1965; Walker & Ni 2011, eq. 2.1): the next x_b is where
the last residuals, taken to change linearly, would add up to least.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.denoiser.adapt import Denoiser
from unnoise.process.level import Level, noisier, spread, wide
from unnoise.sample.ladder import Path, State, checked, eps_of, last, whole

MEMORY = 3  # residuals of earlier iterations that the acceleration looks back on


def invert(denoise: Denoiser, x: Tensor, path: Path, iterations: int = 0) -> Tensor:
    """x (n, …) at path[0], usually clean data, taken up to path[-1]: the noise from which `ddim` comes down
    to x again.

    path: levels of growing noise, such as schedule.path(50)[::-1]. iterations: of the fixed point at each
    move; 0 is plain DDIM inversion, with 1 call a move and none in the first if that starts from clean data;
    otherwise `iterations` calls a move. Errors: BadInput.
    """
    return last(inversion(denoise, x, path, iterations))


def inversion(denoise: Denoiser, x: Tensor, path: Path, iterations: int = 0) -> Iterator[State]:
    """The States of `invert`, one a level: x at that level, with the estimate that the next move was made
    from.
    """
    whole("iterations", iterations, 0)
    path = checked(path, len(x))
    if not all(noisier(a, b) for a, b in pairwise(path)):
        raise BadInput("inversion needs a path of growing noise, clean data first: give path[::-1]")
    return _run(denoise, x, path, iterations)


@torch.no_grad()
def _run(denoise: Denoiser, x: Tensor, path: Path, iterations: int) -> Iterator[State]:
    # At clean data eps is taken as 0, its mean there: the first plain move is x_b = alpha_b x0.
    eps, x0 = torch.zeros_like(x), x
    for a, b in pairwise(path):
        if not iterations and not a.clean:
            eps = eps_of(x, x0 := denoise(x, a), a)
        yield State(x, a, x0)
        y, tried, found = _lift(x, eps, a, b), [], []
        for _ in range(iterations):
            eps = eps_of(y, x0 := denoise(y, b), b)
            tried, found = [*tried[-MEMORY:], y], [*found[-MEMORY:], _lift(x, eps, a, b)]
            y = _accelerated(tried, found)
        x = y
    yield State(x, path[-1], x0)


def _accelerated(tried: list[Tensor], found: list[Tensor]) -> Tensor:
    """The next guess at y = f(y), sample by sample, from guesses y (n, …) and their f(y)."""
    if len(found) == 1:
        return found[0]
    flat = lambda u: wide(u.flatten(1))
    off = torch.stack([flat(f - y) for y, f in zip(tried, found)], 1)
    moved, changes = torch.stack([flat(b - a) for a, b in pairwise(found)], 1), off.diff(dim=1)
    gram = changes @ changes.mT
    ridge = 1e-10 * gram.diagonal(dim1=1, dim2=2).sum(1) + torch.finfo(torch.float64).tiny
    share = torch.linalg.solve(
        gram + ridge[:, None, None] * torch.eye(len(gram[0])).to(gram), changes @ off[:, -1:].mT
    )
    return found[-1] - (moved * share).sum(1).to(found[-1]).reshape(found[-1].shape)


def _lift(x: Tensor, eps: Tensor, a: Level, b: Level) -> Tensor:
    r = b.alpha / a.alpha
    return spread(r, x) * x + spread(b.sigma - r * a.sigma, x) * eps
