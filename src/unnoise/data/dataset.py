"""`Data`: items and what is known about them, as plain numpy, before any codec has touched them.

Conventions: images are uint8 (n, h, w, c) with c = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; anything else is
float32 (n, ...).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

SPLITS = ("train", "test", "validation")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "dev": "validation",
    "eval": "validation",
}  # what people call them


@dataclass(frozen=True)
class Data:
    """A finite set of items `x` (n, ...) with, where known, their class or their caption.

    `labels` (n,) int64 index `words`, the canonical caption of each class ("a handwritten seven"); `captions`
    hold one text an item instead (folders with captions). `licence` says on what terms the pixels may be used
    ("unknown" for your own).
    """

    x: np.ndarray
    labels: np.ndarray | None
    words: tuple[str, ...]
    captions: tuple[str, ...] | None
    name: str
    split: str
    licence: str

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def sha256(self) -> str:
        """Hex sha256 of the bytes of x, then the labels, then the captions: equal for equal content, wherever
        it lies.
        """
        digest = hashlib.sha256(np.ascontiguousarray(self.x).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels).data)
        if self.captions is not None:
            digest.update("\0".join(self.captions).encode())
        return digest.hexdigest()

    def caption(self, index: int) -> str | None:
        """The text that belongs to item `index`: its own caption, else its class's words, else None."""
        if self.captions is not None:
            return self.captions[index]
        return None if self.labels is None else self.words[self.labels[index]]

    def take(self, indices: Sequence[int] | np.ndarray) -> Data:
        """The items at `indices`, in that order (a copy); `words` keep their numbering."""
        indices = np.asarray(indices, dtype=np.int64)
        labels = None if self.labels is None else self.labels[indices]
        captions = None if self.captions is None else tuple(self.captions[i] for i in indices)
        return replace(self, x=self.x[indices], labels=labels, captions=captions)
