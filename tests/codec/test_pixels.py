"""Codecs: exact round trips for every size and channel count."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unnoise.codec import Pixels, Vectors, codec_for, from_config
from unnoise.errors import BadInput


@settings(max_examples=60, deadline=None)
@given(
    h=st.integers(1, 13),
    w=st.integers(1, 13),
    c=st.integers(1, 4),
    patch=st.integers(1, 3),
    multiple=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_every_picture_comes_back(h, w, c, patch, multiple, seed):
    codec = Pixels(h, w, c, patch, multiple)
    images = np.random.default_rng(seed).integers(0, 256, (2, h, w, c), dtype=np.uint8)
    z = codec.encode(images)
    assert tuple(z.shape) == codec.shape(2) and z.shape[2] % multiple == 0 and z.shape[3] % multiple == 0
    assert z.min() >= -1 and z.max() <= 1
    assert np.array_equal(codec.decode(z), images)
    assert from_config(codec.config()) == codec


def test_ends_of_the_range():
    codec = Pixels(1, 2, 1)
    z = codec.encode(np.array([[[[0], [255]]]], np.uint8))
    assert z.flatten().tolist() == [-1, 1]
    assert codec.decode(torch.tensor([[[[-7.0, 7.0]]]])).flatten().tolist() == [0, 255]


def test_vectors_are_standardised_and_come_back():
    x = np.random.default_rng(0).normal(3, 2, (500, 3)).astype(np.float32)
    codec = codec_for(x)
    z = codec.encode(x)
    assert abs(float(z.mean())) < 1e-5 and abs(float(z.std()) - 1) < 1e-2
    np.testing.assert_allclose(codec.decode(z), x, atol=1e-5)
    assert from_config(codec.config()) == codec


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pixels(8, 8, 1).encode(np.zeros((1, 8, 9, 1), np.uint8)),
        lambda: Pixels(8, 8, 1).encode(np.zeros((1, 8, 8, 3), np.uint8)),
        lambda: Pixels(8, 8, 1).encode(np.zeros((1, 8, 8, 1), np.float32)),
        lambda: Pixels(0, 8, 1),
        lambda: Pixels(8, 8, 1, patch=True),
        lambda: Pixels(2, 2, 1).decode(torch.full((1, 1, 2, 2), torch.nan)),
        lambda: Vectors((3,)).encode(np.zeros((2, 4), np.float32)),
        lambda: codec_for(np.full((5, 2), 7.0, np.float32)),
        lambda: from_config({"kind": "pixel"}),
        lambda: from_config({"kind": "pixels", "hight": 2}),
    ],
)
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(BadInput):
        make()
