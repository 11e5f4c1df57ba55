"""Power-function averages of the weights (Karras et al. 2024, EDM2, eq. 121-126).

The average at step k weighs step i by (i/k)^gamma: its width stays a fixed part sigma_rel of the run, so no
decay has to be tuned to the length. beta_k = (1 - 1/k)^(gamma + 1) depends on k alone, which keeps resuming
exact.
"""

from __future__ import annotations

import math

import torch
from torch import nn


def gamma(sigma_rel: float) -> float:
    """The exponent g of relative width sigma_rel in (0, 0.28): (g+1)^(1/2) (g+2)^-1 (g+3)^(-1/2) =
    sigma_rel.
    """
    lo, hi = 0.0, 1e6
    for _ in range(200):
        mid = (lo + hi) / 2
        wide = math.sqrt(mid + 1) / ((mid + 2) * math.sqrt(mid + 3)) > sigma_rel
        lo, hi = (mid, hi) if wide else (lo, mid)
    return lo


class EMA:
    """One averaged copy of a network's parameters and buffers, float32."""

    def __init__(self, net: nn.Module, sigma_rel: float):
        self.gamma = gamma(sigma_rel)
        self.weights = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after step `step` (1, 2, …). Integer buffers are copied."""
        w = 1 - (1 - 1 / step) ** (self.gamma + 1)
        state = net.state_dict()
        real = [k for k, v in state.items() if v.is_floating_point()]
        ours, theirs = [self.weights[k] for k in real], [state[k] for k in real]
        torch._foreach_lerp_(ours, theirs, w)  # pyright: ignore[reportPrivateImportUsage]
        for k in state.keys() - real:
            self.weights[k].copy_(state[k])
