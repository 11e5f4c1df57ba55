"""Masks of training, drawn once more by hand: strokes of their width, boxes where they are said to lie."""

import numpy as np
import pytest

from unnoise.train import inpaint


def drawn(*u: float, h: int = 24, w: int = 24) -> np.ndarray:
    return inpaint.mask(np.array([*u, *[0.0] * (inpaint.DRAWS - len(u))]), h, w)


def shown(mask: np.ndarray) -> list[str]:
    return ["".join(".#"[int(v)] for v in row) for row in mask]


@pytest.mark.parametrize(("wide", "columns"), [(0.0, 3), (0.5, 5), (0.99, 8)])
def test_a_stroke_is_as_wide_as_it_is_said_to_be(wide, columns):
    """Straight down the middle, x = 12 of 24: .06, .11 or .159 of 24 to either side are 1.44, 2.64 and 3.82
    cells.
    """
    mask = drawn(0.9, 0.0, 0.5, 0.3, 0.5, 0.6, 0.5, 1.0, 0.5, wide)
    reach = (0.06 + 0.1 * wide) * 24
    middles = np.arange(24) + 0.5
    assert (mask == (np.abs(middles - 12) <= reach)).all()
    assert mask[5].sum() == 2 * int(reach + 0.5)


def test_of_small_pictures_a_stroke_is_no_thinner_than_a_cell():
    """.71 of a cell: a slanted line through a 4 x 4 picture is one piece, though .06 of 4 cells is .24."""
    mask = drawn(0.9, 0.0, 0.1, 0.3, 0.35, 0.6, 0.65, 1.0, 0.9, 0.0, h=4, w=4)
    assert shown(mask) == ["##..", ".##.", "..#.", "..##"]


def test_the_kinds_by_their_shares():
    """The first uniform alone says which: all below .15, around a box below .35, boxes below .75, and a
    stroke.
    """
    box = (0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0.9)
    assert drawn(0.149, *box).all()
    assert np.array_equal(~drawn(0.151, *box), drawn(0.351, *box))
    assert np.array_equal(drawn(0.349, *box), drawn(0.151, *box))
    assert np.array_equal(drawn(0.749, *box), drawn(0.351, *box))
    assert not np.array_equal(drawn(0.751, *box), drawn(0.749, *box))


def test_a_box_lies_where_its_uniforms_say():
    """1 + int(8 * .5) = 5 rows of 8, begun at int(.5 * 12) - 4 = 2; 1 + int(8 * .25) = 3 columns, begun at
    int(.9 * 10) - 2 = 7: one is left.
    """
    mask = drawn(0.5, 0.5, 0.5, 0.25, 0.9, 0, 0, 0, 0, 0.9, h=8, w=8)
    assert shown(mask) == ["........"] * 2 + [".......#"] * 5 + ["........"]


def test_a_second_box_comes_in_three_of_ten():
    first, second = (0.25, 0.1, 0.25, 0.1), (0.25, 0.9, 0.25, 0.9)
    one, two = (drawn(0.5, *first, *second, u, h=8, w=8) for u in (0.301, 0.299))
    assert two.sum() > one.sum()
    assert (two & one).sum() == one.sum()
    assert np.array_equal(two & ~one, drawn(0.5, *second, 0, 0, 0, 0, 0.9, h=8, w=8))
