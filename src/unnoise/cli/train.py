"""`unnoise train`: a recipe to a model folder.

Several processes: `torchrun --nproc_per_node 2 -m unnoise.cli.main train …`, on GPUs also `accelerate launch`; with --cpu
that one starts a single process on one machine, whatever it is told.
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from unnoise.cli.common import emit, note, progress
from unnoise.errors import BadInput

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def train(recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, as in recipes/.")],
          out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder: log, checkpoints, samples, model.")],
          resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest whole checkpoint.")] = False,
          steps: Annotated[int | None, typer.Option(min=1, help="In place of the recipe's; give it to resume too.")] = None,
          as_json: Json = False) -> None:
    """Train a model as a recipe says. Ctrl-C saves and exits with 130; the same command with --resume goes on."""
    from unnoise.train import recipe as recipes
    wanted = recipes.load(recipe, steps)
    result = _run(wanted, out, resume)
    if "folder" in result: emit(result, as_json)  # the main process alone has it


def _run(wanted, out: Path, resume: bool) -> dict:
    from unnoise.train import fit, run
    main, accelerator = int(os.environ.get("RANK", "0")) == 0, fit.processes()
    try:
        with progress(wanted.name, wanted.train.steps) as advance:
            return run.train(wanted, out, resume, _report(advance), accelerator)
    except (BadInput, run.Interrupted) as e:
        stopped = isinstance(e, run.Interrupted)
        if main and not stopped: raise
        if main: note(f"interrupted: {e}")
        else: time.sleep(3)  # the main process says why; a launcher that sees one process end ends them all
        raise SystemExit(130 if stopped else 2) from None
    finally:
        accelerator.end_training()


def _report(advance: Callable) -> Callable:
    """For the bar: images a second since this process began, and the loss. Roll-backs move the bar back."""
    began, done, images = time.perf_counter(), 0, 0

    def report(s, total: int) -> None:
        nonlocal done, images
        images += s.images
        advance(s.step - done, note=f"{images / (time.perf_counter() - began):.0f} images/s, loss {s.loss:.4f}")
        done = s.step

    return report
