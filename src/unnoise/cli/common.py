"""What every command shares: one JSON object on stdout or plain lines, progress and notes on stderr, errors
in one line.

All that a command prints goes through `emit`, `say`, `note`, `warn` and `progress`, which spell out control
characters: names of files, keys and texts of models, recipes and pictures are other people's.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unnoise.base import names
from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import clean, one_line, short
from unnoise.cli.terminal import below

if TYPE_CHECKING:
    from rich.console import Console

_GUIDE = (
    "A wish about the picture, NAME=VALUE:WEIGHT, as in color=green:2 or clip=a happy face; may be repeated"
    " (colour, mean, brightness, clip, clip-noised, target, edges, style, judge, smooth). In the text of clip"
    " a colon between two digits is the text's own, as in clip=a clock at 10:30; for a weight put a space"
    " before it: clip=a clock at 10:30 :2."
)
Guide = Annotated[list[str] | None, typer.Option("--guide", metavar="GUIDE", help=_GUIDE)]
Through = Annotated[
    bool, typer.Option("--guide-through", help="Follow the guides' gradient through the network too: slower.")
]
Linear = Annotated[
    bool,
    typer.Option(
        "--guide-linear", help="Show the guides latents by a linear map, not by the decoder: faster, coarser."
    ),
]


def emit(result: dict, as_json: bool, text: str | None = None) -> None:
    """Print a command's result: one JSON object on stdout, or `text` (the object's entries, one a line, when
    None).
    """
    if as_json:
        print(as_text(result))
    else:
        say(text if text is not None else "\n".join(clean(f"{k}: {v}") for k, v in result.items()))


def as_text(result: Any) -> str:
    """A value as JSON in printable ASCII; numbers that JSON does not have (NaN, infinities) are null."""
    try:
        written = json.dumps(result, allow_nan=False)
    except ValueError:
        written = json.dumps(_finite(result), allow_nan=False)
    return written.replace("\x7f", "\\u007f")  # DEL, the one control character that JSON lets stand


def no_sampler_option(given: str) -> BadInput:
    """The error for what --option was given that no sampler has; it may be an option of the command
    itself.
    """
    flags = [
        name.strip() for ours, _ in names.OPTIONS for name in ours.split("|") if name.strip().startswith("--")
    ]
    own = names.spelled(given, flags)
    if own and not names.spelled(given, names.SAMPLER_OPTIONS):
        return BadInput(f"--option is for the options of a sampler, and {short(given)} is none: give {own}")
    return unknown("option of a sampler", given, names.SAMPLER_OPTIONS)


def say(text: object = "") -> None:
    """Print lines on stdout."""
    print(_cleaned(text))


def note(text: object) -> None:
    """Print lines on stderr: what goes on, which is no part of the result."""
    with suppress(OSError):  # a terminal that was closed
        print(_cleaned(text), file=sys.stderr)


def warn(text: object) -> None:
    """Print one line on stderr: something that the user should know before trusting the result."""
    note("warning: " + one_line(str(text)))


def console() -> Console:
    """Rich's console on stderr, past the guard that spells out escape sequences: what is foreign must be
    cleaned before.
    """
    from rich.console import Console

    return Console(file=below(sys.stderr), highlight=False, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def progress(label: str, total: int | None, unit: str = "step") -> Iterator:
    """A progress bar on stderr with the time taken and the time left, shown in terminals only; yields
    advance(n=1, note="", total=None).

    total: of `unit`s; None where it is not known yet: advance(0, total=…) says it later, and the time left is
    told from then on.
    """
    if not sys.stderr.isatty():
        yield lambda n=1, note="", total=None: None
        return
    with bar_of(unit) as bar:
        task = bar.add_task(clean(label), total=total, note="")

        def advance(n: int = 1, note: str = "", total: int | None = None) -> None:
            bar.update(task, advance=n, note=clean(note), total=total)  # None leaves the total as it was

        yield advance


def bar_of(unit: str):
    """Rich's progress bar with our columns."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Left(TextColumn):
        """The time left, where the total is known; not a word elsewhere."""

        def render(self, task) -> Text:
            left = task.time_remaining
            return Text(
                "" if left is None or not task.total else f"{_clock(left)} left", style="progress.remaining"
            )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit + "s", markup=False),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        Left(""),
    )
    return Progress(*columns, console=console(), transient=True)


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def _cleaned(text: object) -> str:
    """Line by line: line feeds stay, tabs and all else are spelled out."""
    return "\n".join(clean(line) for line in str(text).split("\n"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
