"""The world of emoji scenes: narrowed, asked, and said plainly."""

from __future__ import annotations

import pytest

from unnoise.data.draw import Draw
from unnoise.worlds import IGNORED, targets
from unnoise.worlds.emoji.questions import answers, questions
from unnoise.worlds.emoji.scenes import Attributes, Scenes, commonest
from unnoise.worlds.emoji.world import say

# --- a narrowed world ---------------------------------------------------------------------------------------


def test_a_narrowed_world_shows_its_concepts_and_no_others():
    wide, narrow = Scenes("emoji-starter"), Scenes("emoji-starter", concepts=40)
    kept = {narrow.emoji.concepts[k].label for k in commonest(narrow.emoji, 40)}
    assert set(narrow.labels) <= kept and len(narrow.labels) >= 38 and len(wide.labels) > 100
    for i in range(150):
        assert set(narrow.attributes(3, i).concepts) - {""} <= kept
    drawn = lambda label: len({narrow.emoji.style[i] for i in narrow.emoji.find(label)})
    nouns = [c.label for c in narrow.emoji.concepts if c.label in kept]
    assert min(map(drawn, nouns)) >= 4  # the starter set's are drawn by four vendors or more


def test_scenes_of_the_kind_turned_are_turned():
    scenes = Scenes("emoji-starter", weights={"turned": 1.0})
    assert {scenes.attributes(0, i).orientation for i in range(40)} == {
        "on its side",
        "upside down",
        "mirrored",
    }


# --- questions and answers ----------------------------------------------------------------------------------

BOX = (0.0, 0.0, 0.4, 0.4)


@pytest.mark.parametrize(
    "relation, boxes, want",
    [
        ("left of", (BOX, (0.6, 0.1, 1.0, 0.5)), ("horizontal", "cat", "dog")),
        ("right of", ((0.6, 0.1, 1.0, 0.5), BOX), ("horizontal", "dog", "cat")),
        ("above", (BOX, (0.1, 0.6, 0.5, 1.0)), ("vertical", "cat", "dog")),
        ("below", ((0.1, 0.6, 0.5, 1.0), BOX), ("vertical", "dog", "cat")),
        ("next to", ((0.42, 0.3, 0.8, 0.7), (0.0, 0.3, 0.4, 0.7)), ("horizontal", "dog", "cat")),
    ],
)
def test_of_a_pair_the_first_is_the_upper_or_left_one(relation, boxes, want):
    a = Attributes(
        "pair", ("cat", "dog"), ("cat", "dog"), "noto", ("red", ""), relation=relation, boxes=boxes
    )
    told = answers(a)
    assert (
        (told["axis"], told["noun_a"], told["noun_b"]) == want and "noun" not in told and "count" not in told
    )
    assert told["colour_a" if want[1] == "cat" else "colour_b"] == "red"


def test_every_scene_answers_only_what_it_can_be_asked():
    scenes = Scenes("emoji-starter")
    heads = questions(scenes)
    made = [scenes.attributes(1, i) for i in range(200)]
    rows = targets([answers(a) for a in made], heads)
    for i, a in enumerate(made):
        known = {k for k in heads if rows[k][i] != IGNORED}
        want = {
            "plain": {"noun", "count", "orientation", "colour", "style", "background"},
            "hand": {"fingers", "background"},
            "objects": (
                {"noun", "count", "orientation", "colour", "style", "background"}
                | ({"size"} if a.count == 1 else set())
            ),
            "pair": {"noun_a", "noun_b", "colour_a", "colour_b", "axis", "style", "background"},
        }[a.kind]
        assert known == want, a
        for k in known:
            assert heads[k][rows[k][i]] == answers(a)[k]


def test_plain_captions_name_the_things_alone():
    scenes = Scenes("emoji-starter")
    for i in range(60):
        a = scenes.attributes(2, i)
        text = say(scenes, a, Draw(2, i, 5), "plain")
        if a.kind == "hand":
            assert text == "a hand"
        elif a.kind == "pair":
            assert text.count(" and ") >= 1 and a.relation not in text.split(" and ")
        elif a.kind == "objects":
            assert text.endswith(a.nouns[0]) and not any(c in text.split() for c in a.colours if c)
