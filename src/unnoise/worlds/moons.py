"""Two moons as a table: the place of a point, the moon it lies on, and in how many tenths of the way along.

    upper   (cos t, sin t)             t uniform in (0, pi), each coordinate with noise N(0, 0.1^2)
    lower   (1 - cos t, 1/2 - sin t)

Columns x and y (numbers), moon (words), tenth (0 … 9, a number of few values). What is true of a row can be
told from the row: the moon that its place is nearest to, and how far along it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from unnoise.base.errors import unknown
from unnoise.base.nearest import nearest
from unnoise.base.section import Section
from unnoise.codec.columns import Columns
from unnoise.data.draw import Draw
from unnoise.media.table import Column

MOONS = ("upper", "lower")
COLUMNS = (Column("x"), Column("y"), Column("moon", MOONS), Column("tenth"))
PURPOSE = {"train": 101, "test": 102}  # of the random streams
FITTED = 20_000  # rows that the codec is fitted to


class Options(Section):
    """noise: the standard deviation of a point about its moon. share: of the upper moon."""

    noise: float = Field(default=0.1, gt=0, le=1)
    share: float = Field(default=0.5, gt=0, lt=1)


class Row(NamedTuple):
    """A point, its moon's place in MOONS, and the tenth of the way along it."""

    x: float
    y: float
    moon: int
    tenth: int


def on(moon: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(n, 2) points of the moons at t in 0 … pi."""
    x, y = np.cos(t), np.sin(t)
    return np.where((moon == 0)[:, None], np.stack([x, y], 1), np.stack([1 - x, 0.5 - y], 1))


@dataclass(frozen=True)
class Moons:
    """A split of the two moons: see `worlds.World`."""

    Options: ClassVar[type[Section]] = Options
    splits: ClassVar[tuple[str, ...]] = tuple(PURPOSE)

    name: str
    split: str
    options: Options

    @classmethod
    def open(cls, name: str, split: str, options: Options) -> Moons:
        if split not in PURPOSE:
            raise unknown(f"split of {name}", split, PURPOSE)
        return cls(name, split, options)

    @property
    def licence(self) -> str:
        return "made here: CC0-1.0"

    @property
    def says_anew(self) -> bool:
        return False

    def other(self, split: str) -> Moons:
        return self.open(self.name, split, self.options)

    def digest(self, values: Mapping[str, Any]) -> str:
        told = [self.name, self.split, self.options.model_dump(), 1]  # the last: this file's revision
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def codec(self) -> Columns:
        return _codec(self.options.noise, self.options.share)

    def attributes(self, seed: int, index: int) -> Row:
        draw = Draw(seed, index, PURPOSE[self.split])
        moon = 0 if draw.chance(self.options.share) else 1
        u = draw.uniform()
        x, y = on(np.array([moon]), np.array([math.pi * u]))[0]
        r = self.options.noise * math.sqrt(-2 * math.log1p(-draw.uniform()))  # Box and Muller
        angle = draw.uniform(0, 2 * math.pi)
        return Row(x + r * math.cos(angle), y + r * math.sin(angle), moon, int(10 * u))

    def render(self, attributes: Row) -> np.ndarray:
        return np.array(attributes, np.float64)

    def caption(self, attributes: Row, seed: int, index: int) -> str:
        return ""

    def again(self, seed: int, index: int, visit: int) -> str:
        return ""

    def questions(self) -> dict[str, tuple[str, ...]]:
        return {"moon": MOONS, "tenth": tuple(map(str, range(10)))}

    def answers(self, attributes: Row) -> dict[str, str]:
        return {"moon": MOONS[attributes.moon], "tenth": str(attributes.tenth)}

    def judged(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What the places of rows (n, 4) alone say: the answers' numbers (n,), by question: the nearest
        moon, and the tenth along the moon that the row names.
        """
        t = np.linspace(0, math.pi, 2001)
        found = [nearest(rows[:, :2], on(np.full(len(t), moon), t)) for moon in range(len(MOONS))]
        far, along = (np.stack(values, 1) for values in zip(*found))
        moon = np.round(rows[:, 2]).astype(int)
        tenth = np.minimum(10 * along[np.arange(len(rows)), moon] // len(t), 9)
        return {"moon": far.argmin(1), "tenth": tenth.astype(int)}

    def held_out(self, attributes: Row) -> bool:
        return False

    def known(self) -> None:
        return None


@cache
def _codec(noise: float, share: float) -> Columns:
    """Fitted to the training split, once."""
    world = Moons("moons", "train", Options(noise=noise, share=share))
    rows = [world.render(world.attributes(0, i)) for i in range(FITTED)]
    return Columns.of(np.stack(rows), COLUMNS)
