"""The second world: what it shows, what it never says in training, and how its captions are drawn."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from unnoise.data.draw import Draw
from unnoise.data.emoji import Concept, load_emoji
from unnoise.data.nouns import NOUNS, plain
from unnoise.worlds.emoji import names
from unnoise.worlds.emoji.everything import TONES, Everything, is_thing
from unnoise.worlds.emoji.names import HELD_OUT, MEANINGS, POWER, called, many, secrets
from unnoise.worlds.emoji.phrases import caption, plainly
from unnoise.worlds.emoji.scenes import SPLITS, Attributes, Scenes, combinations, held_out

STARTER = "emoji-starter"


@pytest.fixture(scope="module")
def worlds():
    return {split: Everything(STARTER, split) for split in ("train", "test", "held_out")}


def concept(label, *tags, group="objects", subgroup="tool"):
    return Concept(label, "1", group, subgroup, tags)


# ---- splits


def test_the_nouns_held_out_are_24_others_and_no_one_types_them_first():
    assert len(set(HELD_OUT)) == 24 and set(HELD_OUT) <= set(NOUNS)
    assert not set(HELD_OUT) & {
        "banana",
        "horse",
        "fish",
        "unicorn",
        "laptop",
        "bell",
        "old key",
        "bed",
        "drum",
        "goat",
        "pig",
        "locked",
        "tangerine",
    }


def test_training_shows_and_says_nothing_of_the_nouns_held_out(worlds):
    secret = re.compile(
        rf"(?<![\w-])({'|'.join(map(re.escape, secrets(worlds['train'].emoji.concepts, HELD_OUT)))})(?![\w-])"
    )
    for split in ("train", "test", "held_out"):
        for i in range(700):
            a = worlds[split].attributes(1, i)
            assert not set(a.concepts) & set(HELD_OUT)
            for text in (worlds[split].caption(1, i), worlds[split].again(1, i, 10_000 + i)):
                assert not secret.search(text.lower()), text
    assert secret.search("two squirrels") and secret.search("a paint brush")
    tub = [concept("droplet"), concept("water buffalo"), concept("cat")]
    assert "drop of water" in secrets(tub, ["droplet"]) and "water" not in secrets(tub, ["droplet"])
    assert "water" in secrets(tub[:1], ["droplet"])


def test_no_name_of_a_concept_tells_of_one_held_out():
    told = (
        concept("chipmunk", "squirrel"),
        concept("tree", "squirrel", "chipmunks", "wood"),
        concept("round pushpin"),
        concept("map", "pushpins"),
    )
    found = called(told, ("chipmunk", "pushpin"))
    assert "round pushpin" not in found and [w for w, _ in found["tree"].others] == ["wood"]
    assert (
        found["map"].others == () and "chipmunk" in found
    )  # which is said where it is shown, in the split "personal"


def test_combinations_are_held_out_as_before(worlds):
    for i in range(500):
        for split in ("train", "test", "held_out"):
            a = worlds[split].attributes(2, i)
            assert any(held_out(c) for c in combinations(a)) == (split == "held_out")
            assert set(a.images) <= set(
                worlds[split]
                .emoji.members("test" if (split, a.kind) == ("test", "plain") else "train")
                .tolist()
            )


def test_the_first_world_keeps_its_own_nouns():
    """Opening the second changes nothing of an emoji set that the first has open."""
    emoji = load_emoji(STARTER)
    before = emoji.split.copy()
    second = Everything(emoji)
    assert (emoji.split == before).all() and (second.emoji.split != before).any()
    first = Scenes(emoji)
    assert not {first.emoji.concepts[c].label for c in first.emoji.concept[list(first.plain)]} & {
        "banana",
        "horse",
    }
    assert Everything(STARTER, "personal").attributes(0, 0).concepts[0] in HELD_OUT
    assert set(SPLITS) == {"train", "test", "held_out", "personal"}


def test_the_nouns_of_before_are_shown(worlds):
    shown = {c for i in range(3000) for c in worlds["train"].attributes(0, i).concepts}
    there = {c.label for c in worlds["train"].emoji.concepts}
    assert {"banana", "horse", "fish", "bed", "bell", "unicorn"} & there <= shown and {
        "banana",
        "horse",
        "fish",
        "bed",
        "bell",
        "unicorn",
    } & there


# ---- balance


def test_tones_do_not_drown_their_concept(worlds):
    world = worlds["train"]
    weight, emoji = world._weights("train"), world.emoji
    both = [
        k
        for k in range(len(emoji.concepts))
        if len({bool(t) for t in emoji.tone[(emoji.concept == k) & (weight > 0)]}) == 2
    ]
    assert both
    for k in both:
        of = emoji.concept == k
        assert weight[of & (emoji.tone > 0)].sum() == pytest.approx(TONES * weight[of].sum(), rel=0.35)


@pytest.mark.parametrize(
    "label, group, subgroup, thing",
    [
        ("cat", "animals-nature", "animal-mammal", True),
        ("teacher", "people-body", "person-role", True),
        ("man teacher", "people-body", "person-role", False),
        ("green book", "objects", "book-paper", False),
        ("red apple", "food-drink", "food-fruit", True),
        ("flag: Japan", "flags", "country-flag", False),
        ("three o'clock", "travel-places", "time", False),
        ("robot", "smileys-emotion", "face-costume", True),
        ("om", "symbols", "religion", False),
    ],
)
def test_what_is_a_thing(label, group, subgroup, thing):
    assert is_thing(concept(label, group=group, subgroup=subgroup)) == thing


# ---- names


def test_a_tag_is_said_the_more_the_fewer_share_it():
    told = [
        concept("a1", "only", "both", "all"),
        concept("b1", "both", "all"),
        *(concept(f"c{k}", "all") for k in range(14)),
    ]
    weight = dict(called(told)["a1"].others)
    assert weight["only"] / weight["both"] == pytest.approx(2**POWER) and weight["only"] / weight[
        "all"
    ] == pytest.approx(16**POWER)
    assert sum(weight.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "word, label",
    [
        ("orange", "tangerine"),
        ("lock", "locked"),
        ("puppy", "dog face"),
        ("automobile", "automobile"),
        ("bike", "bicycle"),
        ("plane", "airplane"),
        ("sword", "crossed swords"),
        ("piano", "musical keyboard"),
        ("tea", "teacup without handle"),
        ("lettuce", "leafy green"),
        ("noodles", "steaming bowl"),
        ("lantern", "red paper lantern"),
        ("olive", "olive"),
    ],
)
def test_plain_words_mean_what_they_mean(word, label):
    """And nothing else does, whatever its tags say."""
    others = [concept(other, word) for other in ("orange heart", "jack-o-lantern", "key", "guide dog")]
    found = called([concept(label, word), *others])
    assert word in (*found[label].main, *(w for w, _ in found[label].others))
    assert not [c.label for c in others if word in dict(found[c.label].others)]


def test_the_words_written_down_are_no_ones_else():
    labels = {plain(label) for label in MEANINGS}
    for label, words in MEANINGS.items():
        for word in words:
            assert (
                word == plain(word)
                and word.strip()
                and (word not in labels or word == plain(label) or NOUNS.get(label) == word)
            ), (label, word)
    assert set(names.further()) and all(n == plain(n) for ns in names.further().values() for n in ns)


@pytest.mark.parametrize(
    "one, more",
    [
        ("man", "men"),
        ("postwoman", "postwomen"),
        ("piece of cheese", "pieces of cheese"),
        ("man in tuxedo", "men in tuxedo"),
        ("jeans", "jeans"),
        ("knife", "knives"),
        ("kitchen knife", "kitchen knives"),
        ("mouse", "mice"),
        ("bus", "buses"),
        ("glass", "glasses"),
        ("compass", "compasses"),
        ("human", "humans"),
    ],
)
def test_plurals(one, more):
    assert many(one) == more


# ---- captions


def test_a_scene_is_said_anew_at_every_visit_and_always_the_same_at_one(worlds):
    world = worlds["train"]
    for i in (3, 8, 21):
        said = [world.again(5, i, visit) for visit in range(40)]
        assert said == [Everything(STARTER).again(5, i, visit) for visit in range(40)] if i == 3 else True
        assert len(set(said)) > 12


def test_what_can_be_asked_for_is_said(worlds):
    numbers = {
        2: ("two", "2", "a pair of", "a couple of"),
        3: ("three", "3"),
        4: ("four", "4"),
        5: ("five", "5"),
    }
    for split in ("train", "held_out"):
        for i in range(900):
            a = worlds[split].attributes(6, i)
            said = worlds[split].again(6, i, i).lower()
            assert a.background == "white" or re.search(
                rf"(on|against|background|front of).*{a.background}|{a.background} background", said
            ), (said, a)
            if a.kind == "objects":
                assert a.count == 1 or any(
                    re.search(rf"(?<![\w-]){n}(?![\w-])", said) for n in numbers[a.count]
                ), (said, a.count)
            if a.kind == "hand":
                assert re.search("no|zero|one|two|three|four|five|[0-5]", said), said


def test_a_tenth_of_captions_at_most_is_misspelt(worlds):
    a = Attributes("plain", ("cat",), ("cat",), "noto")
    known = {"elephant": names.Called(("elephant",), ("elephant",), ())}
    said = [caption(replace(a, concepts=("elephant",)), known, Draw(0, i, 9)).lower() for i in range(2000)]
    wrong = np.mean(["elephant" not in text for text in said])
    assert 0 < wrong < 0.05
    lengths = Counter(len(text.split()) for text in said)
    assert lengths[1] > 100 and sum(n for k, n in lengths.items() if k >= 4) > 100  # short and long
    assert any(t.startswith("an elephant") for t in said) and any(t.startswith("elephant") for t in said)


@pytest.mark.parametrize(
    "change, text",
    [
        ({}, "two red cars upside down on a blue background"),
        ({"count": 1}, "a red car upside down on a blue background"),
        ({"background": "white", "orientation": "on its side"}, "two red cars on their side"),
        ({"kind": "plain"}, "a car on a blue background"),
    ],
)
def test_the_plain_way(change, text):
    a = Attributes(
        "objects", ("car",), ("automobile",), "noto", ("red",), 2, "upside down", background="blue"
    )
    said = plainly(replace(a, **change), {"automobile": names.Called(("car", "automobile"), ("car",), ())})
    assert said == (text if change.get("kind") != "plain" else "a car")
