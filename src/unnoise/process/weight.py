"""Loss weights and level densities: how much each noise level counts, and how often it is drawn.

A weight is given relative to the squared error on x0 ("x0 space"), so that it means the same for every
parameterisation: `in_space` divides by the square of dout/dx0 to use it on a network's own output. A density
maps u in [0, 1) to a level, by inverse transform, so that drawing levels is a pure function of uniforms.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.process.level import Level, ve
from unnoise.process.predict import Kind
from unnoise.process.schedule import Schedule

Weight = Callable[[Level], Tensor]


def snr(l: Level) -> Tensor:
    """alpha^2 / sigma^2: the plain MSE on eps (DDPM's simple loss), seen in x0 space."""
    return (l.alpha / l.sigma) ** 2


def uniform(l: Level) -> Tensor:
    """1: the plain MSE on x0."""
    return torch.ones_like(l.sigma)


def truncated(l: Level) -> Tensor:
    """max(SNR, 1) (Salimans & Ho 2022, eq. 9)."""
    return snr(l).clamp(min=1)


def v(l: Level) -> Tensor:
    """SNR + 1: the plain MSE on v."""
    return snr(l) + 1


def min_snr(gamma: float = 5.0) -> Weight:
    """min(SNR, gamma) (Hang et al. 2023)."""
    return lambda l: snr(l).clamp(max=gamma)


def p2(k: float = 1.0, gamma: float = 1.0) -> Weight:
    """SNR / (k + SNR)^gamma (Choi et al. 2022: 1 / (k + SNR)^gamma on the eps error)."""
    return lambda l: snr(l) / (k + snr(l)) ** gamma


def edm(sigma_data: float = 0.5) -> Weight:
    """(s^2 + sd^2) / (s sd)^2 at s = sigma/alpha: unit weight on EDM's own target (Karras et al. 2022, table
    1).
    """
    return lambda l: 1 / l.ratio**2 + 1 / sigma_data**2


def soft_min_snr(sigma_data: float = 0.5) -> Weight:
    """1 / (s^2 + sd^2): a smooth min(SNR, 1/sd^2) (Crowson et al. 2024, eq. 10)."""
    return lambda l: 1 / (l.ratio**2 + sigma_data**2)


WEIGHTS: dict[str, Callable[..., Weight]] = {
    "snr": lambda: snr,
    "uniform": lambda: uniform,
    "truncated": lambda: truncated,
    "v": lambda: v,
    "min_snr": min_snr,
    "p2": p2,
    "edm": edm,
    "soft_min_snr": soft_min_snr,
}


def weight(name: str, **options) -> Weight:
    """The weight called `name` (one of WEIGHTS)."""
    if name not in WEIGHTS:
        raise unknown("weight", name, WEIGHTS)
    try:
        return WEIGHTS[name](**options)
    except TypeError as e:
        raise BadInput(f"weight {name!r}: {e}") from e


def in_space(weight: Weight, kind: Kind) -> Weight:
    """`weight` on x0 turned into the weight on a network's own squared error in parameterisation `kind`.

    At a given x, eps = (x - alpha x0) / sigma, so out moves by p - q alpha / sigma per unit of x0. The
    product is taken where it is finite: at zero SNR the weight is 0 for eps (which carries nothing there) and
    finite for v and x0.
    """

    def w(l: Level) -> Tensor:
        p, q = kind(l)
        slope = (p - q * l.alpha / l.sigma) ** 2
        return torch.where(slope > 0, weight(l) / slope.clamp(min=1e-38), torch.zeros_like(slope))

    return w


# --- densities: uniforms (n,) in [0, 1) -> Level (n,) -------------------------------------------------------

Density = Callable[[Tensor], Level]


def along(schedule: Schedule) -> Density:
    """Uniform in the schedule's own time u, in (0, 1]."""
    return lambda u: schedule.level((1 - u).numpy())


def discrete(schedule: Schedule) -> Density:
    """Uniform over the schedule's T whole times, as published networks were trained."""
    return lambda u: schedule.at((u * schedule.T).floor().numpy())


def lognormal(mean: float = -1.2, std: float = 1.2) -> Density:
    """log(sigma/alpha) ~ N(mean, std^2), alpha = 1 (Karras et al. 2022; the defaults were tuned for
    CIFAR-10).
    """
    return lambda u: ve((mean + std * _normal_quantile(u)).exp())


def logit_normal(mean: float = 0.0, std: float = 1.0) -> Density:
    """t = sigmoid(N(mean, std^2)) on the flow path alpha = 1 - t, sigma = t (Esser et al. 2024, SD3 eq.
    19).
    """

    def density(u: Tensor) -> Level:
        t = torch.sigmoid(mean + std * _normal_quantile(u))
        return Level(1 - t, t)

    return density


def stratified(u: Tensor) -> Tensor:
    """n uniforms with one in each of n equal strata, from any n uniforms: the same marginal, less variance
    over a batch.

    The strata are visited in an order given by the uniforms themselves, so that sample i is not tied to
    stratum i.
    """
    n = len(u)
    return (torch.argsort(torch.argsort(u)) + (u * 2**20) % 1.0) / n


def _normal_quantile(u: Tensor) -> Tensor:
    return torch.special.ndtri(u.double().clamp(1e-12, 1 - 1e-12))
