"""Data order and augmentation as pure functions: what happens at a position follows from (seed, position)
alone.

The stream is endless: position p lies in epoch e = p // n and is item perm_e[p mod n], where perm_e sorts n
raw Philox numbers keyed by (seed, e). Raw counter-based bits (Salmon et al. 2011) are the same in every
version of numpy, on every machine and in every process, so that a run is resumed, or spread over more
processes, with no random state to keep.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from unnoise.base.errors import BadInput
from unnoise.base.keyed import philox

ORDER, FLIP, CROP = range(3)  # the purposes: each draws from its own Philox stream


def _bits(seed: int, index: int, purpose: int, n: int) -> np.ndarray:
    """n raw uint64; the key is (seed, index), the highest word of the counter is the purpose, so no two
    streams overlap.
    """
    return philox(seed, index, (0, 0, 0, purpose)).random_raw(n)


@lru_cache(maxsize=4)
def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of 0..n-1 in `epoch`: (n,) int64, read-only (it is cached)."""
    if n < 1:
        raise BadInput(f"cannot order {n} items: at least 1 is needed")
    perm = np.argsort(_bits(seed, epoch, ORDER, n), kind="stable")
    perm.flags.writeable = False
    return perm


def order(n: int, seed: int, position: int) -> int:
    """Which of n items stands at `position` >= 0 of the endless stream: each epoch of n positions holds every
    item once.
    """
    epoch, offset = divmod(position, n) if n > 0 else (0, 0)
    return int(permutation(n, seed, epoch)[offset])


def positions(
    step: int, batch: int, rank: int = 0, world: int = 1, micro: int = 0, accumulate: int = 1
) -> np.ndarray:
    """The positions of the stream that process `rank` of `world` handles in its micro batch `micro` of
    `accumulate`.

    `batch` counts the items of the whole step, over all processes and micro batches. Returns (batch / world /
    accumulate,) int64: consecutive pieces of [step·batch, (step+1)·batch), micro batch by micro batch, in
    each rank by rank.
    """
    pieces = world * accumulate
    if batch < 1 or world < 1 or accumulate < 1 or batch % pieces:
        raise BadInput(
            f"a batch of {batch} cannot be shared equally by {world} processes x {accumulate} micro batches"
        )
    if not (0 <= rank < world and 0 <= micro < accumulate):
        raise BadInput(
            f"rank {rank} of {world}, micro batch {micro} of {accumulate}: expected 0 <= each < its count"
        )
    size = batch // pieces
    start = step * batch + (micro * world + rank) * size
    return np.arange(start, start + size, dtype=np.int64)


def batch_indices(
    n: int,
    seed: int,
    step: int,
    batch: int,
    rank: int = 0,
    world: int = 1,
    micro: int = 0,
    accumulate: int = 1,
) -> np.ndarray:
    """The items of n at `positions(step, ...)`, int64: joined, 1 x 8, 2 x 4 and 4 + 4 draw the same in the
    same order.
    """
    return np.array(
        [order(n, seed, int(p)) for p in positions(step, batch, rank, world, micro, accumulate)],
        dtype=np.int64,
    )


def flip(x: np.ndarray, seed: int, index: int) -> np.ndarray:
    """One image (h, w, c), mirrored left to right with probability 1/2 as (seed, index) decide; a view."""
    return x[:, ::-1] if _bits(seed, index, FLIP, 1)[0] >> np.uint64(63) else x


def crop(x: np.ndarray, size: int, seed: int, index: int) -> np.ndarray:
    """A (size, size, c) window of the image (h, w, c), its corner uniform as (seed, index) decide; a view."""
    h, w = x.shape[:2]
    if not 1 <= size <= min(h, w):
        raise BadInput(f"cannot crop {size}x{size} from an image of {w}x{h}")
    top, left = (int(b) % room for b, room in zip(_bits(seed, index, CROP, 2), (h - size + 1, w - size + 1)))
    return x[top : top + size, left : left + size]
