"""What every command shares: one JSON object on stdout or plain lines, progress on stderr, errors in one line."""
from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Optional

import typer

_GUIDE = "A wish about the picture, NAME=VALUE:WEIGHT, as in color=green:2 or clip=a happy face; may be repeated (colour, mean, brightness, clip, "\
    "clip-noised, target, edges, style, judge, smooth)."
Guide = Annotated[Optional[list[str]], typer.Option("--guide", metavar="GUIDE", help=_GUIDE)]  # noqa: UP045
Through = Annotated[bool, typer.Option("--guide-through", help="Follow the guides' gradient through the network too: slower.")]
Linear = Annotated[bool, typer.Option("--guide-linear", help="Show the guides latents by a linear map, not by the decoder: faster, coarser.")]


def emit(result: dict, as_json: bool, text: str | None = None) -> None:
    """Print a command's result: one JSON object on stdout, or `text` (the object's entries, one a line, when None)."""
    if as_json: print(json.dumps(result))
    else: print(text if text is not None else "\n".join(f"{k}: {v}" for k, v in result.items()))


@contextmanager
def progress(label: str, total: int | None, unit: str = "step") -> Iterator:
    """A progress bar on stderr with rate and time left, shown in terminals only; yields advance(n=1, note="")."""
    if not sys.stderr.isatty():
        yield lambda n=1, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit + "s"), TextColumn("{task.fields[note]}"),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, note="")
        yield lambda n=1, note="": bar.update(task, advance=n, note=note)
