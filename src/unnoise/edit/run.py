"""What every edit is made of: one run of one picture, which owns the working size, the request and its seeds,
the batches and the device, the drawing again of what was not finite, the counting, and the recipes.

    run = begin(pipe, "image-to-image", image, "a green apple", {"strength": 0.6}, {"seed": 3})
    x, nfe = run.drawn(path=run.path(0.6), start=noised_from(run.encoded()))
    return run.result(run.pictures(x), nfe)

Strength is a noise level: the fraction of the schedule's time at which an edit begins. The grid of a run is
scaled into it, so that N steps asked for are N steps run at every strength and with every sampler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as Folder
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.codec import of_pictures
from unnoise.denoiser import Denoiser
from unnoise.edit.picture import LIMIT, Given, Picture, decoded, encoded, read, working_size
from unnoise.hub import weights
from unnoise.pipeline import NOISES, Count, Pipeline, Request, Result, make_folder
from unnoise.pipeline.run import Batch, Draw, check_listener
from unnoise.process.level import Level, spread
from unnoise.process.schedule import Path, path_of
from unnoise.sample import SAMPLERS, last

VANISHING = 1e-6  # the strength that stands for 0: levels need some noise to be different from each other
Size = tuple[int, int]  # height and width in pixels
Progress = Callable[[int], None]
Begin = Callable[[Tensor, Level, Sequence[int]], Tensor]
Wrap = Callable[[Denoiser, Sequence[int]], Denoiser]
Options = Mapping[str, Any]
SIZES = ("height", "width")
CALLS = ("batch_size", "progress", "on_begin")


@dataclass(frozen=True)
class Run:
    """One edit, checked and not drawn yet.

    size: at which the model works, None: the request's own. kind, inputs, options: what the recipes say of
    the edit, so that `replay` can call the edit of that name with these inputs and options again; of several
    options, the request's images are drawn with each in turn. batch_size: images at once; progress: told of
    network calls. work: a folder in which each finished image's x is kept by its seed, and found again.
    """

    pipe: Pipeline
    request: Request
    source: Picture | None = None
    size: Size | None = None
    kind: str = ""
    inputs: Mapping[str, Picture] = field(default_factory=dict)
    options: tuple[Options, ...] = ({},)
    batch_size: int | None = None
    progress: Progress | None = None
    work: Folder | None = None

    @property
    def picture(self) -> Picture:
        """The picture that is edited, where there is one."""
        assert self.source is not None
        return self.source

    def at(self, size: Size) -> Run:
        """The same at another working size."""
        return replace(
            self, size=size, request=replace(self.request, size=asked(self.pipe, size, seed=0).size)
        )

    def only(self, places: Sequence[int]) -> Run:
        """The same of some of its images."""
        return replace(self, request=self.request.only(places))

    def keeping(self, work: Any) -> Run:
        """The same with finished images kept in a folder, which is made. BadInput where that cannot be."""
        if work is None:
            return self
        folder = arguments.path("work", work)
        make_folder(folder)
        return replace(self, work=folder)

    def under(self, prompt: str) -> Run:
        """The same under another prompt. BadInput where the model cannot take it."""
        self.pipe.check_prompt(arguments.string("prompt", prompt, nul=True))
        return replace(self, request=replace(self.request, prompts=(prompt,) * len(self.request.seeds)))

    def encoded(self) -> Tensor:
        """The picture as the model's x0, (1, …), where its networks run."""
        return encoded(self.pipe, self.picture.pixels, self.size)

    def path(self, strength: float = 1.0) -> Path:
        """The levels from `strength` of the schedule's time down to clean data."""
        return part(self.pipe, self.request, strength)

    def drawn(
        self,
        *,
        path: Path | None = None,
        start: Begin | None = None,
        wrap: Wrap | None = None,
        within: Wrap | None = None,
        net: Callable[..., Tensor] | None = None,
    ) -> tuple[Tensor, int]:
        """(x (n, …), network calls an image) of the request, run as `Pipeline.run` says, in batches.

        start(eps, level, places) -> x at the path's first level; wrap(denoiser, places) -> the denoiser to
        run: places are those of the batch's images among all n; within: the same of the denoiser whose
        answers guidance mixes. net: in place of the model's network.
        """

        def draw(places: list[int], count: Count) -> Tensor:
            begin, around, inner = (f and _at_places(f, places) for f in (start, wrap, within))
            return self.finish(places, count, path=path, start=begin, wrap=around, within=inner, net=net)

        return self.batched(draw)

    def finish(
        self, places: Sequence[int], count: Count, request: Request | None = None, **how: Any
    ) -> Tensor:
        """The last x of a batch: of the images at some places, or of another request; `how` as `Pipeline.run`
        takes it.
        """
        return self.pipe.finish(request or self.request.only(places), count, **how)

    def batched(self, draw: Draw, shape: Sequence[int] | None = None) -> tuple[Tensor, int]:
        """(x (n, …), network calls an image) of draw(places, count) -> the rows of those images, for each
        batch; no image depends on its batch.

        shape: of what the network sees of one image, where that is not the request's.
        """
        size = self.batch_size
        if size is None and shape is not None:
            size = self.pipe.runner.batch(tuple(shape))
        seeds, calls = self.request.seeds, []
        rows = {i: x for i, s in enumerate(seeds) if (x := kept(self.work, s)) is not None}
        left = [i for i in range(len(seeds)) if i not in rows]
        some = lambda places, count: draw([left[k] for k in places], count)
        for places, x, n in self._batches(left, some, size):
            calls.append(n)
            for k, row in zip(places, x):
                rows[left[k]] = keep(self.work, seeds[left[k]], row)
        every = [rows[i].to(self.pipe.runner.device) for i in range(len(seeds))]
        return torch.stack(every), sum(calls) // max(len(calls), 1)

    def _batches(self, left: Sequence[int], draw: Draw, size: int | None) -> Iterator[Batch]:
        if left:
            yield from self.pipe.batches(self.request.only(left), draw, size, self.progress)

    def pictures(self, x: Tensor) -> np.ndarray:
        """The model's x0 (n, …) as uint8 (n, h, w, 3 or 4), of the picture's size and with its alpha."""
        return np.stack([self.picture.whole(p) for p in decoded(self.pipe, x, self.picture)])

    @property
    def recipes(self) -> tuple[dict, ...]:
        """What the pictures' files say, known before anything is drawn."""
        inputs = {k: {"path": p.path, "sha256": p.sha256} for k, p in self.inputs.items()}
        edits = [{"kind": self.kind, "inputs": inputs, "options": _there(o)} for o in self.options]
        plain = [self.request.recipe(self.pipe, i) for i in range(len(self.request.seeds))]
        return tuple({**r, "edit": edit} for edit in edits for r in plain)

    def result(
        self,
        arrays: np.ndarray | Sequence[np.ndarray],
        nfe: int,
        form: Callable[..., Any] = Result,
        **more: Any,
    ) -> Any:
        """The Result of the edit: its pictures, uint8 (n, h, w, c), with their recipes; more: of a form that
        holds more.
        """
        seeds = self.request.seeds * len(self.options)
        return form(np.asarray(arrays), seeds, nfe, self.recipes, **more)


def begin(
    pipe: Pipeline,
    kind: str,
    image: Given | None,
    prompt: str | Sequence[str] | None,
    options: Options | Sequence[Options],
    how: Mapping[str, Any],
    size_of: Callable[..., Size | None] = working_size,
    **others: Picture | None,
) -> Run:
    """The run of an edit of an image, checked; others: the further pictures that it needs.

    how: what people gave beside the edit's own options: what `Pipeline.request` takes; height, width, at
    which the model works; batch_size, images made at once, of which none depends on the others;
    progress(k), called with the number of network calls just done; on_begin(recipes), called once, here.
    size_of: how the working size follows from (pipe, picture, height, width). Errors: BadInput.
    """
    how, picture = dict(how), None if image is None else read(image)
    sizes = {k: how.pop(k, None) for k in SIZES}
    batch_size, progress, on_begin = (_checked(k, how.pop(k, None)) for k in CALLS)
    size = size_of(pipe, picture, **sizes)
    request = pipe.request(prompt, **_sides(size), **how)
    inputs = {k: p for k, p in {"image": picture, **others}.items() if p is not None}
    several = [options] if isinstance(options, Mapping) else options
    recorded = tuple({**o, **sizes} for o in several)
    run = Run(pipe, request, picture, size, kind, inputs, recorded, batch_size, progress)
    if on_begin:
        on_begin(run.recipes)
    return run


def _checked(name: str, value: Any) -> Any:
    """Something of CALLS."""
    if name == "batch_size":
        return None if value is None else arguments.integer(name, value, 1)
    check_listener(name, value)
    return value


def _there(options: Options) -> dict[str, Any]:
    return {k: v for k, v in options.items() if v is not None}


def _at_places(f: Callable[..., Any], places: Sequence[int]) -> Callable[..., Any]:
    return lambda *values: f(*values, places)


# --- finished images ----------------------------------------------------------------------------------------


def kept(work: Folder | None, seed: int) -> Tensor | None:
    """The x of a seed's image, where it lies in the folder, in one piece."""
    if work is None:
        return None
    try:
        with safe_open(work / f"{seed}.safetensors", framework="pt") as f:
            return f.get_tensor("x")
    except (SafetensorError, OSError):
        return None


def keep(work: Folder | None, seed: int, x: Tensor) -> Tensor:
    """x itself, after it was put into the folder, if there is one."""
    if work is not None:
        weights.write({"x": x.detach().clone()}, work / f"{seed}.safetensors")
    return x


# --- sizes --------------------------------------------------------------------------------------------------


def own_size(pipe: Pipeline, picture: Picture, height: int | None = None, width: int | None = None) -> Size:
    """The working size of an edit that works at the picture's own size. BadInput where another is given."""
    check_no_size(height=height, width=width)
    return working_size(pipe, picture)


def models_size(pipe: Pipeline, picture: Picture | None, height: int | None, width: int | None) -> Size:
    """The model's own size, but for what is asked; the picture's proportions do not matter."""
    codec = of_pictures(pipe.codec, pipe.name, "it cannot edit pictures")
    sides = (("height", height, codec.height), ("width", width, codec.width))
    h, w = (usual if v is None else arguments.integer(k, v, 1, LIMIT) for k, v, usual in sides)
    return h, w


def no_size(pipe: Pipeline, picture: Picture, height: int | None = None, width: int | None = None) -> None:
    """None, for networks that take pictures as they are. BadInput where a size is given."""
    check_no_size(height=height, width=width)


def check_no_size(**sides: int | None) -> None:
    """BadInput where an edit that works at the picture's own size is given another."""
    for name, value in sides.items():
        if value is not None:
            raise BadInput(
                f"{name} is not for this edit, which works at the picture's own size: given {short(value)}"
            )


def _sides(size: Size | None) -> dict[str, int]:
    return {} if size is None else dict(zip(SIZES, size))


def asked(pipe: Pipeline, size: Size, prompt: str | Sequence[str] | None = None, **how: Any) -> Request:
    """The request for edits at a working size, checked: `how` is what `Pipeline.request` takes beside it."""
    check_no_size(**{k: how[k] for k in SIZES if k in how})
    return pipe.request(prompt, **_sides(size), **how)


# --- where to begin -----------------------------------------------------------------------------------------


def strength_of(strength: float) -> float:
    """A strength, a number from 0 (the picture itself) to 1 (nothing of it), or BadInput."""
    try:
        return arguments.number("strength", strength, 0, 1)
    except BadInput:
        raise BadInput(
            "strength must be a number from 0 (the picture itself) to 1 (nothing of it), given"
            f" {short(strength)}"
        ) from None


def part(pipe: Pipeline, request: Request, strength: float) -> Path:
    """The request's path from `strength` of the schedule's time down to clean data: as many steps, scaled; at
    1 the path itself.
    """
    path, s = pipe.path(request), max(strength_of(strength), VANISHING)
    if s == 1:
        return path
    levels = pipe.schedule.level(s * pipe.schedule.time(Level(*map(torch.stack, zip(*path[:-1])))))
    return path_of([Level(*l) for l in zip(*levels)])


def noised_from(x0: Tensor) -> Begin:
    """The start at a level of x0 (1 or n, …): alpha x0 + sigma eps, each sample with its own eps."""

    def start(eps: Tensor, l: Level, places: Sequence[int]) -> Tensor:
        return spread(l.alpha, eps) * rows(x0, places).to(eps) + spread(l.sigma, eps) * eps

    return start


def beginning_at(x: Tensor) -> Begin:
    """The start at x (1, …) itself, for all samples."""
    return lambda eps, l, places: x.expand_as(eps)


def rows(v: Tensor, places: Sequence[int]) -> Tensor:
    """The samples of a batch among all (n, …); of what holds for all, (1, …), that."""
    return v if len(v) == 1 else v[list(places)]


def sampled(request: Request, denoise: Denoiser, x: Tensor, path: Path) -> Tensor:
    """The last x of any denoiser, by the request's sampler and noise, from x (n, …) at the path's first
    level.
    """
    with torch.no_grad():
        return last(
            SAMPLERS[request.sampler](
                denoise, x, path, NOISES[request.noise](request.seeds), **request.options
            )
        )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in dB; inf where they are equal."""
    mse = float(np.mean((a.astype(np.float64) - b) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)
