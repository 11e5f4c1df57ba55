"""Numbers: arrays of any shape, one a sample, that no picture shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Numbers:
    """The medium of models of plain vectors."""

    name: str = "numbers"
    plural: str = "numbers"


NUMBERS = Numbers()
