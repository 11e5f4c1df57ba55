"""What a network predicts: out = p * x0 + q * eps, with (p, q) a function of the level.

Together with x = alpha * x0 + sigma * eps that is a 2x2 system, so one `solve` converts between all
parameterisations. Its determinant alpha*q - sigma*p tells where a parameterisation is usable: alpha for eps
(fails at pure noise), -sigma for x0 (eps is undefined at clean data), sqrt(alpha^2 + sigma^2) for v and alpha
+ sigma for velocity (never zero).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.process.level import Level

Kind = Callable[[Level], tuple[Tensor, Tensor]]


def eps(l: Level) -> tuple[Tensor, Tensor]:
    """The noise itself (DDPM)."""
    return torch.zeros_like(l.alpha), torch.ones_like(l.sigma)


def x0(l: Level) -> tuple[Tensor, Tensor]:
    """The clean sample."""
    return torch.ones_like(l.alpha), torch.zeros_like(l.sigma)


def v(l: Level) -> tuple[Tensor, Tensor]:
    """v = (alpha * eps - sigma * x0) / sqrt(alpha^2 + sigma^2) (Salimans & Ho 2022); the root is 1 on VP
    paths.
    """
    r = (l.alpha**2 + l.sigma**2).sqrt()
    return -l.sigma / r, l.alpha / r


def velocity(l: Level) -> tuple[Tensor, Tensor]:
    """eps - x0: dx/dt of the rectified flow."""
    return -torch.ones_like(l.alpha), torch.ones_like(l.sigma)


def score(l: Level) -> tuple[Tensor, Tensor]:
    """grad log p(x) = -eps / sigma (Tweedie)."""
    return torch.zeros_like(l.alpha), -1 / l.sigma


def edm(sigma_data: float = 0.5) -> Kind:
    """EDM's target F (Karras et al. 2022, eq. 7) for data of standard deviation sigma_data: unit variance at
    every level.
    """
    sd = float(sigma_data)
    if not sd > 0:
        raise BadInput(f"sigma_data must be positive, given {sigma_data}")

    def kind(l: Level) -> tuple[Tensor, Tensor]:
        # In the frame alpha = 1, F = (x0 - c_skip (x0 + s eps)) / c_out; multiplied out it is finite at alpha
        # = 0 too.
        root = (l.sigma**2 + (sd * l.alpha) ** 2).sqrt()
        return l.sigma / (sd * root), -sd * l.alpha / root

    return kind


KINDS: dict[str, Kind] = {"eps": eps, "x0": x0, "v": v, "velocity": velocity, "score": score, "edm": edm(0.5)}
_ALIASES = {"epsilon": "eps", "sample": "x0", "v_prediction": "v", "flow_prediction": "velocity"}


def kind(name: str) -> Kind:
    """The parameterisation of that name, ours or diffusers' (`epsilon`, `v_prediction`); "edm:0.6" sets
    sigma_data.
    """
    base, _, sd = name.partition(":")
    if base == "edm" and sd:
        try:
            return edm(float(sd))
        except ValueError as e:
            raise BadInput(f"{name!r}: sigma_data must be a positive number, as in 'edm:0.5'") from e
    key = _ALIASES.get(name, name)
    if key not in KINDS:
        raise unknown("parameterisation", name, [*KINDS, *_ALIASES])
    return KINDS[key]


def target(kind: Kind, x0: Tensor, eps: Tensor, l: Level) -> Tensor:
    """What the network should output: p * x0 + q * eps, in the shape of x0."""
    p, q = kind(l.like(x0))
    return p * x0 + q * eps


def solve(kind: Kind, x: Tensor, out: Tensor, l: Level) -> tuple[Tensor, Tensor]:
    """The (x0, eps) for which x = alpha x0 + sigma eps and out = p x0 + q eps.

    Non-finite where the determinant is zero: eps-prediction at alpha = 0, and the eps part of x0-prediction
    at sigma = 0.
    """
    l = l.like(x)
    (a, s), (p, q) = l, kind(l)
    det = a * q - s * p
    return (q * x - s * out) / det, (a * out - p * x) / det


def solve_x0(kind: Kind, x: Tensor, out: Tensor, l: Level) -> Tensor:
    """The x0 half of `solve`, finite also at sigma = 0 for x0-prediction."""
    l = l.like(x)
    (a, s), (p, q) = l, kind(l)
    if kind is KINDS["x0"]:
        return out + 0 * x
    return (q * x - s * out) / (a * q - s * p)
