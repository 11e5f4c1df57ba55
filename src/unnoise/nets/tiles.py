"""A convolutional network by overlapping tiles: the same result as for the whole image, to rounding.

A tile differs from its place in the whole image in two ways. Its cut sides are padded: what the padding can
reach is thrown away as far as the overlap allows, the rest blended linearly. Its group norms see the tile
alone: here they take mean and variance of the whole image. All tiles run up to the first norm to measure
those, then up to the second, and so on: with k norms and layers that cost alike, about k / 2 + 1 times the
work, so networks are best cut into short stretches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unnoise.base.errors import BadInput


@dataclass(frozen=True)
class Axis:
    """One side of an image of `size` cells, cut into tiles that overlap; `reach`: how far in from a cut its
    padding shows.
    """

    size: int
    tile: int
    overlap: int
    reach: int

    @classmethod
    def of(cls, size: int, tile: int, overlap: int, reach: int) -> Axis:
        """As few tiles as there can be of this length, and then as short as there can be of this number."""
        count = max(-(-(size - overlap) // (tile - overlap)), 1)
        return cls(size, -(-(size + (count - 1) * overlap) // count), overlap, reach)

    @property
    def starts(self) -> list[int]:
        """Where the tiles begin. They are equally long, so that the last may overlap more."""
        last = self.size - self.tile
        return [*range(0, last, self.tile - self.overlap), last] if last else [0]

    def span(self, start: int, unit: int) -> slice:
        """A tile's pixels, at `unit` pixels a cell."""
        return slice(start * unit, (start + self.tile) * unit)

    def rise(self, start: int, unit: int) -> Tensor:
        """For each pixel of the side: 1 inside a tile, falling to 0 where another takes over, as far as
        `reach` from the cut.
        """
        margin = min(self.reach, max(self.overlap // 2 - 1, 0))  # two cells or more stay to blend over
        ramp = max(self.overlap - 2 * margin, 1e-6)
        p = (torch.arange(self.size * unit, dtype=torch.float64) + 0.5) / unit
        left, right = (p - start - margin) / ramp, (start + self.tile - margin - p) / ramp
        if start == 0:
            left = torch.ones_like(p)  # the image ends here: nothing was cut
        if start + self.tile >= self.size:
            right = torch.ones_like(p)
        return torch.minimum(left, right).clamp(0, 1)


@lru_cache(64)
def _shares(axis: Axis, unit: int) -> dict[int, Tensor]:
    """Each tile's share of each of its pixels, by where it starts; the shares of a pixel sum to 1."""
    rises = {s: axis.rise(s, unit) for s in axis.starts}
    total = sum(rises.values())
    return {s: (r / total)[axis.span(s, unit)].float() for s, r in rises.items()}


class _Stop(Exception):
    """A tile has come as far as statistics are known."""


class Statistics(TorchFunctionMode):
    """Inside, the k-th group norm of a tile takes mean and variance from known[k]; at the first that is not
    known, what the tile adds to the whole image's is kept, and the tile stops. It holds for one thread, and
    changes nothing in the network.
    """

    def __init__(self, axes: list[Axis], known: list[tuple[Tensor, Tensor]]):
        super().__init__()
        self.axes, self.known, self.k = axes, known, 0
        self.at: tuple[int, ...] = ()
        self.pixels, self.about, self.sums = 0, torch.empty(0), []

    def run(self, work: Callable[[Tensor], Tensor], x: Tensor, at: tuple[int, ...]) -> Tensor | None:
        """work(x) for the tile x that starts at `at`, None where it stopped."""
        self.at, self.k = at, 0
        try:
            with self:
                return work(x)
        except _Stop:
            return None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (self._norm if func is F.group_norm else func)(*args, **(kwargs or {}))

    def _norm(self, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
        if self.k == len(self.known):
            self._add(x.float().unflatten(1, (groups, -1)))
            raise _Stop
        mean, var = (v.repeat_interleave(x.shape[1] // groups, 1) for v in self.known[self.k])
        self.k += 1
        r = (var + eps).rsqrt() * weight
        return torch.addcmul(
            (bias - mean * r).to(x.dtype)[..., None, None], x, r.to(x.dtype)[..., None, None]
        )

    def _add(self, x: Tensor) -> None:
        """x (n, groups, channels, h, w). Sums are about the first tile's mean: nothing cancels."""
        unit = x.shape[-1] // self.axes[1].tile
        wy, wx = (_shares(a, unit)[s].to(x.device) for a, s in zip(self.axes, self.at))
        if not self.sums:
            self.about = x.mean((2, 3, 4), keepdim=True)
        self.pixels = x.shape[2] * unit**2 * math.prod(a.size for a in self.axes)
        d = x - self.about
        first = (d @ wx @ wy).double().sum(2)
        self.sums.append(torch.stack([first, (d.square_() @ wx @ wy).double().sum(2)]))

    def whole(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of the whole image at the norm where all tiles stopped, (n, groups)."""
        first, second = sum(self.sums[1:], self.sums[0]) / self.pixels
        return self.about.flatten(1) + first.float(), (second - first**2).float()


def tiled(
    work: Callable[[Tensor], Tensor],
    x: Tensor,
    units: tuple[int, int],
    tile: int,
    overlap: int,
    reach: int,
    exact: bool = True,
) -> Tensor:
    """work(x) by tiles of `tile` cells a side that overlap by `overlap` at most, less where `reach` needs
    less.

    units: pixels of a cell in x and in the result. Once more over all tiles for each group norm, as far as
    that norm, measures its statistics; where not `exact` every tile is normalised by itself instead. An image
    that is one tile is worked on as it is.
    """
    check_tiling(tile, overlap)
    axes = [Axis.of(s // units[0], tile, min(overlap, 2 * reach + 2), reach) for s in x.shape[2:]]
    places = list(product(*(a.starts for a in axes)))
    if len(places) == 1:
        return work(x)
    known, out = [], None
    while out is None:
        stats = Statistics(axes, known)
        for at in places:
            rows, columns = (a.span(s, units[0]) for a, s in zip(axes, at))
            part = x[:, :, rows, columns]
            y = stats.run(work, part, at) if exact else work(part)
            if y is not None:
                out = _lay(out, y, axes, at, units[1])
        if out is None:
            known.append(stats.whole())
    return out


def _lay(out: Tensor | None, y: Tensor, axes: list[Axis], at: tuple[int, ...], unit: int) -> Tensor:
    """Add a tile's share to the image (a new one for the first tile)."""
    if out is None:
        out = y.new_zeros(*y.shape[:2], *(a.size * unit for a in axes))
    rows, columns = (a.span(s, unit) for a, s in zip(axes, at))
    wy, wx = (_shares(a, unit)[s].to(y) for a, s in zip(axes, at))
    out[:, :, rows, columns].addcmul_(y, wy[:, None] * wx)
    return out


def check_tiling(tile: int, overlap: int) -> None:
    """BadInput for numbers that are no tiling."""
    for given in (tile, overlap):
        if isinstance(given, bool) or not isinstance(given, int):
            raise BadInput(f"tile and overlap must be whole numbers, given {given!r}")
    if not 0 <= overlap < tile:
        raise BadInput(
            f"a tile must be at least 1 and overlap by less than itself, given tile {tile}, overlap {overlap}"
        )
