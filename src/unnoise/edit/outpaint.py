"""Outpainting: a picture goes on beyond its sides; zooming out: it shrinks, and what comes to lie around it
is drawn, again and again.

    outpaint(pipe, "apple.png", "a red apple on a blue background", left=32, right=32)
    zoom_out(pipe, "apple.png", "apples", passes=4).save("out.gif")

A side grows window by window. A window has the picture's own extent along that side's axis, `overlap` of it
or more already drawn, and the rest is inpainted (see `inpaint` for the methods): detail stays that of the
picture, and there is no largest amount but `picture.LIMIT`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from unnoise.base import arguments, write
from unnoise.base.errors import BadInput
from unnoise.base.picture import MOST_PIXELS
from unnoise.edit.inpaint import SOFT, Filling, fill
from unnoise.edit.picture import LIMIT, Given, Picture, read, resized, working_size
from unnoise.edit.run import Run, begin, own_size
from unnoise.pipeline import Pipeline, Result

OVERLAP = 0.5
SIDES = ("left", "right", "top", "bottom")
FORMATS = (".gif", ".png", ".webp", ".mp4")
STILLS = {".gif": "GIF", ".png": "PNG", ".webp": "WEBP"}  # what Pillow writes, by its names


def outpaint(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    overlap: float = OVERLAP,
    method: str | None = None,
    soft: int = SOFT,
    times: int | None = None,
    jump: int | None = None,
    **how: Any,
) -> Result:
    """Pictures larger by so many pixels a side, with the image's own bytes where it lies.

    overlap: the least share of a window that is already drawn, from .1 to .9. The rest as for `inpaint`, but
    for a size; soft edges lie in what is new. The Result's nfe counts all windows. Errors: BadInput, also
    where no side grows.
    """
    filling, picture = Filling.of(pipe, method, 1.0, soft, times, jump), read(image)
    grow = _sides(picture, left, right, top, bottom)
    overlap = arguments.number("overlap", overlap, 0.1, 0.9)
    drawing = {"method": filling.method, "soft": soft, "times": times, "jump": jump}
    run = begin(pipe, "outpaint", picture, prompt, {**grow, "overlap": overlap, **drawing}, how, own_size)
    pictures, nfe = [picture], 0
    for side, n in windows(picture.size, grow, overlap):
        pictures, calls = _grown(run, pictures, side, n, filling)
        nfe += calls
    return run.result([p.whole() for p in pictures], nfe)


def _sides(picture: Picture, *amounts: int) -> dict[str, int]:
    amounts = tuple(arguments.integer(side, n, 0) for side, n in zip(SIDES, amounts))
    left, right, top, bottom = amounts
    if not any(amounts):
        raise BadInput("nothing to draw: give pixels for at least one of left, right, top and bottom")
    h, w = picture.size[0] + top + bottom, picture.size[1] + left + right
    if max(h, w) > LIMIT or h * w > MOST_PIXELS:
        raise BadInput(
            f"the picture would have {w} x {h} pixels: at most {LIMIT} a side and {MOST_PIXELS // 10**6}"
            " million in all are accepted"
        )
    return dict(zip(SIDES, amounts))


def windows(size: tuple[int, int], grow: dict[str, int], overlap: float) -> Iterator[tuple[str, int]]:
    """(side, pixels) of each window in turn: left and right by turns, then top and bottom."""
    for pair, extent in ((("left", "right"), size[1]), (("top", "bottom"), size[0])):
        left, most = {s: grow[s] for s in pair}, max(1, int(extent * (1 - overlap)))
        while any(left.values()):
            for side in pair:
                n = min(left[side], most)
                left[side] -= n
                if n:
                    yield side, n


def _grown(run: Run, pictures: Sequence[Picture], side: str, n: int, f: Filling) -> tuple[list[Picture], int]:
    """The pictures with n pixels more at a side, drawn in a window of the first picture's extent along that
    axis.
    """
    axis, first = (1 if side in ("left", "right") else 0), side in ("left", "top")
    wide = [_padded(p, axis, n, first) for p in pictures]
    window = _window(wide[0].size, axis, max(run.picture.size[axis], n + 1), first)
    shown = [_each(p, lambda a: a[window]) for p in wide]
    mask = np.zeros(shown[0].size)
    mask[_window(mask.shape, axis, n, first)] = 1.0
    arrays, nfe = fill(run.at(working_size(run.pipe, shown[0])), shown, mask, f)
    wide = wide * len(arrays) if len(wide) == 1 else wide
    return [_put(p, a, window) for p, a in zip(wide, arrays)], nfe


def _window(size: Sequence[int], axis: int, extent: int, first: bool) -> tuple[slice, ...]:
    """The rows or columns, so many of a picture of this size, at the beginning or the end of an axis."""
    begin = 0 if first else max(0, size[axis] - extent)
    out = [slice(None), slice(None)]
    out[axis] = slice(begin, begin + extent)
    return tuple(out)


def _padded(p: Picture, axis: int, n: int, first: bool) -> Picture:
    """n pixels more, the edge repeated, opaque as the edge is."""
    return _each(
        p,
        lambda a: np.pad(
            a, [(0, 0) if k != axis else (n, 0) if first else (0, n) for k in range(a.ndim)], mode="edge"
        ),
    )


def _each(p: Picture, f: Callable[[np.ndarray], np.ndarray]) -> Picture:
    """A picture of f(pixels), f(alpha) and f(raw)."""
    some = lambda a: None if a is None else f(a)
    return Picture(f(p.pixels), some(p.alpha), None, some(p.raw))


def _put(p: Picture, part: np.ndarray, window: tuple[slice, ...]) -> Picture:
    pixels = p.whole().copy()
    pixels[window] = part
    return read(pixels)


# --- zooming out --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Zoom:
    """Pictures that a zoom passes through, uint8 (passes + 1, h, w, 3), the given one first; each holds the
    one before, `factor` times smaller.
    """

    pictures: np.ndarray
    factor: float
    seed: int
    nfe: int

    def frames(self, each: int = 12) -> list[np.ndarray]:
        """uint8 (h, w, 3) frames, `each` a pass and the last picture: the view widens evenly in its
        logarithm.
        """
        out = [
            _view(small, large, self.factor, k / each)
            for small, large in zip(self.pictures, self.pictures[1:])
            for k in range(each)
        ]
        return [*out, self.pictures[-1]]

    def save(self, path: str | os.PathLike, each: int = 12, fps: int = 15, overwrite: bool = False) -> Path:
        """Write the frames as an animated .gif (256 colours), .png or .webp (all colours, lossless) or as an
        .mp4 film, whole or not at all.

        Returns the path: where a file of that name lies, its first free number, unless `overwrite`. The
        frames' mean rate is `fps`: a GIF counts hundredths of a second, .png and .webp thousandths, so that
        single frames differ by one of them; a GIF plays at most 50 a second. An .mp4 needs PyAV (`pip install
        "unnoise[video]"`). Errors: BadInput.
        """
        path = Path(path)
        check_format(path)
        for name, v in (("frames", each), ("fps", fps)):
            arguments.integer(name, v, 1, 100)
        make = _film if path.suffix.lower() == ".mp4" else _animation
        if overwrite:
            with write.new_file(path) as part:
                make(part, self.frames(each), fps, path.suffix.lower())
            return path
        with TemporaryDirectory() as folder:
            film = Path(folder) / path.name
            make(film, self.frames(each), fps, path.suffix.lower())
            return write.put_beside(path, film.read_bytes())


def check_format(path: Path) -> None:
    """BadInput unless a zoom can be written to such a file here."""
    if path.suffix.lower() not in FORMATS:
        raise BadInput(f"cannot write {path}: a zoom is a {', '.join(FORMATS)} file")
    if path.suffix.lower() == ".mp4" and not find_spec("av"):
        raise BadInput(
            f'cannot write {path}: films need PyAV: pip install "unnoise[video]" (without it:'
            f" {', '.join(STILLS)})"
        )


def _animation(path: Path, frames: Sequence[np.ndarray], fps: int, suffix: str) -> None:
    from PIL import Image

    first, *others = [Image.fromarray(f) for f in frames]
    times = durations(len(frames), fps, 10 if suffix == ".gif" else 1)
    first.save(
        path,
        format=STILLS[suffix],
        save_all=True,
        append_images=others,
        duration=times,
        loop=0,
        **({"lossless": True} if suffix == ".webp" else {}),
    )


def durations(n: int, fps: int, unit: int) -> list[int]:
    """Milliseconds of each of n frames, whole units of a format, whose sums keep to the rate: the k-th frame
    ends at k / fps to the nearest unit.
    """
    ends = [round(1000 * k / (fps * unit)) for k in range(n + 1)]
    return [unit * (b - a) for a, b in pairwise(ends)]


def _film(path: Path, frames: Sequence[np.ndarray], fps: int, suffix: str) -> None:
    """H.264 in yuv420p, which players and browsers take; of an odd side the last row or column is
    repeated.
    """
    import av

    h, w = frames[0].shape[:2]
    with av.open(path, "w", format=suffix[1:]) as film:
        stream = film.add_stream("h264", rate=fps, options={"crf": "16"})
        stream.height, stream.width, stream.pix_fmt = h + h % 2, w + w % 2, "yuv420p"
        for f in frames:
            even = np.pad(f, ((0, h % 2), (0, w % 2), (0, 0)), "edge")
            film.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        film.mux(stream.encode(None))


def zoom_out(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    passes: int = 4,
    factor: float = 1.5,
    method: str | None = None,
    soft: int = SOFT,
    times: int | None = None,
    jump: int | None = None,
    seed: int | None = None,
    work: str | os.PathLike | None = None,
    **how: Any,
) -> Zoom:
    """The picture, then `passes` times: it shrinks by `factor` (1.1 to 4), and what comes to lie around it is
    drawn. Transparency lies on white.

    Pass k has seed `seed` + k. work: a folder in which finished passes of this very zoom are kept, and found
    again. The rest as for `outpaint`. Errors: BadInput.
    """
    filling, picture = Filling.of(pipe, method, 1.0, soft, times, jump), Picture(read(image).pixels)
    passes, factor = arguments.integer("passes", passes, 1, 100), arguments.number("factor", factor, 1.1, 4)
    how |= {"seed": seed, "num_images": passes}
    options = {"factor": factor, **vars(filling)}
    run = begin(pipe, "zoom-out", picture, prompt, options, how, own_size).keeping(work)
    pictures, nfe = [picture.pixels], 0
    for k in range(passes):
        canvas, mask = shrunk(pictures[-1], factor)
        arrays, calls = fill(run.only([k]), [Picture(canvas)], mask, filling)
        pictures, nfe = [*pictures, arrays[0]], nfe + calls
    return Zoom(np.stack(pictures), float(factor), run.request.seeds[0], nfe)


def shrunk(pixels: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 (h, w, 3), mask (h, w)): a picture made smaller in its own frame, its edge repeated around it,
    and where that is: 1.
    """
    y, x, (h, w) = _inner(pixels.shape[:2], factor)
    below, beside = pixels.shape[0] - y - h, pixels.shape[1] - x - w
    canvas = np.pad(resized(pixels, (h, w)), [(y, below), (x, beside), (0, 0)], mode="edge")
    mask = np.ones(pixels.shape[:2])
    mask[y : y + h, x : x + w] = 0
    return canvas, mask


def _inner(size: Sequence[int], factor: float) -> tuple[int, int, tuple[int, int]]:
    """Where a picture of this size lies once it has shrunk: top, left, (height, width)."""
    h, w = (max(1, round(v / factor)) for v in size)
    if (h, w) == tuple(size):
        raise BadInput(f"a picture of {size[1]} x {size[0]} pixels is too small to shrink by {factor:g}")
    return (size[0] - h) // 2, (size[1] - w) // 2, (h, w)


def _view(small: np.ndarray, large: np.ndarray, factor: float, t: float) -> np.ndarray:
    """The frame a fraction t of the way from `small` to `large`, which holds it: large, cut and enlarged,
    with small itself in its middle.
    """
    from PIL import Image

    h, w = small.shape[:2]
    y, x, inner = _inner((h, w), factor)
    if t == 0:
        return small
    s = factor ** (1 - t)  # how much larger `large` appears
    cy, cx = y + inner[0] / 2, x + inner[1] / 2
    box = (cx - cx / s, cy - cy / s, cx + (w - cx) / s, cy + (h - cy) / s)
    out = Image.fromarray(large).resize((w, h), Image.Resampling.BICUBIC, box=box)
    left, top = round((x - box[0]) * s), round((y - box[1]) * s)
    size = (max(1, round(inner[1] * s)), max(1, round(inner[0] * s)))
    out.paste(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC), (left, top))
    return np.asarray(out)
