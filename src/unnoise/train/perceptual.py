"""What a denoiser's error may be in place of the square, and what may be added to it: the [objective] of task
"denoise".

    mse         d^2, d an entry of the network's output less its target; the mean over a sample's entries
    huber       2 c (sqrt(d^2 + c^2) - c), the mean over entries: d^2 where |d| << c, 2 c |d| far beyond
                (Charbonnier et al. 1997)
    huber_norm  the same of a sample's root mean square d, so that a whole sample, not an entry, can be an
                outlier (Song & Dhariwal 2024, eq. 6)

The minimiser of mse is E[x0 | x], on which samplers and guidance rest; of the others it lies between that and
a median. With `features`, a model folder, `share` times the squared distance of what a frozen network f makes
of the estimates x0^, eps^ and of the truth is added, relative to the truth's own square, and the mean over
f's layers:

    f a classifier  the outputs of its stages for x0^ and x0: a perceptual loss (Johnson et al. 2016)
    f a denoiser    its middle block for alpha' x0^ + sigma' eps^ and alpha' x0 + sigma' eps, at a level drawn
                    anew: self-perceptual (Lin & Yang 2024)

The truth's branch alone is without gradient: the estimate's must pass through f. Whatever f was trained on
leaks into the model, so distances of distributions are to be measured in the features of another network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from unnoise.base.section import checked
from unnoise.process.level import Level
from unnoise.train.recipe import Recipe

Distance = Callable[[Tensor], Tensor]  # errors (n, …) -> (n,)
# (x0, eps, a level drawn anew, labels) -> layers (n, …): see `features`
Features = Callable[[Tensor, Tensor, Level, Tensor | None], list[Tensor]]


class Objective(BaseModel):
    """The keys of [objective] for task "denoise". features: a classifier's or a denoiser's model folder, or a
    bundled name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    loss: Literal["mse", "huber", "huber_norm"] = "mse"
    c: float = Field(
        default=0.1, gt=0
    )  # the error beyond which it counts as an outlier, in the units of the network's output
    features: str = ""
    share: float = Field(default=0.1, ge=0)


def keys(recipe: Recipe) -> Objective:
    """The recipe's [objective], checked. BadInput on unknown keys and values out of range."""
    return checked(Objective, recipe.objective, "objective.")


def square(d: Tensor) -> Tensor:
    """(n,) mean squares of errors d (n, …)."""
    return d.square().flatten(1).mean(1)


def huber(d: Tensor, c: float = 0.1) -> Tensor:
    """(n,) means of 2 c (sqrt(d^2 + c^2) - c) over the entries of d (n, …)."""
    return _pseudo(d.square(), c).flatten(1).mean(1)


def huber_norm(d: Tensor, c: float = 0.1) -> Tensor:
    """(n,) 2 c (sqrt(|d|^2 / entries + c^2) - c) of errors d (n, …)."""
    return _pseudo(square(d), c)


def _pseudo(square: Tensor, c: float) -> Tensor:
    return (
        2 * square / ((square / c**2 + 1).sqrt() + 1)
    )  # 2 c (sqrt(d^2 + c^2) - c), without the difference of near numbers


def distance(o: Objective) -> Distance:
    """The error of a network's output that [objective] names."""
    named = {"mse": square, "huber": lambda d: huber(d, o.c), "huber_norm": lambda d: huber_norm(d, o.c)}
    return named[o.loss]


def between(
    features: Features,
    guess: tuple[Tensor, Tensor],
    truth: tuple[Tensor, Tensor],
    l: Level,
    labels: Tensor | None = None,
) -> Tensor:
    """(n,) squared distances of f's layers for guess (x0^, eps^) and truth (x0, eps), relative to the truth's
    squares, the mean over layers.
    """
    with torch.no_grad():
        want = features(*truth, l, labels)
    layers = zip(features(*guess, l, labels), want)
    apart = [square(a.float() - b.float()) / (square(b.float()) + 1e-6) for a, b in layers]
    return torch.stack(apart).mean(0)
