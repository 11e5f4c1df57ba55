"""The first world's vocabulary, by name: which things a narrowed one keeps, how often each is shown, what is
kept for tests.
"""

import numpy as np
import pytest

from unnoise.base.colour import GROUND_LAB, GROUNDS, LAB
from unnoise.data.emoji import SUBGROUP_WEIGHT, TRAINABLE, load_emoji
from unnoise.data.nouns import HELD_OUT, NOUNS
from unnoise.worlds.emoji.scenes import STREAM, WEIGHTS, Scenes, commonest


@pytest.fixture(scope="module")
def emoji():
    return load_emoji("emoji-starter")


def labels(emoji, ks) -> list[str]:
    return [emoji.concepts[k].label for k in ks]


def vendors(emoji, k: int) -> int:
    """How many plain pictures of a concept free vendors drew."""
    return sum(
        TRAINABLE[emoji.styles[s]] and t == 0
        for s, t in zip(emoji.style[emoji.concept == k], emoji.tone[emoji.concept == k])
    )


def test_a_narrowed_world_keeps_what_most_vendors_drew(emoji):
    kept = commonest(emoji, 20).tolist()
    drawn = np.array([vendors(emoji, k) for k in range(len(emoji.concepts))])
    nouns = [k for k, c in enumerate(emoji.concepts) if c.label in NOUNS and c.label not in HELD_OUT]
    others = [
        k
        for k, c in enumerate(emoji.concepts)
        if c.label not in NOUNS and c.group != "flags" and c.subgroup != "time"
    ]
    assert sum(k in nouns for k in kept) == 16
    assert sum(k in others for k in kept) == 4  # four fifths and one
    for some in (nouns, others):
        assert (
            min(drawn[k] for k in kept if k in some)
            >= max(drawn[k] for k in some if k not in kept)
            > min(drawn[some])
        )
    assert labels(emoji, kept) == [
        "ghost",
        "red heart",
        "thumbs up",
        "ear",
        "eye",
        "person getting haircut",
        "snowboarder",
        "monkey",
        "dog",
        "wolf",
        "cat",
        "ewe",
        "elephant",
        "mouse",
        "rat",
        "chipmunk",
        "panda",
        "chicken",
        "rooster",
        "fork and knife",
    ]


# --- what may be shown how ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def objects(emoji):
    world = Scenes(emoji, "train", {"objects": 1.0})
    return [world.attributes(11, i) for i in range(1500)]


def test_things_are_turned_only_where_that_can_be_seen(emoji, objects):
    """A quarter of it must look different turned, .15 of it mirrored, and it must face as the others of its
    name do.
    """
    turned = [a.images[0] for a in objects if a.orientation in ("on its side", "upside down")]
    mirrored = [a.images[0] for a in objects if a.orientation == "mirrored"]
    assert 0.25 <= emoji.turn[turned].min() < 0.3
    assert 0.15 <= emoji.mirror[mirrored].min() < 0.2
    assert emoji.agrees[mirrored].all()
    assert not emoji.agrees.all()


def test_grounds_are_those_on_which_little_is_lost(emoji, objects):
    """Less than .3 of a thing as it was drawn; and its colour, drawn or painted, is .2 away from the
    ground's.
    """
    grounds = list(GROUNDS)
    drawn = [
        (a.images[0], grounds.index(a.background))
        for a in objects
        if a.background != "white" and not a.colour
    ]
    lost = np.array([emoji.clash[i][g] for i, g in drawn])
    far = np.array([np.linalg.norm(emoji.lab[i] - GROUND_LAB[grounds[g]]) for i, g in drawn])
    assert 0.2 < lost.max() < 0.3
    assert 0.2 < far.min() < 0.22
    painted = [
        np.linalg.norm(LAB[a.colour] - GROUND_LAB[a.background])
        for a in objects
        if a.background != "white" and a.colour
    ]
    assert 0.2 < min(painted) < 0.25


def test_shares_of_counts_sizes_colours_and_grounds(objects):
    """.45 are one and .5 are painted, before one in ten of the numbers and of the colours is kept out of
    training: .476 and .474 of what is left.
    """
    share = lambda f, some=objects: float(np.mean([f(a) for a in some]))
    assert share(lambda a: a.count == 1) == pytest.approx(0.476, abs=0.03)
    assert share(lambda a: bool(a.colour)) == pytest.approx(0.474, abs=0.03)
    assert share(lambda a: a.size != "medium", [a for a in objects if a.count == 1]) == pytest.approx(
        0.35, abs=0.05
    )
    assert share(lambda a: a.background != "white") == pytest.approx(0.25, abs=0.03)
    assert {a.size for a in objects} == {"small", "medium", "large"}
    assert {a.count for a in objects} == {1, 2, 3, 4, 5}


def test_a_single_thing_is_as_large_as_its_word(objects):
    for size, side in (("small", 0.34), ("medium", 0.66), ("large", 0.94)):
        boxes = [a.boxes[0] for a in objects if a.count == 1 and a.size == size]
        assert {round(max(x1 - x0, y1 - y0), 6) for x0, y0, x1, y1 in boxes} == {side}


def test_kinds_and_their_weights():
    assert WEIGHTS == {"plain": 0.45, "objects": 0.30, "pair": 0.15, "hand": 0.10}
    assert STREAM == {"train": 16, "test": 17, "held_out": 18, "personal": 19}


def test_how_often_an_image_is_drawn(emoji):
    """946 of the starter set's 1008 pictures are for training, 26 for tests, 36 never shown; clock faces
    count .4, letters and shapes half.
    """
    assert np.bincount(emoji.split).tolist() == [946, 26, 36]
    w, inside = emoji.weights("train"), emoji.members("train")
    share = {c.label: w[emoji.concept == k].sum() for k, c in enumerate(emoji.concepts)}
    sub = {c.label: c.subgroup for c in emoji.concepts}
    of = lambda subgroup: {
        round(v / share["red apple"], 6) for label, v in share.items() if sub[label] == subgroup and v > 0
    }
    assert {k: of(k) for k in ("time", "alphanum", "geometric", "person-gesture", "food-fruit")} == {
        "time": {0.4},
        "alphanum": {0.5},
        "geometric": {0.5},
        "person-gesture": {0.5},
        "food-fruit": {1.0},
    }
    assert SUBGROUP_WEIGHT["country-flag"] == SUBGROUP_WEIGHT["subdivision-flag"] == 0.1
    assert SUBGROUP_WEIGHT["family"] == 0.3
    both = [i for i in emoji.find("waving hand") if i in inside]
    plain, toned = (
        sum(
            w[i]
            for i in inside
            if emoji.concept[i] == emoji.concept[both[0]] and emoji.style[i] == s and (emoji.tone[i] > 0) == t
        )
        for t, s in ((False, _toned(emoji)), (True, _toned(emoji)))
    )
    assert toned == pytest.approx(plain)  # the skin tones of one drawer together as much as the plain form


def _toned(emoji) -> int:
    return int(emoji.style[emoji.tone > 0][0])
