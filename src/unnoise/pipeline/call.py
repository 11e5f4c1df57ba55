"""The arguments of a call, spelled once: what `Pipeline.__call__`, `stream` and `request` take is read from
here, and so are the names that an unknown option is compared with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Concatenate, ParamSpec, TypeVar

from unnoise.base import names
from unnoise.base.errors import BadInput
from unnoise.pipeline.result import Result
from unnoise.sample import SAMPLERS, State

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")
RUNNING = ("batch_size", "progress", "on_state")  # how a request is run: they change no image


def call(
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
    **options: Any,
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
    (n,), see `pipeline.guides`; guide_through: follow their gradient through the network too; guide_linear:
    show them latents by a linear map, not the decoder. batch_size: images at once; no image depends on
    it. progress(k) is called with the number of network calls just done, over all; on_state(i, state)
    with every State of every batch, i the place of its first image. BadInput on anything unknown or out
    of range, naming what is accepted.
    """
    raise NotImplementedError("the arguments are declared here; a Pipeline is what is called")


_CALL = inspect.signature(call)
_ASKING = _CALL.replace(parameters=[p for p in _CALL.parameters.values() if p.name not in RUNNING])
NAMES = tuple(n for n in _CALL.parameters if n != "options")


def takes(
    declared: Callable[P, Any], without: Sequence[str] = ()
) -> Callable[[Callable[Concatenate[S, ...], R]], Callable[Concatenate[S, P], R]]:
    """A method (self, prompt, **how) takes what `declared` does, but for some names, and shows it to `help`
    and editors; its words are the method's where that has none itself.
    """
    kept = [p for p in inspect.signature(declared).parameters.values() if p.name not in without]

    def wrap(method: Callable[Concatenate[S, ...], R]) -> Callable[Concatenate[S, P], R]:
        plain = inspect.signature(method)
        itself = next(iter(plain.parameters.values()))
        method.__signature__ = plain.replace(parameters=[itself, *kept])  # type: ignore[attr-defined]
        method.__doc__ = method.__doc__ or declared.__doc__
        return method

    return wrap


def given(prompt: Any, how: dict[str, Any]) -> SimpleNamespace:
    """The arguments of a request by their names, those left out at their defaults; what is none of them is
    under `options`.
    """
    bound = _ASKING.bind(prompt, **how)
    bound.apply_defaults()
    return SimpleNamespace(**bound.arguments)


def unknown_option(sampler: str, option: str) -> BadInput:
    """The error for a keyword that is neither an argument of a call nor an option of its sampler; it may be
    one of another sampler's.
    """
    known = SAMPLERS[sampler].options
    others = [s.name for s in SAMPLERS.values() if option in s.options]
    meant = names.spelled(option, NAMES) if others else names.nearest(option, [*NAMES, *known])
    hint = f"; did you mean {meant!r}?" if meant else ""
    if others:
        return BadInput(
            f"sampler {sampler!r} has no option {option!r}{hint} (it is one of {', '.join(others)}; its own:"
            f" {', '.join(known) or 'none'})"
        )
    return BadInput(
        f"unknown option {option!r}{hint} (arguments of a call: {', '.join(NAMES)}; options of sampler"
        f" {sampler!r}: {', '.join(known) or 'none'})"
    )
