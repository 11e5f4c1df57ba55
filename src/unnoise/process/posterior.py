"""The forward process between any two Levels and its inverse given x0, all of them round Gaussians.

With s cleaner than t, r = alpha_t / alpha_s and k = (sigma_s alpha_t) / (sigma_t alpha_s), the share of x_t's
noise held by x_s:
    q(x_t | x0)      = N(alpha_t x0, sigma_t^2)
    q(x_t | x_s)     = N(r x_s, beta),              beta = sigma_t^2 - r^2 sigma_s^2 = sigma_t^2 (1 - k^2)
    q(x_s | x_t, x0) = N(c0 x0 + ct x_t, beta~),    c0 = alpha_s (1 - k^2), ct = k sigma_s / sigma_t, beta~ =
                                                    sigma_s^2 (1 - k^2)
On DDPM's levels these are its beta_t and beta~_t, c0 = sqrt(abar_{t-1}) beta_t / (1 - abar_t) and ct = sqrt(1
- beta_t) (1 - abar_{t-1}) / (1 - abar_t) (Ho et al. 2020, eq. 2, 4, 6 and 7); on any other curve they are
  what takes their place. All are
finite at alpha_t = 0 and at sigma_s = 0. `convert` and `score` go between score, eps, x0 and the rest of
`predict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.process.level import Level, spread
from unnoise.process.predict import Kind, solve, target


class Normal(NamedTuple):
    """N(mean, var): mean (n, …); var one variance for all, (), one a sample, (n,), or one an entry, in mean's
    shape.
    """

    mean: Tensor
    var: Tensor

    def sample(self, eps: Tensor) -> Tensor:
        """mean + sqrt(var) eps, for unit normal eps in mean's shape."""
        return self.mean + spread(self.var.sqrt(), eps) * eps

    def logp(self, x: Tensor) -> Tensor:
        """The log density of x, in nats, summed over a sample's entries: (n,) float64; not finite where var =
        0.
        """
        x, var = x.double(), _wide(self.var, x)
        return -(((x - self.mean) ** 2 / var + (2 * math.pi * var).log()) / 2).flatten(1).sum(1)


def kl(p: Normal, q: Normal) -> Tensor:
    """KL(p || q) in nats, summed over a sample's entries: (n,) float64. Both variances must be positive to be
    finite.
    """
    mean, a, b = p.mean.double(), _wide(p.var, p.mean), _wide(q.var, p.mean)
    return (((mean - q.mean) ** 2 / b + a / b - 1 - (a / b).log()) / 2).flatten(1).sum(1)


def marginal(x0: Tensor, t: Level) -> Normal:
    """q(x_t | x0) for x0 (n, …) (Ho et al. 2020, eq. 4); its `sample(eps)` is level.corrupt(x0, eps, t)."""
    return Normal(spread(t.alpha, x0) * x0, t.sigma**2)


def forward(x: Tensor, s: Level, t: Level) -> Normal:
    """q(x_t | x_s) for x (n, …) at level s (Ho et al. 2020, eq. 2); its `sample(eps)` is level.renoise(x, s,
    t, eps).

    Errors: BadInput when t is cleaner than s.
    """
    return Normal(spread(t.alpha / s.alpha, x) * x, beta(s, t))


def reverse(x: Tensor, x0: Tensor, t: Level, s: Level) -> Normal:
    """q(x_s | x_t, x0) for x (n, …) at level t (Ho et al. 2020, eq. 6 and 7). With x0 = E[x0 | x_t] it is
    DDPM's own step.

    Errors: BadInput when t is cleaner than s.
    """
    c0, ct = weights(t, s)
    return Normal(spread(c0, x) * x0 + spread(ct, x) * x, beta_tilde(t, s))


def beta(s: Level, t: Level) -> Tensor:
    """The variance of q(x_t | x_s), in the levels' shape, float64. Errors: BadInput when t is cleaner than
    s.
    """
    return t.sigma**2 * _fresh(t, s)


def beta_tilde(t: Level, s: Level) -> Tensor:
    """The variance of q(x_s | x_t, x0), in the levels' shape, float64. Errors: BadInput when t is cleaner
    than s.
    """
    return s.sigma**2 * _fresh(t, s)


def weights(t: Level, s: Level) -> tuple[Tensor, Tensor]:
    """(c0, ct): the mean of q(x_s | x_t, x0) is c0 x0 + ct x_t. Errors: BadInput when t is cleaner than s."""
    return s.alpha * _fresh(t, s), (s.sigma / t.sigma) ** 2 * t.alpha / s.alpha


def _fresh(t: Level, s: Level) -> Tensor:
    """1 - k^2: the share of x_t's noise (in variance) that x_s does not hold."""
    if not ((t.sigma > 0) & (s.alpha > 0) & (s.sigma * t.alpha <= t.sigma * s.alpha)).all():
        raise BadInput(
            "x_t must hold noise, x_s signal, and x_t no less noise than x_s: given sigma / alpha "
            f"from {t.ratio.min():g} at t, up to {s.ratio.max():g} at s"
        )
    return 1 - ((s.sigma * t.alpha) / (t.sigma * s.alpha)) ** 2


def _wide(var: Tensor, x: Tensor) -> Tensor:
    """var as float64 on x's device, with trailing axes added so that it broadcasts against x."""
    return var.to(x.device).double().reshape(var.shape + (1,) * (x.ndim - var.ndim)).expand(x.shape)


def convert(out: Tensor, x: Tensor, l: Level, given: Kind, wanted: Kind) -> Tensor:
    """`out`, predicted in parameterisation `given` at x (n, …), in parameterisation `wanted`: a score from
    eps, eps from x0, …

    Not finite where `given` says nothing of the other (see `predict`), nor is a score at sigma = 0.
    """
    return target(wanted, *solve(given, x, out, l), l)


def score(denoise: Callable[[Tensor, Level], Tensor]) -> Callable[[Tensor, Level], Tensor]:
    """The score (x, level) -> grad log p(x) = (alpha E[x0 | x] - x) / sigma^2 of a Denoiser, in x's shape
    (Tweedie; Efron 2011).
    """

    def s(x: Tensor, l: Level) -> Tensor:
        own = l.like(x)
        return (own.alpha * denoise(x, l) - x) / own.sigma**2

    return s
