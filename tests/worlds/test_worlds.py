"""What every world promises: the same item in every process, true answers among those that are asked for,
splits that hold out what they say.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from unnoise.data.sources import SOURCES
from unnoise.errors import BadInput
from unnoise.worlds import IGNORED, WORLDS, World, open_world, targets

N = 24
THERE = [name for name in WORLDS if name.removesuffix("-scenes") not in SOURCES or "starter" in name]


@pytest.fixture(params=THERE)
def world(request) -> World:
    return open_world(request.param)


def test_an_item_is_a_function_of_seed_and_index(world):
    other = pickle.loads(pickle.dumps(world))
    for i in range(N):
        a, b = world.attributes(3, i), other.attributes(3, i)
        assert a == b
        assert np.array_equal(world.render(a), other.render(b))
        assert world.caption(a, 3, i) == other.caption(b, 3, i)
        assert world.again(3, i, 7) == other.again(3, i, 7)
    assert world.attributes(4, 0) != world.attributes(3, 0) or world.attributes(4, 1) != world.attributes(
        3, 1
    )


def test_its_codec_encodes_what_it_renders(world):
    x = np.stack([world.render(world.attributes(0, i)) for i in range(3)])
    assert tuple(world.codec().encode(x).shape) == world.codec().shape(3)


def test_it_answers_what_a_judge_is_asked(world):
    heads = world.questions()
    known = [world.answers(world.attributes(0, i)) for i in range(N)]
    for truth in known:
        assert set(truth) <= set(heads)
    rows = targets(known, heads)
    for k, texts in heads.items():
        for i, row in enumerate(rows[k]):
            assert (row == IGNORED) == (k not in known[i]), (k, known[i])
            assert row == IGNORED or texts[row] == known[i][k]


def test_training_shows_nothing_that_is_held_out(world):
    assert {"train", "test"} <= set(world.splits)
    for split in ("train", "test"):
        there = world.other(split)
        assert there.split == split
        assert not any(there.held_out(there.attributes(0, i)) for i in range(N))
    if "held_out" in world.splits:
        apart = world.other("held_out")
        assert all(apart.held_out(apart.attributes(0, i)) for i in range(N))
    with pytest.raises(BadInput, match="split"):
        world.other("tests")


def test_digests_differ_where_items_do(world):
    assert world.digest({}) == open_world(world.name).digest({})
    assert world.digest({}) != world.other("test").digest({})


def test_an_unknown_world_or_option_is_told_with_the_nearest():
    with pytest.raises(BadInput, match="unknown world 'emoji-scene'; did you mean 'emoji-scenes'"):
        open_world("emoji-scene")
    with pytest.raises(BadInput, match=r"unknown key 'options.siz'; did you mean 'options.size'"):
        open_world("emoji-starter-scenes", "train", {"siz": 32})
