"""How strongly to guide: a finite number, or a function of the Level giving one number, or one a sample.

Conventions: for guidance between two denoisers 1 is off and 0 the unconditional one; for a gradient 0 is off.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.process.level import Level

Scale = float | Callable[[Level], Tensor | float]


def interval(scale: float, lo: float, hi: float, outside: float = 1.0) -> Callable[[Level], Tensor]:
    """`scale` where lo < sigma / alpha <= hi, `outside` elsewhere (Kynkäänniemi et al. 2024).

    `cfg` skips the unconditional call where the scale is 1. For the weight of a gradient guide, pass
    outside=0. hi may be inf. Errors: BadInput unless 0 <= lo < hi and both scales are finite.
    """
    inside, outside = number("scale", scale), number("scale outside the interval", outside)
    if not 0 <= lo < hi:
        raise BadInput(f"a guidance interval needs 0 <= lo < hi (in sigma / alpha), given {lo} and {hi}")
    return lambda l: torch.where((l.ratio > lo) & (l.ratio <= hi), inside, outside).to(l.sigma)


def number(name: str, given: float) -> float:
    """`given` as a finite float, or BadInput."""
    try:
        value = float(given)
    except (TypeError, ValueError, RuntimeError):
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{name} must be a finite number, given {given!r}")
    return value


def checked(name: str, scale: Scale) -> Scale:
    """`scale` itself if it is a function of the level, else as a finite float, or BadInput."""
    return scale if callable(scale) else number(name, scale)


def at(scale: Scale, x: Tensor, l: Level) -> Tensor:
    """The scale at a level, so that it broadcasts against x."""
    s = torch.as_tensor(scale(l) if callable(scale) else scale, dtype=x.dtype, device=x.device)
    if not s.isfinite().all():
        raise BadInput(f"guidance scale must be finite at every level, given {s.tolist()}")
    return s.reshape(s.shape + (1,) * (x.ndim - s.ndim)) if s.ndim else s
