"""What every task of training answers, so that nobody need ask which one it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from unnoise.base.section import checked
from unnoise.train import networks
from unnoise.train.items import Items
from unnoise.train.objective import Loss
from unnoise.train.recipe import Recipe
from unnoise.train.sources import Source, of_world

SHEET = 16  # samples on a sheet


class Objective(BaseModel):
    """The keys of a task in a recipe's [objective]."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Task(Protocol):
    """Of one recipe. What a task has not keeps what stands here.

    kinds: the `net.kind` that go with it. Objective: its keys in a recipe's [objective]. tints, smooths,
    shows: whether it reads data.tint, train.label_smoothing, data.low and data.masked.
    """

    recipe: Recipe
    objective: Any
    kinds: ClassVar[tuple[str, ...]]
    Objective: ClassVar[type[BaseModel]] = Objective
    tints: ClassVar[bool] = False
    smooths: ClassVar[bool] = False
    shows: ClassVar[bool] = False

    def __init__(self, recipe: Recipe):
        """BadInput: [objective] has a key that this task has not (named with the nearest), or a bad value."""
        self.recipe = recipe
        self.objective = checked(self.Objective, recipe.objective, "objective.")

    @classmethod
    def noised(cls, recipe: Recipe) -> bool:
        """Whether the noise of [process] is looked at."""
        return False

    def check(self) -> None:
        """BadInput where what can be told without the data does not fit."""

    def source(self, split: str) -> Source:
        """A split of the data, as this task sees them. BadInput: no such data, or they do not fit."""
        return of_world(self.recipe, split)

    def accept(self, held: Source, train: Source) -> None:
        """BadInput where what validation looks at does not fit."""

    def net(self, src: Source) -> nn.Module:
        """The network, its weights drawn from the recipe's seed or taken from `train.start`; sizes and class
        counts that follow from the data are filled in. BadInput: it cannot be built, or asks for others.
        """
        ...

    def loss(self, src: Source) -> Loss:
        """(net, batch, salt) -> the loss of a batch's samples over the size of its step's batch. What is
        random in it is a function of (seed, salt, position).
        """
        ...

    def settle(self, net: Any) -> None:
        """Called after every step of the optimiser."""

    def validate(self, net: Any, items: Items, src: Source, start: int) -> dict[str, float]:
        """Means over held-out items by name, "loss" first; start: the number of the first of them. A value
        that is nan is of no item.
        """
        ...

    def show(self, net: Any, src: Source, held: Callable[[int], Items]) -> Tensor | None:
        """What a sheet of samples shows, encoded as `src.codec` decodes; None: there is nothing to see. held:
        the first so many held-out items.
        """
        return None

    def save(self, net: Any, src: Source, name: str, folder: Path) -> Path:
        """Write the model's folder; returns its path."""
        ...

    # --- for processes that work ahead of the steps

    def noise_shape(self, net: Any, src: Source) -> tuple[int, ...] | None:
        """That of the noise of one sample, where a batch brings it; None where the task draws its own."""
        return None

    def noise_stream(self, salt: int) -> str:
        """The name of the stream that this noise is of."""
        return f"train/{salt}"

    # --- what a run begins with

    def start(self, net: nn.Module) -> None:
        """Take over the weights of the model that `train.start` names, if it names one."""
        if self.recipe.train.start:
            networks.begin_with(net, self.weights(net, self.recipe.train.start), self.recipe.train.start)

    def weights(self, net: Any, name: str) -> dict[str, Tensor]:
        """The tensors of a model's network, by the names that they have in this one."""
        from unnoise import hub

        return hub.load(name).net.state_dict()
