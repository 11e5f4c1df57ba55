"""Rules without memory: DDPM, DDIM, Euler, Heun, DPM-Solver++ single step, EDM's churn, consistency models.

All are written in x0 space. With s = sigma / alpha and k = s_b / s_a, `move` is x_b / alpha_b = k x_a /
alpha_a + (1 - k) x0: DDIM, Euler in s, and first-order DPM-Solver++ at once. `noised` is the same with part
of the noise drawn anew. Papers: DDPM (Ho et al. 2020), DDIM (Song et al. 2021), EDM (Karras et al. 2022),
DPM-Solver++ (Lu et al. 2022), consistency models (Song et al. 2023).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from unnoise.base.errors import unknown
from unnoise.denoiser.adapt import Denoiser
from unnoise.process.level import Level, move, noisier, spread
from unnoise.process.noise import Noise
from unnoise.sample.ladder import (
    Path,
    Rule,
    between,
    bounded,
    detour,
    finite,
    ladder,
    lam,
    noised,
    shared,
    shrink,
)


def posterior_std(a: Level, b: Level) -> Tensor:
    """The standard deviation of q(x_b | x_a, x0): sigma_b sqrt(1 - k^2). DDIM's sigma at eta = 1,
    k-diffusion's sigma_up.
    """
    return b.sigma * (1 - shrink(a, b) ** 2).clamp(min=0).sqrt()


def forward_std(a: Level, b: Level) -> Tensor:
    """sqrt(1 - alpha_a^2 / alpha_b^2) in the variance-preserving frame, DDPM's sqrt(beta), brought to the
    scale of b.
    """
    unit = lambda l: l.alpha / torch.hypot(l.alpha, l.sigma)
    return torch.hypot(b.alpha, b.sigma) * (1 - (unit(a) / unit(b)) ** 2).clamp(min=0).sqrt()


@ladder(stochastic=True)
def ddpm(denoise: Denoiser, noise: Noise, variance: str = "small") -> Rule:
    """DDPM: ancestral sampling from q(x_b | x_a, x0) at the estimate (Ho et al. 2020, eq. 7).

    Mean as DDIM's at eta = 1; the variance is that of the posterior ("small", beta-tilde) or of the forward
    step ("large", beta). With "small" it is DDIM at eta = 1. Order 1, 1 call a step, no noise in the last.
    """
    if variance not in ("small", "large"):
        raise unknown("variance", variance, ("small", "large"))

    def rule(x, x0, a, b):
        small = posterior_std(a, b)
        if variance == "small" or b.clean:
            return noised(x, x0, a, b, small, noise)
        mean = move(x, x0, a, Level(b.alpha, (b.sigma**2 - small**2).sqrt()))
        return mean + spread(forward_std(a, b), x) * noise(x, a, b)

    return rule


@ladder
def ddim(denoise: Denoiser, noise: Noise, eta: float = 0.0) -> Rule:
    """DDIM: deterministic at eta = 0, the DDPM posterior at eta = 1 (Song et al. 2021).

    x_b = alpha_b x0 + sqrt(sigma_b^2 - up^2) eps + up z, up = eta sigma_b sqrt(1 - k^2) (eq. 12 and 16).
    Order 1, 1 call a step.
    """
    bounded("eta", eta, 0)
    return lambda x, x0, a, b: noised(x, x0, a, b, eta * posterior_std(a, b), noise)


@ladder
def euler(denoise: Denoiser, noise: Noise) -> Rule:
    """Euler's method on dx/dsigma = eps in the coordinates alpha = 1 (Karras et al. 2022, alg. 1 without its
    correction).

    The same move as DDIM at eta = 0, whatever the schedule; for a flow model it is Euler's method in t. Order
    1, 1 call a step.
    """
    return move


@ladder(stochastic=True)
def euler_ancestral(denoise: Denoiser, noise: Noise, eta: float = 1.0) -> Rule:
    """Euler down to sigma_down, then fresh noise sigma_up, in the coordinates alpha = 1 (k-diffusion's "euler
    a").

    sigma_up = eta s_b sqrt(1 - k^2), sigma_down^2 = s_b^2 - sigma_up^2: DDIM at that eta, here 1 by default.
    Order 1, 1 call a step.
    """
    return ddim.step(denoise, noise, eta)


# Heun's weight 1 / (2 k) is kept down to this k = s_b / s_a; it would throw a step from 80 to 0.5 far off
STEEP = 0.05


@ladder(order=2, calls=2)
def heun(denoise: Denoiser, noise: Noise) -> Rule:
    """Heun's method in the coordinates alpha = 1: the average of eps at both ends (Karras et al. 2022, alg.
    1).

    That is moving with x0 + w (x0' - x0), x0' = denoise(move(x, x0, a, b), b), w = 1 / (2 k). Where s falls
    more than 20-fold in one step, w is that of the same trapezium in log-SNR, which stays below 1. Order 2, 2
    calls a step, 1 from alpha = 0 and into sigma = 0. Below some 10 steps down from s = 80, Euler is the more
    exact.
    """

    def rule(x, x0, a, b):
        y = move(x, x0, a, b)
        if not finite(a, b):
            return y
        k, h = shrink(a, b), lam(b) - lam(a)
        w = torch.where(k > STEEP, 1 / (2 * k), 1 / (1 - k) - 1 / h)
        return move(x, x0 + spread(w, x) * (denoise(y, b) - x0), a, b)

    return rule


@ladder(order=2, calls=2)
def dpmpp_2s(denoise: Denoiser, noise: Noise, eta: float = 0.0) -> Rule:
    """DPM-Solver++(2S): moves with the estimate found in the middle of the step (Lu et al. 2022, alg. 1 at r
    = 1/2).

    x_b = move(x, denoise(y, m), a, b), y = move(x, x0, a, m), m half-way in log-SNR: the midpoint rule. With
    eta > 0 it steps down to sqrt(sigma_b^2 - up^2) and draws up z anew ("DPM++ 2S a" at eta = 1). Order 2, 2
    calls a step, 1 from alpha = 0 and into sigma = 0.
    """
    bounded("eta", eta, 0)

    def rule(x, x0, a, b):
        up = torch.minimum(eta * posterior_std(a, b), b.sigma)
        down = Level(b.alpha, (b.sigma**2 - up**2).sqrt())
        if finite(a, down):
            m = between(a, down)
            x0 = denoise(move(x, x0, a, m), m)
        return noised(x, x0, a, b, up, noise)

    return rule


@detour(heun)
def edm(
    path: Path,
    noise: Noise,
    s_churn: float = 10.0,
    s_min: float = 0.05,
    s_max: float = 50.0,
    s_noise: float = 1.0,
):
    """EDM's stochastic sampler: before each Heun step noise is added up to s (1 + gamma) (Karras et al. 2022,
    alg. 2).

    gamma = min(s_churn / steps, sqrt(2) - 1) where s_min <= s <= s_max, held to the noisiest level of the
    path; the network is called at the raised level. s_noise scales the noise added. The paper's setting for
    ImageNet-64: 40, 0.05, 50, 1.003 at 256 steps; s_churn = 0 is Heun. Order 2 without churn, 2 calls a step,
    1 into sigma = 0.
    """
    for name, value in (("s_churn", s_churn), ("s_min", s_min), ("s_noise", s_noise)):
        bounded(name, value, 0)
    bounded("s_max", s_max, s_min)
    path = shared(path, "churn")
    falls = sum(not noisier(a, b) for a, b in pairwise(path))
    gamma, top = min(s_churn / max(falls, 1), math.sqrt(2) - 1), max(l.ratio for l in path)

    def raised(l: Level) -> Level:
        churn = s_min <= l.ratio <= s_max and l.ratio * (1 + gamma) <= top and l.alpha > 0
        return Level(l.alpha, l.sigma * (1 + gamma)) if churn else l

    out = [l for a, b in pairwise(path) for l in ((a,) if noisier(a, b) else (a, raised(a)))]
    return (*out, path[-1]), lambda like, a, b: s_noise * noise(like, a, b)


@ladder(stochastic=True)
def consistency(denoise: Denoiser, noise: Noise) -> Rule:
    """Multistep consistency sampling: the estimate, then all of the noise drawn anew (Song et al. 2023, alg.
    1; LCM).

    x_b = alpha_b x0 + sigma_b z. For networks distilled to jump to the end of the flow; with an ordinary
    denoiser it is DDIM with its noise forgotten at each step. 1 call a step.
    """
    return lambda x, x0, a, b: noised(x, x0, a, b, b.sigma, noise)
