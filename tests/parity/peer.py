"""diffusers' side of the comparison: the levels and times that one of its schedulers really uses, and a run
of its pipeline.

A scheduler of diffusers holds x either variance preserving (alpha^2 + sigma^2 = 1) or variance exploding
(alpha = 1). Its timesteps are what the network is told, its sigmas (or alpha-bars) are where x is held to be:
the two need not agree. `read` takes both off a scheduler after set_timesteps; nothing here is computed from a
formula of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace

import diffusers
import torch
from torch import Tensor

import unnoise
from unnoise.denoiser import Denoiser
from unnoise.pipeline import Pipeline
from unnoise.process.level import Level, ve

logging.getLogger("diffusers").setLevel(logging.ERROR)
PROMPTS, NEGATIVES = ["a red apple", "two cats in the style of a drawing"], ["green", "a blue horse"]
FAMILIES = ["1.x", "2.x"]
EXPLODING = (
    "EulerDiscrete",
    "EulerAncestralDiscrete",
    "HeunDiscrete",
    "LMSDiscrete",
    "KDPM2Discrete",
    "KDPM2AncestralDiscrete",
)
OF_ABAR = ("DDIM", "DDPM", "PNDM")


@dataclass(frozen=True)
class Grid:
    """path: the levels of x, one more than there are moves; times: what the network is told at each but the
    last; start: what the pipeline multiplies unit noise by."""

    path: tuple[Level, ...]
    times: Tensor
    start: float

    def clock(self, l: Level) -> Tensor:
        """The time told at the level of the path that is nearest to l."""
        angle = lambda l: torch.atan2(l.sigma.double(), l.alpha.double())
        there = torch.stack([angle(p) for p in self.path[: len(self.times)]])
        return self.times[(angle(l).reshape(-1, 1) - there).abs().argmin(1)].reshape(l.sigma.shape)


def open_theirs(folder, **options) -> diffusers.StableDiffusionPipeline:
    """diffusers' pipeline of a folder."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def open_ours(folder, **options) -> Pipeline:
    """Our pipeline of a folder or file."""
    return unnoise.load(folder, device="cpu", dtype="fp32", **options)


def name(s) -> str:
    """The class of a scheduler, without the word."""
    return type(s).__name__.removesuffix("Scheduler")


def scheduler(kind: str, config: dict, **options):
    """A scheduler as people swap it in: made from the config of the one that the folder has."""
    return getattr(diffusers, f"{kind}Scheduler").from_config({**config, **options})


def read(s, steps: int) -> Grid:
    """What a scheduler does with x, and says to the network, in so many steps."""
    s.set_timesteps(steps)
    t = torch.as_tensor(s.timesteps)
    if name(s) in OF_ABAR:
        beyond = t[-1] - s.config.num_train_timesteps // steps
        end = (
            s.alphas_cumprod[beyond] if beyond >= 0 else s.one if name(s) == "DDPM" else s.final_alpha_cumprod
        )
        abar = torch.cat([s.alphas_cumprod[t], end.reshape(1)]).double()
        return Grid(
            tuple(Level(a.sqrt(), (1 - a).sqrt()) for a in abar), t.double(), float(s.init_noise_sigma)
        )
    sigmas = s.sigmas.double()
    if name(s) == "HeunDiscrete":
        sigmas, t = (
            torch.cat([sigmas[:1], sigmas[1::2]]),
            torch.cat([t[:1], t[1::2]]),
        )  # its inner levels stand there twice
    path = [
        ve(v) if name(s) in EXPLODING else Level(1 / (1 + v * v).sqrt(), v / (1 + v * v).sqrt())
        for v in sigmas
    ]
    return Grid(tuple(path), t.double(), float(s.init_noise_sigma))


def told(
    pipe: Pipeline,
    prompts: list[str],
    negatives: list[str],
    clock: Callable[[Level], Tensor],
    guidance: float = 7.5,
    net: Callable[..., Tensor] | None = None,
) -> Denoiser:
    """Our pipeline's own guided denoiser, its network (or `net`) told the times of another clock."""
    other = copy(pipe)
    other.process = replace(pipe.process, clock=clock)
    return other.denoiser(prompts, negatives, guidance, net=net)


def draws(seed: int = 0) -> tuple[torch.Generator, Callable[..., Tensor]]:
    """One stream of noise for both: a generator for diffusers, a Noise for us."""
    theirs, ours = (torch.Generator().manual_seed(seed) for _ in range(2))
    return theirs, lambda like, a=None, b=None: torch.randn(like.shape, generator=ours, dtype=like.dtype)


def trajectory(pipe, x: Tensor, steps: int, guidance: float = 7.5, **options) -> list[Tensor]:
    """The latents after each call of StableDiffusionPipeline's loop, from noise x."""
    seen: list[Tensor] = []

    def keep(_, __, ___, kwargs):
        seen.append(kwargs["latents"].clone())
        return kwargs

    pipe(
        PROMPTS[: len(x)],
        negative_prompt=NEGATIVES[: len(x)],
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=x.clone(),
        output_type="latent",
        generator=draws()[0],
        callback_on_step_end=keep,
        **options,
    )
    return seen
