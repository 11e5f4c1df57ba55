"""Coupled inversion: it comes back exactly, at any guidance, and what it draws converges to the flow as DDIM
does.
"""

from __future__ import annotations

import math

import pytest
import torch

from unnoise.denoiser.oracle import Gaussian, Mixture
from unnoise.errors import BadInput
from unnoise.guide import cfg
from unnoise.process import level, schedule
from unnoise.sample import SAMPLERS, last
from unnoise.sample.coupled import Pair, coupled_invert, coupled_sample, seen_as
from unnoise.sample.ladder import eps_of

from .worlds import FRAMES, MEAN, STD, WORLD, Traced, ending, normals, path, start, std_at

RING = Mixture.ring()


def back(denoise, x, p, **how):
    pairs = coupled_invert(denoise, x, p[::-1], **how)
    return coupled_sample(denoise, pairs[-1], p, **how), pairs


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_round_trip_is_exact_at_any_guidance(frame, guidance):
    x, denoise = MEAN + STD * normals(64, 2), cfg(WORLD, Gaussian(0.0, 1.0), guidance)
    down, up = back(denoise, x, ending(frame, 50, -7, 8))
    assert (down[-1].x - x).abs().max() < 1e-10
    for a, b in zip(down, up[::-1]):  # and through the same states
        torch.testing.assert_close(a.x, b.x, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(a.y, b.y, atol=1e-8, rtol=1e-8)


def test_it_is_exact_where_as_many_calls_of_the_fixed_point_are_far_off():
    """Six steps over a mixture of sharp modes, two calls a step."""
    from unnoise.sample import invert

    x = RING.sample(100)
    p = [level.ve(s) for s in torch.logspace(math.log10(3.0), -2, 6, dtype=torch.float64)] + [level.clean()]
    fixed = last(SAMPLERS["ddim"](RING, invert(RING, x, p[::-1], 2), p))
    assert (back(RING, x, p)[0][-1].x - x).abs().max() < 1e-9 < 1e-2 < (fixed - x).abs().max()


def test_one_step_is_the_formula():
    (a, b), p = path("vp", 1, 0.5, 2.0), 0.93
    x, y = normals(3, 2), normals(3, 2, seed=1)
    eps = lambda u: eps_of(u, WORLD(u, a), a)
    r = b.alpha / a.alpha
    x1 = r * x + (b.sigma - r * a.sigma) * eps(y)
    y1 = r * y + (b.sigma - r * a.sigma) * eps(x1)
    x2 = p * x1 + (1 - p) * y1
    found = coupled_sample(WORLD, Pair(x, y), [a, b], p)[-1]
    torch.testing.assert_close(found.x, x2)
    torch.testing.assert_close(found.y, p * y1 + (1 - p) * x2)


@pytest.mark.parametrize("frame", FRAMES)
def test_sampling_converges_to_the_flow_at_order_1(frame):
    z, error = normals(64, 2), []
    for n in (50, 100, 200, 400):
        p = path(frame, n, -5, 5)
        x = start(p[0], z)
        error.append(
            (coupled_sample(WORLD, Pair(x, x), p)[-1].x - start(p[-1], z)).abs().max().item() / std_at(p[-1])
        )
    assert abs(math.log2(error[-2] / error[-1]) - 1) < 0.2 and error[-1] < 0.1, error


@pytest.mark.parametrize("frame", FRAMES)
def test_a_float32_denoiser_is_shown_the_same_numbers_both_ways(frame):
    """Steep and rough, so that one other rounding in 50 steps of guidance 7.5 would be seen in the
    outcome.
    """
    shown: list[torch.Tensor] = []

    class Single:
        def __call__(self, x, l):
            assert x.dtype == torch.float32
            shown.append(x)
            return cfg(WORLD, Gaussian(0.0, 1.0), 7.5)(x, l).float() + 0.01 * torch.sin(1e5 * x)

    x = (MEAN + STD * normals(500, 3)).float()
    down, up = back(seen_as(Single(), x), x, ending(frame, 50, -7, 8))
    assert down[-1].x.dtype == torch.float64 and torch.equal(down[-1].x.float(), x)
    assert len(shown) == 200 and all(torch.equal(a, b) for a, b in zip(shown[:100], shown[:99:-1]))
    assert torch.equal(up[0].x, x.double()) and torch.equal(up[0].y, x.double())


def test_long_paths_come_back_too():
    x = MEAN + STD * normals(16, 2)
    assert (back(WORLD, x, ending("vp", 1000, -7, 8))[0][-1].x - x).abs().max() < 1e-10


def test_each_sample_may_have_levels_of_its_own():
    x, p, q = MEAN + STD * normals(2, 3), ending("vp", 10, -7, 8), ending("vp", 10, -5, 6)
    both = [level.Level(*(torch.stack([u, v]) for u, v in zip(a, b))) for a, b in zip(p, q)]
    down, up = back(WORLD, x, both)
    assert (down[-1].x - x).abs().max() < 1e-10
    for i, own in enumerate((p, q)):
        torch.testing.assert_close(up[-1].x[i : i + 1], coupled_invert(WORLD, x[i : i + 1], own[::-1])[-1].x)


def test_calls_and_grad():
    denoise, p = Traced(), ending("vp", 7)
    coupled_invert(denoise, normals(2, 2), p[::-1])
    assert len(denoise.levels) == 14 and torch.is_grad_enabled()


def test_refusals():
    x, p = normals(2, 2), ending("vp", 5)
    with pytest.raises(BadInput, match=r"path\[::-1\]"):
        coupled_invert(WORLD, x, p)
    with pytest.raises(BadInput, match="falling"):
        coupled_sample(WORLD, Pair(x, x), p[::-1])
    with pytest.raises(BadInput, match="mix"):
        coupled_invert(WORLD, x, p[::-1], mix=0.1)
    with pytest.raises(BadInput, match="pure noise"):
        coupled_invert(WORLD, x, schedule.flow().path(4)[::-1])
