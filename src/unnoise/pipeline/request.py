"""What a call asks for, checked and made complete: a `Request` holds everything that determines its images.

Whatever a caller leaves open is decided here and nowhere later: seeds are drawn, names that people type are
resolved, a folder's defaults and tuned grids are put in. What cannot be drawn is refused in one line before
anything is computed.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import short
from unnoise.codec import is_of_pictures
from unnoise.guide.scale import interval
from unnoise.media import makes
from unnoise.pipeline import guides, record
from unnoise.pipeline.call import unknown_option
from unnoise.process import noise as noises
from unnoise.process import schedule
from unnoise.process.level import Level, ve
from unnoise.sample import SAMPLERS, last, resolve
from unnoise.sample.default import DEFAULT_SAMPLER, DEFAULT_SPACING

if TYPE_CHECKING:
    from unnoise import hub
    from unnoise.pipeline.pipeline import Pipeline

NOISES = {"seeded": noises.seeded, "brownian": noises.brownian}
DEFAULTS = {
    "num_inference_steps": 20,
    "guidance_scale": 2.0,
    "sampler": DEFAULT_SAMPLER,
    "spacing": DEFAULT_SPACING,
}
KEPT = (*DEFAULTS, "spacing_options", "options", "clip")  # what a folder may say of these
MOST_STEPS, MOST_IMAGES, MOST_SIDE = 10_000, 1_000_000, 8192


@dataclass(frozen=True)
class Request:
    """Everything that determines a batch of images, resolved: what the PNG recipe stores and `replay` runs
    again. One prompt, negative prompt and seed an image.
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
    guide: tuple[guides.Guide, ...] = ()
    guide_through: bool = False
    guide_linear: bool = False

    def only(self, places: Sequence[int]) -> Request:
        """The same request for some of its images."""
        pick = lambda values: tuple(values[i] for i in places)
        return replace(
            self, prompts=pick(self.prompts), negatives=pick(self.negatives), seeds=pick(self.seeds)
        )

    def recipe(self, pipe: Any, i: int) -> dict[str, Any]:
        """The recipe of image i, drawn by `pipe`, as its file stores it (see `record.written`)."""
        return record.written(self, pipe, i)

    def shared(self, pipe: Any) -> dict[str, Any]:
        """What the recipes of all its images have in common: all but the prompts and the seed."""
        return record.shared(self, pipe)

    def key(self, pipe: Any) -> str:
        """The hex sha256 of everything that its images depend on, drawn by `pipe`: the same for the same
        pictures. It is what they may be kept under. BadInput for a guide that is a function in Python.
        """
        each = {"prompts": self.prompts, "negative_prompts": self.negatives, "seeds": self.seeds}
        return record.key({**self.shared(pipe), **each})


def defaults_of(folder: hub.Folder) -> dict[str, Any]:
    """What holds where a call says nothing: a folder's own words, and where it has none `DEFAULTS`, with more
    guidance for models of free text.
    """
    usual = {"guidance_scale": 7.5} if folder.text else {}
    return {**DEFAULTS, **usual, **{k: v for k, v in folder.defaults.items() if k in KEPT}}


def resolved(pipe: Pipeline, asked: SimpleNamespace) -> Request:
    """The arguments of a call (`call.given`) as a Request. BadInput: see `call.call`."""
    prompts, negatives, seeds = _images(pipe, asked)
    levels = _levels(pipe, asked)
    steps = len(levels) if levels else _steps(pipe, asked.num_inference_steps)
    sampler, spacing = _sampler(pipe, steps, asked.sampler, asked.spacing)
    options = _options(pipe, asked, steps, sampler, spacing)
    if levels:
        spacing = "given"
    elif spacing == "tuned":
        levels = _tuned(pipe, steps, sampler)
    r = Request(
        prompts=prompts,
        negatives=negatives,
        steps=steps,
        guidance=_guidance(pipe, asked.guidance_scale),
        seeds=seeds,
        sampler=sampler,
        spacing=spacing,
        options=options,
        noise=arguments.choice("noise", asked.noise, NOISES),
        rescale=arguments.number("guidance_rescale", asked.guidance_rescale, 0, 1),
        interval=_interval(asked.guidance_interval),
        timesteps=levels,
        size=_size(pipe, asked.height, asked.width),
        clip_skip=_clip_skip(pipe, asked.clip_skip),
        guide=_guides(pipe, asked.guide),
        guide_through=arguments.flag("guide_through", asked.guide_through),
        guide_linear=arguments.flag("guide_linear", asked.guide_linear),
    )
    _check_sampling(pipe, r)
    return r


# --- prompts and seeds --------------------------------------------------------------------------------------


def _images(
    pipe: Pipeline, asked: SimpleNamespace
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    """One prompt, negative prompt and seed an image."""
    n = arguments.integer("num_images", asked.num_images, 1, MOST_IMAGES)
    prompts, several = texts("prompt", asked.prompt), _seed_list(asked.seed)
    if n == 1 and len(prompts) == 1 and several is not None:
        n = len(several)
    negatives = texts("negative_prompt", asked.negative_prompt)
    if asked.negative_prompt is None or isinstance(asked.negative_prompt, str):
        negatives *= len(prompts)
    if len(negatives) != len(prompts):
        raise BadInput(f"{len(negatives)} negative prompts given for {len(prompts)} prompts")
    for p in {*prompts, *negatives}:
        check_prompt(pipe, p)
    each = lambda some: tuple(t for t in some for _ in range(n))
    return each(prompts), each(negatives), _seeds(asked.seed, several, n * len(prompts))


def texts(name: str, given: Any) -> list[str]:
    """A text, or each of a list of them; None is one empty text."""
    if given is None:
        return [""]
    items = [given] if isinstance(given, str) else _items(name, given, "text or a list of texts")
    return [arguments.string(name, t, nul=True) for t in items]


def check_prompt(pipe: Pipeline, prompt: str) -> None:
    """BadInput when this model cannot take a prompt; says what it takes."""
    if pipe.condition is not None:
        pipe.condition.check(prompt)
    elif prompt:
        raise BadInput(f"model {pipe.name!r} takes no prompt, given {prompt!r}")


def _seed_list(seed: Any) -> list[Any] | None:
    """The seeds given one an image; None where one is given for all, or none."""
    single = seed is None or isinstance(seed, str | bytes) or getattr(seed, "ndim", None) == 0
    if single or not hasattr(seed, "__iter__"):
        return None
    return _items("seed", seed, "a whole number or a list of them")


def _seeds(seed: Any, several: list[Any] | None, n: int) -> tuple[int, ...]:
    if several is None:
        if seed is None:
            first = secrets.randbelow(2**31)
        else:
            first = arguments.integer("seed", seed, -(2**63), 2**63 - n)
        return tuple(range(first, first + n))
    seeds = tuple(arguments.integer("seed", s, -(2**63), 2**63 - 1) for s in several)
    if len(seeds) != n:
        raise BadInput(f"{len(seeds)} seeds given for {n} images")
    return seeds


def _clip_skip(pipe: Pipeline, given: Any) -> int:
    skip = arguments.integer("clip_skip", given, 0)
    if skip and pipe.text is None:
        raise BadInput(f"model {pipe.name!r} has no text encoder: clip_skip must be 0, given {skip}")
    if pipe.text and skip >= (layers := pipe.text.net.config.num_hidden_layers):
        raise BadInput(f"clip_skip must be less than the text encoder's {layers} layers, given {skip}")
    return skip


# --- guidance -----------------------------------------------------------------------------------------------


def _guidance(pipe: Pipeline, given: Any) -> float:
    free = pipe.condition is None
    if given is None:
        given = 1.0 if free else pipe.defaults["guidance_scale"]
    scale = arguments.number("guidance_scale", given)
    if free and scale != 1:
        raise BadInput(
            f"model {pipe.name!r} has no condition to guide by: guidance_scale must be 1, given {scale}"
        )
    return scale


def _interval(given: Any) -> tuple[float, float] | None:
    """(lo, hi) of sigma / alpha; hi may be infinite."""
    if given is None:
        return None
    wanted = "two numbers (lo, hi) of sigma / alpha"
    items = _items("guidance_interval", given, wanted)
    if len(items) != 2:
        raise BadInput(f"guidance_interval must be {wanted}, given {short(given)}")
    lo, hi = (math.inf if v == math.inf else arguments.number("guidance_interval", v) for v in items)
    interval(1.0, lo, hi)  # says what is wrong with them
    return lo, hi


def _guides(pipe: Pipeline, given: Any) -> tuple[Any, ...]:
    """The guides of a request, understood and checked."""
    if given is None or given == ():
        return ()
    if not isinstance(given, str | Iterable) and not callable(given):
        raise BadInput(
            f"guide must be a list of texts such as 'colour=green:2' and functions, given {short(given)}"
        )
    return guides.settled(pipe, given)


# --- levels and the sampler ---------------------------------------------------------------------------------


def _steps(pipe: Pipeline, given: Any) -> int:
    if given is None:
        given = pipe.defaults["num_inference_steps"]
    return arguments.integer("num_inference_steps", given, 1, MOST_STEPS)


def _levels(pipe: Pipeline, asked: SimpleNamespace) -> tuple[float, ...] | None:
    """Levels given as timesteps or as sigma / alpha, as timesteps; None when neither is given."""
    levels = asked.timesteps if asked.sigmas is None else asked.sigmas
    if levels is None:
        return None
    if asked.timesteps is not None and asked.sigmas is not None:
        raise BadInput("give timesteps or sigmas, not both")
    if asked.num_inference_steps is not None or asked.spacing is not None:
        raise BadInput("timesteps and sigmas replace num_inference_steps and spacing: give one of them")
    name = "timesteps and sigmas"
    given = [arguments.number(name, v) for v in _items(name, levels, "a list of finite numbers")]
    if asked.sigmas is not None:
        given = [float(pipe.schedule.timestep(ve(v))) for v in given if v > 0]
    top = pipe.schedule.T - 1
    if given != sorted(set(given), reverse=True) or not given or not -1 < given[-1] <= given[0] <= top:
        raise BadInput(
            f"levels must decrease strictly within this model's (timesteps {top} to above -1), given "
            f"{[round(g, 3) for g in given][:20]}"
        )
    return tuple(given)


def _sampler(pipe: Pipeline, steps: int, sampler: Any, spacing: Any) -> tuple[str, str]:
    """The sampler and grid to use: those asked for; else what was tuned for so many calls; else the model's
    defaults.
    """
    if sampler is None and spacing is None and steps in pipe.tuned:
        return pipe.tuned[steps]["sampler"], "tuned"
    typed = pipe.defaults["sampler"] if sampler is None else arguments.string("sampler", sampler)
    name, implied = resolve(typed)
    grid = implied or pipe.defaults["spacing"]
    if spacing is not None:
        grid = arguments.string("spacing", spacing)
    if grid not in (*schedule.GRIDS, "tuned"):
        raise unknown("spacing", grid, [*schedule.GRIDS, "tuned"])
    if grid == "tuned" and steps not in pipe.tuned:
        raise BadInput(
            f"model {pipe.name!r} has no grid tuned for {steps} calls (tuned:"
            f" {', '.join(map(str, pipe.tuned)) or 'none'}; see unnoise samplers --tune)"
        )
    return name, grid


def _options(
    pipe: Pipeline, asked: SimpleNamespace, steps: int, sampler: str, spacing: str
) -> dict[str, Any]:
    """The sampler's options: those asked for, and what was tuned with a grid or is the model's default."""
    for option in asked.options:
        if option not in SAMPLERS[sampler].options:
            raise unknown_option(sampler, option)
    usual: dict[str, Any] = {}
    if spacing == "tuned":
        levels_given = asked.timesteps is not None or asked.sigmas is not None
        usual = {} if levels_given else pipe.tuned[steps].get("options", {})
    elif asked.sampler is None:
        usual = pipe.defaults.get("options", {})
    return {**usual, **asked.options}


def _tuned(pipe: Pipeline, steps: int, sampler: str) -> tuple[float, ...]:
    """The levels tuned for so many calls, as timesteps."""
    tuned = pipe.tuned[steps]
    if sampler != tuned["sampler"]:
        raise BadInput(
            f"the grid for {steps} calls was tuned for sampler {tuned['sampler']!r}, given {sampler!r}"
        )
    return tuple(u * pipe.schedule.T - 1 for u in tuned["u"])


def path_of(pipe: Pipeline, request: Request) -> schedule.Path:
    """The levels that a request visits, clean data last."""
    if request.timesteps is not None:
        return schedule.path_of([pipe.schedule.at(t) for t in request.timesteps])
    return pipe.schedule.path(request.steps, request.spacing, **spacing_options(pipe, request))


def spacing_options(pipe: Pipeline, request: Request) -> dict[str, Any]:
    """The folder's options of its own spacing, where a request uses that."""
    of_its_own = request.spacing == pipe.defaults["spacing"]
    return pipe.defaults.get("spacing_options", {}) if of_its_own else {}


def _size(pipe: Pipeline, height: Any, width: Any) -> tuple[int, int] | None:
    """The size asked for, where it is not the model's own."""
    if height is None and width is None:
        return None
    codec = pipe.codec
    if not is_of_pictures(codec):
        raise BadInput(f"{makes(pipe.name, codec.medium)}, which have no height or width")
    size = (
        codec.height if height is None else arguments.integer("height", height, 1, MOST_SIDE),
        codec.width if width is None else arguments.integer("width", width, 1, MOST_SIDE),
    )
    if codec.free:
        codec.check_size(*size)
    elif size != (codec.height, codec.width):
        raise BadInput(
            f"model {pipe.name!r} draws {codec.height} x {codec.width} only, given {size[0]} x {size[1]}"
        )
    return None if size == (codec.height, codec.width) else size


# --- what would fail on the way -----------------------------------------------------------------------------


def _check_sampling(pipe: Pipeline, r: Request) -> None:
    """BadInput for options and noise with which the run would fail half-way."""
    sampler, path = SAMPLERS[r.sampler], path_of(pipe, r)
    try:
        sampler.plan(path, None, 1, **r.options)
        if sampler.detour is None:
            sampler.step(_unused, noises.zeros, **r.options)
    except BadInput:
        raise
    except (TypeError, ValueError, OverflowError, MemoryError):
        raise BadInput(f"sampler {r.sampler!r} cannot take the options {short(r.options, 200)}") from None
    if r.noise == "brownian":
        _check_brownian(r, path)


def _check_brownian(r: Request, path: schedule.Path) -> None:
    """BadInput where the sampler's draws are no increments of one path: told by a run of a single number,
    without a network.
    """
    sampler = SAMPLERS[r.sampler]
    if sampler.detour:
        raise BadInput(
            f"sampler {r.sampler!r} goes back up to noisier levels, where Brownian noise would repeat itself:"
            " use noise 'seeded'"
        )

    def draws(like: Tensor, a: Level | None = None, b: Level | None = None) -> Tensor:
        noises.places(a, b)
        return torch.zeros_like(like)

    try:
        last(sampler(lambda x, l: torch.zeros_like(x), torch.zeros(1, 1), path, draws, **r.options))
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
