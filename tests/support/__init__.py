"""What several rooms' tests share: three families of paths on one log-SNR grid, and a fixed source of float64
normals.
"""

from __future__ import annotations

import torch

from unnoise.process import level
from unnoise.process.noise import draw

FAMILIES = {
    "ve": lambda lam: level.ve((-lam / 2).exp()),
    "vp": level.vp,
    "flow": lambda lam: level.flow(torch.sigmoid(-lam / 2)),
}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Float64 unit normals, a function of shape and seed, without the global generator."""
    return draw(seed, "tests", 0, shape)


def grid(family: str, steps: int, lo: float = -7.0, hi: float = 8.0) -> tuple[level.Level, ...]:
    """steps + 1 levels evenly spaced in log-SNR, noisy to clean (the last still holds noise), alike in each
    family.
    """
    return tuple(FAMILIES[family](k) for k in torch.linspace(lo, hi, steps + 1, dtype=torch.float64))
