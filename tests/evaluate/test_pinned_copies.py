"""Near-copies, to the number."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from unnoise.evaluate import scenes as room
from unnoise.evaluate.copies import Copies
from unnoise.worlds.emoji import exam
from unnoise.worlds.emoji.scenes import Scenes

SET = "emoji-starter"
JUDGE = cast(Any, SimpleNamespace(heads={"noun": tuple(map(str, range(40)))}))


@pytest.fixture(scope="module")
def copies() -> Copies:
    return Copies.of(exam.training_pictures(JUDGE, SET))


def test_a_near_copy_is_nearer_than_a_hundredth_of_the_training_pictures_to_theirs(copies):
    x = copies.x.double().numpy()
    near = np.array([np.sort(np.sqrt(((x - row) ** 2).sum(1)))[1] for row in x])
    assert copies.threshold == pytest.approx(np.quantile(near, 0.01), rel=1e-3)  # distances in float32
    assert copies.threshold < 0.9 * np.quantile(near, 0.1)
    assert len(x) == len(Scenes(SET, "train", {"plain": 1.0}, 40).plain)


def test_a_picture_is_a_near_copy_by_its_nearest_one_and_the_median_is_a_number_a_pixel(copies):
    x = torch.zeros(1, 3072)
    grey = lambda v: np.full((32, 32, 3), v, np.uint8)
    told = Copies(x, 0.1 * 3072**0.5).share(
        np.stack([grey(0), grey(25), grey(26), grey(255)])
    )  # root mean squares of 0, .098, .102 and 1
    assert told["value"] == 0.5
    assert told["threshold"] == pytest.approx(0.1)
    assert told["n"] == 4
    assert told["median"] == pytest.approx(25 / 255, rel=1e-4)
    assert told["se"] == pytest.approx(0.25)


def test_large_pictures_are_looked_at_in_blocks():
    """A row of two white pixels of 64 x 64 is half of one block of 32 x 32: .5 in 3 of 3072 numbers."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[0, :2] = 255
    assert Copies(torch.zeros(1, 3072), 1.0).share(picture[None])["median"] == pytest.approx(
        (3 * 0.5**2 / 3072) ** 0.5, rel=1e-4
    )


def test_how_many_guidances_are_asked():
    assert room.GUIDANCES == (1.0, 2.0, 3.0, 5.0, 8.0)
