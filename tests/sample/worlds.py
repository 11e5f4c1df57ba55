"""What the tests of samplers share: an exact Gaussian, the three families of paths, starts on its marginals,
tracing.
"""

from __future__ import annotations

import math

import torch

from unnoise.denoiser.oracle import Gaussian
from unnoise.process import level

MEAN, STD = 1.5, 0.6
WORLD = Gaussian(MEAN, STD**2)
FRAMES = {
    "ve": lambda k: level.ve((-k / 2).exp()),
    "vp": level.vp,
    "flow": lambda k: level.flow(1 / (1 + (k / 2).exp())),
}


def path(frame: str, n: int, low: float = -9.0, high: float = 3.0):
    """n moves, even in log-SNR, the last level still noisy."""
    return [FRAMES[frame](k) for k in torch.linspace(low, high, n + 1, dtype=torch.float64)]


def ending(frame: str, n: int, low: float = -9.0, high: float = 3.0):
    """n moves, the last of them into clean data."""
    return [*(path(frame, n - 1, low, high) if n > 1 else [FRAMES[frame](torch.tensor(low))]), level.clean()]


def std_at(l) -> float:
    return math.sqrt((l.alpha.item() * STD) ** 2 + l.sigma.item() ** 2)


def start(l, z):
    """x on the marginal at level l, from unit normals z."""
    return l.alpha * MEAN + std_at(l) * z


def normals(n: int, *shape: int, seed: int = 0):
    return torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def quick(seed: int = 1):
    """A batch-wide noise source, for statistics over many samples."""
    g = torch.Generator().manual_seed(seed)
    return lambda like, a=None, b=None: torch.randn(like.shape, generator=g, dtype=torch.float64).to(like)


class Traced:
    """A denoiser that counts its calls and keeps the levels it was called at."""

    def __init__(self, inner=WORLD):
        self.inner, self.levels = inner, []

    def __call__(self, x, l):
        self.levels.append(l)
        return self.inner(x, l)
