"""Inversion of a picture: the noise, and every level on the way up to it, from which a model comes down to
that picture again.

    found = inverted(pipe, x0, "a red apple", steps=50)                       found.xs[i] is x at
    found.path[i] again, calls = reconstruct(pipe, found, guidance=7.5, anchor="null-text")
    result = invert(pipe, "apple.png", "a red apple")                         the same of a file, with the
    round trip's error

Methods: "plain" DDIM inversion, "fixed-point" (the step's own inverse, by iteration), both without guidance;
"coupled" (EDICT), exact at any guidance. Coming down with guidance, a picture that went up without it drifts
away; an anchor holds it:
    negative-prompt   the negative prompt is the picture's own prompt, so that guidance is off until another
                      is asked for (Miyake et al. 2023)
    null-text         at each step another unconditional embedding, optimised to follow the way up (Mokady et
                      al. 2023)

`follow` makes any part of a run retrace the way up exactly, level by level: what DiffEdit and
prompt-to-prompt stand on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput
from unnoise.codec import is_of_pictures
from unnoise.denoiser import Denoiser
from unnoise.edit.picture import Given, decoded
from unnoise.edit.run import Progress, Run, begin, beginning_at, part, psnr
from unnoise.guide import clip
from unnoise.nets.unet import Prepared
from unnoise.pipeline import Count, Pipeline, Result
from unnoise.process.level import Level, move, spread
from unnoise.process.schedule import Path
from unnoise.sample import inversion
from unnoise.sample.coupled import Pair, coupled_invert, coupled_sample, seen_as

METHODS = ("plain", "fixed-point", "coupled")
ANCHORS = ("none", "negative-prompt", "null-text")
STEPS = 50
ITERATIONS = 3  # of the fixed point at each step
BELOW = 0.999  # of the schedule's time: where coupled states end, for schedules that end without any signal
Net = Callable[..., Tensor]


@dataclass(frozen=True)
class Inversion:
    """The way up of one picture. path: levels, noisy to clean; xs: x (1, …) at each of them; pair: the
    coupled states at the first.

    prompt, guidance: under which it went up; nfe: network calls that took.
    """

    path: Path
    xs: tuple[Tensor, ...]
    prompt: str
    method: str
    guidance: float
    nfe: int
    pair: Pair | None = None


@dataclass(frozen=True)
class Reconstruction(Result):
    """A Result with its round trip's error: `error` root mean square in the model's space, `psnr` in dB of
    the pixels, both against what the autoencoder alone makes of the picture; `autoencoder` the dB that it
    loses itself."""

    error: float = 0.0
    psnr: float = 0.0
    autoencoder: float = 0.0


def denoiser(
    pipe: Pipeline,
    prompts: Sequence[str],
    negatives: Sequence[str] | None = None,
    guidance: float = 1.0,
    count: Count | None = None,
) -> Denoiser:
    """The pipeline's denoiser as its own runs have it: fast network, clipped where the model says so."""
    denoise = pipe.denoiser(prompts, negatives, guidance, net=pipe.runner.counted(count))
    c = pipe.defaults.get("clip")
    return clip(denoise, -c, c) if c else denoise


def inverted(
    pipe: Pipeline,
    x0: Tensor,
    prompt: str = "",
    steps: int = STEPS,
    method: str = "fixed-point",
    *,
    guidance: float = 1.0,
    negative: str = "",
    iterations: int = ITERATIONS,
    path: Path | None = None,
    progress: Progress | None = None,
) -> Inversion:
    """The way up of x0 (1, …), in the model's space, under a prompt.

    guidance other than 1 is for "coupled" alone. iterations: of "fixed-point", so many calls a step. path:
    noisy to clean, by default the model's in so many steps. Errors: BadInput.
    """
    check_method(method)
    if guidance != 1 and method != "coupled":
        raise BadInput(
            f"only the method 'coupled' inverts with guidance: it must be 1 for {method!r}, given {guidance}"
        )
    request = pipe.request(prompt, num_inference_steps=None if path else steps, sampler="ddim", seed=0)
    count, path = Count(progress), path or pipe.path(request)
    denoise = denoiser(pipe, [prompt], [negative], guidance, count)
    if method == "coupled":
        path = path if path[0].alpha > 0 else part(pipe, request, BELOW)
        pairs = coupled_invert(seen_as(denoise, x0), x0.cpu(), path[::-1])[::-1]
        xs, pair = [p.x.to(x0) for p in pairs], pairs[0]
    else:
        states = list(inversion(denoise, x0, path[::-1], iterations if method == "fixed-point" else 0))
        xs, pair = [s.x for s in states[::-1]], None
    return Inversion(path, tuple(xs), prompt, method, guidance, count.calls, pair)


def check_method(method: str) -> None:
    arguments.choice("inversion method", method, METHODS)


def single_way(edit: str, method: str) -> None:
    """BadInput for an inversion that an edit cannot follow, level by level."""
    check_method(method)
    if method == "coupled":
        raise BadInput(
            f"{edit} follows a single way up: method must be 'plain' or 'fixed-point', given 'coupled'"
        )


def reconstruct(
    pipe: Pipeline,
    found: Inversion,
    guidance: float = 1.0,
    anchor: str = "none",
    negative: str = "",
    *,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Tensor, int]:
    """(x0 (1, …), network calls) of coming down again under the inversion's own prompt.

    "coupled" comes down at the guidance that it went up with, any other is an error. options: of `null_text`.
    Errors: BadInput.
    """
    if found.method == "coupled":
        return _coupled_down(pipe, found, guidance, anchor, negative, Count(progress))
    count = Count(progress)
    tick = lambda n: count()
    held = anchored(pipe, found, guidance, anchor, negative, progress=tick, **options)
    n, how = len(found.path) - 1, {"sampler": "ddim", "guidance_scale": guidance, "seed": 0}
    request = pipe.request(found.prompt, negative_prompt=held.negative, num_inference_steps=n, **how)
    run = Run(pipe, replace(request, size=_size(pipe, found.xs[0])), progress=tick)
    watched = lambda d, places: held.steps.watch(d)
    start = beginning_at(found.xs[0])
    x, _ = run.drawn(path=found.path, start=start, wrap=watched, net=held.net(pipe.fast))
    return x, count.calls


def _coupled_down(
    pipe: Pipeline, found: Inversion, guidance: float, anchor: str, negative: str, count: Count
) -> tuple[Tensor, int]:
    if anchor != "none":
        raise BadInput(f"the method 'coupled' comes back exactly without an anchor, given {anchor!r}")
    if guidance != found.guidance:
        raise BadInput(
            f"coupled states come down at the guidance they went up with, {found.guidance}: given {guidance}"
        )
    assert found.pair is not None
    x = found.xs[0]
    denoise = denoiser(pipe, [found.prompt], [negative], guidance, count)
    return coupled_sample(seen_as(denoise, x), found.pair, found.path)[-1].x.to(x), count.calls


def _size(pipe: Pipeline, x: Tensor) -> tuple[int, int] | None:
    """The request's size for a tensor of the model's space, where it is not the model's own."""
    codec = pipe.codec
    if not is_of_pictures(codec) or not codec.free or tuple(x.shape[1:]) == tuple(codec.shape(1)[1:]):
        return None
    return x.shape[2] * codec.cell, x.shape[3] * codec.cell


# --- at which step ------------------------------------------------------------------------------------------


class Steps:
    """Which step of a path a run is at: `watch(denoise)` notes it before each call, for hooks and networks
    that need it.
    """

    def __init__(self, path: Path):
        self.path, self.n, self.now = path, len(path) - 1, 0
        self._floors = [float(l.ratio) for l in path[1:-1]]

    def at(self, l: Level) -> int:
        """The step that begins at level l of the path."""
        r = float(l.ratio.max())
        return sum(r <= f * (1 + 1e-9) for f in self._floors)

    def watch(self, denoise: Denoiser) -> Denoiser:
        def watched(x: Tensor, l: Level) -> Tensor:
            self.now = self.at(l)
            return denoise(x, l)

        return watched


def landing(x: Tensor, to: Tensor, a: Level, b: Level) -> Tensor:
    """The estimate x0 with which `move(x, x0, a, b)` ends on `to`."""
    r = b.sigma / a.sigma
    return (to - spread(r, x) * x) / spread(b.alpha - a.alpha * r, x)


def follow(denoise: Denoiser, steps: Steps, xs: Sequence[Tensor], mask: Tensor) -> Denoiser:
    """The denoiser whose DDIM runs pass through xs[i] at level i of the path where the mask is 0, and are its
    own where it is 1.

    A step from level i moves to level i + 1, so it is xs[i + 1] that its estimate must lead to: equal levels,
    x0 itself last.
    """

    def held(x: Tensor, l: Level) -> Tensor:
        i = steps.at(l)
        known = landing(x, xs[i + 1].to(x), *steps.path[i : i + 2])
        return torch.lerp(*torch.broadcast_tensors(known, denoise(x, l)), weight=mask.to(x))

    return held


# --- anchors ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anchored:
    """What holds a run to its picture: the negative prompt to use, and with null-text the embedding of each
    step.
    """

    steps: Steps
    negative: str
    nulls: tuple[Tensor, ...] = ()

    def net(self, net: Net) -> Net:
        """The network whose unconditional half of a guided batch reads the embedding of the step that `steps`
        is at.
        """
        if not self.nulls:
            return net

        def call(x: Tensor, t: Tensor | None, context: Tensor | Prepared, **more: Any) -> Tensor:
            c = context.context if isinstance(context, Prepared) else context
            half = len(c) // 2
            return net(
                x,
                t,
                context=torch.cat([c[:half], self.nulls[self.steps.now].to(c).expand(half, -1, -1)]),
                **more,
            )

        return call


def anchored(
    pipe: Pipeline,
    found: Inversion,
    guidance: float,
    anchor: str,
    negative: str = "",
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Anchored:
    """The anchor of that name for coming down from an inversion with guidance. options: of `null_text`.
    BadInput where it can do nothing.
    """
    arguments.choice("anchor", anchor, ANCHORS)
    steps = Steps(found.path)
    if anchor == "none":
        return Anchored(steps, negative)
    if guidance == 1:
        raise BadInput(
            f"anchor {anchor!r} works on the guidance, which is off (1): ask for more, or for no anchor"
        )
    if negative:
        raise BadInput(f"anchor {anchor!r} takes the place of the negative prompt: give one of them")
    if anchor == "negative-prompt":
        return Anchored(steps, found.prompt)
    return Anchored(steps, "", null_text(pipe, found, guidance, progress=progress, **options))


def null_text(
    pipe: Pipeline,
    found: Inversion,
    guidance: float,
    *,
    iterations: int = 10,
    rate: float = 1e-2,
    tolerance: float = 1e-5,
    progress: Progress | None = None,
) -> tuple[Tensor, ...]:
    """One unconditional embedding (1, tokens, width) a step, with which the guided run follows the inversion
    (Mokady et al. 2023).

    At step i of N, Adam of learning rate rate (1 - i / 2N) runs from the embedding of the step before, at
    most `iterations` times, until the mean square error of the next x is below tolerance (1 + 2i) (the
    paper's 1e-5 + 2e-5 i). Errors: BadInput for a model without a text encoder.
    """
    if pipe.text is None:
        raise BadInput(
            f"null-text inversion optimises an embedding of text, which model {pipe.name!r} has not: use"
            " negative-prompt"
        )
    cond, null = contexts(pipe, [found.prompt, ""]).split(1)
    x, n, nulls = found.xs[0], len(found.path) - 1, []
    for i, (a, b) in enumerate(pairwise(found.path)):
        with torch.no_grad():
            c = _bound(pipe, cond)(x, a)
        step = partial(_guided_step, pipe, guidance, x, c, a, b)
        adam, enough = rate * (1 - i / (2 * n)), tolerance * (1 + 2 * i)
        x, null = _fitted(null, step, found.xs[i + 1], iterations, adam, enough, progress)
        nulls.append(null)
    return tuple(nulls)


def _guided_step(
    pipe: Pipeline, guidance: float, x: Tensor, c: Tensor, a: Level, b: Level, null: Tensor
) -> Tensor:
    """The next x, at level b, from the estimate c under the prompt and the one under an embedding."""
    u = _bound(pipe, null)(x, a)
    return move(x, u + guidance * (c - u), a, b)


def _bound(pipe: Pipeline, context: Tensor) -> Denoiser:
    """The plain network's denoiser under an encoding, differentiable."""
    at = next(pipe.net.parameters())
    call = lambda x, t: pipe.net(x.to(at), None if t is None else t.to(at), context.to(at)).to(x)
    return pipe.process.denoiser(call)


def _fitted(
    null: Tensor,
    step: Callable[[Tensor], Tensor],
    to: Tensor,
    iterations: int,
    rate: float,
    enough: float,
    progress: Progress | None,
) -> tuple[Tensor, Tensor]:
    """(step(null), null) after Adam has brought the mean square of step(null) - to below `enough`, or run so
    many iterations.
    """
    null = null.clone().requires_grad_()
    adam = torch.optim.Adam([null], rate)
    for k in range(iterations + 1):
        with torch.enable_grad():
            x = step(null)
            loss = (x - to).square().mean()
        if progress:
            progress(1)
        if k == iterations or loss.item() < enough:
            break
        (null.grad,) = torch.autograd.grad(loss, null)
        adam.step()
    return x.detach(), null.detach()


def contexts(pipe: Pipeline, prompts: Sequence[str]) -> Tensor:
    """The prompts' encodings (n, tokens, width), as the pipeline's runs have them. BadInput for prompts that
    change by step.
    """
    from unnoise.text.prompts import parse

    parsed = [parse(p) for p in prompts]
    if any(p.by_step for p in parsed):
        raise BadInput(f"a prompt that changes by step cannot be used here: {list(prompts)}")
    with torch.no_grad():
        return pipe.runner.encoder().encode(parsed).to(pipe.runner.device)


# --- the edit -----------------------------------------------------------------------------------------------


def invert(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    method: str = "fixed-point",
    anchor: str = "none",
    iterations: int = ITERATIONS,
    num_inference_steps: int = STEPS,
    guidance_scale: float = 1.0,
    **how: Any,
) -> Reconstruction:
    """The picture taken up to noise and down again, with the error of that round trip.

    "plain" and "fixed-point" go up without guidance and come down with guidance_scale, held by the anchor;
    "coupled" has it both ways. iterations: of the fixed point. how: what `edit.run.begin` takes; there is no
    chance in an inversion, so seeds change nothing and one picture comes out. Errors: BadInput.
    """
    check_method(method)
    arguments.choice("anchor", anchor, ANCHORS)
    iterations = arguments.integer("iterations", iterations, 1, 1000)
    steps = None if how.get("timesteps") else num_inference_steps
    how = for_ddim(how, ("guidance_rescale", "guidance_interval"), num_inference_steps=steps)
    options = {"method": method, "anchor": anchor}
    options |= {"iterations": iterations if method == "fixed-point" else None}
    run = one(begin(pipe, "invert", image, prompt, options, how | {"guidance_scale": guidance_scale}))
    x0 = run.encoded()
    up, down = _round_trip(run, x0, method, anchor, iterations)
    alone, pixels = (decoded(pipe, v, run.picture)[0] for v in (x0, down[0]))
    errors = {"error": rms(down[0], x0), "psnr": psnr(pixels, alone)}
    errors |= {"autoencoder": psnr(alone, run.picture.pixels)}
    return run.result([run.picture.whole(pixels)], up.nfe + down[1], Reconstruction, **errors)


def _round_trip(
    run: Run, x0: Tensor, method: str, anchor: str, iterations: int
) -> tuple[Inversion, tuple[Tensor, int]]:
    """The way up, and (x0, network calls) of the way down."""
    r, negative = run.request, run.request.negatives[0]
    up = inverted(
        run.pipe,
        x0,
        r.prompts[0],
        method=method,
        guidance=r.guidance if method == "coupled" else 1.0,
        negative=negative,
        iterations=iterations,
        path=run.path(),
        progress=run.progress,
    )
    return up, reconstruct(run.pipe, up, r.guidance, anchor, negative, progress=run.progress)


def rms(a: Tensor, b: Tensor) -> float:
    """Root mean square difference."""
    return float((a.cpu().double() - b.cpu().double()).square().mean().sqrt())  # not every device has float64


def for_ddim(how: dict[str, Any], without: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """How, with DDIM as the sampler (the only one whose steps are inverted here) and a seed, which nothing
    depends on.
    """
    if how.get("sampler") not in (None, "ddim"):
        raise BadInput(f"inversion is of DDIM: sampler must be 'ddim', given {how['sampler']!r}")
    for option in (*without, "eta", "clip_skip"):
        if how.get(option):
            raise BadInput(f"{option} is not for this edit, which inverts plain DDIM: given {how[option]!r}")
    return {"seed": 0, **how, **more, "sampler": "ddim"}


def one(run: Run) -> Run:
    """The run, of a single image. BadInput: of more."""
    n = len(run.request.seeds)
    if n != 1:
        raise BadInput(f"an inversion has one outcome: num_images must be 1, given {n}")
    return run
