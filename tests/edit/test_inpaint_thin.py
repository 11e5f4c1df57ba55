"""Thin and round masks: the new comes out in full however thin the mask, and what cannot be seen is not
promised.
"""

import numpy as np
import pytest

from unnoise.edit.inpaint import softened
from unnoise.edit.picture import Picture, pasted


def stroke(width: int, slant: int = 0) -> np.ndarray:
    m = np.zeros((30, 30))
    for y in range(30):
        m[y, 8 + slant * y // 3 : 8 + slant * y // 3 + width] = 1
    return m


@pytest.mark.parametrize("soft", [0, 1, 2, 5])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("slant", [0, 1])
def test_a_stroke_is_drawn_in_full_along_its_middle(width, soft, slant):
    """Fading over more pixels than the stroke has left a third of the new, so that nothing was to be seen."""
    m = stroke(width, slant)
    s = softened(m, soft)
    full = s.max(1) == 1  # a slanted one in every three rows
    assert (full.all() or slant) and (full[:-2] | full[1:-1] | full[2:]).all()
    assert (s[m == 0] == 0).all() and (s <= m).all() and (s[m > 0] > 0).all()
    new = pasted(Picture(np.zeros((30, 30, 3), np.uint8)), np.full((30, 30, 3), 255, np.uint8), s)
    assert (new.max((1, 2)) >= (127 if slant else 255)).all()


@pytest.mark.parametrize(
    ("width", "want"),
    [(1, [1]), (2, [1, 1]), (3, [0.5, 1, 0.5]), (4, [0.5, 1, 1, 0.5]), (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])],
)
def test_how_a_stroke_fades_over_two_pixels(width, want):
    assert softened(stroke(width), 2)[15, 8 : 8 + width].tolist() == pytest.approx(want)


def test_a_dot_comes_out_whole_beside_a_wide_part_that_fades():
    m = np.zeros((30, 30))
    m[4, 4], m[12:24, 12:24] = 1, 1
    s = softened(m, 2)
    assert s[4, 4] == 1 and s[17, 12:15].tolist() == pytest.approx([1 / 3, 2 / 3, 1])


def test_a_grey_stroke_stays_as_grey_as_it_was():
    s = softened(0.5 * stroke(2), 2)
    assert s.max() == 0.5 and (s[stroke(2) > 0] == 0.5).all()
    rng = np.random.default_rng(0)
    m = rng.random((30, 30)) * (rng.random((30, 30)) < 0.5)
    for soft in (1, 2, 4):
        s = softened(m, soft)
        assert (s <= m + 1e-15).all() and (s >= 0).all() and (s[m == 0] == 0).all()
