"""Several pictures on one."""

from __future__ import annotations

import math

import numpy as np


def cells(
    n: int, width: int, height: int, columns: int | None = None
) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """(width and height of a sheet, the left upper corner of each of its n cells), row by row, near square
    where columns is None.
    """
    columns = columns or math.ceil(math.sqrt(n))
    corners = [(i % columns * width, i // columns * height) for i in range(n)]
    return (columns * width, -(-n // columns) * height), corners


def tile(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """(n, h, w, c) uint8 -> one image, row by row, (rows h, columns w[, c])."""
    n, h, w, c = images.shape
    (width, height), corners = cells(n, w, h, columns)
    sheet = np.full((height, width, c), 255, np.uint8)
    for image, (x, y) in zip(images, corners):
        sheet[y : y + h, x : x + w] = image
    return sheet[..., 0] if c == 1 else sheet
