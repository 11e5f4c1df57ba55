"""The IDX format of MNIST: 0 0 type ndim, then ndim sizes (32 bit, big endian), then the values, last axis
fastest.

Only type 8 (unsigned bytes) occurs in the published sets; the rest of the format is refused by name.
"""

from __future__ import annotations

import struct

import numpy as np

from unnoise.base.errors import BadInput

UBYTE = 8


def parse(raw: bytes, name: str, ndim: int) -> np.ndarray:
    """The uint8 array in `raw` (own memory, writable); `ndim` 3 for images (n, h, w), 1 for labels (n,).

    Raises BadInput naming `name` for a wrong magic number, or a length that is not what the header promises.
    """
    magic = raw[:4]
    if magic != bytes([0, 0, UBYTE, ndim]):
        raise BadInput(
            f"{name}: not an IDX file of {ndim}-d bytes: starts with {magic.hex() or 'nothing'}, "
            f"expected 0000{UBYTE:02x}{ndim:02x}"
        )
    head = 4 + 4 * ndim
    if len(raw) < head:
        raise BadInput(f"{name}: truncated in its header: {len(raw)} bytes, expected at least {head}")
    shape = struct.unpack(f">{ndim}I", raw[4:head])
    expected = head + int(
        np.prod(shape, dtype=object)
    )  # Python integers: sizes of a corrupted header cannot overflow
    if len(raw) != expected:
        raise BadInput(f"{name}: {len(raw)} bytes, but its header {shape} promises {expected}")
    return np.frombuffer(raw, dtype=np.uint8, offset=head).reshape(shape).copy()


def pack(values: np.ndarray) -> bytes:
    """The IDX file that holds the uint8 array `values`: the inverse of `parse`."""
    return (
        bytes([0, 0, UBYTE, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    )
