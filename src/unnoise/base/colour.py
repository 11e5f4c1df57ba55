"""Colours by name, and giving an object another one so that the name is what one sees.

Everything happens in Oklab (Ottosson 2020), L in [0, 1], a and b near [-0.4, 0.4]: turning or moving a colour
there changes how it is seen and little else. Transforms are in float64 and rounded once, so that the same
bytes come out on every machine.
"""

from __future__ import annotations

import numpy as np

# What each name is painted as (sRGB); L, a, b of these are the targets of `recolour`.
NAMED: dict[str, tuple[int, int, int]] = {
    "red": (222, 40, 44),
    "orange": (250, 138, 20),
    "yellow": (250, 212, 45),
    "green": (50, 165, 65),
    "blue": (45, 100, 230),
    "purple": (135, 65, 190),
    "pink": (250, 145, 190),
    "brown": (125, 74, 38),
    "grey": (140, 140, 140),
    "black": (40, 40, 42),
}
# Grounds for scenes: lighter than the objects' colours where the name allows it, so that those stand out.
GROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "red": (225, 70, 70),
    "orange": (250, 165, 75),
    "yellow": (252, 232, 120),
    "green": (130, 205, 130),
    "blue": (125, 175, 245),
    "purple": (175, 130, 220),
    "pink": (252, 190, 215),
    "brown": (150, 105, 70),
    "grey": (185, 185, 185),
    "black": (30, 30, 32),
}
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (BT.601): a colour's grey
NEUTRAL = 0.035  # chroma, relative to lightness, below which a pixel looks grey
# an object with this share of coloured pixels keeps its greys (tyres, windows) when it is given another
# colour
COLOURED = 0.55
APART = 0.1  # from the ground, in Oklab, and a pixel is the object's
# Oklab: linear light to the response of the eye's cones, and the cube roots of that to L, a, b
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_FROM_LAB, _FROM_LMS = np.linalg.inv(TO_LAB), np.linalg.inv(TO_LMS)
_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)
_STEPS = (
    np.arange(4096) / 4095
)  # linear light -> sRGB by table: fine enough for 8 bits where they matter, and fast
_ENCODED = np.round(
    255 * np.where(_STEPS <= 0.0031308, 12.92 * _STEPS, 1.055 * _STEPS ** (1 / 2.4) - 0.055)
).astype(np.uint8)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB uint8 (..., 3) -> Oklab float64 (..., 3)."""
    return np.cbrt(_LINEAR[rgb] @ TO_LMS.T) @ TO_LAB.T


def srgb(lab: np.ndarray) -> np.ndarray:
    """Oklab (..., 3) -> sRGB uint8 (..., 3); what lies outside is clipped."""
    linear = (lab @ _FROM_LAB.T) ** 3 @ _FROM_LMS.T
    return _ENCODED[np.round(np.clip(linear, 0, 1) * 4095).astype(np.int64)]


LAB = {name: oklab(np.array(rgb, dtype=np.uint8)) for name, rgb in NAMED.items()}
GROUND_LAB = {name: oklab(np.array(rgb, dtype=np.uint8)) for name, rgb in GROUNDS.items()}


def recolour(rgba: np.ndarray, name: str) -> np.ndarray:
    """The object `rgba` (h, w, 4) uint8 painted `name`: a new array with the same alpha.

    The coloured pixels get the name's hue; their lightness moves so that its median is the name's, and keeps
    its shading about it; chroma falls towards black and white, as paint's does. Greys stay unless the object
    is mostly grey, then all of it is painted.
    """
    target, lab = LAB[name], oklab(rgba[..., :3])
    seen = rgba[..., 3] > 127
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    paint = np.clip(
        (chroma / (lab[..., 0] + 0.1) - NEUTRAL) / NEUTRAL, 0, 1
    )  # dark colours have little chroma and are colours all the same
    if not seen.any() or paint[seen].mean() < COLOURED:
        paint = np.ones_like(chroma)
    middle = np.median(lab[..., 0][seen & (paint >= 0.5)]) if (seen & (paint >= 0.5)).any() else 0.5
    light = _shade(lab[..., 0], float(middle), float(target[0]))
    fall = np.minimum(1.0, np.minimum(light / target[0], (1.0 - light) / (1.0 - target[0])))
    new = np.stack([light, target[1] * fall, target[2] * fall], axis=-1)
    mixed = lab + paint[..., None] * (new - lab)
    return np.concatenate([srgb(mixed), rgba[..., 3:]], axis=-1)


def _shade(light: np.ndarray, middle: float, target: float) -> np.ndarray:
    """Lightness moved so that `middle` becomes `target`, contrast about it lowered: black and white end near
    the target's own shades.
    """
    below, above = 0.75 * target, 0.6 * (1.0 - target)  # how far the darkest and the lightest may lie from it
    part = light - middle
    return target + np.where(
        part < 0, part / max(middle, 1e-6) * below, part / max(1.0 - middle, 1e-6) * above
    )


def dominant(picture: np.ndarray) -> str | None:
    """The name that most of an object's pixels lie nearest to, lightness counting half; None for an empty
    picture.

    picture: sRGB uint8 (h, w, 3). The object is what lies further than `APART` in Oklab from the border's
    median. White is no name: it is grey here.
    """
    lab = oklab(picture)
    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    pixels = lab[np.linalg.norm(lab - np.median(border, 0), axis=-1) > APART]
    if not len(pixels):
        return None
    far = np.linalg.norm((pixels[:, None] - np.stack([*LAB.values()])) * (0.5, 1, 1), axis=-1)
    return [*LAB][int(np.bincount(far.argmin(1)).argmax())]
