"""Inverse problems against exact posteriors: two numbers with correlation .9, one seen at 1.5 (algorithms C9
and C10), and random linear maps.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from tests.support import normal
from unnoise.denoiser import Gaussian, Mixture
from unnoise.errors import BadInput
from unnoise.guide import covariance, dps, guide, per_step, pigdm, replace, seen
from unnoise.guide.inverse import conjugate
from unnoise.process import schedule
from unnoise.process.level import corrupt, level, move, ve, vp
from unnoise.process.noise import draw
from unnoise.process.posterior import reverse
from unnoise.sample import SAMPLERS, last, rewind

COV = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
PRIOR, SEEN = Gaussian([0.0, 0.0], COV), torch.tensor([[True, False]])
Y, KNOWN = torch.tensor([[1.5]]).double(), torch.tensor([[1.5, math.nan]]).double()
MEAN, VAR = 1.35, 0.19
LEVELS = {"ve": ve(0.7), "vp": vp(0.7), "per-sample": level([0.9, 0.5, 0.1, 1.0], [0.1, 0.5, 0.9, 3.0])}
BIG = Gaussian(
    [0.5, -1.0, 0.0, 2.0], (lambda a: a @ a.mT + 0.1 * torch.eye(4).double())(normal(4, 4, seed=5))
)
MAP = normal(2, 4, seed=6)


def stream(name):
    """Normals of a whole batch from one generator: thousands of samples, whose seeds do not matter, at
    once.
    """
    k = 0

    def noise(like, a=None, b=None):
        nonlocal k
        k += 1
        return draw(0, name, k, like.shape).to(like)

    return noise


def second(denoise, path, sampler="ddpm", n=6000):
    """Mean and variance of the number that was not seen; the one that was comes out as it was seen."""
    x = last(SAMPLERS[sampler](denoise, draw(0, "init", 0, (n, 2)) * path[0].sigma, path, stream("sampler")))
    return x, float(x[:, 1].mean()), float(x[:, 1].var())


def posterior(prior, a, y, r):
    """E, Cov of x0 given y = a x0 + r eps, by the textbook."""
    m, (basis,), (v,) = prior.means[0], prior.basis, prior.var
    c = basis @ torch.diag(v) @ basis.mT
    gain = c @ a.mT @ torch.linalg.inv(a @ c @ a.mT + r**2 * torch.eye(len(a)).double())
    return Gaussian(m + gain @ (y - a @ m), c - gain @ a @ c)


# --- the posterior of C9: measured with 6000 samples, standard error of the mean .006 -----------------------

KARRAS = schedule.edm().path(40, "karras")


def test_covariance_samples_the_posterior():
    x, mean, var = second(covariance(PRIOR, seen(SEEN), Y), KARRAS, "heun")
    assert_close(x[:, 0], torch.full_like(x[:, 0], 1.5), rtol=0, atol=1e-6)
    assert mean == pytest.approx(MEAN, abs=0.01) and var == pytest.approx(
        VAR, abs=0.01
    )  # 1.3425, .187 at 60 steps


def test_replacement_fails_it_and_repaint_mends_it():
    """At 60 steps of DDPM: .899; gone over 10 times, move by move: 1.318. More steps do not help replacement:
    .93 at 250.
    """
    path = schedule.edm().path(60, "karras")
    x, plain, _ = second(replace(PRIOR, KNOWN, SEEN, stream("known")), path)
    assert (x[:, 0] == 1.5).all() and plain == pytest.approx(0.90, abs=0.03)
    _, mean, var = second(replace(PRIOR, KNOWN, SEEN, stream("known")), rewind(path, 10, 1), n=3000)
    assert abs(mean - MEAN) < 0.06 and abs(var - VAR) < 0.06


def test_neither_dps_nor_pigdm_is_the_posterior():
    """PiGDM takes the numbers for independent: 1.27. DPS by step with zeta .02, squared: the seen one ends at
    1.37.
    """
    path = schedule.ddpm().path(60, "trailing")
    _, mean, _ = second(pigdm(PRIOR, seen(SEEN), Y), path, "ddim", n=3000)
    assert 1.2 < mean < 1.31  # 1.267
    x, mean, _ = second(dps(PRIOR, seen(SEEN), Y, per_step(0.02, path), squared=True), path, n=3000)
    assert float(x[:, 0].mean()) < 1.45 and mean < 1.3


# --- one estimate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", LEVELS)
@pytest.mark.parametrize("r", [0.0, 0.3])
@pytest.mark.parametrize("how", ["exact", "iterative"])
def test_covariance_is_exact_for_gaussian_data_and_any_map(at, r, how):
    x, y = normal(4, 4), torch.tensor([[0.4, -0.2]]).double()
    guided = covariance(BIG, lambda x0: x0 @ MAP.mT, y, r, how=how, iterations=4)
    assert_close(guided(x, LEVELS[at]), posterior(BIG, MAP, y[0], r)(x, LEVELS[at]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("at", LEVELS)
def test_rows_are_exact_where_what_is_seen_is_one_number(at):
    one = MAP[:1]
    guided = covariance(BIG, lambda x0: x0 @ one.mT, torch.tensor([[0.4]]).double(), 0.1, how="rows")
    assert_close(
        guided(normal(4, 4), LEVELS[at]),
        posterior(BIG, one, torch.tensor([0.4]).double(), 0.1)(normal(4, 4), LEVELS[at]),
    )


@pytest.mark.parametrize("at", LEVELS)
def test_pigdm_is_exact_for_independent_data_of_its_variance(at):
    prior = Gaussian([0.3, -0.2], [0.36, 0.36])
    truth = Gaussian([0.3 + 0.36 / 0.45 * (1.1 - 0.3), -0.2], [0.36 - 0.36**2 / 0.45, 0.36])
    guided = pigdm(prior, seen(SEEN), torch.tensor([[1.1]]).double(), 0.3, variance=0.36)
    assert_close(guided(normal(4, 2), LEVELS[at]), truth(normal(4, 2), LEVELS[at]))


@pytest.mark.parametrize("squared", [False, True])
def test_dps_is_the_gradient_of_each_samples_own_norm(squared):
    x, l, power = normal(4, 2), vp(0.7), 2 if squared else 1
    want = guide(PRIOR, lambda x0: (x0[:, :1] - Y).norm(dim=1) ** power, 0.3)(x, l)
    got = dps(PRIOR, seen(SEEN), Y, 0.3, squared)(x, l)
    assert_close(got, want)
    assert_close(
        got[:1], dps(PRIOR, seen(SEEN), Y, 0.3, squared)(x[:1], l)
    )  # not of the whole batch: a peer's defect


def test_per_step_moves_x_as_the_paper_does():
    """x_b - zeta grad |y - A D(x_a)| after DDPM's mean, at each step (Chung et al. 2023, alg. 1)."""
    path = schedule.ddpm().path(20, "trailing")
    guided = dps(PRIOR, seen(SEEN), Y, per_step(0.4, path))
    for a, b in list(pairwise(path))[::6]:
        x = normal(3, 2).requires_grad_()
        (g,) = torch.autograd.grad((Y - PRIOR(x, a)[:, :1]).norm(dim=1).sum(), x)
        x = x.detach()
        assert_close(reverse(x, guided(x, a), a, b).mean, reverse(x, PRIOR(x, a), a, b).mean - 0.4 * g)


def test_an_operator_that_is_not_linear_is_taken_at_the_estimate():
    """tanh, linearised where the estimate lies: the Kalman update written out."""
    x, l = normal(4, 2), vp(0.5)
    d, c = PRIOR(x, l), PRIOR.posterior_cov(x, l)
    slope = 1 - d[:, 0].tanh() ** 2
    u = (0.3 - d[:, 0].tanh()) / (slope**2 * c[:, 0, 0] + 0.01)
    got = covariance(PRIOR, lambda x0: x0[:, :1].tanh(), torch.tensor([[0.3]]).double(), 0.1)(x, l)
    assert_close(got, d + (u * slope)[:, None] * c[:, :, 0])


def test_conjugate_gradients_solve_and_stop():
    a = normal(3, 5, 5)
    a, b = a @ a.mT + 0.5 * torch.eye(5).double(), normal(3, 5, seed=2)
    b[1] = 0
    assert_close(
        conjugate(lambda u: (a @ u[..., None])[..., 0], b, 40), torch.linalg.solve(a, b), rtol=1e-5, atol=1e-5
    )


def test_conjugate_gradients_do_not_run_away():
    """A map that a network's derivative may give: along its only direction nearly nothing, or less than
    nothing.
    """
    b = torch.ones(3, 1).double()
    scale = torch.tensor([[2.0], [1e-6], [-0.3]]).double()
    assert conjugate(lambda u: scale * u, b, 1, least=0.04).ravel().tolist() == [0.5, 25.0, 0.0]


# --- mechanics ----------------------------------------------------------------------------------------------

MAKE = {
    "dps": lambda d: dps(d, seen(SEEN), Y),
    "squared": lambda d: dps(d, seen(SEEN), Y, squared=True),
    "pigdm": lambda d: pigdm(d, seen(SEEN), Y),
    "exact": lambda d: covariance(d, seen(SEEN), Y),
    "rows": lambda d: covariance(d, seen(SEEN), Y, how="rows"),
    "iterative": lambda d: covariance(d, seen(SEEN), Y, how="iterative"),
}


@pytest.mark.parametrize("name", MAKE)
def test_ends_are_finite_inputs_and_grad_mode_stay_and_no_graph_comes_out(name):
    x, l = normal(4, 2), level([0.0, 0.5, 1.0, 1e-4], [1.0, 0.5, 0.0, 1.0])
    before = x.clone()
    with torch.no_grad():
        out = MAKE[name](PRIOR)(x, l)
    assert out.isfinite().all() and not out.requires_grad and torch.equal(x, before)
    assert torch.equal(out[0], PRIOR(x, l)[0]) and torch.equal(out[2], PRIOR(x, l)[2])
    assert MAKE[name](PRIOR)(x.float(), l).dtype == torch.float32


@pytest.mark.parametrize("name", MAKE)
def test_an_outer_guide_differentiates_them(name):
    world, l, x, h = Mixture([[-1.0, 0.3], [1.0, 0.5]], [0.4, 0.6]), vp(0.4), normal(3, 2), 1e-6
    inner, loss = MAKE[name](world), lambda x0: (x0[:, 1] - 0.2) ** 2
    slope = torch.stack(
        [(loss(inner(x + h * e, l)) - loss(inner(x - h * e, l))) / (2 * h) for e in torch.eye(2).double()], 1
    )
    assert_close(
        guide(inner, loss, 0.5)(x, l), inner(x, l) - 0.5 * l.sigma**2 / l.alpha * slope, rtol=0, atol=1e-5
    )


def test_bad_input():
    with pytest.raises(BadInput, match="does not fit"):
        covariance(PRIOR, seen(SEEN), torch.zeros(1, 2))(normal(4, 2), vp(0.0))
    with pytest.raises(BadInput, match="did you mean 'exact'"):
        covariance(PRIOR, seen(SEEN), Y, how="exakt")
    with pytest.raises(BadInput, match="noise must be at least 0"):
        pigdm(PRIOR, seen(SEEN), Y, -1)
    with pytest.raises(BadInput, match="variance must be positive"):
        pigdm(PRIOR, seen(SEEN), Y, variance=0.0)
    with pytest.raises(BadInput, match="finite"):
        dps(PRIOR, seen(SEEN), Y, math.nan)


def test_replacement_shows_the_known_part_at_the_level_and_returns_it():
    x, l, told = normal(5, 2), vp(0.3), []
    z = draw(0, "known", 1, x.shape)
    out = replace(lambda x, l: told.append(x) or PRIOR(x, l), KNOWN, SEEN, stream("known"))(x, l)
    assert torch.equal(told[0][:, 1], x[:, 1])
    assert_close(told[0][:, 0], corrupt(torch.full_like(x, 1.5), z, l)[:, 0])
    assert (out[:, 0] == 1.5).all() and torch.equal(out[:, 1], PRIOR(told[0], l)[:, 1])
    assert move(x, out, l, level(1.0, 0.0))[:, 0].eq(1.5).all()
