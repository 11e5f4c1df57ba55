"""The family gamma grad log p(y | x) + grad log p(x): what its flow samples, exactly, and what it does not
sample.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from unnoise.denoiser.oracle import Gaussian, Mixture, guided_flow, tilted
from unnoise.errors import BadInput
from unnoise.guide import cfg, classifier
from unnoise.process.level import clean, ve
from unnoise.sample import SAMPLERS, last

NARROW, WIDE = Gaussian(1.0, 0.25), Gaussian(0.0, 1.0)


def numbers(g):
    return float(g.means[0, 0]), float(g.var[0, 0].sqrt())


# Published means and deviations, from samples begun at sigma = 80, which costs gamma = 1 a mean of .012: the
# flow within .03 (measured: .009).
@pytest.mark.parametrize(
    "gamma, flow, tilt",
    [
        (2.0, (1.371, 0.248), (1.143, 0.378)),
        (4.0, (1.514, 0.062), (1.231, 0.277)),
        (7.5, (1.439, 0.005), (1.277, 0.206)),
    ],
)
def test_published_numbers(gamma, flow, tilt):
    assert numbers(guided_flow(NARROW, WIDE, gamma)) == pytest.approx(flow, abs=0.03)
    assert numbers(tilted(NARROW, WIDE, gamma)) == pytest.approx(tilt, abs=6e-4)


def test_two_by_hand():
    mean, std = numbers(
        guided_flow(NARROW, WIDE, 2.0)
    )  # w = 2 (1/4)^(1/2) int sqrt(1 + 3 z^2) = 1 + asinh(sqrt 3) / (2 sqrt 3)
    assert (mean, std) == pytest.approx((1 + math.asinh(math.sqrt(3)) / (2 * math.sqrt(3)), 0.25), abs=1e-12)
    assert numbers(guided_flow(NARROW, WIDE, 3.0)) == pytest.approx(
        (3 / 4 * 2, 0.125), abs=1e-12
    )  # int (1 + 3 z^2) = 2
    for gamma, g in ((0.0, WIDE), (1.0, NARROW)):
        for family in (tilted, guided_flow):
            assert numbers(family(NARROW, WIDE, gamma)) == pytest.approx(numbers(g), abs=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_the_librarys_guidance_samples_the_flow(gamma):
    # Normal quantiles from sigma = 1e4 in place of infinity, by Heun's method: the image of a linear flow is
    # two points' worth, mean and slope.
    path = [*(ve(s) for s in torch.logspace(4, -3, 400, dtype=torch.float64)), clean()]
    x = 1e4 * torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    log_ratio = lambda x, l: NARROW.logp(x, l) - WIDE.logp(x, l)
    for guided in (classifier(WIDE, log_ratio, gamma), cfg(NARROW, WIDE, gamma)):
        out = last(SAMPLERS["heun"](guided, x, path))[:, 0]
        assert (float(out.mean()), float(out.diff()) / 2) == pytest.approx(
            numbers(guided_flow(NARROW, WIDE, gamma)), abs=1e-3
        )  # measured: 2e-4


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.05, 2), st.floats(0.05, 2), st.floats(0, 6))
@settings(max_examples=60, deadline=None)
def test_what_must_hold_for_all(m, n, v, u, gamma):
    flow = guided_flow(Gaussian(m, v), Gaussian(n, u), gamma)
    same = guided_flow(
        Gaussian(m, v), Gaussian(m, u), gamma
    )  # equal means stay, so the weights of the two means add up to 1
    assert float(same.means) == pytest.approx(m, abs=1e-9)
    assert float(flow.var) == pytest.approx(v**gamma * u ** (1 - gamma), rel=1e-9)
    equal = guided_flow(
        Gaussian(m, v), Gaussian(n, v), gamma
    )  # equal variances: the mean goes on in a straight line, the spread stays
    assert numbers(equal) == pytest.approx((n + gamma * (m - n), math.sqrt(v)), abs=1e-8)
    assert numbers(tilted(Gaussian(m, v), Gaussian(n, v), gamma)) == pytest.approx(numbers(equal), abs=1e-8)


def test_coordinates_do_not_mix():
    cond, uncond = Gaussian([1.0, -1.0], [0.25, 0.5]), Gaussian([0.0, 0.5], [1.0, 2.0])
    for family in (tilted, guided_flow):
        both = family(cond, uncond, 3.0)
        each = [family(Gaussian(1.0, 0.25), WIDE, 3.0), family(Gaussian(-1.0, 0.5), Gaussian(0.5, 2.0), 3.0)]
        assert_close(both.means[0], torch.cat([e.means[0] for e in each]))
        assert_close(both.var[0], torch.cat([e.var[0] for e in each]))


# Three classes on a plane, of unequal weight: no longer linear, so gamma > 1 is held against what it must not
# be, too.
WORLD = Mixture([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]], [0.6, 0.4, 0.5], weights=[0.5, 0.3, 0.2])


def guided(gamma, n=1500):
    path = [*(ve(s) for s in torch.logspace(math.log10(60), -2.3, 60, dtype=torch.float64)), clean()]
    x = 60 * torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return last(
        SAMPLERS["heun"](classifier(WORLD, lambda x, l: WORLD.log_classes(x, l)[:, 1], gamma), x, path)
    )


def test_gamma_0_is_everything_and_1_the_class():
    share = WORLD.classes(guided(0.0), clean()).mean(0)
    assert_close(share, WORLD.weights, rtol=0, atol=0.04)  # measured: .013
    x = guided(1.0)
    assert_close(x.mean(0), torch.tensor([2.0, 0.0]).double(), rtol=0, atol=0.04)  # measured: .014
    assert_close(x.std(0), torch.full((2,), 0.4).double(), rtol=0, atol=0.02)  # measured: .003


def test_gamma_above_1_moves_away_from_the_other_classes():
    means = [guided(gamma).mean(0) for gamma in (1.0, 2.0, 4.0)]
    for a, b in itertools.pairwise(means):
        assert b[0] > a[0] + 0.05 and b[1] < a[1] - 0.02
    assert guided(4.0).std(0).max() < 0.4


@pytest.mark.parametrize(
    "cond, uncond, gamma, told",
    [
        (Gaussian(0.0, 1.0), Gaussian(0.0, 0.5), 3.0, "no finite integral at gamma = 3"),
        (Gaussian([0.0, 1.0], 1.0), WIDE, 2.0, "one shape"),
        (Gaussian(0.0, 0.0), WIDE, 2.0, "positive variances"),
        (
            Gaussian([0.0, 0.0], [[1.0, 0.5], [0.5, 1.0]]),
            Gaussian([0.0, 0.0], 1.0),
            2.0,
            "along the coordinates",
        ),
    ],
)
def test_what_has_no_answer_is_refused(cond, uncond, gamma, told):
    with pytest.raises(BadInput, match=told):
        tilted(cond, uncond, gamma)
    if told != "no finite integral at gamma = 3":
        with pytest.raises(BadInput, match=told):
            guided_flow(cond, uncond, gamma)
