"""Likelihoods against closed forms. For Gaussian data every term of the bound is a polynomial of second
degree in (x0, eps), so a few nodes of Gauss-Hermite quadrature, given as samples and noise, yield its exact
expectation: no Monte Carlo error hides a mistake.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.sample.worlds import quick
from tests.support import FAMILIES, grid, normal
from unnoise.codec import Pixels
from unnoise.denoiser import Gaussian, Mixture
from unnoise.errors import BadInput
from unnoise.evaluate import likelihood
from unnoise.evaluate.likelihood import (
    Bound,
    bits,
    bound,
    dequantise,
    discretised,
    expectation,
    flow,
    interpolated,
)
from unnoise.process import level, schedule
from unnoise.process.level import Level
from unnoise.process.noise import seeded
from unnoise.process.posterior import Normal, beta_tilde, forward, weights
from unnoise.sample.ddim import forward_std

STD, LOG2 = 0.5, math.log(2)
WORLD = Gaussian(0.0, STD**2)
ENTROPY = math.log(2 * math.pi * math.e * STD**2) / 2
RING = Mixture.ring()


def f64(v):
    return torch.tensor(v, dtype=torch.float64)


def hermite(n):
    """Nodes and weights for an expectation over N(0, 1)."""
    z, w = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(z), torch.from_numpy(w / w.sum())


def exact_bound(path, variance, std=STD, **options):
    """The expected terms of the bound for N(0, std^2), (T + 1,)."""
    z, w = hermite(3)
    x0, eps = std * z.repeat_interleave(3)[:, None], z.repeat(3)[:, None]
    return (w[:, None] * w).flatten() @ bound(
        Gaussian(0.0, std**2), x0, path, lambda *_: eps, variance, None, **options
    ).terms


def closed_form(path, var_of, std=STD):
    """The same by hand: E |x0 - E[x0 | x]|^2 = v = std^2 sigma^2 / (alpha^2 std^2 + sigma^2)."""
    v, top, terms = lambda l: std**2 * l.sigma**2 / (l.alpha**2 * std**2 + l.sigma**2), path[0], []
    unit = top.alpha**2 + top.sigma**2
    terms.append(((top.alpha**2 * std**2 + top.sigma**2) / unit - 1 - (top.sigma**2 / unit).log()) / 2)
    for a, b in pairwise(path[:-1]):
        var, small = var_of(a, b), beta_tilde(a, b)
        terms.append((small / var - 1 + (var / small).log() + weights(a, b)[0] ** 2 * v(a) / var) / 2)
    var = var_of(*path[-2:])
    return torch.stack([*terms, ((2 * math.pi * var).log() + v(path[-2]) / var) / 2])


def true_variance(x, a, b, first, std=STD):
    """Var[x_b | x_a] for N(0, std^2): with it the model's reverse process is the data's own."""
    one = f64([[1.0]])
    v, r = std**2, forward(one, b, a).mean[0, 0]
    return (v * b.alpha**2 + b.sigma**2) - r**2 * (v * b.alpha**2 + b.sigma**2) ** 2 / (
        v * a.alpha**2 + a.sigma**2
    )


# --- the bound, term by term --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_terms_are_the_closed_form(family):
    path = [*grid(family, 7, -9, 9), level.clean()]
    first = beta_tilde(path[-3], path[-2])
    large = lambda a, b: first if b.clean else forward_std(a, b) ** 2
    small = lambda a, b: first if b.clean else beta_tilde(a, b)
    mixed = lambda a, b: (forward_std(a, b) ** 2) ** 0.3 * small(a, b) ** 0.7
    for variance, var_of in (
        ("large", large),
        ("small", small),
        ("beta", lambda a, b: forward_std(a, b) ** 2),
        (interpolated(lambda x, l: f64(0.3)), mixed),
        (lambda x, a, b, f: a.sigma**2, lambda a, b: a.sigma**2),
    ):
        assert_close(
            exact_bound(path, variance), closed_form(path, var_of), rtol=1e-11, atol=1e-13
        )  # measured 4e-15


def test_on_ddpm_levels_the_variances_are_ddpms():
    betas, seen = np.linspace(1e-4, 0.02, 1000), []
    abar, path = np.cumprod(1 - betas), schedule.ddpm().path(1000)
    one = f64([[0.0]])
    for name in ("large", "small", "beta"):
        rule = likelihood.VARIANCES[name]
        seen.append(
            np.array([rule(one, a, b, beta_tilde(path[-3], path[-2])).item() for a, b in pairwise(path)])[
                ::-1
            ]
        )
    tilde = betas[1:] * (1 - abar[:-1]) / (1 - abar[1:])
    close = dict(rtol=1e-10, atol=0)  # measured 8e-13
    np.testing.assert_allclose(
        seen[0], np.r_[tilde[0], betas[1:]], **close
    )  # var[0] := beta~_1 of the code (from 0), not beta_0
    np.testing.assert_allclose(seen[1], np.r_[tilde[0], tilde], **close)
    np.testing.assert_allclose(seen[2], betas, **close)


def test_prior_term_is_the_published_one():
    x0 = f64([[0.5, -0.5], [-0.5, 0.5]])  # variance 0.25
    for path, want in ((schedule.ddpm().path(2), 7.28e-6), (schedule.scaled_linear().path(2), 8.48e-4)):
        found = bound(WORLD, x0, path, bins=None).each().mean[0]
        assert abs(found / want - 1) < 1e-3  # measured 7.279e-06 and 8.482e-04 bits a dimension
    # A prior of another width: KL(N(0, s^2) || N(0, 2^2)) at pure noise.
    top = bound(WORLD, x0, [level.flow(1.0), level.flow(0.5), level.clean()], bins=None, prior=2.0).prior
    assert_close(top, f64([0.25 - 1 + math.log(4)] * 2))


@pytest.mark.parametrize("name", ["ddpm", "cosine"])
def test_gap_to_the_entropy_closes_as_steps_grow(name):
    gaps = [
        (exact_bound(schedule.SCHEDULES[name]().path(T), "beta").sum().item() - ENTROPY) / LOG2
        for T in (10, 50, 250, 1000)
    ]
    want = {"ddpm": [0.13525, 0.03075, 0.00628, 0.00158], "cosine": [0.08206, 0.01744, 0.00352, 0.00088]}[
        name
    ]  # closed form, bits
    assert all(a > b > 0 for a, b in pairwise(gaps))
    assert_close(torch.tensor(gaps), torch.tensor(want), rtol=0, atol=6e-6)  # measured: the five places


def test_the_true_variance_makes_the_bound_tight_at_any_number_of_steps():
    for path in (schedule.cosine().path(2), schedule.flow().path(5), schedule.cosine().path(1)):
        gap = exact_bound(path, true_variance).sum() - ENTROPY
        assert -1e-12 < gap < 1e-9  # measured 1e-16, -2e-16, -1e-16
    assert exact_bound(schedule.cosine().path(5), "small").sum() - ENTROPY > 0.1


def test_one_level_has_a_prior_and_a_decoder_of_variance_beta():
    only, x0, z = level.vp(-3.0), normal(3, 2), normal(3, 2, seed=1)
    found = bound(WORLD, x0, [only, level.clean()], lambda *_: z, bins=None)
    assert found.terms.shape == (3, 2) and found.steps.shape == (3, 0)
    guess = WORLD(only.alpha * x0 + only.sigma * z, only)
    assert_close(found.data, -torch.distributions.Normal(guess, only.sigma).log_prob(x0).sum(1))
    assert_close(found.prior, ((only.alpha * x0) ** 2 + only.sigma**2 - 1 - 2 * only.sigma.log()).sum(1) / 2)


def test_pixels_cost_no_less_than_their_entropy():
    # Data on 16 grey values, all of them with their weights, and 40 nodes of noise: the expected bound to
    # 1e-4.
    k, (z, w) = torch.arange(16).double(), hermite(40)
    grey = 2 * k / 15 - 1
    mass = (-(((grey + 0.2) / 0.5) ** 2)).exp() + 0.3 * (-(((grey - 0.7) / 0.1) ** 2)).exp()
    world, mass = Mixture(grey, 0.0, mass), mass / mass.sum()
    entropy = -(mass * mass.log2()).sum().item()
    x0, eps, weight = (
        grey.repeat_interleave(40)[:, None],
        z.repeat(16)[:, None],
        (mass[:, None] * w).flatten(),
    )

    def gap(T, variance):
        return (
            weight @ bound(world, x0, schedule.cosine().path(T), lambda *_: eps, variance, 16).total
        ).item() / LOG2 - entropy

    small = [gap(T, "small") for T in (50, 250, 1000)]
    assert (
        small[0] > small[1] > small[2] > 0 and small[2] < 0.11
    )  # measured 1.1686, 0.4937, 0.1038: points are what beta~ is right for
    assert (
        0 < gap(50, "large") < gap(50, interpolated(lambda x, l: 0.9 + 0 * l.sigma)) < 0.2
    )  # measured 0.1064, 0.1248


def test_errors_are_those_of_repeated_runs():
    path = schedule.cosine().path(3)
    runs = [bound(WORLD, WORLD.sample(200, seed=i), path, quick(i), "beta", None) for i in range(60)]
    means, errors = (torch.stack([getattr(r.mean(), f) for r in runs]) for f in ("mean", "error"))
    assert abs(means.std() / errors.mean() - 1) < 0.3  # 3 s.e. of a deviation from 60 runs; measured 1.02
    each = torch.stack([r.each().mean for r in runs])
    assert_close(each.sum(1), means)
    truth = closed_form(path, lambda a, b: forward_std(a, b) ** 2) / LOG2
    assert ((each.mean(0) - truth).abs() < 4 * each.std(0) / 60**0.5 + 1e-9).all()  # measured within 0.9 s.e.


def test_a_sample_does_not_depend_on_its_batch_and_images_are_counted_whole():
    grey, path = (
        torch.randint(256, (3, 1, 2, 2), generator=torch.Generator().manual_seed(0)),
        schedule.cosine().path(4),
    )
    x0 = 2 * grey.double() / 255 - 1
    many, one = (bound(WORLD, x, path, seeded(s)) for x, s in ((x0, [4, 5, 6]), (x0[1:2], [5])))
    assert torch.equal(many.terms[1:2], one.terms) and many.dim == 4
    assert_close(many.mean().mean, many.total.mean() / (4 * LOG2))
    flat = bound(lambda x, l: WORLD(x, l), x0.flatten(1), path, lambda like, *_: normal(*like.shape))
    whole = bound(WORLD, x0, path, lambda like, *_: normal(3, 4).reshape(like.shape))
    assert_close(flat.terms, whole.terms)


def test_a_learned_variance_may_differ_from_pixel_to_pixel():
    path, x0, z = schedule.cosine().path(4), normal(2, 3), normal(2, 3, seed=1)
    v = f64([[0.0, 0.5, 1.0], [0.2, 0.4, 0.6]])
    found = bound(WORLD, x0, path, lambda *_: z, interpolated(lambda x, l: v), None).terms
    for i in range(2):
        alone = [
            bound(
                WORLD,
                x0[i : i + 1, j : j + 1],
                path,
                lambda *_, i=i, j=j: z[i : i + 1, j : j + 1],
                interpolated(lambda x, l, u=u: u),
                None,
            )
            for j, u in enumerate(v[i])
        ]
        assert_close(found[i], sum(b.terms[0] for b in alone))


def test_the_step_is_differentiable_in_the_variance_and_the_net():
    a, b, x0 = level.vp(-1), level.vp(0.5), normal(3, 2)
    v, shift = f64(0.3).requires_grad_(), f64(0.1).requires_grad_()
    x = a.alpha * x0 + a.sigma * normal(3, 2, seed=1)
    nats = likelihood.term(
        lambda x, l: WORLD(x, l) + shift, x0, x, a, b, interpolated(lambda x, l: v)(x, a, b, a.sigma)
    ).sum()
    dv, ds = torch.autograd.grad(nats, (v, shift))
    var, error = beta_tilde(a, b) ** 0.7 * forward_std(a, b) ** 0.6, WORLD(x, a) + 0.1 - x0
    c = weights(a, b)[0] ** 2 / var
    assert_close(ds, c * error.sum())
    ratio = (forward_std(a, b) ** 2 / beta_tilde(a, b)).log()  # d log var / dv
    assert_close(dv, ratio * (6 - 6 * beta_tilde(a, b) / var - c * error.square().sum()) / 2)


# --- the decoder --------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(mean=st.floats(-5, 5), std=st.floats(1e-6, 100), bins=st.sampled_from([2, 3, 16, 256]))
def test_bins_share_the_whole_mass(mean, std, bins):
    grey = (2 * torch.arange(bins).double() / (bins - 1) - 1)[:, None]
    log = discretised(grey, Normal(f64([[mean]] * bins), f64(std**2)), bins)
    assert abs(log.exp().sum() - 1) < 1e-9  # reference: 1e-3, by tanh; measured 3e-15


@pytest.mark.parametrize("bins", [2, 16, 256])
def test_bins_are_intervals_around_their_values_and_open_at_the_ends(bins):
    k, half, mean = torch.arange(bins).double(), 1 / (bins - 1), 0.21
    normal_ = torch.distributions.Normal(f64(mean), f64(0.3))
    upper, lower = normal_.cdf(2 * k * half - 1 + half), normal_.cdf(2 * k * half - 1 - half)
    upper[-1], lower[0] = 1, 0
    p = Normal(f64([[mean] * bins]), f64(0.09))
    assert_close(
        discretised((2 * k * half - 1)[None], p, bins).exp()[0], upper - lower, rtol=1e-9, atol=1e-15
    )


def test_far_tails_are_exact_on_both_sides():
    # 80 and 160 deviations out, where a difference of integrals is 0: log P ~ -t^2 / 2 - log(t sqrt(2 pi)) at
    # the near edge t.
    x0 = f64([[-1.0, 1.0, 1 / 255, -1 / 255]])
    log = discretised(x0, Normal(f64([[1.0, -1.0, -1.0, 1.0]]), f64(0.0125**2)))
    near = f64([2 - 1 / 255, 2 - 1 / 255, 1.0, 1.0]) / 0.0125
    want = -(near**2) / 2 - (near * math.sqrt(2 * math.pi)).log() + torch.log1p(-1 / near**2)
    assert_close(log[0], want, rtol=1e-9, atol=0)
    assert log[0, 0] == log[0, 1] and log[0, 2] == log[0, 3]


def test_float32_pixels_of_the_codec_are_on_the_grid():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x0 = Pixels(16, 16, 1).encode(images)
    log = discretised(x0, Normal(x0, torch.tensor(1e-10)))
    assert log.shape == x0.shape and log.abs().max() < 1e-12  # each is certain of its own bin


@pytest.mark.parametrize("x0", [[[0.0]], [[1.02]], [[-1 - 2 / 255]], [[math.nan]]])
def test_values_off_the_grid_are_refused(x0):
    x0 = f64(x0)
    for call in (
        lambda: discretised(x0, Normal(x0, torch.tensor(1.0))),
        lambda: bound(WORLD, x0, schedule.ddpm().path(3)),
        lambda: dequantise(x0, [0]),
    ):
        with pytest.raises(BadInput, match="256 even values from -1 to 1"):
            call()


# --- bits and dequantisation --------------------------------------------------------------------------------


def test_bits_are_per_dimension_with_the_offset_of_the_bin():
    nats = torch.tensor([LOG2, 20 * LOG2])
    assert_close(bits(nats, 10), torch.tensor([0.1, 2.0]))
    for width, offset in ((2 / 256, 7), (1 / 256, 8), (2 / 255, 6.994353)):
        assert_close(bits(nats, 10, width), torch.tensor([0.1, 2.0]) + offset)


def test_dequantised_data_fill_their_bins_and_bound_the_mass_there():
    n = 5000
    x0 = f64([[2 * 100 / 255 - 1, 1.0]]).repeat(n, 1)
    x, width = dequantise(x0, range(n))
    assert width == 2 / 255 and (x - x0).abs().max() < width / 2
    assert (
        abs((x - x0).mean()) < 4 * width / (24 * n) ** 0.5
        and abs((x - x0).std() / (width / 12**0.5) - 1) < 0.03
    )  # measured 0.004
    assert torch.equal(dequantise(x0[7:8], [7])[0], x[7:8]) and not torch.equal(x[0], x[1])
    for std in (0.5, 0.003):  # smooth over the bin, and not: there the bound is loose
        world, p = Gaussian(x0[0], std**2), torch.distributions.Normal(f64(0.0), f64(std))
        mass = -(p.cdf(f64(width / 2)) - p.cdf(f64(-width / 2))).log2()
        nats = math.log(2 * math.pi * std**2) / 2 + width**2 / (24 * std**2)  # the mean over the bin
        gap = (bits(-world.logp(x, level.clean()), 2, width).mean() - mass).item()
        assert gap == pytest.approx(
            (nats / LOG2 - math.log2(width) - mass).item(), abs=0.01
        )  # measured -2e-7 of 0, 0.042 of 0.044
        assert std == 0.5 or gap > 0.03


# --- the exact likelihood -----------------------------------------------------------------------------------


def fine(family, n):
    """sigma / alpha from 80 to 0.001, and clean."""
    return [*grid(family, n, -2 * math.log(80), 2 * math.log(1000)), level.clean()]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rule, steps, bound_", [("rk4", 50, 0.001), ("heun", 100, 0.01)])
def test_flow_gives_the_density_of_a_ring(family, rule, steps, bound_):
    x = RING.sample(100, 1)
    found, truth = flow(RING, x, fine(family, steps), None, rule=rule).logp, RING.logp(x, level.clean())
    assert (
        (found - truth).abs().mean() < bound_
    )  # measured 2.1e-4 and 2.8e-3 nats in each family (reference: 0.079 and 0.0048 at 50, 200)
    assert truth.std() > 0.5


def test_flow_errs_no_more_than_the_reference_at_its_levels():
    x = RING.sample(100, 1)
    truth = RING.logp(x, level.clean())
    for top, steps, allowed in ((10, 50, 0.029), (80, 50, 0.079), (80, 200, 0.0048)):
        path = [level.ve(s) for s in torch.logspace(math.log10(top), -3, steps + 1, dtype=torch.float64)]
        assert (
            flow(RING, x, path, None, rule="heun").logp - truth
        ).abs().mean() < allowed  # measured 0.0080, 0.0100, 0.0007


def test_flow_starts_from_pure_noise_and_from_any_frame():
    x = RING.sample(50, 1)
    path = schedule.flow().path(60, "logsnr")
    assert path[0].alpha == 0
    truth = RING.logp(x, level.ve(path[-2].ratio))  # of the data blurred by the last noise
    one = flow(RING, x, path, None)
    assert (one.logp - truth).abs().mean() < 0.001  # measured 1.0e-4
    scaled = flow(RING, x, [*(Level(3 * l.alpha, 3 * l.sigma) for l in path[:-1]), level.clean()], None)
    assert_close(scaled.logp, one.logp, rtol=0, atol=1e-9)
    assert_close(scaled.z, 3 * one.z, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rule, order", [("heun", 2), ("rk4", 4)])
def test_rules_have_their_order(rule, order):
    x, world = normal(20, 2), Mixture([[-1.0, 0.0], [1.0, 0.5]], 0.6)

    def run(n):
        return flow(world, x, grid("vp", n, -3, 3), None, rule=rule)

    truth, errors = run(320 if order == 2 else 160), []
    for n in (10, 20, 40):
        errors.append([(a - b).abs().max().item() for a, b in zip(run(n), truth)])
    for a, b in pairwise(errors):
        slopes = [math.log2(u / v) for u, v in zip(a, b)]
        assert all(abs(s - order) < 0.15 for s in slopes), slopes  # measured 2.01 to 2.02; 3.94 to 4.03


def test_the_latent_is_where_the_exact_flow_leads():
    world = Gaussian([1.0, -2.0], f64([[1.0, 0.6], [0.6, 0.5]]))
    x, path = world.sample(20), grid("flow", 80, -8, 8)
    found = flow(world, x, path, None)
    start = path[-1]
    assert_close(found.z, world.flow(start.alpha * x, start, path[0]), rtol=0, atol=2e-6)  # measured 3e-7
    wide = flow(world, x, path, None, prior=3.0)
    scale = torch.hypot(*path[0])
    other = Normal(torch.zeros(20, 2).double(), f64(9.0)).logp(found.z) - Normal(0 * x, scale**2).logp(
        found.z
    )
    assert_close(wide.logp - found.logp, other)


COV = f64([[1.0, 0.8, 0.3], [0.8, 1.0, 0.2], [0.3, 0.2, 0.6]])


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased_with_the_variance_of_its_kind(probe):
    # For N(0, C) the integral of the Jacobian is A = log(S_top S_low^-1) / 2 at unit scale: Var = 2 |A|^2, or
    # 2 |off-diagonal A|^2.
    world, path, n = Gaussian(0.0, COV), grid("vp", 20, -6, 6), 3000
    x = world.sample(1).expand(n, 3)
    exact, found = flow(world, x[:1], path, None).logp, flow(world, x, path, probe, seeds=range(n)).logp
    assert abs(found.mean() - exact) < 3 * found.std() / n**0.5  # measured 1.1 and 0.1 s.e.
    v, q = torch.linalg.eigh(COV)
    low, top = ((l.alpha**2 * v + l.sigma**2) for l in (path[-1], path[0]))
    A = q @ ((top / low).log() / 2).diag() @ q.T
    want = 2 * (A**2).sum() - (0 if probe == "gaussian" else 2 * (A.diagonal() ** 2).sum())
    assert abs(found.var() / want - 1) < 0.12  # measured 1.005 and 1.054


def test_rademacher_varies_less_than_gaussian_on_the_ring_and_probes_average():
    x = RING.sample(1, 3).expand(1500, 2)
    path = fine("ve", 25)
    var = {
        (kind, m): flow(RING, x, path, kind, probes=m, rule="heun").logp.var().item()
        for kind, m in (("rademacher", 1), ("gaussian", 1), ("gaussian", 4))
    }
    assert var["rademacher", 1] < 0.85 * var["gaussian", 1]  # measured 0.68
    assert abs(4 * var["gaussian", 4] / var["gaussian", 1] - 1) < 0.25  # measured 0.99


def test_probes_are_of_each_samples_seed_and_images_work():
    world, x, path = (
        Gaussian(normal(1, 2, 2), normal(1, 2, 2, seed=1).exp()),
        normal(3, 1, 2, 2),
        grid("vp", 6, -5, 5),
    )
    many = flow(world, x, path, "gaussian", seeds=[7, 8, 9])
    assert_close(flow(world, x[1:2], path, "gaussian", seeds=[8]).logp, many.logp[1:2], rtol=0, atol=1e-12)
    assert_close(flow(world, x, path).logp, flow(world, x, path, "rademacher", range(3)).logp)
    assert not torch.allclose(many.logp, flow(world, x, path, "gaussian", seeds=[1, 2, 3]).logp)
    assert_close(
        flow(world, x, path).logp, flow(world, x, path, None).logp
    )  # a diagonal Jacobian leaves Rademacher no variance
    single = flow(world, x.float(), path)
    assert (
        single.z.dtype == torch.float32
        and single.logp.dtype == torch.float64
        and not single.logp.requires_grad
    )
    assert_close(single.logp, flow(world, x, path).logp, rtol=1e-4, atol=1e-4)


def test_calls_are_as_documented():
    calls, path = [], fine("vp", 5)
    count = lambda x, l: calls.append(l) or WORLD(x, l)
    for rule, each in (("heun", 2), ("rk4", 4)):
        calls.clear()
        flow(count, normal(2, 1), path, rule=rule)
        assert len(calls) == 5 * each
    calls.clear()
    bound(count, normal(2, 1), path, bins=None)
    assert len(calls) == 6


# --- expectations -------------------------------------------------------------------------------------------


def test_expectation_is_the_mean_and_its_error_covers_the_truth():
    off = []
    for i in range(200):
        got = expectation(lambda x: torch.stack([x[:, 0] ** 2, x[:, 0] * x[:, 1]], 1), normal(400, 2, seed=i))
        assert got.mean.shape == got.error.shape == (2,)
        off.append((got.mean - torch.tensor([1.0, 0.0])) / got.error)
    off = torch.stack(off)
    assert (off.std(0) - 1).abs().max() < 0.2 and (off.abs() < 2).double().mean() > 0.9  # measured 0.09, 0.95
    x = normal(50, 3)
    got = expectation(lambda x: x, x)
    assert_close(got.mean, x.mean(0))
    assert_close(got.error, x.std(0) / 50**0.5)


# --- what is refused ----------------------------------------------------------------------------------------

X, P = normal(3, 2), schedule.cosine().path(3)


@pytest.mark.parametrize(
    "call, says",
    [
        (
            lambda: bound(WORLD, X, P, variance="huge", bins=None),
            "unknown variance 'huge'.*small, beta, large",
        ),
        (lambda: bound(WORLD, X, P[:-1], bins=None), "a path that ends at sigma = 0"),
        (lambda: bound(WORLD, X, [P[1], P[0], P[3]], bins=None), "falls all the way: it goes up"),
        (
            lambda: bound(WORLD, X, [level.ve([1.0, 2.0, 3.0]), level.clean()], bins=None),
            "one level for the whole batch",
        ),
        (lambda: bound(WORLD, X, P, bins=1), "bins must be a whole number of at least 2"),
        (
            lambda: bound(WORLD, X, P, bins=None, prior=0.0),
            "prior must be a positive standard deviation, given 0.0",
        ),
        (lambda: bound(lambda x, l: x[:, :1], X, P, bins=None), r"gave shape \(3, 1\) for x of \(3, 2\)"),
        (lambda: flow(WORLD, X, P, rule="euler"), "unknown rule 'euler'"),
        (lambda: flow(WORLD, X, P, "sphere"), "unknown probe 'sphere'.*rademacher, gaussian"),
        (lambda: flow(WORLD, X, P, probes=0), "count must be a whole number of at least 1"),
        (lambda: flow(WORLD, X, P, seeds=[1, 2]), "2 seeds for a batch of 3"),
        (lambda: flow(WORLD, X, P[2:]), "two or more levels with noise, given 1"),
        (lambda: flow(WORLD, X, P[:-1][::-1]), "falls all the way: it goes up"),
        (lambda: flow(lambda x, l: WORLD(x.detach(), l), X, P), "cannot be differentiated in x"),
        (lambda: flow(lambda x, l: x[:, :1], X, P), r"given \(3, 1\)"),
        (lambda: dequantise(torch.ones(2, 1), [1]), "one seed a sample, 2, given 1"),
        (lambda: expectation(lambda x: x.sum(), X), r"given \(\) for 3 samples"),
        (lambda: expectation(lambda x: x, X[:1]), r"2 or more values, one a sample: given \(1, 2\)"),
        (lambda: expectation(lambda x: x / 0, X), "finite values"),
        (lambda: Bound(X[:1, 0], X[:1], X[:1, 0], 2).mean(), "2 or more values"),
    ],
)
def test_bad_input_is_told_in_one_line(call, says):
    with pytest.raises(BadInput, match=says) as e:
        call()
    assert "\n" not in str(e.value)
