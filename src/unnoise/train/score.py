"""Score matching: objectives whose minimiser over functions s is grad log p, each a number a sample, (n,), to
be averaged.

    explicit    1/2 |s - grad log p|^2                        where the true score is known       (Hyvärinen
    2005, eq. 2)
    implicit    tr(ds/dx) + 1/2 |s|^2                         = explicit - const                  (Hyvärinen
    2005, eq. 4)
    sliced      v' (ds/dx) v + 1/2 (v's)^2                    v random projections                (Song et al.
    2019, eq. 7)
    sliced_vr   v' (ds/dx) v + 1/2 |s|^2                      the same mean, less variance        (Song et al.
    2019, eq. 8)
    denoising   1/2 |s(x + sigma eps) + eps / sigma|^2        s of p under noise sigma            (Vincent
    2011, eq. 9)
    ncsn        1/2 |sigma s(x + sigma eps, sigma) + eps|^2   at each sample's own level          (Song &
    Ermon 2019, eq. 5 and 6)

The const of `implicit` is E 1/2 |grad log p|^2: it holds for densities that fall to 0 at infinity, and on
discrete or compact data (pixels without dequantisation) the objective has no lower bound. x is (n, …),
vectors or images; sums are over a sample's entries and never divided by their number. A score is a function
of the batch that treats each sample apart (no batch norm), x -> x's shape. What is returned can be
differentiated in the score's parameters where autograd is on.

Projections say how they are distributed, since losses differ by it: E[v v'] is I for "rademacher" and
"gaussian", I / d for "sphere". By "sphere" the sliced loss is 1 / d of the implicit one; the others need I,
and refuse it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.process.level import Level, spread, ve
from unnoise.process.noise import Noise
from unnoise.sample.ladder import whole

Score = Callable[[Tensor], Tensor]


class Projections(NamedTuple):
    """Random directions v (m, n, …), m for each of n samples, and the name of their distribution, one of
    PROJECTIONS.
    """

    kind: str
    v: Tensor


PROJECTIONS: dict[str, Callable[[Tensor], Tensor]] = {  # from unit normals (n, …)
    "rademacher": lambda z: torch.where(z < 0, -1.0, 1.0).to(z),
    "gaussian": lambda z: z,
    "sphere": lambda z: z / spread(z.flatten(1).norm(dim=1), z),
}


def project(kind: str, like: Tensor, noise: Noise, count: int = 1) -> Projections:
    """`count` projections for each sample of `like` (n, …), made from as many draws of `noise`.

    kind: "rademacher" (each entry 1 or -1; the least variance for the trace), "gaussian" (N(0, I)) or
    "sphere" (of length 1). Errors: BadInput on another kind and on count < 1.
    """
    if kind not in PROJECTIONS:
        raise unknown("distribution of projections", kind, PROJECTIONS)
    return Projections(
        kind, torch.stack([PROJECTIONS[kind](noise(like)) for _ in range(whole("count", count, 1))])
    )


def explicit(score: Score, x: Tensor, truth: Score) -> Tensor:
    """1/2 |s(x) - grad log p(x)|^2, (n,), where the score of the data, `truth`, is known (Hyvärinen 2005, eq.
    2).
    """
    return _half(_same(score(x), x) - _same(truth(x), x))


def implicit(score: Score, x: Tensor, v: Projections | None = None) -> Tensor:
    """tr(ds/dx) + 1/2 |s|^2, (n,) (Hyvärinen 2005, eq. 4): exact, with a backward pass for each entry, or by
    Hutchinson's trace.

    With projections v it is `sliced_vr`. Errors: BadInput as for `divergence`.
    """
    s, trace = divergence(score, x, v)
    return trace + _half(s)


def sliced(score: Score, x: Tensor, v: Projections) -> Tensor:
    """v' (ds/dx) v + 1/2 (v's)^2, (n,), the mean over the projections (Song et al. 2019, eq. 7). One backward
    pass each.

    Errors: BadInput as for `divergence`, except that "sphere" is accepted, for 1 / d of the loss.
    """
    s, quadratic = _quadratic(score, x, v)
    return (quadratic + (v.v * s).flatten(2).sum(2) ** 2 / 2).mean(0)


def sliced_vr(score: Score, x: Tensor, v: Projections) -> Tensor:
    """v' (ds/dx) v + 1/2 |s|^2, (n,), the mean over the projections (Song et al. 2019, eq. 8). One backward
    pass each.

    Errors: BadInput as for `divergence`; "sphere" is refused.
    """
    return implicit(score, x, v)


def denoising(score: Score, x: Tensor, sigma: float | Tensor, eps: Tensor) -> Tensor:
    """1/2 |s(x + sigma eps) + eps / sigma|^2, (n,), for clean x and unit normal eps of its shape (Vincent
    2011, eq. 9).

    The minimiser is the score of p * N(0, sigma^2), not of p; its variance grows as 1 / sigma^2. sigma: a
    number, or one a sample. Errors: BadInput on shapes and unless sigma is positive.
    """
    sigma = spread(_positive(sigma, x), x)
    return _half(_same(score(x + sigma * _same(eps, x)), x) + eps / sigma)


def ncsn(score: Callable[[Tensor, Level], Tensor], x: Tensor, sigma: float | Tensor, eps: Tensor) -> Tensor:
    """sigma^2 `denoising` at each sample's own level, (n,): 1/2 |sigma s + eps|^2, alike at every level (Song
    & Ermon 2019, eq. 6).

    score(x, level) gets level.ve(sigma), one a sample or one for all; the mean over random indices into
    `levels()` is their loss. The score of a denoiser is process.posterior.score(denoise). Errors: as for
    `denoising`.
    """
    flat = _positive(sigma, x)
    wide = spread(flat, x)
    s = score(x + wide * _same(eps, x), ve(flat))
    return _half(wide * _same(s, x) + eps)


def levels(high: float = 1.0, low: float = 0.01, count: int = 10) -> Tensor:
    """NCSN's noise levels: `count` sigmas, geometric from high down to low, (count,) float64 (Song & Ermon
    2019, sec. 5).
    """
    if not 0 < low < high < math.inf:
        raise BadInput(f"levels need 0 < low < high, given {low} and {high}")
    return torch.logspace(math.log10(high), math.log10(low), whole("count", count, 2), dtype=torch.float64)


def divergence(f: Score, x: Tensor, v: Projections | None = None) -> tuple[Tensor, Tensor]:
    """(f(x), tr(df/dx) (n,)): the trace exact, or the mean of v' (df/dx) v over projections (Hutchinson
    1989).

    A backward pass for each entry of a sample, or for each projection. Where autograd is off nothing is kept
    for a later one. Errors: BadInput on projections from the sphere, on shapes, and where f cannot be
    differentiated in x.
    """
    if v is None:
        out, pull = _jacobian(f, x)
        basis = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
        return out, torch.stack([(pull(e) * e).flatten(1).sum(1) for e in basis]).sum(0)
    if v.kind == "sphere":
        raise BadInput(
            "a trace needs projections with E[v v'] = I, rademacher or gaussian: on the sphere it is I / d, "
            "which would shrink the trace d-fold and leave |s|^2 as it is"
        )
    out, quadratic = _quadratic(f, x, v)
    return out, quadratic.mean(0)


def _quadratic(f: Score, x: Tensor, v: Projections) -> tuple[Tensor, Tensor]:
    """(f(x), v' (df/dx) v (m, n)) for projections v (m, n, …)."""
    if v.v.shape[1:] != x.shape:
        raise BadInput(f"projections for x {tuple(x.shape)} must be (m, n, …), given {tuple(v.v.shape)}")
    out, pull = _jacobian(f, x)
    return out, torch.stack([(pull(u) * u).flatten(1).sum(1) for u in v.v])


def _jacobian(f: Score, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """f(x), and u (n, … or 1, …) -> u' df/dx of each sample, in x's shape."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        y = x if keep and x.requires_grad else x.detach().requires_grad_()
        out = _same(f(y), x)

    def pull(u: Tensor) -> Tensor:
        grads = (
            [None]
            if not out.requires_grad
            else torch.autograd.grad(
                out, y, u.expand_as(out), create_graph=keep, retain_graph=True, allow_unused=True
            )
        )
        if grads[0] is None:
            raise BadInput("the function cannot be differentiated in x: compute it from x, with autograd on")
        return grads[0]

    return (out if keep else out.detach()), pull


def _half(e: Tensor) -> Tensor:
    return e.square().flatten(1).sum(1) / 2


def _positive(sigma: float | Tensor, x: Tensor) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=torch.float64)
    if sigma.shape not in ((), (len(x),)) or not ((sigma > 0) & sigma.isfinite()).all():
        raise BadInput(
            f"sigma must be positive, one number or one a sample ({len(x)}), given {sigma.tolist()}"
        )
    return sigma


def _same(out: Tensor, x: Tensor) -> Tensor:
    if out.shape != x.shape:
        raise BadInput(
            f"scores and noise must have the shape of x, {tuple(x.shape)}, given {tuple(out.shape)}"
        )
    return out
