"""A request becomes tensors and pictures: in batches of which no image depends, each a run of its sampler.

An image that is not finite in 16 bits is drawn again alone in float32: the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.denoiser import Denoiser
from unnoise.guide.scale import interval
from unnoise.guide.shaping import clip
from unnoise.pipeline import guides
from unnoise.pipeline.bind import denoiser
from unnoise.pipeline.request import NOISES, Request, path_of
from unnoise.process import noise as noises
from unnoise.process.level import Level
from unnoise.process.schedule import Path
from unnoise.sample import SAMPLERS, State, last

if TYPE_CHECKING:
    from unnoise.pipeline.pipeline import Pipeline

Start = Callable[[Tensor, Level], Tensor]
Progress = Callable[[int], None]
Batch = tuple[list[int], Tensor, int]  # places of its images, what was drawn, network calls


class Count:
    """Counts network calls, and tells a listener of each."""

    def __init__(self, listener: Progress | None = None):
        self.calls, self.listener = 0, listener

    def __call__(self) -> None:
        self.calls += 1
        if self.listener:
            self.listener(1)


Draw = Callable[[list[int], Count], Tensor]  # (places, count) -> the rows of those images


# --- one run ------------------------------------------------------------------------------------------------


def run(
    pipe: Pipeline,
    r: Request,
    count: Count | None = None,
    *,
    path: Path | None = None,
    start: Start | None = None,
    wrap: Callable[[Denoiser], Denoiser] | None = None,
    within: Callable[[Denoiser], Denoiser] | None = None,
    net: Callable[..., Tensor] | None = None,
) -> Iterator[State]:
    """The States of a request; edits give it another path, another start on it, guides around its denoiser,
    another network.

    start(eps, level) -> x at the path's first level, both (n, …), by default sigma eps; wrap: the denoiser ->
    the one to run; within: as `denoiser` takes it. BadInput for a model that needs more than a prompt.
    """
    if net is None:
        check_draws(pipe)
    path = path or path_of(pipe, r)
    scale = interval(r.guidance, *r.interval) if r.interval else r.guidance
    call = pipe.runner.counted(count, net)
    denoise = denoiser(
        pipe, r.prompts, r.negatives, scale, r.rescale, call, path, clip_skip=r.clip_skip, within=within
    )
    denoise = _shaped(pipe, r, denoise)
    if wrap:
        denoise = wrap(denoise)
    eps = noise(pipe, r)
    x = start(eps, path[0]) if start else eps * float(path[0].sigma)
    return SAMPLERS[r.sampler](denoise, x, path, NOISES[r.noise](r.seeds), **r.options)


def _shaped(pipe: Pipeline, r: Request, denoise: Denoiser) -> Denoiser:
    """The denoiser within the bounds that the model's folder sets, and under the request's guides."""
    if c := pipe.defaults.get("clip"):
        denoise = clip(denoise, -c, c)
    return guides.guided(pipe, r, denoise) if r.guide else denoise


def finish(
    pipe: Pipeline, r: Request, count: Count, watch: Callable[[State], None] | None = None, **how: Any
) -> Tensor:
    """The last x of a run; `how` is what `run` takes."""

    def through(state: State) -> State:
        if watch:
            watch(state)
        return state

    return last(through(s) for s in pipe.run(r, count, **how))


def noise(pipe: Pipeline, r: Request) -> Tensor:
    """The unit normals (n, …) that a request's images begin with, each its own seed's."""
    like = torch.zeros(shape(pipe, len(r.seeds), r), device=pipe.runner.device)
    return noises.seeded(r.seeds, "init")(like)


def shape(pipe: Pipeline, n: int, r: Request) -> tuple[int, ...]:
    """The shape of n of a request's images in the model's space."""
    return pipe.codec.shape(n, r.size)


def check_draws(pipe: Pipeline) -> None:
    """BadInput for a model that needs more than a prompt: an inpainting UNet also takes a mask and the masked
    picture.
    """
    can = pipe.folder.abilities
    if not can.beside:
        return
    if can.low:
        raise BadInput(
            f"model {pipe.name!r} makes pictures larger and draws none: it is shown one by `unnoise edit"
            " upscale` and `denoise`"
        )
    own = can.channels - can.beside
    raise BadInput(
        f"model {pipe.name!r} takes {can.channels} channels where its pictures have {own}: it draws from an"
        " image and a mask as well, as `unnoise edit inpaint` does"
    )


# --- batches ------------------------------------------------------------------------------------------------


def pictures(
    pipe: Pipeline,
    r: Request,
    batch_size: int | None = None,
    progress: Progress | None = None,
    on_state: Callable[[int, State], None] | None = None,
) -> Iterator[tuple[list[int], np.ndarray, int]]:
    """(places of its images, the images, network calls an image) of each batch of a request, as it is
    finished.
    """
    check_listener("progress", progress)
    check_listener("on_state", on_state)

    def draw(places: list[int], count: Count) -> Tensor:
        watch = None if on_state is None else partial(on_state, places[0])
        return pipe.finish(r.only(places), count, watch)

    for places, x, n in pipe.batches(r, draw, batch_size, progress):
        yield places, pipe.decode(x), n


def batches(
    pipe: Pipeline, r: Request, draw: Draw, batch_size: int | None = None, progress: Progress | None = None
) -> Iterator[Batch]:
    """(places of its images, draw(places, count), network calls counted) of each batch of a request.

    An image that is not finite in 16 bits is drawn again alone in float32; BadInput when it is not finite
    then either.
    """
    parts = _parts(pipe, r, batch_size)
    for places in parts:
        count = Count(progress)
        x = draw(places, count)
        if not torch.isfinite(x).all():
            x = torch.stack([_finite(pipe, r, p, row, draw, progress) for p, row in zip(places, x)])
        if places is parts[-1]:
            pipe.runner.finished()
        yield places, x, count.calls


def _finite(
    pipe: Pipeline, r: Request, place: int, row: Tensor, draw: Draw, progress: Progress | None
) -> Tensor:
    """The image of one place, drawn again in float32 where it is not finite. BadInput: nor is that."""
    if torch.isfinite(row).all():
        return row
    if pipe.runner.dtype != torch.float32:
        with pipe.runner.widened():
            row = draw([place], Count(progress))[0].to(row)
    if not torch.isfinite(row).all():
        raise BadInput(f"model {pipe.name!r} gave non-finite values (seed {r.seeds[place]})")
    return row


def calls(pipe: Pipeline, r: Request, batch_size: int | None = None) -> int:
    """The network calls of all batches of a request."""
    a_batch = SAMPLERS[r.sampler].calls(path_of(pipe, r), **r.options)
    return len(_parts(pipe, r, batch_size)) * a_batch


def _parts(pipe: Pipeline, r: Request, batch_size: int | None) -> list[list[int]]:
    """The places of a request's images in batches: those that attend to equally many tokens together."""
    if batch_size is None:
        n = pipe.runner.batch(shape(pipe, 1, r))
    else:
        n = arguments.integer("batch_size", batch_size, 1)
    groups: dict[int, list[int]] = {}
    for i, texts in enumerate(zip(r.prompts, r.negatives)):
        groups.setdefault(pipe.condition.size(texts) if pipe.condition else 1, []).append(i)
    return [g[i : i + n] for g in groups.values() for i in range(0, len(g), n)]


def check_listener(name: str, listener: Any) -> None:
    """BadInput for a listener that cannot be called."""
    if listener is not None and not callable(listener):
        raise BadInput(f"{name} must be a function or None, given {short(listener)}")
