"""Stochastic samplers and paths that go up keep the distribution; Langevin's stationary law is the one in
closed form.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from unnoise.denoiser.oracle import Mixture
from unnoise.errors import BadInput
from unnoise.process import level, schedule
from unnoise.process.noise import brownian, seeded, zeros
from unnoise.sample import SAMPLERS, last, restart_path, rewind
from unnoise.sample.langevin import ula

from .worlds import FRAMES, MEAN, STD, WORLD, Traced, ending, normals, path, quick, start, std_at

N = 20000


def statistics(name, p, **options):
    x = last(SAMPLERS[name](WORLD, start(p[0], normals(N, 1)), p, quick(), **options))
    return (
        x.mean().item() / p[-1].alpha.item(),
        x.std().item() / p[-1].alpha.item(),
        std_at(p[-1]) / p[-1].alpha.item(),
    )


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(
    "name, options",
    [
        *((n, {}) for n, s in SAMPLERS.items() if s.stochastic and n not in ("consistency", "langevin")),
        ("ddim", {"eta": 0.5}),
        ("ddim", {"eta": 1.0}),
        ("ddpm", {"variance": "large"}),
        ("dpmpp_2s", {"eta": 1.0}),
        ("dpmpp_sde", {"eta": 0.5}),
        ("dpmpp_2m_sde", {"eta": 0.5}),
        ("predictor_corrector", {"corrections": 2}),
        ("edm", {"s_churn": 60.0, "s_min": 0.0, "s_max": 80.0}),
        ("restart", {"low": 0.3, "high": 3.0, "times": 10, "steps": 8}),
    ],
)
def test_mean_and_std_are_kept(name, options, frame):
    mean, std, true = statistics(name, path(frame, 400, -7, 6), **options)
    assert abs(mean - MEAN) < 0.02 and abs(std - true) < 0.02, (mean, std, true)


@pytest.mark.parametrize(
    "name", [n for n, s in SAMPLERS.items() if not s.stochastic and n not in ("adam", "momentum")]
)
def test_paths_that_go_up_keep_mean_and_std(name):
    p = path("vp", 200, -7, 6)
    for q in (
        rewind(p, 3, 20),
        rewind(p, 2, 40),
        restart_path(restart_path(p, 0.1, 0.5, 3, 12), 1.0, 4.0, 3, 12),
    ):
        mean, std, true = statistics(name, q)
        assert abs(mean - MEAN) < 0.02 and abs(std - true) < 0.02, (mean, std, true)


def test_two_calls_of_dpmpp_sde_are_worth_more_than_twice_the_steps():
    # Only if the middle and the end of a step see one Brownian path; with noises drawn apart it is no better
    # than Euler.
    error = {}
    for n, steps in (("dpmpp_sde", 20), ("euler_ancestral", 40)):
        _, std, true = statistics(n, path("vp", steps, -7, 6))
        error[n] = abs(std / true - 1)
    assert error["dpmpp_sde"] < 0.5 * error["euler_ancestral"], error


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_dpmpp_2m_sde_is_the_published_step(eta):
    # The marginals do not tell which SDE is solved; the step does: x e^(-eta h) s_b/s_a + (1 - e^(-h - eta
    # h)) D + noise.
    p, one = [level.ve(s) for s in (5.0, 3.0, 1.0)], lambda like, *_: torch.ones_like(like)
    x = y = start(p[0], normals(3, 2))
    old = None
    for a, b in pairwise(p):
        h, d = math.log(a.sigma / b.sigma), WORLD(y, a)
        use = d if old is None else d + (d - old[0]) * h / (2 * old[1])
        y = (
            b.sigma / a.sigma * math.exp(-eta * h) * y
            + (1 - math.exp(-h - eta * h)) * use
            + b.sigma * math.sqrt(1 - math.exp(-2 * eta * h))
        )
        old = d, h
    torch.testing.assert_close(
        last(SAMPLERS["dpmpp_2m_sde"](WORLD, x, p, one, eta=eta)), y, atol=1e-12, rtol=0
    )


def test_dpmpp_sde_carries_the_noise_of_its_middle_on_as_the_sde_does():
    # For a point mass the ancestral step is exact over any interval: one of ours is two of DDPM's with the
    # same draws.
    point, (a, b) = lambda x, l: torch.full_like(x, MEAN), path("vp", 1, -4, 1)
    m = level.level((a.alpha * b.alpha).sqrt(), (a.sigma * b.sigma).sqrt())
    x = start(a, normals(2, 3))
    one, two = (
        last(SAMPLERS[n](point, x, p, seeded([1, 2])))
        for n, p in (("dpmpp_sde", [a, b]), ("ddpm", [a, m, b]))
    )
    torch.testing.assert_close(one, two, atol=1e-12, rtol=0)


def test_consistency_with_the_exact_flow_map_needs_two_calls():
    end = level.clean()
    student = Traced(lambda x, l: WORLD.flow(x, l, end))
    p = [path("flow", 1)[0], level.flow(0.5), end]
    x = last(SAMPLERS["consistency"](student, start(p[0], normals(N, 1)), p, quick()))
    assert len(student.levels) == 2 and abs(x.mean() - MEAN) < 0.02 and abs(x.std() - STD) < 0.02


# --- Langevin -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.01, 0.1, 0.5, 1.0])
def test_stationary_variance_of_ula_is_one_over_one_minus_half_a_step(step):
    # On N(0, 1), data a point at 0 and sigma = 1: x <- (1 - e) x + sqrt(2 e) z exactly, so 1 / (1 - e / 2)
    # maps to itself..

    l, one = level.ve(1.0), torch.ones(1, 1, dtype=torch.float64)
    decay, kick = ula(one, 0 * one, l, step, 0 * one).item(), ula(0 * one, 0 * one, l, step, one).item()
    var = 1 / (1 - step / 2)
    assert abs(decay**2 * var + kick**2 - var) < 1e-12
    assert round(var, 6) == {0.01: 1.005025, 0.1: 1.052632, 0.5: 1.333333, 1.0: 2.0}[step]
    x, noise = quick(3)(one.expand(200000, 1)) * math.sqrt(var), quick(4)
    for _ in range(3):
        x = ula(x, 0 * x, l, step, noise(x))
    assert abs(x.var().item() / var - 1) < 0.02


@pytest.mark.slow
def test_annealed_langevin_reaches_the_data_with_the_bias_of_its_step():
    p = ending("ve", 60, -6, 6)
    for step, steps, bias in ((0.1, 20, 0.06), (0.03, 60, 0.03)):
        mean, std, _ = statistics("langevin", p, step=step, steps=steps)
        assert abs(mean - MEAN) < 0.03 and abs(std / STD - 1) < bias, (mean, std)


def test_annealed_langevin_finds_the_weights_of_two_modes():
    # Far modes of weights 0.8 and 0.2: plain Langevin at the last level cannot cross between them, annealing
    # can.
    world = Mixture([[-4.0], [4.0]], 1.0, [0.8, 0.2])
    x = 10 * normals(4000, 1)
    p = [level.ve(s) for s in torch.logspace(1, -1, 12, dtype=torch.float64)]
    found = last(SAMPLERS["langevin"](world, x, p, quick(), steps=40))
    plain = last(SAMPLERS["langevin"](world, x, [level.ve(0.2), level.ve(0.1)], quick(), steps=200))
    assert abs((found < 0).double().mean() - 0.8) < 0.03 and abs((plain < 0).double().mean() - 0.5) < 0.05


# --- churn and restarts -------------------------------------------------------------------------------------


def test_edm_is_karras_algorithm_2():
    s_churn, s_min, s_max, s_noise = 6.0, 0.1, 20.0, 1.003
    p = schedule.edm().path(10, "karras")
    x = y = start(p[0], normals(3, 2))
    noise, gamma = seeded([1, 2, 3]), min(s_churn / 10, math.sqrt(2) - 1)
    for a, b in pairwise(p):
        s, t = a.sigma, b.sigma
        if s_min <= s <= s_max:
            s = s * (1 + gamma)
            y = y + (s**2 - a.sigma**2).sqrt() * s_noise * noise(y)
        d = (y - WORLD(y, level.ve(s))) / s
        z = y + (t - s) * d
        y = y + (t - s) * (d + (z - WORLD(z, b)) / t) / 2 if t > 0 else z
    denoise = Traced()
    options = {"s_churn": s_churn, "s_min": s_min, "s_max": s_max, "s_noise": s_noise}
    found = last(SAMPLERS["edm"](denoise, x, p, seeded([1, 2, 3]), **options))
    torch.testing.assert_close(found, y, atol=1e-11, rtol=0)
    raised = [l for l in denoise.levels if all(abs(l.sigma - q.sigma) > 1e-9 for q in p)]
    assert len(raised) == sum(
        s_min <= l.sigma <= s_max for l in p
    )  # the network is called at the raised levels


def test_churn_does_not_go_above_the_noisiest_level():
    p = schedule.scaled_linear().path(20, "karras")
    run, _ = SAMPLERS["edm"].plan(p, zeros, s_churn=100.0)
    assert max(l.ratio for l in run) == p[0].ratio and len(run) > 30


def test_restart_is_the_published_number_of_calls_and_levels():
    p = schedule.edm().path(18, "karras")
    for times, steps, calls in ((2, 2, 43), (10, 2, 75)):  # 18 steps; n = 3 points are 2 steps
        q = restart_path(p, 0.14, 0.30, times, steps)
        assert SAMPLERS["heun"].calls(q) == calls == SAMPLERS["restart"].calls(p, times=times, steps=steps)
    i = min(range(18), key=lambda i: abs(math.log(p[i].sigma / 0.14)))
    assert (
        q[: i + 1] == p[: i + 1]
        and abs(q[i + 1].sigma - 0.30) < 1e-12
        and q[i + 3] == p[i]
        and q[-1] == p[-1]
    )
    mid = ((0.30 ** (1 / 7) + p[i].sigma ** (1 / 7)) / 2) ** 7
    assert abs(q[i + 2].sigma - mid) < 1e-12


@pytest.mark.parametrize(
    "frame, hold",
    [
        ("vp", lambda l: l.alpha**2 + l.sigma**2),
        ("flow", lambda l: l.alpha + l.sigma),
        ("ve", lambda l: l.alpha),
    ],
)
def test_levels_put_in_by_a_restart_stay_near_the_paths_scale(frame, hold):
    for l in restart_path(path(frame, 20, -7, 6), 0.14, 1.0, 3, 4):
        assert abs(hold(l) - 1) < 0.02


def test_restart_leaves_paths_alone_that_do_not_pass_the_interval():
    for p in (
        [level.ve(5.0), level.clean()],
        [level.ve(0.2), level.ve(0.1), level.clean()],
        [level.ve(5.0), level.ve(1.0)],
    ):
        assert len(restart_path(p, 0.14, 0.3)) == len(p)
    with pytest.raises(BadInput, match="low must be below high"):
        restart_path(path("ve", 4), 0.3, 0.3)


def test_rewind():
    p = list("abcdefg")
    assert rewind(p, 1, 2) == tuple(p)
    assert "".join(rewind(p, 2, 2)) == "abc" + "abc" + "de" + "cde" + "fg"
    assert "".join(rewind(p, 3, 3)) == "abcd" + "abcd" * 2 + "efg"
    assert rewind(p, 9, 10) == tuple(p)
    for times, jump in ((0, 1), (1, 0), (1.5, 1)):
        with pytest.raises(BadInput):
            rewind(p, times, jump)


@pytest.mark.parametrize(
    "name", ["dpmpp_2m", "dpmpp_3m", "unipc", "lms", "ghvb", "gradient_estimation", "adam"]
)
def test_an_upward_move_forgets_the_past(name):
    # Down again from the same x over the same levels, a rule with memory must do what it does on its first
    # way.
    p, x = path("ve", 8), start(path("ve", 8)[4], normals(2, 2))
    back = [*p[:4], p[5], *p[4:]]  # down to level 5, up to 4, and down
    land = lambda like, a, b: (x - like) / (b.sigma**2 - a.sigma**2).sqrt()
    found = last(SAMPLERS[name](WORLD, start(p[0], normals(2, 2, seed=7)), back, land))
    torch.testing.assert_close(found, last(SAMPLERS[name](WORLD, x, p[4:])), atol=1e-9, rtol=0)


# --- one Brownian path --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options",
    [
        ("ddpm", {}),
        ("euler_ancestral", {}),
        ("ddim", {"eta": 0.7}),
        ("dpmpp_2s", {"eta": 1.0}),
        ("dpmpp_sde", {}),
        ("dpmpp_2m_sde", {}),
    ],
)
def test_with_brownian_noise_more_steps_converge_to_the_same_image(name, options):
    def end(n):
        p = path("vp", n, -5, 4)
        return last(SAMPLERS[name](WORLD, start(p[0], normals(3, 2)), p, brownian([1, 2, 3]), **options))

    found = [end(n) for n in (16, 32, 64, 128, 256)]
    gaps = [(a - b).abs().max().item() for a, b in pairwise(found)]
    assert gaps[-1] < 0.02 and gaps[-1] < gaps[0] / 4, gaps
    p = path("vp", 256, -5, 4)
    fresh = last(SAMPLERS[name](WORLD, start(p[0], normals(3, 2)), p, seeded([1, 2, 3]), **options))
    assert (fresh - found[-1]).abs().max() > 0.1  # while other noise gives another image
