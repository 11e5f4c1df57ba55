"""`unnoise train`: a recipe to a model folder.

Several processes: `torchrun --nproc_per_node 2 -m unnoise.cli.main train …`, on GPUs also `accelerate
launch`; with --cpu that one starts a single process on one machine, whatever it is told.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from unnoise.base.errors import BadInput
from unnoise.base.stop import exit_code
from unnoise.cli.common import emit, note, progress

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE", help="A TOML file, or the name of one that comes along, as in smoke."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The run's folder: log, checkpoints, samples, model.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest whole checkpoint.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="In place of the recipe's; give it to resume too.")
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="Stop cleanly after so long: 90s, 20m, 2h, 1.5d."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a model as a recipe says. Ctrl-C and SIGTERM save and exit with 130 and 143; the same command
    with --resume goes on, also after --for.
    """
    from unnoise import shipped
    from unnoise.train import recipe as recipes

    seconds = None if duration is None else seconds_of(duration)
    wanted = recipes.load(shipped.recipe(recipe), steps)
    result = _run(wanted, out, resume, seconds)
    if "folder" not in result:
        return  # another process than the main one
    if left := wanted.train.steps - result["steps"]:
        note(
            f"the time is up after step {result['steps']} of {wanted.train.steps}: saved, {left} are left;"
            " --resume goes on"
        )
    emit(result, as_json)


UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float:
    """The seconds of "90s", "20m", "2h" or "1.5d". BadInput: it is none of these, or no time at all."""
    number, unit = text.strip()[:-1], text.strip()[-1:]
    if (
        re.fullmatch(r"\d+(\.\d+)?", number, re.ASCII)
        and unit in UNITS
        and 0 < float(number) * UNITS[unit] < math.inf
    ):
        return float(number) * UNITS[unit]
    raise BadInput(f"--for must be a time above 0 with its unit (90s, 20m, 2h, 1.5d), given {text!r:.40}")


def _run(wanted, out: Path, resume: bool, seconds: float | None) -> dict:
    from unnoise.train import fit, run

    main, accelerator = int(os.environ.get("RANK", "0")) == 0, fit.processes()
    try:
        with progress(wanted.name, wanted.train.steps) as advance:
            return run.train(wanted, out, resume, _report(advance), accelerator, seconds)
    except (BadInput, run.Interrupted) as e:
        if main and isinstance(e, BadInput):
            raise
        _say_why(e, main)
        raise SystemExit(exit_code(e) if isinstance(e, KeyboardInterrupt) else 2) from None
    finally:
        accelerator.end_training()


def _say_why(e: BaseException, main: bool) -> None:
    """On the main process; the others wait for it: a launcher that sees one process end ends them all."""
    if main:
        note(f"interrupted: {e}")
    else:
        time.sleep(3)


def _report(advance: Callable) -> Callable:
    """For the bar: images a second since this process began, and the loss. Roll-backs move the bar back."""
    began, done, images = time.perf_counter(), 0, 0

    def report(s, total: int) -> None:
        nonlocal done, images
        images += s.images
        advance(
            s.step - done, note=f"{images / (time.perf_counter() - began):.0f} images/s, loss {s.loss:.4f}"
        )
        done = s.step

    return report
