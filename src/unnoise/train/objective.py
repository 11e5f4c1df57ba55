"""What a training step minimises. All that is random is drawn from (seed, position): a step is a function of
its number.

Denoising: draw a level and noise, corrupt, let the network predict, and weigh the squared error: all
parameterisations have the same minimiser, E[x0 | x]; `perceptual` has other errors. Classification:
cross-entropy, for the judges and classifiers that the library trains itself; of noisy samples, at levels and
with noise drawn as for denoising, where the classifier takes their time (`net.time`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.denoiser import adapt
from unnoise.process import noise, predict, schedule, weight
from unnoise.process.level import Level, corrupt
from unnoise.process.predict import Kind
from unnoise.process.section import ProcessSection
from unnoise.train import inpaint, perceptual, upscale
from unnoise.train.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """Encoded samples x0 (n, …), labels (n,) or None, their places in the endless data stream and in the
    step's batch; `more` by name.
    """

    x0: Tensor
    labels: Tensor | None
    positions: np.ndarray
    step: int
    total: int  # the size of the whole step's batch, over micro batches and processes
    more: dict[str, Tensor] = field(default_factory=dict)

    @property
    def places(self) -> np.ndarray:
        return self.positions - self.step * self.total


@dataclass(frozen=True)
class Process:
    """A recipe's `[process]`, resolved: how a network's input, output and time are to be read, and how levels
    are drawn.
    """

    curve: schedule.Schedule
    kind: Kind
    frame: adapt.Frame
    clock: adapt.Clock
    weight: weight.Weight
    density: weight.Density

    def denoiser(self, net: Callable[..., Tensor]) -> adapt.Denoiser:
        """The network as a Denoiser."""
        return adapt.adapt(net, self.frame, self.kind, self.clock)

    def classes(self, net: Callable[..., Tensor]) -> Callable[[Tensor, Level], Tensor]:
        """A classifier that takes the time as (x, level) -> log p(class | x), (n, classes)."""
        return adapt.classes(net, self.frame, self.clock)

    def errors(self, net: Callable[..., Tensor], x0: Tensor, eps: Tensor, l: Level) -> Tensor:
        """Per-sample weighted squared error of the network's own output, (n,)."""
        _, out, framed = self.answer(net, x0, eps, l)
        return self.weighed(perceptual.square(out - predict.target(self.kind, x0, eps, framed)), framed)

    def answer(
        self, net: Callable[..., Tensor], x0: Tensor, eps: Tensor, l: Level
    ) -> tuple[Tensor, Tensor, Level]:
        """What the network is shown of x0 (n, …) at level l, what it makes of it (float32 or better), and the
        level in its own frame.
        """
        framed = l.like(x0)
        r = self.frame(framed)
        framed = Level(framed.alpha / r, framed.sigma / r)
        time, x = self.clock(l), corrupt(x0, eps, framed)
        out = net(x, None if time is None else time.to(x0))
        return x, out if out.dtype == torch.float64 else out.float(), framed

    def weighed(self, error: Tensor, framed: Level) -> Tensor:
        """Errors (n,) of the network's output times the weight of their levels."""
        return (
            weight.in_space(self.weight, self.kind)(Level(framed.alpha.reshape(-1), framed.sigma.reshape(-1)))
            * error
        )


def resolve(s: ProcessSection) -> Process:
    """The parts that a recipe's `[process]` names. BadInput on an unknown name or option."""
    curve = schedule.named(s.schedule, **s.schedule_options)
    sd = s.weight_options.get("sigma_data", 0.5)
    frame = adapt.whiten(sd) if s.frame == "whiten" else adapt.FRAMES[s.frame]
    clock = {"table": adapt.table(curve), "c_noise": adapt.c_noise, "none": adapt.no_clock}[s.clock]
    weigh = weight.weight(s.weight, **s.weight_options)
    return Process(curve, predict.kind(s.predict), frame, clock, weigh, _density(s, curve))


def _density(s: ProcessSection, curve: schedule.Schedule) -> weight.Density:
    densities = {
        "schedule": lambda: weight.along(curve),
        "discrete": lambda: weight.discrete(curve),
        "lognormal": weight.lognormal,
        "logit_normal": weight.logit_normal,
    }
    try:
        return densities[s.density](**s.density_options)
    except TypeError:
        raise BadInput(
            f"process.density {s.density!r} has no such options: {', '.join(s.density_options)} "
            "(accepted: mean and std for lognormal and logit_normal, none for others)"
        ) from None


# (net, batch, salt) -> sum over the batch / the step's batch size
Loss = Callable[[nn.Module, Batch, int], Tensor]
# (token ids (n, t), which to drop (n,)) -> encodings (n, t, width)
Condition = Callable[[Tensor, Tensor], Tensor]


def denoising(
    recipe: Recipe,
    null: int | None,
    condition: Condition | None = None,
    features: perceptual.Features | None = None,
) -> Loss:
    """The loss of `task = "denoise"`; `null` is the label that stands for "no condition", `condition` reads
    captions' ids instead.

    [objective] names another error than the square; `features` are those of its perceptual part (see
    `perceptual`).
    """
    return _Denoising(recipe, resolve(recipe.process), null, condition, features, perceptual.keys(recipe))


@dataclass(frozen=True)
class _Denoising:
    """See `denoising`."""

    recipe: Recipe
    process: Process
    null: int | None
    condition: Condition | None
    features: perceptual.Features | None
    keys: perceptual.Objective

    def __call__(self, net: nn.Module, b: Batch, salt: int) -> Tensor:
        stream, process = f"train/{salt}", self.process
        eps, l = drawn(self.recipe, process, b, stream)
        call, x0 = self._shown(net, b, stream)
        x, out, framed = process.answer(call, x0, eps, l)
        distance = perceptual.distance(self.keys)
        error = process.weighed(distance(out - predict.target(process.kind, x0, eps, framed)), framed)
        if self.features is not None:
            guess = predict.solve(process.kind, x, out, framed)
            anew = levels(self.recipe, process, b, stream + "/features")
            apart = perceptual.between(self.features, guess, (x0, eps), anew, b.labels)
            error = error + self.keys.share * apart
        return error.sum() / b.total

    def _shown(
        self, net: Callable[..., Tensor], b: Batch, stream: str
    ) -> tuple[Callable[..., Tensor], Tensor]:
        """The network with all that it is shown beside x_t, and what is diffused."""
        r, x0 = self.recipe, b.x0
        drop = noise.uniform(r.seed, stream + "/drop", b.step, (b.total,))[b.places] < r.process.drop_label
        call = self._conditioned(net, b, drop)
        if r.data.low:
            c = upscale.drawn(r, x0, stream, b.step, b.total, b.places, b.positions, drop)
            call, x0 = upscale.seeing(call, c), upscale.left(x0, c)
        if r.data.masked:
            call = upscale.seeing(call, inpaint.drawn(r, x0, stream, b.positions))
        return call, x0

    def _conditioned(self, net: Callable[..., Tensor], b: Batch, drop: Tensor) -> Callable[..., Tensor]:
        if self.condition is not None:
            return partial(net, context=self.condition(b.more["ids"], drop))
        if b.labels is None:
            return net
        if self.null is None:
            return partial(net, labels=b.labels)
        return partial(net, labels=torch.where(drop.to(b.labels.device), self.null, b.labels))


def drawn(recipe: Recipe, process: Process, b: Batch, stream: str) -> tuple[Tensor, Level]:
    """The noise of a batch, and its levels."""
    eps = b.more.get("noise")
    if eps is None:
        eps = noise.draws(recipe.seed, stream, b.positions, b.x0.shape[1:])
    return eps.to(b.x0), levels(recipe, process, b, stream + "/level")


def levels(recipe: Recipe, process: Process, b: Batch, stream: str) -> Level:
    """The levels of a batch, drawn from a stream."""
    u = noise.uniform(recipe.seed, stream, b.step, (b.total,))
    return process.density((weight.stratified(u) if recipe.process.stratified else u)[b.places])


def classifying(recipe: Recipe) -> Loss:
    """The loss of `task = "classify"`: cross-entropy, summed over the batch's samples over the step's batch
    size.

    With `net.time`, of samples at levels of `[process]` (Dhariwal & Nichol 2021, section 4): what classifier
    guidance needs.
    """
    process = resolve(recipe.process)

    def loss(net: nn.Module, b: Batch, salt: int) -> Tensor:
        assert b.labels is not None  # no classifier is made without labels
        if recipe.net.get("time"):
            eps, l = drawn(recipe, process, b, f"train/{salt}")
            logits = process.classes(net)(corrupt(b.x0, eps, l), l).float()
        else:
            logits = net(b.x0).float()
        smoothing = recipe.train.label_smoothing
        return F.cross_entropy(logits, b.labels, label_smoothing=smoothing, reduction="sum") / b.total

    return loss


VALIDATED = 8  # levels at which validation looks


def validated(
    recipe: Recipe, process: Process, x: Tensor, start: int
) -> Iterator[tuple[float, Tensor, Level]]:
    """(u, noise, level u of the schedule for every sample), from clean to noisy, for held-out x (n, …).

    start: the number of the first sample; noise is the same at every evaluation.
    """
    for j in range(VALIDATED):
        u = (j + 0.5) / VALIDATED
        eps = noise.draws(recipe.seed, f"validation/{j}", range(start, start + len(x)), x.shape[1:])
        yield u, eps.to(x), process.curve.level(np.full(len(x), u))
