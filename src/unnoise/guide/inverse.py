"""Linear inverse problems: y = A x0 + noise_y eps is seen, and E[x0 | x] becomes an estimate of E[x0 | x, y].

For p(x0 | x) near N(D, C) with D = E[x0 | x] and C = Cov[x0 | x] = (sigma^2 / alpha) dD/dx (Tweedie, second
order),
    E[x0 | x, y] = D + C A' u,    (A C A' + noise_y^2) u = y - A D,
which is D + (sigma^2 / alpha) grad_x log N(y; A D, A C A' + noise_y^2). The guides differ in what they take
for u:
    dps         zeta r / |r|, or 2 zeta r, where r = y - A D       (Chung et al. 2023): a step along -grad
                                                                   |r|, or -grad |r|^2
    pigdm       (v A A' + noise_y^2) u = r, v = s^2 V / (s^2 + V)  (Song et al. 2023): C of data of variance
                                                                   V, apart from the outer one
    covariance  (A C A' + noise_y^2) u = r, C the Jacobian's       (TMPD, Boys et al. 2023; MMPS, Rozet et al.
                                                                   2024): exact for Gaussian data
with s = sigma / alpha. All differentiate the denoiser once; `covariance` once more a row, an iteration or in
all, by its `how`.

An Operator is any function x0 (n, *shape) -> (n, *seen) that treats samples apart and that autograd can
differentiate twice: its transpose and, where it is not linear, its linearisation at the estimate come from
there. `seen(mask)` is the operator of inpainting. y is (n, *seen) or (1, *seen). At alpha = 0, where x says
nothing about x0, and at sigma = 0 nothing is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.denoiser.adapt import Denoiser
from unnoise.guide.scale import Scale, at, checked, number
from unnoise.process.level import Level, wide
from unnoise.process.posterior import weights

Operator = Callable[[Tensor], Tensor]
HOW = ("exact", "rows", "iterative")
_TINY = 1e-30
_FLOOR = 1e-4  # of s^2: the least posterior variance that is believed of a network


def seen(mask: Tensor) -> Operator:
    """The operator x0 (n, *shape) -> (n, m): the entries where `mask` (1, *shape, or what broadcasts to it)
    is 1 or True, row by row.
    """

    def entries(x0: Tensor) -> Tensor:
        return x0[:, (mask.to(x0.device) > 0).expand(1, *x0.shape[1:])[0]]

    return entries


def dps(
    denoise: Denoiser, operator: Operator, y: Tensor, zeta: Scale = 1.0, squared: bool = False
) -> Denoiser:
    """D - zeta (sigma^2 / alpha) grad_x |y - A D|, the norm each sample's own (Chung et al. 2023), or its
    square.

    zeta: a number, or a function of the level; `per_step(zeta, path)` counts as the paper does, by step of
    DDPM. Without the square a step has the same length however large the error, which is why no one zeta is
    right for the last steps. Not the posterior, also where all is Gaussian: `covariance` is. Errors: BadInput
    on a zeta that is not finite, and where y does not fit.
    """
    zeta = checked("zeta", zeta)

    def answer(p: _Problem) -> Tensor:
        if squared:
            return 2 * p.r
        return p.r / _inner(p.r, p.r).sqrt().clamp(min=_TINY)

    return _guided(denoise, operator, y, answer, zeta)


def pigdm(
    denoise: Denoiser,
    operator: Operator,
    y: Tensor,
    noise: float = 0.0,
    variance: float = 1.0,
    weight: Scale = 1.0,
    iterations: int = 10,
) -> Denoiser:
    """Pseudo-inverse guidance: p(x0 | x) taken as N(D, v), v = s^2 V / (s^2 + V), s = sigma / alpha (Song et
    al. 2023, eq. 6 to 8).

    noise: the standard deviation of y's noise. variance: V, of the data (1 in the paper). v is that of
    independent data of variance V; of correlated data it is too wide, and the outcome not the posterior.
    iterations: of conjugate gradients; for `seen` 1 is exact, since A A' = 1. weight: 1 is the formula.
    Errors: BadInput.
    """
    noise, variance, weight = (
        _at_least("noise", noise, 0),
        _at_least("variance", variance, _TINY),
        checked("weight", weight),
    )

    def answer(p: _Problem) -> Tensor:
        v = p.l.sigma**2 * variance / (p.l.sigma**2 + p.l.alpha**2 * variance)
        v = v if not v.ndim else _wide(v.reshape(-1), p.r)
        return conjugate(lambda u: v * p.forward(p.back(u)) + noise**2 * u, p.r, iterations)

    return _guided(denoise, operator, y, answer, weight)


def covariance(
    denoise: Denoiser,
    operator: Operator,
    y: Tensor,
    noise: float = 0.0,
    weight: Scale = 1.0,
    how: str = "exact",
    iterations: int = 3,
) -> Denoiser:
    """The Gaussian posterior with the covariance that the denoiser itself implies: exact where x0 given x is
    Gaussian.

    noise: the standard deviation of y's noise. how: "exact" builds A C A', one derivative of the denoiser for
    each number seen; "rows" takes the sums of its rows for its diagonal, one derivative in all (TMPD, Boys et
    al. 2023); "iterative" solves by `iterations` of conjugate gradients, one derivative each (MMPS, Rozet et
    al. 2024). weight: 1 is the formula. Errors: BadInput.
    """
    noise, weight = _at_least("noise", noise, 0), checked("weight", weight)
    if how not in HOW:
        raise unknown("way to the covariance", how, HOW)

    def answer(p: _Problem) -> Tensor:
        if how == "iterative":
            return conjugate(lambda u: p.forward(p.pull(u)) + noise**2 * u, p.r, iterations, noise**2)
        if how == "exact":
            return _solved(p, noise)
        s = p.l.sigma / p.l.alpha.clamp(min=_TINY)
        floor = _FLOOR * s**2 if not s.ndim else _wide(_FLOOR * s.reshape(-1) ** 2, p.r)
        return p.r / (torch.maximum(p.forward(p.pull(torch.ones_like(p.r))), floor.to(p.r)) + noise**2).clamp(
            min=_TINY
        )

    return _guided(denoise, operator, y, answer, weight)


def per_step(zeta: float, path: Sequence[Level]) -> Callable[[Level], Tensor]:
    """The weight at which one step of DDPM down `path` moves x by zeta times the gradient: the paper's way to
    count (alg. 1).

    zeta alpha / (sigma^2 c0), c0 the share of the estimate in q(x_b | x_a, x0); 0 at alpha = 0. Levels off
    the path count as their nearest.
    """
    zeta = number("zeta", zeta)
    steps = [
        (float(a.ratio), zeta * float(a.alpha / (a.sigma**2 * weights(a, b)[0])))
        for a, b in pairwise(path)
        if a.alpha > 0
    ]
    ratios, values = (torch.tensor(v, dtype=torch.float64) for v in zip(*steps))

    def weight(l: Level) -> Tensor:
        far = (l.ratio.double().cpu().reshape(-1, 1).log() - ratios.log()).abs()
        return torch.where(l.alpha.cpu().reshape(-1) > 0, values[far.argmin(1)], 0.0).reshape(l.alpha.shape)

    return weight


# --- the one formula ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    """At one x: r = y - A D (n, *seen), the level as it broadcasts against x, and the maps back: A' u,
    forward: A v, pull: C A' u.
    """

    r: Tensor
    l: Level
    back: Callable[[Tensor], Tensor]
    forward: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]


def _guided(
    denoise: Denoiser, operator: Operator, y: Tensor, answer: Callable[[_Problem], Tensor], weight: Scale
) -> Denoiser:
    """D + weight C A' u, u = answer(problem)."""
    y = torch.as_tensor(y)

    def guided(x: Tensor, l: Level) -> Tensor:
        w = at(weight, x, l)
        if (w == 0).all():
            return denoise(x, l)
        keep = torch.is_grad_enabled() and x.requires_grad  # a guide around this one differentiates it
        with torch.enable_grad():
            leaf = x if keep else x.detach().requires_grad_()
            x0 = denoise(leaf, l)
            p = _problem(operator, y, leaf, x0, l, keep)
            out = x0 + w * p.pull(answer(p))
        return out if keep else out.detach()

    return guided


def _problem(operator: Operator, y: Tensor, x: Tensor, x0: Tensor, l: Level, keep: bool) -> _Problem:
    own = l.like(x)
    factor = torch.where(own.alpha > 0, own.sigma**2 / torch.where(own.alpha > 0, own.alpha, 1.0), 0.0)
    guess = operator(x0)
    if y.shape[1:] != guess.shape[1:] or len(y) not in (1, len(guess)):
        raise BadInput(
            f"the operator gives {tuple(guess.shape)}, which what was seen, {tuple(y.shape)}, does not fit"
        )
    probe = torch.zeros_like(guess, requires_grad=True)
    transposed = _grad(guess, x0, probe, True)  # A' probe, linear in the probe: its derivative there is A

    def back(u: Tensor) -> Tensor:
        return _grad(guess, x0, u, keep)

    def forward(v: Tensor) -> Tensor:
        return _grad(transposed, probe, v, keep)

    def pull(u: Tensor) -> Tensor:
        return factor * _grad(guess, x, u, keep)

    r = y.to(guess) - guess
    return _Problem(r if keep else r.detach(), own, back, forward, pull)


def _grad(out: Tensor, of: Tensor, u: Tensor, graph: bool) -> Tensor:
    """u' d out / d of; 0 where out does not depend on it."""
    if not out.requires_grad:
        return torch.zeros_like(of)
    return torch.autograd.grad(
        out, of, u, retain_graph=True, create_graph=graph, allow_unused=True, materialize_grads=True
    )[0]


def _solved(p: _Problem, noise: float) -> Tensor:
    """u of the whole system: a row of A C A' for each number seen, made symmetric and positive in float64."""
    flat = p.r.flatten(1)
    basis = torch.eye(flat.shape[1], dtype=flat.dtype, device=flat.device)
    s = wide(
        torch.stack([p.forward(p.pull(e.expand_as(flat).reshape(p.r.shape))).flatten(1) for e in basis], 1)
    )
    value, vector = torch.linalg.eigh((s + s.mT) / 2)
    value = (value.clamp(min=0) + noise**2).clamp(min=_TINY).maximum(1e-9 * value[:, -1:])
    return (
        (vector @ ((vector.mT @ wide(flat)[..., None]) / value[..., None]))[..., 0]
        .to(flat)
        .reshape(p.r.shape)
    )


def conjugate(matrix: Callable[[Tensor], Tensor], b: Tensor, iterations: int, least: float = 0.0) -> Tensor:
    """u (n, …) with matrix(u) = b for a symmetric positive map that treats samples apart, by conjugate
    gradients, from u = 0.

    A sample whose residual is 0, or along which the map is not positive, stays where it is; along directions
    in which the map stretches by less than `least`, its smallest eigenvalue, which only a map that is not
    what it should be does, that is taken in its place.
    """
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise BadInput(f"iterations must be a whole number of at least 1, given {iterations!r}")
    over = lambda a, b: torch.where(b > _TINY, a / torch.where(b > _TINY, b, 1.0), 0.0)
    u, r, p, size = torch.zeros_like(b), b, b, _inner(b, b)
    top = size
    for _ in range(iterations):
        q = matrix(p)
        bent = _inner(p, q)
        step = torch.where(
            (size > 1e-12 * top) & (bent > 0), over(size, bent.maximum(least * _inner(p, p))), 0.0
        )
        u, r = u + step * p, r - step * q
        size, old = _inner(r, r), size
        p = r + over(size, old) * p
    return u


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Each sample's product <a, b>, as it broadcasts against a; summed in float64, so that it hardly depends
    on the batch.
    """
    return _wide((wide(a) * wide(b)).flatten(1).sum(1).to(a), a)


def _wide(c: Tensor, x: Tensor) -> Tensor:
    """One number a sample, (n,) or (1,), so that it broadcasts against x (n, …)."""
    return c.reshape(-1, *[1] * (x.ndim - 1))


def _at_least(name: str, given: float, low: float) -> float:
    value = number(name, given)
    if value < low or math.isnan(value):
        raise BadInput(f"{name} must be {'positive' if low else 'at least 0'}, given {given!r}")
    return value
