"""The second world of scenes: every base concept, in as many words as people have for it; all that are things
counted, coloured, turned and paired.

What it shares with the first (`scenes`): kinds, splits by held-out combinations, rendering, purity in (seed,
index). What is its own: the 24 nouns kept from training are the rarest words (`names.HELD_OUT`); people and
roles are not starved, flags and skin tones do not drown the rest; captions are said by any of a concept's
names (`names.called`) in any of the ways of `phrases`, and anew at every visit of a scene in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from unnoise.base.colour import GROUNDS, NAMED
from unnoise.data.draw import Draw
from unnoise.data.emoji import Concept, Emoji, load_emoji
from unnoise.data.nouns import NOUNS, plain
from unnoise.worlds.emoji import phrases
from unnoise.worlds.emoji.names import HELD_OUT, Called, called, several
from unnoise.worlds.emoji.scenes import (
    SIZES,
    STREAM,
    WEIGHTS,
    Attributes,
    Scenes,
    _boxes,
    _ground,
    _one_box,
    commonest,
)

TONES = 0.3  # of a concept's weight, the share of its skin tones together
NOUN, THING = (
    1.0,
    0.5,
)  # how often one of the 370 nouns is counted, coloured and paired, and how often another thing
USUAL = 1.4  # the weight of a noun's plain pictures: what people ask for
SUBGROUP_WEIGHT = {
    "country-flag": 0.12,
    "subdivision-flag": 0.12,
    "time": 0.25,
    "family": 0.25,
    "alphanum": 0.3,
    "geometric": 0.5,
    "arrow": 0.5,
    "av-symbol": 0.4,
    "zodiac": 0.6,
    "keycap": 0.5,
    "skin-tone": 0.1,
    "person-role": 0.8,
    "person-gesture": 0.5,
    "person-activity": 0.45,
    "person-fantasy": 0.9,
    "person-sport": 0.6,
    "transport-sign": 0.7,
}
TURNED_AWAY = 0.3  # "facing right": one more of what is there already, of its weight
_GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
_MORE = ("person", "person-role", "person-fantasy", "face-costume", "cat-face", "monkey-face", "heart")
_NEITHER = ("time", "place-map")  # 24 clock faces and the globes
_BENT = ("man ", "woman ", "person ")  # a role by gender: one of the three is enough to count


class Everything(Scenes):
    """See `Scenes`, whose arguments it takes; `concepts` narrows it in the same way."""

    def __init__(
        self,
        emoji: Emoji | str = "emoji",
        split: str = "train",
        weights: Mapping[str, float] = WEIGHTS,
        concepts: int = 0,
    ):
        emoji = (load_emoji(emoji) if isinstance(emoji, str) else emoji).keeping(HELD_OUT)
        self.called: dict[str, Called] = called(emoji.concepts, HELD_OUT)
        self._told = np.array([c.label in self.called for c in emoji.concepts])
        super().__init__(emoji, split, weights, concepts)
        usual = set(NOUNS.values())
        self._often = list(accumulate(NOUN if noun in usual else THING for noun in self.nouns))

    def say(self, a: Attributes, draw: Draw) -> str:
        return phrases.caption(a, self.called, draw)

    def again(self, seed: int, index: int, visit: int) -> str:
        """What scene `index` is called at the place `visit` of a run: another caption at every visit."""
        return self.say(self.attributes(seed, index), Draw(seed, visit, STREAM[self.split] + 32))

    def _kept(self, concepts: int) -> np.ndarray:
        kept = commonest(self.emoji, concepts) if concepts else np.arange(len(self.emoji.concepts))
        return kept[self._told[kept]]

    def _things(self) -> Mapping[str, str]:
        return {
            c.label: self.called[c.label].main[0]
            for c in self.emoji.concepts
            if c.label in self.called and is_thing(c)
        }

    def _weights(self, split: str) -> np.ndarray:
        return self.emoji.weights(
            split, np.array([_weight(c) for c in self.emoji.concepts]) * self._told, TONES
        )

    def _pick(self, draw: Draw) -> tuple[str, int]:
        noun = self.nouns[draw.at(self._often)]
        return noun, draw.pick(self._of_noun[noun])

    def _draw_plain(self, draw: Draw) -> Attributes:
        i = self._plain[draw.at(self._cumulative)]
        label = self._label(i)
        return Attributes(
            "plain",
            (self.called[label].main[0],),
            (label,),
            self.emoji.styles[self.emoji.style[i]],
            tone=phrases.TONES[int(self.emoji.tone[i])],
            boxes=(self._box(i),),
            images=(i,),
        )

    def _draw_objects(self, draw: Draw) -> Attributes:
        noun, i = self._pick(draw)
        count = 1 if several(noun) or draw.chance(0.4) else 2 + draw.below(4)
        colour = draw.pick(tuple(NAMED)) if draw.chance(0.5) else ""
        orientation = self._orient(draw, i) if draw.chance(0.45) else "upright"
        size = draw.pick(("small", "large")) if count == 1 and draw.chance(0.35) else "medium"
        turns = {"on its side": 1 + 2 * draw.below(2), "upside down": 2}.get(orientation, 0)
        ratio = self._ratio(i, turns)
        boxes = (_one_box(draw, ratio, SIZES[size]),) if count == 1 else _boxes(draw, ratio, count)
        return Attributes(
            "objects",
            (noun,),
            (self._label(i),),
            self.emoji.styles[self.emoji.style[i]],
            (colour,),
            count,
            orientation,
            size=size,
            background=_ground(draw, 0.25, self._clear(i, colour)),
            boxes=boxes,
            images=(i,),
            turns=turns,
        )

    def _box(self, i: int) -> tuple[float, float, float, float]:
        x0, y0, x1, y1 = (float(v) / self.emoji.size for v in self.emoji.box[i])
        return x0, y0, x1, y1


def is_thing(c: Concept) -> bool:
    """Whether there can be two of it, and blue ones."""
    label = plain(c.label)
    if c.label in NOUNS:
        return True
    if ": " in label or set(label.split()) & {*NAMED, *GROUNDS} or label.startswith(_BENT):
        return False
    return (c.group in _GROUPS and c.subgroup not in _NEITHER) or c.subgroup in _MORE


def _weight(c: Concept) -> float:
    weight = USUAL if c.label in NOUNS else SUBGROUP_WEIGHT.get(c.subgroup, 1.0)
    return weight * (TURNED_AWAY if "facing right" in c.label else 1.0)
