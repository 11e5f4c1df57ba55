"""What text models are asked, to the number: how prompts are shared out, what a pair of things is judged by,
whose colour is its own.
"""

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from unnoise.base.colour import dominant
from unnoise.worlds.emoji import exam as room
from unnoise.worlds.emoji.exam import verdict
from unnoise.worlds.emoji.scenes import Attributes, Scenes

SET = "emoji-starter"
JUDGE, FEW = (cast(Any, SimpleNamespace(heads={"noun": tuple(map(str, range(n)))})) for n in (40, 12))


HEADS = {
    "noun_a": ("cat", "dog"),
    "noun_b": ("cat", "dog"),
    "axis": ("horizontal", "vertical"),
    "colour_a": ("as drawn", "red"),
    "colour_b": ("as drawn", "red"),
}


def judged(
    relation: str,
    a: str,
    b: str,
    axis: str,
    sure: float = 0.9,
    colours=("", ""),
    seen=("as drawn", "as drawn"),
) -> dict[str, bool]:
    """The verdict on "cat <relation> dog" of a judge that sees a and b, upper or left one first."""
    scene = Attributes("pair", ("cat", "dog"), ("cat", "dog"), "noto", colours, relation=relation)
    told = {
        "noun_a": HEADS["noun_a"].index(a),
        "noun_b": HEADS["noun_b"].index(b),
        "axis": HEADS["axis"].index(axis),
        "colour_a": HEADS["colour_a"].index(seen[0]),
        "colour_b": HEADS["colour_b"].index(seen[1]),
    }
    p = lambda head, answer: sure if HEADS[head][told[head]] == answer else 1 - sure
    return verdict(scene, told, p, HEADS)


@pytest.mark.parametrize(
    ("relation", "a", "b", "axis", "right"),
    [
        ("left of", "cat", "dog", "horizontal", True),
        ("left of", "dog", "cat", "horizontal", False),
        ("left of", "cat", "dog", "vertical", False),
        ("right of", "dog", "cat", "horizontal", True),
        ("right of", "cat", "dog", "horizontal", False),
        ("above", "cat", "dog", "vertical", True),
        ("above", "dog", "cat", "vertical", False),
        ("below", "dog", "cat", "vertical", True),
        ("below", "cat", "dog", "vertical", False),
        ("next to", "dog", "cat", "horizontal", True),
        ("next to", "cat", "dog", "horizontal", True),
        ("next to", "cat", "dog", "vertical", False),
    ],
)
def test_a_relation_is_right_by_axis_and_order(relation, a, b, axis, right):
    assert judged(relation, a, b, axis) == {"noun": True, "relation": right}


def test_one_thing_twice_is_no_pair_and_colours_belong_to_their_things():
    assert judged("left of", "cat", "cat", "horizontal")["noun"] is False
    assert (
        judged("left of", "cat", "dog", "horizontal", colours=("red", ""), seen=("red", "as drawn"))["colour"]
        is True
    )
    assert (
        judged("left of", "cat", "dog", "horizontal", colours=("red", ""), seen=("as drawn", "red"))["colour"]
        is False
    )
    assert (
        judged("right of", "dog", "cat", "horizontal", colours=("red", ""), seen=("as drawn", "red"))[
            "colour"
        ]
        is True
    )


def test_what_is_asked_and_counted():
    assert room.SHARES == {"noun": 0.4, "seen": 0.3, "held out": 0.3}
    assert room.WORLD == {"objects": 0.55, "pair": 0.25, "hand": 0.20}
    assert room.PROMPTS == 990_000
    assert [room.contradictions(n) for n in (0, 1, 3, 9, 300)] == [0, 2, 2, 3, 100]


def test_a_colour_is_a_things_own_where_six_of_ten_pictures_show_it():
    """And where it is a hue. Some things lie between two and six of ten, which is not enough."""
    scenes = Scenes(SET, "train", {"plain": 1.0}, 40)
    shown: dict[str, list] = {}
    for i in scenes.plain:
        label = scenes.emoji.concepts[scenes.emoji.concept[i]].label
        shown.setdefault(label, []).append(dominant(scenes.emoji.image(i)))
    most = {label: Counter(sorted(v, key=str)).most_common(1)[0] for label, v in shown.items()}
    share = {
        label: n / len(shown[label]) for label, (w, n) in most.items() if w not in (None, "grey", "black")
    }
    own = room.own_colours(JUDGE, SET)
    assert set(own) == {label for label, v in share.items() if v >= 0.6}
    assert any(0.2 < v < 0.6 for v in share.values())
    assert any(w == "grey" and n >= 0.6 * len(shown[label]) for label, (w, n) in most.items())


@pytest.mark.parametrize(
    ("colour", "counts"), [("red", True), ("black", False), ("grey", False), (None, False)]
)
def test_black_and_grey_are_nobodys_own(monkeypatch, colour, counts):
    monkeypatch.setattr(room, "dominant", lambda image: colour)
    assert bool(room.own_colours(FEW, SET)) == counts


def test_the_floor_is_of_other_scenes_than_those_that_are_asked_for():
    looked: list[np.ndarray] = []
    judge = cast(
        Any, SimpleNamespace(codec=SimpleNamespace(height=32), heads=JUDGE.heads, look=looked.append)
    )
    labels = Scenes(SET, "train", {"plain": 1.0}, 40).labels
    judge.heads = {"noun": labels}
    items = room.asked(20, judge, SET)
    room.real(items, judge, SET)
    real, others = looked
    split = {"seen": "test", "held out": "held_out"}
    for k, item in enumerate(items):
        if item.group != "noun":
            scenes = Scenes(SET, split[item.group], room.WORLD, len(labels))
            assert np.array_equal(real[k], scenes.render(item.scene, 32))
    assert len(others) == 12
    assert np.array_equal(others[0], Scenes(SET, "test", room.WORLD, len(labels)).scene(1, 990_000, 32)[0])
    assert not any(np.array_equal(a, b) for a in real for b in others)
