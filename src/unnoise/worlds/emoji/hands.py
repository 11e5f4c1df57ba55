"""Hands with 0 to 5 raised fingers, drawn from nothing: the one count that emoji cannot teach (no vendor
draws four fingers).

A hand is a palm, a wrist and five fingers, each a capsule (a thick line with round ends) in a unit square
whose y points down: raised fingers stand out from the palm, the others lie curled on it, the thumb across it.
What is drawn is the palm of a right hand, so that its thumb is to the right in the picture; a left hand is
its mirror image. Drawn four times too large and averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from PIL import Image, ImageDraw

from unnoise.data.draw import Draw

FINGERS = ("thumb", "index", "middle", "ring", "little")
RAISED: dict[int, tuple[tuple[str, ...], ...]] = {  # the ways in which people show a number
    0: ((),),
    1: (("index",), ("thumb",), ("little",)),
    2: (("index", "middle"), ("thumb", "index"), ("index", "little"), ("thumb", "little")),
    3: (
        ("index", "middle", "ring"),
        ("thumb", "index", "middle"),
        ("middle", "ring", "little"),
        ("thumb", "index", "little"),
    ),
    4: (("index", "middle", "ring", "little"), ("thumb", "index", "middle", "ring")),
    5: (FINGERS,),
}
TONES: dict[str, tuple[int, int, int]] = {
    "": (255, 200, 61),
    "light": (250, 220, 190),
    "medium-light": (228, 188, 145),
    "medium": (198, 145, 100),
    "medium-dark": (155, 100, 62),
    "dark": (97, 62, 46),
}
DRAWINGS = ("flat", "outlined", "line", "shaded", "glove", "silhouette")
TONED = ("flat", "outlined", "shaded")  # the drawings that show a skin
SCALE = 4
KNUCKLE = 0.012  # the least outline of a curled finger
FIT = 0.9  # so that a tilted hand stays inside the square
INK = (45, 35, 35)
# The base of each finger at the palm, its direction in degrees from upright (to the right), its length and
# its width.
_FINGER = {
    "index": (0.68, 0.52, 11.0, 0.30, 0.108),
    "middle": (0.56, 0.50, 2.5, 0.345, 0.11),
    "ring": (0.44, 0.505, -6.0, 0.31, 0.108),
    "little": (0.325, 0.54, -16.0, 0.245, 0.095),
    "thumb": (0.66, 0.76, 52.0, 0.32, 0.12),
}
_PALM = ((0.36, 0.57), (0.64, 0.57), (0.61, 0.80), (0.41, 0.80))  # the centres of its four round corners
_CORNER = 0.085
_WRIST = (0.405, 0.615, 1.0)  # left, right, and where the picture cuts it off
Point = tuple[float, float]


@dataclass(frozen=True)
class Hand:
    """Everything that a picture of a hand shows. `tone` "" is the yellow of emoji; `tilt` in degrees,
    `spread` times the usual angles.
    """

    raised: tuple[str, ...]
    side: str = "right"
    tone: str = ""
    drawing: str = "flat"
    tilt: float = 0.0
    spread: float = 1.0


def draw_hand(draw: Draw, fingers: int, drawing: str) -> Hand:
    """A random hand that shows `fingers` (0..5) in the given way of drawing."""
    tone = draw.pick(tuple(TONES)) if drawing in TONED else ""
    return Hand(
        draw.pick(RAISED[fingers]),
        draw.pick(("left", "right")),
        tone,
        drawing,
        draw.uniform(-12, 12),
        draw.uniform(1.2, 1.9),
    )


def picture(hand: Hand, size: int) -> np.ndarray:
    """The hand as (size, size, 4) uint8 with straight alpha, cut by nothing: its fingers and its wrist fit
    into the square.
    """
    side = size * SCALE
    image = Image.new("RGBA", (side, side))
    pen, place = ImageDraw.Draw(image), _placer(hand, side)
    fill, ink, width = _paint(hand)
    up = [_capsule(name, hand.spread) for name in FINGERS if name in hand.raised]
    for grow, colour in (
        (width, ink),
        (0.0, fill),
    ):  # the outline is the whole shape once more, larger and below
        _palm(pen, place, side, grow, colour)
        for part in up:
            _line(pen, place, side, part, grow, colour)
    if hand.drawing == "shaded":
        _shade(pen, place, side, up, fill)
    _curled(pen, place, side, hand, fill, ink, width)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX))


def extent(hand: Hand) -> tuple[float, float, float, float]:
    """The box x0, y0, x1, y1 of what is drawn, in units of the picture's side."""
    place, grow = _placer(hand, 1), _paint(hand)[2]
    left, right, bottom = _WRIST
    round_ends = [(p, _CORNER + grow) for p in _PALM]
    for a, b, width in (_capsule(name, hand.spread) for name in hand.raised):
        round_ends += [(a, width / 2 + grow), (b, width / 2 + grow)]
    for a, b, width in _down(hand):
        round_ends += [(a, width / 2 + max(grow, KNUCKLE)), (b, width / 2 + max(grow, KNUCKLE))]
    round_ends += [((left - grow, bottom), 0.0), ((right + grow, bottom), 0.0)]
    spots = [(*place(p), r * FIT) for p, r in round_ends]
    return (
        min(x - r for x, _, r in spots),
        min(y - r for _, y, r in spots),
        max(x + r for x, _, r in spots),
        max(y + r for _, y, r in spots),
    )


def shown(hand: Hand) -> tuple[int, ...]:
    """The colour that a hand mainly has."""
    return _paint(hand)[0]


def _paint(hand: Hand) -> tuple[tuple[int, ...], tuple[int, ...], float]:
    """Fill, ink of the outline, and the outline's width."""
    skin = TONES[hand.tone]
    if hand.drawing == "line":
        return (255, 255, 255), INK, 0.014
    if hand.drawing == "glove":
        return (250, 250, 252), (70, 80, 110), 0.022
    if hand.drawing == "silhouette":
        return INK, INK, 0.0
    if hand.drawing == "outlined":
        return skin, INK, 0.014
    return skin, _darker(skin, 0.8), 0.006


def _placer(hand: Hand, side: int):
    """Unit coordinates -> pixels: the tilt, the mirror image for a left hand, and a margin."""
    c, s = cos(radians(hand.tilt)), sin(radians(hand.tilt))
    sign = -1.0 if hand.side == "left" else 1.0

    def place(p: Point) -> Point:
        x, y = (p[0] - 0.55) * FIT, (p[1] - 0.56) * FIT
        return (0.5 + sign * (c * x - s * y)) * side, (0.5 + s * x + c * y) * side

    return place


def _capsule(name: str, spread: float) -> tuple[Point, Point, float]:
    x, y, degrees, length, width = _FINGER[name]
    angle = radians(degrees * (spread if name != "thumb" else 1.0))
    return (x, y + 0.04), (x + sin(angle) * length, y - cos(angle) * length), width


def _down(hand: Hand) -> list[tuple[Point, Point, float]]:
    parts = [
        ((_FINGER[n][0], _FINGER[n][1] + 0.01), (_FINGER[n][0] * 0.9 + 0.05, 0.64), _FINGER[n][4] * 0.9)
        for n in FINGERS[1:]
        if n not in hand.raised
    ]
    return parts if "thumb" in hand.raised else [*parts, ((0.68, 0.74), (0.50, 0.69), 0.1)]


def _line(
    pen: ImageDraw.ImageDraw,
    place,
    side: int,
    part: tuple[Point, Point, float],
    grow: float,
    colour: tuple[int, ...],
) -> None:
    a, b, width = place(part[0]), place(part[1]), (part[2] + 2 * grow) * FIT * side
    pen.line((a, b), fill=colour, width=round(width))
    for x, y in (a, b):
        pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=colour)


def _palm(pen: ImageDraw.ImageDraw, place, side: int, grow: float, colour: tuple[int, ...]) -> None:
    left, right, bottom = _WRIST
    pen.polygon([place(p) for p in _PALM], fill=colour)
    pen.polygon(
        [
            place(p)
            for p in (
                (left - grow, 0.75),
                (right + grow, 0.75),
                (right + grow, bottom),
                (left - grow, bottom),
            )
        ],
        fill=colour,
    )
    for p, q in zip(_PALM, (*_PALM[1:], _PALM[0])):
        _line(pen, place, side, (p, q, 2 * _CORNER), grow, colour)


def _curled(
    pen: ImageDraw.ImageDraw,
    place,
    side: int,
    hand: Hand,
    fill: tuple[int, ...],
    ink: tuple[int, ...],
    width: float,
) -> None:
    """The fingers that are not raised lie on the palm: short, with an outline of their own; the thumb last,
    across them.
    """
    edge, over = ink if width > 0.01 else _darker(fill, 0.72), max(width, KNUCKLE)
    if hand.drawing == "silhouette":
        edge = _lighter(fill, 0.35)
    for part in _down(hand):
        _line(pen, place, side, part, over, edge)
        _line(pen, place, side, part, 0.0, fill)


def _shade(
    pen: ImageDraw.ImageDraw, place, side: int, body: list[tuple[Point, Point, float]], fill: tuple[int, ...]
) -> None:
    """A lighter streak along every raised finger and the palm."""
    for a, b, width in [*body, ((0.42, 0.66), (0.44, 0.84), 0.14)]:
        light = ((a[0] - width * 0.15, a[1]), (b[0] - width * 0.15, b[1]), width * 0.35)
        _line(pen, place, side, light, 0.0, _lighter(fill, 0.35))


def _darker(colour: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(int(c * share) for c in colour)


def _lighter(colour: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(int(c + (255 - c) * share) for c in colour)
