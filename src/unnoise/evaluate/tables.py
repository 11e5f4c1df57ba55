"""Models of tables, beside real rows of the world that they learnt.

columns    of numbers: Wasserstein's distance of the drawn values to real ones, in standard deviations;
           of words: half the sum of differences of their shares (total variation)
1-nn       how often the nearest other row, among drawn and real ones, is of the same kind (Lopez-Paz and
           Oquab 2017): 1/2 where they cannot be told apart, 1 where they always can
copies     how often a drawn row is nearer to a training row than to one of as many held-out rows: 1/2 where
           nothing was learnt by heart, 1 where all was
truth      how often a row is true: what the world can tell of a row from its other columns

floor, ceiling: the same of real rows in the place of the drawn ones.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unnoise.base.errors import BadInput, unknown
from unnoise.base.nearest import nearest
from unnoise.codec import Codec
from unnoise.evaluate.exam import Order, Report, columns, share
from unnoise.evaluate.kept import Drawer, Generator
from unnoise.media.table import Column, Table
from unnoise.worlds import WORLDS, open_world


class TableExam:
    """columns, nearest_neighbour, copies, truth; floor and ceiling of the same."""

    usual: ClassVar[int] = 2000
    least: ClassVar[int] = 10
    unit: ClassVar[str] = "rows"
    several: ClassVar[bool] = False
    comparable: ClassVar[bool] = False

    def __init__(self, pipe: Any, order: Order, draw: Drawer):
        if order.judge is not None or order.inception:
            raise BadInput("tables are judged by their world, not by a judge's network")
        self.pipe, self.n, self.draw = pipe, order.n, draw
        guidance = order.guidances[0] if order.guidances else None
        self.request = draw.request("", guidance, num_images=order.n)
        self.world = _world(order.data or pipe.name, pipe.codec)
        held = self.world.other("test")
        self.train = _rows(self.world, order.n)
        self.test, self.other = _rows(held, order.n), _rows(held, order.n, order.n)

    @staticmethod
    def suits(pipe: Generator) -> bool:
        """Whatever makes tables."""
        codec = getattr(pipe, "codec", None)
        return codec is not None and isinstance(codec.medium, Table)

    @staticmethod
    def count(order: Order) -> int:
        return order.n

    def report(self) -> Report:
        drawn = self.draw.looked_at(self.request, {"world": self.world.name}, lambda rows: rows)
        return {
            "model": {"name": self.pipe.name, "sha256": self.pipe.sha256},
            "n": self.n,
            "settings": drawn.settings,
            "nfe": drawn.nfe,
            **self._measured(np.concatenate(drawn.each)),
            "floor": {"of": "real held-out rows", **self._measured(self.other)},
            "work": str(drawn.folder),
        }

    def _measured(self, rows: np.ndarray) -> Report:
        """All numbers of some rows, against the real ones of the test split."""
        codec, test, names = self.pipe.codec, self.test, self.pipe.codec.medium.columns
        a, b, train = (codec.encode(r).double().numpy() for r in (rows, test, self.train))
        truth = self.world.judged(rows)
        places = {c.name: i for i, c in enumerate(names)}
        return {
            "columns": {c.name: _apart(v, w, c) for c, v, w in zip(names, rows.T, test.T)},
            "nearest_neighbour": share(_same_kind(a, b)),
            "copies": share(nearest(a, train)[0] < nearest(a, b)[0]),
            "truth": {q: share(said == np.round(rows[:, places[q]])) for q, said in truth.items()},
        }

    @staticmethod
    def table(report: Report) -> str:
        """A report as lines for people."""
        floor, rows = report["floor"], [("", "drawn", "real")]
        rows += [
            (f"{name}, {v['of']}", f"{v['value']:.4f}", f"{floor['columns'][name]['value']:.4f}")
            for name, v in report["columns"].items()
        ]
        named = {
            "1-nn, nearest row is of its kind": "nearest_neighbour",
            "nearer to a training row": "copies",
        }
        rows += [(k, f"{report[v]['value']:.3f}", f"{floor[v]['value']:.3f}") for k, v in named.items()]
        rows += [
            (f"{q} is true", f"{v['value']:.3f}", f"{floor['truth'][q]['value']:.3f}")
            for q, v in report["truth"].items()
        ]
        head = f"{report['model']['name']}: {report['n']} rows, {report['nfe']} network calls each"
        return "\n".join([head, "", *columns(rows)])


def _world(name: str, codec: Codec) -> Any:
    """The training split of the world that a model learnt. BadInput: none of that name, or of other
    columns.
    """
    tables = [k for k, w in WORLDS.items() if hasattr(w, "judged")]
    if name not in tables:
        raise unknown("world of tables", name, tables)
    world: Any = open_world(name)
    theirs, its = (c.medium.columns for c in (codec, world.codec()))  # type: ignore[attr-defined]
    if theirs != its:
        raise BadInput(
            f"world {name!r} has columns {', '.join(c.name for c in its)}, the model makes"
            f" {', '.join(c.name for c in theirs)}"
        )
    return world


def _rows(world: Any, n: int, start: int = 0) -> np.ndarray:
    """n rows of the stream 0, from `start` on."""
    return np.stack([world.render(world.attributes(0, i)) for i in range(start, start + n)])


def _apart(drawn: np.ndarray, real: np.ndarray, column: Column) -> dict[str, Any]:
    """{of, value}: how far the values of one column lie apart."""
    if not column.words:
        grid = np.linspace(0, 1, 1001)
        far = np.abs(np.quantile(drawn, grid) - np.quantile(real, grid)).mean()
        return {"of": "distance / std", "value": float(far / real.std())}
    n = len(column.words)
    shares = [np.bincount(np.round(v).astype(int), minlength=n) / len(v) for v in (drawn, real)]
    return {"of": "total variation", "value": float(np.abs(shares[0] - shares[1]).sum() / 2)}


def _same_kind(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether the nearest other row of each of both is one of its own kind."""
    together, kind = np.concatenate([a, b]), np.arange(len(a) + len(b)) < len(a)
    _, place = nearest(together, together, itself=False)
    return kind[place] == kind
