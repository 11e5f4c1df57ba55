import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.support import normal
from unnoise.denoiser import Gaussian
from unnoise.errors import BadInput
from unnoise.process import predict
from unnoise.process.level import Level, corrupt, flow, level, vp

KINDS = {**predict.KINDS, "edm:0.66": predict.edm(0.66)}
ANYWHERE = ("v", "velocity", "edm", "edm:0.66")  # determinant never 0


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(KINDS)),
    lam=st.floats(-12, 12),
    scale=st.floats(0.01, 50),
    seed=st.integers(0, 99),
)
def test_solve_undoes_target(name, lam, scale, seed):
    l = Level(*(scale * v for v in vp(torch.tensor(lam, dtype=torch.float64))))
    x0, eps = normal(3, 2, seed=seed), normal(3, 2, seed=seed + 100)
    x, out = corrupt(x0, eps, l), predict.target(KINDS[name], x0, eps, l)
    got = predict.solve(KINDS[name], x, out, l)
    loss = 1e-15 * 1e4 * float(torch.exp(torch.tensor(abs(lam) / 2)))  # the determinant's share of rounding
    assert_close(got[0], x0, rtol=0, atol=loss)
    assert_close(got[1], eps, rtol=0, atol=loss)
    assert_close(predict.solve_x0(KINDS[name], x, out, l), got[0], rtol=0, atol=loss)


def test_the_pairs_are_the_published_ones():
    l = vp(torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64))
    x0, eps = normal(3), normal(3, seed=1)
    a, s = l
    assert torch.equal(predict.target(predict.eps, x0, eps, l), eps)
    assert torch.equal(predict.target(predict.x0, x0, eps, l), x0)
    assert_close(predict.target(predict.v, x0, eps, l), a * eps - s * x0)
    assert_close(predict.target(predict.velocity, x0, eps, l), eps - x0)
    assert_close(predict.target(predict.score, x0, eps, l), -eps / s)
    assert_close(predict.solve(predict.v, a * x0 + s * eps, a * eps - s * x0, l)[1], eps)


def test_edm_target_is_karras_preconditioning():
    sd, s = 0.5, torch.tensor([0.01, 0.5, 10.0], dtype=torch.float64)
    x0, eps = normal(3), normal(3, seed=1)
    skip, c_out = sd**2 / (s**2 + sd**2), s * sd / (s**2 + sd**2).sqrt()
    l = Level(torch.ones_like(s), s)
    assert_close(
        predict.target(predict.edm(sd), x0, eps, l),
        (x0 - skip * (x0 + s * eps)) / c_out,
        rtol=1e-11,
        atol=1e-12,
    )


@pytest.mark.parametrize("s", [0.01, 0.5, 10.0])
def test_edm_target_has_unit_variance_for_data_of_its_deviation(s):
    p, q = predict.edm(0.5)(level(1.0, s))
    assert float(0.25 * p**2 + q**2) == pytest.approx(1, abs=1e-6)
    p, q = predict.edm(0.5)(Level(*(0.3 * v for v in level(1.0, s))))  # in any frame
    assert float(0.25 * p**2 + q**2) == pytest.approx(1, abs=1e-6)


def test_determinants_are_those_that_the_docstring_states():
    l = flow(torch.linspace(0, 1, 11, dtype=torch.float64))
    det = {n: l.alpha * k(l)[1] - l.sigma * k(l)[0] for n, k in KINDS.items() if n != "score"}
    assert_close(det["eps"], l.alpha)
    assert_close(det["x0"], -l.sigma)
    assert_close(det["v"], (l.alpha**2 + l.sigma**2).sqrt())
    assert_close(det["velocity"], l.alpha + l.sigma)
    assert all(det[n].abs().min() > 0.1 for n in ANYWHERE)


@pytest.mark.parametrize("name", ANYWHERE)
@pytest.mark.parametrize(
    "l", [level(0.0, 1.0), level(1.0, 0.0), level([0.0, 1.0], [2.0, 0.0])], ids=["noise", "clean", "mixed"]
)
def test_finite_and_exact_at_both_ends(name, l):
    x0, eps = normal(2, 3), normal(2, 3, seed=1)
    got = predict.solve(KINDS[name], corrupt(x0, eps, l), predict.target(KINDS[name], x0, eps, l), l)
    assert_close(got[0], x0, rtol=0, atol=1e-12)
    assert_close(got[1], eps, rtol=0, atol=1e-12)


def test_x0_prediction_is_finite_at_both_ends_and_eps_at_the_clean_one():
    x0, eps = normal(2, 3), normal(2, 3, seed=1)
    for l in (level(0.0, 1.0), level(1.0, 0.0)):
        assert torch.equal(predict.solve_x0(predict.x0, corrupt(x0, eps, l), x0, l), x0)
    assert_close(predict.solve_x0(predict.eps, corrupt(x0, eps, level(1.0, 0.0)), eps, level(1.0, 0.0)), x0)
    assert not predict.solve_x0(predict.eps, eps, eps, level(0.0, 1.0)).isfinite().any()  # as documented


def test_least_squares_on_any_target_has_the_same_minimiser():
    # The best linear function of x for each target, on one draw of Gaussian data, where the best function is
    # linear.
    data, l, n = Gaussian(1.5, 0.36), vp(torch.tensor(0.4, dtype=torch.float64)), 200_000
    x0, eps = data.sample(n), normal(n, 1)
    x = corrupt(x0, eps, l)
    A, q = torch.cat([x, torch.ones_like(x)], 1), torch.linspace(-1, 3, 5, dtype=torch.float64)[:, None]
    fits = []
    for kind in KINDS.values():
        w = torch.linalg.lstsq(A, predict.target(kind, x0, eps, l)).solution
        fits.append(predict.solve_x0(kind, q, torch.cat([q, torch.ones_like(q)], 1) @ w, l))
        assert_close(fits[-1], data(q, l), rtol=0, atol=0.01)
    for fit in fits[1:]:
        assert_close(fit, fits[0], rtol=0, atol=1e-9)  # not only close to the truth: the same


@pytest.mark.parametrize(
    "given, kind", [("epsilon", "eps"), ("sample", "x0"), ("v_prediction", "v"), ("velocity", "velocity")]
)
def test_names_of_the_ecosystem(given, kind):
    assert predict.kind(given) is predict.KINDS[kind]


@pytest.mark.parametrize("given", ["epsilom", "", "edm:", "edm:x", "edm:-1", "edm:nan", "v:1"])
def test_unknown_names_are_refused_in_one_line(given):
    with pytest.raises(BadInput) as e:
        predict.kind(given)
    assert "\n" not in str(e.value)


def test_edm_name_carries_its_deviation():
    l = level(1.0, 0.3)
    assert_close(predict.kind("edm:0.66")(l)[0], predict.edm(0.66)(l)[0])
