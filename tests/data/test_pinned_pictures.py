"""Pictures by the number: paint, what is told of a drawing before scenes are made of it, the order and the
windows of training data.
"""

import numpy as np
import pytest

from unnoise.base import colour
from unnoise.base.colour import GROUND_LAB, LAB, dominant, oklab, recolour, srgb
from unnoise.data import prepare
from unnoise.data.draw import Draw
from unnoise.data.nouns import plural
from unnoise.data.transforms import crop, flip, permutation

RED = np.array(
    [
        [[200, 30, 30, 255], [120, 20, 20, 255], [128, 128, 128, 255], [240, 90, 90, 255]],
        [[200, 30, 30, 255], [210, 40, 40, 255], [250, 200, 200, 128], [0, 0, 0, 0]],
    ],
    np.uint8,
)
GREY = np.array(
    [[[200, 200, 200, 255], [100, 100, 100, 255], [150, 120, 120, 255], [30, 30, 30, 255]]], np.uint8
)


def close(a: np.ndarray, b: list) -> bool:
    return np.abs(a.astype(int) - np.array(b)).max() <= 1


def test_paint_keeps_shading_at_three_quarters_and_greys():
    """Of a red thing: its plain red becomes the blue itself, its shadow and its light lie about that; the
    grey stays, the transparent too.
    """
    assert close(
        recolour(RED, "blue"),
        [
            [[44, 98, 225, 255], [28, 67, 159, 255], [128, 128, 128, 255], [77, 127, 236, 255]],
            [[44, 98, 225, 255], [48, 103, 231, 255], [174, 182, 232, 128], [0, 0, 0, 0]],
        ],
    )
    assert close(recolour(RED, "black")[0, :2, :3], [[39, 39, 41], [24, 24, 26]])


def test_a_grey_thing_is_painted_all_over():
    """Under .55 of coloured pixels: all of it, as grey is what it is."""
    assert close(
        recolour(GREY, "green"),
        [[[136, 200, 138, 255], [45, 150, 58, 255], [69, 171, 79, 255], [18, 74, 25, 255]]],
    )
    some = np.full((1, 100, 4), 128, np.uint8)
    some[..., 3] = 255
    for red, painted in ((50, True), (60, False)):
        some[0, :red, :3] = (200, 30, 30)
        assert bool((recolour(some, "blue")[0, -1, :3] != 128).any()) == painted, red


def test_lightness_lies_between_a_quarter_of_the_target_and_six_tenths_of_the_way_to_white():
    """The darkest may be at a quarter of the paint's lightness, the lightest at .6 of the way from it to
    white.
    """
    ends = np.zeros((1, 3, 4), np.uint8)
    ends[0, :, :3], ends[..., 3] = [[0, 0, 0], [119, 119, 119], [255, 255, 255]], 255
    light = oklab(recolour(ends, "green")[..., :3])[0, :, 0]
    target = float(LAB["green"][0])
    assert light == pytest.approx([0.25 * target, target, target + 0.6 * (1 - target)], abs=0.01)


def test_of_the_dominant_colour_lightness_counts_half():
    """A dark orange is an orange and no brown once lightness counts half; what lies within .1 of the border's
    colour is ground.
    """
    picture = np.full((10, 10, 3), 255, np.uint8)
    assert dominant(picture) is None
    ground = oklab(picture)[0, 0]
    for step, seen in ((0.09, None), (0.11, "grey")):
        picture[4:6, 4:6] = srgb(ground - [step, 0, 0])
        assert dominant(picture) == seen, step
    rng = np.random.default_rng(0)
    for rgb in rng.integers(0, 256, (200, 3), dtype=np.uint8):
        picture[4:6, 4:6] = rgb
        lab = oklab(rgb)
        if np.linalg.norm(lab - ground) < 0.12:
            continue
        nearest = min(
            LAB, key=lambda n, lab=lab: (0.5 * (lab - LAB[n])[0]) ** 2 + ((lab - LAB[n])[1:] ** 2).sum()
        )
        assert dominant(picture) == nearest
    assert (colour.NEUTRAL, colour.COLOURED, colour.APART) == (0.035, 0.55, 0.1)


# --- what is told of a drawing ------------------------------------------------------------------------------


def drawing(alpha: np.ndarray, rgb=(200, 30, 30)) -> np.ndarray:
    return np.dstack([np.broadcast_to(np.array(rgb, np.uint8), (*alpha.shape, 3)), alpha.astype(np.uint8)])


def test_what_is_hardly_seen_is_margin():
    alpha = np.zeros((32, 32))
    alpha[10:20, 8:24], alpha[5], alpha[25] = 255, 12, 13  # of 255: 12 is nothing, 13 is something
    assert prepare.tight(drawing(alpha)) == (0, 10, 32, 26)


def test_how_much_of_a_drawing_is_lost_on_each_ground():
    """The share of its pixels that lie within .16 of the ground's colour."""
    rng = np.random.default_rng(0)
    rgba = np.dstack([rng.integers(0, 256, (32, 32, 3)), np.full((32, 32), 255)]).astype(np.uint8)
    lab = oklab(rgba[..., :3]).reshape(-1, 3)
    told = prepare.measures([rgba])
    want = [np.mean(np.linalg.norm(lab - g, axis=1) < 0.16) for g in GROUND_LAB.values()]
    assert told["clash"][0].tolist() == pytest.approx(255 * np.array(want), abs=0.51)
    assert told["lab"][0] == pytest.approx(lab.mean(0), abs=1e-5)
    assert told["box"][0].tolist() == [0, 0, 32, 32]


def test_turning_and_mirroring_are_told_by_what_then_looks_different():
    """A half: mirrored nothing of it is where it was; a bar: turned a half, it is itself; an L differs every
    way.
    """
    half, bar, corner = (np.zeros((24, 24)) for _ in range(3))
    half[:, :12] = half[0, :] = half[:, 23] = 255
    bar[:, 10:14] = 255
    corner[:, :6] = corner[18:] = 255
    told = prepare.measures([drawing(a) for a in (half, bar, corner)])
    assert told["turn"][1] == 0
    assert told["mirror"][1] == 0
    small = [prepare._small(drawing(a), prepare.tight(drawing(a))) for a in (half, corner)]
    for k, s in zip((0, 2), small):
        other = lambda t, s=s: np.abs(s - t).sum() / (s.sum() + t.sum())
        assert told["mirror"][k] == round(255 * other(s[:, ::-1]))
        assert told["turn"][k] == round(255 * min(other(np.rot90(s, j)) for j in (1, 2, 3)))
    assert prepare.unlike(small[0], small[0]) == 0
    assert prepare.unlike(np.array([1.0, 0]), np.array([0, 1.0])) == 1


def test_a_drawing_faces_as_the_first_vendors_does():
    left = np.zeros((24, 24))
    left[:, :8] = left[4, :] = 255
    right, even = left[:, ::-1], np.maximum(left, left[:, ::-1])
    faces = prepare._agreement(
        [drawing(a) for a in (left, right, left, even, right)],
        np.array([0, 0, 0, 0, 1]),
        np.array([0, 1, 2, 3, 0]),
    )
    assert faces.tolist() == [1, 0, 1, 1, 1]


# --- order, windows, chances --------------------------------------------------------------------------------


def test_the_order_of_an_epoch_is_for_ever_the_same():
    assert permutation(7, 1, 2).tolist() == [4, 2, 0, 6, 1, 5, 3]


def test_half_of_the_pictures_are_flipped():
    x = np.arange(2)[None, :, None]
    assert sum(int(flip(x, 7, i)[0, 0, 0]) for i in range(400)) == 208
    assert [int(flip(x, 7, i)[0, 0, 0]) for i in range(8)] == [1, 0, 0, 0, 1, 1, 0, 1]


def test_windows_lie_where_they_always_did():
    x = np.arange(100).reshape(10, 10, 1)
    assert [int(crop(x, 4, 3, i)[0, 0, 0]) for i in range(6)] == [52, 22, 54, 16, 14, 50]
    corners = {int(crop(x, 4, 3, i)[0, 0, 0]) for i in range(800)}
    assert corners == {10 * r + c for r in range(7) for c in range(7)}


def test_draws_are_for_ever_the_same():
    d = Draw(5, 9, 3)
    assert [d.below(10) for _ in range(6)] == [0, 4, 4, 1, 4, 0]
    d = Draw(5, 9, 3)
    assert [round(d.uniform(2, 4), 6) for _ in range(3)] == [2.13164, 2.973202, 2.952522]
    d = Draw(5, 9, 3)
    counts = np.bincount([d.at([1.0, 3.0, 4.0]) for _ in range(4000)]) / 4000
    assert counts == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_a_concept_has_at_most_16_further_words():
    words = [f"word {'abcdefghijklmnopqrst'[i]}" for i in range(20)]
    assert prepare._tags("label", [*words, "label", "LABEL", "ünfit"]) == tuple(words[:16])


IRREGULAR = {
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mango": "mangoes",
    "volcano": "volcanoes",
    "mosquito": "mosquitoes",
    "mouse": "mice",
    "goose": "geese",
    "ox": "oxen",
    "wolf": "wolves",
    "tooth": "teeth",
    "sheep": "sheep",
    "fish": "fish",
    "deer": "deer",
    "snowman": "snowmen",
    "scarf": "scarves",
    "maple leaf": "maple leaves",
    "computer mouse": "computer mice",
    "kangaroo": "kangaroos",
    "piece of cheese": "pieces of cheese",
    "cherry": "cherries",
    "key": "keys",
    "box": "boxes",
    "peach": "peaches",
    "brush": "brushes",
    "cat": "cats",
}


@pytest.mark.parametrize(("noun", "many"), IRREGULAR.items())
def test_more_than_one_of_it(noun, many):
    assert plural(noun) == many
