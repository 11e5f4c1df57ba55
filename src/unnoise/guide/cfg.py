"""Guidance by the difference of two denoisers: D = u + scale (c - u), scale 1 = off.

Linear in the estimates, so the same in every parameterisation. It is not sampling from p_u^(1-s) p_c^s: the
flow of the guided denoiser is narrower than that (tests hold the exact numbers for two Gaussians). A negative
prompt is `uncond` := the negative.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.denoiser.adapt import Denoiser
from unnoise.guide.scale import Scale, at, checked, number
from unnoise.guide.shaping import matched
from unnoise.process.level import Level


def cfg(cond: Denoiser, uncond: Denoiser, scale: Scale, rescale: float = 0.0) -> Denoiser:
    """Classifier-free guidance (Ho & Salimans 2022, with scale = 1 + their w): uncond + scale (cond -
    uncond).

    scale: a number or a function of the level (see `interval`). Where it is 1 only `cond` is called and its
    answer returned as it is; where it is 0 only `uncond`. rescale: phi of `shaping.matched`, 0 = off. Errors:
    BadInput on what is not finite.
    """
    return _mix(cond, uncond, lambda x, l: (cond(x, l), uncond(x, l)), scale, rescale)


def cfg_batched(
    bind: Callable[[Tensor], Denoiser], cond: Tensor, uncond: Tensor, scale: Scale, rescale: float = 0.0
) -> Denoiser:
    """`cfg` of bind(cond) and bind(uncond), with one call of the network on the doubled batch.

    bind(context (n, …)) -> a Denoiser of batches of n; cond and uncond are contexts of one shape. Where the
    scale is 1 or 0 the batch is not doubled.
    """
    both = bind(torch.cat([cond, uncond]))

    def pair(x: Tensor, l: Level) -> tuple[Tensor, Tensor]:
        twice = Level(*(torch.cat([v, v]) if v.ndim and len(v) > 1 else v for v in l))
        c, u = both(torch.cat([x, x]), twice).chunk(2)
        return c, u

    return _mix(bind(cond), bind(uncond), pair, scale, rescale)


def autoguide(good: Denoiser, bad: Denoiser, scale: Scale) -> Denoiser:
    """bad + scale (good - bad): away from what a worse model of the same kind gets wrong (Karras et al. 2024,
    autoguidance).

    `bad` should be a smaller or less trained version of `good` with the same conditioning, not one of another
    kind.
    """
    return cfg(good, bad, scale)


def _mix(
    cond: Denoiser,
    uncond: Denoiser,
    pair: Callable[[Tensor, Level], tuple[Tensor, Tensor]],
    scale: Scale,
    rescale: float,
) -> Denoiser:
    scale, phi = checked("guidance scale", scale), number("rescale", rescale)
    if not 0 <= phi <= 1:
        raise BadInput(f"rescale must lie in [0, 1], given {rescale}")

    def denoise(x: Tensor, l: Level) -> Tensor:
        s = at(scale, x, l)
        if (s == 1).all():
            return cond(x, l)
        if (s == 0).all():
            return uncond(x, l)
        c, u = pair(x, l)
        out = torch.where(s == 1, c, u + s * (c - u))
        return matched(out, c, phi) if phi else out

    return denoise
