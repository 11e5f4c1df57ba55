"""Reverse-mode derivatives of tensors: every operation keeps, for each input, how a gradient goes back
through it.

For y = f(u, v) and a loss L, dL/du = (dL/dy)(dy/du). A Var holds its value and a pair (input, back) for each
input, with back(dL/dy) = dL/du. `grad` walks from the loss to the inputs, each Var after all that use it, and
adds up what arrives. Where broadcasting has read a number several times, its gradient is the sum over all the
readings: `unbroadcast`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lab.from_scratch.matmul import product
from lab.from_scratch.tensor import BadInput, Shape, Tensor, full, tensor

Back = Callable[[Tensor], Tensor]


class Var:
    """A value on the tape. `inputs`: (Var, back) pairs; a constant has none and is not `tracked`."""

    __slots__ = ("inputs", "tracked", "value")

    def __init__(self, value: Tensor, inputs: Sequence[tuple[Var, Back]] = (), tracked: bool = True):
        self.value, self.tracked = value, tracked
        self.inputs = [(v, back) for v, back in inputs if v.tracked]

    def __add__(self, other) -> Var:
        return add(self, lift(other))

    def __radd__(self, other) -> Var:
        return add(lift(other), self)

    def __sub__(self, other) -> Var:
        return add(self, -lift(other))

    def __rsub__(self, other) -> Var:
        return add(lift(other), -self)

    def __mul__(self, other) -> Var:
        return mul(self, lift(other))

    def __rmul__(self, other) -> Var:
        return mul(lift(other), self)

    def __truediv__(self, other) -> Var:
        return mul(self, lift(other) ** -1)

    def __rtruediv__(self, other) -> Var:
        return mul(lift(other), self**-1)

    def __neg__(self) -> Var:
        return self * -1.0

    def __matmul__(self, other) -> Var:
        return matmul(self, lift(other))

    def __pow__(self, n: float) -> Var:
        return elementwise(self, lambda v: v**n, lambda v, y: n * v ** (n - 1))

    def exp(self) -> Var:
        return elementwise(self, math.exp, lambda v, y: y)

    def log(self) -> Var:
        return elementwise(self, math.log, lambda v, y: 1 / v)

    def tanh(self) -> Var:
        return elementwise(self, math.tanh, lambda v, y: 1 - y * y)

    def relu(self) -> Var:
        return elementwise(self, lambda v: max(v, 0.0), lambda v, y: float(v > 0))

    def silu(self) -> Var:
        return elementwise(self, silu, silu_slope)

    def reshape(self, *shape: int) -> Var:
        """The same numbers under another shape."""
        return _result(self.value.reshape(*shape), [(self, lambda g: g.reshape(*self.value.shape))])

    def transpose(self, *axes: int) -> Var:
        """Axis i of the result is axis axes[i] of this one; without axes, the reverse order."""
        y = self.value.transpose(*axes)
        inverse = sorted(range(len(axes)), key=axes.__getitem__)
        return _result(y, [(self, lambda g: g.transpose(*inverse))])

    def sum(self, axis: int | None = None, keep: bool = False) -> Var:
        """The sum over one axis, or over all: every summand gets the gradient of the sum."""
        kept = self.value.sum(axis, keep=True).shape
        return _result(
            self.value.sum(axis, keep), [(self, lambda g: g.reshape(*kept).expand(self.value.shape))]
        )

    def mean(self) -> Var:
        """The mean of all elements, shape ()."""
        return self.sum() * (1 / len(self.value.data))


def silu(v: float) -> float:
    """v / (1 + exp(-v)), by a tanh, which never overflows."""
    return v * (0.5 + 0.5 * math.tanh(0.5 * v))


def silu_slope(v: float, y: float) -> float:
    """Its derivative s + y (1 - s), s = 1 / (1 + exp(-v))."""
    s = 0.5 + 0.5 * math.tanh(0.5 * v)
    return s + y * (1 - s)


def lift(x) -> Var:
    """A Var as it is; a Tensor, nested lists or a number as a constant."""
    return x if isinstance(x, Var) else Var(tensor(x), tracked=False)


def _result(value: Tensor, inputs: Sequence[tuple[Var, Back]]) -> Var:
    return Var(value, inputs, tracked=any(v.tracked for v, _ in inputs))


def elementwise(u: Var, f: Callable[[float], float], slope: Callable[[float, float], float]) -> Var:
    """f of every element; slope(u, f(u)) is its derivative."""
    y = u.value.map(f)
    return _result(y, [(u, lambda g: g * Tensor(map(slope, u.value.data, y.data), y.shape))])


def add(u: Var, v: Var) -> Var:
    """u + v: the gradient goes to both."""
    return _result(u.value + v.value, [(w, lambda g, w=w: unbroadcast(g, w.value.shape)) for w in (u, v)])


def mul(u: Var, v: Var) -> Var:
    """u v: the gradient goes to each times the other."""
    return _result(
        u.value * v.value,
        [
            (u, lambda g: unbroadcast(g * v.value, u.value.shape)),
            (v, lambda g: unbroadcast(g * u.value, v.value.shape)),
        ],
    )


def matmul(u: Var, v: Var) -> Var:
    """U V of two matrices: dL/dU = G Vᵀ, dL/dV = Uᵀ G."""
    return _result(
        product(u.value, v.value),
        [(u, lambda g: product(g, v.value.transpose())), (v, lambda g: product(u.value.transpose(), g))],
    )


def unbroadcast(g: Tensor, shape: Shape) -> Tensor:
    """The gradient of what was broadcast from `shape` to g's: summed over the axes that were read several
    times.
    """
    while len(g.shape) > len(shape):
        g = g.sum(0)
    for axis, n in enumerate(shape):
        if n == 1 != g.shape[axis]:
            g = g.sum(axis, keep=True)
    return g


def grad(y: Var, variables: Sequence[Var]) -> list[Tensor]:
    """dy/dv of each variable, in its shape; zeros where y does not depend on it. Errors: BadInput unless y is
    one number.
    """
    if len(y.value.data) != 1:
        raise BadInput(f"only one number has a gradient, given shape {y.value.shape}")
    grads = {y: full(y.value.shape, 1.0)}
    for node in reversed(in_order(y)):
        for v, back in node.inputs:
            g = back(grads[node])
            grads[v] = grads[v] + g if v in grads else g
    return [grads[v] if v in grads else full(v.value.shape, 0.0) for v in variables]


def in_order(y: Var) -> list[Var]:
    """All that y depends on and y, each after its own inputs. A stack instead of recursion: a tape may be
    long.
    """
    done: dict[Var, None] = {}
    stack = [(y, False)]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        if ready:
            done[node] = None
        else:
            stack += [(node, True), *((v, False) for v, _ in node.inputs)]
    return list(done)
