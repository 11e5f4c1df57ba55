"""Sampling as optimisation: eps = (x - alpha x0) / sigma is a gradient, the path a learning-rate schedule.

In the coordinates alpha = 1, Euler's step x <- x - (s_a - s_b) eps is gradient descent on the squared
distance to the data (Permenter & Yuan 2024). The rules here replace eps by some memory of it; where that
equals eps they are Euler. All are first order into sigma = 0 (the last step lands on the estimate) and from
alpha = 0; 1 call a step, no noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unnoise.denoiser.adapt import Denoiser
from unnoise.process.level import move
from unnoise.process.noise import Noise
from unnoise.sample.ladder import Rule, bounded, eps_of, finite, ladder, whole
from unnoise.sample.multistep import shifted


def _descent(gradient) -> Rule:
    """The rule that moves along gradient(eps) in place of eps."""

    def rule(x, x0, a, b):
        eps = eps_of(x, x0, a)
        g = gradient(eps)
        return move(x, shifted(x0, g - eps, a) if finite(a, b) else x0, a, b)

    return rule


@ladder(order=2)
def gradient_estimation(denoise: Denoiser, noise: Noise, gamma: float = 1.5) -> Rule:
    """Gradient estimation: eps extrapolated from the last two, gamma eps + (1 - gamma) eps' (Permenter & Yuan
    2024, alg. 1).

    At 1.5 it is the two-step Adams method, of order 2 (where steps in log-SNR are equal, DPM-Solver-2M on
    eps); the paper's 2 is of order 1 and over-relaxes, which serves rough denoisers and few steps. gamma = 1
    is DDIM.
    """
    bounded("gamma", gamma, 0)
    old = None

    def gradient(eps):
        nonlocal old
        g = eps if old is None else eps + (gamma - 1) * (eps - old)
        old = eps
        return g

    return _descent(gradient)


def adams_differences(order: int) -> list[float]:
    """1, 1/2, 5/12, 3/8: Adams-Bashforth by backward differences, from sum_k gamma_k / (j - k + 1) = 1."""
    g: list[float] = []
    for j in range(order):
        g.append(1 - sum(v / (j - k + 1) for k, v in enumerate(g)))
    return g


@ladder(order=2)
def ghvb(denoise: Denoiser, noise: Noise, order: int = 2, beta: float = 0.8) -> Rule:
    """Generalised heavy ball: a moving average of eps, its order restored by differences (Wizadwongsa et al.
    2024).

    v <- (1 - beta) v + beta eps = eps / (1 + c D) with D the backward difference and c = (1 - beta) / beta,
    so the numerator that makes it Adams-Bashforth up to D^(order - 1) is (1 + c D) sum_j gamma_j D^j. beta =
    1 is Adams-Bashforth for equal steps; less widens the region of stability. Order 2 gives (2 + beta) / (2
    beta) v - (2 - beta) / (2 beta) v'.
    """
    whole("order", order, 1, 4)
    bounded("beta", beta, 1e-3, 1)
    gamma, c = adams_differences(order), (1 - beta) / beta
    factor = [gamma[0]] + [gamma[j] + c * gamma[j - 1] for j in range(1, order)]
    diffs: list[Tensor] = []  # v, D v, D^2 v … of the last step

    def gradient(eps):
        new = [eps if not diffs else (1 - beta) * diffs[0] + beta * eps]
        for old in diffs[: order - 1]:
            new.append(new[-1] - old)
        diffs[:] = new
        return sum(f * d for f, d in zip(factor, new))

    return _descent(gradient)


@ladder
def momentum(denoise: Denoiser, noise: Noise, beta: float = 0.8) -> Rule:
    """Heavy ball: Euler along a moving average of eps, v <- (1 - beta) v + beta eps (Polyak 1964).

    Lags by (1 - beta) / beta steps, which makes it of order 1; beta = 1 is Euler.
    """
    return ghvb.step(denoise, noise, 1, beta)


@ladder
def adam(denoise: Denoiser, noise: Noise, beta1: float = 0.3, beta2: float = 0.7) -> Rule:
    """Adam (Kingma & Ba 2015) on eps: its running mean over its running rms, times its rms now.

    m <- beta1 m + (1 - beta1) eps, v <- beta2 v + (1 - beta2) mean(eps^2) over a sample, both corrected for
    their start; the step is along m / sqrt(v) * rms(eps). A constant field is left as it is. Order 1, slower
    than Euler on exact denoisers, as smoothing is.
    """
    bounded("beta1", beta1, 0, 0.999)
    bounded("beta2", beta2, 0, 0.9999)
    m = v = None
    t = 0

    def gradient(eps):
        nonlocal m, v, t
        t += 1
        square = eps.flatten(1).square().mean(1).reshape(-1, *[1] * (eps.ndim - 1))
        m = (1 - beta1) * eps if m is None else beta1 * m + (1 - beta1) * eps
        v = (1 - beta2) * square if v is None else beta2 * v + (1 - beta2) * square
        scale = square * (1 - beta2**t) / torch.where(v > 0, v, 1.0)
        return m / (1 - beta1**t) * scale.sqrt()

    return _descent(gradient)
