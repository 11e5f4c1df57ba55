"""How good is a model? The one way in: which exam a model sits, the pictures it draws for it, the report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from unnoise.base.errors import BadInput
from unnoise.evaluate.classes import ClassExam
from unnoise.evaluate.exam import Exam, Order, Report, check_count
from unnoise.evaluate.kept import Advance, Drawer, Generator
from unnoise.evaluate.scenes import SceneExam
from unnoise.evaluate.tables import TableExam
from unnoise.pipeline import load as load_pipeline
from unnoise.worlds.judge import Judge

EXAMS: tuple[type[Exam], ...] = (TableExam, SceneExam, ClassExam)  # the first that suits a model is its own


def exam_for(pipe: Any) -> type[Exam]:
    """How models like this one are measured. BadInput: no exam suits it."""
    found = next((exam for exam in EXAMS if exam.suits(pipe)), None)
    if found is None:
        raise BadInput(f"nothing is known that model {pipe.name!r} can be measured by")
    return found


def evaluate(
    model: str | os.PathLike | Generator = "digits",
    n: int | None = None,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | Sequence[float] | None = None,
    sampler: str | None = None,
    spacing: str | None = None,
    seed: int = 0,
    judge: str | os.PathLike | Judge | None = None,
    data: str | None = None,
    negatives: int = 300,
    batch_size: int = 100,
    work: str | os.PathLike | None = None,
    progress: Advance | None = None,
    inception: bool = False,
) -> Report:
    """Measure a model (a name, a folder, or a loaded pipeline) by n images or prompts; returns a report of
    plain JSON values.

    What it holds, and what stands for None, its exam says: `ClassExam` of models of classes, `SceneExam` of
    text models, which are asked at each of several guidance scales. Images are made batch_size at a time and
    kept in `work`, by default the cache: an interrupted run continues. progress(k) is called when k more of
    them are there. inception: distances of the standard Inception features (see `nets.inception`) in place of
    the judge's. BadInput: n too small, data not fetched, a judge that does not fit the model, and whatever
    the pipeline refuses.
    """
    pipe: Any = load_pipeline(model) if isinstance(model, str | os.PathLike) else model
    exam = exam_for(pipe)
    order = Order(check_count(exam, n), _scales(guidance_scale), judge, data, negatives, inception)
    draw = Drawer(pipe, num_inference_steps, sampler, spacing, seed, batch_size, work, progress)
    return exam(pipe, order, draw).report()


def _scales(given: float | Sequence[float] | None) -> tuple[float, ...]:
    if given is None:
        return ()
    return tuple(given) if isinstance(given, Sequence) else (given,)
