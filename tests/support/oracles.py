"""What a picture shows, found from its pixels alone: the names of colours by hue, raised fingers by shape."""

from __future__ import annotations

import colorsys

import numpy as np
from scipy import ndimage


def colour_name(rgb) -> str:
    """The everyday name of one sRGB colour (0..255), by hue, saturation and value."""
    hue, s, v = colorsys.rgb_to_hsv(*(float(c) / 255 for c in rgb))
    hue *= 360
    if v < 0.28:
        return "black"
    if s < 0.14:
        return "grey"
    if hue < 45 and v < 0.66:
        return "red" if hue < 12 else "brown"
    if (hue >= 320 or hue < 12) and s < 0.58:
        return "pink"
    if hue < 15 or hue >= 342:
        return "red"
    if hue < 42:
        return "orange"
    if hue < 70:
        return "yellow"
    if hue < 170:
        return "green"
    if hue < 255:
        return "blue"
    return "purple" if hue < 305 else "pink"


def main_colour(pixels: np.ndarray) -> str:
    """The name of the median colour of the coloured half of `pixels` (n, 3), or of all when they are hardly
    coloured.
    """
    x = pixels.astype(float)
    chroma = x.max(1) - x.min(1)
    coloured = chroma >= 40
    return colour_name(np.median(x[coloured] if coloured.mean() >= 0.3 else x, axis=0))


def fingers(mask: np.ndarray) -> int:
    """Raised fingers of a hand (a boolean mask, 128 pixels or so): what an opening with a disc wider than a
    finger takes away, in pieces.
    """
    size = max(mask.shape)
    y, x = np.mgrid[-12:13, -12:13] * (128 / size)
    disc = x**2 + y**2 <= 10**2
    rest = (
        mask
        & ~ndimage.binary_dilation(ndimage.binary_opening(np.pad(mask, 20, mode="edge"), disc), iterations=2)[
            20:-20, 20:-20
        ]
    )
    pieces, n = ndimage.label(rest, np.ones((3, 3)))
    return int((ndimage.sum(rest, pieces, range(1, n + 1)) > 90 * (size / 128) ** 2).sum()) if n else 0
