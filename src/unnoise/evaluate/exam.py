"""What every evaluation is: an `Exam` says what a model is asked, what real data of the same are, and what
its answers are worth. `evaluate.EXAMS` names them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from unnoise.base.errors import BadInput
from unnoise.evaluate.kept import Drawer, Generator
from unnoise.worlds import judge as judges
from unnoise.worlds.judge import Form, Judge

Report = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What is measured of a model, and by what: see `evaluate`, whose arguments these are."""

    n: int
    guidances: tuple[float, ...] = ()
    judge: str | os.PathLike | Judge | None = None
    data: str | None = None
    negatives: int = 0
    inception: bool = False

    def judged_by(self, form: Form) -> Judge:
        """The judge asked for, by default the bundled one of this form. BadInput: see `judges.load`."""
        by = self.judge if isinstance(self.judge, Judge) else judges.load(self.judge, form)
        return by.with_inception() if self.inception else by


class Exam(Protocol):
    """How models of one kind are measured.

    usual, least: how many images, or prompts, it asks for, and the fewest that say anything; unit: what they
    are called. several: whether it asks at several guidance scales. comparable: whether two of its reports
    can be compared (`compare`).
    """

    usual: ClassVar[int]
    least: ClassVar[int]
    unit: ClassVar[str]
    several: ClassVar[bool]
    comparable: ClassVar[bool]

    def __init__(self, pipe: Any, order: Order, draw: Drawer):
        """Opens the judge and the real data. BadInput: they are not there, or do not fit the model."""
        ...

    @staticmethod
    def suits(pipe: Generator) -> bool:
        """Whether models like this one are asked so."""
        ...

    @staticmethod
    def count(order: Order) -> int:
        """How many images it will draw."""
        ...

    def report(self) -> Report:
        """Plain JSON values; draws what it needs."""
        ...

    @staticmethod
    def table(report: Report) -> str:
        """A report as lines for people."""
        ...


def check_count(exam: type[Exam], n: Any) -> int:
    """How many images or prompts to judge by; None is the exam's own number. BadInput: none, or too few."""
    n = exam.usual if n is None else n
    if isinstance(n, bool) or not isinstance(n, int) or n < exam.least:
        raise BadInput(f"n must be a whole number of at least {exam.least} {exam.unit}, given {n!r}")
    return n


def share(hit: Sequence[bool] | np.ndarray) -> dict[str, float]:
    """{value, se, n} of how many of `hit` are true."""
    p, n = float(np.mean(hit)), len(hit)
    return {"value": p, "se": float(np.sqrt(p * (1 - p) / n)), "n": n}


def columns(rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table as lines: the first column to the left, all others to the right."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    return [
        f"{row[0]:<{widths[0]}}  " + "  ".join(f"{v!s:>{w}}" for v, w in zip(row[1:], widths[1:]))
        for row in rows
    ]
