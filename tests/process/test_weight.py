import math

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from unnoise.errors import BadInput
from unnoise.process import predict, schedule
from unnoise.process import weight as W
from unnoise.process.level import Level, flow, level, ve, vp
from unnoise.process.noise import uniform

L = vp(torch.linspace(-8, 8, 33, dtype=torch.float64))
SNR = L.logsnr.exp()
TOP = level(0.0, 1.0)


@pytest.mark.parametrize(
    "weight, kind, level_of",
    [
        (W.snr, predict.eps, L),
        (W.uniform, predict.x0, L),
        (W.v, predict.v, L),
        (W.edm(0.5), predict.edm(0.5), L),
        (W.edm(0.66), predict.edm(0.66), ve(SNR)),
    ],
    ids=["snr-eps", "uniform-x0", "v-v", "edm-edm", "edm-edm-ve"],
)
def test_each_space_has_the_weight_that_is_its_plain_mse(weight, kind, level_of):
    assert_close(W.in_space(weight, kind)(level_of), torch.ones_like(level_of.sigma), rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", predict.KINDS.values(), ids=predict.KINDS)
@pytest.mark.parametrize("name", W.WEIGHTS)
def test_one_weight_is_one_loss_in_every_space(name, kind):
    # The error of an x0 estimate, and the error of the same estimate seen as this network's output, weigh the
    # same.
    x, x0, wrong = (
        torch.randn(33, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in range(3)
    )
    out = [predict.target(kind, e, (x - L.alpha * e) / L.sigma, L) for e in (x0, wrong)]
    w = W.weight(name)
    assert_close(W.in_space(w, kind)(L) * (out[0] - out[1]) ** 2, w(L) * (x0 - wrong) ** 2, rtol=1e-8, atol=0)


def test_published_forms():
    assert_close(W.min_snr(5.0)(L), SNR.clamp(max=5))
    assert_close(W.in_space(W.min_snr(5.0), predict.eps)(L), SNR.clamp(max=5) / SNR)
    assert_close(W.in_space(W.min_snr(5.0), predict.v)(L), SNR.clamp(max=5) / (SNR + 1))
    assert_close(W.truncated(L), SNR.clamp(min=1))
    assert_close(W.in_space(W.p2(1.0, 0.5), predict.eps)(L), (1 + SNR) ** -0.5)
    s = L.ratio
    assert_close(W.edm(0.5)(L), (s**2 + 0.25) / (s * 0.5) ** 2)
    assert_close(W.soft_min_snr(0.5)(L) / W.edm(0.5)(L), (s * 0.5) ** 2 / (s**2 + 0.25) ** 2)


@pytest.mark.parametrize("name", W.WEIGHTS)
@pytest.mark.parametrize("kind", ["eps", "x0", "v", "velocity", "edm"])
def test_finite_at_zero_snr(name, kind):
    for l in (TOP, Level(torch.zeros(2), torch.ones(2))):  # float32 too
        w = W.in_space(W.weight(name), predict.kind(kind))(l)
        assert w.isfinite().all() and (w >= 0).all()
    assert W.in_space(W.min_snr(5.0), predict.v)(TOP) == 0 and W.in_space(W.v, predict.v)(TOP) == 1


@pytest.mark.parametrize(
    "call", [lambda: W.weight("min-snr"), lambda: W.weight("min_snr", gama=1.0), lambda: W.weight("snr", k=1)]
)
def test_unknown_weights_and_options_are_refused(call):
    with pytest.raises(BadInput) as e:
        call()
    assert "\n" not in str(e.value)


# --- densities ----------------------------------------------------------------------------------------------

U = uniform(0, "levels", 0, (20_000,))


def fits(sample: torch.Tensor, cdf) -> bool:
    return stats.kstest(sample.numpy(), cdf).pvalue > 1e-3


def test_marginals():
    l = W.lognormal(-1.2, 1.2)(U)
    assert fits(l.sigma.log(), stats.norm(-1.2, 1.2).cdf) and (l.alpha == 1).all()
    l = W.logit_normal(0.5, 0.8)(U)
    assert fits((l.sigma / l.alpha).log(), stats.norm(0.5, 0.8).cdf) and torch.allclose(
        l.alpha + l.sigma, torch.ones(1).double()
    )
    assert fits(W.along(schedule.flow())(U).sigma, "uniform")
    s = schedule.scaled_linear()
    assert fits(s.time(W.along(s)(U)), "uniform")


def test_discrete_density_draws_every_whole_time_alike():
    s = schedule.ddpm(T=20)
    t = s.timestep(W.discrete(s)(U))
    assert_close(t, t.round(), rtol=0, atol=1e-9)
    counts = torch.bincount(t.round().long(), minlength=20).double().numpy()
    assert len(counts) == 20 and stats.chisquare(counts).pvalue > 1e-3
    edge = torch.tensor([0.0, math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert s.timestep(W.discrete(s)(edge)).round().tolist() == [0, 19]


@pytest.mark.parametrize(
    "density", [W.lognormal(), W.logit_normal(), W.along(schedule.cosine()), W.discrete(schedule.ddpm())]
)
def test_densities_are_finite_at_the_ends_of_the_uniforms(density):
    l = density(torch.tensor([0.0, math.nextafter(1.0, 0.0)], dtype=torch.float64))
    assert l.alpha.isfinite().all() and l.sigma.isfinite().all() and (l.sigma > 0).all()


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_stratified_puts_one_in_each_stratum(n):
    out = W.stratified(uniform(3, "levels", 0, (n,)))
    assert sorted((out * n).long().tolist()) == list(range(n)) and out.min() >= 0 and out.max() < 1


def test_stratified_marginal_of_each_place_is_uniform():
    draws = torch.stack([W.stratified(uniform(k, "levels", 0, (8,))) for k in range(3000)])
    for i in (0, 3, 7):
        assert fits(draws[:, i], "uniform")
    assert (
        abs(float(torch.corrcoef(draws[:, :2].T)[0, 1]) + 1 / 7) < 0.06
    )  # places share the strata, and nothing else
    assert float(draws.mean(1).std()) < 0.3 * 12**-0.5 / 8**0.5  # what stratifying is for
    assert fits((draws * 8 % 1).flatten(), "uniform")


def test_flow_levels_weigh_as_their_ratio():
    assert_close(W.snr(flow(0.25)), torch.tensor(9.0, dtype=torch.float64))
