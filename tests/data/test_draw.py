import hashlib

import numpy as np
import pytest

from unnoise.data.draw import BLOCK, Draw, fate


def test_the_numbers_are_raw_philox():
    key, counter = np.array([5, 7], dtype=np.uint64), np.array([0, 0, 0, 16], dtype=np.uint64)
    raw = np.random.Philox(key=key, counter=counter).random_raw(2 * BLOCK).tolist()
    draw = Draw(5, 7, 16)
    assert [draw.raw() for _ in range(2 * BLOCK)] == raw
    assert (
        Draw(5, 7, 16).uniform() == (raw[0] >> 11) / 2**53
        and Draw(5, 7, 16).below(10) == raw[0] * 10 // 2**64
    )


def test_streams_differ_by_seed_index_and_purpose():
    assert len({Draw(s, i, p).raw() for s in (0, 1, -1) for i in (0, 1) for p in (1, 2)}) == 12


def test_choices_follow_their_weights():
    draw = Draw(0, 0, 0)
    counts = np.bincount([draw.among((0, 1, 2), (1, 0, 3)) for _ in range(4000)], minlength=3)
    assert counts[1] == 0 and counts[0] == pytest.approx(1000, abs=110)
    assert np.bincount([draw.below(5) for _ in range(5000)]).min() > 880
    for _ in range(50):
        assert len(set(draw.sample(range(6), 4))) == 4 and -1 <= draw.uniform(-1, 2) < 2
    assert sorted(draw.sample("abc", 3)) == ["a", "b", "c"]


def test_fate_is_sha256():
    assert fate("a", 1) == int(hashlib.sha256(b"a|1").hexdigest()[:16], 16)
