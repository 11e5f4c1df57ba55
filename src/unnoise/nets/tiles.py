"""A convolutional network by overlapping tiles, as one function of the image: without seams, and without tones that shift.

A tile differs from its place in the whole image in two ways. Its cut sides are padded: what the padding reaches is thrown away
(as far as the overlap allows) and the rest blended linearly. Its group norms see the tile alone: here they take mean and variance
of the whole image, as measured in passes over all tiles before the last one. A pass finds the statistics of a norm exactly when
those of all norms before it were exact; so with as many passes as norms the result is the plain one, to rounding, and one or two
come close.
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

from unnoise.errors import BadInput


@dataclass(frozen=True)
class Axis:
    """One side of an image of `size` cells, cut into tiles that overlap; `reach`: how far in from a cut its padding shows."""

    size: int
    tile: int
    overlap: int
    reach: int

    @property
    def starts(self) -> list[int]:
        """Where the tiles begin. They are equally long, so that the last may overlap more."""
        if self.size <= self.tile: return [0]
        return [*range(0, self.size - self.tile, self.tile - self.overlap), self.size - self.tile]

    def span(self, start: int, unit: int) -> slice:
        """A tile's pixels, at `unit` pixels a cell."""
        return slice(start * unit, min(start + self.tile, self.size) * unit)

    def rise(self, start: int, unit: int) -> Tensor:
        """For each pixel of the side: 1 inside a tile, falling to 0 where another takes over, as far as `reach` from the cut."""
        margin = min(self.reach, max(self.overlap // 2 - 1, 0))  # two cells or more stay to blend over
        ramp = max(self.overlap - 2 * margin, 1e-6)
        p = (torch.arange(self.size * unit, dtype=torch.float64) + 0.5) / unit
        left, right = (p - start - margin) / ramp, (start + self.tile - margin - p) / ramp
        if start == 0: left = torch.ones_like(p)  # the image ends here: nothing was cut
        if start + self.tile >= self.size: right = torch.ones_like(p)
        return torch.minimum(left, right).clamp(0, 1)


@lru_cache(64)
def _shares(axis: Axis, unit: int) -> dict[int, Tensor]:
    """Each tile's share of each of its pixels, by where it starts; the shares of a pixel sum to 1."""
    rises = {s: axis.rise(s, unit) for s in axis.starts}
    total = sum(rises.values())
    return {s: (r / total)[axis.span(s, unit)].float() for s, r in rises.items()}


class Statistics(TorchFunctionMode):
    """Inside, the k-th group norm of a tile takes mean and variance from `known` (the tile's own where it is empty), and what the
    tile adds to those of the whole image is kept. It holds for one thread, and changes nothing in the network."""

    def __init__(self, axes: list[Axis], known: list[tuple[Tensor, Tensor]], collect: bool):
        super().__init__()
        self.axes, self.known, self.collect = axes, known, collect
        self.at: tuple[int, ...] = (0, 0)
        self.k = 0
        self.sums: list[tuple[Tensor, int, Tensor, Tensor]] = []  # of each norm: about what, pixels, sum, sum of squares

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (self._norm if func is F.group_norm else func)(*args, **(kwargs or {}))

    def _norm(self, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
        if self.collect: self._add(x, groups)
        k, self.k = self.k, self.k + 1
        if not self.known: return F.group_norm(x, groups, weight, bias, eps)
        mean, var = (v.repeat_interleave(x.shape[1] // groups, 1) for v in self.known[k])
        r = (var + eps).rsqrt() * weight
        return torch.addcmul((bias - mean * r).to(x.dtype)[..., None, None], x, r.to(x.dtype)[..., None, None])

    def _add(self, x: Tensor, groups: int) -> None:
        """Sums are about the first tile's mean: nothing cancels."""
        unit = x.shape[2] // min(self.axes[0].tile, self.axes[0].size)
        wy, wx = (_shares(a, unit)[s].to(x.device) for a, s in zip(self.axes, self.at))
        d = x.float().unflatten(1, (groups, -1))
        if len(self.sums) == self.k:
            about, zero = d.mean((2, 3, 4)), d.new_zeros(d.shape[:2], dtype=torch.float64)
            self.sums.append((about, unit**2 * math.prod(a.size for a in self.axes) * d.shape[2], zero, zero.clone()))
        about, _, first, second = self.sums[self.k]
        d = d - about[:, :, None, None, None]
        first += (d @ wx @ wy).double().sum(2)
        second += (d.square_() @ wx @ wy).double().sum(2)

    def whole(self) -> list[tuple[Tensor, Tensor]]:
        """(mean, variance) of each norm's groups over the whole image, (n, groups)."""
        return [((about + first / m).float(), (second / m - (first / m) ** 2).float()) for about, m, first, second in self.sums]


def tiled(run: Callable[[Tensor], Tensor], x: Tensor, units: tuple[int, int], tile: int, overlap: int, reach: int, passes: int) -> Tensor:
    """run(x) by tiles that overlap. units: pixels of a cell in x and in the result; tile, overlap, reach in cells.

    passes: how many times statistics are taken first; 0 normalises every tile by itself, as is usual. Each costs as much as the result.
    An image that is one tile is run as it is. BadInput for numbers that are no tiling.
    """
    check_tiling(tile, overlap, passes)
    axes = [Axis(s // units[0], tile, overlap, reach) for s in x.shape[2:]]
    places = list(product(*(a.starts for a in axes)))
    if len(places) == 1: return run(x)
    known, out = [], x
    for last in (*(False,) * passes, True):
        stats = Statistics(axes, known, collect=not last)
        for at in places:
            stats.at, stats.k = at, 0
            rows, columns = (a.span(s, units[0]) for a, s in zip(axes, at))
            with stats: y = run(x[:, :, rows, columns])
            if last: out = _lay(out if at != places[0] else None, y, axes, at, units[1])
        known = stats.whole()
    return out


def _lay(out: Tensor | None, y: Tensor, axes: list[Axis], at: tuple[int, ...], unit: int) -> Tensor:
    """Add a tile's share to the image (a new one for the first tile)."""
    if out is None: out = y.new_zeros(*y.shape[:2], *(a.size * unit for a in axes))
    rows, columns = (a.span(s, unit) for a, s in zip(axes, at))
    wy, wx = (_shares(a, unit)[s].to(y) for a, s in zip(axes, at))
    out[:, :, rows, columns].addcmul_(y, wy[:, None] * wx)
    return out


def check_tiling(tile: int, overlap: int, passes: int = 0) -> None:
    """BadInput for numbers that are no tiling."""
    for name, given, low, high in (("tile", tile, 1, None), ("overlap", overlap, 0, tile), ("passes", passes, 0, None)):
        if isinstance(given, bool) or not isinstance(given, int) or given < low or (high is not None and given >= high):
            limit = f"from {low}" if high is None else f"from {low} to below the tile's {high}"
            raise BadInput(f"{name} must be a whole number {limit}, given {given!r}")
