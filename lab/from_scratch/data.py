"""What is learnt: points on a ring, points on two moons, and the 8x8 digits of digits8.csv.

A curve in the plane is given by `at`: place in [0, 1) -> point, and `project`: point -> (distance, place of
the nearest point). Its data are points at uniform places, moved by N(0, SPREAD²) along both axes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from lab.from_scratch.tensor import BadInput, Tensor

Point = tuple[float, float]

SPREAD = 0.08
SIDE = 8  # of a digit, whose pixels are 0 … 16
DIGITS = Path(__file__).parent / "digits8.csv"


class Curve(NamedTuple):
    """A curve in the plane: the point at a place in [0, 1), and the distance and place of a point's nearest
    on it.
    """

    at: Callable[[float], Point]
    project: Callable[[Point], tuple[float, float]]

    def points(self, n: int, rng: Random) -> list[Point]:
        """n points of its data."""
        places = [rng.random() for _ in range(n)]
        return [(x + rng.gauss(0, SPREAD), y + rng.gauss(0, SPREAD)) for x, y in map(self.at, places)]


def ring(u: float) -> Point:
    """The unit circle."""
    return math.cos(2 * math.pi * u), math.sin(2 * math.pi * u)


def to_ring(p: Point) -> tuple[float, float]:
    """The distance of p to the unit circle, and where on it."""
    return abs(math.hypot(*p) - 1), math.atan2(p[1], p[0]) / (2 * math.pi) % 1


# Half circles of radius 0.8: the upper one about (-0.4, -0.2), the lower one about (0.4, 0.2).
MOONS, RADIUS = ((-0.4, -0.2, 1), (0.4, 0.2, -1)), 0.8


def moons(u: float) -> Point:
    """The upper half circle for u below 1/2, the lower one from there."""
    x, y, sign = MOONS[u >= 0.5]
    angle = 2 * math.pi * u % math.pi
    return x + RADIUS * math.cos(angle), y + sign * RADIUS * math.sin(angle)


def to_moons(p: Point) -> tuple[float, float]:
    """The distance of p to the nearer half circle, and where on it."""
    return min(_to_moon(i, p[0] - x, sign * (p[1] - y)) for i, (x, y, sign) in enumerate(MOONS))


def _to_moon(i: int, x: float, y: float) -> tuple[float, float]:
    angle = (
        math.atan2(y, x) if y >= 0 else 0.0 if x > 0 else math.pi
    )  # below the half circle its nearer end counts
    distance = math.dist((x, y), (RADIUS * math.cos(angle), RADIUS * math.sin(angle)))
    return distance, (i + min(angle / math.pi, 1 - 1e-9)) / 2  # the very end would be the other one's start


CURVES = {"ring": Curve(ring, to_ring), "moons": Curve(moons, to_moons)}


class Digits(NamedTuple):
    """Rows of 64 numbers in [-1, 1], and their labels."""

    pixels: list[list[float]]
    labels: list[int]


def digits(file: Path = DIGITS) -> tuple[Digits, Digits]:
    """The digits to learn from and those held out: every other one of each label. Errors: BadInput with the
    line at fault.
    """
    halves, seen = (Digits([], []), Digits([], [])), [0] * 10
    for label, pixels in _rows(file):
        half = halves[seen[label] % 2]
        seen[label] += 1
        half.pixels.append([v / 8 - 1 for v in pixels])
        half.labels.append(label)
    if min(seen) < 2:
        raise BadInput(f"{file}: at least two of each digit are needed, given {seen}")
    return halves


def _rows(file: Path) -> list[tuple[int, list[int]]]:
    """(label, 64 pixels) of every line."""
    try:
        lines = list(csv.reader(file.read_text(encoding="ascii").splitlines()))
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{file} cannot be read: {e}") from e
    for i, line in enumerate(lines, 1):
        fits = (
            len(line) == 1 + SIDE * SIDE
            and all(v.isdigit() and int(v) <= 16 for v in line)
            and int(line[0]) <= 9
        )
        if not fits:
            raise BadInput(
                f"{file} line {i}: a label 0 … 9 and {SIDE * SIDE} whole numbers 0 … 16, given"
                f" {','.join(line)[:40]!r}"
            )
    return [(int(line[0]), [int(v) for v in line[1:]]) for line in lines]


def pick(digits: Digits, each: int) -> Digits:
    """The first `each` of every label, in the order 0 … 9, 0 … 9, …"""
    by = [[p for p, l in zip(digits.pixels, digits.labels) if l == label] for label in range(10)]
    if each > min(map(len, by)):
        raise BadInput(f"{each} of each digit are asked for, {min(map(len, by))} are there")
    return Digits([by[label][i] for i in range(each) for label in range(10)], [*range(10)] * each)


def hot(label: int) -> list[float]:
    """A label as ten numbers: 1 at its place."""
    return [float(i == label) for i in range(10)]


def points_of(curve: Curve) -> Callable:
    """A Draw of `diffusion.train`: fresh points at every step, of which nothing else is known."""

    def draw(n: int, rng: Random):
        return Tensor([v for p in curve.points(n, rng) for v in p], (n, 2)), [[]] * n

    return draw


def digits_of(digits: Digits) -> Callable:
    """A Draw of `diffusion.train`: digits picked at random, with their labels."""

    def draw(n: int, rng: Random):
        picked = [rng.randrange(len(digits.labels)) for _ in range(n)]
        return Tensor([v for i in picked for v in digits.pixels[i]], (n, SIDE * SIDE)), [
            hot(digits.labels[i]) for i in picked
        ]

    return draw
