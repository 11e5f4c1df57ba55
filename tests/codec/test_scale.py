"""Scales: A A^+ = 1, back-projection is the nearest consistent picture, and in whole numbers the averages are
exact.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from unnoise.codec.scale import NOTHING, consistent, down, exact, hidden, repeated, shown, up
from unnoise.errors import BadInput


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("f", [2, 4])
def test_repeating_is_a_right_inverse_and_the_transpose_times_f_squared(f):
    x, y = noise(2, 3, 8, 12), noise(2, 3, 8 // f, 12 // f, seed=1)
    assert_close(down(repeated(y, f), f), y)
    assert_close((down(x, f) * y).sum(), (x * repeated(y, f)).sum() / f**2)


@pytest.mark.parametrize("f", [2, 4])
def test_back_projection_is_consistent_and_nothing_consistent_is_nearer(f):
    x, y = noise(1, 3, 8, 8), noise(1, 3, 8 // f, 8 // f, seed=1)
    z = consistent(x, y, f)
    assert_close(down(z, f), y)
    other = consistent(noise(1, 3, 8, 8, seed=2), y, f)
    assert (z - x).norm() < (other - x).norm()
    assert_close(
        ((z - x) * (other - z)).sum(), torch.zeros((), dtype=torch.float64), atol=1e-10, rtol=0
    )  # Pythagoras


@settings(max_examples=60, deadline=None)
@given(
    h=st.integers(1, 5),
    w=st.integers(1, 5),
    f=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 2**31),
    spread=st.floats(0, 300),
)
def test_in_whole_numbers_the_averages_are_the_picture_to_the_byte(h, w, f, seed, spread):
    rng = np.random.default_rng(seed)
    y = rng.choice(np.array([0, 1, 7, 128, 200, 254, 255], np.uint8), (h, w, 3))
    x = 128 + spread * rng.standard_normal((f * h, f * w, 3))
    z = exact(x, y)
    assert z.dtype == np.uint8 and z.shape == x.shape
    assert np.array_equal(z.reshape(h, f, w, f, 3).mean((1, 3)), y)


def test_what_is_consistent_already_is_only_rounded():
    z = np.random.default_rng(0).integers(0, 64, (4, 4, 3)).astype(np.uint8) * 4
    y = z.reshape(2, 2, 2, 2, 3).mean((1, 3))
    z[::2, ::2] += ((y.round() - y) * 4).astype(np.uint8)  # whole averages
    assert np.array_equal(exact(z.astype(float), y.round().astype(np.uint8)), z)


def test_what_is_shown_and_hidden():
    y = noise(2, 3, 4, 4).float()
    c = shown(y, 2, torch.tensor([0.0, 0.25]), patch=2)
    assert c.shape == (2, 13, 4, 4) and (c[1, -1] == 0.25).all()
    assert_close(torch.nn.functional.pixel_shuffle(c[:, :-1], 2), up(y, 2))
    h = hidden(c, torch.tensor([True, False]))
    assert (h[0, :-1] == 0).all() and (h[0, -1] == NOTHING).all() and torch.equal(h[1], c[1])


def test_sides_that_do_not_divide_are_refused():
    with pytest.raises(BadInput, match=r"3 x 4|\(3, 4\)"):
        down(torch.zeros(1, 3, 3, 4), 2)
