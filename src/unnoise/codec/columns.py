"""Rows of a table as vectors near unit scale.

    a number    its place among the quantiles of the training data, as a normal: Phi^-1(F(v)), cut at +-4
    a word      one entry a word, +1 for the one that stands there and -1 for the others, standardised

Back, a number is the quantile of its normal, and of the words the one with the largest entry is taken (by its
distance from -1 in units of its spread, so that rare words are not lost). A column with few different
numbers gives these alone: what was never seen there is no value of it.

As in TabDDPM (Kotelnikov et al. 2023) numbers are made normal by quantiles; words are not diffused apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.base.section import Section
from unnoise.codec.protocol import WithoutNetwork
from unnoise.media.table import Column, Table

QUANTILES, FEW, CUT = 1000, 30, 4.0  # numbers kept of a column; how few are all of them; the largest normal


@dataclass(frozen=True)
class Numbers:
    """A column of numbers. quantiles: of the training data, evenly spaced in probability; values: all that
    stand there where they are few, else none.
    """

    name: str
    quantiles: tuple[float, ...]
    values: tuple[float, ...] = ()
    width: ClassVar[int] = 1

    @classmethod
    def of(cls, name: str, v: np.ndarray) -> Numbers:
        """The column of these values (n,). BadInput: not finite, or all alike."""
        if not np.isfinite(v).all():
            raise BadInput(f"column {name!r} holds values that are not finite")
        seen = np.unique(v)
        if len(seen) < 2:
            raise BadInput(f"column {name!r} holds one value alone ({seen[0]:g}): it tells nothing")
        q = np.quantile(v, np.linspace(0, 1, min(QUANTILES, len(v))))
        return cls(name, tuple(q.tolist()), tuple(seen.tolist()) if len(seen) <= FEW else ())

    @property
    def column(self) -> Column:
        return Column(self.name)

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Different quantiles and the middle of the probabilities at which each stands."""
        q, p = np.array(self.quantiles), np.linspace(0, 1, len(self.quantiles))
        seen, first, count = np.unique(q, return_index=True, return_counts=True)
        return seen, (p[first] + p[first + count - 1]) / 2

    def encode(self, v: np.ndarray) -> np.ndarray:
        """(n,) -> (n, 1)."""
        seen, p = self._table
        u = torch.from_numpy(np.interp(v, seen, p)).clamp(1e-9, 1 - 1e-9)
        return torch.special.ndtri(u).clamp(-CUT, CUT).numpy()[:, None]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """(n, 1) -> (n,)."""
        seen, p = self._table
        u = torch.special.ndtr(torch.from_numpy(z[:, 0].clip(-CUT, CUT))).numpy()
        v = np.interp(u, p, seen)
        if not self.values:
            return v
        known = np.array(self.values)
        return known[np.abs(v[:, None] - known).argmin(1)]


@dataclass(frozen=True)
class Words:
    """A column of words; shares: how often each stands in the training data."""

    name: str
    words: tuple[str, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, name: str, v: np.ndarray, words: Sequence[str]) -> Words:
        """The column of these places (n,) in a list of words. BadInput: it has a word alone."""
        if len(words) < 2:
            raise BadInput(f"column {name!r} has {len(words)} words: at least 2 are expected")
        count = np.bincount(v.astype(int), minlength=len(words)) + 1.0  # none is impossible
        return cls(name, tuple(words), tuple((count / count.sum()).tolist()))

    @property
    def width(self) -> int:
        return len(self.words)

    @property
    def column(self) -> Column:
        return Column(self.name, self.words)

    @cached_property
    def _scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the entries."""
        p = np.array(self.shares)
        return 2 * p - 1, 2 * np.sqrt(p * (1 - p))

    def encode(self, v: np.ndarray) -> np.ndarray:
        """(n,) -> (n, words)."""
        mean, std = self._scale
        hot = np.where(np.arange(len(self.words)) == np.round(v)[:, None], 1.0, -1.0)
        return (hot - mean) / std

    def decode(self, z: np.ndarray) -> np.ndarray:
        """(n, words) -> (n,)."""
        mean, std = self._scale
        return (z * std + mean).argmax(1).astype(np.float64)


@dataclass(frozen=True)
class Columns(WithoutNetwork):
    """Tables of these columns: (n, columns) float64 to (n, entries) float32 and back."""

    columns: tuple[Numbers | Words, ...]
    kind: ClassVar[str] = "columns"
    free: ClassVar[bool] = False

    @classmethod
    def of(cls, table: np.ndarray, columns: Sequence[Column]) -> Columns:
        """The codec that fits a table. BadInput: a column tells nothing, or is not finite."""
        made = (
            Words.of(c.name, v, c.words) if c.words else Numbers.of(c.name, v)
            for c, v in zip(columns, table.T)
        )
        return cls(tuple(made))

    @property
    def medium(self) -> Table:
        return Table(tuple(c.column for c in self.columns))

    def shape(self, n: int, size: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """(n, entries). BadInput on a size: a row has none."""
        if size is not None:
            raise BadInput(f"a row of a table has no size, given {tuple(size)}")
        return n, sum(c.width for c in self.columns)

    def encode(self, table: np.ndarray) -> Tensor:
        """(n, columns) -> float32 (n, entries). BadInput on another number of columns."""
        if table.ndim != 2 or table.shape[1] != len(self.columns):
            raise BadInput(f"a table must be (n, {len(self.columns)}), given {table.shape}")
        parts = [c.encode(v) for c, v in zip(self.columns, table.T.astype(np.float64))]
        return torch.from_numpy(np.concatenate(parts, axis=1)).float()

    def decode(self, z: Tensor) -> np.ndarray:
        """(n, entries) -> float64 (n, columns). BadInput where values are not finite."""
        if not torch.isfinite(z).all():
            raise BadInput("cannot decode: the sample holds non-finite values")
        parts = np.split(z.detach().double().cpu().numpy(), self._ends[:-1], axis=1)
        return np.stack([c.decode(part) for c, part in zip(self.columns, parts)], axis=1)

    @property
    def _ends(self) -> np.ndarray:
        return np.cumsum([c.width for c in self.columns])

    def cells(self, mask: np.ndarray, x: Tensor) -> Tensor:
        """All entries of a column follow it: (1, entries), 1 where the mask (columns,) is above 0."""
        row = np.repeat(np.asarray(mask).reshape(-1) > 0, [c.width for c in self.columns])
        return torch.from_numpy(row.astype(np.float32))[None].to(x)

    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, "columns": [_told(c) for c in self.columns]}


def _told(c: Numbers | Words) -> dict[str, Any]:
    if isinstance(c, Words):
        return {"name": c.name, "words": list(c.words), "shares": list(c.shares)}
    told: dict[str, Any] = {"name": c.name, "quantiles": list(c.quantiles)}
    return told | ({"values": list(c.values)} if c.values else {})


# --- the file -----------------------------------------------------------------------------------------------

Name = Annotated[str, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(gt=0, lt=1)]


class ColumnFile(Section):
    """A column in codec/config.json: of numbers, by its quantiles, or of words, by their shares."""

    name: Name
    quantiles: list[float] = Field(default=[], max_length=10_000)
    values: list[float] = Field(default=[], max_length=FEW)
    words: list[Name] = Field(default=[], max_length=10_000)
    shares: list[Share] = Field(default=[], max_length=10_000)

    def column(self) -> Numbers | Words:
        """BadInput: quantiles that fall, a share that is missing, or neither of both."""
        q, words = self.quantiles, self.words
        if (len(q) > 1) == (len(words) > 1):
            raise BadInput(f"column {self.name!r} needs two or more quantiles, or two or more words")
        if len(words) != len(self.shares):
            raise BadInput(f"column {self.name!r} has {len(words)} words and {len(self.shares)} shares")
        if any(b < a for a, b in pairwise(q)) or (q and q[0] == q[-1]):
            raise BadInput(f"column {self.name!r} has quantiles that fall, or are one value")
        if words:
            return Words(self.name, tuple(words), tuple(self.shares))
        return Numbers(self.name, tuple(q), tuple(self.values))


class ColumnsFile(Section):
    """codec/config.json of a model of tables."""

    kind: Literal["columns"]
    columns: Annotated[list[ColumnFile], Field(min_length=1, max_length=10_000)]

    def codec(self) -> Columns:
        """BadInput: see `ColumnFile.column`, and where a name comes twice."""
        made = tuple(c.column() for c in self.columns)
        if len({c.name for c in made}) < len(made):
            raise BadInput(f"a column comes twice: {', '.join(c.name for c in made)}")
        return Columns(made)
