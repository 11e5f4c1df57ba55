"""Two moons: a pure function of (seed, index), on its moons, and its truth read from a row again."""

import numpy as np
import pytest

from unnoise.errors import BadInput
from unnoise.worlds import open_world


def rows(world, n, seed=0):
    return np.stack([world.render(world.attributes(seed, i)) for i in range(n)])


def test_rows_lie_about_their_moons():
    w = open_world("moons", "train", {"noise": 0.05})
    x = rows(w, 4000)
    upper = x[x[:, 2] == 0]
    assert len(upper) / 4000 == pytest.approx(0.5, abs=0.03)
    r = np.linalg.norm(upper[:, :2], axis=1)
    assert r.mean() == pytest.approx(1.0, abs=0.01) and r.std() == pytest.approx(0.05, abs=0.005)
    assert np.bincount(x[:, 3].astype(int)).min() > 300 and set(x[:, 3]) == set(range(10))


def test_the_truth_is_read_from_a_row():
    w = open_world("moons", "test", {"noise": 0.01})
    x = rows(w, 500)
    told = w.judged(x)
    assert (told["moon"] == x[:, 2]).all() and (told["tenth"] == x[:, 3]).mean() > 0.9
    x[:, 2] = 1 - x[:, 2]
    assert (w.judged(x)["moon"] == x[:, 2]).mean() < 0.01


def test_splits_and_seeds_differ_and_repeat():
    train, test = open_world("moons"), open_world("moons", "test")
    assert (rows(train, 5) == rows(open_world("moons"), 5)).all()
    assert not np.isclose(rows(train, 5)[:, :2], rows(test, 5)[:, :2]).any()
    assert not np.isclose(rows(train, 5)[:, :2], rows(train, 5, seed=1)[:, :2]).any()
    assert train.digest({}) != open_world("moons", "train", {"noise": 0.2}).digest({})


def test_bad_input():
    for call, told in (
        (lambda: open_world("moons", "trian"), "did you mean 'train'"),
        (lambda: open_world("moons", "train", {"noise": 0}), "options.noise"),
        (lambda: open_world("moons", "train", {"nose": 1}), "did you mean 'options.noise'"),
    ):
        with pytest.raises(BadInput, match=told):
            call()
