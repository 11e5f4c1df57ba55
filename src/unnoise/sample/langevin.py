"""Langevin dynamics at fixed levels: annealed (Song & Ermon 2019) and as the corrector of a predictor (Song
et al. 2021).

Unadjusted Langevin at level l: x <- x + e score + sqrt(2 e) z, score = (alpha x0 - x) / sigma^2. Where the
density at that level is N(0, v) its stationary variance is v / (1 - e / (2 v)): too large by about e / 2v,
and stable only for e < 2 v.
"""

from __future__ import annotations

import math

from torch import Tensor

from unnoise.denoiser.adapt import Denoiser
from unnoise.process.level import Level, move, spread
from unnoise.process.noise import Noise
from unnoise.sample.ddim import posterior_std
from unnoise.sample.ladder import Rule, bounded, ladder, noised, whole


def ula(x: Tensor, x0: Tensor, l: Level, step: float, z: Tensor) -> Tensor:
    """A Langevin step, its size in units of sigma^2, x + step (alpha x0 - x) + sqrt(2 step) sigma z."""
    return x + step * (spread(l.alpha, x) * x0 - x) + spread(math.sqrt(2 * step) * l.sigma, x) * z


@ladder(order=0, calls=lambda a, b, steps, step: steps + b.clean, stochastic=True)
def langevin(denoise: Denoiser, noise: Noise, steps: int = 10, step: float = 0.1) -> Rule:
    """Annealed Langevin dynamics: some steps at every level, on x as the last level left it (Song & Ermon
    2019, alg. 1).

    step in units of sigma^2: 0.1 is the paper's 2e-5 at sigma = 0.01 (whose code takes twice that), with 100
    steps at each of 10 levels. Ends with the denoised estimate (Jolicoeur-Martineau et al. 2021). Calls:
    steps a level, and 1 at the end.
    """
    whole("steps", steps, 1)
    bounded("step", step, 0, 1)

    def rule(x, x0, a, b):
        for i in range(steps):
            x = ula(x, x0, a, step, noise(x, a, a))
            if i + 1 < steps or b.clean:
                x0 = denoise(x, a)
        if b.clean or not (a.alpha > 0).all():
            return move(x, x0, a, b)
        return spread(b.alpha / a.alpha, x) * x

    return rule


@ladder(order=1, calls=lambda a, b, corrections, snr: 1 if b.clean else 1 + corrections, stochastic=True)
def predictor_corrector(denoise: Denoiser, noise: Noise, corrections: int = 1, snr: float = 0.16) -> Rule:
    """Predictor-corrector: an ancestral step, then Langevin steps at the level reached (Song et al. 2021,
    alg. 2 to 5).

    Their size is e = 2 snr^2 sigma^2. The paper's 2 (snr |z| / |score|)^2 is that where |eps| = |z|, as it is
    at high noise; its norms, averaged over the batch, would make one image depend on its neighbours, and
    taken of each sample they bias the outcome in few dimensions. 1 + corrections calls a step, 1 into sigma =
    0.
    """
    whole("corrections", corrections, 0)
    bounded("snr", snr, 0, 0.5)

    def rule(x, x0, a, b):
        x = noised(x, x0, a, b, posterior_std(a, b), noise)
        for _ in range(0 if b.clean else corrections):
            x = ula(x, denoise(x, b), b, 2 * snr**2, noise(x, b, b))
        return x

    return rule
