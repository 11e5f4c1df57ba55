"""What every medium answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


class Medium(Protocol):
    """A kind of data: what its files are, how one is looked at, what of one is left alone.

    singular, plural: how it is called, where a sentence says what a model makes. suffixes: of its files, in
    small letters, the first where none is asked for; none: it has no files of its own. together: whether all
    samples of a call are one file (the rows of a table), not a file each.
    """

    @property
    def singular(self) -> str: ...

    @property
    def plural(self) -> str: ...

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    @property
    def together(self) -> bool: ...

    def read(self, given: Any, /) -> Any:
        """A sample from a file, or from what Python holds. BadInput, one line: it cannot be used."""
        ...

    def to_bytes(self, sample: Any, record: str, /) -> bytes:
        """A file's bytes: a sample (`together`: all of them, (n, …)) with what made it."""
        ...

    def read_record(self, path: Any) -> dict[str, Any]:
        """The record that a file carries, as it was written. BadInput: no such file, or none in it."""
        ...

    def mask(self, given: Any, of: Any, /) -> np.ndarray:
        """What of the sample `of` may change: 1 may, 0 may not, between in part. BadInput: another size."""
        ...

    def keep(self, of: Any, changed: np.ndarray, mask: np.ndarray, /) -> np.ndarray:
        """`changed` where the mask is 1, the sample's own values, exactly, where it is 0."""
        ...

    def show(self, sample: np.ndarray, /) -> Image.Image:
        """A picture of one sample. BadInput: it has none."""
        ...

    def sheet(self, samples: np.ndarray, columns: int | None = None) -> Image.Image:
        """A picture of several, (n, …). BadInput: they have none."""
        ...


def makes(who: str, medium: Medium) -> str:
    """The beginning of every sentence that says what a model cannot do: "model 'x' makes numbers"."""
    return f"model {who!r} makes {medium.plural}"
