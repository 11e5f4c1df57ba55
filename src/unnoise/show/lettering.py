"""Words on pictures, in the letters that PIL's own font has."""

from __future__ import annotations

import math
import textwrap
import unicodedata

from PIL import Image, ImageDraw, ImageFont

INK, GREY, PALE, BLUE, RED = (20, 20, 20), (110, 110, 110), (225, 225, 225), (0, 94, 162), (196, 78, 0)
ALIGNED = {"m": "center", "r": "right", "l": "left"}  # by an anchor's first letter


def plain(text: str) -> str:
    """Text in the letters that PIL's own font has (ASCII): accents dropped, anything else a question mark."""
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c == "\n" or 32 <= ord(c) < 127 else "?" for c in letters)


def wrapped(text: str, width: int, size: int = 13, lines: int = 3) -> str:
    """Text broken into lines of about `width` pixels; what does not fit in so many lines ends in dots."""
    letters = max(4, round(width / (0.55 * size)))

    def broken(line: str) -> str:
        if extent(line, size)[0] <= width:
            return line
        return "\n".join(textwrap.wrap(line, letters, max_lines=lines, placeholder=" ..."))

    return "\n".join(broken(line) for line in plain(text).split("\n"))


def extent(text: str, size: int) -> tuple[int, int]:
    """Width and height of a text, the height as if every line had tall letters and hanging ones."""
    text, font = plain(text), ImageFont.load_default(size=size)
    box = lambda words: ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), words, font=font)
    return math.ceil(box(text)[2]), math.ceil(box("\n".join("Ag" for _ in text.split("\n")))[3])


def write(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    text: str,
    size: int,
    fill: tuple[int, int, int] = INK,
    anchor: str = "la",
) -> None:
    """Write a text whose `anchor` (as Pillow names them) is at (x, y)."""
    draw.multiline_text(
        (x, y),
        plain(text),
        font=ImageFont.load_default(size=size),
        fill=fill,
        anchor=anchor,
        align=ALIGNED[anchor[0]],
    )
