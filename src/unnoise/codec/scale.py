"""Pictures at another scale: box averages down, bicubic up, and what ties the two.

    A        the mean of every f x f block: what a small picture is of a large one
    A^+      every pixel repeated f x f; A A^+ = 1
    x + A^+ (y - A x)   the nearest picture to x whose means are y (back-projection): the part that y does not
                        tell is x's own

Tensors (n, c, h, w), any float type, differentiable. `exact` does the last in whole numbers: its means round
to y, to the byte.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base.errors import BadInput


def down(x: Tensor, f: int) -> Tensor:
    """A x: (n, c, h / f, w / f). BadInput where f does not divide the sides."""
    if x.shape[-2] % f or x.shape[-1] % f:
        raise BadInput(f"a picture of {tuple(x.shape[-2:])} cannot be averaged by {f} x {f}")
    return F.avg_pool2d(x, f)


def repeated(y: Tensor, f: int) -> Tensor:
    """A^+ y: (n, c, f h, f w)."""
    return y.repeat_interleave(f, -2).repeat_interleave(f, -1)


def up(y: Tensor, f: int) -> Tensor:
    """Bicubic (Keys 1981, a = -3/4, as torch has it): (n, c, f h, f w). At f = 1 the same."""
    return y if f == 1 else F.interpolate(y, scale_factor=f, mode="bicubic", align_corners=False)


def consistent(x: Tensor, y: Tensor, f: int) -> Tensor:
    """Back-projection: x + A^+ (y - A x), whose averages are y."""
    return x + repeated(y - down(x, f), f)


def exact(x: np.ndarray, y: np.ndarray, rounds: int = 50) -> np.ndarray:
    """uint8 (f h, f w, c) near x (f h, f w, c, floats in 0 … 255) whose f x f blocks have exactly the means y
    (uint8 (h, w, c)).

    Alternately the means are restored and the values held to 0 … 255; what is left goes to the pixels with
    the largest fractions.
    """
    (h, w, c), f = y.shape, x.shape[0] // y.shape[0]
    if x.shape != (f * h, f * w, c):
        raise BadInput(f"a picture of {x.shape} is no multiple of {y.shape}")
    b = (
        x.astype(np.float64).reshape(h, f, w, f, c).transpose(0, 2, 4, 1, 3).reshape(h * w * c, f * f)
    )  # one row a block
    want = y.astype(np.float64).reshape(-1, 1)
    for _ in range(rounds):
        b = (b + want - b.mean(1, keepdims=True)).clip(0, 255)
        if abs(b.mean(1, keepdims=True) - want).max() < 1e-9:
            break
    b = _to_sum(b, (y.reshape(-1).astype(np.int64) * f * f))
    return b.reshape(h, w, c, f, f).transpose(0, 3, 1, 4, 2).reshape(f * h, f * w, c)


def _to_sum(b: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Rows of b rounded to uint8 so that each sums to its total (0 … 255 times its length)."""
    low = np.floor(b + 1e-9).clip(0, 255).astype(np.int64)
    order = np.argsort(-(b - low), axis=1, kind="stable")
    while (left := total - low.sum(1)).any():
        rank = np.argsort(order, axis=1, kind="stable")  # 0 for the largest fraction
        step = np.sign(left)[:, None] * (
            np.where(left[:, None] > 0, rank, rank[:, ::-1]) < abs(left)[:, None]
        )
        low = (low + step).clip(0, 255)
        order = np.roll(order, 1, axis=1)  # where black or white was met, another pixel takes the rest
    return low.astype(np.uint8)


# --- what an upscaling network is shown beside x ------------------------------------------------------------

NOTHING = 1.0  # in the place of the noise: there is no small picture
# by which the network's difference from a raised picture is enlarged: of emoji it is .1, and networks work
# near 1
GAIN = 8.0


def gain(condition: Tensor) -> Tensor:
    """(n, 1, 1, 1): GAIN where a small picture is shown, 1 where none is and the network makes the picture
    itself.
    """
    return torch.where(condition[:, -1:, :1, :1] == NOTHING, 1.0, GAIN)


def shown(small: Tensor, f: int, sigma: Tensor, patch: int = 1) -> Tensor:
    """(n, c p^2 + 1, h, w): the small picture (n, c, …) raised by f and folded by patch p, and a plane with
    the noise sigma (n,) that it bears.
    """
    big = F.pixel_unshuffle(up(small, f), patch)
    plane = sigma.to(big).reshape(-1, 1, 1, 1).expand(len(big), 1, *big.shape[2:])
    return torch.cat([big, plane], dim=1)


def hidden(condition: Tensor, which: Tensor) -> Tensor:
    """The same, with nothing shown where `which` (n,) is true: zeros, and NOTHING for their noise."""
    nothing = torch.zeros_like(condition)
    nothing[:, -1] = NOTHING
    return torch.where(which.to(condition.device).reshape(-1, 1, 1, 1), nothing, condition)
