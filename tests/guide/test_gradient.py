"""Gradient guidance against exact posteriors: the factor sigma^2 / alpha is Tweedie's, so nothing is left to
tune.
"""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from tests.support import FAMILIES, normal
from unnoise.denoiser import Gaussian, Mixture
from unnoise.errors import BadInput
from unnoise.guide import classifier, guide, interval
from unnoise.process.level import clean, level, move, ve, vp

LEVELS = {
    "ve": ve(0.7),
    "vp": vp(0.7),
    "flow": FAMILIES["flow"](torch.tensor(-1.0).double()),
    "per-sample": level([0.9, 0.5, 0.1, 1.0], [0.1, 0.5, 0.9, 3.0]),
}
COV = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
PRIOR = Gaussian([0.0, 0.0], COV)  # x1 is observed, x2 follows it: algorithms C9
CLASSES = Mixture(
    [[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, -2.0]],
    [0.3, 0.4, 0.5, 0.3],
    [1, 2, 3, 4],
    labels=[0, 1, 0, 2],
)
X = normal(4, 2)


def squares(x0):
    return (x0 - 0.6) ** 2


# --- a Gaussian likelihood of the estimate gives the exact posterior ----------------------------------------


@pytest.mark.parametrize("at", LEVELS)
def test_gaussian_likelihood_on_every_number(at):
    l, y, r = LEVELS[at], 0.2, 0.3
    prior = Gaussian(1.5, 0.36)
    precision = 1 / 0.36 + 1 / r**2
    posterior = Gaussian((1.5 / 0.36 + y / r**2) / precision, 1 / precision)
    var = prior.posterior_var(X, l)  # of Gaussian data: the same for every x
    assert_close(guide(prior, lambda x0: (x0 - y) ** 2 / (2 * (r**2 + var)))(X, l), posterior(X, l))


def observed(y, r):
    """The exact posterior of PRIOR given x1 = y + r noise."""
    gain = COV[:, 0] / (COV[0, 0] + r**2)
    return Gaussian(gain * y, COV - gain[:, None] * COV[0])


@pytest.mark.parametrize("at", LEVELS)
def test_observing_one_of_two_correlated_numbers(at):
    l, y, r = LEVELS[at], 1.5, 0.1
    var = PRIOR.posterior_cov(X, l)[:, 0, 0]
    assert_close(
        guide(PRIOR, lambda x0: (x0[:, 0] - y) ** 2 / (2 * (r**2 + var)))(X, l), observed(y, r)(X, l)
    )


def test_sampling_the_posterior_where_replacement_fails():
    y, r, n = 1.5, 1e-3, 300
    truth = observed(y, r)
    assert float(truth.means[0, 1]) == pytest.approx(1.35, abs=1e-3) and float(
        COV[1, 1] - 0.81
    ) == pytest.approx(0.19)

    def exact(x, l):
        var = PRIOR.posterior_cov(x, l)[:, 0, 0]
        return guide(PRIOR, lambda x0: (x0[:, 0] - y) ** 2 / (2 * (r**2 + var)))(x, l)

    x = 80 * normal(4000, 2)
    with torch.no_grad():  # as samplers do
        path = [*(ve(s) for s in torch.logspace(math.log10(80), -3, n, dtype=torch.float64)), clean()]
        for a, b in itertools.pairwise(path):
            x = move(x, exact(x, a), a, b)
    assert_close(x.mean(0), torch.tensor([1.5, 1.35]).double(), rtol=0, atol=0.02)
    assert float(x[:, 1].var()) == pytest.approx(0.19, abs=0.015)


# --- classifiers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("at", LEVELS)
def test_an_exact_classifier_gives_the_conditional_denoiser(at, label):
    l = LEVELS[at]
    guided = classifier(CLASSES, lambda x, l: CLASSES.log_classes(x, l)[:, label])
    assert_close(guided(X, l), CLASSES.given(label)(X, l), rtol=1e-9, atol=1e-10)


def share_and_mean(log_prob, scale=1.0, n=2000):
    x = 80 * normal(n, 2)
    with torch.no_grad():
        path = [
            *(ve(s) for s in torch.logspace(math.log10(80), math.log10(0.002), 200, dtype=torch.float64)),
            clean(),
        ]
        denoise = classifier(EASY, log_prob, scale)
        for a, b in itertools.pairwise(path):
            x = move(x, denoise(x, a), a, b)
    return float(EASY.classes(x, clean())[:, 1].mean()), x.mean(0)


EASY = Mixture([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]], 0.3)


def test_class_frequency_goes_to_1_from_an_unconditional_model_and_needs_a_classifier_that_knows_noise():
    noise_aware = lambda x, l: EASY.log_classes(x, l)[:, 1]
    share, mean = share_and_mean(noise_aware)
    assert share > 0.999
    assert_close(mean, torch.tensor([2.0, 0.0]).double(), rtol=0, atol=0.02)
    share, mean = share_and_mean(noise_aware, 0.0)
    assert share == pytest.approx(1 / 3, abs=0.04)
    clean_only = lambda x, l: EASY.log_classes(x, clean())[:, 1]
    share, mean = share_and_mean(clean_only)
    assert (mean - torch.tensor([2.0, 0.0])).norm() > 0.1 or share < 0.9


def test_classifier_scale_is_linear():
    logp = lambda x, l: CLASSES.log_classes(x, l)[:, 1]
    one, three, l = classifier(CLASSES, logp)(X, vp(0.0)), classifier(CLASSES, logp, 3.0)(X, vp(0.0)), vp(0.0)
    assert_close(three - CLASSES(X, l), 3 * (one - CLASSES(X, l)))


# --- the mechanics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", LEVELS)
def test_through_is_the_chain_rule_with_the_posterior_covariance(at):
    # (sigma^2 / alpha) dE/dx = Cov[x0 | x], so the step is the covariance times the gradient in x0.
    l = LEVELS[at]
    x0 = CLASSES(X, l)
    step = (CLASSES.posterior_cov(X, l) @ (2 * (x0 - 0.6))[..., None])[..., 0]
    assert_close(guide(CLASSES, squares, 0.3)(X, l), x0 - 0.3 * step, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("at", LEVELS)
def test_not_through_holds_eps_fixed_and_never_differentiates_the_network(at):
    l = LEVELS[at]

    def network(x, level):
        assert not torch.is_grad_enabled() and not x.requires_grad
        return CLASSES(x, level)

    own, x0 = l.like(X), CLASSES(X, l)
    assert_close(
        guide(network, squares, 0.3, through=False)(X, l),
        x0 - 0.3 * (own.sigma / own.alpha) ** 2 * 2 * (x0 - 0.6),
    )
    eps = (
        X - own.alpha * x0
    ) / own.sigma  # in the eps-fixed view: x moves by sigma^2 times the gradient (fast.ai's loop)
    moved = X.clone().requires_grad_()
    (g,) = torch.autograd.grad(squares((moved - own.sigma * eps) / own.alpha).sum(), moved)
    assert_close(
        ((X - 0.3 * own.sigma**2 * g) - own.sigma * eps) / own.alpha,
        guide(CLASSES, squares, 0.3, through=False)(X, l),
    )


@pytest.mark.parametrize("weight", [0, 0.0, lambda l: 0.0, interval(3.0, 50.0, 60.0, outside=0.0)])
def test_weight_0_is_bit_equal_and_takes_no_gradient(weight):
    def network(x, l):
        assert not x.requires_grad
        return CLASSES(x, l)

    def never(*_):
        raise AssertionError("the loss was evaluated")

    for through in (True, False):
        assert torch.equal(guide(network, never, weight, through)(X, vp(0.0)), CLASSES(X, vp(0.0)))
    assert torch.equal(classifier(network, never, weight)(X, vp(0.0)), CLASSES(X, vp(0.0)))


def test_one_weight_a_sample():
    l = level([1.0] * 4, [0.1, 1.0, 1.5, 9.0])
    out = guide(CLASSES, squares, interval(0.3, 0.5, 2.0, outside=0.0))(X, l)
    assert_close(out[1:3], guide(CLASSES, squares, 0.3)(X, l)[1:3])
    assert torch.equal(out[[0, 3]], CLASSES(X, l)[[0, 3]])


@pytest.mark.parametrize("through", [True, False])
def test_pure_noise_is_left_alone_and_both_ends_are_finite(through):
    top, mixed = level(0.0, 1.0), level([0.0, 0.5, 1.0, 1e-4], [1.0, 0.5, 0.0, 1.0])
    ends = guide(CLASSES, squares, 0.3, through)
    assert torch.equal(ends(X, top), CLASSES(X, top))
    out = ends(X, mixed)
    assert out.isfinite().all() and torch.equal(out[0], CLASSES(X, top)[0]) and torch.equal(out[2], X[2])
    assert_close(out[1], guide(CLASSES, squares, 0.3, through)(X, level(0.5, 0.5))[1])
    x = X.clone().requires_grad_()
    assert torch.autograd.grad(ends(x, mixed).sum(), x)[0].isfinite().all()
    logp = lambda x, l: CLASSES.log_classes(x, l)[:, 1]
    assert torch.equal(classifier(CLASSES, logp)(X, top), CLASSES(X, top))
    assert classifier(CLASSES, logp)(X, mixed).isfinite().all()


def test_a_network_that_is_not_constant_at_pure_noise_stays_finite_too():
    learned = lambda x, l: 0.3 * x
    assert torch.equal(guide(learned, squares)(X, level(0.0, 1.0)), 0.3 * X)


@pytest.mark.parametrize("through", [True, False])
def test_works_under_no_grad_leaves_grad_mode_and_returns_no_graph(through):
    x = X.clone()
    with torch.no_grad():
        out = guide(CLASSES, squares, 0.3, through)(x, vp(0.0))
        assert not torch.is_grad_enabled()
    assert not out.requires_grad and torch.equal(x, X) and not x.requires_grad
    assert torch.equal(out, guide(CLASSES, squares, 0.3, through)(x, vp(0.0))) and torch.is_grad_enabled()


def test_parameters_of_a_network_gather_no_gradient():
    net = torch.nn.Linear(2, 2).double()
    guide(lambda x, l: net(x), squares)(X, vp(0.0))
    assert net.weight.grad is None


@pytest.mark.parametrize("through", [True, False])
def test_samples_do_not_influence_each_other(through):
    whole = guide(CLASSES, lambda x0: (x0 - 0.6).norm(dim=1), 0.3, through)
    for i in range(4):
        assert torch.equal(whole(X, vp(0.0))[i : i + 1], whole(X[i : i + 1], vp(0.0)))


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("outer", [True, False])
def test_guides_nest_and_the_outer_one_differentiates_the_inner(through, outer):
    inner = guide(CLASSES, squares, 0.2, through)
    loss = lambda x0: (x0[:, 0] + 0.3) ** 2
    out, l = guide(inner, loss, 0.5, outer)(X, vp(0.5)), vp(0.5)
    if outer:
        x, h, slope = X.clone(), 1e-5, torch.zeros_like(X)
        for j in range(2):  # by finite differences of the inner guide
            step = torch.zeros_like(X)
            step[:, j] = h
            slope[:, j] = (loss(inner(x + step, l)) - loss(inner(x - step, l))) / (2 * h)
        assert_close(out, inner(X, l) - 0.5 * l.sigma**2 / l.alpha * slope, rtol=0, atol=1e-7)
    else:
        e = inner(X, l)
        g = torch.stack([2 * (e[:, 0] + 0.3), 0 * e[:, 0]], 1)
        assert_close(out, e - 0.5 * (l.sigma / l.alpha) ** 2 * g)


def test_a_classifier_inside_a_guide_is_differentiated():
    inner = classifier(CLASSES, lambda x, l: CLASSES.log_classes(x, l)[:, 0])
    l = vp(0.5)
    assert_close(
        guide(inner, squares, 0.2)(X, l), guide(CLASSES.given(0), squares, 0.2)(X, l), rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize("weight", [math.nan, math.inf, None, "strong", [1.0, 2.0]])
def test_bad_weights_are_refused_at_construction(weight):
    for make in (lambda: guide(CLASSES, squares, weight), lambda: classifier(CLASSES, squares, weight)):
        with pytest.raises(BadInput) as e:
            make()
        assert "\n" not in str(e.value)


def test_dtype_of_the_state_is_kept():
    assert guide(CLASSES, squares, 0.3)(X.float(), vp(0.0)).dtype == torch.float32
    assert (
        classifier(CLASSES, lambda x, l: CLASSES.log_classes(x, l)[:, 0])(X.float(), vp(0.0)).dtype
        == torch.float32
    )
