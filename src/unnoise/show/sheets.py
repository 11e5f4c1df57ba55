"""Sheets: pictures in rows and columns under labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from unnoise.base import write
from unnoise.show import lettering
from unnoise.show.lettering import GREY, extent, plain, wrapped

PAD = 10  # pixels between the pictures of a sheet


def sheet(
    rows: Sequence[Sequence[Image.Image]],
    columns: Sequence[str],
    names: Sequence[str] = (),
    title: str = "",
    over: str = "",
    least: int = 96,
    most: int = 512,
    margin: int = 0,
) -> Image.Image:
    """Pictures in rows and columns: columns[j] above column j, names[i] left of row i, `over` above all
    columns, `title` on top.

    Small pictures are enlarged by a whole factor until a side has `least` pixels, large ones reduced to
    `most`. margin: the least width of the names, in pixels.
    """
    cells = [[fitted(p, least, most) for p in row] for row in rows]
    at = _laid_out(cells, columns, names, title, over, margin)
    image = Image.new("RGB", (at.width, at.top + len(cells) * (at.h + PAD)), "white")
    draw = ImageDraw.Draw(image)
    _head(draw, at, over)
    for i, row in enumerate(cells):
        y = at.top + i * (at.h + PAD)
        if names:
            lettering.write(draw, at.left - PAD, y + at.h // 2, at.names[i], 13, anchor="rm")
        for j, p in enumerate(row):
            x = at.left + j * (at.w + PAD)
            image.paste(p.convert("RGB"), (x + (at.w - p.width) // 2, y + (at.h - p.height) // 2))
    return image


@dataclass(frozen=True)
class _Layout:
    """A sheet in pixels. w, h: of a cell; left, top: where the first is; width: of the sheet; below: where
    `over` stands; columns, names, title: broken into lines that fit.
    """

    w: int
    h: int
    left: int
    top: int
    width: int
    below: int
    columns: list[str]
    names: list[str]
    title: str


def _laid_out(
    cells: list[list[Image.Image]],
    columns: Sequence[str],
    names: Sequence[str],
    title: str,
    over: str,
    margin: int,
) -> _Layout:
    w, h = max(p.width for row in cells for p in row), max(p.height for row in cells for p in row)
    w = max(w, min(150, max(extent(c, 13)[0] for c in columns)))
    columns, names = [wrapped(c, w) for c in columns], [wrapped(c, 150) for c in names]
    left = max((max(margin, extent(c, 13)[0]) for c in names), default=-PAD) + 2 * PAD
    width = left + len(columns) * (w + PAD)
    title = wrapped(title, width - 2 * PAD, 15)
    tallest = max(columns, key=lambda c: extent(c, 13)[1])
    heads = ((title, 15), (plain(over), 13), (tallest, 13))
    heights = [extent(text, size)[1] + PAD if text else 0 for text, size in heads]
    return _Layout(w, h, left, PAD + sum(heights), width, PAD + heights[0], columns, names, title)


def _head(draw: ImageDraw.ImageDraw, at: _Layout, over: str) -> None:
    """The words above the pictures."""
    lettering.write(draw, PAD, PAD, at.title, 15)
    lettering.write(draw, at.left + (at.width - at.left - PAD) // 2, at.below, over, 13, GREY, "ma")
    for j, column in enumerate(at.columns):
        x = at.left + j * (at.w + PAD) + at.w // 2
        lettering.write(draw, x, at.top - PAD // 2, column, 13, anchor="md")


def fitted(p: Image.Image, least: int, most: int) -> Image.Image:
    """A picture whose longer side has at least, or at most, so many pixels."""
    side = max(p.size)
    if side > most:
        return p.resize(
            (max(1, p.width * most // side), max(1, p.height * most // side)), Image.Resampling.LANCZOS
        )
    k = -(-least // side)
    return p.resize((p.width * k, p.height * k), Image.Resampling.NEAREST) if k > 1 else p


def stacked(blocks: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other."""
    image = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), "white")
    y = 0
    for b in blocks:
        image.paste(b, (0, y))
        y += b.height
    return image


def write_picture(image: Image.Image, path: Path) -> Path:
    """Write a PNG without a recipe, whole or not at all. Returns its path; BadInput when it cannot be
    written.
    """
    out = io.BytesIO()
    image.save(out, format="PNG")
    return write.put(path, out.getvalue())
