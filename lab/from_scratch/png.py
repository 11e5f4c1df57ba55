"""Grey pictures as rows of whole numbers 0 … 255, and the PNG file of one: three chunks, of which zlib packs
the middle one.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

Picture = list[list[int]]

GAP = 6


def encode(picture: Picture) -> bytes:
    """The bytes of a grey 8-bit PNG (W3C PNG, 2nd edition: signature, IHDR, IDAT, IEND; filter 0 before every
    row).
    """
    head = struct.pack(">IIBBBBB", len(picture[0]), len(picture), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in picture), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def save(file: Path, data: bytes) -> None:
    """The file under its name, whole or not at all."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def scatter(points: Sequence[Sequence[float]], side: int = 132, reach: float = 1.8) -> Picture:
    """Points of the square [-reach, reach]², y upwards, as dots of 2 x 2 that darken where they overlap; the
    others are left out.
    """
    picture = [[255] * side for _ in range(side)]
    for x, y in points:
        column, row = int((x / reach + 1) / 2 * side), int((1 - y / reach) / 2 * side)
        if not (0 <= column < side - 1 and 0 <= row < side - 1):
            continue
        for r, c in ((row, column), (row, column + 1), (row + 1, column), (row + 1, column + 1)):
            picture[r][c] = picture[r][c] * 2 // 5
    return picture


def digit(pixels: Sequence[float], scale: int = 4) -> Picture:
    """64 numbers in [-1, 1], held to that, as dark ink on white, each a square of `scale`."""
    ink = [255 - round(127.5 * (min(max(v, -1), 1) + 1)) for v in pixels]
    return [[v for v in ink[i : i + 8] for _ in range(scale)] for i in range(0, 64, 8) for _ in range(scale)]


def grid(rows: Sequence[Sequence[Picture]], gap: int = GAP) -> Picture:
    """Pictures of one size in rows, with a white gap around each."""
    out: Picture = []
    for row in rows:
        lines = [
            [v for part in parts for v in ([255] * gap, part) for v in v] + [255] * gap for parts in zip(*row)
        ]
        out += [[255] * len(lines[0]) for _ in range(gap)] + lines
    return out + [[255] * len(out[0]) for _ in range(gap)]
