"""Estimates that agree with what is known: inpainting."""
from __future__ import annotations

import torch
from torch import Tensor

from unnoise.denoiser.adapt import Denoiser
from unnoise.errors import BadInput
from unnoise.process.level import Level


def keep(denoise: Denoiser, known: Tensor, mask: Tensor) -> Denoiser:
    """The estimate with `known` where the mask is 1 (or True): those values come out of any sampler exactly.

    mask: booleans, or numbers in [0, 1] that blend, mask known + (1 - mask) E[x0 | x]; it and `known` broadcast against the
    batch. `known` is clean data and may hold anything, nan too, where the mask is 0. The rest is not told of the known part
    other than through x: pair it with a path that goes back up (`sample.rewind`, RePaint) where they must fit together.
    Errors: BadInput if the mask leaves [0, 1] or the shapes do not fit.
    """
    known, mask = torch.as_tensor(known), torch.as_tensor(mask)
    try: torch.broadcast_shapes(known.shape, mask.shape)
    except RuntimeError as e: raise BadInput(f"mask {tuple(mask.shape)} does not fit the image {tuple(known.shape)}") from e
    if mask.dtype != torch.bool and not ((mask >= 0) & (mask <= 1)).all():
        raise BadInput(f"a mask must be booleans or numbers in [0, 1], given {mask.min():g} to {mask.max():g}")
    known = torch.where(mask > 0, known, 0)

    def constrained(x: Tensor, l: Level) -> Tensor:
        x0, target = denoise(x, l), known.to(x)
        if mask.dtype == torch.bool: return torch.where(mask.to(x.device), target, x0)
        return torch.lerp(*torch.broadcast_tensors(x0, target), weight=mask.to(x))  # exact at both ends, unlike a weighted sum

    return constrained
