"""DDIM inversion: up from clean data and down again."""

from __future__ import annotations

import math

import pytest
import torch

from unnoise.denoiser.oracle import Mixture
from unnoise.errors import BadInput
from unnoise.process import level, schedule
from unnoise.sample import SAMPLERS, inversion, invert, last

from .worlds import FRAMES, MEAN, STD, WORLD, Traced, ending, normals, std_at

RING = Mixture.ring()


def around(world, x, p, iterations):
    back = last(SAMPLERS["ddim"](world, invert(world, x, p[::-1], iterations), p))
    return (back - x).square().mean().sqrt().item()


def ring_path(n):
    return [level.ve(s) for s in torch.logspace(math.log10(3.0), -2, n, dtype=torch.float64)] + [
        level.clean()
    ]


@pytest.mark.parametrize("frame", FRAMES)
def test_round_trip_error_falls_in_proportion_to_the_step(frame):
    x = MEAN + STD * normals(64, 2)
    found = [around(WORLD, x, ending(frame, n, -7, 8), 0) for n in (50, 100, 200, 400)]
    assert abs(math.log2(found[-2] / found[-1]) - 1) < 0.15 and found[-1] < 0.03, found


def test_fixed_point_inversion_returns_exactly():
    x = RING.sample(200)
    plain, twice, fixed = (around(RING, x, ring_path(50), k) for k in (0, 2, 60))
    assert fixed < 1e-9 < twice < plain / 2 and 1e-3 < plain < 0.1, (plain, twice, fixed)


def test_the_iteration_is_accelerated_sample_by_sample():
    """One step that the plain iteration, by hand, does not come back from: three dimensions are solved by
    Anderson's in a few.
    """
    a, b = level.vp(torch.tensor(4.0, dtype=torch.float64)), level.vp(torch.tensor(-2.0, dtype=torch.float64))
    steep = torch.diag(torch.tensor([1.0, 0.3, -1.5], dtype=torch.float64))

    def denoise(x, l):
        return (x - l.sigma * torch.sin(x @ steep)) / l.alpha

    x, y = normals(5, 3), normals(5, 3)
    r = b.alpha / a.alpha
    lift = lambda eps: r * x + (b.sigma - r * a.sigma) * eps
    for _ in range(12):
        y = lift(torch.sin(y @ steep))
    found = invert(denoise, x, [a, b], 12)
    off = lambda y: (lift(torch.sin(y @ steep)) - y).abs().amax(1)
    assert off(y).max() > 1e-2 and off(found).median() < 1e-6, (off(y), off(found))
    torch.testing.assert_close(found[1:2], invert(denoise, x[1:2], [a, b], 12))  # no sample looks at another


def test_inverted_data_are_distributed_as_the_noisy_level():
    x = MEAN + STD * normals(20000, 1)
    p = ending("vp", 200, -7, 8)
    y = invert(WORLD, x, p[::-1])
    assert abs(y.std() - std_at(p[0])) < 0.02 and abs(y.mean() - p[0].alpha * MEAN) < 0.02


def test_calls_and_states():
    x, p = MEAN + STD * normals(3, 2), ending("vp", 10)[::-1]
    for iterations, calls in ((0, 9), (1, 10), (3, 30)):  # none is needed to leave clean data plainly
        denoise = Traced()
        states = list(inversion(denoise, x, p, iterations))
        assert (
            len(denoise.levels) == calls
            and len(states) == 11
            and all(s.level == l for s, l in zip(states, p))
        )
        assert torch.equal(states[0].x, x) and torch.equal(states[-1].x, invert(WORLD, x, p, iterations))
    assert torch.is_grad_enabled()
    denoise = Traced()
    invert(denoise, x, p[1:])
    assert len(denoise.levels) == 9  # from a level with noise, each move has its call


def test_up_to_pure_noise_is_finite():
    x = MEAN + STD * normals(3, 2)
    for p in (schedule.flow().path(8), schedule.scaled_linear().zero_terminal_snr().path(8)):
        for iterations in (0, 2):
            assert invert(WORLD, x, p[::-1], iterations).isfinite().all()


def test_refusals():
    x = normals(2, 2)
    with pytest.raises(BadInput, match=r"path\[::-1\]"):
        inversion(WORLD, x, ending("vp", 5))
    with pytest.raises(BadInput, match="iterations"):
        invert(WORLD, x, ending("vp", 5)[::-1], -1)
