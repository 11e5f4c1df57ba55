"""What text models are asked, whose answers are known: prompts, what counts as right, what is forbidden, by a
judge that is never wrong.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from unnoise.worlds.emoji import exam as room
from unnoise.worlds.emoji.exam import Asked, asked, marks
from unnoise.worlds.emoji.questions import answers, questions
from unnoise.worlds.emoji.scenes import WEIGHTS, Attributes, Scenes, combinations, held_out
from unnoise.worlds.judge import Seen

SET = "emoji-starter"


@pytest.fixture(scope="module")
def judge() -> Any:
    """The questions alone."""
    return cast(Any, SimpleNamespace(heads=questions(Scenes(SET, "train", WEIGHTS, 40))))


def knowing(items: list[Asked], heads: dict) -> Seen:
    """What a judge that is never wrong makes of pictures that are all right."""
    rows = {k: np.full((len(items), len(v)), 1e-3) for k, v in heads.items()}
    for i, item in enumerate(items):
        for k, answer in answers(item.scene).items():
            if answer in heads[k]:
                rows[k][i, heads[k].index(answer)] = 1.0
    return Seen(np.zeros((len(items), 2)), rows)


def test_prompts_are_the_same_for_ever_and_of_all_groups(judge):
    items = asked(60, judge, SET)
    assert items == asked(60, judge, SET)
    groups = {g: [i for i in items if i.group == g] for g in room.SHARES}
    assert {g: len(v) for g, v in groups.items()} == {"noun": 24, "seen": 18, "held out": 18}
    assert len({i.prompt for i in groups["noun"]}) == 24 and all(
        i.scene.kind == "plain" for i in groups["noun"]
    )
    assert not any(held_out(c) for i in groups["seen"] for c in combinations(i.scene))
    assert all(any(held_out(c) for c in combinations(i.scene)) for i in groups["held out"])


def test_right_pictures_are_right_in_every_row(judge):
    items = asked(200, judge, SET)
    rows = marks(items, knowing(items, judge.heads), judge.heads)
    assert set(rows) == set(room.ROWS) and all(v and all(v) for v in rows.values()), {
        k: (sum(v), len(v)) for k, v in rows.items()
    }


BOXES = {
    "left of": ((0, 0.3, 0.4, 0.7), (0.6, 0.3, 1, 0.7)),
    "above": ((0.3, 0, 0.7, 0.4), (0.3, 0.6, 0.7, 1)),
}


@pytest.mark.parametrize(
    "kind, changed, row",
    [
        ("noun", lambda a: replace(a, concepts=("dog",)), "noun"),
        ("colour", lambda a: replace(a, colours=("blue",)), "colour"),
        ("count", lambda a: replace(a, count=4), "count"),
        ("orientation", lambda a: replace(a, orientation="upright"), "orientation"),
    ],
)
def test_one_wrong_attribute_is_wrong_in_its_own_row_alone(judge, kind, changed, row):
    labels = judge.heads["noun"]
    one, other = labels[0], labels[1]
    a = Attributes("objects", ("x",), (one,), "noto", ("red",), 3, "upside down")
    shown = replace(a, concepts=(other,)) if kind == "noun" else changed(a)
    items = [Asked("", a, "seen")]
    rows = marks(items, knowing([Asked("", shown, "seen")], judge.heads), judge.heads)
    assert {k for k in ("colour", "count", "orientation") if rows[k] == [False]} == ({row} - {"noun"})
    assert not all(rows["seen combinations"]) and (kind == "noun" or any(rows["seen combinations"]))


@pytest.mark.parametrize(
    "said, shown, right",
    [
        ("left of", "left of", True),
        ("left of", "above", False),
        ("above", "above", True),
        ("next to", "left of", True),
    ],
)
def test_relations_are_judged_by_where_things_are(judge, said, shown, right):
    one, two = judge.heads["noun"][:2]
    a = Attributes("pair", ("x", "y"), (one, two), "noto", ("", ""), relation=said)
    seen = lambda boxes: knowing([Asked("", replace(a, boxes=boxes), "seen")], judge.heads)
    assert marks([Asked("", a, "seen")], seen(BOXES[shown]), judge.heads)["relation"] == [right]
    turned = marks([Asked("", a, "seen")], seen(BOXES[shown][::-1]), judge.heads)["relation"]
    assert turned == [said == "next to"]  # the other way round only what has no direction stays right


def test_what_is_forbidden_is_asked_for_only_where_that_is_said(judge):
    own = room.own_colours(judge, SET)
    for c in room.forbidden(judge, 90, SET):
        assert (c.word in c.prompt.split()) == c.kind.startswith(
            "asked-for"
        ) and c.word in c.negative.split(), c
        if c.kind == "colour":
            assert own[c.concept] == c.word
