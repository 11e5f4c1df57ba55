"""Numbers: arrays of any shape, one a sample, that no picture shows and no file of ours holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from unnoise.base.errors import BadInput


@dataclass(frozen=True)
class Numbers:
    """The medium of models of plain vectors."""

    singular: str = "sample"
    plural: str = "numbers"
    suffixes: tuple[str, ...] = ()
    together: bool = False

    def read(self, given: Any, /) -> np.ndarray:
        """The array itself."""
        return np.asarray(given)

    def to_bytes(self, sample: np.ndarray, record: str) -> NoReturn:
        raise _no_picture(sample[None])

    def read_record(self, path: Any) -> NoReturn:
        raise BadInput(f"{path} carries no unnoise recipe: numbers have no files of ours")

    def mask(self, given: Any, of: np.ndarray, /) -> np.ndarray:
        """A number each, of the sample's shape."""
        mask = np.asarray(given, np.float64)
        if mask.shape != of.shape:
            raise BadInput(f"the mask is of shape {mask.shape}, the sample of {of.shape}")
        return mask

    def keep(self, of: np.ndarray, changed: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask == 0, of, np.where(mask == 1, changed, of + mask * (changed - of)))

    def show(self, sample: np.ndarray, /) -> NoReturn:
        raise _no_picture(sample[None])

    def sheet(self, samples: np.ndarray, columns: int | None = None) -> NoReturn:
        raise _no_picture(samples)


def _no_picture(samples: np.ndarray) -> BadInput:
    return BadInput(f"this model makes numbers of shape {samples.shape[1:]}, not pictures: use result.arrays")


NUMBERS = Numbers()
