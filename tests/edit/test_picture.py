"""A picture at a model's working size, and over its cells."""

import numpy as np
import pytest

import unnoise
from unnoise.edit.picture import Picture, cells, decoded, encoded, working_size
from unnoise.errors import BadInput


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_cells_cover_every_pixel_that_changes():
    import torch

    mask = np.zeros((64, 48))
    mask[17, 30] = 0.2
    c = cells(mask, torch.zeros(1, 8, 8, 6))
    assert c.shape == (1, 1, 8, 6) and c.sum() == 1 and c[0, 0, 2, 3] == 1
    assert cells(np.ones((2, 2)), torch.zeros(1, 1, 8, 8)).min() == 1  # a mask of fewer pixels than cells


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (30, 200), (500, 33), (64, 8), (7, 5)])
def test_working_size_keeps_area_and_proportions(size):
    pipe = unnoise.load("emoji")
    h, w = working_size(pipe, Picture(np.zeros((*size, 3), np.uint8)))
    assert h % 8 == w % 8 == 0 and min(h, w) >= 16
    if max(size) < 4 * min(size):
        assert 0.6 < h * w / 64**2 < 1.5 and 0.7 < (h / w) / (size[0] / size[1]) < 1.4
    x = encoded(pipe, noise(*size, 3), (h, w))
    assert x.shape == (1, pipe.codec.shape(1)[1], h // 8, w // 8) and decoded(
        pipe, x, Picture(noise(*size, 3))
    ).shape == (1, *size, 3)


def test_pixel_models_have_one_size_and_models_of_numbers_none(tiny, vectors):
    pipe, picture = unnoise.load(tiny), Picture(noise(20, 10, 3))
    assert working_size(pipe, picture) == (8, 8) and encoded(pipe, picture.pixels, (8, 8)).shape == (
        1,
        1,
        8,
        8,
    )
    with pytest.raises(BadInput, match="8 x 8 only"):
        working_size(pipe, picture, 16, 8)
    with pytest.raises(BadInput, match="cannot edit"):
        working_size(unnoise.load(vectors), picture)
    with pytest.raises(BadInput, match="multiple of 8"):
        working_size(unnoise.load("emoji"), picture, 20, 16)
