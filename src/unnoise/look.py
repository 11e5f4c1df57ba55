"""Looking inside a run: what it passes through as pictures and numbers, its schedule as plots, labelled
grids, live previews.

    stages = Stages(pipe, "deep/")                        # a listener: pipe calls it with every State of a
                                                          run
    result = pipe("a handwritten seven", seed=7, on_state=stages)
    stages.close()                                        # the sheet, the plots and the numbers

Listeners read States and change nothing: a picture is the same to the bit with and without them. x is shown
divided by sqrt(alpha^2 + sigma^2), which gives it unit scale in every family (for a variance-preserving one
that is x itself).
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import textwrap
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unnoise.base import write
from unnoise.base.errors import BadInput
from unnoise.base.picture import opened
from unnoise.codec import is_of_pictures
from unnoise.codec.rgb import fit_rgb, with_one
from unnoise.media.files import free_stem
from unnoise.pipeline import Pipeline, make_folder, picture
from unnoise.process.schedule import Schedule
from unnoise.sample import State

INK, GREY, PALE, BLUE, RED = (20, 20, 20), (110, 110, 110), (225, 225, 225), (0, 94, 162), (196, 78, 0)
PAD = 10  # pixels between the pictures of a sheet
SHOWN = 24  # steps on the contact sheet, at most: evenly chosen, the first and the last among them
BUDGET = 0.02  # the part of a run's time that previews may take where no rhythm is asked for
_OURS = re.compile(r"step-\d{3,}-(x|x0|channels)\.png|stages\.png|schedule\.png|stages\.json")


def need_pictures(pipe: Pipeline, what: str) -> None:
    """BadInput when a model makes numbers, not pictures, and `what` shows pictures."""
    if not is_of_pictures(pipe.codec):
        raise BadInput(
            f"{what} needs a model of pictures: {pipe.name!r} makes {pipe.codec.medium.plural} of shape"
            f" {pipe.codec.shape(1)[1:]}"
        )


# --- stages -------------------------------------------------------------------------------------------------


class Stages:
    """A listener that writes what the first image of a run passes through into a folder, step by step.

    Per step k: `step-k-x.png`, `step-k-x0.png` (decoded) and `step-k-channels.png` (the tensors themselves).
    `close` adds `stages.png` (all on one sheet), `schedule.png` and the numbers in `stages.json`. Other files
    of the folder are left alone; where an earlier run lies there, `folder` becomes the first free one of
    `name-2`, `name-3`, …, unless `overwrite` lets it be removed. Files appear whole. BadInput on a model of
    vectors or a folder that cannot be written.
    """

    def __init__(self, pipe: Pipeline, folder: str | os.PathLike, overwrite: bool = False):
        need_pictures(pipe, "looking at stages")
        self.pipe, self.folder = pipe, FilePath(folder)
        if not overwrite:
            self.folder = free_stem(self.folder, lambda f: (f / "stages.json",))
        make_folder(self.folder)
        if not (self.folder / "stages.json").exists() and self._files():
            raise BadInput(
                f"{self.folder} holds a {self._files()[0].name} that is none of ours: name another folder"
            )
        self._begin()

    def _files(self) -> list[FilePath]:
        return sorted(f for f in self.folder.iterdir() if _OURS.fullmatch(f.name))

    def _begin(self) -> None:
        """Away with an earlier run; from now on stages.json marks the folder's pictures as ours, even if this
        run is broken off.
        """
        self.rows: list[dict[str, Any]] = []
        for f in self._files():
            f.unlink()
        self.write_numbers()
        self._before: tuple[Tensor, Tensor] | None = None

    def __call__(self, i: int, state: State) -> None:
        """Take in a State of the part of the batch that begins with image i."""
        if i:
            return
        if self.rows and self.rows[-1]["sigma"] == 0:
            self._begin()  # the run is made again, in a wider type
        x, x0, k = _first(state.x), _first(state.x0), len(self.rows)
        alpha, sigma = (float(v.flatten()[0]) for v in state.level)
        pair = decode(self.pipe, x / math.hypot(alpha, sigma)), decode(self.pipe, x0)
        for what, image in ("x", pair[0]), ("x0", pair[1]), ("channels", channels({"x": x, "x0": x0})):
            write_picture(image, self._file(k, what))
        t = float(self.pipe.schedule.timestep(state.level).flatten()[0])
        self.rows.append({"step": k, "t": t, **_numbers(alpha, sigma), **_spread(x, x0, self._before)})
        self._before = x.cpu(), x0.cpu()

    def _file(self, k: int, what: str) -> FilePath:
        return self.folder / f"step-{k:03}-{what}.png"

    def pair(self, k: int) -> tuple[Image.Image, Image.Image]:
        """x and the x0 estimate of step k, as they were written; at most 256 pixels a side."""
        x, x0 = (_fit(opened(self._file(k, what)), 1, 256) for what in ("x", "x0"))
        return x, x0

    def close(self) -> list[FilePath]:
        """Write the sheet, the plots and the numbers; returns the files of the run, by name. BadInput when it
        never began.
        """
        if not self.rows:
            raise BadInput("there is nothing to show: the run made no step")
        write_picture(self.sheet(), self.folder / "stages.png")
        t, logsnr = ([r[k] for r in self.rows] for k in ("t", "logsnr"))
        write_picture(plot_schedule(self.pipe.schedule, t, logsnr), self.folder / "schedule.png")
        self.write_numbers()
        return self._files()

    def write_numbers(self) -> None:
        """Write stages.json: of a run that is broken off, the steps so far."""
        about = {"model": self.pipe.name, "schedule": self.pipe.schedule.name, "T": self.pipe.schedule.T}
        write_bytes(json.dumps({**about, "steps": self.rows}, indent=1).encode(), self.folder / "stages.json")

    def sheet(self) -> Image.Image:
        """x over its x0 estimate, by step, each under its step, t and sigma/alpha."""
        n = len(self.rows)
        shown = sorted({round(k) for k in np.linspace(0, n - 1, min(n, SHOWN))})
        pairs = {k: self.pair(k) for k in shown}
        blocks, columns = (
            [],
            math.ceil(len(shown) / math.ceil(len(shown) / 8)),
        )  # 8 in a row at most, rows alike
        for k in range(0, len(shown), columns):
            part = shown[k : k + columns]
            blocks.append(
                sheet(
                    [[pairs[i][j] for i in part] for j in (0, 1)],
                    [_label(self.rows[i]) for i in part],
                    ["x", "x0"],
                    most=160,
                )
            )
        return _stack(blocks)


def _first(x: Tensor) -> Tensor:
    return x[:1].detach().float()


def _numbers(alpha: float, sigma: float) -> dict[str, float | None]:
    """A level's numbers; None stands for infinity, which JSON does not have."""
    ends = not (alpha and sigma)
    return {
        "alpha": alpha,
        "sigma": sigma,
        "ratio": sigma / alpha if alpha else None,
        "snr": (alpha / sigma) ** 2 if sigma else None,
        "logsnr": None if ends else 2 * math.log(alpha / sigma),
    }


def _spread(x: Tensor, x0: Tensor, before: tuple[Tensor, Tensor] | None) -> dict[str, float | None]:
    """Mean and standard deviation of x and x0, and the Euclidean norm of their change since the step
    before.
    """
    d: dict[str, float | None] = {}
    for name, now, old in zip(("x", "x0"), (x, x0), before or (None, None)):
        std, mean = torch.std_mean(now, correction=0)
        d |= {
            f"{name}_mean": float(mean),
            f"{name}_std": float(std),
            f"{name}_change": None if old is None else float((now.cpu() - old).norm()),
        }
    return {k: v if v is not None and math.isfinite(v) else None for k, v in d.items()}


def _label(row: dict[str, Any]) -> str:
    ratio = "inf" if row["ratio"] is None else f"{row['ratio']:.3g}"
    t = f"t {row['t']:.4g}" if row["t"] > -1 + 1e-6 else "clean"
    return f"step {row['step']}\n{t}\nsigma/alpha {ratio}"


def decode(pipe: Pipeline, x: Tensor) -> Image.Image:
    """The first sample of a tensor of a model's space as a picture; one that is not finite is shown as zeros
    (a run may recover from it).
    """
    x = x[:1].detach()
    return picture(pipe.decode(x if torch.isfinite(x).all() else torch.zeros_like(x))[0])


def channels(tensors: dict[str, Tensor]) -> Image.Image:
    """The channels of (1, c, h, w) tensors in grey, one row a tensor; each spans its own least … largest
    value, which stand above it.
    """
    blocks = []
    for name, x in tensors.items():
        planes = x[0].float().cpu().numpy()
        ends = [(float(p.min()), float(p.max())) for p in planes]
        greys = [_grey(p, lo, hi) for p, (lo, hi) in zip(planes, ends)]
        blocks.append(
            sheet(
                [greys],
                [f"channel {k}\n{lo:.2f} to {hi:.2f}" for k, (lo, hi) in enumerate(ends)],
                [name],
                margin=20,
            )
        )
    return _stack(blocks)


def _grey(plane: np.ndarray, lo: float, hi: float) -> Image.Image:
    level = (
        (plane - lo) / (hi - lo) if 0 < hi - lo < math.inf else np.full_like(plane, 0.5)
    )  # false for NaN too
    return Image.fromarray((level * 255).round().astype(np.uint8))


# --- sheets: pictures in rows and columns under labels ------------------------------------------------------


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
    cells = [[_fit(p, least, most) for p in row] for row in rows]
    w, h = max(p.width for row in cells for p in row), max(p.height for row in cells for p in row)
    w = max(w, min(150, max(_size(c, 13)[0] for c in columns)))
    columns, names = [_wrap(c, w) for c in columns], [_wrap(c, 150) for c in names]
    left = max((max(margin, _size(c, 13)[0]) for c in names), default=-PAD) + 2 * PAD
    width = left + len(columns) * (w + PAD)
    heads = [
        (_wrap(title, width - 2 * PAD, 15), 15),
        (_plain(over), 13),
        (max(columns, key=lambda c: _size(c, 13)[1]), 13),
    ]
    heights = [_size(text, size)[1] + PAD if text else 0 for text, size in heads]
    top = PAD + sum(heights)
    image = Image.new("RGB", (width, top + len(cells) * (h + PAD)), "white")
    draw = ImageDraw.Draw(image)
    _text(draw, PAD, PAD, heads[0][0], 15)
    _text(draw, left + (width - left - PAD) // 2, PAD + heights[0], over, 13, GREY, "ma")
    for j, column in enumerate(columns):
        _text(draw, left + j * (w + PAD) + w // 2, top - PAD // 2, column, 13, anchor="md")
    for i, row in enumerate(cells):
        y = top + i * (h + PAD)
        if names:
            _text(draw, left - PAD, y + h // 2, names[i], 13, anchor="rm")
        for j, p in enumerate(row):
            image.paste(
                p.convert("RGB"), (left + j * (w + PAD) + (w - p.width) // 2, y + (h - p.height) // 2)
            )
    return image


def _fit(p: Image.Image, least: int, most: int) -> Image.Image:
    side = max(p.size)
    if side > most:
        return p.resize(
            (max(1, p.width * most // side), max(1, p.height * most // side)), Image.Resampling.LANCZOS
        )
    k = -(-least // side)
    return p.resize((p.width * k, p.height * k), Image.Resampling.NEAREST) if k > 1 else p


def _stack(blocks: Sequence[Image.Image]) -> Image.Image:
    image = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), "white")
    y = 0
    for b in blocks:
        image.paste(b, (0, y))
        y += b.height
    return image


def _plain(text: str) -> str:
    """Text in the letters that PIL's own font has (ASCII): accents dropped, anything else a question mark."""
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c == "\n" or 32 <= ord(c) < 127 else "?" for c in letters)


def _wrap(text: str, width: int, size: int = 13, lines: int = 3) -> str:
    """Text broken into lines of about `width` pixels; what does not fit in so many lines ends in dots."""
    broken = lambda line: textwrap.wrap(
        line, max(4, round(width / (0.55 * size))), max_lines=lines, placeholder=" ..."
    )
    return "\n".join(
        "\n".join(broken(line)) if _size(line, size)[0] > width else line for line in _plain(text).split("\n")
    )


def _size(text: str, size: int) -> tuple[int, int]:
    """Width and height of a text, the height as if every line had tall letters and hanging ones."""
    text, font = _plain(text), ImageFont.load_default(size=size)
    box = lambda words: ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), words, font=font)
    return math.ceil(box(text)[2]), math.ceil(box("\n".join("Ag" for _ in text.split("\n")))[3])


def _text(
    draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, fill=INK, anchor: str = "la"
) -> None:
    align = "center" if anchor[0] == "m" else "right" if anchor[0] == "r" else "left"
    draw.multiline_text(
        (x, y), _plain(text), font=ImageFont.load_default(size=size), fill=fill, anchor=anchor, align=align
    )


# --- plots --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """Points (x, y) of a plot: joined by a line, or (dots) marked one by one. A name puts it into the
    legend.
    """

    xs: Sequence[float] | np.ndarray
    ys: Sequence[float] | np.ndarray
    colour: tuple[int, int, int]
    name: str = ""
    dots: bool = False


def plot_schedule(s: Schedule, t: Sequence[float], logsnr: Sequence[float | None]) -> Image.Image:
    """A schedule and the levels t that a run visited on it: alpha and sigma, log SNR, and the grid by
    step.
    """
    ts = np.arange(s.T)
    both = (s.alphas > 0) & (s.sigmas > 0)
    a, b = (v.numpy() for v in s.at(t))
    marked = [(u, v) for u, v in zip(t, logsnr) if v is not None]
    curves = [
        Curve(ts, s.alphas, BLUE, "alpha"),
        Curve(ts, s.sigmas, RED, "sigma"),
        Curve(t, a, BLUE, dots=True),
        Curve(t, b, RED, dots=True),
    ]
    snr = [Curve(ts[both], 2 * np.log(s.alphas[both] / s.sigmas[both]), BLUE)]
    snr.append(Curve([u for u, _ in marked], [v for _, v in marked], BLUE, "levels visited", dots=True))
    steps = range(len(t))
    panels = [
        plot("alpha and sigma", "t", curves),
        plot("log SNR = 2 log(alpha / sigma)", "t", snr),
        plot("the grid: t of each step", "step", [Curve(steps, t, GREY), Curve(steps, t, INK, dots=True)]),
    ]
    image = Image.new("RGB", (sum(p.width for p in panels), panels[0].height), "white")
    for i, p in enumerate(panels):
        image.paste(p, (i * p.width, 0))
    return image


def plot(
    title: str, xlabel: str, curves: Sequence[Curve], size: tuple[int, int] = (420, 320), fine: int = 4
) -> Image.Image:
    """Curves over labelled axes. Lines are drawn `fine` times as large and reduced, which smooths them; text
    is not.
    """
    (w, h), (left, top, right, bottom) = size, (54, 34, 20, 44)
    xs, ys = (np.concatenate([np.asarray(getattr(c, k), float) for c in curves]) for k in ("xs", "ys"))
    (x_lo, x_hi), (y_lo, y_hi) = _range(xs, 0.0), _range(ys, 0.04)
    px = lambda x: left + (x - x_lo) / (x_hi - x_lo) * (w - left - right)
    py = lambda y: h - bottom - (y - y_lo) / (y_hi - y_lo) * (h - top - bottom)
    image = Image.new("RGB", (w * fine, h * fine), "white")
    pen, x_ticks, y_ticks = ImageDraw.Draw(image), ticks(x_lo, x_hi), ticks(y_lo, y_hi)
    line = lambda points, colour, width: pen.line(
        [(x * fine, y * fine) for x, y in points], colour, round(width * fine), "curve"
    )
    for x in x_ticks:
        line([(px(x), top), (px(x), h - bottom + 4)], PALE, 1)
    for y in y_ticks:
        line([(left - 4, py(y)), (w - right, py(y))], PALE, 1)
    line([(left, top), (left, h - bottom), (w - right, h - bottom)], GREY, 1)
    for c in curves:
        points = [(px(x), py(y)) for x, y in zip(c.xs, c.ys)]
        if not c.dots:
            line(points, c.colour, 2)
            continue
        for x, y in points:
            pen.ellipse([(v + d) * fine for d in (-3.4, 3.4) for v in (x, y)], c.colour, "white", fine)
    image = image.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    _text(draw, left, 10, title, 14)
    _text(draw, (left + w - right) // 2, h - 20, xlabel, 12, GREY, "ma")
    for x in x_ticks:
        _text(draw, px(x), h - bottom + 6, f"{x:g}", 11, GREY, "ma")
    for y in y_ticks:
        _text(draw, left - 7, py(y), f"{y:g}", 11, GREY, "rm")
    _legend(draw, [c for c in curves if c.name], w - right, 11)
    return image


def _legend(draw: ImageDraw.ImageDraw, curves: Sequence[Curve], x: int, y: int) -> None:
    """The names of curves in one line that ends at x, each after a piece of its line."""
    for c in reversed(curves):
        x -= _size(c.name, 12)[0]
        _text(draw, x, y, c.name, 12)
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


# --- previews -----------------------------------------------------------------------------------------------


class Preview:
    """A listener that shows the x0 estimate of a run's first image as it forms.

    show(picture, state, k) is called for every `every`-th State k of a run, the result left out (the caller
    has it); where `every` is None, for as many as keep within BUDGET of the time since the first one, by
    measured cost. Latents are shown by a fitted map (`fit_rgb`), or with `decoder` by the true one. clock:
    seconds, growing. BadInput on a model of vectors.
    """

    def __init__(
        self,
        pipe: Pipeline,
        show: Callable[[Image.Image, State, int], None],
        every: int | None = None,
        decoder: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ):
        need_pictures(pipe, "a preview")
        if every is not None and every < 1:
            raise BadInput(f"a preview is shown every k steps, k at least 1, given {every}")
        self.pipe, self.show, self.every, self.clock = pipe, show, every, clock
        self.mapped = pipe.codec.autoencoder is not None and not decoder
        self.step, self.spent, self.began = 0, 0.0, clock()
        self.cost = 0.01  # of one preview, in seconds: a guess until one is measured

    def __call__(self, i: int, state: State) -> None:
        """Take in a State of the part of the batch that begins with image i."""
        if state.level.clean:
            self.step = 0
            return  # the next State begins another part
        now = self.clock()
        if self._due(now):
            self.show(self.rough(state.x0) if self.mapped else decode(self.pipe, state.x0), state, self.step)
            self.cost = self.clock() - now
            self.spent += self.cost
        self.step += 1

    def _due(self, now: float) -> bool:
        if self.every:
            return self.step % self.every == 0
        return self.spent + self.cost <= BUDGET * (now - self.began)

    @cached_property
    def _rgb(self) -> Tensor:
        return fit_rgb(self.pipe.codec)

    def rough(self, z: Tensor) -> Image.Image:
        """The first sample's latents as a small picture, one pixel a position."""
        z = z[:1].detach().float().cpu()
        rgb = (with_one(z) @ self._rgb).reshape(*z.shape[2:], 3)
        return picture((rgb.nan_to_num().clamp(0, 1) * 255).round().byte().numpy())


# --- files --------------------------------------------------------------------------------------------------


def write_picture(image: Image.Image, path: FilePath) -> FilePath:
    """Write a PNG without a recipe, whole or not at all. Returns its path."""
    out = io.BytesIO()
    image.save(out, format="PNG")
    return write_bytes(out.getvalue(), path)


def write_bytes(data: bytes, path: FilePath) -> FilePath:
    """Write a file, whole or not at all. Returns its path; BadInput when it cannot be written."""
    return write.put(path, data)
