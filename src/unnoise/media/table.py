"""Tables: rows of named columns, numbers or words, in one CSV file that carries its record.

In Python a table is an array (n, columns) of float64, in which a word stands as its place in the column's
list. The record is the file's first line, a comment: `pandas.read_csv(path, comment="#")` passes over it.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from unnoise.base import read
from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import short

if TYPE_CHECKING:
    from PIL import Image

MARK = "# unnoise "  # what the line with the record begins with
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Column:
    """A column's name, and the words that stand in it; none for a column of numbers."""

    name: str
    words: tuple[str, ...] = ()

    def text(self, value: float) -> str:
        """How a value stands in a file: a number with the 6 digits that do not hang on rounding."""
        return self.words[round(value)] if self.words else f"{value:.6g}"

    def value(self, text: str, where: str) -> float:
        """The number that stands for it. BadInput, naming `where`: no number, or no word of the column."""
        if not self.words:
            try:
                return float(text)
            except ValueError:
                raise BadInput(f"{where}: column {self.name!r} holds numbers, given {text!r:.80}") from None
        if text not in self.words:
            raise unknown(f"word of column {self.name!r} in {where}", text, self.words)
        return float(self.words.index(text))


@dataclass(frozen=True)
class Table:
    """The medium of models of tables with these columns. Without any it reads records alone."""

    columns: tuple[Column, ...] = ()
    singular: str = "row"
    plural: str = "tables"
    suffixes: tuple[str, ...] = (".csv",)
    together: bool = True

    def read(self, given: Any, /) -> np.ndarray:
        """(n, columns) from a CSV file with these columns, in any order, or from such an array. BadInput."""
        if isinstance(given, np.ndarray):
            if given.ndim != 2 or given.shape[1] != len(self.columns):
                raise BadInput(f"a table must be (n, {len(self.columns)}), given {given.shape}")
            return given.astype(np.float64)
        lines = _lines(given)
        rows = [row for row in csv.reader(lines[bool(lines and lines[0].startswith(MARK)) :]) if row]
        if not rows:
            raise BadInput(f"{given} holds no table: a line with the names of its columns is expected")
        return self._values(rows[0], rows[1:], str(given))

    def _values(self, names: list[str], rows: list[list[str]], where: str) -> np.ndarray:
        for c in self.columns:
            if c.name not in names:
                raise BadInput(f"{where} has no column {c.name!r} (it has {short(', '.join(names))})")
        places = [(c, names.index(c.name)) for c in self.columns]
        odd = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
        if odd is not None:
            raise BadInput(f"{where}: row {odd + 1} has {len(rows[odd])} values, not {len(names)}")
        values = [[c.value(row[i], where) for c, i in places] for row in rows]
        return np.array(values, np.float64).reshape(len(rows), len(places))

    def to_bytes(self, samples: np.ndarray, record: str, /) -> bytes:
        """A CSV file: its record, the names of the columns, a line for each row of (n, columns)."""
        out = io.StringIO()
        out.write(f"{MARK}{record}\n")
        write = csv.writer(out, lineterminator="\n")
        write.writerow([c.name for c in self.columns])
        write.writerows([c.text(v) for c, v in zip(self.columns, row)] for row in samples)
        return out.getvalue().encode()

    def read_record(self, path: Any) -> dict[str, Any]:
        """What the first line of a CSV file tells. BadInput: no such file, or it tells nothing."""
        first = next(iter(_lines(path)), "")
        if not first.startswith(MARK):
            raise BadInput(f"{path} carries no unnoise recipe: its first line does not begin with {MARK!r}")
        return read.parse_object(first.removeprefix(MARK), f"the recipe in {path}", nul=True)

    def mask(self, given: Any, of: np.ndarray, /) -> np.ndarray:
        """1 for each cell of the table `of` that may change; given: an array of its shape, or the names of
        the columns that may. BadInput.
        """
        if isinstance(given, np.ndarray):
            if given.shape != of.shape:
                raise BadInput(f"the mask is of shape {given.shape}, the table of {of.shape}")
            return (given > 0).astype(np.float64)
        names = [c.name for c in self.columns]
        for name in given:
            if name not in names:
                raise unknown("column", name, names)
        return np.broadcast_to([float(n in given) for n in names], of.shape)

    def keep(self, of: np.ndarray, changed: np.ndarray, mask: np.ndarray, /) -> np.ndarray:
        """Whole cells: words have nothing in between."""
        return np.where(mask > 0, changed, of)

    def show(self, sample: np.ndarray, /) -> NoReturn:
        raise BadInput("a row has no picture: use result.sheet(), or result.arrays")

    def sheet(self, samples: np.ndarray, columns: int | None = None) -> Image.Image:
        """The first two columns of numbers against each other, coloured by the first of words: 256 x 256."""
        from PIL import Image

        from unnoise.base.colour import NAMED

        numbers = [i for i, c in enumerate(self.columns) if not c.words][:2]
        if len(numbers) < 2 or not len(samples):
            raise BadInput("a table's picture needs two columns of numbers, and rows")
        words = next((i for i, c in enumerate(self.columns) if c.words), None)
        kinds = samples[:, words].astype(int) if words is not None else np.zeros(len(samples), int)
        x, y = ((_unit(samples[:, i]) * 247).round().astype(int) + 4 for i in numbers)
        inks = np.array([NAMED[name] for name in ("blue", "orange", "green", "purple", "red")], np.uint8)
        canvas = np.full((256, 256, 3), 255, np.uint8)
        canvas[255 - y, x] = inks[kinds % len(inks)]
        return Image.fromarray(canvas)


def _unit(v: np.ndarray) -> np.ndarray:
    """Values from 0 to 1."""
    spread = v.max() - v.min()
    return (v - v.min()) / spread if spread > 0 else np.full_like(v, 0.5)


def _lines(path: Any) -> list[str]:
    """The lines of a text file. BadInput: see `base.read.text`."""
    return read.text(path, "table", MOST_BYTES).splitlines()


TABLE = Table()
