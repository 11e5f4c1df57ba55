"""Chains driven by a score: stationary laws in closed form, the two conventions of a step, and what is told
when one fails.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from tests.support import normal
from unnoise.denoiser import Gaussian, Mixture
from unnoise.errors import BadInput
from unnoise.process import level, posterior
from unnoise.process.noise import seeded, zeros
from unnoise.sample import SAMPLERS, last
from unnoise.sample.mcmc import annealed, ascent, gradient, mala, ula

from .worlds import quick

UNIT = lambda x: -x.flatten(1).square().sum(1) / 2  # log density of N(0, I), not normalised
SCORE = lambda x: -x
TWO = Mixture([[-4.0], [4.0]], 1.0, [0.8, 0.2])  # far modes: nothing but annealing crosses between them
ones = lambda like, *_: torch.ones_like(like)
left = lambda x: (x < 0).double().mean().item()


def box(n):
    """The uniform start from which modes are reached by their basins, not by their weights."""
    return torch.rand(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 16 - 8


# --- ascent and ULA -----------------------------------------------------------------------------------------


def test_ascent_climbs_to_the_nearest_mode_and_stays():
    # On the ring the mode in a direction is at that angle; on N(0, C) the error shrinks by 1 - step / C in
    # each move.
    ring, angle = Mixture.ring(8, 1.0, 0.1), torch.arange(8).double() * math.pi / 4 + 0.2
    x = last(
        ascent(
            lambda x: ring.score(x, level.clean()),
            0.9 * torch.stack([angle.cos(), angle.sin()], 1),
            300,
            0.005,
        )
    )
    assert_close(x, ring.means, rtol=0, atol=1e-6)  # measured 1e-13
    visits = list(ascent(lambda x: -x / torch.tensor([1.0, 4.0]).double(), torch.ones(1, 2).double(), 5, 0.5))
    assert_close(
        torch.cat([v.x for v in visits]), torch.tensor([0.5, 0.875]).double() ** torch.arange(1, 6)[:, None]
    )


@pytest.mark.parametrize("step, var", [(0.01, 1.005025), (0.1, 1.052632), (0.5, 1.333333), (1.0, 2.0)])
def test_ula_has_the_stationary_variance_of_its_step(step, var):
    # The move is x -> decay x + kick z, whose stationary variance is kick^2 / (1 - decay^2) = 1 / (1 - step /
    # 2).
    zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    decay, kick = last(ula(SCORE, one, 1, step, zeros)).item(), last(ula(SCORE, zero, 1, step, ones)).item()
    assert (
        abs(kick**2 / (1 - decay**2) - 1 / (1 - step / 2)) < 1e-12
        and round(kick**2 / (1 - decay**2), 6) == var
    )
    assert last(ula(SCORE, one, 2, step, zeros)).item() == pytest.approx(
        decay**2, abs=1e-15
    )  # and so on from where it is


def test_ula_reaches_that_variance_from_elsewhere():
    for step, var in ((0.5, 1.3333), (1.0, 2.0)):
        x = last(ula(SCORE, normal(40_000, 1) / 3, 30, step, quick()))
        assert (
            abs(x.var().item() / var - 1) < 0.03 and abs(x.mean()) < 0.03
        )  # 4 s.e.; measured within 0.006 and 0.003


def test_a_papers_step_is_half_a_codes():
    x = normal(3, 2)
    one, two = (last(ula(SCORE, x, 4, s, seeded([1, 2, 3]), c)) for s, c in ((0.2, "paper"), (0.1, "code")))
    assert torch.equal(one, two)
    z = normal(3, 2, seed=5)
    assert_close(
        last(ula(SCORE, x, 1, 0.2, lambda *_: z, "paper")), x + 0.1 * -x + math.sqrt(0.2) * z
    )  # Song & Ermon, alg. 1
    assert_close(last(ula(SCORE, x, 1, 0.2, lambda *_: z, "code")), x + 0.2 * -x + math.sqrt(0.4) * z)


# --- MALA ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "d, step, accepted", [(1, 0.5, 0.921), (1, 1.0, 0.784), (64, 0.1, 0.929), (64, 0.3, 0.643)]
)
def test_mala_keeps_the_law_and_accepts_what_it_should(d, step, accepted):
    # Reference: .92, .78, .93, .65. Without the acceptance the variance would be 1.33, 2, 1.05 and 1.18.
    n = 20_000 if d == 1 else 1000
    *_, end = mala(UNIT, quick(7)(torch.empty(n, d).double()), 40, step, quick())
    assert abs(end.accepted.mean() - accepted) < 0.006  # measured .9211, .7841, .9295, .6455
    assert abs(end.x.var() - 1) < 4 * (2 / (n * d)) ** 0.5  # measured 0.986, 1.002, 1.005, 1.007
    assert abs((end.x**4).mean() - 3) < 4 * (96 / (n * d)) ** 0.5


def test_mala_needs_the_ratio_of_both_proposals():
    # In one move from a point, the acceptance is min(1, p(y) q(x|y) / (p(x) q(y|x))): here by hand, with
    # asymmetric q.
    x, e, z = torch.full((50_000, 1), 0.7).double(), 0.8, quick(5)(torch.empty(50_000, 1).double())
    first = iter([z, quick(6)(z)])
    visit = next(mala(UNIT, x, 1, e, lambda like, *_: next(first)))
    y = x - e * x + math.sqrt(2 * e) * z
    q = lambda b, a: torch.distributions.Normal(a - e * a, math.sqrt(2 * e)).log_prob(b)
    chance = (UNIT(y)[:, None] - UNIT(x)[:, None] + q(x, y) - q(y, x)).exp().clamp(max=1)
    assert abs(visit.accepted.mean() - chance.mean()) < 4 * 0.5 / 50_000**0.5  # measured 0.0019
    moved = visit.x != x
    assert torch.equal(moved[:, 0], visit.accepted == 1) and torch.equal(visit.x[moved], y[moved])
    for low, high in ((0, 0.5), (0.5, 0.9), (0.9, 1)):  # not only on average
        some = (chance > low) & (chance <= high)
        assert abs(moved[some].double().mean() - chance[some].mean()) < 2 / some.sum() ** 0.5


def test_mala_finds_a_law_that_is_no_gaussian_from_elsewhere():
    # p(x) ~ exp(-x^4 / 4): E x^2 = 2 Gamma(3/4) / Gamma(1/4) = 0.67598, E x^4 = 1.
    x = last(mala(lambda x: -(x**4).sum(1) / 4, torch.full((20_000, 1), 2.0).double(), 60, 0.3, quick()))
    assert (
        abs(x.square().mean() - 0.67598) < 0.02 and abs((x**4).mean() - 1) < 0.05
    )  # 4 s.e.; measured 0.6754, 1.003
    crooked = lambda x: -(x**3) + 0.5  # a wrong score only proposes badly
    x = last(
        mala(
            lambda x: -(x**4).sum(1) / 4,
            torch.full((20_000, 1), 1.0).double(),
            60,
            0.3,
            quick(),
            score=crooked,
        )
    )
    assert abs(x.square().mean() - 0.67598) < 0.02 and abs(x.mean()) < 0.025  # measured 0.682, 0.006


def test_mala_stays_where_there_is_density():
    # A standard normal cut off at 0: E x = sqrt(2 / pi).
    half = lambda x: torch.where(x[:, 0] > 0, UNIT(x), -math.inf)
    *_, end = mala(half, torch.ones(20_000, 1).double(), 60, 0.3, quick())
    assert (end.x > 0).all() and abs(
        end.x.mean() - math.sqrt(2 / math.pi)
    ) < 0.02  # measured 0.8023, 0.7979 the truth


def test_acceptance_is_reported_of_each_chain():
    x, states = normal(5, 2), []
    for v in mala(UNIT, x, 6, 1.5):
        states.append(v)
    moved = torch.stack([(b.x != a).any(1) for a, b in zip([x, *[v.x for v in states]], states)]).double()
    for k, v in enumerate(states, 1):
        assert_close(v.accepted.double(), moved[:k].mean(0), rtol=0, atol=1e-6)
    assert 0 < moved.mean() < 1 and all(torch.equal(v.accepted, torch.ones(5)) for v in ula(SCORE, x, 2, 0.1))


# --- annealed -----------------------------------------------------------------------------------------------


def test_annealing_finds_the_weights_that_plain_langevin_cannot():
    plain = last(ula(lambda x: TWO.score(x, level.clean()), box(4000), 200, 0.1, quick()))
    assert abs(left(plain) - 0.5) < 0.04  # measured 0.514: the shares of the box
    sigmas = torch.logspace(1, math.log10(0.3), 20, dtype=torch.float64)
    found = last(
        annealed(TWO.score, box(4000), sigmas, quick(), steps=50, step=0.3 * 0.3**2, convention="code")
    )
    assert abs(left(found) - 0.8) < 0.03  # measured 0.791


def test_annealed_sizes_are_the_papers_and_the_codes():
    # From 0 with z = 1 and no score, each move adds sqrt(2 e): e = (step / 2 or step) (sigma_i / sigma_L)^2.
    sigmas, x = [1.0, 0.1, 0.01], torch.zeros(1, 1).double()
    for convention, factor in (("paper", 0.5), ("code", 1.0)):
        visits = list(annealed(lambda x, l: 0 * x, x, sigmas, ones, 2, 2e-5, convention))
        want = [math.sqrt(2 * factor * 2e-5) * s / 0.01 for s in sigmas for _ in range(2)]
        assert_close(
            torch.cat([v.x for v in visits]).flatten(), torch.tensor(want, dtype=torch.float64).cumsum(0)
        )
    default, paper = (
        last(annealed(TWO.score, normal(2, 1), sigmas, **o))
        for o in ({}, dict(step=2e-5, steps=100, convention="paper"))
    )
    assert torch.equal(default, paper)


@pytest.mark.parametrize("denoise", [False, True])
def test_it_is_the_librarys_sampler_at_the_same_sizes(denoise):
    # The ladder's step is in units of sigma^2: 0.1 of it is the paper's 2e-5 at sigma_L = 0.01.
    x, sigmas = 3 * normal(4, 2), torch.logspace(1, -2, 10, dtype=torch.float64)
    world, noise = Gaussian([1.0, -2.0], [0.3, 2.0]), lambda: seeded(range(4), "same")
    mine = list(annealed(posterior.score(world), x, sigmas, noise(), 5, denoise=denoise))
    path = [*map(level.ve, sigmas), level.clean()]
    theirs = last(SAMPLERS["langevin"](world, x, path, noise(), steps=5, step=0.1))
    assert len(mine) == 50 + denoise
    if denoise:
        assert_close(mine[-1].x, theirs, rtol=0, atol=1e-11)
    else:
        assert_close(world(mine[-1].x, level.ve(0.01)), theirs, rtol=0, atol=1e-11)


def test_the_final_denoise_is_tweedies():
    x, sigmas = normal(3, 1), [2.0, 0.5]
    plain, clean = (
        last(annealed(TWO.score, x, sigmas, steps=3, step=0.01, denoise=d)) for d in (False, True)
    )
    assert_close(clean, TWO(plain, level.ve(0.5)), rtol=0, atol=1e-12)


# --- chains are the library's: seeded a sample, pure, lazy --------------------------------------------------

CHAINS = {
    "ascent": lambda x, noise=None: ascent(SCORE, x, 3, 0.3),
    "ula": lambda x, noise=None: ula(SCORE, x, 3, 0.3, noise),
    "mala": lambda x, noise=None: mala(UNIT, x, 3, 1.2, noise),
    "annealed": lambda x, noise=None: annealed(
        lambda y, l: -y, x, [1.0, 0.5], noise, steps=2, step=0.05, denoise=True
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_sample_does_not_depend_on_its_batch(name):
    x = normal(4, 2, 3)
    whole = list(CHAINS[name](x, seeded([3, 4, 5, 6])))
    alone = list(CHAINS[name](x[2:3], seeded([5])))
    for a, b in zip(whole, alone, strict=True):
        assert torch.equal(a.x[2:3], b.x) and torch.equal(a.accepted[2:3], b.accepted)
    assert len(whole) == {"annealed": 5}.get(name, 3)
    start = normal(4, 2, 3)
    assert torch.equal(x, start)  # the start is left as it was
    if name != "ascent":
        assert torch.equal(last(CHAINS[name](x)), last(CHAINS[name](x, seeded(range(4), "mcmc"))))
        assert not torch.equal(last(CHAINS[name](x)), whole[-1].x)


@pytest.mark.parametrize("name", CHAINS)
def test_single_precision_stays_and_no_graph_is_kept(name):
    x = last(CHAINS[name](normal(2, 3).float().requires_grad_()))
    assert x.dtype == torch.float32 and not x.requires_grad


def test_gradient_is_the_score():
    x = normal(4, 2)
    for l in (level.clean(), level.ve(0.7)):
        assert_close(
            gradient(lambda y, l=l: TWO.logp(y[:, :1], l))(x)[:, :1],
            TWO.score(x[:, :1], l),
            rtol=1e-10,
            atol=1e-10,
        )
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    s = gradient(lambda y: scale * UNIT(y))(x)  # an energy's parameters are reached through it
    assert_close(torch.autograd.grad(s.sum(), scale)[0], -x.sum())
    with torch.no_grad():
        assert not gradient(lambda y: scale * UNIT(y))(x).requires_grad


# --- what is told -------------------------------------------------------------------------------------------

X = normal(4, 2)
STEEP = lambda x, l: -100 * x


@pytest.mark.parametrize(
    "run, says",
    [
        (
            lambda: last(ula(SCORE, X, 500, 2.5)),
            r"step is too large: at e = 2.5 the drift \|e score\| has grown .*-fold by move 3\d",
        ),
        (lambda: last(ascent(lambda x: -(x**3), X, 500, 1.9)), "step is too large: at e = 1.9 the drift"),
        (
            lambda: last(annealed(STEEP, X, [1.0, 0.1], steps=100, step=1e-3)),
            "step is too large: at e = 0.05 the drift",
        ),
        (lambda: last(ula(lambda x: x / 0, X, 5, 0.1)), "the score must be finite, given .* at move 1"),
        (
            lambda: last(ula(lambda x: torch.where(x > 1, math.nan, 0 * x + 1), X - 9, 50, 0.9)),
            r"finite, given nan at move \d+",
        ),
        (
            lambda: last(mala(lambda x: UNIT(x) * math.nan, X, 5, 0.1)),
            "log p must be finite at the start, given nan",
        ),
        (
            lambda: last(mala(lambda x: UNIT(x) - math.inf, X, 5, 0.1)),
            "log p must be finite at the start, given -inf",
        ),
        (
            lambda: last(mala(lambda x: torch.where(x[:, 0] > 0.5, math.nan, UNIT(x)), 0 * X, 99, 0.5)),
            r"a number or -inf, given NaN or \+inf at move",
        ),
        (lambda: last(mala(lambda x: torch.zeros(len(x)), X, 5, 0.1)), "the density has no gradient"),
        (
            lambda: last(ascent(gradient(lambda x: UNIT(x.detach())), X, 5, 0.1)),
            "the density has no gradient",
        ),
        (lambda: last(mala(lambda x: -x, X, 5, 0.1)), r"one number a sample, \(4,\), given \(4, 2\)"),
        (
            lambda: last(ula(lambda x: x[:, :1], X, 5, 0.1)),
            r"score of x \(4, 2\) must have its shape, given \(4, 1\)",
        ),
        (lambda: last(ula(SCORE, X, 5, 0.1, seeded([1, 2]))), "2 seeds for a batch of 4"),
        (lambda: ula(SCORE, X, 5, -0.1), "step must be a number of at least 0, given -0.1"),
        (lambda: ula(SCORE, X, 5, 0), "step must be a positive number, given 0"),
        (lambda: ula(SCORE, X, 5, math.nan), "step must be a number"),
        (lambda: ula(SCORE, X, 0, 0.1), "steps must be a whole number of at least 1, given 0"),
        (
            lambda: ula(SCORE, X, 5, 0.1, convention="papers"),
            "unknown step convention 'papers'; did you mean 'paper'",
        ),
        (lambda: ula(SCORE, torch.zeros(3), 5, 0.1), r"floating type \(n, …\)"),
        (lambda: ula(SCORE, torch.zeros(3, 2).long(), 5, 0.1), "floating type"),
        (lambda: annealed(STEEP, X, [0.1, 1.0]), "sigmas must be positive numbers, each below the last"),
        (lambda: annealed(STEEP, X, []), "sigmas must be positive"),
        (lambda: annealed(STEEP, X, [1.0, 0.0]), "sigmas must be positive"),
    ],
)
def test_failures_are_told_in_one_line(run, says):
    with pytest.raises(BadInput, match=says) as e:
        run()
    assert "\n" not in str(e.value)


def test_large_but_stable_steps_and_far_modes_are_let_be():
    for step in (1.0, 1.9):
        last(ula(SCORE, X, 300, step, quick()))
    far = last(ascent(lambda x: 1e7 - x, X, 300, 0.1))
    assert_close(far, torch.full_like(X, 1e7))
    saddle = last(
        ascent(lambda x: x - x**3, torch.full((1, 1), 1e-9).double(), 600, 0.1)
    )  # its drift grows 1e8-fold, and settles
    assert_close(saddle, torch.ones(1, 1).double())
