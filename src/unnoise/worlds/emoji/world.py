"""The emoji scenes as a world: see `worlds.World`. Version 1 is that of `scenes`, 2 that of `everything`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from unnoise.base.section import Section
from unnoise.codec import Pixels
from unnoise.data.draw import Draw
from unnoise.data.nouns import NOUNS, article
from unnoise.text.known import Known
from unnoise.worlds.emoji import known
from unnoise.worlds.emoji.everything import Everything
from unnoise.worlds.emoji.questions import answers, questions
from unnoise.worlds.emoji.scenes import SPLITS, STREAM, WEIGHTS, Attributes, Scenes, combinations, held_out

SUFFIX = "-scenes"
VERSIONS: dict[int, type[Scenes]] = {1: Scenes, 2: Everything}
# keys of a recipe's [data] that change no scene: what is made of scenes, and who reads them
MADE_OF_THEM = {"validation", "cached", "without", "low", "low_noise", "masked", "tint"}
READERS = {"text", "autoencoder", "tokenizer"}


class Options(Section):
    """What the scenes can be told: see `train.recipe.DataSection`, where a recipe says it."""

    size: Literal[32, 64, 128] = 64
    world: Literal[1, 2] = 1
    concepts: int = Field(default=0, ge=0)
    mixture: dict[str, float] = {}
    captions: Literal["grammar", "plain"] = "grammar"


@dataclass(frozen=True)
class EmojiScenes:
    """The scenes of a split, drawn and said as the options tell."""

    Options: ClassVar[type[Section]] = Options
    splits: ClassVar[tuple[str, ...]] = SPLITS

    name: str
    scenes: Scenes
    options: Options

    @classmethod
    def open(cls, name: str, split: str, options: Options) -> EmojiScenes:
        """The scenes of an emoji set: name is the set's with "-scenes". BadInput: see `Scenes`."""
        o, emoji = options, name.removesuffix(SUFFIX)
        return cls(name, VERSIONS[o.world](emoji, split, o.mixture or WEIGHTS, o.concepts), o)

    @property
    def split(self) -> str:
        return self.scenes.split

    @property
    def licence(self) -> str:
        from unnoise.data.sources import SOURCES

        return SOURCES[self.name.removesuffix(SUFFIX)].licence

    def other(self, split: str) -> EmojiScenes:
        return self.open(self.name, split, self.options)

    def digest(self, values: Mapping[str, Any]) -> str:
        # Who reads and who encodes changes no scene; of the first world that was told all the same, and
        # stays, and no version.
        more = {"world"} if self.options.world == 1 else READERS
        kept = {k: v for k, v in values.items() if k not in MADE_OF_THEM | more}
        emoji = self.scenes.emoji
        everything = [emoji.made_with, kept, self.split, len(emoji)]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()

    def codec(self) -> Pixels:
        return Pixels(self.options.size, self.options.size, 3)

    def attributes(self, seed: int, index: int) -> Attributes:
        return self.scenes.attributes(seed, index)

    def render(self, attributes: Attributes) -> np.ndarray:
        return self.scenes.render(attributes, self.options.size)

    def caption(self, attributes: Attributes, seed: int, index: int) -> str:
        draw = Draw(seed, index, STREAM[self.split] + 16)
        return say(self.scenes, attributes, draw, self.options.captions)

    def again(self, seed: int, index: int, visit: int) -> str:
        return self.scenes.again(seed, index, visit)

    @property
    def says_anew(self) -> bool:
        return self.options.world > 1

    def questions(self) -> dict[str, tuple[str, ...]]:
        return questions(self.scenes)

    def answers(self, attributes: Attributes) -> dict[str, str]:
        return answers(attributes)

    def held_out(self, attributes: Attributes) -> bool:
        return any(map(held_out, combinations(attributes)))

    def known(self) -> Known:
        return known.of(self.scenes)


def say(scenes: Scenes, a: Attributes, draw: Draw, way: str) -> str:
    """The caption in the grammar's words, or "plain": what is there, and nothing of how many, which way or
    which colour.
    """
    if way == "grammar":
        return scenes.say(a, draw)
    if a.kind == "hand":
        return "a hand"
    if a.kind == "plain":
        return a.nouns[0]
    return " and ".join(article(NOUNS.get(c, n)) for n, c in zip(a.nouns, a.concepts))
