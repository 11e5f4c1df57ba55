"""What is seen on a picture or a terminal: a picture within another, and the screen that escape sequences
leave.
"""

from __future__ import annotations

import re

import numpy as np


def contains(big: np.ndarray, small: np.ndarray) -> tuple[int, int]:
    """(row, column) of the first exact copy of `small` (h, w, 3) in `big`; fails when there is none."""
    h, w = small.shape[:2]
    rows = np.lib.stride_tricks.sliding_window_view(big, (1, w, 3))[
        : len(big) - h + 1, :, 0, 0
    ]  # (y, x, w, 3)
    for y, x in np.argwhere((rows == small[0]).all((2, 3))):
        if np.array_equal(big[y : y + h, x : x + w], small):
            return int(y), int(x)
    raise AssertionError("the picture is not there")


class Terminal:
    """A terminal of so many columns and lines that knows what half-block previews use: moves, colours,
    scrolling.
    """

    def __init__(self, columns: int = 60, lines: int = 30):
        self.size, self.y, self.x, self.saved, self.colours = (columns, lines), 0, 0, (0, 0), None
        self.cells = [[(" ", None)] * columns for _ in range(lines)]

    def write(self, text: str) -> Terminal:
        for token in re.findall(r"\x1b\[[\d;]*[A-Za-z]|\x1b[78]|[^\x1b]", text):
            self._token(token)
        return self

    def _token(self, t: str) -> None:
        if t == "\n":
            self._newline()
        elif t == "\r":
            self.x = 0
        elif t == "\x1b7":
            self.saved = self.y, self.x
        elif t == "\x1b8":
            self.y, self.x = self.saved
        elif t[0] != "\x1b":
            self.cells[self.y][self.x] = t, self.colours
            self.x += 1
        else:
            self._command(t[-1], t[2:-1])

    def _newline(self) -> None:
        self.x = 0
        if self.y < self.size[1] - 1:
            self.y += 1
            return
        self.cells = [*self.cells[1:], [(" ", None)] * self.size[0]]

    def _command(self, letter: str, args: str) -> None:
        if letter == "A":
            self.y = max(0, self.y - int(args))
        elif letter == "B":
            self.y = min(self.size[1] - 1, self.y + int(args))
        elif letter == "D":
            self.x = max(0, self.x - int(args))
        elif letter == "K":
            self.cells[self.y][self.x :] = [(" ", None)] * (self.size[0] - self.x)
        elif letter == "m":
            self.colours = None if args == "0" else tuple(map(int, args.split(";")))
        else:
            raise AssertionError(f"unknown command {letter}")

    def line(self, y: int) -> str:
        return "".join(c for c, _ in self.cells[y]).rstrip()

    def picture(self) -> np.ndarray:
        """The pixels of the half blocks, (h, w, 3)."""
        rows = [[c for letter, c in line if letter == "▀"] for line in self.cells]
        rows = [[(c[2:5], c[7:10]) for c in line if c] for line in rows if line]
        assert len({len(r) for r in rows}) == 1, "rows of different lengths"
        return np.array([[p[half] for p in line] for line in rows for half in (0, 1)], np.uint8)
