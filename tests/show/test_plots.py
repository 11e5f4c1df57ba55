"""Plots put points where they belong, on round axes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unnoise import show
from unnoise.process import schedule
from unnoise.show import stages


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(lo, span):
    hi = lo + span
    if hi - lo < 1e-6 * max(1.0, abs(lo)):
        return
    found, gaps = show.ticks(lo, hi), np.diff(show.ticks(lo, hi))
    assert 1 <= len(found) <= 7 and all(lo - 1e-6 * span <= v <= hi + 1e-6 * span for v in found)
    if len(gaps):
        assert np.allclose(gaps, gaps[0], rtol=1e-3) and round(float(f"{gaps[0]:.3e}".split("e")[0])) in (
            1,
            2,
            5,
            10,
        )


def test_plots_put_points_where_they_belong():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    points = [(0.0, -2.0), (8.0, 2.0), (2.0, 1.0)]
    image = np.asarray(
        show.plot("title", "x", [show.Curve([x], [y], c, dots=True) for c, (x, y) in zip(colours, points)])
    ).astype(int)
    a, b, c = (np.argwhere((np.abs(image - colour) < 40).all(2)).mean(0)[::-1] for colour in colours)
    assert b[0] > a[0] + 200 and b[1] < a[1] - 150 and np.allclose((c - a) / (b - a), [0.25, 0.75], atol=0.01)
    axis = np.argmin(image.sum((1, 2)))  # the row with most ink
    assert (axis - a[1]) / (a[1] - b[1]) == pytest.approx(0.04, abs=0.01)  # the margin below the lowest point


@pytest.mark.parametrize(
    "s",
    [*(make() for make in schedule.SCHEDULES.values()), schedule.ddpm().zero_terminal_snr()],
    ids=lambda s: s.name,
)
def test_every_schedule_can_be_plotted_with_its_grid(s):
    pictures = []
    for spacing in ("trailing", "karras"):
        path = s.path(6, spacing)
        t = [float(s.timestep(l)) for l in path]
        pictures.append(
            np.asarray(
                show.plot_schedule(
                    s, t, [stages._numbers(float(l.alpha), float(l.sigma))["logsnr"] for l in path]
                )
            )
        )
    assert (
        pictures[0].shape == (320, 1260, 3)
        and (pictures[0] != pictures[1]).any()
        and (pictures[0] < 250).any()
    )
