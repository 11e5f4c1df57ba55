"""A model under the names users know: prompt in, images out. It only puts the rooms together.

    pipe = unnoise.load("emoji")
    result = pipe("a red apple", seed=7, num_images=4)     # seeds 7, 8, 9, 10: one an image
    for state in pipe.stream("a red apple", seed=7): ...   # State(x, level, x0) each step

Image i depends on its own seed alone: not on the batch it is made in, nor on what is made beside it.
"""

from __future__ import annotations

import copy
import inspect
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unnoise import hub
from unnoise.base import arguments, names
from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import short
from unnoise.base.version import DEFAULT_MODEL, VERSION
from unnoise.codec import is_of_pictures
from unnoise.denoiser import Denoiser
from unnoise.engine import device as devices
from unnoise.engine.runner import Runner
from unnoise.guide.cfg import cfg_batched
from unnoise.guide.scale import Scale, interval
from unnoise.guide.shaping import clip
from unnoise.media import makes
from unnoise.process import noise as noises
from unnoise.process import schedule
from unnoise.process.level import Level, ve
from unnoise.record import KEY, read_recipe, write_png
from unnoise.result import Result, picture
from unnoise.sample import REVISION, SAMPLERS, State, last, resolve
from unnoise.sample.default import DEFAULT_SAMPLER, DEFAULT_SPACING
from unnoise.text import known
from unnoise.train import objective

__all__ = [
    "KEY",
    "Count",
    "Pipeline",
    "Request",
    "Result",
    "load",
    "make_folder",
    "picture",
    "read_recipe",
    "write_png",
]
NOISES = {"seeded": noises.seeded, "brownian": noises.brownian}
DEFAULTS = {
    "num_inference_steps": 20,
    "guidance_scale": 2.0,
    "sampler": DEFAULT_SAMPLER,
    "spacing": DEFAULT_SPACING,
}
KEPT = (*DEFAULTS, "spacing_options", "options", "clip")  # what a folder may say of these
MOST_STEPS, MOST_IMAGES, MOST_SIDE = 10_000, 1_000_000, 8192
Start = Callable[[Tensor, Level], Tensor]


@dataclass(frozen=True)
class Request:
    """Everything that determines a batch of images, resolved: what the PNG recipe stores and `replay` runs
    again.
    """

    prompts: tuple[str, ...]
    negatives: tuple[str, ...]
    steps: int
    guidance: float
    seeds: tuple[int, ...]
    sampler: str
    spacing: str
    options: dict[str, Any] = field(default_factory=dict)
    noise: str = "seeded"
    rescale: float = 0.0
    interval: tuple[float, float] | None = None
    timesteps: tuple[float, ...] | None = (
        None  # the levels, where they are not the spacing's: of a tuned grid, or given ones
    )
    size: tuple[int, int] | None = None  # height and width in pixels, where they are not the model's own
    clip_skip: int = 0
    guide: tuple[Any, ...] = ()  # edit.guides.Guide of each
    guide_through: bool = False
    guide_linear: bool = False

    def only(self, places: Sequence[int]) -> Request:
        """The same request for some of its images."""
        pick = lambda values: tuple(values[i] for i in places)
        return replace(
            self, prompts=pick(self.prompts), negatives=pick(self.negatives), seeds=pick(self.seeds)
        )

    def recipe(self, pipe: Pipeline, i: int) -> dict:
        """The recipe of image i, as stored in its file: `record.Recipe` reads it again."""
        height, width = self.size or (None, None)
        told = {
            "options": self.options,
            "noise": self.noise if self.noise != "seeded" else None,
            "guidance_rescale": self.rescale,
            "guidance_interval": self.interval and list(self.interval),
            "height": height,
            "width": width,
            "clip_skip": self.clip_skip,
        }
        if self.timesteps is not None:
            told["timesteps"] = list(self.timesteps)
        if self.guide:
            told["guide"] = [g.text for g in self.guide]
            how = {"guide_through": self.guide_through, "guide_linear": self.guide_linear}
        else:
            how = {}
        facts = getattr(
            pipe, "facts", None
        )  # of a Pipeline; others that draw (`evaluate.run.Generator`) have none
        return {
            "model": pipe.name,
            "model_sha256": pipe.sha256,
            "prompt": self.prompts[i],
            "negative_prompt": self.negatives[i],
            "seed": self.seeds[i],
            "sampler": self.sampler,
            "spacing": self.spacing,
            "steps": self.steps,
            "guidance": self.guidance,
            **{k: v for k, v in told.items() if v},
            **how,
            **(facts(self) if facts else {}),
            **revisions(),
        }


def revisions() -> dict:
    """What, beside the request, a picture depends on: versions of this library, its samplers and its
    noise.
    """
    return {"version": VERSION, "sampler_revision": REVISION, "noise_revision": noises.REVISION}


class Pipeline:
    """A model ready to draw. Stateless: calls may run at the same time and do not see each other."""

    def __init__(
        self,
        folder: hub.Folder,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "fp32",
        memory_budget: str | int | None = None,
        compile: bool = False,
        once: bool = False,
    ):
        if folder.process is None:
            raise BadInput(f"{folder.name!r} is a {folder.kind}: it judges images and cannot draw them")
        self.folder, self.name, self.sha256, self.words = folder, folder.name, folder.sha256, folder.words
        self.process = objective.resolve(folder.process)
        self.schedule = self.process.curve
        usual = {"guidance_scale": 7.5} if folder.text else {}
        self.defaults = {**DEFAULTS, **usual, **{k: v for k, v in folder.defaults.items() if k in KEPT}}
        self.tuned = {int(k): v for k, v in folder.defaults.get("tuned", {}).items()}
        on = devices.device(device)
        compile, once = arguments.flag("compile", compile), arguments.flag("once", once)
        self.runner = Runner(folder, on, devices.dtype(dtype, on), memory_budget, compile, once)

    # what runs: on the runner's device, in its number type
    net = property(lambda self: self.runner.net, doc="The denoising network.")
    codec = property(lambda self: self.runner.codec, doc="Data <-> tensors of the model's space.")
    text = property(lambda self: self.runner.text, doc="The prompt encoder, or None.")

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        num_images: int = 1,
        sampler: str | None = None,
        spacing: str | None = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] | None = None,
        noise: str = "seeded",
        height: int | None = None,
        width: int | None = None,
        clip_skip: int = 0,
        guide: Sequence[Any] | None = None,
        guide_through: bool = False,
        guide_linear: bool = False,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
        on_state: Callable[[int, State], None] | None = None,
        **options,
    ) -> Result:
        """Draw num_images images (of each prompt, when a list is given), with seeds seed, seed + 1, …

        prompt None or "": any of the model's images. negative_prompt: what to steer away from (with
        guidance_scale > 1, where 1 is off). seed: an int, or one an image; None draws one and reports it.
        sampler: a name of SAMPLERS or one that people type ("euler a"); its options (eta=…) are keywords.
        timesteps or sigmas (sigma / alpha): any decreasing list of levels instead of num_inference_steps and
        spacing. guidance_rescale: phi of guide.shaping.matched, 0 is off; guidance_interval: guide only where
        lo < sigma / alpha <= hi. noise: "seeded", or "brownian" (one path a seed, the same for any number of
        steps of an SDE sampler). height, width: pixels, for models of latents: multiples of 8 (the model's
        own by default). clip_skip: how many of the text encoder's last layers to leave out. guide: wishes
        about the picture, texts such as "colour=green:2" or functions loss(images (n, 3, h, w) in [0, 1]) ->
        (n,), see `edit.guides`; guide_through: follow their gradient through the network too; guide_linear:
        show them latents by a linear map, not the decoder. batch_size: images at once; no image depends on
        it. progress(k) is called with the number of network calls just done, over all; on_state(i, state)
        with every State of every batch, i the place of its first image. BadInput on anything unknown or out
        of range, naming what is accepted.
        """
        request = self.request(
            prompt,
            negative_prompt,
            num_inference_steps,
            guidance_scale,
            seed,
            num_images,
            sampler,
            spacing,
            timesteps,
            sigmas,
            guidance_rescale,
            guidance_interval,
            noise,
            height,
            width,
            clip_skip,
            guide,
            guide_through,
            guide_linear,
            **options,
        )
        arrays: list[np.ndarray] = [np.empty(0)] * len(request.seeds)
        calls = []
        for places, some, n in self.pictures(request, batch_size, progress, on_state):
            calls.append(n)
            for i, a in zip(places, some):
                arrays[i] = a
        recipes = tuple(request.recipe(self, i) for i in range(len(request.seeds)))
        return Result(np.stack(arrays), request.seeds, sum(calls) // len(calls), recipes)

    def pictures(
        self,
        r: Request,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
        on_state: Callable[[int, State], None] | None = None,
    ) -> Iterator[tuple[list[int], np.ndarray, int]]:
        """(places of its images, the images, network calls an image) of each batch of a request, as it is
        finished.
        """
        listener("progress", progress)
        listener("on_state", on_state)

        def draw(places: list[int], count: Count) -> Tensor:
            return self.finish(
                r.only(places), count, None if on_state is None else partial(on_state, places[0])
            )

        for places, x, n in self.batches(r, draw, batch_size, progress):
            yield places, self.decode(x), n

    def batches(
        self,
        r: Request,
        draw: Callable[[list[int], Count], Tensor],
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[list[int], Tensor, int]]:
        """(places of its images, draw(places, count), network calls counted) of each batch of a request.

        An image that is not finite in 16 bits is drawn again alone in float32; BadInput when it is not finite
        then either.
        """
        parts = self._parts(r, None if batch_size is None else arguments.integer("batch_size", batch_size, 1))
        for places in parts:
            count = Count(progress)
            x = self._finite(r, places, draw(places, count), draw, progress)
            if places is parts[-1]:
                self.runner.finished()
            yield places, x, count.calls

    def _finite(
        self,
        r: Request,
        places: list[int],
        x: Tensor,
        draw: Callable[[list[int], Count], Tensor],
        progress: Callable[[int], None] | None,
    ) -> Tensor:
        """A batch x in which every image is finite. What is done for one changes no other."""
        if torch.isfinite(x).all():
            return x
        rows = list(x)
        for k, place in enumerate(places):
            if torch.isfinite(rows[k]).all():
                continue
            if self.runner.dtype != torch.float32:
                with self.runner.widened():
                    rows[k] = draw([place], Count(progress))[0].to(x)
            if not torch.isfinite(rows[k]).all():
                raise BadInput(f"model {self.name!r} gave non-finite values (seed {r.seeds[place]})")
        return torch.stack(rows)

    def _parts(self, r: Request, batch_size: int | None) -> list[list[int]]:
        """The images of a request in batches: those that attend to equally many tokens together."""
        n = batch_size or self.runner.batch(self._shape(1, r))
        groups: dict[int, list[int]] = {}
        for i in range(len(r.seeds)):
            groups.setdefault(self._chunks(r.only([i])), []).append(i)
        return [g[i : i + n] for g in groups.values() for i in range(0, len(g), n)]

    def calls(self, r: Request, batch_size: int | None = None) -> int:
        """The network calls of all batches of a request."""
        n = None if batch_size is None else arguments.integer("batch_size", batch_size, 1)
        return len(self._parts(r, n)) * SAMPLERS[r.sampler].calls(self.path(r), **r.options)

    def finish(
        self, r: Request, count: Count, watch: Callable[[State], None] | None = None, **how: Any
    ) -> Tensor:
        """The last x of a run; `how` is what `run` takes."""

        def through(state: State) -> State:
            if watch:
                watch(state)
            return state

        return last(through(s) for s in self.run(r, count, **how))

    def facts(self, r: Request) -> dict[str, Any]:
        """What a picture depends on beside the request: number type, the folder's defaults that bear on it,
        the machine.
        """
        told: dict[str, Any] = {"dtype": devices.name_of(self.runner.dtype)}
        if c := self.defaults.get("clip"):
            told["clip"] = c
        if own := self._spacing_options(r):
            told["spacing_options"] = own
        return told | {"machine": self.runner.facts()}

    def with_defaults(self, **defaults: Any) -> Pipeline:
        """The same pipeline with other defaults (None takes one away)."""
        other = copy.copy(self)
        other.defaults = {k: v for k, v in {**self.defaults, **defaults}.items() if v is not None}
        return other

    def stream(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        num_images: int = 1,
        sampler: str | None = None,
        spacing: str | None = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] | None = None,
        noise: str = "seeded",
        height: int | None = None,
        width: int | None = None,
        clip_skip: int = 0,
        guide: Sequence[Any] | None = None,
        guide_through: bool = False,
        guide_linear: bool = False,
        **options,
    ) -> Iterator[State]:
        """The States of one run of the same arguments as a call, as they are made; `decode(state.x0)` is the
        preview.

        All images are one batch. BadInput as a call's.
        """
        request = self.request(
            prompt,
            negative_prompt,
            num_inference_steps,
            guidance_scale,
            seed,
            num_images,
            sampler,
            spacing,
            timesteps,
            sigmas,
            guidance_rescale,
            guidance_interval,
            noise,
            height,
            width,
            clip_skip,
            guide,
            guide_through,
            guide_linear,
            **options,
        )
        return self.run(request)

    def request(
        self,
        prompt=None,
        negative_prompt=None,
        num_inference_steps=None,
        guidance_scale=None,
        seed=None,
        num_images=1,
        sampler=None,
        spacing=None,
        timesteps=None,
        sigmas=None,
        guidance_rescale=0.0,
        guidance_interval=None,
        noise="seeded",
        height=None,
        width=None,
        clip_skip=0,
        guide=None,
        guide_through=False,
        guide_linear=False,
        **options,
    ) -> Request:
        """The arguments of a call, checked and made complete."""
        prompts, negatives, seeds = self._batch(prompt, negative_prompt, seed, num_images)
        levels = self._levels(timesteps, sigmas, num_inference_steps, spacing)
        steps = len(levels) if levels else self._steps(num_inference_steps)
        name, grid = self._sampler(steps, sampler, spacing)
        for option in options:
            if option not in SAMPLERS[name].options:
                raise _unknown_option(name, option)
        if sampler is None and "options" in self.defaults and grid != "tuned":
            options = {**self.defaults["options"], **options}
        if levels:
            grid = "given"
        elif grid == "tuned":
            levels, options = self._tuned(steps, name), {**self.tuned[steps].get("options", {}), **options}
        r = Request(
            prompts,
            negatives,
            steps,
            self._scale(guidance_scale),
            seeds,
            name,
            grid,
            options,
            arguments.choice("noise", noise, NOISES),
            arguments.number("guidance_rescale", guidance_rescale, 0, 1),
            None if guidance_interval is None else _interval(guidance_interval),
            levels,
            self._size(height, width),
            self._skip(clip_skip),
            self._guides(guide),
            arguments.flag("guide_through", guide_through),
            arguments.flag("guide_linear", guide_linear),
        )
        self._check_run(r)
        return r

    def _steps(self, given: Any) -> int:
        if given is None:
            given = self.defaults["num_inference_steps"]
        return arguments.integer("num_inference_steps", given, 1, MOST_STEPS)

    def _check_run(self, r: Request) -> None:
        """BadInput for options and noise with which the run would fail half-way."""
        sampler, path = SAMPLERS[r.sampler], self.path(r)
        try:
            sampler.plan(path, None, 1, **r.options)
            if sampler.detour is None:
                sampler.step(_unused, noises.zeros, **r.options)
        except (TypeError, ValueError, OverflowError, MemoryError) as e:
            if isinstance(e, BadInput):
                raise
            raise BadInput(f"sampler {r.sampler!r} cannot take the options {short(r.options, 200)}") from None
        if r.noise == "brownian":
            _check_brownian(r, path)

    def _guides(self, given: Sequence[Any] | None) -> tuple[Any, ...]:
        """The guides of a request, understood and checked."""
        if given is None or given == ():
            return ()
        if not isinstance(given, str | Iterable) and not callable(given):
            raise BadInput(
                f"guide must be a list of texts such as 'colour=green:2' and functions, given {short(given)}"
            )
        from unnoise.edit import guides

        return guides.settled(self, given)

    def _draws(self) -> None:
        """BadInput for a model that needs more than a prompt: an inpainting UNet also takes a mask and the
        masked picture.
        """
        given, own = getattr(getattr(self.net, "config", None), "in_channels", None), self.codec.shape(1)[1]
        if given is not None and given != own and "upscale" in self.folder.defaults:
            raise BadInput(
                f"model {self.name!r} makes pictures larger and draws none: it is shown one by `unnoise edit"
                " upscale` and `denoise`"
            )
        if given is not None and given != own:
            raise BadInput(
                f"model {self.name!r} takes {given} channels where its pictures have {own}: it draws from an"
                " image and a mask as well, as `unnoise edit inpaint` does"
            )

    def _size(self, height: int | None, width: int | None) -> tuple[int, int] | None:
        """The size asked for, where it is not the model's own."""
        if height is None and width is None:
            return None
        codec = self.codec
        if not is_of_pictures(codec):
            raise BadInput(f"{makes(self.name, codec.medium)}, which have no height or width")
        size = (
            codec.height if height is None else arguments.integer("height", height, 1, MOST_SIDE),
            codec.width if width is None else arguments.integer("width", width, 1, MOST_SIDE),
        )
        if codec.free:
            codec.check_size(*size)
        elif size != (codec.height, codec.width):
            raise BadInput(
                f"model {self.name!r} draws {codec.height} x {codec.width} only, given {size[0]} x {size[1]}"
            )
        return None if size == (codec.height, codec.width) else size

    def _skip(self, clip_skip: int) -> int:
        clip_skip = arguments.integer("clip_skip", clip_skip, 0)
        if clip_skip and self.text is None:
            raise BadInput(f"model {self.name!r} has no text encoder: clip_skip must be 0, given {clip_skip}")
        if self.text and clip_skip >= (layers := self.text.net.config.num_hidden_layers):
            raise BadInput(
                f"clip_skip must be less than the text encoder's {layers} layers, given {clip_skip}"
            )
        return clip_skip

    def _batch(
        self, prompt, negative, seed, num_images
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
        """One prompt, negative prompt and seed an image."""
        n = arguments.integer("num_images", num_images, 1, MOST_IMAGES)
        prompts, several = _texts("prompt", prompt), _seed_list(seed)
        if n == 1 and len(prompts) == 1 and several is not None:
            n = len(several)
        negatives = _texts("negative_prompt", negative)
        if negative is None or isinstance(negative, str):
            negatives *= len(prompts)
        if len(negatives) != len(prompts):
            raise BadInput(f"{len(negatives)} negative prompts given for {len(prompts)} prompts")
        for p in {*prompts, *negatives}:
            self.check_prompt(p)
        each = lambda texts: tuple(t for t in texts for _ in range(n))
        return each(prompts), each(negatives), _seeds(seed, several, n * len(prompts))

    def _scale(self, given: float | None) -> float:
        free = self.words is None and self.text is None
        scale = given if given is not None else 1.0 if free else self.defaults["guidance_scale"]
        scale = arguments.number("guidance_scale", scale)
        if free and scale != 1:
            raise BadInput(
                f"model {self.name!r} has no condition to guide by: guidance_scale must be 1, given {scale}"
            )
        return scale

    def _levels(self, timesteps, sigmas, steps, spacing) -> tuple[float, ...] | None:
        """Levels given as timesteps or as sigma / alpha, as timesteps; None when neither is given."""
        levels = timesteps if sigmas is None else sigmas
        if levels is None:
            return None
        if timesteps is not None and sigmas is not None:
            raise BadInput("give timesteps or sigmas, not both")
        if steps is not None or spacing is not None:
            raise BadInput("timesteps and sigmas replace num_inference_steps and spacing: give one of them")
        given = _numbers("timesteps and sigmas", levels)
        if sigmas is not None:
            given = [float(self.schedule.timestep(ve(v))) for v in given if v > 0]
        top = self.schedule.T - 1
        if given != sorted(set(given), reverse=True) or not given or not -1 < given[-1] <= given[0] <= top:
            raise BadInput(
                f"levels must decrease strictly within this model's (timesteps {top} to above -1), given "
                f"{[round(g, 3) for g in given][:20]}"
            )
        return tuple(given)

    def _sampler(self, steps: int, sampler: str | None, spacing: str | None) -> tuple[str, str]:
        """The sampler and grid to use: those asked for; else what was tuned for so many calls; else the
        model's defaults.
        """
        if sampler is None and spacing is None and steps in self.tuned:
            return self.tuned[steps]["sampler"], "tuned"
        name, implied = resolve(
            self.defaults["sampler"] if sampler is None else arguments.string("sampler", sampler)
        )
        grid = (
            implied or self.defaults["spacing"] if spacing is None else arguments.string("spacing", spacing)
        )
        if grid not in (*schedule.GRIDS, "tuned"):
            raise unknown("spacing", grid, [*schedule.GRIDS, "tuned"])
        if grid == "tuned" and steps not in self.tuned:
            raise BadInput(
                f"model {self.name!r} has no grid tuned for {steps} calls (tuned:"
                f" {', '.join(map(str, self.tuned)) or 'none'}; see unnoise samplers --tune)"
            )
        return name, grid

    def _tuned(self, steps: int, sampler: str) -> tuple[float, ...]:
        if sampler != self.tuned[steps]["sampler"]:
            raise BadInput(
                f"the grid for {steps} calls was tuned for sampler {self.tuned[steps]['sampler']!r}, given"
                f" {sampler!r}"
            )
        return tuple(u * self.schedule.T - 1 for u in self.tuned[steps]["u"])

    def path(self, request: Request) -> schedule.Path:
        """The levels that a request visits, clean data last."""
        if request.timesteps is not None:
            return schedule.path_of([self.schedule.at(t) for t in request.timesteps])
        return self.schedule.path(request.steps, request.spacing, **self._spacing_options(request))

    def _spacing_options(self, r: Request) -> dict[str, Any]:
        """The folder's options of its own spacing, where a request uses that."""
        return self.defaults.get("spacing_options", {}) if r.spacing == self.defaults["spacing"] else {}

    def check_prompt(self, prompt: str) -> None:
        """BadInput when this model cannot take a prompt; says what it takes."""
        if self.text is not None:
            self.text.check(prompt)
        elif self.words is not None:
            self.words.label(prompt)
        elif prompt:
            raise BadInput(f"model {self.name!r} takes no prompt, given {prompt!r}")

    def unknown(self, prompt: str | Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
        """(word, the nearest known ones) of each word of some prompts that the model was never taught: what
        it draws there is chance.

        Empty where a model does not tell its words (Stable Diffusion's folders), and for a closed vocabulary,
        which refuses others.
        """
        told = self._known
        return (
            []
            if told is None
            else list(
                {w: (w, near) for p in _texts("prompt", prompt) for w, near in told.unknown(p)}.values()
            )
        )

    @cached_property
    def _known(self) -> known.Known | None:
        return None if self.folder.path is None or self.text is None else known.load(self.folder.path)

    def denoiser(
        self,
        prompts: Sequence[str],
        negatives: Sequence[str] | None = None,
        guidance: Scale = 1.0,
        rescale: float = 0.0,
        net: Callable[..., Tensor] | None = None,
        path: schedule.Path | None = None,
        clip_skip: int = 0,
        within: Callable[[Denoiser], Denoiser] | None = None,
    ) -> Denoiser:
        """E[x0 | x, prompt] of a batch, guided away from `negatives` (default: no condition): a Denoiser for
        any sampler.

        path: the levels of the run, for prompts that change by step. within: the denoiser of the network
        itself, of the prompts' rows and then the negatives' where there is guidance -> the one whose answers
        guidance mixes.
        """
        net, negatives = net or self.fast, negatives or [""] * len(prompts)
        within = within or (lambda denoise: denoise)
        if self.words is None and self.text is None:
            return within(self.process.denoiser(net))
        key = "context" if self.text is not None else "labels"

        def bind(condition: Tensor) -> Denoiser:
            ready = self.runner.prepared(condition)
            return within(self.process.denoiser(lambda x, t: net(x, t, **{key: ready()})))

        def guided(cond: Tensor, uncond: Tensor) -> Denoiser:
            if isinstance(guidance, (int, float)) and guidance == 1:
                return bind(cond)
            return cfg_batched(bind, cond, uncond, guidance, rescale)

        if self.text is None:
            return guided(*(torch.tensor([self.words.label(p) for p in ps]) for ps in (prompts, negatives)))  # type: ignore[union-attr]
        pairs = self._contexts(prompts, negatives, path, clip_skip)
        made = {id(p): guided(*p) for p in pairs}  # steps with one prompt share its keys and values
        return made[id(pairs[0])] if len(pairs) == 1 else by_step([made[id(p)] for p in pairs], path)  # type: ignore[arg-type]

    def _contexts(
        self, prompts: Sequence[str], negatives: Sequence[str], path: schedule.Path | None, clip_skip: int
    ) -> list[tuple[Tensor, Tensor]]:
        """The prompts' and negatives' encodings (n, tokens, width): one pair, or one a step where a prompt
        changes by step.

        Steps at which all prompts read the same share one pair.
        """
        from unnoise.text import prompts as prompting

        encoder, n = self.runner.encoder(clip_skip), len(prompts)
        everything = [*prompts, *negatives]
        parsed = [prompting.parse(p) for p in everything]
        chunks, changing = max(map(encoder.chunks, parsed)), any(p.by_step for p in parsed)
        steps = len(path) - 1 if path and changing else 1
        read, pairs = [tuple(p.at(i, steps) for p in parsed) for i in range(steps)], {}
        with torch.no_grad():
            for i, key in enumerate(read):
                if key in pairs:
                    continue
                e = encoder.encode(parsed, step=i, steps=steps, chunks=chunks)
                pairs[key] = (e[:n], e[n:])
        self.runner.release_text()
        return [pairs[key] for key in read]

    def _chunks(self, r: Request) -> int:
        return 1 if self.text is None else max(map(self.text.chunks, (*r.prompts, *r.negatives)))

    @property
    def fast(self) -> Callable[..., Tensor]:
        """`net` in the form that runs fastest here (see `engine.fuse`): made anew once its weights have
        changed.
        """
        return self.runner.fast()

    def run(
        self,
        r: Request,
        count: Count | None = None,
        *,
        path: schedule.Path | None = None,
        start: Start | None = None,
        wrap: Callable[[Denoiser], Denoiser] | None = None,
        within: Callable[[Denoiser], Denoiser] | None = None,
        net: Callable[..., Tensor] | None = None,
    ) -> Iterator[State]:
        """The States of a request; edits give it another path, another start on it, guides around its
        denoiser, another network.

        start(eps, level) -> x at the path's first level, both (n, …), by default sigma eps; wrap: the
        denoiser -> the one to run; within: as `denoiser` takes it.
        """
        if net is None:
            self._draws()
        path = path or self.path(r)
        scale = interval(r.guidance, *r.interval) if r.interval else r.guidance
        denoise = self.denoiser(
            r.prompts,
            r.negatives,
            scale,
            r.rescale,
            self.runner.counted(count, net),
            path,
            r.clip_skip,
            within,
        )
        if c := self.defaults.get("clip"):
            denoise = clip(denoise, -c, c)
        if r.guide:
            from unnoise.edit import guides

            denoise = guides.guided(self, r, denoise)
        if wrap:
            denoise = wrap(denoise)
        eps = self.noise(r)
        x = start(eps, path[0]) if start else eps * float(path[0].sigma)
        return SAMPLERS[r.sampler](denoise, x, path, NOISES[r.noise](r.seeds), **r.options)

    def noise(self, r: Request) -> Tensor:
        """The unit normals (n, …) that a request's images begin with, each its own seed's."""
        return noises.seeded(r.seeds, "init")(
            torch.zeros(self._shape(len(r.seeds), r), device=self.runner.device)
        )

    def _shape(self, n: int, r: Request) -> tuple[int, ...]:
        return self.codec.shape(n, r.size)

    def decode(self, x: Tensor) -> np.ndarray:
        """Tensors of this model's space as uint8 images (n, h, w, c), or as floats for a model of vectors."""
        return self.runner.decode(x)

    def save_pretrained(self, folder: str | os.PathLike) -> FilePath:
        """Write the model as a folder in the published layout; returns its path."""
        from unnoise.hub.parts import clip_of

        f = self.folder
        net, codec, text = self.runner.stored()
        return hub.save(
            folder,
            name=self.name,
            kind=f.kind,
            net=net,
            weights=None,
            codec=codec,
            words=self.words,
            process=f.process,
            defaults=f.defaults,
            text=text,
            clip=clip_of(f),
        )

    from_pretrained = staticmethod(lambda name: load(name))


_CALL_OPTIONS = tuple(
    p for p in inspect.signature(Pipeline.__call__).parameters if p not in ("self", "options")
)


def load(
    name: str | os.PathLike = DEFAULT_MODEL,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
    memory_budget: str | int | None = None,
    compile: bool = False,
    tokenizer: str | os.PathLike | None = None,
    prediction: str | None = None,
    vae: str | os.PathLike | None = None,
    once: bool = False,
    **others: Any,
) -> Pipeline:
    """The pipeline of a bundled model, a local model folder, a single-file checkpoint or a fetched hub id
    ("owner/model").

    device, dtype ("fp32", "fp16", "bf16"): "auto" is what a short trial finds best. variant: of the weight
    files ("fp16"). memory_budget ("3GB"): what the process may take; weights beyond it are read from the file
    at each call. compile: by torch.compile. tokenizer: a folder, for checkpoints without one; prediction:
    what those predict. vae: another autoencoder: a model folder, an autoencoder's own, or its .safetensors
    file; a checkpoint without one needs it. once: for a single call, which gives the denoiser's memory back
    before its last pictures are decoded. BadInput names what is missing, damaged or not supported, an
    argument of the wrong kind, or one (in `others`) that does not exist.
    """
    for other in others:
        raise unknown("argument of load", other, _LOAD_OPTIONS)
    arguments.path("name", name)
    for key, path in (("tokenizer", tokenizer), ("vae", vae)):
        if path is not None:
            arguments.path(key, path)
    for key, value in (("variant", variant), ("prediction", prediction)):
        if value is not None:
            arguments.string(key, value)
    compile, once = arguments.flag("compile", compile), arguments.flag("once", once)
    on = devices.device(device)
    kind = devices.dtype(dtype, on)
    folder = hub.load(name, variant=variant, tokenizer=tokenizer, prediction=prediction, vae=vae)
    return Pipeline(folder, device=on, dtype=kind, memory_budget=memory_budget, compile=compile, once=once)


_LOAD_OPTIONS = tuple(p for p in inspect.signature(load).parameters if p != "others")


def _unknown_option(sampler: str, given: str) -> BadInput:
    """The error for a keyword that is neither an argument of a call nor an option of its sampler; it may be
    one of another sampler's.
    """
    own = SAMPLERS[sampler].options
    others = [s.name for s in SAMPLERS.values() if given in s.options]
    meant = names.spelled(given, _CALL_OPTIONS) if others else names.nearest(given, [*_CALL_OPTIONS, *own])
    hint = f"; did you mean {meant!r}?" if meant else ""
    if others:
        return BadInput(
            f"sampler {sampler!r} has no option {given!r}{hint} (it is one of {', '.join(others)}; its own:"
            f" {', '.join(own) or 'none'})"
        )
    return BadInput(
        f"unknown option {given!r}{hint} (arguments of a call: {', '.join(_CALL_OPTIONS)}; options of sampler"
        f" {sampler!r}: {', '.join(own) or 'none'})"
    )


def by_step(parts: Sequence[Denoiser], path: schedule.Path) -> Denoiser:
    """A Denoiser that is parts[i] from level i of the path to just above level i + 1."""
    floors = [float(l.ratio) for l in path[1:-1]]

    def denoise(x: Tensor, l: Level) -> Tensor:
        r = float(l.ratio.max())
        return parts[sum(r <= f * (1 + 1e-9) for f in floors)](x, l)

    return denoise


class Count:
    """Counts network calls, and tells a listener of each."""

    def __init__(self, listener: Callable[[int], None] | None = None):
        self.calls, self.listener = 0, listener

    def __call__(self) -> None:
        self.calls += 1
        if self.listener:
            self.listener(1)


def listener(name: str, given: Any) -> None:
    """BadInput for a listener that cannot be called."""
    if given is not None and not callable(given):
        raise BadInput(f"{name} must be a function or None, given {short(given)}")


def _check_brownian(r: Request, path: schedule.Path) -> None:
    """BadInput where the sampler's draws are no increments of one path: told by a run of a single number,
    without a network.
    """
    if SAMPLERS[r.sampler].detour:
        raise BadInput(
            f"sampler {r.sampler!r} goes back up to noisier levels, where Brownian noise would repeat itself:"
            " use noise 'seeded'"
        )

    def draws(like: Tensor, a: Level | None = None, b: Level | None = None) -> Tensor:
        noises.places(a, b)
        return torch.zeros_like(like)

    try:
        last(
            SAMPLERS[r.sampler](lambda x, l: torch.zeros_like(x), torch.zeros(1, 1), path, draws, **r.options)
        )
    except BadInput as e:
        raise BadInput(
            f"sampler {r.sampler!r} cannot draw noise 'brownian' on these levels ({e}): use noise 'seeded'"
        ) from None


def _unused(*args: Any) -> Tensor:
    raise AssertionError("a sampler's rule calls nothing before its first step")


def _items(name: str, given: Any, of: str) -> list[Any]:
    """What a sequence holds. BadInput for what is none (a number, bytes, a dictionary, a set)."""
    if isinstance(given, str | bytes | dict | set | frozenset):
        raise BadInput(f"{name} must be {of}, given {short(given)}")
    try:
        items = list(given)
    except TypeError:
        raise BadInput(f"{name} must be {of}, given {short(given)}") from None
    if not items:
        raise BadInput(f"no {name} is given: the list is empty")
    return items


def _texts(name: str, given: Any) -> list[str]:
    if given is None:
        return [""]
    items = [given] if isinstance(given, str) else _items(name, given, "text or a list of texts")
    return [arguments.string(name, t, nul=True) for t in items]


def _seed_list(seed: Any) -> list[Any] | None:
    """The seeds given one an image; None where one is given for all, or none."""
    if (
        seed is None
        or isinstance(seed, str | bytes)
        or getattr(seed, "ndim", None) == 0
        or not hasattr(seed, "__iter__")
    ):
        return None
    return _items("seed", seed, "a whole number or a list of them")


def _seeds(seed: Any, several: list[Any] | None, n: int) -> tuple[int, ...]:
    if several is None:
        first = (
            secrets.randbelow(2**31) if seed is None else arguments.integer("seed", seed, -(2**63), 2**63 - n)
        )
        return tuple(range(first, first + n))
    seeds = tuple(arguments.integer("seed", s, -(2**63), 2**63 - 1) for s in several)
    if len(seeds) != n:
        raise BadInput(f"{len(seeds)} seeds given for {n} images")
    return seeds


def _numbers(name: str, given: Any) -> list[float]:
    return [arguments.number(name, v) for v in _items(name, given, "a list of finite numbers")]


def _interval(given: Any) -> tuple[float, float]:
    """(lo, hi) of sigma / alpha; hi may be infinite."""
    wanted = "two numbers (lo, hi) of sigma / alpha"
    items = _items("guidance_interval", given, wanted)
    if len(items) != 2:
        raise BadInput(f"guidance_interval must be {wanted}, given {short(given)}")
    lo, hi = (math.inf if v == math.inf else arguments.number("guidance_interval", v) for v in items)
    interval(1.0, lo, hi)  # says what is wrong with them
    return lo, hi


def make_folder(path: FilePath) -> None:
    """Make a folder for output. BadInput when that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as e:
        raise BadInput(f"cannot write to {path}: {getattr(e, 'strerror', None) or e}") from e
