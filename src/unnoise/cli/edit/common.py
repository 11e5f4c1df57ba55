"""What the edit commands share: their options, and how a Result is written without touching an original."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from unnoise import DEFAULT_MODEL
from unnoise.cli.common import emit, note, progress
from unnoise.errors import BadInput

if TYPE_CHECKING:
    from unnoise.pipeline import Pipeline, Result

Image = Annotated[Path, typer.Argument(help="The picture to edit; it is not changed.")]
Prompt = Annotated[str, typer.Argument(help="What it shall show.")]
Output = Annotated[Optional[Path], typer.Option("-o", "--output", help="A .png file (several pictures: also the grid), or a folder. Default: IMAGE-edit.png.")]  # noqa: UP045
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Let the output replace what lies there, the edited picture too: else new numbers are taken.")]
Number = Annotated[int, typer.Option("-n", "--num-images", help="How many, with seeds SEED, SEED + 1, …")]
Model = Annotated[str, typer.Option("--model", help="A bundled model, a folder, a .safetensors checkpoint, or owner/model once fetched.")]
Steps = Annotated[Optional[int], typer.Option("--steps", help="Sampling steps, all of which are run.")]  # noqa: UP045
Guidance = Annotated[Optional[float], typer.Option("--guidance", help="Guidance scale; 1 is off.")]  # noqa: UP045
Negative = Annotated[str, typer.Option("--negative", help="What to steer away from.")]
Seed = Annotated[Optional[int], typer.Option("--seed", help="The first picture's seed; drawn and reported when left out.")]  # noqa: UP045
Sampler = Annotated[Optional[str], typer.Option("--sampler", help="See `unnoise samplers`.")]  # noqa: UP045
Height = Annotated[Optional[int], typer.Option("--height", help="Height in pixels at which the model works (a multiple of 8).")]  # noqa: UP045
Width = Annotated[Optional[int], typer.Option("--width", help="Width in pixels, likewise.")]  # noqa: UP045
BatchSize = Annotated[Optional[int], typer.Option("--batch-size", help="Pictures made at once; changes none of them.")]  # noqa: UP045
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DEFAULT = DEFAULT_MODEL


def given(**values: Any) -> dict[str, Any]:
    """The values that are there: neither None nor empty."""
    return {k: v for k, v in values.items() if v is not None and v != ""}


def output_for(image: Path, output: Path | None, overwrite: bool, others: Iterable[Path] = ()) -> Path:
    """Where to write, checked before the work: by default beside nothing else, in the present folder, as IMAGE-edit.png.

    BadInput where it is the picture itself (or the mask, a reference, …) and that was not allowed, or cannot be written.
    """
    from unnoise.cli.generate import writable

    out = output or Path(f"{image.stem}-edit.png")
    writable(out)
    spare(out, (image, *others), overwrite)
    return out


def spare(out: Path, originals: Iterable[Path], overwrite: bool) -> None:
    """BadInput where writing `out` would lose an original, and that was not allowed."""
    for original in originals:
        if out.exists() and original.exists() and out.resolve() == original.resolve() and not overwrite:
            raise BadInput(f"{out} is an original: name another output, or say --overwrite")


def edit(model: str, image: Path, output: Path | None, overwrite: bool, as_json: bool, run: Callable[[Pipeline, Callable], Result],
         others: Iterable[Path] = (), more: Callable[[Result, Path], dict[str, Any]] | None = None) -> None:
    """Run an edit with a model and write its pictures. run(pipe, progress) -> Result; more(result, output) -> further entries of the report."""
    from unnoise.pipeline import load

    began = time.perf_counter()
    out = output_for(image, output, overwrite, others)
    pipe = load(model)
    with progress("editing", None, "call") as advance: made = run(pipe, advance)
    names = made.names(out, overwrite)
    if names.moved: note(f"{names.moved} exists: writing {names.grid or names.files[0]} (--overwrite replaces it)")
    files = made.save(out, overwrite)
    report: dict[str, Any] = {"files": [str(f) for f in files], "seeds": list(made.seeds), "nfe": made.nfe}
    if names.grid: report["grid"] = str(names.grid)
    report |= (more(made, out) if more else {}) | {"seconds": round(time.perf_counter() - began, 3), "model": pipe.name}
    lines = [report["grid"]] if "grid" in report else report["files"]
    emit(report, as_json, "\n".join([*lines, *(f"{k}: {v}" for k, v in report.items() if k not in _QUIET)]))


_QUIET = ("files", "seeds", "nfe", "grid", "seconds", "model")
