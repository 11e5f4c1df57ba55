"""A tensor: a flat list of numbers and a shape, with numpy's rules of broadcasting.

Row-major: element (i, j, k) of shape (I, J, K) lies at i·JK + j·K + k, and (JK, K, 1) are the strides.
Broadcasting aligns two shapes at their last axes; an axis that one of them lacks, or has with length 1, is
read again and again: its stride is 0.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from math import prod

Shape = tuple[int, ...]


class BadInput(ValueError):
    """Something given cannot be used; the message is one line: what was given, what is accepted."""


class Tensor:
    """prod(shape) numbers in row-major order, never changed once made. Errors: BadInput where the count does
    not fit.
    """

    __slots__ = ("data", "shape")

    def __init__(self, data: Iterable[float], shape: Sequence[int]):
        self.data, self.shape = list(data), tuple(shape)
        if prod(self.shape) != len(self.data):
            raise BadInput(f"shape {self.shape} holds {prod(self.shape)} numbers, given {len(self.data)}")

    def __repr__(self) -> str:
        return f"Tensor({self.tolist()})"

    def __add__(self, other) -> Tensor:
        return zipped(operator.add, self, other)

    def __radd__(self, other) -> Tensor:
        return zipped(operator.add, other, self)

    def __sub__(self, other) -> Tensor:
        return zipped(operator.sub, self, other)

    def __rsub__(self, other) -> Tensor:
        return zipped(operator.sub, other, self)

    def __mul__(self, other) -> Tensor:
        return zipped(operator.mul, self, other)

    def __rmul__(self, other) -> Tensor:
        return zipped(operator.mul, other, self)

    def __truediv__(self, other) -> Tensor:
        return zipped(operator.truediv, self, other)

    def __rtruediv__(self, other) -> Tensor:
        return zipped(operator.truediv, other, self)

    def __pow__(self, other) -> Tensor:
        return zipped(operator.pow, self, other)

    def __neg__(self) -> Tensor:
        return self.map(operator.neg)

    def map(self, f: Callable[[float], float]) -> Tensor:
        """f of every element."""
        return Tensor(map(f, self.data), self.shape)

    def reshape(self, *shape: int) -> Tensor:
        """The same numbers in the same order under another shape."""
        return Tensor(self.data, shape)

    def transpose(self, *axes: int) -> Tensor:
        """Axis i of the result is axis axes[i] of this one; without axes, the reverse order."""
        axes = axes or tuple(reversed(range(len(self.shape))))
        if sorted(axes) != list(range(len(self.shape))):
            raise BadInput(f"axes {axes} of shape {self.shape}: name each of 0 … {len(self.shape) - 1} once")
        steps = strides(self.shape)
        return self.read([self.shape[i] for i in axes], [steps[i] for i in axes])

    def expand(self, shape: Shape) -> Tensor:
        """Broadcast to `shape`. Errors: BadInput where that is not one of the shapes it broadcasts to."""
        if self.shape == shape:
            return self
        if broadcast(self.shape, shape) != shape:
            raise BadInput(f"shape {self.shape} does not broadcast to {shape}")
        steps = [0 if n == 1 else s for n, s in zip(self.shape, strides(self.shape))]
        return self.read(shape, [0] * (len(shape) - len(steps)) + steps)

    def read(self, shape: Sequence[int], steps: Sequence[int]) -> Tensor:
        """The numbers that lie at these strides."""
        data = self.data
        return Tensor([data[i] for i in places(shape, steps)], shape)

    def sum(self, axis: int | None = None, keep: bool = False) -> Tensor:
        """The sum over one axis, which is dropped or kept with length 1; over all of them for None."""
        if axis is None:
            return Tensor([sum(self.data)], (1,) * len(self.shape) if keep else ())
        if not -len(self.shape) <= axis < len(self.shape):
            raise BadInput(f"axis {axis} of shape {self.shape}")
        axis %= len(self.shape)
        before, (n, *after) = self.shape[:axis], self.shape[axis:]
        inner = prod(after)
        blocks = (self.data[i * n * inner : (i + 1) * n * inner] for i in range(prod(before)))
        return Tensor(
            [sum(block[j::inner]) for block in blocks for j in range(inner)], (*before, *[1] * keep, *after)
        )

    def rows(self) -> list[list[float]]:
        """The rows of a matrix. Errors: BadInput on any other number of axes."""
        if len(self.shape) != 2:
            raise BadInput(f"a matrix has two axes, given shape {self.shape}")
        n, m = self.shape
        return [self.data[i * m : (i + 1) * m] for i in range(n)]

    def tolist(self):
        """Nested lists; a number for shape ()."""
        nested = self.data
        for n, rest in reversed([(n, prod(self.shape[:i])) for i, n in enumerate(self.shape)]):
            nested = [nested[i * n : (i + 1) * n] for i in range(rest)]
        return nested[0]


def tensor(nested) -> Tensor:
    """The Tensor of nested lists of numbers. Errors: BadInput where the lists of one depth differ in length,
    or hold anything else.
    """
    if isinstance(nested, Tensor):
        return nested
    if isinstance(nested, int | float):
        return Tensor([nested], ())
    if not isinstance(nested, list | tuple):
        raise BadInput(f"a tensor holds numbers, in lists or tuples, given {nested!r:.40}")
    parts = [tensor(part) for part in nested]
    shapes = sorted({part.shape for part in parts}) or [()]
    if len(shapes) > 1:
        raise BadInput(f"lists at one depth must have one shape, given {shapes[0]} and {shapes[1]}")
    return Tensor([v for part in parts for v in part.data], (len(parts), *shapes[0]))


def full(shape: Shape, value: float) -> Tensor:
    """The same number everywhere."""
    return Tensor([value] * prod(shape), shape)


def strides(shape: Sequence[int]) -> list[int]:
    """How far apart neighbours along each axis lie in the flat list."""
    return [prod(shape[i + 1 :]) for i in range(len(shape))]


def places(shape: Sequence[int], steps: Sequence[int]) -> list[int]:
    """Where each element of `shape` lies, in row-major order, when its axes have these strides."""
    out = [0]
    for n, step in zip(shape, steps):
        out = [start + i * step for start in out for i in range(n)]
    return out


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of a + b. Errors: BadInput where an axis has two lengths and neither is 1."""
    n = max(len(a), len(b))
    pairs = list(zip((1,) * (n - len(a)) + a, (1,) * (n - len(b)) + b))
    for i, (p, q) in enumerate(pairs):
        if p != q and 1 not in (p, q):
            raise BadInput(
                f"shapes {a} and {b} do not broadcast: axis {i - n} has {p} and {q}; they must be equal, or"
                " one of them 1"
            )
    return tuple(q if p == 1 else p for p, q in pairs)


def zipped(f: Callable[[float, float], float], a: Tensor | float, b: Tensor | float) -> Tensor:
    """f of two tensors or numbers, element by element, after broadcasting; NotImplemented for anything else,
    as operators say it.
    """
    if not (isinstance(a, Tensor | int | float) and isinstance(b, Tensor | int | float)):
        return NotImplemented
    a, b = tensor(a), tensor(b)
    shape = broadcast(a.shape, b.shape)
    return Tensor(map(f, a.expand(shape).data, b.expand(shape).data), shape)
