"""Several pictures on one."""

from __future__ import annotations

import math

import numpy as np


def tile(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """(n, h, w, c) uint8 -> one image, row by row, (rows h, columns w[, c])."""
    n, h, w, c = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    sheet = np.full((-(-n // columns) * h, columns * w, c), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        sheet[y * h : (y + 1) * h, x * w : (x + 1) * w] = image
    return sheet[..., 0] if c == 1 else sheet
