"""A diffusion model: x = alpha x0 + sigma eps, a network that finds eps, and the way back down.

Levels lie on alpha = cos(πu/2), sigma = sin(πu/2): data at u = 0, noise at u = 1. Training minimises E‖eps -
eps(x, u)‖² over u (Ho et al. 2020, eq. 14), with eps(x, u) = sigma x + alpha mlp(x, u): for data of unit
variance sigma x is the best linear guess, so that the layers need not pass x on. Sampling takes the estimate
x0 = (x - sigma eps) / alpha and makes of it a sample at the next level (Song et al. 2021, eq. 12): without
new noise DDIM, with as much as the posterior has DDPM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random

from lab.from_scratch.grad import Var, grad
from lab.from_scratch.nn import Adam, Params, mlp
from lab.from_scratch.tensor import BadInput, Tensor

TOP = 0.97  # the noisiest level: at u = 1 alpha is 0 and eps says nothing about x0
WAVES = 2  # of u, in the network's input

Eps = Callable[[Tensor, float], Tensor]
Draw = Callable[
    [int, Random], tuple[Tensor, list[list[float]]]
]  # n -> x0 (n, d) and for each what else is known of it


def level(u: float) -> tuple[float, float]:
    """alpha and sigma at u in [0, 1]."""
    return math.cos(math.pi / 2 * u), math.sin(math.pi / 2 * u)


def path(steps: int, top: float = TOP) -> list[float]:
    """steps + 1 values of u in equal steps from `top` to 0."""
    if steps < 1:
        raise BadInput(f"steps must be at least 1, given {steps}")
    return [top * (1 - i / steps) for i in range(steps)] + [0.0]


def normal(shape: Sequence[int], rng: Random) -> Tensor:
    """Unit normal numbers."""
    return Tensor([rng.gauss(0, 1) for _ in range(math.prod(shape))], shape)


def inputs(x: Tensor, us: Sequence[float], known: Sequence[list[float]]) -> Tensor:
    """The network's input: x, sines and cosines of its level, and what else is known (a label), row by
    row.
    """
    waves = [[f(math.pi * k * u) for k in range(1, WAVES + 1) for f in (math.sin, math.cos)] for u in us]
    rows = [row + wave + more for row, wave, more in zip(x.rows(), waves, known)]
    return Tensor([v for row in rows for v in row], (len(rows), len(rows[0])))


def columns(us: Sequence[float]) -> tuple[Tensor, Tensor]:
    """alpha and sigma of each row's level, (n, 1): they broadcast against x."""
    alpha, sigma = zip(*map(level, us))
    return Tensor(alpha, (len(us), 1)), Tensor(sigma, (len(us), 1))


def corrupt(x0: Tensor, eps: Tensor, us: Sequence[float]) -> Tensor:
    """alpha x0 + sigma eps, row i at level us[i]."""
    alpha, sigma = columns(us)
    return alpha * x0 + sigma * eps


def predict(params: Params, x: Tensor, us: Sequence[float], known: Sequence[list[float]]) -> Var:
    """eps(x, u) = sigma x + alpha mlp(x, u), row i at level us[i]."""
    alpha, sigma = columns(us)
    return sigma * x + alpha * mlp(params, inputs(x, us, known))


def train(
    params: Params, draw: Draw, steps: int, batch: int, rng: Random, lr: float = 1e-2
) -> Iterator[float]:
    """Trains in place and yields the loss of each step. lr falls to 0 along half a cosine."""
    adam = Adam(params)
    for k in range(steps):
        x0, known = draw(batch, rng)
        us = [
            TOP * (i + rng.random()) / batch for i in range(batch)
        ]  # one from each of `batch` equal parts: less variance
        eps = normal(x0.shape, rng)
        loss = ((predict(params, corrupt(x0, eps, us), us, known) - eps) ** 2).mean()
        adam.step(grad(loss, params), lr * (1 + math.cos(math.pi * k / steps)) / 2)
        yield loss.value.data[0]


def network(params: Params, known: Sequence[list[float]]) -> Eps:
    """eps(x, u) of a trained network, for rows of which this is known."""
    return lambda x, u: predict(params, x, [u] * len(known), known).value


def sample(eps: Eps, x: Tensor, us: Sequence[float], rng: Random, eta: float = 0.0) -> Iterator[Tensor]:
    """x at every level from us[0] down to us[-1]: DDIM at eta = 0, DDPM at eta = 1; one call of eps a
    step.
    """
    yield x
    for a, b in pairwise(us):
        x = step(x, eps(x, a), level(a), level(b), eta, rng)
        yield x


def step(
    x: Tensor, e: Tensor, a: tuple[float, float], b: tuple[float, float], eta: float, rng: Random
) -> Tensor:
    """alpha_b x0 + sqrt(sigma_b² - up²) eps + up z, with up = eta sigma_b sqrt(1 - (sigma_b alpha_a /
    (sigma_a alpha_b))²).
    """
    x0 = (x - a[1] * e) / a[0]
    up = eta * b[1] * math.sqrt(1 - (b[1] * a[0] / (a[1] * b[0])) ** 2)
    x = b[0] * x0 + math.sqrt(b[1] ** 2 - up**2) * e
    return x + up * normal(x.shape, rng) if up else x
