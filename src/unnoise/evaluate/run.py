"""How good is a model? Generate n images, let the judge look at them and at real ones, tell numbers and
conditions.

    labels     image i is asked for word i mod (number of words), with seed `seed` + i: balanced, and
               independent of batches
    reference  real images of the test split, class by class as many as were generated (or as many as there
               are)
    floor      the same numbers for real training images in the place of the generated ones: a perfect
               generator is near it
    ceiling    the judge's own accuracy on the real test images

Images are kept in chunks under a folder named by the model's hash and every setting; a run that was
interrupted continues.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unnoise import data as datasets
from unnoise.base import read
from unnoise.base.cache import cache
from unnoise.base.errors import BadInput
from unnoise.base.lock import alone
from unnoise.base.write import new_file, put
from unnoise.data import numpy_file
from unnoise.data.sources import SOURCES
from unnoise.data.transforms import permutation
from unnoise.evaluate import metrics
from unnoise.pipeline import Request, Result
from unnoise.pipeline import load as load_pipeline
from unnoise.text.words import Words
from unnoise.worlds import judge as judges
from unnoise.worlds.judge import Judge, Seen

DATA = "mnist+fashion"
NEIGHBOURS = 3  # the k of precision and recall
REFERENCE, OTHER = "test", "train"
Advance = Callable[[int], object]


class Generator(Protocol):
    """What is evaluated: a `Pipeline`, or anything that answers like one."""

    name: str
    sha256: str
    words: Words | None

    def request(
        self, prompt, negative_prompt, num_inference_steps, guidance_scale, seed, num_images, sampler, spacing
    ) -> Request: ...
    def __call__(
        self, prompt, *, num_inference_steps, guidance_scale, seed, sampler, spacing, batch_size, **told
    ) -> Result: ...


def evaluate(
    model: str | os.PathLike | Generator = "digits",
    n: int = 2000,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    spacing: str | None = None,
    seed: int = 0,
    judge: str | os.PathLike | Judge = "digits-judge",
    data: str = DATA,
    batch_size: int = 100,
    work: str | os.PathLike | None = None,
    progress: Advance | None = None,
    inception: bool = False,
) -> dict:
    """Measure a model (a name, a folder, or a loaded pipeline) by n images; returns a report of plain JSON
    values.

    accuracy {all, groups, classes} of {value, se, n}, None for a model without words; fid, kid, kid_se,
    precision, recall of n_matched images a side; floor with the same keys; ceiling like accuracy; model,
    settings, conditions (all that must agree before two reports may be compared), nfe, work. Images are made
    batch_size at a time and kept in `work`, by default the cache; progress(k) is called when k more of them
    are there. inception: fid, kid, precision and recall of the standard Inception features (see
    `evaluate.inception`) in place of the judge's. BadInput: n < 2, data not fetched, a judge that does not
    know the model's words or its size of image, and whatever the pipeline refuses.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise BadInput(f"n must be a whole number of at least 2 images, given {n!r}")
    if batch_size < 1:
        raise BadInput(f"batch_size must be at least 1, given {batch_size}")
    pipe = load_pipeline(model) if isinstance(model, str | os.PathLike) else model
    by = judge if isinstance(judge, Judge) else judges.load(judge)
    if inception:
        by = by.with_inception()
    request = pipe.request(
        prompt="",
        negative_prompt=None,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        seed=seed,
        num_images=n,
        sampler=sampler,
        spacing=spacing,
    )
    real = {split: _real(data, split, by) for split in (REFERENCE, OTHER)}
    labels = _labels(pipe, by, n)
    settings = _settings(pipe, request, batch_size)
    folder = work_folder(Path(work) if work else cache() / "evaluate", settings)
    with alone(folder, "evaluating"):
        seen, nfe = _look(by, images(pipe, request, batch_size, folder), progress)
    return {
        "model": {"name": pipe.name, "sha256": pipe.sha256},
        "n": n,
        "settings": settings,
        "nfe": nfe,
        **_measure(by, seen, labels, real, n),
        "work": str(folder),
    }


def compare(a: dict, b: dict) -> dict:
    """The differences b - a of two reports' numbers. BadInput names what differs when they were not measured
    alike.
    """
    try:
        for key in a["conditions"].keys() | b["conditions"].keys():
            x, y = a["conditions"].get(key), b["conditions"].get(key)
            if x != y:
                raise BadInput(f"these reports cannot be compared: {key} is {x} in one and {y} in the other")
        pairs = {k: (a[k], b[k]) for k in ("fid", "kid", "precision", "recall")}
        if a["accuracy"] and b["accuracy"]:
            pairs["accuracy"] = tuple(r["accuracy"]["all"]["value"] for r in (a, b))
        return {k: None if None in pair else pair[1] - pair[0] for k, pair in pairs.items()}
    except (KeyError, TypeError, AttributeError):
        raise BadInput("to compare, give two reports of `unnoise evaluate --json`") from None


# --- the numbers --------------------------------------------------------------------------------------------


def _measure(
    judge: Judge, seen: Seen, labels: np.ndarray | None, real: dict[str, datasets.Data], n: int
) -> dict:
    test, train = real[REFERENCE], real[OTHER]
    wanted, counts = _counts(labels, n, len(judge.words), [_classes(d) for d in real.values()])
    if counts.sum() < 2:
        raise BadInput(f"data set {test.name!r} has no 2 images of the classes generated")
    known = test.take(np.flatnonzero(np.isin(_classes(test), wanted)))
    look, fake = (
        judge.look(known.x),
        (np.arange(counts.sum()) if labels is None else _pick(labels, counts, shuffled=False)),
    )
    chosen, other = _pick(known.labels, counts), _pick(train.labels, counts)
    reference = look.features[chosen], _classes(known)[chosen]
    groups = _groups(test)
    return {
        "accuracy": None if labels is None else _accuracy(seen.said(), labels, judge.words, groups),
        **_distances(seen.features[fake], None if labels is None else labels[fake], *reference),
        "floor": {
            "of": f"real {OTHER} images",
            **_distances(judge.look(train.x[other]).features, _classes(train)[other], *reference),
        },
        "ceiling": {
            "of": f"real {REFERENCE} images",
            **_accuracy(look.said(), _classes(known), judge.words, groups),
        },
        "conditions": {
            "n": n,
            "n_matched": len(chosen),
            "classes": [judge.words[c] for c in wanted],
            "data": test.name,
            "split": REFERENCE,
            "data_sha256": test.sha256,
            "judge": judge.name,
            "judge_sha256": judge.sha256,
            "features": reference[0].shape[1],
            "neighbours": NEIGHBOURS,
            "resize": "none",
            "metrics_revision": metrics.REVISION,
        },
    }


def _counts(
    labels: np.ndarray | None, n: int, classes: int, real: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(the classes that n images have, how many images of every class all sides can give); without labels,
    all alike.
    """
    made = np.bincount(np.arange(n) % classes if labels is None else labels, minlength=classes)
    return np.flatnonzero(made), np.minimum.reduce([made, *(np.bincount(r, minlength=classes) for r in real)])


def _distances(
    fake: np.ndarray, asked: np.ndarray | None, real: np.ndarray, classes: np.ndarray
) -> dict[str, Any]:
    """FID, KID, precision and recall of two matched sets; None for those that want more images than there
    are.
    """
    sizes = [np.unique(c, return_counts=True)[1].min() for c in (asked, classes) if c is not None]
    kid, se = metrics.kid(fake, real, asked, classes) if min(sizes) > 1 else (None, None)
    precision, recall = (
        metrics.precision_recall(real, fake, NEIGHBOURS) if len(real) > NEIGHBOURS else (None, None)
    )
    return {
        "n_matched": len(real),
        "fid": metrics.fid(fake, real),
        "kid": kid,
        "kid_se": se,
        "precision": precision,
        "recall": recall,
    }


def _accuracy(
    said: np.ndarray, labels: np.ndarray, words: tuple[str, ...], groups: dict[str, range]
) -> dict[str, Any]:
    """How often the judge says what was asked for: in all, by group and by class; each with its standard
    error and n.
    """
    hit, there = said == labels, sorted(set(labels.tolist()))
    by_group = {name: hit[np.isin(labels, group)] for name, group in groups.items()}
    return {
        "all": share(hit),
        "groups": {k: share(v) for k, v in by_group.items() if len(v)},
        "classes": {words[c]: share(hit[labels == c]) for c in there},
    }


def share(hit: np.ndarray) -> dict[str, float]:
    p, n = float(hit.mean()), len(hit)
    return {"value": p, "se": float(np.sqrt(p * (1 - p) / n)), "n": n}


# --- which images -------------------------------------------------------------------------------------------


def _real(name: str, split: str, judge: Judge) -> datasets.Data:
    d = datasets.load(name, split)
    if d.words != judge.words:
        raise BadInput(
            f"data set {name!r} has other classes than judge {judge.name!r} (accepted:"
            f" {', '.join(judge.words)})"
        )
    judge.codec.encode(d.x[:1])  # says now, before the work, when the images are not of the judge's size
    return d


def _labels(pipe: Generator, judge: Judge, n: int) -> np.ndarray | None:
    """(n,) the judge's number of the word that image i is asked for; None for a model without words."""
    if pipe.words is None:
        return None
    for word in pipe.words.words:
        if word not in judge.words:
            raise BadInput(
                f"judge {judge.name!r} does not know {word!r} of model {pipe.name!r} "
                f"(accepted: {', '.join(judge.words)})"
            )
    own = np.array([judge.words.index(word) for word in pipe.words.words])
    return own[np.arange(n) % len(own)]


def _pick(labels: np.ndarray | None, counts: np.ndarray, shuffled: bool = True) -> np.ndarray:
    """Indices of counts[c] items of every class c, ascending: the first of a fixed random order, or simply
    the first.
    """
    labels = np.asarray(labels)
    order = permutation(len(labels), 0, 0) if shuffled else np.arange(len(labels))
    return np.sort(np.concatenate([order[labels[order] == c][:k] for c, k in enumerate(counts)]))


def _classes(d: datasets.Data) -> np.ndarray:
    if d.labels is None:
        raise BadInput(f"data set {d.name!r} has no classes to judge by")
    return d.labels


def _groups(d: datasets.Data) -> dict[str, range]:
    """The labels of each set that a joined set consists of: {"mnist": 0-9, "fashion-mnist": 10-19}; else no
    groups.
    """
    groups, start = {}, 0
    for part in SOURCES[d.name].parts if d.name in SOURCES else ():
        groups[part] = range(start, start := start + len(SOURCES[part].words))
    return groups


# --- generating, resumably ----------------------------------------------------------------------------------


def images(
    pipe: Generator, request: Request, batch_size: int, folder: Path
) -> Iterator[tuple[np.ndarray, int]]:
    """The chunks of a request whose image i is of word i mod (number of words)."""
    words = pipe.words.words if pipe.words else ("",)
    return chunks(
        pipe,
        replace(request, prompts=tuple(words[i % len(words)] for i in range(len(request.seeds)))),
        batch_size,
        folder,
    )


def chunks(
    pipe: Generator, request: Request, batch_size: int, folder: Path
) -> Iterator[tuple[np.ndarray, int]]:
    """(uint8 images, network calls an image), chunk by chunk: read from `folder` where whole, else made and
    kept there.

    A chunk is one call of batch_size images, so a resumed run makes exactly the calls of one that was not
    interrupted.
    """
    for start in range(0, len(request.seeds), batch_size):
        seeds, prompts, negatives = (
            list(v[start : start + batch_size]) for v in (request.seeds, request.prompts, request.negatives)
        )
        file = folder / f"{start:08d}-{start + len(seeds):08d}.npz"
        chunk = _read(file, len(seeds))
        if chunk is None:
            told = {"negative_prompt": negatives} if any(negatives) else {}
            r = pipe(
                prompts,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                seed=seeds,
                sampler=request.sampler,
                spacing=request.spacing,
                batch_size=batch_size,
                **told,
            )
            chunk = r.arrays, r.nfe
            _write(file, *chunk)
        yield chunk


def _look(
    judge: Judge, chunks: Iterator[tuple[np.ndarray, int]], progress: Advance | None
) -> tuple[Seen, int]:
    """What the judge makes of each chunk as it comes (so images of a wrong size end the run early); the calls
    an image.
    """
    seen, nfe = [], 0
    for x, nfe in chunks:  # noqa: B007
        seen.append(judge.look(x))
        if progress:
            progress(len(x))
    return Seen.joined(seen), nfe


def _settings(pipe: Generator, request: Request, batch_size: int) -> dict:
    """Everything that the images depend on besides their number: what `drawing` tells, the words, the size of
    a batch.
    """
    return {
        **drawing(pipe, request),
        "words": list(pipe.words.words) if pipe.words else [],
        "batch_size": batch_size,
    }


def drawing(pipe: Any, request: Request) -> dict:
    """The recipe of a request's first image without its prompts: with the number type and the machine, as
    both change pictures.

    The machine is its device, engine, instructions, threads and torch: sums rounded in another order move
    values by 1 of 255, so that kept images of another number of threads are not mixed with new ones.
    Generators other than a `Pipeline` tell none.
    """
    return {k: v for k, v in request.recipe(pipe, 0).items() if k not in ("prompt", "negative_prompt")}


def work_folder(root: Path, settings: dict) -> Path:
    """The work folder of these settings, made where it is missing; its settings.json tells a reader what lies
    in it.
    """
    text = json.dumps(settings, indent=2, sort_keys=True)
    folder = root / f"{settings['model']}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    told = folder / "settings.json"
    try:
        if not told.exists():
            put(told, text.encode() + b"\n")
        known = read.object_file(told)
    except BadInput as e:
        if told.is_file():
            known = None
        else:
            raise BadInput(f"cannot write to work folder {folder}: {e}") from None
    if known != json.loads(text):
        raise BadInput(f"{told} does not belong to these settings: remove its folder")
    return folder


def _read(file: Path, n: int) -> tuple[np.ndarray, int] | None:
    """A kept chunk; None when it is not there or not whole (check sums tell): it is made again."""
    try:
        kept = numpy_file.load(file)
    except BadInput:
        return None
    x, nfe = kept.get("images"), kept.get("nfe")
    if x is None or nfe is None or nfe.ndim or nfe.dtype.kind not in "iu" or x.ndim < 2 or len(x) != n:
        return None
    return x, int(nfe)


def _write(file: Path, x: np.ndarray, nfe: int) -> None:
    with new_file(file) as part, open(part, "wb") as to:
        np.savez_compressed(to, images=x, nfe=nfe)
