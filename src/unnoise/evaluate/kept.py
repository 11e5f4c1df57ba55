"""Pictures of a generator, made once and kept: chunk by chunk under a folder named by the model and the hash
of everything that changes them. A run that was interrupted continues; what is not whole is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from unnoise.base import read
from unnoise.base.cache import cache
from unnoise.base.errors import BadInput
from unnoise.base.lock import alone
from unnoise.base.write import new_file, put
from unnoise.data import numpy_file
from unnoise.pipeline import Request, Result, record
from unnoise.text.words import Words

Advance = Callable[[int], object]
Chunk = tuple[np.ndarray, int]  # pictures, uint8 (n, h, w, c), and the network calls of each


class Generator(Protocol):
    """What is evaluated: a `Pipeline`, or anything that answers like one."""

    name: str
    sha256: str
    words: Words | None

    def request(
        self,
        prompt: str | Sequence[str] | None,
        *,
        negative_prompt: Sequence[str] | None,
        num_inference_steps: int | None,
        guidance_scale: float | None,
        seed: int,
        num_images: int,
        sampler: str | None,
        spacing: str | None,
    ) -> Request: ...
    def __call__(
        self,
        prompt: list[str],
        *,
        num_inference_steps: int,
        guidance_scale: float,
        seed: list[int],
        sampler: str,
        spacing: str,
        batch_size: int,
        **more: Any,
    ) -> Result: ...


class Looks(NamedTuple):
    """What was made of the chunks of a request, the network calls of each picture, their settings, and where
    they are kept.
    """

    each: list[Any]
    nfe: int
    settings: dict[str, Any]
    folder: Path


@dataclass(frozen=True)
class Drawer:
    """Gets pictures of `pipe` at one request after another: made `batch_size` at a time and kept in `work`,
    by default the cache. progress(k) is called when k more of them are there. BadInput: batch_size < 1.
    """

    pipe: Generator
    steps: int | None
    sampler: str | None
    spacing: str | None
    seed: int
    batch_size: int
    work: str | os.PathLike | None = None
    progress: Advance | None = None

    def __post_init__(self):
        if self.batch_size < 1:
            raise BadInput(f"batch_size must be at least 1, given {self.batch_size}")

    def request(
        self,
        prompts: str | Sequence[str],
        guidance: float | None,
        negatives: Sequence[str] | None = None,
        num_images: int = 1,
    ) -> Request:
        """One seed an image, counted from `seed`. BadInput: whatever the generator refuses."""
        return self.pipe.request(
            prompt=prompts,
            negative_prompt=negatives,
            num_inference_steps=self.steps,
            guidance_scale=guidance,
            seed=self.seed,
            num_images=num_images,
            sampler=self.sampler,
            spacing=self.spacing,
        )

    def settings(self, request: Request, more: dict[str, Any]) -> dict[str, Any]:
        """Everything that pictures depend on besides their number: what `drawing` tells, how prompts are
        chosen, the size of a batch.
        """
        return {**drawing(self.pipe, request), **more, "batch_size": self.batch_size}

    def folder(self, settings: dict[str, Any]) -> Path:
        """Where pictures of these settings are kept. BadInput: it cannot be written."""
        return work_folder(Path(self.work) if self.work else cache() / "evaluate", settings)

    @contextmanager
    def kept(self, request: Request, folder: Path) -> Iterator[Iterator[Chunk]]:
        """The chunks of a request, each read or made when it is taken; meanwhile their folder is this
        process's alone. BadInput: it is in use.
        """
        with alone(folder, "evaluating"):
            yield self._counted(chunks(self.pipe, request, self.batch_size, folder))

    def looked_at(self, request: Request, more: dict[str, Any], look: Callable[[np.ndarray], Any]) -> Looks:
        """What `look` makes of each chunk of a request, as they come: what it refuses ends the run early.
        more: see `settings`. BadInput: see `kept`.
        """
        settings, looks, nfe = self.settings(request, more), [], 0
        folder = self.folder(settings)
        with self.kept(request, folder) as found:
            for x, nfe in found:  # noqa: B007
                looks.append(look(x))
        return Looks(looks, nfe, settings, folder)

    def _counted(self, found: Iterator[Chunk]) -> Iterator[Chunk]:
        for x, nfe in found:
            yield x, nfe
            if self.progress:
                self.progress(len(x))


def chunks(pipe: Generator, request: Request, batch_size: int, folder: Path) -> Iterator[Chunk]:
    """(uint8 images, network calls an image), chunk by chunk: read from `folder` where whole, else made and
    kept there.

    A chunk is one call of batch_size images, so a resumed run makes exactly the calls of one that was not
    interrupted.
    """
    n = len(request.seeds)
    for start in range(0, n, batch_size):
        part = request.only(range(start, min(start + batch_size, n)))
        file = folder / f"{start:08d}-{start + len(part.seeds):08d}.npz"
        chunk = read_chunk(file, len(part.seeds))
        if chunk is None:
            chunk = _drawn(pipe, part, batch_size)
            write_chunk(file, *chunk)
        yield chunk


def _drawn(pipe: Generator, request: Request, batch_size: int) -> Chunk:
    negatives = {"negative_prompt": list(request.negatives)} if any(request.negatives) else {}
    result = pipe(
        list(request.prompts),
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        seed=list(request.seeds),
        sampler=request.sampler,
        spacing=request.spacing,
        batch_size=batch_size,
        **negatives,
    )
    return result.arrays, result.nfe


def drawing(pipe: Any, request: Request) -> dict[str, Any]:
    """The recipe of a request's first image without its prompts: with the number type and the machine, as
    both change pictures.

    The machine is its device, engine, instructions, threads and torch: sums rounded in another order move
    values by 1 of 255, so that kept images of another number of threads are not mixed with new ones.
    Generators other than a `Pipeline` tell none.
    """
    return {k: v for k, v in request.recipe(pipe, 0).items() if k not in ("prompt", "negative_prompt")}


def hashed(texts: Sequence[str]) -> str:
    """Hex sha256 of texts in order."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


# --- on disk ------------------------------------------------------------------------------------------------


def work_folder(root: Path, settings: dict[str, Any]) -> Path:
    """The work folder of these settings, named by their key (`record.key`), made where it is missing; its
    settings.json tells a reader what lies in it. BadInput: it cannot be written, or belongs to others.
    """
    text = json.dumps(settings, indent=2, sort_keys=True)
    folder = root / f"{settings['model']}-{record.key(settings)[:16]}"
    file = folder / "settings.json"
    try:
        if not file.exists():
            put(file, text.encode() + b"\n")
        known = read.object_file(file)
    except BadInput as e:
        if not file.is_file():
            raise BadInput(f"cannot write to work folder {folder}: {e}") from None
        known = None
    if known != json.loads(text):
        raise BadInput(f"{file} does not belong to these settings: remove its folder")
    return folder


def read_chunk(file: Path, n: int) -> Chunk | None:
    """A kept chunk; None when it is not there or not whole (check sums tell): it is made again."""
    try:
        kept = numpy_file.load(file)
    except BadInput:
        return None
    x, nfe = kept.get("images"), kept.get("nfe")
    if x is None or nfe is None or nfe.ndim or nfe.dtype.kind not in "iu" or x.ndim < 2 or len(x) != n:
        return None
    return x, int(nfe)


def write_chunk(file: Path, x: np.ndarray, nfe: int) -> None:
    """Keep a chunk, whole or not at all."""
    with new_file(file) as part, open(part, "wb") as to:
        np.savez_compressed(to, images=x, nfe=nfe)
