"""Score matching against Gaussians and mixtures, where every objective and its minimiser are known in closed
form.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.sample.worlds import quick
from tests.support import normal
from unnoise.denoiser import Mixture
from unnoise.errors import BadInput
from unnoise.process import level, posterior
from unnoise.process.noise import seeded
from unnoise.train import score
from unnoise.train.score import PROJECTIONS, Projections, project

D, STD, N = 5, 1.3, 20000
TRUTH = lambda x: -x / STD**2
PLANE = Mixture([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], 0.3, [0.5, 0.3, 0.2])
EXACT = dict(rtol=1e-11, atol=1e-11)


def model(tau):
    return lambda x: -x / tau**2


def exactly(n=N):
    """Samples of N(0, STD^2 I_D) whose second moment is no less exact: the objective's mean is then its
    expectation.
    """
    x = normal(n, D)
    return x * (STD / x.square().mean().sqrt())


def curved(x):
    """A score with a Jacobian that is neither symmetric nor constant, for any shape."""
    y = x.flatten(1)
    return (torch.sin(2 * y) + y.roll(1, 1) * y * 0.7 - y.roll(2, 1) ** 2).reshape(x.shape)


def jacobian(f, x):
    """(n, d, d) of each sample, by torch."""
    return torch.stack(
        [torch.autograd.functional.jacobian(lambda v: f(v[None])[0], v).reshape(v.numel(), -1) for v in x]
    )


# --- explicit and implicit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.7, 1.3, 2.0])
def test_implicit_is_the_closed_form(tau):
    x = exactly(500)
    per = score.implicit(model(tau), x)
    assert_close(per, -D / tau**2 + x.square().sum(1) / (2 * tau**4), **EXACT)  # measured 2e-14
    assert abs(per.mean() - D * (STD**2 / (2 * tau**4) - 1 / tau**2)) < 1e-9  # measured 6e-15
    assert tau != STD or round(per.mean().item(), 4) == -1.4793  # its minimum, -d / (2 s^2)


def test_the_minimum_is_at_the_truth_for_implicit_and_explicit_alike():
    x = normal(N, D) * STD
    for loss in (score.implicit, lambda s, x: score.explicit(s, x, TRUTH)):
        tau = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        for _ in range(30):  # Newton's method on a convex curve, from above
            (slope,) = torch.autograd.grad(loss(model(tau), x).mean(), tau, create_graph=True)
            (curve,) = torch.autograd.grad(slope, tau)
            with torch.no_grad():
                tau -= (slope / curve.abs()).clamp(-0.2, 0.2)
        assert abs(tau.item() / STD - 1) < 0.01  # measured 0.0027 and 2e-8: the samples' own spread and none


def test_implicit_is_explicit_up_to_a_constant_of_the_data():
    x = exactly()
    gaps = [
        (score.explicit(s, x, TRUTH) - score.implicit(s, x)).mean()
        for s in (model(0.8), model(1.3), model(3.0), lambda x: 0 * x)
    ]
    assert_close(
        torch.stack(gaps), torch.full((4,), D / (2 * STD**2), dtype=torch.float64), rtol=0, atol=1e-9
    )  # measured 4e-16
    y = PLANE.sample(N)
    for s in (
        lambda x: PLANE.score(x, level.ve(0.5)),
        curved,
    ):  # where the truth has two modes, by Monte Carlo
        truth = lambda x: PLANE.score(x, level.clean())
        gap = score.explicit(s, y, truth) - score.implicit(s, y) - truth(y).square().sum(1) / 2
        assert abs(gap.mean()) < 4 * gap.std() / N**0.5  # measured 1.6 and 0.3 s.e.


@pytest.mark.parametrize("shape", [(3,), (2, 3, 2)], ids=["vectors", "images"])
def test_trace_is_torchs_and_each_sample_its_own(shape):
    x = normal(4, *shape)
    out, trace = score.divergence(curved, x)
    assert_close(trace, jacobian(curved, x).diagonal(dim1=1, dim2=2).sum(1), **EXACT)  # measured 0
    assert_close(out, curved(x), **EXACT)
    assert_close(score.implicit(curved, x[1:2]), score.implicit(curved, x)[1:2], **EXACT)
    assert_close(
        score.explicit(curved, x, torch.sin), (curved(x) - x.sin()).square().flatten(1).sum(1) / 2, **EXACT
    )


def test_losses_carry_gradients_when_wanted_and_no_graph_when_not():
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x = normal(4, 3)
    v = project("gaussian", x, seeded(range(4)), 2)
    for loss in (
        lambda: score.implicit(net, x),
        lambda: score.sliced(net, x, v),
        lambda: score.sliced_vr(net, x, v),
    ):
        grads, numeric = torch.autograd.grad(loss().mean(), list(net.parameters()), allow_unused=True), []
        weight = net[0].weight
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[1, 2] += step
                numeric.append(loss().mean())
                weight[1, 2] -= step
        assert not numeric[0].requires_grad
        assert abs(grads[0][1, 2] - (numeric[0] - numeric[1]) / 2e-5) < 1e-7  # measured 2e-11


# --- sliced -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, square, fourth",
    [("rademacher", 1.0, 1.0), ("gaussian", 1.0, 3.0), ("sphere", 1 / D, 3 / (D * (D + 2)))],
)
def test_projections_are_distributed_as_named(kind, square, fourth):
    v = project(kind, normal(N, D), quick()).v[0]
    assert_close(
        v.T @ v / N, square * torch.eye(D).double(), rtol=0, atol=0.05 * square
    )  # measured 0.019: E v v'
    assert abs((v**4).mean() / fourth - 1) < 0.02  # measured 0.003
    assert kind != "sphere" or (v.norm(dim=1) - 1).abs().max() < 1e-12
    assert kind != "rademacher" or set(v.flatten().tolist()) == {-1.0, 1.0}


def test_projections_of_a_sample_are_its_seeds():
    x = normal(3, 2, 2)
    for kind in PROJECTIONS:
        v = project(kind, x, seeded([5, 6, 7], "v"), 3)
        assert v.kind == kind and v.v.shape == (3, 3, 2, 2) and not torch.equal(v.v[0], v.v[1])
        assert torch.equal(project(kind, x[1:2], seeded([6], "v"), 3).v, v.v[:, 1:2])


@pytest.mark.parametrize(
    "loss, kind, mean",
    [
        (score.sliced, "sphere", -1.4793 / D),
        (score.sliced, "gaussian", -1.4793),
        (score.sliced, "rademacher", -1.4793),
        (score.sliced_vr, "gaussian", -1.4793),
        (score.sliced_vr, "rademacher", -1.4793),
    ],
)
def test_sliced_losses_have_the_mean_of_the_implicit_one(loss, kind, mean):
    x = exactly(100_000)
    per = loss(model(STD), x, project(kind, x, quick()))
    # measured -0.2958, -1.4701 (1.1 s.e. off), -1.4756 (0.6), -1.4736 (0.9), -1.4793
    assert abs(per.mean() - mean) < 4 * per.std() / 100_000**0.5 + 1e-4
    assert (
        abs(mean) / 40 > 4 * per.std() / 100_000**0.5
    )  # else it could not tell the trace from the trace and 3 %


@pytest.mark.parametrize("shape", [(3,), (2, 3, 2)], ids=["vectors", "images"])
@pytest.mark.parametrize("kind", PROJECTIONS)
def test_sliced_losses_are_their_formulas(kind, shape):
    x, v = normal(4, *shape), project(kind, normal(4, *shape), seeded(range(4)), 3)
    s, J, u = curved(x).flatten(1), jacobian(curved, x), v.v.flatten(2)
    quadratic = torch.einsum("mni,nij,mnj->mn", u, J, u)
    assert_close(
        score.sliced(curved, x, v), (quadratic + torch.einsum("mni,ni->mn", u, s) ** 2 / 2).mean(0), **EXACT
    )
    if kind == "sphere":
        return
    for loss in (score.sliced_vr, score.implicit):
        assert_close(loss(curved, x, v), quadratic.mean(0) + s.square().sum(1) / 2, **EXACT)


@pytest.mark.parametrize("kind, plain, reduced", [("gaussian", 20.0, 12.5), ("rademacher", 12.5, 2.5)])
def test_the_second_form_varies_less(kind, plain, reduced):
    # In closed form for d = 5, in units of 1 / s^4: 3/4 (d^2 + 2 d) - d^2 / 4 and 5/2 d; d^2 / 2 and d / 2.
    x = STD * normal(100_000, D)
    var = [
        loss(model(STD), x, project(kind, x, quick())).var() * STD**4
        for loss in (score.sliced, score.sliced_vr)
    ]
    assert (
        abs(var[0] / plain - 1) < 0.06 and abs(var[1] / reduced - 1) < 0.06
    )  # measured 20.3, 12.4; 12.5, 2.47


def test_on_the_sphere_the_second_form_would_be_wrong_and_is_refused():
    x = exactly()
    v = project("sphere", x, quick())
    for loss in (score.sliced_vr, score.implicit, score.divergence):
        with pytest.raises(BadInput, match=r"E\[v v'\] = I.*shrink the trace") as e:
            loss(model(STD), x, v)
        assert "\n" not in str(e.value)
    wrong = score.sliced_vr(
        model(STD), x, Projections("gaussian", v.v)
    ).mean()  # what it would have said, under a false name
    assert (
        abs(wrong - (-1 / STD**2 + D / (2 * STD**2))) < 1e-9 and wrong > 0.8
    )  # 0.8876, far from both -1.4793 and -0.2959


# --- denoising ----------------------------------------------------------------------------------------------


def test_denoising_is_its_formula_and_ncsn_its_square_weight():
    x, eps, sigma = (
        normal(4, 2, 3),
        normal(4, 2, 3, seed=1),
        torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64),
    )
    wide = sigma.reshape(4, 1, 1)
    noisy = x + wide * eps
    want = (curved(noisy) + (noisy - x) / wide**2).square().flatten(1).sum(1) / 2
    assert_close(score.denoising(curved, x, sigma, eps), want, **EXACT)
    assert_close(score.denoising(curved, x, 0.5, eps)[1], want[1], **EXACT)
    seen = []
    assert_close(
        score.ncsn(lambda y, l: seen.append(l) or curved(y), x, sigma, eps), sigma**2 * want, **EXACT
    )
    assert torch.equal(seen[0].sigma, sigma) and torch.equal(seen[0].alpha, torch.ones(4).double())
    assert_close(
        score.ncsn(lambda y, l: 0 * y, x, sigma, eps), eps.square().flatten(1).sum(1) / 2, **EXACT
    )  # alike at every level


def test_denoising_finds_the_score_of_the_blurred_density():
    # s(x) = -a x on N(0, 1.3^2): the loss is a parabola in a, with its minimum at 1 / (1.3^2 + sigma^2), not
    # 1 / 1.3^2.
    x, eps = STD * normal(200_000, 1), normal(200_000, 1, seed=1)
    for sigma in (0.3, 1.0, 2.0):
        low, mid, high = (score.denoising(lambda y, a=a: -a * y, x, sigma, eps).mean() for a in (0, 1, 2))
        best = 0.5 - (mid - low) / (high - 2 * mid + low)
        assert abs(best * (STD**2 + sigma**2) - 1) < 0.02  # measured 0.009, 0.003, 0.001


def test_denoising_is_explicit_on_the_blurred_density_up_to_a_constant():
    x, eps, sigma = PLANE.sample(100_000), normal(100_000, 2), 0.4
    truth = lambda y: PLANE.score(y, level.ve(sigma))
    base = score.denoising(truth, x, sigma, eps)
    for s in (curved, model(1.0)):
        gap = score.denoising(s, x, sigma, eps) - base - score.explicit(s, x + sigma * eps, truth)
        assert abs(gap.mean()) < 4 * gap.std() / 100_000**0.5  # measured 1.0 and 0.4 s.e.
        assert score.explicit(s, x + sigma * eps, truth).mean() > 40 * gap.std() / 100_000**0.5


def test_ncsn_is_least_at_the_exact_score_of_every_level():
    sigma = score.levels(2.0, 0.05, 8)[torch.arange(80_000) % 8]
    x, eps = PLANE.sample(80_000), normal(80_000, 2)
    exact = posterior.score(PLANE)
    low, mid, high = (
        score.ncsn(lambda y, l, k=k: k * exact(y, l), x, sigma, eps) for k in (0, 1, 2)
    )  # a parabola in k
    best = [0.5 - (mid - low)[i::8].mean() / (high - 2 * mid + low)[i::8].mean() for i in range(8)]
    assert max(abs(k - 1) for k in best) < 0.05  # measured 0.018, at the level where the score says least


def test_levels_are_ncsns():
    found = score.levels()
    assert len(found) == 10 and found[0] == 1 and abs(found[-1] - 0.01) < 1e-15
    assert_close(found[1:] / found[:-1], torch.full((9,), 100 ** (-1 / 9), dtype=torch.float64))


def test_a_small_net_learns_the_blurred_score_of_three_modes():
    torch.manual_seed(0)
    sizes, sigma, steps, batch = (2, 64, 64, 64, 2), 0.5, 1500, 512
    net = nn.Sequential(*[m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.SiLU())][:-1])
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    rate, z, data = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps),
        quick(),
        PLANE.sample(200_000).float(),
    )
    pick = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x, eps = data[torch.randint(len(data), (batch,), generator=pick)], z(torch.empty(batch, 2))
        loss = score.denoising(
            net, torch.cat([x, x]), sigma, torch.cat([eps, -eps])
        ).mean()  # pairs: most of the noise cancels
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    y = PLANE.sample(5000, seed=1) + sigma * normal(5000, 2)
    truth = PLANE.score(y, level.ve(sigma))
    assert ((net(y.float()) - truth).square().sum() / truth.square().sum()).sqrt() < 0.03  # measured 0.0202
    clean = PLANE.score(y, level.clean())
    assert (
        (net(y.float()) - clean).square().sum() / clean.square().sum()
    ).sqrt() > 0.3  # the data's own score is another


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda x: project("uniform", x, seeded(range(4))), "unknown distribution of projections 'uniform'"),
        (lambda x: project("sphere", x, seeded(range(4)), 0), "count must be a whole number"),
        (lambda x: score.implicit(lambda y: y[:, :2], x), r"the shape of x, \(4, 3\), given \(4, 2\)"),
        (lambda x: score.explicit(TRUTH, x, lambda y: y.sum(1)), r"given \(4,\)"),
        (lambda x: score.implicit(lambda y: y.detach(), x), "cannot be differentiated in x"),
        (
            lambda x: score.implicit(lambda y: torch.ones_like(y).requires_grad_(), x),
            "cannot be differentiated in x",
        ),
        (
            lambda x: score.sliced(TRUTH, x, project("gaussian", x[:2], seeded(range(2)))),
            r"must be \(m, n, …\), given \(1, 2, 3\)",
        ),
        (lambda x: score.denoising(TRUTH, x, 0.0, x), "sigma must be positive"),
        (lambda x: score.denoising(TRUTH, x, torch.ones(3), x), "one a sample"),
        (lambda x: score.denoising(TRUTH, x, 1.0, x[:2]), r"given \(2, 3\)"),
        (lambda x: score.ncsn(lambda y, l: y, x, float("nan"), x), "sigma must be positive"),
        (lambda x: score.levels(0.01, 1.0), "0 < low < high"),
    ],
)
def test_bad_input_is_told_in_one_line(call, says):
    with pytest.raises(BadInput, match=says) as e:
        call(normal(4, 3))
    assert "\n" not in str(e.value)


def test_inputs_are_left_alone():
    x = normal(4, 3)
    for loss in (score.implicit, lambda s, x: score.sliced(s, x, project("gaussian", x, seeded(range(4))))):
        before = x.clone()
        loss(curved, x)
        assert torch.equal(x, before) and not x.requires_grad and math.isfinite(x.sum())
