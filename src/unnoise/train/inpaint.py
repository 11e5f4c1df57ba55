"""A denoiser that is shown its picture with a part taken away (GLIDE, Nichol et al. 2021; SD-inpaint):
`[data] masked = true`.

    net([x_t, m, (1 - m) x0], t) -> prediction of x0,    m (1, h, w): 1 where x0 is taken away, 0 where it is
                                                         shown

2 C + 1 channels go in, C come out; x0, of pixels or latents, is hidden cell by cell. With `train.start`
naming a model without the last C + 1 its first convolution is widened by zeros (GLIDE): training begins at
that model, which overlooks what it is shown. With the chance WHOLE all is taken away, and the network is what
it was; else rectangles, what lies around one (outpainting), or a stroke. Masks are a function of (seed,
position).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from unnoise.process import noise
from unnoise.train.recipe import Recipe

WHOLE = 0.15  # the chance that nothing is shown
AROUND, BOXES = (
    0.20,
    0.40,
)  # … that what lies around a rectangle is taken away; one or two rectangles; the rest: a stroke
DRAWS = 10  # uniforms that a mask takes


def condition(x0: Tensor, m: Tensor) -> Tensor:
    """What the network sees beside x_t: [m, (1 - m) x0], (n, 1 + c, h, w); m (n or 1, 1, h, w)."""
    m = m.to(x0).expand(len(x0), -1, -1, -1)
    return torch.cat([m, (1 - m) * x0], 1)


def drawn(recipe: Recipe, x0: Tensor, stream: str, positions: Iterable[int]) -> Tensor:
    """The condition of x0 (n, c, h, w) with the masks of these positions of a stream."""
    return condition(x0, masks(recipe.seed, stream, positions, *x0.shape[2:]))


def masks(seed: int, stream: str, positions: Iterable[int], h: int, w: int) -> Tensor:
    """(n, 1, h, w) of 0 and 1: mask i is a function of (seed, stream, positions[i])."""
    each = [mask(noise.uniform(seed, stream + "/mask", int(p), (DRAWS,)).numpy(), h, w) for p in positions]
    return torch.from_numpy(np.stack(each)[:, None].astype(np.float32))


def mask(u: np.ndarray, h: int, w: int) -> np.ndarray:
    """bool (h, w), never empty, made of DRAWS uniforms."""
    kind, u = u[0], u[1:]
    if kind < WHOLE:
        return np.ones((h, w), bool)
    first = _box(u[:4], h, w)
    if kind < WHOLE + AROUND:
        return ~first if not first.all() else first
    if kind < WHOLE + AROUND + BOXES:
        return first | _box(u[4:8], h, w) if u[8] < 0.3 else first
    return _stroke(u, h, w)


def _box(u: np.ndarray, h: int, w: int) -> np.ndarray:
    """A rectangle of any size that has at least one cell in the picture; it may hang over the edge."""
    (top, bottom), (left, right) = _span(h, *u[:2]), _span(w, *u[2:])
    y, x = np.mgrid[:h, :w]
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)


def _span(n: int, size: float, place: float) -> tuple[int, int]:
    """Where it begins and ends along a side of n cells."""
    length = 1 + int(size * n)
    start = int(place * (n + length - 1)) - length + 1
    return start, start + length


def _stroke(u: np.ndarray, h: int, w: int) -> np.ndarray:
    """The cells near the line through four points, half a cell to a sixth of the picture wide to either
    side.
    """
    points, cells = u[:8].reshape(4, 2) * [h, w], np.moveaxis(np.mgrid[:h, :w], 0, -1) + 0.5
    wide = max(
        0.71, (0.06 + 0.1 * u[8]) * min(h, w)
    )  # 0.71: half a cell's diagonal, so that a line leaves no gap
    near = np.zeros((h, w), bool)
    for a, b in pairwise(points):
        along = np.clip(((cells - a) @ (b - a)) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
        near |= ((cells - a - along[..., None] * (b - a)) ** 2).sum(-1) <= wide**2
    return near
