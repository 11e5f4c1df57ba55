"""Estimates that agree with what is known: inpainting by keeping it, or by showing it to the denoiser at each
level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.denoiser.adapt import Denoiser
from unnoise.process.level import Level, corrupt
from unnoise.process.noise import Noise


def keep(denoise: Denoiser, known: Tensor, mask: Tensor) -> Denoiser:
    """The estimate with `known` where the mask is 1 (or True): those values come out of any sampler exactly.

    mask: booleans, or numbers in [0, 1] that blend, mask known + (1 - mask) E[x0 | x]; it and `known`
    broadcast against the batch. `known` is clean data and may hold anything, nan too, where the mask is 0.
    The rest is not told of the known part other than through x: pair it with a path that goes back up
    (`sample.rewind`, RePaint) where they must fit together. Errors: BadInput if the mask leaves [0, 1] or the
    shapes do not fit.
    """
    known, mask = torch.as_tensor(known), torch.as_tensor(mask)
    try:
        torch.broadcast_shapes(known.shape, mask.shape)
    except RuntimeError as e:
        raise BadInput(f"mask {tuple(mask.shape)} does not fit the image {tuple(known.shape)}") from e
    if mask.dtype != torch.bool and not ((mask >= 0) & (mask <= 1)).all():
        raise BadInput(
            f"a mask must be booleans or numbers in [0, 1], given {mask.min():g} to {mask.max():g}"
        )
    known = torch.where(mask > 0, known, 0)

    def constrained(x: Tensor, l: Level) -> Tensor:
        x0, target = denoise(x, l), known.to(x)
        if mask.dtype == torch.bool:
            return torch.where(mask.to(x.device), target, x0)
        return torch.lerp(
            *torch.broadcast_tensors(x0, target), weight=mask.to(x)
        )  # exact at both ends, unlike a weighted sum

    return constrained


def replace(denoise: Denoiser, known: Tensor, mask: Tensor, noise: Noise) -> Denoiser:
    """`denoise` shown x with its known part (mask 1 or True) put in anew at every call: alpha known + sigma
    z, z of `noise`.

    Replacement (Song et al. 2021, app. I.2). The estimate has `known` there, so that it comes out exactly, as
    with `keep`; what is unknown sees the known part at its own level. This is not the posterior, however many
    steps are made: the unknown part is not drawn again once the known one has changed. Of two numbers with
    correlation .9, one seen at 1.5, the other comes out at .94 instead of 1.35 on average. On a path that
    goes back up, `sample.rewind(path, times, jump)`, it is RePaint (Lugmayr et al. 2022, alg. 1) and close.
    noise: fresh at every call, as both papers draw it; a function that gives the same normals each time is
    what diffusers does with models not made for inpainting. known: clean data, (1, …) or (n, …); mask, and
    errors, as for `keep`.
    """
    kept = keep(denoise, known, mask)

    def shown(x: Tensor, l: Level) -> Tensor:
        z = corrupt(known.to(x).expand_as(x), noise(x, l, l), l)
        return kept(
            (
                torch.where(mask.to(x.device) > 0, z, x)
                if mask.dtype == torch.bool
                else torch.lerp(x, z, mask.to(x).expand_as(x))
            ),
            l,
        )

    return shown
