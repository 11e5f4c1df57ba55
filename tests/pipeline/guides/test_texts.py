"""How the text of a guide is read and written: the weight exactly, a text's own colons left to it."""

import math
import random

import pytest

from unnoise.errors import BadInput
from unnoise.pipeline.guides import Guide, parse


@pytest.mark.parametrize(
    "text, value, weight",
    [
        ("clip=clock at 10:30", "clock at 10:30", 1),
        ("clip=ratio 16:9", "ratio 16:9", 1),
        ("clip-noised=it is 9:05", "it is 9:05", 1),
        ("clip=clock at 10:30 :2", "clock at 10:30", 2),
        ("clip=a house number 7 :2.5", "a house number 7", 2.5),
        ("clip=7 :0", "7", 0),
        ("clip=a happy face:2", "a happy face", 2),
        ("clip=note: a face", "note: a face", 1),
        ("clip=chapter: 5", "chapter: 5", 1),
        ("clip=a=b:3", "a=b", 3),
        ("CLIP = a face:.5", "a face", 0.5),
        ("clip=a face:1e-3", "a face", 0.001),
        ("clip=10:30 sharp", "10:30 sharp", 1),
        ("colour=#32a541:2", "#32a541", 2),
        ("color=green", "green", 1),
        ("brightness=0.6:2", "0.6", 2),
        ("target=photo1:3", "photo1", 3),
        ("target=a.png@0123456789abcdef:2", "a.png@0123456789abcdef", 2),
        ("smooth:0.5", "", 0.5),
        ("smooth", "", 1),
        ("judge=a car:2", "a car", 2),
    ],
)
def test_value_and_weight(text, value, weight):
    g = parse(text)
    assert (g.value, g.weight) == (value, weight)
    again = parse(g.text)
    assert (again.name, again.value, again.weight) == (g.name, g.value, g.weight)


def test_every_weight_survives_being_written():
    chance = random.Random(0)
    weights = [
        1 / 3,
        0.1 + 0.2,
        1e-9,
        123456.789,
        1234567.0,
        1e22,
        math.pi,
        2.0,
        0.0,
        5e-324,
        1.7976931348623157e308,
    ]
    weights += [chance.random() * 10 ** chance.randint(-8, 8) for _ in range(300)]
    for w in weights:
        for name, value in (
            ("colour", "green"),
            ("clip", "clock at 10:30"),
            ("clip", "number 7"),
            ("smooth", ""),
        ):
            again = parse(Guide(name, value, w).text)
            assert (again.name, again.value, again.weight) == (name, value, w), w


def test_texts_that_recipes_hold_already_stay_as_they_are():
    assert (
        Guide("colour", "green", 2.0).text == "colour=green:2"
        and Guide("smooth", "", 0.5).text == "smooth:0.5"
    )


@pytest.mark.parametrize(
    "bad",
    [
        5,
        None,
        1.5,
        b"clip=a",
        ["clip=a"],
        {},
        (),
        ("clip=a", 2),
        "nonsense=1",
        "clip=",
        "smooth=3",
        "clip=a:nan",
        "clip=a:inf",
        "clip=a:-1",
        "colour=green:-2",
        "\ud800",
        "",
        ":",
        "=",
        (lambda x: x, "a"),
        (lambda x: x, float("nan")),
    ],
)
def test_what_is_no_guide_is_refused(bad):
    with pytest.raises(BadInput):
        parse(bad)
