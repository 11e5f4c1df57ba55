"""The forward process and its posterior: DDPM's published coefficients, Bayes' rule, and the library's own
steps.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.support import FAMILIES, normal
from unnoise.denoiser import Gaussian, Mixture
from unnoise.errors import BadInput
from unnoise.process import level, noise, posterior, predict, schedule
from unnoise.process.level import Level, corrupt, renoise
from unnoise.process.posterior import Normal, beta, beta_tilde, forward, kl, marginal, reverse, weights
from unnoise.sample import SAMPLERS, last
from unnoise.sample.ddim import posterior_std

EXACT = dict(rtol=1e-11, atol=1e-13)


def test_ddpm_levels_give_ddpm_coefficients():
    betas = np.linspace(1e-4, 0.02, 1000)
    abar = np.cumprod(1 - betas)
    b, now, past = (torch.from_numpy(v) for v in (betas[1:], abar[1:], abar[:-1]))
    t, s = (schedule.ddpm().at(np.arange(*span)) for span in ((1, 1000), (0, 999)))
    c0, ct = weights(t, s)
    close = dict(
        rtol=1e-10, atol=0
    )  # measured 8e-13: 1 - abar at t = 0 is 1e-4, so that four digits of sixteen are gone
    assert_close(beta(s, t), b, **close)
    assert_close(beta_tilde(t, s), b * (1 - past) / (1 - now), **close)
    assert_close(c0, past.sqrt() * b / (1 - now), **close)
    assert_close(ct, (1 - b).sqrt() * (1 - past) / (1 - now), **close)


def test_the_mean_in_eps_is_ddpms_algorithm_2():
    x0, eps, (s, t) = normal(3, 2), normal(3, 2, seed=1), (schedule.ddpm().at(k) for k in (399, 400))
    x, b = corrupt(x0, eps, t), beta(s, t)
    assert_close(
        reverse(x, x0, t, s).mean, (x - b / t.sigma * eps) / (1 - b).sqrt(), **EXACT
    )  # measured 2e-15


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    lam=st.floats(-8, 8),
    step=st.floats(0.01, 8),
    seed=st.integers(0, 99),
)
def test_two_steps_are_one_and_bayes_rule_holds(family, lam, step, seed):
    s, t = (FAMILIES[family](torch.tensor(k, dtype=torch.float64)) for k in (lam + step, lam))
    x0, xs, xt = (
        corrupt(normal(4, 2, 3, seed=seed), normal(4, 2, 3, seed=seed + k), l)
        for k, l in ((1, level.clean()), (2, s), (3, t))
    )
    r = t.alpha / s.alpha
    assert_close(r * s.alpha, t.alpha, **EXACT)
    assert_close(r**2 * s.sigma**2 + beta(s, t), t.sigma**2, **EXACT)
    there = forward(xs, s, t).logp(xt) + marginal(x0, s).logp(xs)
    back = reverse(xt, x0, t, s).logp(xs) + marginal(x0, t).logp(xt)
    assert_close(
        there, back, rtol=1e-9, atol=1e-6
    )  # measured 9e-14 relative: 1 - k^2 loses digits in the shortest steps


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_those_of_the_librarys_own_steps(family):
    s, t = (FAMILIES[family](torch.tensor(k, dtype=torch.float64)) for k in (1.0, -1.5))
    x, eps, x0 = normal(3, 2), normal(3, 2, seed=1), normal(3, 2, seed=2)
    assert_close(marginal(x0, t).sample(eps), corrupt(x0, eps, t), **EXACT)
    assert_close(forward(x, s, t).sample(eps), renoise(x, s, t, eps), **EXACT)
    assert_close(beta_tilde(t, s), posterior_std(t, s) ** 2, **EXACT)
    step = last(SAMPLERS["ddpm"](lambda *_: x0, x, [t, s], lambda *_: eps))
    assert_close(reverse(x, x0, t, s).sample(eps), step, **EXACT)


def test_finite_at_both_ends_and_one_level_a_sample():
    x, x0 = normal(3, 2, 2), normal(3, 2, 2, seed=1)
    t, s = level.level([0.0, 0.6, 0.8], [1.0, 0.8, 0.6]), level.level([0.6, 1.0, 0.8], [0.8, 0.0, 0.6])
    q = reverse(x, x0, t, s)
    assert_close(q.mean[0], 0.6 * x0[0])
    assert_close(q.mean[1], x0[1])
    assert_close(q.mean[2], x[2])
    assert_close(q.var, torch.tensor([0.64, 0.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-15)
    for i in range(3):
        one = [Level(l.alpha[i], l.sigma[i]) for l in (t, s)]
        assert_close(reverse(x[i : i + 1], x0[i : i + 1], *one).mean[0], q.mean[i], **EXACT)


def test_half_precision_keeps_its_type_and_the_levels_theirs():
    t, s, x = level.vp(-1), level.vp(1), normal(2, 3).half()
    q = reverse(x, x, t, s)
    assert (
        q.mean.dtype == q.sample(x).dtype == torch.float16 and q.var.dtype == q.logp(x).dtype == torch.float64
    )


@pytest.mark.parametrize(
    "var", [torch.tensor(0.3), torch.tensor([0.3, 2.0]), normal(2, 3).exp()], ids=["all", "sample", "entry"]
)
def test_logp_and_kl_are_torchs(var):
    p, q, x = Normal(normal(2, 3), torch.tensor(0.7)), Normal(normal(2, 3, seed=1), var), normal(2, 3, seed=2)
    wide = var if var.ndim == 2 else var.reshape(-1, 1).expand(2, 3)
    dist = torch.distributions.Normal(q.mean, wide.double().sqrt())
    assert_close(q.logp(x), dist.log_prob(x).sum(1))
    assert_close(
        kl(p, q),
        torch.distributions.kl_divergence(
            torch.distributions.Normal(p.mean, p.var.double().sqrt()), dist
        ).sum(1),
    )
    assert_close(q.sample(x), q.mean + wide.sqrt() * x)


@pytest.mark.parametrize("given", predict.KINDS)
@pytest.mark.parametrize("wanted", predict.KINDS)
def test_any_parameterisation_from_any_other(given, wanted):
    l, x0, eps = (
        level.vp(torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64)),
        normal(3, 2),
        normal(3, 2, seed=1),
    )
    a, b = predict.KINDS[given], predict.KINDS[wanted]
    got = posterior.convert(predict.target(a, x0, eps, l), corrupt(x0, eps, l), l, a, b)
    assert_close(got, predict.target(b, x0, eps, l), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "world", [Gaussian([1.0, -2.0], [0.3, 2.0]), Mixture.ring()], ids=["gaussian", "ring"]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_score_of_a_denoiser_is_the_densitys(world, family):
    l, x = FAMILIES[family](torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)), normal(3, 2)
    s = posterior.score(world)(x, l)
    assert_close(s, world.score(x, l), **EXACT)
    assert_close(posterior.convert(world(x, l), x, l, predict.x0, predict.score), s, **EXACT)
    assert_close(posterior.convert(s, x, l, predict.score, predict.x0), world(x, l), **EXACT)


@pytest.mark.parametrize(
    "t, s",
    [
        (level.vp(1), level.vp(-1)),
        (level.clean(), level.clean()),
        (level.level(0.0, 1.0), level.level(0.0, 1.0)),
        (level.ve([1.0, 0.1]), level.ve([0.5, 0.5])),
    ],
    ids=["upside-down", "clean", "noise", "one"],
)
def test_levels_in_the_wrong_order_are_refused(t, s):
    for f in (
        beta_tilde,
        weights,
        lambda t, s: beta(s, t),
        lambda t, s: reverse(normal(2, 1), normal(2, 1), t, s),
    ):
        with pytest.raises(BadInput, match="no less noise than x_s") as e:
            f(t, s)
        assert "\n" not in str(e.value)


def test_a_chain_of_true_posteriors_ends_on_the_data():
    # x_T … x_0 drawn backwards with the true x0: each x_s must be distributed as q(x_s | x0).
    path, x0, draw = schedule.cosine().path(10), torch.full((20000, 1), 1.7, dtype=torch.float64), noise.zeros
    x = corrupt(x0, normal(20000, 1), path[0])
    for i, (t, s) in enumerate(pairwise(path[:-1])):
        x = reverse(x, x0, t, s).sample(normal(20000, 1, seed=i + 1))
        assert (
            abs(x.mean() - 1.7 * s.alpha) < 4 * s.sigma / 20000**0.5 and abs(x.std() / s.sigma - 1) < 0.02
        )  # 4 s.e. each
    assert_close(reverse(x, x0, path[-2], path[-1]).sample(draw(x)), x0)
