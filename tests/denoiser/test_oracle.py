"""The oracles against each other, against quadrature, and against autograd: everything else is measured by
them.
"""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from tests.support import FAMILIES, normal
from unnoise.denoiser import Empirical, Gaussian, Mixture, oracle
from unnoise.errors import BadInput
from unnoise.process.level import Level, clean, corrupt, flow, level, move, ve, vp

COV = torch.tensor([[1.0, 0.9, 0.2], [0.9, 1.0, 0.1], [0.2, 0.1, 0.5]], dtype=torch.float64)
ORACLES = {
    "number": Gaussian(1.5, 0.36),
    "diagonal": Gaussian([1.0, -2.0, 0.5], [0.1, 1.0, 2.0]),
    "full": Gaussian([1.0, 0.0, -1.0], COV),
    "singular": Gaussian([1.0, 0.0, -1.0], torch.ones(3, 3)),
    "image": Gaussian(normal(1, 4, 4), normal(1, 4, 4, seed=1).abs()),
    "mixture": Mixture(normal(4, 3), 0.3, [1, 2, 3, 4]),
    "stds": Mixture(normal(4, 3), [0.1, 0.2, 0.5, 1.0]),
    "covs": Mixture(normal(2, 3), weights=[1, 3], cov=torch.stack([COV, 0.1 * COV])),
    "ring": Mixture.ring(),
    "points": Mixture(normal(4, 3), 0.0),
    "classes": Mixture(normal(4, 3), 0.3, [1, 2, 3, 4], labels=["a", "b", "a", "c"]),
    "dataset": Empirical(normal(10, 3)),
    "images": Empirical(normal(10, 1, 4, 4)),
}
LEVELS = {
    "ve": ve(0.7),
    "vp": vp(-1.0),
    "flow": flow(0.9),
    "per-sample": level([0.9, 0.5, 0.1, 1.0, 0.3], [0.1, 0.5, 0.9, 3.0, 0.2]),
}
DENSE = [k for k in ORACLES if k != "points"]


def states(o, n=5, seed=9):
    shape = o.shape if isinstance(o, Empirical) or o.means.shape[1] > 1 else (2,)
    return normal(n, *shape, seed=seed)


@pytest.mark.parametrize("at", LEVELS)
@pytest.mark.parametrize("name", ORACLES)
def test_score_is_the_gradient_of_logp_and_tweedies(name, at):
    o, l = ORACLES[name], LEVELS[at]
    x = states(o).requires_grad_()
    (g,) = torch.autograd.grad(o.logp(x, l).sum(), x)
    assert_close(o.score(x, l), g, rtol=1e-8, atol=1e-8)
    own = l.like(x)
    assert_close((own.alpha * o(x, l) - x) / own.sigma**2, g, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ORACLES)
def test_posterior_covariance_is_the_slope_of_the_estimate(name):
    o, l = ORACLES[name], vp(0.3)
    x = states(o, 2)
    jac = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: o(v[None], l)[0], v).reshape(v.numel(), -1) for v in x]
    )
    cov = l.sigma**2 / l.alpha * jac
    if not isinstance(o, Empirical):
        assert_close(o.posterior_cov(x, l), cov, rtol=1e-8, atol=1e-9)
    assert_close(o.posterior_var(x, l).flatten(1), torch.diagonal(cov, dim1=1, dim2=2), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("l", [ve(0.5), vp(0.0), flow(0.3)], ids=["ve", "vp", "flow"])
@pytest.mark.parametrize(
    "o",
    [
        Mixture([-2.0, 1.0, 3.0], [0.1, 0.3, 0.2], [0.2, 0.5, 0.3]),
        Gaussian(1.0, 0.3),
        Empirical([[-2.0], [1.0], [3.0]]),
    ],
    ids=["mixture", "gaussian", "empirical"],
)
def test_pdf_and_estimate_by_quadrature(o, l):
    x = torch.linspace(-12, 12, 24001, dtype=torch.float64)[:, None]
    assert_close(
        torch.trapezoid(o.logp(x, l).exp(), x[:, 0]),
        torch.tensor(1.0, dtype=torch.float64),
        rtol=0,
        atol=1e-9,
    )
    if isinstance(o, Empirical):
        return
    # E[x0 | x = 0.7] by integrating over x0, from the clean density and the forward process alone.
    p = o.pdf(x, clean()) * torch.exp(-((0.7 - l.alpha * x[:, 0]) ** 2) / (2 * l.sigma**2))
    want = torch.trapezoid(p * x[:, 0], x[:, 0]) / torch.trapezoid(p, x[:, 0])
    assert_close(o(torch.tensor([[0.7]], dtype=torch.float64), l)[0, 0], want, rtol=0, atol=1e-9)


def test_gaussian_logp_is_scipys():
    o, x, l = ORACLES["full"], normal(5, 3), vp(0.4)
    cov = float(l.alpha) ** 2 * COV.numpy() + float(l.sigma) ** 2 * torch.eye(3).numpy()
    want = stats.multivariate_normal(float(l.alpha) * o.means[0].numpy(), cov).logpdf(x.numpy())
    assert_close(o.logp(x, l), torch.from_numpy(want))


@pytest.mark.parametrize("name", ORACLES)
def test_finite_at_both_ends_with_gradients(name):
    o = ORACLES[name]
    x = states(o).requires_grad_()
    ends = Level(torch.tensor([0, 1, 0.5, 0.5, 1.0]).double(), torch.tensor([1, 0, 0.5, 0, 80.0]).double())
    mean = o(states(o) * 0, level(0.0, 1.0))[0]
    for l in (level(0.0, 1.0), clean(), ends):
        y = o(x, l)
        (g,) = torch.autograd.grad(y.sum(), x)
        assert y.isfinite().all() and g.isfinite().all()
    assert_close(o(x, level(0.0, 1.0)), mean.expand_as(x))
    assert_close(o(x, clean()), x, rtol=0, atol=1e-12)
    assert_close(o(x, ends)[3], 2 * x[3], rtol=0, atol=1e-12)
    data = o.data.double().mean(0) if isinstance(o, Empirical) else (o.weights[:, None] * o.means).sum(0)
    assert_close(mean.flatten(), data.expand(mean.numel()))


@pytest.mark.parametrize("name", ORACLES)
def test_dtype_of_the_state_is_kept_and_levels_may_be_broadcast_already(name):
    o, l = ORACLES[name], LEVELS["per-sample"]
    x = states(o)
    assert (
        o(x, l).dtype == torch.float64
        and o(x.float(), l).dtype == torch.float32
        and o(x.half(), l).dtype == torch.float16
    )
    assert torch.equal(o(x, l.like(x)), o(x, l))
    assert_close(o(x[2:3], Level(l.alpha[2], l.sigma[2])), o(x, l)[2:3])


@pytest.mark.parametrize("name", [*(k for k in ORACLES if not isinstance(ORACLES[k], Empirical)), "wide"])
def test_rows_do_not_depend_on_the_batch_bit_for_bit(name):
    root = normal(48, 48, seed=4)
    o, l = ORACLES[name] if name in ORACLES else Gaussian(normal(48), root @ root.T), vp(0.2)
    x = states(o, 17)
    for i in (0, 5, 16):
        assert torch.equal(o(x, l)[i], o(x[i : i + 1], l)[0])
    assert torch.equal(o(x, l)[3:6], o(x[3:6], l))


@pytest.mark.parametrize("name", ORACLES)
def test_sample_has_the_moments_and_is_a_function_of_the_seed(name):
    o = ORACLES[name]
    x = o.sample(20_000).flatten(1).double()
    one = x[:1].reshape(1, *o.shape).double() * 0
    mean, var = o(one, level(0.0, 1.0)).flatten(), o.posterior_var(one, level(0.0, 1.0)).flatten()
    assert ((x.mean(0) - mean).abs() < 4.5 * (var / 20_000).sqrt() + 1e-12).all()
    assert_close(x.var(0), var, rtol=0.08, atol=1e-12)
    if not isinstance(o, Empirical):
        cov, error = o.posterior_cov(one, level(0.0, 1.0))[0], (var[:, None] * var / 20_000).sqrt()
        assert ((torch.cov(x.T).reshape(cov.shape) - cov).abs() < 7 * error + 1e-12).all()
    assert torch.equal(o.sample(50, seed=3), o.sample(50, seed=3)) and not torch.equal(
        o.sample(50, seed=3), o.sample(50, seed=4)
    )
    assert torch.equal(o.sample(50, seed=3)[:7], o.sample(7, seed=3))


def test_samples_follow_the_corrupted_density():
    o, l = Mixture([-2.0, 1.0, 3.0], [0.1, 0.3, 0.2], [0.2, 0.5, 0.3]), vp(1.0)
    x = corrupt(o.sample(20_000), normal(20_000, 1), l)[:, 0].numpy()
    t = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    cdf = torch.cumulative_trapezoid(o.pdf(t[:, None], l), t)
    assert stats.kstest(x, lambda v: np.interp(v, t[1:], cdf)).pvalue > 1e-3


# --- the exact flow -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["number", "diagonal", "full", "singular", "image"])
def test_flow_is_what_a_fine_integration_gives(name, family):
    o = ORACLES[name]
    ends = {}
    for n in (200, 400, 800):  # first order: two extrapolations leave the third-order error
        path = [FAMILIES[family](k) for k in torch.linspace(-4, 4, n + 1, dtype=torch.float64)]
        x = start = states(o)
        for a, b in itertools.pairwise(path):
            x = move(x, o(x, a), a, b)
        ends[n] = x
    fine = ends[200] / 3 - 2 * ends[400] + 8 * ends[800] / 3
    assert_close(o.flow(start, path[0], path[-1]), fine, rtol=0, atol=2e-6)
    assert (
        ends[800] - fine
    ).abs().max() > 1e-4  # the extrapolation did something: the agreement is no accident


def test_flow_goes_there_and_back_and_composes_and_reaches_both_ends():
    o, x, a, b, c = ORACLES["full"], normal(5, 3), level(0.0, 1.0), vp(0.5), clean()
    assert_close(o.flow(o.flow(x, a, b), b, a), x)
    assert_close(o.flow(o.flow(x, a, b), b, c), o.flow(x, a, c))
    data = o.flow(normal(50_000, 3), a, c)
    assert_close(torch.cov(data.T), COV, rtol=0, atol=0.02)
    assert torch.equal(o.flow(x.float(), a, c), o.flow(x.float().double(), a, c).float())


# --- mixtures and classes -----------------------------------------------------------------------------------


def test_gaussian_is_a_mixture_of_one_and_any_way_of_giving_a_covariance_agrees():
    x, l = normal(5, 3), vp(0.2)
    ways = [
        Gaussian([1.0, 2.0, 3.0], 0.25),
        Gaussian([1.0, 2.0, 3.0], [0.25] * 3),
        Gaussian([1.0, 2.0, 3.0], 0.25 * torch.eye(3)),
        Mixture([[1.0, 2.0, 3.0]], 0.5),
        Mixture([[1.0, 2.0, 3.0]] * 2, [0.5, 0.5], [1, 5]),
        Mixture([[1.0, 2.0, 3.0]], cov=0.25 * torch.eye(3)[None]),
    ]
    for o in ways[1:]:
        assert_close(o(x, l), ways[0](x, l))
        assert_close(o.logp(x, l), ways[0].logp(x, l))
    assert_close(Gaussian(2.0, 0.25)(x, l), Gaussian([2.0] * 3, 0.25)(x, l))


@pytest.mark.parametrize("at", LEVELS)
def test_classes_are_bayes(at):
    o, l = ORACLES["classes"], LEVELS[at]
    x = normal(5, 3)
    assert o.names == ["a", "b", "c"]
    prior = torch.tensor([0.4, 0.2, 0.4], dtype=torch.float64)
    joint = torch.stack([prior[i] * o.given(c).pdf(x, l) for i, c in enumerate(o.names)], 1)
    assert_close(o.classes(x, l), joint / joint.sum(1, keepdim=True), rtol=1e-9, atol=1e-300)
    assert_close(o.pdf(x, l), joint.sum(1))
    assert_close(o.log_classes(x, l).exp(), o.classes(x, l))
    mean = sum(o.classes(x, l)[:, i, None] * o.given(c)(x, l) for i, c in enumerate(o.names))
    assert_close(mean, o(x, l))


def test_log_classes_stay_finite_far_from_every_mode():
    x = torch.full((1, 2), 300.0, dtype=torch.float64).requires_grad_()
    logs = oracle.ring().log_classes(x, ve(0.01))
    (g,) = torch.autograd.grad(logs[:, 4].sum(), x)
    assert logs.isfinite().all() and g.isfinite().all() and g.abs().max() > 0


@pytest.mark.parametrize("name", ["mixture", "stds", "covs", "ring", "points"])
def test_given_a_component(name):
    o, l = ORACLES[name], vp(0.1)
    x = states(o)
    own = o.given(1)
    assert own.k == 1 and own.names == [1]
    cov = own.posterior_cov(x[:1], level(0.0, 1.0))[0]
    assert_close(own(x, l), Gaussian(o.means[1], cov)(x, l))
    with pytest.raises(BadInput):
        o.given(99)


def test_component_names_the_labels_of_sample():
    o = ORACLES["classes"]
    x, labels = (
        Mixture(normal(4, 3), 0.0, [1, 2, 3, 4], labels=["a", "b", "a", "c"]).sample(200, seed=5),
        o.component(200, seed=5),
    )
    nearest = torch.cdist(x, o.means).argmin(1)
    assert [o.labels[i] for i in nearest] == labels and labels.count("b") in range(20, 65)


def test_ring_is_where_it_says():
    o = Mixture.ring(modes=8, radius=2.0, std=0.3)
    assert_close(o.means.norm(dim=1), torch.full((8,), 2.0).double())
    assert_close(o.means[1], torch.tensor([2**0.5, 2**0.5]).double())
    assert_close(o.pdf(o.means, clean()), o.pdf(o.means, clean())[:1].expand(8))
    assert_close(o.given(3).var, torch.full((1, 2), 0.09).double())
    with pytest.raises(BadInput):
        Mixture.ring(modes=0)


def test_ring_is_the_one_whose_euler_errors_are_tabulated():
    # Endpoint error against a fine Heun run, sigma 80 -> .002 evenly in log, then to 0 (root of the mean
    # squared distance).
    o, z = oracle.ring(), 80 * normal(400, 2)

    def euler(n):
        x, path = (
            z,
            [
                *(ve(s) for s in torch.logspace(math.log10(80), math.log10(0.002), n, dtype=torch.float64)),
                clean(),
            ],
        )
        for a, b in itertools.pairwise(path):
            x = move(x, o(x, a), a, b)
        return x

    fine = [euler(n) for n in (400, 800)]
    end = 2 * fine[1] - fine[0]
    for n, want in ((10, 0.110), (20, 0.050), (35, 0.0275)):
        assert (euler(n) - end).square().sum(1).mean().sqrt().item() == pytest.approx(want, rel=0.06)


# --- datasets -----------------------------------------------------------------------------------------------


def test_empirical_is_a_mixture_without_spread():
    data, x = normal(10, 1, 4, 4), normal(5, 1, 4, 4, seed=2)
    tiny, points = Mixture(data, 1e-9), Mixture(data, 0.0)
    for l in (ve(0.5), vp(-1.0), flow(0.2), LEVELS["per-sample"]):
        assert_close(Empirical(data)(x, l), tiny(x, l), rtol=0, atol=1e-9)
        assert_close(Empirical(data)(x, l), points(x, l), rtol=0, atol=1e-9)
        assert_close(Empirical(data).logp(x, l), points.logp(x, l), rtol=1e-9, atol=1e-9)
        assert_close(Empirical(data).score(x, l), points.score(x, l), rtol=1e-8, atol=1e-8)


def test_empirical_is_the_same_in_chunks(monkeypatch):
    data, x = normal(101, 3, 4), normal(5, 3, 4, seed=2)
    whole = Empirical(data)(x, ve(0.8))
    monkeypatch.setattr(oracle, "_CHUNK", 12 * 7)
    assert Empirical(data)._rows == 7
    assert_close(Empirical(data)(x, ve(0.8)), whole, rtol=1e-12, atol=1e-12)


def test_empirical_returns_a_data_point_when_little_noise_is_left():
    data = normal(10, 3)
    assert_close(Empirical(data)(data + 0.001, ve(0.002)), data, rtol=0, atol=1e-12)
    assert (
        Empirical(data.float()).data.dtype == torch.float32
        and Empirical(data.float())(data, ve(1.0)).dtype == torch.float64
    )
    with pytest.raises(BadInput):
        Empirical(data).logp(data, clean())


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mixture([], 1.0),
        lambda: Mixture([[1.0], [2.0, 3.0]], 1.0),
        lambda: Mixture([[1.0]], -1.0),
        lambda: Mixture([[1.0]]),
        lambda: Mixture([[1.0]], 1.0, cov=[[1.0]]),
        lambda: Mixture([[1.0], [2.0]], [1.0, 1.0, 1.0]),
        lambda: Mixture([[math.nan]], 1.0),
        lambda: Mixture([[1.0], [2.0]], 1.0, [1.0]),
        lambda: Mixture([[1.0], [2.0]], 1.0, [1.0, -1.0]),
        lambda: Mixture("ab", 1.0),
        lambda: Mixture([[1.0], [2.0]], 1.0, [0.0, 0.0]),
        lambda: Mixture([[1.0], [2.0]], 1.0, labels=["a"]),
        lambda: Mixture(3.0, 1.0),
        lambda: Mixture([[1.0, 2.0]], cov=[[1.0, 2.0, 3.0]]),
        lambda: Mixture([[1.0, 2.0]], cov=[[1.0, -2.0]]),
        lambda: Mixture([[1.0, 2.0]], cov=1.0),
        lambda: Mixture([[1.0, 2.0]], None, None),
        lambda: Mixture([[1.0]], math.inf),
        lambda: Gaussian([1.0, 2.0], [[1.0, 0.5], [0.4, 1.0]]),
        lambda: Gaussian([1.0, 2.0], [[1.0, 2.0], [2.0, 1.0]]),
        lambda: Gaussian([1.0, 2.0], [1.0, 2.0, 3.0]),
        lambda: Gaussian(0.0, -1.0),
        lambda: Gaussian("x", 1.0),
        lambda: Empirical([]),
        lambda: Empirical([[math.inf]]),
        lambda: Empirical("x"),
        lambda: Empirical(3.0),
    ],
)
def test_bad_distributions_are_refused_in_one_line(make):
    with pytest.raises(BadInput) as e:
        make()
    assert "\n" not in str(e.value)


GOOD = {"means": [[0.0, 1.0], [2.0, 3.0]], "std": 0.5, "weights": [1, 3]}


def test_from_json_reads_a_mixture(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({**GOOD, "labels": ["cat", "dog"]}))
    o, x = oracle.from_json(tmp_path / "m.json"), normal(5, 2)
    assert_close(o(x, vp(0.0)), Mixture(GOOD["means"], 0.5, [1, 3])(x, vp(0.0)))
    assert o.names == ["cat", "dog"]
    (tmp_path / "m.json").write_text(json.dumps({k: v for k, v in GOOD.items() if k != "weights"}))
    assert_close(Mixture.from_json(str(tmp_path / "m.json")).weights, torch.full((2,), 0.5).double())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        "{}",
        json.dumps({**GOOD, "means": "x"}),
        json.dumps({**GOOD, "means": [[1, 2], [3]]}),
        json.dumps({**GOOD, "std": None}),
        json.dumps({**GOOD, "std": "big"}),
        json.dumps({**GOOD, "std": -1}),
        json.dumps({**GOOD, "std": {}}),
        json.dumps({**GOOD, "weights": [1]}),
        json.dumps({**GOOD, "weights": [1, "a"]}),
        json.dumps({**GOOD, "wieghts": [1, 2]}),
        json.dumps({**GOOD, "labels": 3}),
        json.dumps({**GOOD, "means": [[math.nan, 1], [2, 3]]}),
        json.dumps({**GOOD, "labels": [[1], [2]]}),
        json.dumps({**GOOD, "means": []}),
        json.dumps({"means": [[1]]}),
        "\x00\x01",
    ],
)
def test_from_json_refuses_what_is_malformed_and_names_the_file(text, tmp_path):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(BadInput) as e:
        oracle.from_json(tmp_path / "m.json")
    assert "m.json" in str(e.value) and "\n" not in str(e.value)


def test_from_json_refuses_what_it_cannot_read(tmp_path):
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00{")
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "b.json"):
        with pytest.raises(BadInput):
            oracle.from_json(path)


def test_lower_case_spellings():
    assert oracle.gaussian is Gaussian and oracle.mixture is Mixture and oracle.empirical is Empirical
    assert oracle.ring().k == 8
