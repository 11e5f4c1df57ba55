"""Deterministic samplers follow the exact probability flow, at their declared order, in every coordinates
alike.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from unnoise.denoiser.oracle import Gaussian, Mixture
from unnoise.process import level
from unnoise.process.level import Level
from unnoise.process.noise import seeded
from unnoise.sample import SAMPLERS, last
from unnoise.sample.multistep import weights
from unnoise.sample.optimise import adams_differences

from .worlds import FRAMES, MEAN, WORLD, ending, path, start

DETERMINISTIC = [n for n, s in SAMPLERS.items() if not s.stochastic]
Z = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]


def slopes(name, levels, counts, **options):
    errors = []
    for n in counts:
        p = levels(n)
        x = start(p[0], Z)
        errors.append(
            (last(SAMPLERS[name](WORLD, x, p, **options)) - WORLD.flow(x, p[0], p[-1])).abs().max().item()
        )
    return [math.log2(a / b) for a, b in pairwise(errors)], errors


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_converges_to_the_exact_flow_at_its_declared_order(name, frame):
    counts = (
        (256, 512, 1024) if name == "adam" else (64, 128, 256, 512)
    )  # smoothing makes adam slow to show its order
    found, errors = slopes(name, lambda n: path(frame, n), counts)
    assert abs(found[-1] - SAMPLERS[name].order) < (0.25 if name in ("adam", "lms") else 0.15), (
        found,
        errors,
    )
    assert errors[-1] < (0.03 if SAMPLERS[name].order == 1 else 1e-4)


# Options whose order differs from the default's, and rules that are deterministic only without their noise.
@pytest.mark.parametrize(
    "name, options, order",
    [
        ("unipc", {"order": 1}, 2),
        ("unipc", {"order": 3}, 4),
        ("unipc", {"b_h": "bh1"}, 3),
        ("ab", {"order": 1}, 1),
        ("ab", {"variable": "sigma"}, 2),
        ("lms", {"order": 2}, 2),
        ("lms", {"order": 3}, 3),
        ("gradient_estimation", {"gamma": 2.0}, 1),
        ("gradient_estimation", {"gamma": 1.0}, 1),
        ("ghvb", {"order": 1}, 1),
        ("ghvb", {"order": 2, "beta": 0.5}, 2),
        ("momentum", {"beta": 1.0}, 1),
        ("dpmpp_sde", {"eta": 0.0}, 2),
        ("dpmpp_2m_sde", {"eta": 0.0}, 2),
        ("euler_ancestral", {"eta": 0.0}, 1),
        ("edm", {"s_churn": 0.0}, 2),
        ("restart", {"times": 0}, 2),
    ],
)
def test_order_of_options(name, options, order):
    found, errors = slopes(name, lambda n: path("vp", n), (64, 128, 256, 512), **options)
    assert abs(found[-1] - order) < 0.2, (found, errors)


def test_third_order_adams_where_it_starts_near_pure_noise():
    # The first step is of first order; it only costs nothing where the estimate hardly changes yet, at high
    # noise.
    for name, options in (("ab", {"order": 3}), ("dpmpp_3m", {})):
        found, errors = slopes(name, lambda n: path("ve", n, -12, 1), (64, 128, 256, 512), **options)
        assert abs(found[-1] - 3) < 0.15, (name, found, errors)


@pytest.mark.parametrize("name", SAMPLERS)
def test_equal_log_snr_gives_equal_results_in_every_coordinates(name):
    z, out = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), {}
    for frame in FRAMES:
        for levels in (path(frame, 12), ending(frame, 12, high=5)):
            x = last(SAMPLERS[name](WORLD, start(levels[0], z), levels, seeded([4, 5, 6]))) / levels[-1].alpha
            out.setdefault(levels[-1].clean, []).append(x)
    for found in out.values():
        for other in found[1:]:
            torch.testing.assert_close(found[0], other, atol=1e-10, rtol=0)


def test_ddpm_large_variance_is_the_same_in_every_coordinates():
    z, found = torch.ones(2, 2, dtype=torch.float64), []
    for frame in FRAMES:
        p = path(frame, 12)
        found.append(
            last(SAMPLERS["ddpm"](WORLD, start(p[0], z), p, seeded([4, 5]), variance="large")) / p[-1].alpha
        )
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, atol=1e-10, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([n for n in DETERMINISTIC if n != "adams"]),
    st.sampled_from(list(FRAMES)),
    st.booleans(),
    st.lists(st.floats(-12, 10), min_size=2, max_size=7, unique_by=lambda v: round(v, 1)),
)
def test_a_point_mass_is_reached_exactly_down_any_path(name, frame, ends, ks):
    # x0 and eps are constant along the flow, so extrapolation, averages and moments must all leave them
    # alone.
    p = [FRAMES[frame](torch.tensor(k, dtype=torch.float64)) for k in sorted(ks)] + [level.clean()] * ends
    eps = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    x = p[0].alpha * MEAN + p[0].sigma * eps
    found = last(SAMPLERS[name](lambda x, l: torch.full_like(x, MEAN), x, p))
    torch.testing.assert_close(found, p[-1].alpha * MEAN + p[-1].sigma * eps, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("ks", [(-9, 8), (-6, -1, 0, 9), (-3, 5, 5.5, 6, 11)])
def test_adams_is_exact_for_round_data_of_its_scale_down_any_path(frame, ks):
    # Not for a point mass, as the others: its v vanishes for a Gaussian of standard deviation `scale`, x / N
    # stands still.
    p = [FRAMES[frame](torch.tensor(k, dtype=torch.float64)) for k in ks]
    z, size = (
        torch.linspace(-2, 2, 6, dtype=torch.float64).reshape(2, 3),
        lambda l: torch.hypot(1.7 * l.alpha, l.sigma),
    )
    found = last(
        SAMPLERS["adams"](Gaussian(torch.zeros(3, dtype=torch.float64), 1.7**2), size(p[0]) * z, p, scale=1.7)
    )
    torch.testing.assert_close(found, size(p[-1]) * z, atol=1e-12, rtol=1e-12)


# --- observed orders on a ring of Gaussians against an independent integrator (algorithms: sigma in [0.5,
# 10],

RING = Mixture.ring()


@pytest.fixture(scope="module")
def reference():
    x = 10 * torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def field(s, y):
        y = torch.from_numpy(y).reshape(6, 2)
        return ((y - RING(y, level.ve(s))) / s).flatten().numpy()

    out = solve_ivp(field, (10, 0.5), x.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    return x, torch.from_numpy(out).reshape(6, 2)


@pytest.mark.parametrize(
    "name, options, order",
    [
        ("euler", {}, 1.0),
        ("heun", {}, 2.02),
        ("dpmpp_2m", {}, 2.02),
        ("unipc", {}, 2.95),
        ("ghvb", {}, 1.97),
        ("gradient_estimation", {"gamma": 2.0}, 0.87),
        ("gradient_estimation", {}, 1.98),
        ("ab", {"variable": "sigma"}, 1.95),
    ],
)
def test_observed_orders(reference, name, options, order):
    x, exact = reference
    errors = []
    for n in (64, 128, 256):
        p = [level.ve(s) for s in np.geomspace(10, 0.5, n + 1)]
        errors.append((last(SAMPLERS[name](RING, x, p, **options)) - exact).square().mean().sqrt().item())
    assert abs(math.log2(errors[-2] / errors[-1]) - order) < 0.15, errors


# --- closed forms -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-3, 1), min_size=1, max_size=4, unique_by=lambda v: round(v, 1)),
    st.floats(-12, 12),
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
)
def test_weights_integrate_polynomials_exactly(places, c, coefficients):
    poly = np.polynomial.Polynomial(coefficients[: len(places)])
    u = np.linspace(0, 1, 20001)
    density = np.exp(c * u - max(c, 0))
    simpson = np.ones(20001)
    simpson[1:-1:2] = 4
    simpson[2:-1:2] = 2
    exact = (simpson * density * poly(u)).sum() / (simpson * density).sum()
    w = weights([torch.tensor(v, dtype=torch.float64) for v in places], torch.tensor(c, dtype=torch.float64))
    assert abs((w.numpy() * poly(np.array(places))).sum() - exact) < 1e-8 * (1 + w.abs().sum().item())


def test_adams_coefficients():
    assert np.allclose(adams_differences(4), [1, 1 / 2, 5 / 12, 3 / 8])
    zero = torch.zeros((), dtype=torch.float64)
    # Equal steps, constant density: the textbook method.
    w = weights([zero - i for i in range(4)], zero)
    torch.testing.assert_close(w, torch.tensor([55, -59, 37, -9], dtype=torch.float64) / 24)


def test_gradient_estimation_at_three_halves_is_dpm_solver_2m_on_eps():
    lam = torch.linspace(-3, 2, 11, dtype=torch.float64)
    p = [level.ve((-k).exp()) for k in lam]
    x = y = start(p[0], Z)
    old = None
    for a, b in pairwise(p):  # DPM-Solver-2M, noise prediction, midpoint
        eps, h = (y - WORLD(y, a)) / a.sigma, math.log(a.sigma / b.sigma)
        d = eps if old is None else eps + (eps - old) / 2
        y, old = y - b.sigma * math.expm1(h) * d, eps
    torch.testing.assert_close(last(SAMPLERS["gradient_estimation"](WORLD, x, p)), y, atol=1e-12, rtol=0)


def test_heavy_ball_without_average_is_adams_bashforth():
    p = [level.ve(s) for s in torch.linspace(5, 0.5, 19, dtype=torch.float64)]  # equal steps in sigma
    x = start(p[0], Z)
    for order in (1, 2):  # above, the two differ in their first steps
        want = last(SAMPLERS["lms"](WORLD, x, p, order=order))
        torch.testing.assert_close(
            last(SAMPLERS["ghvb"](WORLD, x, p, order=order, beta=1.0)), want, atol=1e-12, rtol=0
        )


def test_heavy_ball_coefficients_are_the_papers():
    p, beta = [level.ve(s) for s in (4.0, 3.0, 2.0, 1.0)], 0.8
    x = y = start(p[0], Z)
    v = None
    for a, b in pairwise(p):
        f = (y - WORLD(y, a)) / a.sigma
        old, v = v, f if v is None else (1 - beta) * v + beta * f
        use = v if old is None else ((2 + beta) * v - (2 - beta) * old) / (2 * beta)
        y = y + (b.sigma - a.sigma) * use
    torch.testing.assert_close(last(SAMPLERS["ghvb"](WORLD, x, p)), y, atol=1e-12, rtol=0)


def test_ddpm_posterior_mean_and_variance():
    # c1 = sqrt(abar_s) beta / (1 - abar_t), c2 = sqrt(1 - beta) (1 - abar_s) / (1 - abar_t) (Ho et al. 2020,
    # eq. 7).
    at, as_ = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.45, dtype=torch.float64)
    a, b = (Level(v.sqrt(), (1 - v).sqrt()) for v in (at, as_))
    beta = 1 - at / as_
    x, one = start(a, Z), lambda like, *_: torch.ones_like(like)
    mean = as_.sqrt() * beta / (1 - at) * WORLD(x, a) + (1 - beta).sqrt() * (1 - as_) / (1 - at) * x
    for variance, var in (("small", beta * (1 - as_) / (1 - at)), ("large", beta)):
        torch.testing.assert_close(
            last(SAMPLERS["ddpm"](WORLD, x, [a, b], one, variance=variance)), mean + var.sqrt()
        )
    for name in ("ddim", "euler_ancestral"):
        found = last(SAMPLERS[name](WORLD, x, [a, b], one, eta=1.0))
        torch.testing.assert_close(found, mean + (beta * (1 - as_) / (1 - at)).sqrt())


def test_heun_is_karras_algorithm_1():
    p = [level.ve(s) for s in (8.0, 5.0, 2.0, 0.7)] + [level.clean()]
    x = y = start(p[0], Z)
    for a, b in pairwise(p):
        d = (y - WORLD(y, a)) / a.sigma
        z = y + (b.sigma - a.sigma) * d
        y = y + (b.sigma - a.sigma) * (d + (z - WORLD(z, b)) / b.sigma) / 2 if b.sigma > 0 else z
    torch.testing.assert_close(last(SAMPLERS["heun"](WORLD, x, p)), y, atol=1e-12, rtol=0)


def test_heun_survives_a_step_over_many_scales():
    # Averaging eps over a step from sigma = 20000 to 6 (10 steps of the cosine schedule) weighs the change of
    # x0 by 1600.
    p = [level.ve(s) for s in (20000.0, 6.0, 2.0, 0.7, 0.2)]
    x = start(p[0], Z)
    error = {
        n: (last(SAMPLERS[n](WORLD, x, p)) - WORLD.flow(x, p[0], p[-1])).abs().max()
        for n in ("euler", "heun")
    }
    assert error["heun"] < error["euler"] < 0.3, error


def test_adam_leaves_a_constant_field_alone_and_keeps_samples_apart():
    p = path("ve", 10)
    eps = torch.tensor(
        [[1.0, -2.0], [0.0, 0.0]], dtype=torch.float64
    )  # the second sample has no noise at all
    found = last(SAMPLERS["adam"](lambda x, l: torch.ones_like(x), 1 + p[0].sigma * eps, p))
    torch.testing.assert_close(found, 1 + p[-1].sigma * eps)
