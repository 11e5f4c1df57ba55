"""How good drawn points and digits are. Each measure means something beside two others: of real data, and of
data whose columns are shuffled, which keep each number's distribution and lose all that ties them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import dist
from random import Random

from lab.from_scratch.data import Curve, Digits

Rows = Sequence[Sequence[float]]

BINS = 24


def off(curve: Curve, points: Rows) -> float:
    """The mean distance to the curve."""
    return sum(curve.project(p)[0] for p in points) / len(points)


def uneven(curve: Curve, points: Rows) -> float:
    """The share of the points that would have to move along the curve for each of its BINS equal parts to
    have as many.

    The total variation distance of their places from the uniform distribution: 0 even, 1 - 1 / BINS all in
    one part.
    """
    counts = [0] * BINS
    for p in points:
        counts[int(curve.project(p)[1] * BINS) % BINS] += 1
    return sum(max(1 / BINS - c / len(points), 0) for c in counts)


def energy(a: Rows, b: Rows) -> float:
    """The energy distance 2 E|a - b| - E|a - a'| - E|b - b'| (Székely & Rizzo 2013), estimated without bias,
    so about 0 at best.
    """
    return 2 * _between(a, b) - _within(a) - _within(b)


def _between(a: Rows, b: Rows) -> float:
    return sum(dist(p, q) for p in a for q in b) / (len(a) * len(b))


def _within(a: Rows) -> float:
    return 2 * sum(dist(p, q) for i, p in enumerate(a) for q in a[:i]) / (len(a) * (len(a) - 1))


def nearest(p: Sequence[float], rows: Rows) -> float:
    """The distance to the nearest row."""
    return min(dist(p, q) for q in rows)


def far(drawn: Rows, real: Rows) -> float:
    """The mean distance of a drawn digit to the nearest real one: large where what is drawn is no digit."""
    return sum(nearest(p, real) for p in drawn) / len(drawn)


def read_as(drawn: Digits, real: Digits) -> float:
    """The share of the drawn digits whose nearest real one has the label that was asked for."""
    read = [min(zip((dist(p, q) for q in real.pixels), real.labels))[1] for p in drawn.pixels]
    return sum(a == b for a, b in zip(read, drawn.labels)) / len(read)


def copied(drawn: Rows, learnt: Rows, held: Rows) -> float:
    """The share nearer to a digit learnt from than to any held out: 1/2 with equally many of both, 1 for
    copies.
    """
    return sum(nearest(p, learnt) < nearest(p, held) for p in drawn) / len(drawn)


def shuffled(rows: Rows, rng: Random) -> list[tuple[float, ...]]:
    """The rows with every column shuffled by itself: each number as common as before, nothing left of what
    goes with what.
    """
    columns = [list(column) for column in zip(*rows)]
    for column in columns:
        rng.shuffle(column)
    return list(zip(*columns))


def shuffled_digits(digits: Digits, rng: Random) -> Digits:
    """The digits with every pixel shuffled among those of one label."""
    out = Digits([], [])
    for label in sorted(set(digits.labels)):
        rows = [p for p, l in zip(digits.pixels, digits.labels) if l == label]
        out.pixels.extend(map(list, shuffled(rows, rng)))
        out.labels.extend([label] * len(rows))
    return out
