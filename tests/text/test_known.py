"""The words that a model was taught, and what is said of those it was not."""

import json

import pytest

from unnoise import hub
from unnoise.data.nouns import NOUNS
from unnoise.errors import BadInput
from unnoise.text import known
from unnoise.text.known import FILE, Known, words_of
from unnoise.worlds.emoji.everything import Everything
from unnoise.worlds.emoji.names import HELD_OUT
from unnoise.worlds.emoji.scenes import Scenes

SMALL = Known(
    {
        "koala": ("koala",),
        "box": ("package",),
        "puppy": ("dog face",),
        "leaf": ("fallen leaf",),
        "apple": ("red apple",),
    },
    frozenset({"a", "two", "red", "on", "or"}),
)


@pytest.mark.parametrize(
    "prompt, told",
    [
        ("a koala on two boxes", []),
        ("A RED Koala!", []),
        ("two puppies or leaves", []),
        ("", []),
        ("a quokka", ["quokka"]),
        ("quokkas on quokkas, Wombats", ["quokkas", "wombats"]),
        ("10 apples 4k", ["k"]),
        ("the apple's box", ["the"]),
        ("(quokka:1.4) or [apple]", ["quokka"]),
        ("a koalas' box", []),
    ],
)
def test_what_training_never_said_is_told_once_in_order(prompt, told):
    assert [w for w, _ in SMALL.unknown(prompt)] == told


def test_scheduled_words_are_looked_at_too():
    assert [w for w, _ in SMALL.unknown("a [koala:wombat:0.5]")] == ["wombat"]


@pytest.mark.parametrize("word, near", [("kaola", "koala"), ("aple", "apple"), ("pupy", "puppy")])
def test_the_nearest_are_spelled_alike_and_name_something(word, near):
    assert SMALL.nearest(word)[0] == near and "a" not in SMALL.nearest("a")
    assert SMALL.nearest("xylophone") == ()


def test_the_list_can_be_looked_through():
    assert [w for w, _ in SMALL.listed()] == sorted(SMALL.things) and SMALL.listed("pup") == [
        ("puppy", ("dog face",))
    ]
    assert [w for w, _ in SMALL.listed("kaola")] == ["koala"] and SMALL.listed("zzz") == []


def test_words():
    assert words_of("Dog’s dinner: 3 cafés_x, t-shirt") == ["dog's", "dinner", "cafés", "x", "t", "shirt"]


def test_the_file_comes_back_and_a_broken_one_is_told(tmp_path):
    assert known.load(tmp_path) is None
    (tmp_path / FILE).write_bytes(SMALL.content())
    assert known.load(tmp_path) == SMALL
    for broken in (
        b"{",
        b"[]",
        b'{"format": "unnoise-known-9"}',
        json.dumps({"format": known.FORMAT, "things": []}).encode(),
    ):
        (tmp_path / FILE).write_bytes(broken)
        with pytest.raises(BadInput, match="known"):
            known.load(tmp_path)


def test_the_bundled_model_knows_what_it_draws_and_not_what_it_does_not():
    told = known.load(hub.find("emoji"))
    assert told is not None
    for prompt in (
        "a butterfly",
        "two red apples on their side",
        "a robot left of a house, noto style",
        "a hand with three fingers",
    ):
        assert told.unknown(prompt) == [], prompt
    for word in ("quokka", "unicorn", "banana", "saxophone"):
        assert [w for w, _ in told.unknown(f"a {word}")] == [word]


def test_captions_are_made_of_known_words_alone():
    from unnoise.worlds.emoji.known import of

    for world in (Everything("emoji-starter"), Scenes("emoji-starter")):
        told, wrong = of(world), 0
        for i in range(400):
            wrong += bool(told.unknown(world.caption(3, i)))
        assert wrong <= (
            25 if isinstance(world, Everything) else 0
        )  # slips of the finger, and names that are hardly said


def test_nouns_held_out_are_unknown():
    from unnoise.worlds.emoji.known import of

    world = Everything("emoji-starter")
    told, there = of(world), {c.label for c in world.emoji.concepts}
    held = [
        NOUNS[label]
        for label in HELD_OUT
        if label in there and " " not in NOUNS[label] and "-" not in NOUNS[label]
    ]
    assert held
    for noun in held:
        assert [w for w, _ in told.unknown(f"a {noun}")] == [noun]
