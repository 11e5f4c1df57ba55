import numpy as np
import pytest

from tests.support.oracles import fingers
from unnoise.data.draw import Draw
from unnoise.worlds.emoji import hands
from unnoise.worlds.emoji.hands import DRAWINGS, FINGERS, RAISED, Hand, draw_hand, extent, picture


def test_the_fingers_that_are_seen_are_those_that_are_meant():
    for k in range(150):
        draw = Draw(1, k, 0)
        n = draw.below(6)
        hand = draw_hand(draw, n, draw.pick(DRAWINGS))
        assert len(hand.raised) == n and fingers(picture(hand, 128)[..., 3] > 128) == n, hand


def test_every_way_of_showing_a_number():
    assert set(RAISED) == set(range(6)) and all(
        len(set(way)) == n for n, ways in RAISED.items() for way in ways
    )
    for n, ways in RAISED.items():
        for way in ways:
            assert fingers(picture(Hand(way, spread=1.3), 128)[..., 3] > 128) == n, way


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_the_extent_is_what_is_drawn(drawing):
    for k in range(12):
        hand = draw_hand(Draw(2, k, 0), k % 6, drawing)
        seen = picture(hand, 96)[..., 3] > 60
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 96
        np.testing.assert_allclose(found, extent(hand), atol=0.025)
        assert min(extent(hand)) >= 0 and max(extent(hand)) <= 1


def test_curled_fingers_lie_on_the_palm():
    def ink(raised):
        palm = picture(Hand(raised, drawing="outlined"), 128)[66:90, 48:84]
        return int((palm[..., :3].sum(-1) < 250).sum())

    lines = [ink(RAISED[n][0]) for n in range(6)]
    assert lines[5] < 10 < lines[4] and lines[0] > lines[1] > lines[2] > lines[3]


def test_a_left_hand_is_a_right_hand_in_the_mirror_and_its_thumb_is_to_the_left():
    right, left = (picture(Hand(FINGERS, side), 64) for side in ("right", "left"))
    assert np.abs(right[:, ::-1].astype(int) - left).mean() < 3
    assert (right[40:, 48:, 3] > 0).sum() > 2 * (right[40:, :16, 3] > 0).sum()


def test_tones_are_ordered_and_only_where_skin_is_shown():
    light = [sum(hands.TONES[t]) for t in list(hands.TONES)[1:]]
    assert light == sorted(light, reverse=True) and {
        d: draw_hand(Draw(0, 0, 0), 2, d).tone for d in ("line", "glove", "silhouette")
    } == {"line": "", "glove": "", "silhouette": ""}
    assert len({draw_hand(Draw(0, k, 0), 2, "flat").tone for k in range(60)}) == 6
