"""How a sample is corrupted: x = alpha * x0 + sigma * eps, with eps ~ N(0, I).

A Level is that pair (alpha, sigma). Variance preserving (DDPM, Stable Diffusion), variance exploding (EDM)
and flow matching are curves of Levels; a path is a sequence of them, noisy to clean. Data is at sigma = 0;
pure noise at alpha = 0. Paths are kept in float64 on the CPU, so that a test such as "is this the last step?"
never waits for a device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_NARROW = {"mps"}  # kinds of device without float64


class Level(NamedTuple):
    """x = alpha * x0 + sigma * eps. Both are tensors of one shape: () for a whole batch, or (n,) one a
    sample.
    """

    alpha: Tensor
    sigma: Tensor

    @property
    def logsnr(self) -> Tensor:
        """log(alpha^2 / sigma^2): +inf at clean data, -inf at pure noise."""
        return 2 * (self.alpha.log() - self.sigma.log())

    @property
    def ratio(self) -> Tensor:
        """sigma / alpha: the noise level in variance-exploding coordinates, 0 at clean data, inf at pure
        noise.
        """
        return self.sigma / self.alpha

    def like(self, x: Tensor) -> Level:
        """The level in x's dtype and device, with trailing axes added so that it broadcasts against x."""
        return Level(
            *(v.to(x).reshape(v.shape + (1,) * (x.ndim - v.ndim)) if v.ndim else v.to(x) for v in self)
        )

    @property
    def clean(self) -> bool:
        """Whether no noise is left (sigma = 0)."""
        return not bool((self.sigma > 0).any())


def level(alpha, sigma) -> Level:
    """A Level from two numbers or tensors, in float64 unless they are tensors of floating type already."""
    return Level(_tensor(alpha), _tensor(sigma))


def ve(sigma) -> Level:
    """Variance exploding: x = x0 + sigma * eps (Song & Ermon 2019; EDM)."""
    sigma = _tensor(sigma)
    return Level(torch.ones_like(sigma), sigma)


def vp(logsnr) -> Level:
    """Variance preserving, alpha^2 + sigma^2 = 1, at a log signal-to-noise ratio log(alpha^2 / sigma^2)."""
    logsnr = _tensor(logsnr)
    return Level(logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt())


def flow(t) -> Level:
    """Rectified flow: x = (1 - t) * x0 + t * eps; t grows with noise."""
    t = _tensor(t)
    return Level(1 - t, t)


def clean() -> Level:
    """The last level of every path: alpha = 1, sigma = 0."""
    return level(1.0, 0.0)


def noisier(a: Level, b: Level) -> bool:
    """Whether b holds more noise than a (compared by sigma / alpha without dividing)."""
    return bool((b.sigma * a.alpha > a.sigma * b.alpha).all())


def spread(c: Tensor, x: Tensor) -> Tensor | float:
    """A coefficient computed from levels, () or (n,), made ready to multiply x (n, …) without changing x's
    dtype or device.

    Differences such as alpha_b - alpha_a r are taken in the levels' own precision (float64) and only the
    result is rounded, so half-precision samples move as exactly as they can; a number for the whole batch
    never touches the device.
    """
    if c.ndim == 0 and c.device.type == "cpu" and not c.requires_grad:
        return c.item()
    return c.to(x).reshape(c.shape + (1,) * (x.ndim - c.ndim))


def wide(v: Tensor) -> Tensor:
    """v in float64: where it lies, or on the CPU where its device has no such numbers (MPS)."""
    return v.cpu().double() if v.device.type in _NARROW else v.double()


def move(x: Tensor, x0: Tensor, a: Level, b: Level) -> Tensor:
    """x at level b, on the straight line through x (at level a) and its estimate x0.

    DDIM with eta = 0 (Song et al. 2021, eq. 12), DPM-Solver++(1), and Euler in variance-exploding coordinates
    are this one formula; exact when x0 is. Finite at alpha = 0 and at sigma = 0 of b; a.sigma must be
    positive.
    """
    r = b.sigma / a.sigma
    return spread(r, x) * x + spread(b.alpha - a.alpha * r, x) * x0


def renoise(x: Tensor, a: Level, b: Level, eps: Tensor) -> Tensor:
    """x taken from level a up to the noisier level b by the forward process, with unit normal eps.

    x_b = (alpha_b / alpha_a) x_a + sqrt(sigma_b^2 - (sigma_a alpha_b / alpha_a)^2) eps.
    """
    r = b.alpha / a.alpha
    return spread(r, x) * x + spread((b.sigma**2 - (r * a.sigma) ** 2).clamp(min=0).sqrt(), x) * eps


def corrupt(x0: Tensor, eps: Tensor, l: Level) -> Tensor:
    """x = alpha * x0 + sigma * eps at level l: the forward process from clean data."""
    l = l.like(x0)
    return l.alpha * x0 + l.sigma * eps


def _tensor(v) -> Tensor:
    return v if isinstance(v, Tensor) and v.is_floating_point() else torch.as_tensor(v, dtype=torch.float64)
