"""The step of a wish, by hand: four numbers at sigma / alpha = 1, where the furthest step is .5 sqrt(1/2)
sqrt(4) = .7071 long.
"""

import math

import pytest
import torch

from unnoise.guide.steer import steer
from unnoise.process.level import ve

FAR = 0.5 * math.sqrt(0.5) * 2


def moved(loss, weight=1.0, x0=0.0, **how) -> list[float]:
    """Where an estimate of four numbers x0 comes to lie; the denoiser halves x, which is 2 x0."""
    x = torch.full((1, 4), 2 * x0, dtype=torch.float64)
    return steer(lambda y, l: y / 2, [(lambda v, l: loss(v), weight)], **how)(x, ve(1.0))[0].tolist()


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize(
    ("loss", "where"),
    [
        (lambda v: (v - 0.2).square().sum(1), 0.1),  # L / s = .16 / .8: a square is halved
        (lambda v: 9 * (v - 0.2).square().sum(1), 0.1),  # whatever its scale
        (lambda v: (v + 0.2).square().sum(1), -0.1),  # to where it is less
        (lambda v: (v - 1).square().sum(1), FAR / 2),  # 4 / 4 = 1 would be too far
        (lambda v: v.sum(1) - 10, -FAR / 2),  # below 0 nobody knows how far: the furthest, downhill
        (lambda v: -v.sum(1) - 10, FAR / 2),
        (lambda v: v.sum(1), 0.0),  # a wish that is granted moves nothing
        (lambda v: 0 * v.sum(1) + 1, 0.0),  # nor does one without a slope
        (lambda v: v.sum(1) * math.nan, 0.0),
    ],
)
def test_a_step_is_as_long_as_it_should_be_and_downhill(loss, where, through):
    assert moved(loss, through=through) == pytest.approx([where] * 4, abs=1e-9)


def test_weights_multiply_the_step_and_steps_add_up():
    wish = lambda v: (v - 0.2).square().sum(1)
    assert moved(wish, 2.0) == pytest.approx([0.2] * 4)
    assert moved(wish, 0.5) == pytest.approx([0.05] * 4)
    both = steer(lambda y, l: y, [(lambda v, l: wish(v), 1.0), (lambda v, l: (v + 0.4).square().sum(1), 1.0)])
    assert both(torch.zeros(1, 4, dtype=torch.float64), ve(1.0))[0].tolist() == pytest.approx([0.1 - 0.2] * 4)


def test_the_furthest_step_shrinks_with_the_noise():
    far = lambda l: (
        -float(
            steer(lambda y, l: y, [(lambda v, l: v.sum(1) - 10, 1.0)])(
                torch.zeros(1, 4, dtype=torch.float64), l
            )[0, 0]
        )
    )
    assert far(ve(1.0)) == pytest.approx(0.25 * math.sqrt(2))
    assert far(ve(1e6)) == pytest.approx(0.5)
    assert far(ve(0.1)) == pytest.approx(0.05 / math.sqrt(1.01))


def test_across_the_network_a_step_is_at_most_ten_times_the_own_one():
    """Where the network turns the slope by a right angle, L / s with s = |g| / 10 and not 0."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    loss = lambda v, l: 1e-3 + 0 * v[:, 0] + v[:, 0]
    x = torch.zeros(1, 2, dtype=torch.float64)
    out = steer(lambda y, l: y @ turn, [(loss, 1.0)], through=True)(x, ve(1.0))
    assert out[0].tolist() == pytest.approx([0.0, -1e-2], abs=1e-12)
