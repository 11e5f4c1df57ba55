"""`unnoise evaluate`: how good a model is, with everything that the numbers depend on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unnoise import DEFAULT_MODEL
from unnoise.base.errors import BadInput
from unnoise.cli.common import emit, progress

if TYPE_CHECKING:
    from unnoise.evaluate import Exam

Report = dict[str, Any]


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundled model, or a model folder.")] = DEFAULT_MODEL,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--num-images",
            help="Images to judge by: 2000; 1000 prompts at each guidance for text models.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Sampling steps.")] = None,
    guidance: Annotated[
        str | None,
        typer.Option("--guidance", help="Guidance scale, 1 is off; of text models several: 1,2,3,5,8."),
    ] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="Its name.")] = None,
    spacing: Annotated[str | None, typer.Option("--spacing", help="The grid of levels.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The first image's seed.")] = 0,
    judge: Annotated[
        str | None, typer.Option("--judge", help="digits-judge or emoji-judge by kind of model, or a folder.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="The real images: mnist+fashion, or emoji for text models.")
    ] = None,
    negatives: Annotated[
        int,
        typer.Option(
            "--negatives",
            min=0,
            help="Text models: pairs without and with a negative prompt; 0 leaves them out.",
        ),
    ] = 300,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images made at once; kept after each batch.")
    ] = 100,
    work: Annotated[Path | None, typer.Option("--work", help="Where they are kept.")] = None,
    inception: Annotated[
        bool,
        typer.Option("--inception", help="FID and KID of the standard Inception features; slow on a CPU."),
    ] = False,
    against: Annotated[Path | None, typer.Option("--against", help="A JSON report.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Measure a model beside what real images score. Models of classes: accuracy, FID, KID, precision,
    recall. Text models of the emoji world: do pictures show what was asked, by guidance; FID, KID,
    near-copies, negative prompts. Continues when interrupted.
    """
    began = time.perf_counter()
    scales = _numbers(guidance)
    if n is not None and n < 2:
        raise BadInput(f"-n must be at least 2 images, given {n}")
    from unnoise import evaluate as room
    from unnoise.pipeline import load

    pipe = load(model)
    exam = room.exam_for(pipe)
    earlier = _earlier(exam, against)
    if len(scales) > 1 and not exam.several:
        raise BadInput(f"--guidance takes one number for models of classes, given {guidance}")
    order = room.Order(room.check_count(exam, n), scales, judge, data, negatives, inception)
    with progress("generating", exam.count(order), "image") as bar, _resumable(bar) as advance:
        draw = room.Drawer(pipe, steps, sampler, spacing, seed, batch_size, work, advance)
        report = exam(pipe, order, draw).report()
    if earlier is not None:
        report["against"] = {"file": str(against), **room.compare(earlier, report)}
    report["seconds"] = round(time.perf_counter() - began, 3)
    emit(report, as_json, None if as_json else exam.table(report))


def _earlier(exam: type[Exam], file: Path | None) -> Report | None:
    """The report to compare with. BadInput: it is none, or of models that are not compared so."""
    from unnoise.base import read

    if file is None:
        return None
    if not exam.comparable:
        raise BadInput(
            "--against compares models of classes; for text models give --json and compare the files"
        )
    return read.object_file(file, "report")


def _numbers(text: str | None) -> tuple[float, ...]:
    """ "1,2,5" as numbers; none when it is not given."""
    if text is None:
        return ()
    try:
        return tuple(float(v) for v in text.split(","))
    except ValueError:
        raise BadInput(f"--guidance must be numbers with commas between them, given {text!r}") from None


@contextmanager
def _resumable(advance: Callable[[int], object]) -> Iterator[Callable[[int], None]]:
    """Yields what counts images and moves the bar; a signal then says how many are kept, and how to go on."""
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        advance(n)

    try:
        yield count
    except KeyboardInterrupt as e:
        raise type(e)(f"{done} images are made and kept; the same command continues") from None
