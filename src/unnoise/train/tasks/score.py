"""Data of any shape to their score, grad log p: one of the objectives of `train.score`, in the units in which
the network sees them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.base.section import checked
from unnoise.denoiser import Mixture
from unnoise.denoiser.adapt import c_noise
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.process import noise
from unnoise.process.level import Level, clean, spread, ve
from unnoise.sample.mcmc import gradient
from unnoise.train import networks, objective, score
from unnoise.train.items import Items
from unnoise.train.objective import Batch
from unnoise.train.recipe import Recipe
from unnoise.train.sources import Source, of_data
from unnoise.train.tasks import protocol


class Score(protocol.Task):
    """By the objective `kind`: a method of `train.score` (Hutchinson's trace is "sliced_vr").

    form "score": the network is s(x), under "ncsn" sigma s(x, sigma) of x / sqrt(1 + sigma^2). "energy": log
    p = -|x - f(x)|^2 / 2 up to a constant, f the network (Salimans & Ho 2021), and s its gradient. truth: a
    mixture's file (see `Mixture.from_json`), whose score is what "explicit" learns from, and what validation
    compares with where it is given ("error": relative, root mean square).
    """

    kinds = ("mlp",)

    class Objective(protocol.Objective):
        kind: Literal["explicit", "implicit", "sliced", "sliced_vr", "denoising", "ncsn"] = "denoising"
        form: Literal["score", "energy"] = "score"
        truth: str = ""
        projections: Literal["rademacher", "gaussian", "sphere"] = "rademacher"
        count: int = Field(default=1, ge=1)  # of projections
        sigma: float = Field(default=0.1, gt=0)  # of "denoising", and the least of "ncsn"
        high: float = Field(default=1.0, gt=0)  # the greatest of "ncsn"
        levels: int = Field(default=10, ge=2)

    def __init__(self, recipe: Recipe):
        super().__init__(recipe)
        o = self.objective
        if o.kind == "explicit" and not o.truth:
            raise BadInput("objective.kind 'explicit' needs objective.truth, a mixture's file")
        if o.kind == "ncsn" and o.form == "energy":
            raise BadInput("objective.form 'energy' knows one level: objective.kind 'ncsn' has many")
        self.sigmas = score.levels(o.high, o.sigma, o.levels) if o.kind == "ncsn" else None
        self.truth = Mixture.from_json(o.truth) if o.truth else None

    def source(self, split: str) -> Source:
        return of_data(self.recipe, split)

    def net(self, src: Source) -> nn.Module:
        net = networks.seeded(self.recipe, lambda: self._net(src))
        self.start(net)
        return net

    def _net(self, src: Source) -> nn.Module:
        size = math.prod(src.codec.shape(1))
        if self.truth and math.prod(self.truth.shape) != size:
            raise BadInput(
                f"objective.truth is a mixture in {math.prod(self.truth.shape)} dimensions, and"
                f" {self.recipe.data.name} has {size} numbers an item"
            )
        keys = {"size": size, **networks.keys(self.recipe), "time": self.sigmas is not None}
        net = MLP(checked(MLPConfig, keys, "net."))
        return Standardised(net, getattr(src.codec, "mean", 0.0), getattr(src.codec, "std", 1.0))

    def score(self, net: Any) -> Any:
        """The network as a score, x -> x's shape; under "ncsn" (x, level)."""
        if self.sigmas is not None:
            return lambda x, l: net(x / _root(x, l), c_noise(l).to(x)) / spread(l.sigma, x)
        if self.objective.form == "energy":
            return gradient(lambda x: -(x - net(x)).flatten(1).square().sum(1) / 2)
        return net

    def loss(self, src: Source) -> objective.Loss:
        return lambda net, b, salt: self._loss(net, b)

    def _loss(self, net: Any, b: Batch) -> Tensor:
        return self.losses(net, b.x0, "train", b.positions).sum() / b.total

    def losses(self, net: Any, x: Tensor, stream: str, places: np.ndarray) -> Tensor:
        """(n,) losses; noise and projections are those of the places in the stream."""
        o, s, stream = self.objective, self.score(net), f"score/{stream}"
        z = _at_places(self.recipe.seed, stream, places)
        if o.kind == "explicit":
            return score.explicit(s, x, self.true_score(net))
        if o.kind == "implicit":
            return score.implicit(s, x)
        if o.kind == "denoising":
            return score.denoising(s, x, o.sigma, z(x))
        if self.sigmas is None:
            return getattr(score, o.kind)(s, x, score.project(o.projections, x, z, o.count))
        u = torch.stack([noise.uniform(self.recipe.seed, f"{stream}/level", int(i), ()) for i in places])
        return score.ncsn(s, x, self.sigmas[(u * o.levels).long()], z(x))

    def true_score(self, net: Any) -> Callable[[Tensor], Tensor]:
        """The score of the truth in the network's units; computed on the CPU, as the truth is exact in
        float64, which some devices do not have.
        """
        units, truth = getattr(net, "module", net), self.truth
        assert truth is not None
        mean, std = units.mean.cpu(), units.std.cpu()
        return lambda x: (std * truth.score(mean + std * x.cpu(), clean())).to(x)

    def validate(self, net: Any, items: Items, src: Source, start: int) -> dict[str, float]:
        losses = self.losses(net, items.x, "validation", np.arange(len(items.x)))
        out = {"loss": float(losses.mean())}
        if not self.truth:
            return out
        s, true = self.score(net), self.true_score(net)(items.x)
        found = s(items.x, ve(self.sigmas[-1:])) if self.sigmas is not None else s(items.x)
        return {**out, "error": float(((found - true).square().sum() / true.square().sum()).sqrt())}

    def save(self, net: Any, src: Source, name: str, folder: Path) -> Path:
        from unnoise import hub

        return hub.save(
            folder,
            name=name,
            kind="mlp",
            net=net.mlp,
            weights=None,
            codec=src.codec,
            words=None,
            process=None,
        )


class Standardised(nn.Module):
    """An MLP with the mean and the standard deviation by which its data were standardised."""

    mean: Tensor
    std: Tensor

    def __init__(self, mlp: MLP, mean: float, std: float):
        super().__init__()
        self.mlp = mlp
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        return self.mlp(x, t)


def _root(x: Tensor, l: Level) -> Tensor | float:
    return spread((1 + l.sigma**2).sqrt(), x)


def _at_places(seed: int, stream: str, places: np.ndarray) -> noise.Noise:
    """Unit normals of which those of a sample depend on its place alone; each call draws anew."""
    calls = count()

    def draws(like: Tensor, *_: Any) -> Tensor:
        k = next(calls)
        return noise.draws(seed, f"{stream}/{k}", places, like.shape[1:]).to(like)

    return draws
