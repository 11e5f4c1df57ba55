import math

import pytest
import torch
from torch.testing import assert_close

from tests.support import FAMILIES, normal
from unnoise.process import level as L


@pytest.mark.parametrize("family", FAMILIES)
def test_one_logsnr_is_one_ratio_in_every_family(family):
    lam = torch.linspace(-12, 12, 49, dtype=torch.float64)
    l = FAMILIES[family](lam)
    assert_close(l.logsnr, lam, rtol=0, atol=1e-10)
    assert_close(l.ratio, (-lam / 2).exp(), rtol=1e-11, atol=0)


def test_families_keep_what_they_are_named_for():
    lam = torch.linspace(-20, 20, 41, dtype=torch.float64)
    vp, flow, ve = L.vp(lam), L.flow(torch.rand(9)), L.ve(lam.exp())
    assert_close(vp.alpha**2 + vp.sigma**2, torch.ones_like(lam), rtol=0, atol=1e-14)
    assert_close(flow.alpha + flow.sigma, torch.ones(9))
    assert torch.equal(ve.alpha, torch.ones_like(lam))


def test_limits_of_logsnr_and_ratio():
    top, end = L.level(0.0, 1.0), L.clean()
    assert top.logsnr == -math.inf and top.ratio == math.inf
    assert end.logsnr == math.inf and end.ratio == 0
    assert end.clean and not top.clean and not L.level([0.0, 1.0], [0.0, 1.0]).clean


def test_like_broadcasts_one_level_a_sample_and_takes_the_dtype():
    l, x = L.level([0.5, 0.25], [0.1, 0.2]), torch.zeros(2, 3, 4, 4)
    a, s = l.like(x)
    assert a.shape == s.shape == (2, 1, 1, 1) and a.dtype == torch.float32
    assert L.level(1.0, 2.0).like(x).sigma.shape == ()
    again = l.like(x).like(x)  # a sampler hands on what it has already broadcast
    assert torch.equal(again.alpha, a)


def test_level_is_float64_from_numbers_and_keeps_a_floating_tensor():
    assert L.level(1, 0.5).alpha.dtype == torch.float64
    assert L.ve(torch.tensor(2)).sigma.dtype == torch.float64
    assert L.ve(torch.tensor(2.0)).sigma.dtype == torch.float32


def test_noisier_needs_no_division():
    top, mid, end = L.level(0.0, 1.0), L.flow(0.5), L.clean()
    assert L.noisier(end, mid) and L.noisier(mid, top) and L.noisier(end, top)
    assert not L.noisier(mid, end) and not L.noisier(top, mid) and not L.noisier(mid, mid)
    assert not L.noisier(L.level([1.0, 1.0], [1.0, 1.0]), L.level([1.0, 1.0], [2.0, 0.5]))


def test_move_is_exact_for_a_point_mass_and_finite_at_both_ends():
    x0, eps = normal(5, 3), normal(5, 3, seed=1)
    for a, b in [
        (L.flow(1.0), L.flow(0.4)),
        (L.flow(0.4), L.clean()),
        (L.vp(-3.0), L.ve(0.7)),
        (L.level(0.0, 1.0), L.clean()),
    ]:
        assert_close(L.move(L.corrupt(x0, eps, a), x0, a, b), L.corrupt(x0, eps, b), rtol=0, atol=1e-12)


def test_move_is_ddim_euler_and_dpm_solver_1():
    x, x0, a, b = normal(4), normal(4, seed=1), L.vp(-1.0), L.vp(1.5)
    eps = (x - a.alpha * x0) / a.sigma
    assert_close(L.move(x, x0, a, b), b.alpha * x0 + b.sigma * eps)
    h = (b.logsnr - a.logsnr) / 2
    assert_close(L.move(x, x0, a, b), b.sigma / a.sigma * x - b.alpha * torch.expm1(-h) * x0)
    a, b = L.ve(3.0), L.ve(2.0)
    assert_close(L.move(x, x0, a, b), x + (b.sigma - a.sigma) * (x - x0) / a.sigma)


@pytest.mark.parametrize("family", FAMILIES)
def test_renoise_has_the_moments_of_the_forward_process(family):
    a, b = (FAMILIES[family](torch.tensor(v, dtype=torch.float64)) for v in (2.0, -1.0))
    eps = torch.ones(1, dtype=torch.float64)
    mean = L.renoise(a.alpha * eps, a, b, 0 * eps)  # of x0 = 1, no noise yet drawn
    assert_close(mean, b.alpha * eps)
    step = L.renoise(0 * eps, a, b, eps)
    assert_close((b.alpha / a.alpha * a.sigma) ** 2 + step**2, b.sigma**2 * eps)


def test_renoise_composes():
    a, b, c = L.vp(2.0), L.vp(0.0), L.vp(-2.0)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    by_way = L.renoise(L.renoise(zero, a, b, one), b, c, zero) ** 2 + L.renoise(zero, b, c, one) ** 2
    assert_close(by_way, L.renoise(zero, a, c, one) ** 2)
