"""What the captions of a world of scenes can say: the words that a model trained on them knows."""

from __future__ import annotations

from collections.abc import Iterable

from unnoise.base.colour import GROUNDS, NAMED
from unnoise.data.nouns import NOUNS, plain, plural
from unnoise.text.known import Known, words_of
from unnoise.worlds.emoji import phrases, scenes
from unnoise.worlds.emoji.everything import Everything
from unnoise.worlds.emoji.hands import TONES
from unnoise.worlds.emoji.names import many
from unnoise.worlds.emoji.scenes import Scenes

MEANT = 3  # concepts kept of a word
HARDLY = 0.002  # a name that is said more rarely of a concept is not what it is known by
_ALWAYS = (
    "a an the one two three four five no and with of on in at to or picture background style emoji upright"
    " hand hands left right finger fingers raised extended showing holding up making fist closed flag skin"
    " tone front drawing gloved"
)


def of(world: Scenes) -> Known:
    """The words that training captions of this world say, with the concepts that each most means."""
    things: dict[str, dict[str, float]] = {}
    for label, name, often in _names(world):
        for word in words_of(name):
            share = often if word == name else often / 4
            found = things.setdefault(word, {})
            found[label] = max(found.get(label, 0.0), share)
    grammar = {w for text in _grammar(world) for w in words_of(text)}
    kept = {w: tuple(sorted(found, key=lambda k: (-found[k], k))[:MEANT]) for w, found in things.items()}
    return Known(kept, frozenset(grammar))


def _names(world: Scenes) -> Iterable[tuple[str, str, float]]:
    """(label, a name of it, how often it is said of it)."""
    for label in world.labels:
        if isinstance(world, Everything):
            called = world.called[label]
            yield from ((label, form, 1.0) for w in (*called.main, *called.nouns) for form in (w, many(w)))
            yield from ((label, w, v) for w, v in called.others if v > HARDLY)
            continue
        noun = NOUNS.get(label)
        yield label, plain(label), 1.0
        yield from ((label, form, 1.0) for form in ((noun, plural(noun)) if noun else ()))
        yield from ((label, t, 0.1) for t in _tags(world, label) if t not in scenes.SECRET)


def _tags(world: Scenes, label: str) -> tuple[str, ...]:
    return next(c.tags for c in world.emoji.concepts if c.label == label)


def _grammar(world: Scenes) -> Iterable[str]:
    yield from (
        _ALWAYS,
        *NAMED,
        *GROUNDS,
        *TONES,
        *world.emoji.styles,
        *scenes.COUNTED,
        *scenes.DRAWING_WORDS.values(),
    )
    for table in (scenes.TURN_WORDS, scenes.RELATION_WORDS, scenes.SIZE_WORDS):
        for words in table.values():
            yield from (*words, *(w.replace("its side", "their sides") for w in words))
    if isinstance(world, Everything):
        yield from (
            *phrases.BEFORE,
            *phrases.AFTER,
            *phrases.KIND,
            "gray pair couple top by near against my this",
        )
