"""A world's items as training sees them: position p of training is item p of the split's stream, drawn when
it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.base.section import Section, checked
from unnoise.codec import Codec
from unnoise.data import positions
from unnoise.process import noise
from unnoise.train.items import ENDLESS, Facts, Items
from unnoise.train.recipe import DataSection, Recipe
from unnoise.train.sources.protocol import Index, Source, Where, fetch
from unnoise.worlds import WORLDS, World, targets

if TYPE_CHECKING:
    from unnoise.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class WorldSource(Source):
    """heads: the answers that a judge gives, by question; tokenizer: for captions as ids."""

    world: World
    section: DataSection
    codec: Codec
    tokenizer: Tokenizer | None = None
    heads: dict[str, tuple[str, ...]] | None = None

    @cached_property
    def data(self) -> Facts:
        w = self.world
        return Facts(self.section.name, w.split, w.digest(self.section.values()), w.licence, ENDLESS)

    def indices(self, seed: int, where: Where) -> np.ndarray:
        """The items at these places of the stream: their own numbers."""
        return positions(*where)

    def fetch(self, index: Index, seed: int = 0, place: Index | None = None, *_: Any) -> Items:
        """Items of the stream `seed`."""
        drawn = [self.world.attributes(seed, int(i)) for i in index]
        x = self.codec.encode(np.stack([self.world.render(a) for a in drawn]))
        if self.section.tint:
            x = tinted(x, self.section.tint, seed, index)
        more: dict[str, Tensor] = {}
        if self.tokenizer:
            captions = [self.world.caption(a, seed, int(i)) for a, i in zip(drawn, index)]
            more["ids"] = token_ids(self.tokenizer, captions)
        if self.heads:
            true = targets([self.world.answers(a) for a in drawn], self.heads)
            more |= {f"head/{k}": torch.tensor(v) for k, v in true.items()}
        return Items(x, None, more)

    def held_out(self, recipe: Recipe) -> WorldSource:
        return self.other(recipe.data.validation)

    def other(self, split: str) -> WorldSource:
        """The same of another split, in its own colours."""
        section = self.section.model_copy(update={"tint": 0.0})
        return replace(self, world=self.world.other(split), section=section)

    def ahead(self) -> WorldSource:
        return self

    def draw(self, recipe: Recipe, rollbacks: int, where: Where) -> tuple[Items, dict[str, Tensor]]:
        return fetch(self, recipe, rollbacks, where), {}


def options(d: DataSection) -> Section:
    """What [data] tells the world that it names. BadInput: an option that this world has not, or a bad
    value.
    """
    kind = WORLDS[d.name].Options
    shared = {k: getattr(d, k) for k in kind.model_fields if k in DataSection.model_fields}
    return checked(kind, {**shared, **d.options}, "data.options.")


def of_world(recipe: Recipe, split: str) -> WorldSource:
    """The items of the world that a recipe names. BadInput: it names none, or see `World.open`."""
    d = recipe.data
    if d.name not in WORLDS:
        raise BadInput(
            f"task {recipe.task!r} learns from scenes ({', '.join(WORLDS)}), given data {d.name!r}"
        )
    world = WORLDS[d.name].open(d.name, split, options(d))
    return WorldSource(world, d, world.codec())


def tinted(x: Tensor, tint: float, seed: int, index: Index) -> Tensor:
    """Pictures x (n, 3, h, w) in [-1, 1], every other one by chance moved by one colour, each channel up to
    `tint` of the range, cut at black and white.
    """
    u = torch.stack([noise.uniform(seed, "tint", int(i), (4,)) for i in index]).to(x)
    move = torch.where(u[:, 3:] < 0.5, 2 * tint * (2 * u[:, :3] - 1), 0)
    return (x + move[:, :, None, None]).clamp(-1, 1)


def token_ids(tokenizer: Tokenizer, captions: Sequence[str]) -> Tensor:
    """(n, length) int64 token ids with start, end and padding. A caption too long for one chunk keeps its
    first tokens.
    """
    return torch.tensor([tokenizer.chunks([(c, 1.0)] if c else [])[0].ids for c in captions])
