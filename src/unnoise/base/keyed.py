"""Random bits as a pure function of a key: Philox (Salmon et al. 2011), whose raw numbers are the same in
every version of numpy, on every machine and in every process.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WORD = 2**64 - 1


def philox(a: int, b: int, counter: Sequence[int]) -> np.random.Philox:
    """Bits by the 128-bit key (a, b), from the counter's four words on, the lowest first: what differs in a
    higher word than draws count up in never overlaps. Negative keys are taken modulo 2^64.
    """
    key = np.array([a & WORD, b & WORD], dtype=np.uint64)  # a list would pass through floats
    return np.random.Philox(key=key, counter=np.array(counter, dtype=np.uint64))
