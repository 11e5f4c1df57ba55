"""A network as a Denoiser: callable (x, level) -> E[x0 | x].

A pretrained family is a triple (frame, kind, clock): how the network's input is scaled, what it predicts
(`process.predict`) and how a level becomes its time input. With those any network runs on any path with any
sampler: the level is rescaled into the network's own frame first, so a Stable Diffusion network accepts a
level of an EDM or flow path.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from unnoise.process.level import Level
from unnoise.process.predict import Kind, solve_x0
from unnoise.process.schedule import Schedule

Denoiser = Callable[[Tensor, Level], Tensor]
Frame = Callable[[Level], Tensor]
Clock = Callable[[Level], Tensor]


def unit(l: Level) -> Tensor:
    """The scale to alpha^2 + sigma^2 = 1: DDPM, Stable Diffusion, v-diffusion."""
    return (l.alpha**2 + l.sigma**2).sqrt()


def convex(l: Level) -> Tensor:
    """The scale to alpha + sigma = 1: rectified flow, SD3, Flux."""
    return l.alpha + l.sigma


def clean_scale(l: Level) -> Tensor:
    """The scale to alpha = 1: EDM before its c_in."""
    return l.alpha


def whiten(sigma_data: float = 0.5) -> Frame:
    """The scale to unit variance of x, for data of standard deviation sigma_data: EDM's c_in."""
    return lambda l: ((sigma_data * l.alpha) ** 2 + l.sigma**2).sqrt()


FRAMES: dict[str, Frame] = {"unit": unit, "convex": convex, "clean_scale": clean_scale}


def table(schedule: Schedule) -> Clock:
    """The discrete time 0 … T-1 (fractional in between): what published DDPM-style networks take."""
    return lambda l: schedule.timestep(l)


def c_noise(l: Level) -> Tensor:
    """log(sigma / alpha) / 4: EDM's time input."""
    return l.ratio.log() / 4


def no_clock(l: Level) -> None:
    """No time input at all, for noise-unconditional networks."""
    return None


def adapt(net: Callable[..., Tensor], frame: Frame, kind: Kind, clock: Clock) -> Denoiser:
    """A Denoiser from `net(x, time) -> out`: x (n, …) at any level -> E[x0 | x] (n, …), in x's dtype.

    `kind` is evaluated in the network's own frame (alpha / frame, sigma / frame), as it was trained.
    """

    def denoise(x: Tensor, l: Level) -> Tensor:
        y, time, own = _enter(x, l, frame, clock)
        return solve_x0(kind, y, net(y, time), own)

    return denoise


def classes(net: Callable[..., Tensor], frame: Frame, clock: Clock) -> Callable[[Tensor, Level], Tensor]:
    """log p(class | x) at any level, (n, classes), from `net(x, time) -> logits` of a classifier trained on
    noisy samples.

    Differentiable in x. What `guide.classifier` asks for is one column of it, or one an image.
    """

    def log_classes(x: Tensor, l: Level) -> Tensor:
        y, time, _ = _enter(x, l, frame, clock)
        return net(y, time).log_softmax(1)

    return log_classes


def _enter(x: Tensor, l: Level, frame: Frame, clock: Clock) -> tuple[Tensor, Tensor | None, Level]:
    """x, its time and its level as a network of this frame and clock takes them."""
    own = l.like(x)
    r = frame(own)
    time = clock(_flat(l))
    return x / r, None if time is None else time.to(x), Level(own.alpha / r, own.sigma / r)


def _flat(l: Level) -> Level:
    """The level without the trailing axes that `like` added: (), or (n,)."""
    return Level(*(v.reshape(-1) if v.ndim > 1 else v for v in l))
