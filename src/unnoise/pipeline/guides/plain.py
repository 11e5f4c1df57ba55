"""Guides that look at nothing but the pixels: colours, brightness, smoothness."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unnoise.base.colour import NAMED
from unnoise.base.errors import BadInput, unknown
from unnoise.guide import losses
from unnoise.guide.steer import Wish

if TYPE_CHECKING:
    from unnoise.pipeline.pipeline import Pipeline


def colour(pipe: Pipeline, value: str) -> Wish:
    """The object in a colour."""
    rgb = colour_of(value)
    return lambda images, l: losses.object_colour(images, rgb)


def mean(pipe: Pipeline, value: str) -> Wish:
    """The mean of the picture a colour."""
    rgb = colour_of(value)
    return lambda images, l: losses.mean_colour(images, rgb)


def brightness(pipe: Pipeline, value: str) -> Wish:
    """The mean luma a number. BadInput outside [0, 1]."""
    if not numeric(value) or not 0 <= float(value) <= 1:
        raise BadInput(f"guide brightness must be a number from 0 (black) to 1 (white), given {value!r}")
    return lambda images, l: losses.brightness(images, float(value))


def smooth(pipe: Pipeline, value: str) -> Wish:
    """Little total variation."""
    return lambda images, l: losses.variation(images)


def colour_of(text: str) -> tuple[float, float, float]:
    """A colour by name or as #rrggbb: sRGB in [0, 1]. BadInput names the nearest."""
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        r, g, b = (int(text[i : i + 2], 16) for i in (1, 3, 5))
    elif (name := text.lower().replace("gray", "grey")) in NAMED:
        r, g, b = NAMED[name]
    elif name == "white":
        r, g, b = 255, 255, 255
    else:
        raise unknown("colour", text, [*NAMED, "white", "#rrggbb"])
    return r / 255, g / 255, b / 255


def numeric(text: str) -> bool:
    """Whether a text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
