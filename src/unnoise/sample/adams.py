"""Adams-Bashforth on the circle through x0 and the noise, at full order from the first call to sigma = 0.

With data of standard deviation c (`scale`) and N = sqrt(c^2 alpha^2 + sigma^2), the sample divided by N lies
on a circle:
    y = x / N = cos(phi) x0 / c + sin(phi) eps,    tan(phi) = sigma / (c alpha),
and the probability flow is dy/dphi = v = cos(phi) eps - sin(phi) x0 / c, whatever the schedule. For round
Gaussian data of that standard deviation v = 0 and one step is exact; c -> inf is the method on eps in sigma,
c -> 0 that on x0. The angle is finite at both ends, so that no step is special: what is lost elsewhere by a
last step that lands on the estimate, an error of the order of (sigma / std of the data)^2, is not lost here.
v is taken for a polynomial in
    w = arcsinh(sigma / (alpha knee)),
log sigma for large sigma and linear below `knee`, where trajectories have found their mode; its integral over
the angle is
    y_b = y_a + sum_j weight_j v_j,    weight_j = int l_j(w) (dphi / dw) dw      (l_j: Lagrange's
    polynomials).
The newest v also tells how far the last step was off: y is moved by weight_0 (v - l(v)), l being the past
polynomial's value there, which makes that step one of Adams-Moulton at no further call (PEC). On long steps
towards narrow modes this overshoots,
by |weight_0| scale alpha / sigma, so it fades out where that nears `LIMIT`, and paths with few steps do
without it.

v in this frame is the target of EDM's preconditioning (Karras et al. 2022, eq. 7) and of TrigFlow (Lu & Song
2025, sec. 3); Adams's method on it at c = 1 in phi is that of Zhang & Chen (2023) with another
parameterisation.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.denoiser.adapt import Denoiser
from unnoise.process.level import Level, move, spread
from unnoise.process.noise import Noise
from unnoise.sample.ladder import Rule, bounded, ladder, whole

_T, _G = (
    torch.from_numpy(v) / 2 for v in np.polynomial.legendre.leggauss(64)
)  # nodes on [-1/2, 1/2], and their weights


LIMIT = 0.25  # of the overshoot at which the correction has faded to a half
# the correction is left out on paths whose first finite step takes sigma / alpha down by more than this
COARSE = 4.2


@ladder(order=4)
def adams(
    denoise: Denoiser,
    noise: Noise,
    order: int = 3,
    scale: float = 1.25,
    knee: float = 0.13,
    correct: bool | None = None,
) -> Rule:
    """Adams-Bashforth on EDM's target over the angle, corrected by Adams-Moulton to one order more, down to
    sigma = 0.

    scale: about the standard deviation of the data; knee: sigma / alpha below which steps see a linear world,
    about that of one mode. correct: None decides by the first step (see `COARSE`). A step from alpha = 0, and
    a single step to clean data, are DDIM's. 1 call a step.
    """
    whole("order", order, 1, 5)
    bounded("scale", scale, 1e-6, 1e6)
    bounded("knee", knee, 1e-6, 1e6)
    if correct not in (None, True, False):
        raise BadInput(f"correct must be True, False or None, given {correct!r}")
    past: list[tuple[Tensor, Tensor]] = []  # (w, v), the newest first
    size = lambda l: torch.hypot(scale * l.alpha, l.sigma)
    place = lambda l: (l.ratio / knee).arcsinh()
    gate: Tensor | None = None if correct is None else torch.tensor(float(correct))

    def corrected(x, v, a, gate):
        here = [p for p, _ in past]
        w = weights(here[0], place(a), [place(a), *here], scale, knee)[..., 0]
        off = v - sum(spread(l, x) * old for l, (_, old) in zip(lagrange(here, place(a)), past))
        fade = gate / (1 + (w.abs() * scale / a.ratio / LIMIT) ** 4)
        return x + spread(size(a) * w * fade, x) * off

    def rule(x: Tensor, x0: Tensor, a: Level, b: Level) -> Tensor:
        nonlocal gate
        if not bool((a.alpha > 0).all()) or (b.clean and not past):
            return move(x, x0, a, b)
        v = spread(scale * a.alpha / (size(a) * a.sigma), x) * x - spread(size(a) / (scale * a.sigma), x) * x0
        if gate is None:
            gate = (a.ratio < COARSE * b.ratio).double()
        if past and bool(gate.any()):
            x = corrected(x, v, a, gate)
        past.insert(0, (place(a), v))
        w = weights(place(a), place(b), [p for p, _ in past[:order]], scale, knee)
        turn = sum(spread(w[..., i], x) * old for i, (_, old) in enumerate(past[:order]))
        del past[max(order, 3) :]
        return spread(size(b) / size(a), x) * x + spread(size(b), x) * turn

    return rule


def lagrange(places: list[Tensor], here: Tensor) -> list[Tensor]:
    """The values at `here` of Lagrange's polynomials through the places."""
    ratio = lambda i, j: (here - places[j]) / (places[i] - places[j])
    return [
        math.prod((ratio(i, j) for j in range(len(places)) if j != i), start=torch.ones_like(here))
        for i in range(len(places))
    ]


def weights(start: Tensor, end: Tensor, places: list[Tensor], scale: float, knee: float) -> Tensor:
    """(…, p): the integrals over the angle, from w = start to end, of Lagrange's polynomials through p
    places, () or (n,).

    Solved from the moments of dphi / dw = scale r' / (scale^2 + r^2), with r = knee sinh(w), in the variable
    that is 0 and 1 at the two ends.
    """
    t, h = _T + 0.5, (end - start)[..., None]
    w = start[..., None] + h * t
    density = _G * h * scale * knee * w.cosh() / (scale**2 + (knee * w.sinh()) ** 2)
    moments = torch.stack([(density * t**j).sum(-1) for j in range(len(places))], -1)
    u = [(place - start) / (end - start) for place in places]
    powers = torch.stack([torch.stack([v**j for v in u], -1) for j in range(len(places))], -2)
    return torch.linalg.solve(powers, moments)
