"""Sampling by the gradient of a log density alone: ascent, Langevin with and without rejection, annealed
Langevin.

    ascent    x <- x + e s(x)                            finds modes; its end is no sample
    ula       x <- x + e s(x) + sqrt(2 e) z              samples, with the bias of its step
    mala      the same as a proposal, accepted by p(x)   samples exactly, at any step that is ever accepted
    annealed  ula at one noise level after the other     crosses between modes that ula alone cannot

s = grad log p. A size is written in one of two conventions: "code", e = step (ULA and MALA as usual; NCSN's
code), and "paper", e = step / 2 (x + (step / 2) s + sqrt(step) z: Welling & Teh 2011; Song & Ermon 2019, alg.
1). One number means twice the step in the first. On N(0, v) the stationary variance of ULA is v / (1 - e / (2
v)), and there is none from e = 2 v on.

Samplers are generators of `Visit`s, one a move; `ladder.last` gives the end. Sample i draws from its own
seed. A density is a function x (n, …) -> (n,), a score x -> x's shape, both of each sample apart.
`langevin.langevin` is the same annealing for a Denoiser on any path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.process.level import Level, ve, wide
from unnoise.process.noise import Noise, seeded
from unnoise.sample.ladder import bounded, whole

Density = Callable[[Tensor], Tensor]
Score = Callable[[Tensor], Tensor]
CONVENTIONS = {"paper": 0.5, "code": 1.0}  # e of a step of 1
_GROWTH = 1e6  # a drift that has grown so many times over is one that every further move makes larger


class Visit(NamedTuple):
    """Where the chains are after a move: x (n, …); the share of each one's proposals accepted so far (n,), 1
    without rejection.
    """

    x: Tensor
    accepted: Tensor


def gradient(logp: Density) -> Score:
    """The score of a log density (or of minus an energy) by autograd: x (n, …) -> grad logp(x), in x's shape.

    It can be differentiated again where autograd is on and x, or a parameter of logp, asks for it. Errors, at
    the call: BadInput if logp does not give one number a sample or has no gradient in x.
    """

    def score(x: Tensor) -> Tensor:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            y = x if keep and x.requires_grad else x.detach().requires_grad_()
            value = _value(logp, y)
            g = (
                torch.autograd.grad(value.sum(), y, create_graph=keep, allow_unused=True)[0]
                if value.requires_grad
                else None
            )
        if g is None:
            raise BadInput(
                "the density has no gradient: log p must be computed from x by differentiable operations"
            )
        return g

    return score


def ascent(score: Score, x: Tensor, steps: int, step: float) -> Iterator[Visit]:
    """Gradient ascent x + step s(x), from x (n, …): the climb to a mode, without noise. `steps` calls.

    Errors: BadInput on options out of range now; while it runs, on a score that is not finite or of another
    shape, and on a step that diverges (step > 2 / the largest curvature).
    """
    _options(x, steps, step)
    return _chain(score, x, steps, step, lambda like: torch.zeros_like(like))


def ula(
    score: Score, x: Tensor, steps: int, step: float, noise: Noise | None = None, convention: str = "code"
) -> Iterator[Visit]:
    """Unadjusted Langevin: x + e s(x) + sqrt(2 e) z, from x (n, …) (Roberts & Tweedie 1996). `steps` calls.

    e = step ("code") or step / 2 ("paper"). noise None stands for noise.seeded(range(n), "mcmc"). Errors: as
    for `ascent`.
    """
    return _chain(
        score, x, steps, _options(x, steps, step, convention), noise or seeded(range(len(x)), "mcmc")
    )


def mala(
    logp: Density,
    x: Tensor,
    steps: int,
    step: float,
    noise: Noise | None = None,
    score: Score | None = None,
    convention: str = "code",
) -> Iterator[Visit]:
    """Metropolis-adjusted Langevin: ULA's move, accepted by min(1, p(y) q(x|y) / (p(x) q(y|x))) (Roberts &
    Tweedie 1996).

    q(y|x) = N(x + e s(x), 2 e I). Its stationary law is p whatever the step; about 0.574 accepted is the best
    step in many dimensions, with e ~ d^(-1/3) (Roberts & Rosenthal 1998). logp need not be normalised; -inf
    is a place without density. score None is `gradient(logp)`; a score that is no gradient of logp slows the
    chain and leaves its law right. steps + 1 calls. Errors: as for `ascent`, and BadInput on a start without
    density and on a log density that is NaN or +inf.
    """
    e = _options(x, steps, step, convention)
    return _adjusted(logp, score or gradient(logp), x, steps, e, noise or seeded(range(len(x)), "mcmc"))


def annealed(
    score: Callable[[Tensor, Level], Tensor],
    x: Tensor,
    sigmas: Sequence[float] | Tensor,
    noise: Noise | None = None,
    steps: int = 100,
    step: float = 2e-5,
    convention: str = "paper",
    denoise: bool = False,
) -> Iterator[Visit]:
    """Annealed Langevin dynamics: `steps` ULA moves at each noise level, of size step (sigma / sigmas[-1])^2
    (Song & Ermon 2019, alg. 1).

    score(x, level) is that of the data under noise of level.ve(sigma). The defaults are the paper's, whose
    code takes 2e-5 in the other convention: twice the size. denoise: at the end x + sigma^2 s, the estimate
    of the clean sample (Jolicoeur-Martineau et al. 2021), one more Visit. steps a level calls, and one to
    denoise. Errors: as for `ascent`, and BadInput unless sigmas fall.
    """
    values = torch.as_tensor(sigmas, dtype=torch.float64).flatten().tolist()
    if not values or not all(math.inf > a > b > 0 for a, b in zip(values, [*values[1:], values[-1] / 2])):
        raise BadInput(f"sigmas must be positive numbers, each below the last, given {values}")
    sizes = [_options(x, steps, step, convention) * (v / values[-1]) ** 2 for v in values]
    return _anneal(score, x, values, sizes, steps, noise or seeded(range(len(x)), "mcmc"), denoise)


def _anneal(
    score, x: Tensor, sigmas: list[float], sizes: list[float], steps: int, noise: Noise, denoise: bool
) -> Iterator[Visit]:
    for sigma, e in zip(sigmas, sizes):
        at = partial(_at, score, ve(sigma))
        for visit in _chain(at, x, steps, e, noise):
            yield visit
            x = visit.x
    if denoise:
        yield from _chain(
            partial(_at, score, ve(sigmas[-1])), x, 1, sigmas[-1] ** 2, lambda like: torch.zeros_like(like)
        )


def _at(score, level: Level, x: Tensor) -> Tensor:
    return score(x, level)


@torch.no_grad()  # holds while the generator runs, not in its consumer between two Visits
def _chain(score: Score, x: Tensor, steps: int, e: float, noise: Noise) -> Iterator[Visit]:
    all_in, first = torch.ones(len(x), device=x.device), None
    for k in range(1, steps + 1):
        drift = e * _checked(score, x, k)
        first = _steady(drift, e, k, first)
        x = x + drift + math.sqrt(2 * e) * noise(x)
        yield Visit(x, all_in)


@torch.no_grad()
def _adjusted(logp: Density, score: Score, x: Tensor, steps: int, e: float, noise: Noise) -> Iterator[Visit]:
    value = _value(logp, x)
    if not value.isfinite().all():
        raise BadInput(f"log p must be finite at the start, given {value[~value.isfinite()][0]:g}")
    s, taken = _checked(score, x, 0), torch.zeros(len(x), device=x.device)
    for k in range(1, steps + 1):
        y = x + e * s + math.sqrt(2 * e) * noise(x)
        there = _value(logp, y)
        if (there.isnan() | (there == math.inf)).any():
            raise BadInput(f"log p must be a number or -inf, given NaN or +inf at move {k}")
        back = _checked(
            score, torch.where(_column(there > -math.inf, x), y, x), k
        )  # a place without density has no score
        ratio = there - value + _log_q(x, y, back, e) - _log_q(y, x, s, e)
        yes = torch.special.log_ndtr(noise(value[:, None]))[:, 0] < ratio  # a normal's quantile is uniform
        x, s = (torch.where(_column(yes, x), new, old) for new, old in ((y, x), (back, s)))
        value, taken = torch.where(yes, there, value), taken + yes
        yield Visit(x, taken / k)


def _log_q(y: Tensor, x: Tensor, s: Tensor, e: float) -> Tensor:
    """log N(y; x + e s, 2 e I) up to its constant, (n,)."""
    return -(y - x - e * s).square().flatten(1).sum(1) / (4 * e)


def _column(flags: Tensor, x: Tensor) -> Tensor:
    return flags.reshape(-1, *[1] * (x.ndim - 1))


def _options(x: Tensor, steps: int, step: float, convention: str = "code") -> float:
    """e, once x, steps, step and convention are found to be usable."""
    if not isinstance(x, Tensor) or x.ndim < 2 or not x.is_floating_point():
        raise BadInput(
            "x must be a tensor of floating type (n, …), a batch axis first and one or more of its own"
        )
    whole("steps", steps, 1)
    if convention not in CONVENTIONS:
        raise unknown("step convention", convention, CONVENTIONS)
    if bounded("step", step, 0) in (0, math.inf):
        raise BadInput(f"step must be a positive number, given {step!r}")
    return step * CONVENTIONS[convention]


def _value(logp: Density, x: Tensor) -> Tensor:
    value = logp(x)
    if value.shape == (len(x),):
        return value
    raise BadInput(f"a log density gives one number a sample, ({len(x)},), given {tuple(value.shape)}")


def _checked(score: Score, x: Tensor, k: int) -> Tensor:
    s = score(x)
    if s.shape != x.shape:
        raise BadInput(f"the score of x {tuple(x.shape)} must have its shape, given {tuple(s.shape)}")
    if s.isfinite().all():
        return s
    raise BadInput(
        f"the score must be finite, given {s[~s.isfinite()][0]:g} at move {k}, where the largest |x| is"
        f" {x.abs().max():g}"
    )


def _steady(drift: Tensor, e: float, k: int, first: Tensor | None) -> Tensor:
    """Each sample's first drift and noise in length, (n,), against which it is seen that its drift explodes:
    BadInput.
    """
    length = wide(drift).flatten(1).norm(dim=1)
    if first is None:
        return length + math.sqrt(2 * e * drift[0].numel())
    growth = (length / first).max()
    if growth < _GROWTH:
        return first
    raise BadInput(
        f"the step is too large: at e = {e:g} the drift |e score| has grown {growth:.1g}-fold by move {k};"
        " give a smaller step"
    )
