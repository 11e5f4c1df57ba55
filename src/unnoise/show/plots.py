"""Plots: curves over labelled axes, and a schedule with the levels that a run visits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from unnoise.process.schedule import Schedule
from unnoise.show.lettering import BLUE, GREY, INK, PALE, RED, extent, write

Colour = tuple[int, int, int]
LEFT, TOP, RIGHT, BOTTOM = 54, 34, 20, 44  # pixels beside the axes


@dataclass(frozen=True)
class Curve:
    """Points (x, y) of a plot: joined by a line, or (dots) marked one by one. A name puts it into the
    legend.
    """

    xs: Sequence[float] | np.ndarray
    ys: Sequence[float] | np.ndarray
    colour: Colour
    name: str = ""
    dots: bool = False


def plot_schedule(s: Schedule, t: Sequence[float], logsnr: Sequence[float | None]) -> Image.Image:
    """A schedule and the levels t that a run visited on it: alpha and sigma, log SNR, and the grid by
    step.
    """
    steps = range(len(t))
    panels = [
        plot("alpha and sigma", "t", _levels(s, t)),
        plot("log SNR = 2 log(alpha / sigma)", "t", _snr(s, t, logsnr)),
        plot("the grid: t of each step", "step", [Curve(steps, t, GREY), Curve(steps, t, INK, dots=True)]),
    ]
    image = Image.new("RGB", (sum(p.width for p in panels), panels[0].height), "white")
    for i, p in enumerate(panels):
        image.paste(p, (i * p.width, 0))
    return image


def _levels(s: Schedule, t: Sequence[float]) -> list[Curve]:
    ts = np.arange(s.T)
    a, b = (v.numpy() for v in s.at(t))
    lines = [Curve(ts, s.alphas, BLUE, "alpha"), Curve(ts, s.sigmas, RED, "sigma")]
    return [*lines, Curve(t, a, BLUE, dots=True), Curve(t, b, RED, dots=True)]


def _snr(s: Schedule, t: Sequence[float], logsnr: Sequence[float | None]) -> list[Curve]:
    both = (s.alphas > 0) & (s.sigmas > 0)
    line = Curve(np.arange(s.T)[both], 2 * np.log(s.alphas[both] / s.sigmas[both]), BLUE)
    marked = [(u, v) for u, v in zip(t, logsnr) if v is not None]
    dots = Curve([u for u, _ in marked], [v for _, v in marked], BLUE, "levels visited", dots=True)
    return [line, dots]


def plot(
    title: str, xlabel: str, curves: Sequence[Curve], size: tuple[int, int] = (420, 320), fine: int = 4
) -> Image.Image:
    """Curves over labelled axes. Lines are drawn `fine` times as large and reduced, which smooths them; text
    is not.
    """
    xs, ys = (np.concatenate([np.asarray(getattr(c, k), float) for c in curves]) for k in ("xs", "ys"))
    axes = _Axes(size, _range(xs, 0.0), _range(ys, 0.04))
    image = Image.new("RGB", (size[0] * fine, size[1] * fine), "white")
    pen = _Pen(ImageDraw.Draw(image), fine)
    _grid(pen, axes)
    for c in curves:
        pen.curve([(axes.px(x), axes.py(y)) for x, y in zip(c.xs, c.ys)], c)
    image = image.resize(size, Image.Resampling.LANCZOS)
    _words(ImageDraw.Draw(image), axes, title, xlabel, [c for c in curves if c.name])
    return image


@dataclass(frozen=True)
class _Axes:
    """What the axes show, and where: size of the plot in pixels, x and y from where to where."""

    size: tuple[int, int]
    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def right(self) -> int:
        return self.size[0] - RIGHT

    @property
    def bottom(self) -> int:
        return self.size[1] - BOTTOM

    def px(self, x: float) -> float:
        lo, hi = self.x
        return LEFT + (x - lo) / (hi - lo) * (self.size[0] - LEFT - RIGHT)

    def py(self, y: float) -> float:
        lo, hi = self.y
        return self.size[1] - BOTTOM - (y - lo) / (hi - lo) * (self.size[1] - TOP - BOTTOM)


@dataclass(frozen=True)
class _Pen:
    """Draws in the plot's pixels on a picture that is `fine` times as large."""

    draw: Any
    fine: int

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
        scaled = [(x * self.fine, y * self.fine) for x, y in points]
        self.draw.line(scaled, colour, round(width * self.fine), "curve")

    def curve(self, points: Sequence[tuple[float, float]], c: Curve) -> None:
        if not c.dots:
            self.line(points, c.colour, 2)
            return
        for x, y in points:
            box = [(v + d) * self.fine for d in (-3.4, 3.4) for v in (x, y)]
            self.draw.ellipse(box, c.colour, "white", self.fine)


def _grid(pen: _Pen, axes: _Axes) -> None:
    for x in ticks(*axes.x):
        pen.line([(axes.px(x), TOP), (axes.px(x), axes.bottom + 4)], PALE, 1)
    for y in ticks(*axes.y):
        pen.line([(LEFT - 4, axes.py(y)), (axes.right, axes.py(y))], PALE, 1)
    pen.line([(LEFT, TOP), (LEFT, axes.bottom), (axes.right, axes.bottom)], GREY, 1)


def _words(draw: ImageDraw.ImageDraw, axes: _Axes, title: str, xlabel: str, named: Sequence[Curve]) -> None:
    """Title, name of the x axis, numbers and legend."""
    write(draw, LEFT, 10, title, 14)
    write(draw, (LEFT + axes.right) // 2, axes.size[1] - 20, xlabel, 12, GREY, "ma")
    for x in ticks(*axes.x):
        write(draw, axes.px(x), axes.bottom + 6, f"{x:g}", 11, GREY, "ma")
    for y in ticks(*axes.y):
        write(draw, LEFT - 7, axes.py(y), f"{y:g}", 11, GREY, "rm")
    _legend(draw, named, axes.right, 11)


def _legend(draw: ImageDraw.ImageDraw, curves: Sequence[Curve], x: int, y: int) -> None:
    """The names of curves in one line that ends at x, each after a piece of its line."""
    for c in reversed(curves):
        x -= extent(c.name, 12)[0]
        write(draw, x, y, c.name, 12)
        if c.dots:
            draw.ellipse((x - 12, y + 5, x - 6, y + 11), c.colour)
        else:
            draw.line((x - 18, y + 8, x - 6, y + 8), c.colour, 2)
        x -= 32


def _range(v: np.ndarray, margin: float) -> tuple[float, float]:
    lo, hi = float(v.min()), float(v.max())
    if hi <= lo:
        lo, hi = lo - 0.5, hi + 0.5
    return lo - margin * (hi - lo), hi + margin * (hi - lo)


def ticks(lo: float, hi: float, about: int = 6) -> list[float]:
    """Round numbers in [lo, hi], steps of 1, 2 or 5 times a power of ten apart, `about` of them at most."""
    raw = (hi - lo) / about
    base = 10 ** math.floor(math.log10(raw))
    step = next(base * m for m in (1, 2, 5, 10) if base * m >= raw * (1 - 1e-9))
    return [round(k * step, 12) for k in range(math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9) + 1)]
