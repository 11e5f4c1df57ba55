"""Random choices as a pure function of (seed, index, purpose): raw counter-based bits, the same on every
machine and in every process.

numpy's own distributions may change from version to version; its raw Philox numbers may not, so everything is
made of those here.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

from unnoise.base.keyed import philox

T = TypeVar("T")
BLOCK = 32  # raw numbers drawn at once


class Draw:
    """A stream of random choices, keyed by (seed, index); streams of different `purpose` never overlap."""

    def __init__(self, seed: int, index: int, purpose: int):
        self._bits = philox(seed, index, (0, 0, 0, purpose))
        self._ready: list[int] = []

    def raw(self) -> int:
        """64 random bits."""
        if not self._ready:
            self._ready = self._bits.random_raw(BLOCK).tolist()[::-1]
        return self._ready.pop()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        return low + (high - low) * ((self.raw() >> 11) * 2.0**-53)

    def below(self, n: int) -> int:
        """One of 0..n-1, each as likely (to within 2^-40 for any n used here)."""
        return (self.raw() * n) >> 64

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self.uniform() < p

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`, each as likely."""
        return choices[self.below(len(choices))]

    def among(self, choices: Sequence[T], weights: Sequence[float]) -> T:
        """One of `choices`, as likely as its weight says (which need not add up to 1)."""
        return choices[self.at(list(accumulate(weights)))]

    def at(self, cumulative: Sequence[float]) -> int:
        """The index i with probability (cumulative[i] - cumulative[i - 1]) / cumulative[-1]: for long lists,
        summed once.
        """
        return min(bisect_right(cumulative, self.uniform(0.0, cumulative[-1])), len(cumulative) - 1)

    def sample(self, choices: Sequence[T], n: int) -> list[T]:
        """n different ones of `choices`, in random order."""
        left = list(choices)
        return [left.pop(self.below(len(left))) for _ in range(n)]


def fate(*words: object) -> int:
    """A fixed number below 2^64 for `words`, by sha256: what decides, for ever, which of them are held
    out.
    """
    return int.from_bytes(hashlib.sha256("|".join(map(str, words)).encode()).digest()[:8], "big")
