"""Rules that remember earlier estimates: the Adams family in log-SNR or sigma, DPM-Solver++, its SDE kin,
UniPC.

With lambda = log(alpha / sigma), h its change over the step and u in [0, 1] the place within it, the exact
move is
    x_b = move(x, average of x0(u) with density e^(h u), a, b)          (data prediction; Lu et al. 2022, eq.
    8)
and for the noise, in the coordinates alpha = 1, x_b - x_a = (s_b - s_a) * average of eps: with density e^(-h
u) for u in lambda, constant for u in s. A method is what it takes for the average: here a polynomial through
the estimates so far, with weights solved from the moments of the density. They hold for any grid, and per
sample.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unnoise.base.errors import unknown
from unnoise.denoiser.adapt import Denoiser
from unnoise.process.level import Level, move, spread
from unnoise.process.noise import Noise
from unnoise.sample.ddim import posterior_std
from unnoise.sample.ladder import Rule, between, bounded, eps_of, finite, ladder, lam, noised, shrink, whole

_T, _G = (
    torch.from_numpy(v) / 2 for v in np.polynomial.legendre.leggauss(64)
)  # nodes on [-1/2, 1/2], and their weights


def weights(u: list[Tensor], c: Tensor) -> Tensor:
    """w (…, p) with sum_i w_i f(u_i) = the average of f over [0, 1] with density e^(c u), for polynomials f
    of degree < p.

    u: p distinct places, () or (n,) as c is. A Vandermonde system for the moments, which come from
    Gauss-Legendre quadrature.
    """
    t = _T + 0.5
    density = _G * (c[..., None] * t - c[..., None].clamp(min=0)).exp()
    density = density / density.sum(-1, keepdim=True)
    moments = torch.stack([(density * t**j).sum(-1) for j in range(len(u))], -1)
    powers = torch.stack([torch.stack([v**j for v in u], -1) for j in range(len(u))], -2)
    return torch.linalg.solve(powers, moments)


Past = list[tuple[Tensor, Tensor]]  # (place, value) of earlier estimates, the newest first; places () or (n,)


def average(now: Tensor, here: Tensor, past: Past, h: Tensor, c: Tensor) -> Tensor:
    """The average over [here, here + h], with density e^(c u), of the polynomial through `now` at `here` and
    the past.
    """
    w = weights([torch.zeros_like(h), *((place - here) / h for place, _ in past)], c)
    return now + sum(spread(w[..., i], now) * (old - now) for i, (_, old) in enumerate(past, 1))


def remember(past: Past, place: Tensor, value: Tensor, keep: int) -> None:
    """Puts an estimate first in the past, which holds `keep` at most; one at an infinite place (alpha = 0) is
    left out.
    """
    if place.isfinite().all():
        past.insert(0, (place, value))
    del past[keep:]


def middle(x0: Tensor, past: Past, a: Level, b: Level) -> Tensor:
    """x0 extrapolated linearly in lambda to the middle of the step: x0 + h / (2 h') (x0 - x0'), Lu et al.
    2022, alg. 2.
    """
    if not past or not finite(a, b):
        return x0
    (place, old), h = past[0], lam(b) - lam(a)
    return x0 + spread(h / (2 * (lam(a) - place)), x0) * (x0 - old)


@ladder(order=2)
def dpmpp_2m(denoise: Denoiser, noise: Noise) -> Rule:
    """DPM-Solver++(2M): two estimates, extrapolated to the middle of the step in log-SNR (Lu et al. 2022,
    alg. 2).

    First order from alpha = 0, into sigma = 0 and at the start. Order 2, 1 call a step.
    """
    return dpmpp_2m_sde.step(denoise, noise, eta=0.0)


@ladder(order=2, stochastic=True)
def dpmpp_2m_sde(denoise: Denoiser, noise: Noise, eta: float = 1.0) -> Rule:
    """SDE-DPM-Solver++(2M): 2M on the reverse SDE, with eta times the noise of the diffusion SDE (Lu et al.
    2022, app. C).

    x_b = move(x, middle, a, (alpha_b, sigma_b k^eta)) + sigma_b sqrt(1 - k^(2 eta)) z, k = e^-h. Order 2 at
    eta = 0, 1 call a step.
    """
    bounded("eta", eta, 0)
    past: Past = []

    def rule(x, x0, a, b):
        use = middle(x0, past, a, b)
        remember(past, lam(a), x0, 1)
        return noised(x, use, a, b, b.sigma * (1 - shrink(a, b) ** (2 * eta)).sqrt(), noise)

    return rule


@ladder(order=3)
def dpmpp_3m(denoise: Denoiser, noise: Noise) -> Rule:
    """DPM-Solver++(3M): the parabola through three estimates in log-SNR, integrated exactly (Lu et al. 2022,
    eq. 8).

    The weights are solved for. The published ones take half of the second difference, and so are of order 2
    only. First order from alpha = 0, into sigma = 0 and at the start, where noise is so high that it costs
    nothing. Order 3, 1 call a step.
    """
    past: Past = []

    def rule(x, x0, a, b):
        h = lam(b) - lam(a)
        use = average(x0, lam(a), past, h, h) if finite(a, b) else x0
        remember(past, lam(a), x0, 2)
        return move(x, use, a, b)

    return rule


@ladder(order=2, calls=2, stochastic=True)
def dpmpp_sde(denoise: Denoiser, noise: Noise, eta: float = 1.0) -> Rule:
    """DPM-Solver++ (SDE): a single-step midpoint method on the reverse SDE (k-diffusion's dpmpp_sde, r =
    1/2).

    An ancestral step to the middle m of the log-SNR interval, then one over all of it with the estimate found
    there. Both see one Brownian path: the noise over [a, b] is made of that over [a, m] and [m, b], as the
    SDE would carry it on. Order 2 at eta = 0, 2 calls and 2 draws a step, 1 from alpha = 0 and into sigma =
    0.
    """
    bounded("eta", eta, 0)

    def rule(x, x0, a, b):
        up = eta * posterior_std(a, b)
        if not finite(a, b):
            return noised(x, x0, a, b, up, noise)
        m = between(a, b)
        if not eta:
            return move(x, denoise(move(x, x0, a, m), m), a, b)
        first, then = noise(x, a, m), noise(x, m, b)
        y = noised(x, x0, a, m, eta * posterior_std(a, m), lambda *_: first)
        carried, fresh = posterior_std(a, m) * shrink(m, b) * b.sigma / m.sigma, posterior_std(m, b)
        both = torch.hypot(carried, fresh)
        z = spread(carried / both, x) * first + spread(fresh / both, x) * then
        return noised(x, denoise(y, m), a, b, up, lambda *_: z)

    return rule


@ladder(order=3)
def unipc(denoise: Denoiser, noise: Noise, order: int = 2, b_h: str = "bh2") -> Rule:
    """UniPC: multistep, corrected by the estimate at the predicted point (Zhao et al. 2023, alg. 1-3).

    That estimate is also the next step's, so correcting costs no call; State.x is the predicted point.
    Predictor of the given `order` (1 to 4), corrector of one more. b_h scales the two places where the paper
    takes the weight 1/2 instead of solving for it: "bh2" e^h - 1, "bh1" h. Order 3 by default, 1 call a step.
    """
    whole("order", order, 1, 4)
    if b_h not in ("bh1", "bh2"):
        raise unknown("b_h", b_h, ("bh1", "bh2"))
    half = lambda h: 0.5 if b_h == "bh2" else 0.5 * h / -torch.expm1(-h)
    past: Past = []
    before: tuple[Tensor, Level, Past] | None = None  # x, level and past of the step to be corrected

    def predicted(x0: Tensor, past: Past, here: Tensor, h: Tensor) -> Tensor:
        if len(past) != 1:
            return average(x0, here, past, h, h)
        ((place, old),) = past
        return x0 + spread(torch.as_tensor(half(h)) * h / (here - place), x0) * (x0 - old)

    def corrected(x: Tensor, a: Level, past: Past, new: Tensor, b: Level) -> Tensor:
        (here, x0), *rest = past
        h = lam(b) - here
        if not rest:
            return move(x, x0 + spread(torch.as_tensor(half(h)), x0) * (new - x0), a, b)
        return move(x, average(x0, here, [*rest, (lam(b), new)], h, h), a, b)

    def rule(x, x0, a, b):
        nonlocal before
        if before:
            x = corrected(*before, x0, a)
        use = predicted(x0, past, lam(a), lam(b) - lam(a)) if finite(a, b) else x0
        remember(past, lam(a), x0, order)
        before = (x, a, list(past)) if finite(a, b) else None
        del past[order - 1 :]
        return move(x, use, a, b)

    return rule


@ladder(order=2)
def ab(denoise: Denoiser, noise: Noise, order: int = 2, variable: str = "logsnr") -> Rule:
    """Adams-Bashforth of order 1 to 4 on the noise: the polynomial through the last estimates of eps,
    integrated exactly.

    variable: that of the polynomial, "logsnr" (DPM-Solver and DEIS multistep with noise prediction; Zhang &
    Chen 2023) or "sigma" (sigma / alpha, which is finite at sigma = 0 too). First order from alpha = 0, and
    in "logsnr" into sigma = 0. 1 call a step.
    """
    whole("order", order, 1, 4)
    if variable not in ("logsnr", "sigma"):
        raise unknown("variable", variable, ("logsnr", "sigma"))
    place = lam if variable == "logsnr" else lambda l: l.ratio
    within = (
        finite if variable == "logsnr" else lambda a, b: bool((a.alpha > 0).all() and (b.alpha > 0).all())
    )
    past: Past = []

    def rule(x, x0, a, b):
        eps, use = eps_of(x, x0, a), x0
        if within(a, b):
            h = place(b) - place(a)
            mean = average(eps, place(a), past, h, -h if variable == "logsnr" else torch.zeros_like(h))
            use = shifted(x0, mean - eps, a)
        remember(past, place(a), eps, order - 1)
        return move(x, use, a, b)

    return rule


@ladder(order=4)
def lms(denoise: Denoiser, noise: Noise, order: int = 4) -> Rule:
    """Linear multistep: Adams-Bashforth on eps in sigma / alpha (k-diffusion's LMS; Katherine Crowson).

    `ab` with variable="sigma", order 4 by default, 1 call a step.
    """
    return ab.step(denoise, noise, order, "sigma")


_ADAMS = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@ladder(order=2, start=1)
def plms(denoise: Denoiser, noise: Noise) -> Rule:
    """PLMS: Adams-Bashforth's weights for even steps on eps, moved as DDIM moves (Liu et al. 2022, eq. 12; SD
    1.x's own).

    Starts with a step of two calls on the mean of both eps, unless it leads to clean data. The steps are
    taken as even whatever the grid, which leaves order 2; `lms` solves for its weights. 1 call a step, 1 more
    at the start.
    """
    past: list[Tensor] = []

    def rule(x, x0, a, b):
        if not bool((a.alpha > 0).all()):
            return move(x, x0, a, b)
        eps = eps_of(x, x0, a)
        if not past and finite(a, b):
            y = move(x, x0, a, b)
            mean = (eps + eps_of(y, denoise(y, b), b)) / 2
        else:
            mean = sum(w * e for w, e in zip(_ADAMS[len(past)], (eps, *past)))
        past[:] = [eps, *past][:3]
        return move(x, shifted(x0, mean - eps, a), a, b)

    return rule


def shifted(x0: Tensor, change: Tensor, l: Level) -> Tensor:
    """The x0 that goes with another eps at the same x: x0 - (sigma / alpha) (eps' - eps)."""
    return x0 - spread(l.ratio, x0) * change
