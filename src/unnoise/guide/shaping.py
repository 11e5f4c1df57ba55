"""Corrections of an estimate's range. They are not linear, so the space matters: it is x0 here.

One setting then means the same for an eps, v or flow network and at every level, and the limits are those of
the data. Lin et al. rescale what their network outputs, v; `rescale(…, kind=predict.v)` is that.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.denoiser.adapt import Denoiser
from unnoise.guide.scale import number
from unnoise.process import predict
from unnoise.process.level import Level


def matched(out: Tensor, ref: Tensor, phi: float) -> Tensor:
    """phi (out std(ref) / std(out)) + (1 - phi) out, with each sample's own std over all its other axes.

    Samples without any spread are returned as they are.
    """
    a, b = _std(out), _std(ref)
    ratio = torch.where(a > 0, b / torch.where(a > 0, a, 1.0), 1.0)
    return out * (phi * ratio + (1 - phi))


def _std(x: Tensor) -> Tensor:
    # Sample by sample: a reduction over a batch rounds differently with its size, and image i must not depend
    # on the others.
    return torch.stack([v.std() for v in x]).reshape(-1, *[1] * (x.ndim - 1))


def rescale(guided: Denoiser, cond: Denoiser, phi: float = 0.7, kind: predict.Kind = predict.x0) -> Denoiser:
    """`guided` with each sample's standard deviation drawn back to that of `cond` (Lin et al. 2024, section
    3.4).

    phi 0 is off (and calls `guided` alone), 1 equal deviations. Calls `cond` once more; `cfg(…, rescale=phi)`
    is the same for kind x0 without that call. Errors: BadInput unless phi lies in [0, 1].
    """
    phi = number("phi", phi)
    if not 0 <= phi <= 1:
        raise BadInput(f"phi must lie in [0, 1], given {phi}")
    if phi == 0:
        return guided

    def denoise(x: Tensor, l: Level) -> Tensor:
        g, c = guided(x, l), cond(x, l)
        if kind is predict.x0:
            return matched(g, c, phi)
        own = l.like(x)
        out = [predict.target(kind, e, (x - own.alpha * e) / own.sigma, own) for e in (g, c)]
        return predict.solve_x0(kind, x, matched(*out, phi=phi), own)

    return denoise


def threshold(denoise: Denoiser, q: float = 0.995, bound: float = 1.0) -> Denoiser:
    """Dynamic thresholding (Saharia et al. 2022, Imagen, section 2.3), for pixels, per sample.

    s is the q-quantile of |x0| (the nearest value) but at least `bound`; x0 is clipped to [-s, s] and scaled
    to [-bound, bound]. Errors: BadInput unless 0 < q <= 1 and bound > 0.
    """
    q, bound = number("quantile", q), number("bound", bound)
    if not 0 < q <= 1:
        raise BadInput(f"the quantile must lie in (0, 1], given {q}")
    if not bound > 0:
        raise BadInput(f"the bound must be positive, given {bound}")

    def limited(x: Tensor, l: Level) -> Tensor:
        x0 = denoise(x, l)
        size = x0.abs().flatten(1)
        rank = 1 + math.floor(q * (size.shape[1] - 1) + 0.5)
        s = size.kthvalue(rank, 1).values.clamp(min=bound).reshape(-1, *[1] * (x0.ndim - 1))
        return torch.minimum(torch.maximum(x0, -s), s) * (bound / s)

    return limited


def clip(denoise: Denoiser, lo: float = -1.0, hi: float = 1.0) -> Denoiser:
    """Static thresholding: the estimate clipped to [lo, hi]. Errors: BadInput unless lo < hi."""
    lo, hi = number("lower limit", lo), number("upper limit", hi)
    if not lo < hi:
        raise BadInput(f"the limits must be in order, given {lo} and {hi}")
    return lambda x, l: denoise(x, l).clamp(lo, hi)
