from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unnoise.data import batch_indices, crop, flip, order, positions
from unnoise.data.transforms import permutation
from unnoise.errors import BadInput

seeds = st.integers(-(2**63), 2**64 - 1)


@given(st.integers(1, 200), seeds, st.integers(0, 10**6))
def test_every_epoch_holds_every_item_once(n, seed, epoch):
    assert sorted(order(n, seed, epoch * n + i) for i in range(n)) == list(range(n))


@given(st.integers(30, 100), seeds, st.integers(0, 1000))
def test_epochs_and_seeds_have_their_own_order(n, seed, epoch):
    this = permutation(n, seed, epoch)
    assert not np.array_equal(this, permutation(n, seed, epoch + 1))  # equal by chance: 1 in 30!
    assert not np.array_equal(this, permutation(n, seed + 1, epoch))


def test_the_order_is_pinned():
    """A run resumed under another version of numpy, or of this code, must see the same items (computed with
    numpy 2.4).
    """
    assert [order(10, 0, p) for p in range(20)] == [
        0,
        2,
        9,
        1,
        8,
        5,
        4,
        3,
        6,
        7,
        5,
        3,
        7,
        8,
        2,
        4,
        1,
        0,
        6,
        9,
    ]
    assert batch_indices(120_000, 7, 1000, 4).tolist() == [1031, 16427, 52551, 50654]


@given(st.integers(1, 50), seeds, st.lists(st.integers(0, 10**9), max_size=20))
def test_an_item_does_not_depend_on_what_was_asked_before(n, seed, asked):
    there = [order(n, seed, p) for p in asked]
    permutation.cache_clear()
    assert there[::-1] == [order(n, seed, p) for p in reversed(asked)]


def test_all_orders_of_four_are_equally_likely():
    counts = Counter(tuple(permutation(4, 1, e)) for e in range(2400))
    chi2 = sum((counts[p] - 100) ** 2 / 100 for p in counts) + (24 - len(counts)) * 100
    assert len(counts) == 24 and chi2 < 50  # 23 degrees of freedom: P(chi2 > 50) = 1e-3


@settings(max_examples=50)
@given(
    st.integers(1, 40), seeds, st.integers(0, 10**5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)
)
def test_processes_and_micro_batches_share_what_one_process_draws(n, seed, step, share, world, accumulate):
    batch = share * world * accumulate
    whole = batch_indices(n, seed, step, batch)
    pieces = [
        batch_indices(n, seed, step, batch, rank, world, micro, accumulate)
        for micro in range(accumulate)
        for rank in range(world)
    ]
    assert all(len(piece) == share and piece.dtype == np.int64 for piece in pieces)
    assert np.concatenate(pieces).tolist() == whole.tolist()
    assert whole.tolist() == [order(n, seed, step * batch + i) for i in range(batch)]


def test_eight_is_two_fours_is_four_plus_four():
    one = batch_indices(100, 3, 20, 8).tolist()
    two = [batch_indices(100, 3, 20, 8, rank=r, world=2).tolist() for r in range(2)]
    accumulated = [batch_indices(100, 3, 20, 8, micro=m, accumulate=2).tolist() for m in range(2)]
    assert one == two[0] + two[1] == accumulated[0] + accumulated[1]
    assert positions(20, 8, rank=1, world=2).tolist() == [164, 165, 166, 167]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"batch": 8, "world": 3},
        {"batch": 0},
        {"batch": 8, "rank": 1},
        {"batch": 8, "rank": -1},
        {"batch": 8, "micro": 2, "accumulate": 2},
        {"batch": 8, "world": 0},
    ],
)
def test_shares_that_cannot_be(kwargs):
    with pytest.raises(BadInput):
        batch_indices(10, 0, 0, **kwargs)


@pytest.mark.parametrize("n", [0, -1])
def test_nothing_to_order(n):
    with pytest.raises(BadInput, match=f"cannot order {n} items"):
        order(n, 0, 0)


X = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)


def test_flip_is_a_fair_coin_of_its_own():
    flipped = np.array([not np.array_equal(flip(X, 3, i), X) for i in range(2000)])
    assert abs(flipped.mean() - 0.5) < 4 * 0.5 / 2000**0.5
    assert abs(np.corrcoef(flipped[1:], flipped[:-1])[0, 1]) < 4 / 2000**0.5
    assert all(np.array_equal(flip(X, 3, i), X[:, ::-1] if f else X) for i, f in enumerate(flipped))
    other = np.array([not np.array_equal(flip(X, 4, i), X) for i in range(2000)])
    assert 0.4 < (flipped == other).mean() < 0.6


def test_crop_is_a_window_with_a_uniform_corner():
    corners = Counter()
    for i in range(1200):
        window = crop(X, 4, 0, i)
        top, left = divmod(int(window[0, 0, 0]) // 3, 6)
        assert np.array_equal(window, X[top : top + 4, left : left + 4])
        corners[top, left] += 1
    assert set(corners) == {(t, l) for t in range(2) for l in range(3)}
    assert max(abs(n - 200) for n in corners.values()) < 4 * 200**0.5
    assert np.array_equal(crop(X[:5, :5], 5, 0, 1), X[:5, :5])


@pytest.mark.parametrize("size", [0, 6, -1])
def test_crop_too_large(size):
    with pytest.raises(BadInput, match="from an image of 6x5"):
        crop(X, size, 0, 0)
