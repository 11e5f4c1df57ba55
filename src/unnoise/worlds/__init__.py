"""Worlds: endless data whose truth is known, because it was put there.

    world = open_world("emoji-scenes", "train", {"size": 32})
    truth = world.attributes(seed, index)           # what item `index` of a stream is
    world.render(truth)                             # the item as data,
    world.caption(truth, seed, index)               # and in words

A new world is a file (or a folder) here: a class with the members of `World`, and its line in WORLDS. Its
name is then a `data.name` of recipes; what else it can be told stands in its `Options`, which a recipe gives
in [data] where that has a key of such a name, else in [data.options].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from unnoise.base.errors import unknown
from unnoise.base.section import Section, checked
from unnoise.codec import Codec
from unnoise.text.known import Known
from unnoise.worlds.emoji.world import EmojiScenes
from unnoise.worlds.moons import Moons

IGNORED = -100  # the target of a question that an item does not answer, as cross_entropy knows it


class World(Protocol):
    """The items of one split. All is a pure function of (seed, index): the same in every process and on every
    machine. Instances can be pickled, and render nothing before they are asked.

    Options: what the world can be told beside its split, each with a default. splits: their names; "train"
    and "test" are among them.
    """

    Options: ClassVar[type[Section]]
    splits: ClassVar[tuple[str, ...]]

    @classmethod
    def open(cls, name: str, split: str, options: Any) -> Self:
        """A split of the world `name`; options: of class `Options`. BadInput: unknown split, options that
        leave nothing to draw, or what it is made of is not fetched.
        """
        ...

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> str: ...

    @property
    def licence(self) -> str:
        """The terms of what is drawn."""
        ...

    def other(self, split: str) -> Self:
        """The same of another split. BadInput: it has none of that name."""
        ...

    def digest(self, values: Mapping[str, Any]) -> str:
        """Hex sha256 of all that items depend on: equal digests, equal items. values: further JSON values by
        name (a recipe's [data]), of which it leaves out those that change no item.
        """
        ...

    def codec(self) -> Codec:
        """Through what networks see its items."""
        ...

    def attributes(self, seed: int, index: int) -> Any:
        """The truth of an item: everything that is in it."""
        ...

    def render(self, attributes: Any) -> np.ndarray:
        """The item of such a truth, as one row of what `codec()` encodes."""
        ...

    def caption(self, attributes: Any, seed: int, index: int) -> str:
        """What item `index`, which is of that truth, is called; "" where this world has no words."""
        ...

    def again(self, seed: int, index: int, visit: int) -> str:
        """What an item is called at the place `visit` of a run. `says_anew`: not what `caption` says."""
        ...

    @property
    def says_anew(self) -> bool: ...

    def questions(self) -> dict[str, tuple[str, ...]]:
        """What a judge of these items is asked, with the answers to each question; {} for none."""
        ...

    def answers(self, attributes: Any) -> dict[str, str]:
        """The true answers to the questions that such an item can be asked."""
        ...

    def held_out(self, attributes: Any) -> bool:
        """Whether it combines what no item of "train" does, for ever the same."""
        ...

    def known(self) -> Known | None:
        """The words that captions of training say; None where this world has no words."""
        ...


WORLDS: dict[str, type[World]] = {
    "emoji-scenes": EmojiScenes,
    "emoji-128-scenes": EmojiScenes,
    "emoji-starter-scenes": EmojiScenes,
    "moons": Moons,
}


def open_world(name: str, split: str = "train", options: Mapping[str, Any] | None = None) -> World:
    """A split of a world by name. BadInput: no such world or split, or options (in words that begin with
    "options.") that it does not take.
    """
    if name not in WORLDS:
        raise unknown("world", name, WORLDS)
    kind = WORLDS[name]
    return kind.open(name, split, checked(kind.Options, options or {}, "options."))


def targets(known: list[dict[str, str]], questions: Mapping[str, tuple[str, ...]]) -> dict[str, np.ndarray]:
    """{question: (n,) int64 index of the true answer, IGNORED where there is none} of n items' answers."""
    place = {q: {text: i for i, text in enumerate(texts)} for q, texts in questions.items()}
    return {
        q: np.array([place[q].get(k.get(q, ""), IGNORED) for k in known], dtype=np.int64) for q in questions
    }
