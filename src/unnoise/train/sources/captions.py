"""What a world says, without its pictures: captions with the plain phrase that says the same, and answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.codec import Codec
from unnoise.data import positions
from unnoise.data.draw import Draw
from unnoise.data.nouns import article
from unnoise.train.items import ENDLESS, Facts, Items
from unnoise.train.recipe import DataSection, Recipe
from unnoise.train.sources.protocol import Index, Source, Where, fetch
from unnoise.train.sources.world import of_world, token_ids
from unnoise.worlds import targets
from unnoise.worlds.emoji.everything import Everything
from unnoise.worlds.emoji.phrases import plainly
from unnoise.worlds.emoji.questions import answers, questions
from unnoise.worlds.emoji.scenes import STREAM, Attributes

if TYPE_CHECKING:
    import numpy as np

    from unnoise.text.encode import PromptEncoder

UNSAID = ("style",)  # most captions do not say it
VISITS = 48  # the purpose of these captions' draws, after scenes' and their visits'
BLOCK = 2048  # captions of one sort in a row: short ones together are fast
SHORT = 9  # tokens of a bare name
EVEN = 0.6  # the power by which a concept's names come closer to being said as often as one another


@dataclass(frozen=True)
class CaptionSource(Source):
    """Captions as token ids, with the plain phrase that says the same, and the answers that they give, by
    head. encoder: whose tokens they are; length: how many are read of a caption.
    """

    scenes: Everything
    section: DataSection
    encoder: PromptEncoder
    heads: dict[str, tuple[str, ...]]
    length: int
    codec: Codec = None  # type: ignore[assignment] - ids are what the network takes

    @cached_property
    def data(self) -> Facts:
        facts = [
            self.scenes.emoji.made_with,
            self.section.values(),
            self.scenes.split,
            len(self.scenes.emoji),
            self.encoder.tokenizer.vocab,
        ]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return Facts(self.section.name, self.scenes.split, digest, "MIT; Unicode License v3", ENDLESS)

    def indices(self, seed: int, where: Where) -> np.ndarray:
        return positions(*where)

    def fetch(self, index: Index, seed: int = 0, place: Index | None = None, *_: Any) -> Items:
        """Of the captions `index` of the stream `seed`: ids (n, tokens) as x, "plain" ids (n, tokens) and the
        heads' answers (n,).

        Captions come by turns of BLOCK: bare names of any concept three times, which are short and fast, then
        those of scenes.
        """
        bare = [int(i) // BLOCK % 4 < 3 for i in index]
        said = [self._bare(seed, int(i)) if b else self._of_scene(seed, int(i)) for b, i in zip(bare, index)]
        length = min(SHORT, self.length) if all(bare) else self.length
        plain = self.ids([plainly(a, self.scenes.called) for a, _ in said], length)
        true = targets([answers(a) for a, _ in said], self.heads)
        more = {f"head/{k}": torch.tensor(v) for k, v in true.items()}
        return Items(self.ids([text for _, text in said], length), None, {"plain": plain, **more})

    def _draw(self, seed: int, index: int) -> Draw:
        return Draw(seed, index, STREAM[self.scenes.split] + VISITS)

    def _bare(self, seed: int, index: int) -> tuple[Attributes, str]:
        """A concept and one of its names, with its article or without."""
        draw = self._draw(seed, index)
        label = draw.pick(self.heads["noun"])
        called = self.scenes.called[label]
        often = [v**EVEN for _, v in called.others]
        further = called.others and draw.chance(0.8)
        name = draw.among([w for w, _ in called.others], often) if further else draw.pick(called.main)
        a = Attributes("plain", (label,), (label,), "", names=(name,))
        return a, article(name) if draw.chance(0.5) else name

    def _of_scene(self, seed: int, index: int) -> tuple[Attributes, str]:
        a = self.scenes.attributes(seed, index)
        return a, self.scenes.say(a, self._draw(seed, index))

    def ids(self, texts: Sequence[str], length: int) -> Tensor:
        """(n, length) token ids. What is longer ends early: states do not depend on what comes later, and
        short rows are fast.
        """
        rows = token_ids(self.encoder.tokenizer, texts)[:, :length].clone()
        rows[:, -1] = self.encoder.tokenizer.eos
        return rows

    def concepts(self) -> Tensor:
        """(concepts, length) ids of the plain name of every concept, in the order of the question "noun"."""
        named = [Attributes("plain", (label,), (label,), "") for label in self.heads["noun"]]
        return self.ids([plainly(a, self.scenes.called) for a in named], self.length)

    def held_out(self, recipe: Recipe) -> CaptionSource:
        return replace(self, scenes=_everything(recipe, recipe.data.validation))

    def ahead(self) -> CaptionSource:
        return self

    def draw(self, recipe: Recipe, rollbacks: int, where: Where) -> tuple[Items, dict[str, Tensor]]:
        return fetch(self, recipe, rollbacks, where), {}


def open_captions(recipe: Recipe, split: str, length: int) -> CaptionSource:
    """The captions that a recipe asks for, of so many tokens. BadInput: they are not of the second world, or
    no text encoder is named.
    """
    from unnoise.hub import parts

    d = recipe.data
    scenes = _everything(recipe, split)
    heads = {k: v for k, v in questions(scenes).items() if k not in UNSAID}
    encoder = parts.load_text(d.text)
    if not 4 <= length <= encoder.tokenizer.length:
        raise BadInput(
            f"objective.length must lie in 4 to {encoder.tokenizer.length}, data.text's own, given {length}"
        )
    return CaptionSource(scenes, d, encoder, heads, length)


def _everything(recipe: Recipe, split: str) -> Everything:
    """The scenes of the world in which things have many names. BadInput: it is another, or no text encoder is
    named.
    """
    scenes = getattr(of_world(recipe, split).world, "scenes", None)
    if not isinstance(scenes, Everything) or not recipe.data.text:
        raise BadInput(
            "task 'words' needs data.world = 2 and data.text, a model folder with the text encoder to teach"
        )
    return scenes
