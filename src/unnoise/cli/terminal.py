"""What reaches the terminal: text without control characters, and pictures.

Pictures take the graphics protocols of kitty, iTerm2 and sixel, else two pixels a character (▀). What a
terminal can show is taken from what it says of itself (TERM, TERM_PROGRAM, KITTY_WINDOW_ID, COLORTERM); it is
never asked, as its answer would arrive among what the user types.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import warnings
from base64 import standard_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TextIO

from unnoise.base.text import clean, one_line

if TYPE_CHECKING:
    from PIL import Image

_SIXEL = ("foot", "mlterm", "contour", "yaft", "sixel")


def ability(stream: IO[str], env: Mapping[str, str] = os.environ) -> str | None:
    """How a stream can show pictures: "kitty", "iterm", "sixel", "blocks" (24 bits), "blocks256"; None where
    it cannot.
    """
    term, program = env.get("TERM", ""), env.get("TERM_PROGRAM", "")
    if not stream.isatty() or term in ("", "dumb") or env.get("NO_COLOR"):
        return None
    if not (
        env.get("TMUX") or term.startswith(("tmux", "screen"))
    ):  # these swallow graphics, whatever terminal they run in
        if env.get("KITTY_WINDOW_ID") or "kitty" in term or "ghostty" in term:
            return "kitty"
        if program in ("iTerm.app", "WezTerm"):
            return "iterm"
        if any(name in term for name in _SIXEL):
            return "sixel"
    if env.get("COLORTERM") in ("truecolor", "24bit") or "direct" in term:
        return "blocks"
    return "blocks256" if "256" in term else None


class Printable(io.TextIOBase):
    """A text stream that spells out control characters before they reach the stream below it: libraries print
    names of files too.

    `below` takes what is our own: progress bars and pictures.
    """

    def __init__(self, below: TextIO, called: str):
        """called: its name in the error when it cannot be written to."""
        self.below, self.called = below, called

    def write(self, text: str) -> int:
        with self._named():
            self.below.write(clean(text, lines=True))
        return len(text)

    def flush(self) -> None:
        with self._named():
            self.below.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise OSError(e.errno, f"cannot write to {self.called}: {e.strerror}") from None

    def isatty(self) -> bool:
        return self.below.isatty()

    def fileno(self) -> int:
        return self.below.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.below.encoding

    @property
    def errors(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.below.errors


def below(stream: IO[str] | io.TextIOBase) -> TextIO:
    """The stream for our own escape sequences: what a guarded one writes to, or the stream itself."""
    return getattr(stream, "below", stream)  # type: ignore[return-value]


def guard() -> None:
    """Make stdout and stderr of this process safe to print to, whatever is printed and wherever they lead.

    Control characters are spelled out, letters that the locale cannot write too; a warning of Python is one
    line. A closed stdout is replaced by one that refuses, so that no file gets its number and the loss is
    told; what a closed stderr would get is dropped.
    """
    for number, name, mode in (
        (0, "stdin", os.O_RDONLY),
        (1, "stdout", os.O_RDONLY),
        (2, "stderr", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            _fill(number, name, mode)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, Printable(stream, name))
    warnings.showwarning = _warned


def _fill(number: int, name: str, mode: int) -> None:
    """Put /dev/null where a standard stream was closed; its number is the lowest free one, which `open`
    takes.
    """
    handle = os.open(os.devnull, mode)
    if handle != number:
        os.dup2(handle, number)
        os.close(handle)
    # (it lives as long as the process)
    setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def _warned(message, category, filename, lineno, file=None, line=None) -> None:
    """Python's warnings in one line on stderr."""
    print("warning: " + one_line(str(message)), file=file or sys.stderr)


class Screen:
    """A place of a terminal that holds one picture and a line of text below it, drawn again and again."""

    def __init__(self, stream: IO[str], how: str, size: tuple[int, int] | None = None):
        """how: see `ability`; size: the terminal's (columns, lines), measured when None."""
        self.stream, self.how = below(stream), how
        self.size = size or tuple(shutil.get_terminal_size())
        self.rows = 0

    def show(self, image: Image.Image, line: str = "") -> None:
        """Put a picture where the one before was, `line` below it; the cursor is left on the line after."""
        columns, rows = self._cells(image)
        if not self.rows:
            self.rows = rows
            self.stream.write("\n" * (rows + 1))  # scrolls where there is no room below
        picture = ENCODERS[self.how](image.convert("RGB"), columns, self.rows)
        up, down, below = f"\x1b[{self.rows + 1}A", f"\x1b[{self.rows}B", clean(line)[: self.size[0] - 1]
        self.stream.write(f"{up}\r\x1b7{picture}\x1b8{down}\r{below}\x1b[K\n")
        self.stream.flush()

    def _cells(self, image: Image.Image) -> tuple[int, int]:
        """Columns and rows for a picture, for characters twice as high as wide: 20 rows at most, less on
        small terminals.
        """
        rows = max(1, min(20, self.size[1] - 3, self.size[0] * image.height // (2 * image.width)))
        if self.how.startswith("blocks") and image.height <= 2 * rows:
            rows = max(1, 2 * rows // image.height * image.height // 2)  # whole pixels
        return max(1, min(self.size[0], round(2 * rows * image.width / image.height))), rows


def blocks(image: Image.Image, columns: int, rows: int, colours: int = 24) -> str:
    """columns x rows characters ▀, each with its upper pixel as ink and its lower one as paper; colours:
    bits, 24 or 8.
    """
    pixels = _resized(image, columns, 2 * rows).load()
    assert pixels is not None
    colour = (
        (lambda p: f"2;{p[0]};{p[1]};{p[2]}")
        if colours == 24
        else (lambda p: f"5;{16 + sum(m * round(v / 51) for m, v in zip((36, 6, 1), p))}")
    )
    line = lambda y: (
        "".join(f"\x1b[38;{colour(pixels[x, y])};48;{colour(pixels[x, y + 1])}m▀" for x in range(columns))
        + "\x1b[0m"
    )
    return f"\x1b[{columns}D\x1b[1B".join(map(line, range(0, 2 * rows, 2)))


def kitty(image: Image.Image, columns: int, rows: int) -> str:
    """A PNG in pieces of 4096 base64 letters (kitty graphics protocol). One id: the next picture takes this
    one's place.
    """
    data = standard_b64encode(_png(_enlarged(image))).decode()
    pieces = [data[i : i + 4096] for i in range(0, len(data), 4096)]
    head = f"a=T,f=100,i=20200619,p=1,c={columns},r={rows},C=1,q=2,"  # C=1: the cursor stays; q=2: no answer
    return "".join(
        f"\x1b_G{head if i == 0 else ''}m={int(i < len(pieces) - 1)};{piece}\x1b\\"
        for i, piece in enumerate(pieces)
    )


def iterm(image: Image.Image, columns: int, rows: int) -> str:
    """A PNG in iTerm2's inline image sequence, columns x rows characters large."""
    data = _png(_enlarged(image))
    how = f"inline=1;size={len(data)};width={columns};height={rows};preserveAspectRatio=0"
    return f"\x1b]1337;File={how}:{standard_b64encode(data).decode()}\x07"


def sixel(image: Image.Image, columns: int, rows: int) -> str:
    """Sixel graphics of 64 colours: bands of six pixel rows, one pass a colour, runs counted; characters
    taken as 8 x 16 pixels.
    """
    import numpy as np

    image = _resized(image, 8 * columns, 16 * rows).quantize(64)
    a, palette = np.asarray(image), image.getpalette() or []
    out = [f'\x1bP0;1q"1;1;{image.width};{image.height}']
    for c in range(len(palette) // 3):
        out.append(f"#{c};2;" + ";".join(str(round(v / 2.55)) for v in palette[3 * c : 3 * c + 3]))
    for y in range(0, len(a), 6):
        band = a[y : y + 6]
        bits = 1 << np.arange(len(band))[:, None]
        passes = [f"#{c}" + _runs(((band == c) * bits).sum(0)) for c in np.unique(band)]
        out.append("$".join(passes) + "-")
    return "".join(out) + "\x1b\\"


def _runs(values) -> str:
    """Sixel letters of a row of six-bit values, with repeats counted."""
    from itertools import groupby

    runs = [(chr(63 + int(v)), len(list(g))) for v, g in groupby(values)]
    return "".join(f"!{n}{c}" if n > 3 else c * n for c, n in runs)


ENCODERS = {
    "kitty": kitty,
    "iterm": iterm,
    "sixel": sixel,
    "blocks": blocks,
    "blocks256": lambda image, c, r: blocks(image, c, r, 8),
}


def _resized(image: Image.Image, w: int, h: int) -> Image.Image:
    from PIL.Image import Resampling

    grows = w >= image.width and h >= image.height
    return image.resize((w, h), Resampling.NEAREST if grows else Resampling.BOX)


def _enlarged(image: Image.Image) -> Image.Image:
    """Small pictures enlarged by a whole factor, as terminals blur what they enlarge."""
    k = max(1, 256 // max(image.size))
    return _resized(image, k * image.width, k * image.height)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()
