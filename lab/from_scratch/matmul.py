"""The matrix product in stages: out[i, j] = Σ_k a[i, k] b[k, j], with one loop less each time.

`loops` is the definition; `dots` leaves the loop over k to `sum` and `map`; `broadcasting` multiplies a
column by all of b at once and loops over the rows alone; `einsum` has no loop of its own: axes are letters,
and those missing on the right are summed. In lists each stage is the same n·m·k multiplications; what pays is
how many of Python's steps go into one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from operator import mul

from lab.from_scratch.tensor import BadInput, Tensor, strides


def sizes(a: Tensor, b: Tensor) -> tuple[int, int, int]:
    """n, k, m of an (n, k) and a (k, m) matrix. Errors: BadInput on other shapes."""
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
        raise BadInput(f"a matrix product takes (n, k) and (k, m), given {a.shape} and {b.shape}")
    return (*a.shape, b.shape[1])


def loops(a: Tensor, b: Tensor) -> Tensor:
    """Three loops over places in flat lists."""
    n, k, m = sizes(a, b)
    out = [0.0] * (n * m)
    for i in range(n):
        for j in range(m):
            for l in range(k):
                out[i * m + j] += a.data[i * k + l] * b.data[l * m + j]
    return Tensor(out, (n, m))


def dots(a: Tensor, b: Tensor) -> Tensor:
    """Rows of a times columns of b."""
    n, _, m = sizes(a, b)
    columns = [b.data[j::m] for j in range(m)]
    return Tensor([sum(map(mul, row, column)) for row in a.rows() for column in columns], (n, m))


def broadcasting(a: Tensor, b: Tensor) -> Tensor:
    """For each row of a: as a column (k, 1) it multiplies all of b (k, m); the sum over k is a row of the
    product.
    """
    n, k, m = sizes(a, b)
    return Tensor([v for row in a.rows() for v in (Tensor(row, (k, 1)) * b).sum(0).data], (n, m))


def einsum(formula: str, a: Tensor, b: Tensor) -> Tensor:
    """Einstein's notation for two tensors, "ik,kj->ij": each letter an axis, those missing on the right
    summed over.

    A letter that an operand lacks has stride 0 in it; one that it has twice, the sum of both strides: its
    diagonal. Errors: BadInput on a formula that is not of that form, or a letter with two lengths.
    """
    left, right, out = _letters(formula, a, b)
    lengths = _lengths(zip(left + right, a.shape + b.shape))
    if any(c not in lengths for c in out) or len(set(out)) < len(out):
        raise BadInput(f"einsum {formula!r}: right of -> stand letters from the left, each once")
    order = [*out, *(c for c in lengths if c not in out)]
    shape = [lengths[c] for c in order]
    read = lambda t, letters: t.read(
        shape, [sum(s for l, s in zip(letters, strides(t.shape)) if l == c) for c in order]
    )
    products, n = list(map(mul, read(a, left).data, read(b, right).data)), prod(shape[len(out) :])
    return Tensor(
        [sum(products[i * n : (i + 1) * n]) for i in range(prod(shape[: len(out)]))], shape[: len(out)]
    )


def _letters(formula: str, a: Tensor, b: Tensor) -> tuple[str, str, str]:
    left, comma, rest = formula.replace(" ", "").partition(",")
    right, arrow, out = rest.partition("->")
    if not (comma and arrow and (left + right + out).isalpha()) or (len(left), len(right)) != (
        len(a.shape),
        len(b.shape),
    ):
        raise BadInput(
            f"einsum takes letters such as 'ik,kj->ij', one an axis, given {formula!r} for {a.shape} and"
            f" {b.shape}"
        )
    return left, right, out


def _lengths(pairs) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for c, n in pairs:
        if lengths.setdefault(c, n) != n:
            raise BadInput(f"einsum: axis {c!r} has lengths {lengths[c]} and {n}")
    return lengths


product = dots  # the fastest of them in lists: what the layers above call

STAGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "three loops": loops,
    "row times column": dots,
    "broadcasting": broadcasting,
    "einsum": lambda a, b: einsum("ik,kj->ij", a, b),
}
