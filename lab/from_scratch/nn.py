"""A network of linear layers with SiLU between them, and Adam.

h ← silu(h W + b) for each layer, without the silu for the last. The parameters are a flat list W, b, W, b, …
of Vars; the network is a function of them and of x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from random import Random

from lab.from_scratch.grad import Var, lift
from lab.from_scratch.tensor import Tensor, full

Params = list[Var]


def init(sizes: Sequence[int], rng: Random) -> Params:
    """Parameters of layers sizes[0] -> sizes[1] -> …: weights N(0, 2 / fan-in) (He et al. 2015, eq. 10), the
    last layer 0.
    """
    params = []
    for i, (n, m) in enumerate(pairwise(sizes)):
        std = math.sqrt(2 / n) if i < len(sizes) - 2 else 0.0
        params += [Var(Tensor([rng.gauss(0, std) for _ in range(n * m)], (n, m))), Var(full((m,), 0.0))]
    return params


def mlp(params: Params, x: Tensor | Var) -> Var:
    """(n, sizes[0]) -> (n, sizes[-1])."""
    h = lift(x)
    for i in range(0, len(params), 2):
        h = h @ params[i] + params[i + 1]
        if i < len(params) - 2:
            h = h.silu()
    return h


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1): steps of about `lr` in each number, along a mean gradient over
    its own size.
    """

    def __init__(self, params: Params, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8):
        self.params, self.beta1, self.beta2, self.eps, self.t = params, beta1, beta2, eps, 0
        self.moments = [([0.0] * len(p.value.data), [0.0] * len(p.value.data)) for p in params]

    def step(self, grads: Sequence[Tensor], lr: float) -> None:
        """Gives every parameter its next value."""
        self.t += 1
        self.moments = [self._follow(m, v, g.data) for (m, v), g in zip(self.moments, grads)]
        for p, (m, v) in zip(self.params, self.moments):
            p.value = Tensor(self._moved(p.value.data, m, v, lr), p.value.shape)

    def _follow(self, m: list[float], v: list[float], g: list[float]) -> tuple[list[float], list[float]]:
        b1, b2 = self.beta1, self.beta2
        return [b1 * p + (1 - b1) * q for p, q in zip(m, g)], [
            b2 * p + (1 - b2) * q * q for p, q in zip(v, g)
        ]

    def _moved(self, w: list[float], m: list[float], v: list[float], lr: float) -> list[float]:
        c1, c2 = 1 - self.beta1**self.t, math.sqrt(1 - self.beta2**self.t)
        return [p - lr / c1 * q / (math.sqrt(s) / c2 + self.eps) for p, q, s in zip(w, m, v)]
