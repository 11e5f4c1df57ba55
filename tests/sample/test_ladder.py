"""The contract of every sampler: leaves alone what it is given, refuses what it cannot use, calls as often as
it says.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unnoise.denoiser.adapt import adapt, convex, unit
from unnoise.denoiser.oracle import Mixture
from unnoise.errors import BadInput
from unnoise.process import level, predict, schedule
from unnoise.process.level import Level
from unnoise.process.noise import draw, seeded
from unnoise.sample import SAMPLERS, Sampler, State, ladder, last, rewind

from .worlds import FRAMES, MEAN, WORLD, Traced, ending, path, quick, start, std_at

EVERY = list(SAMPLERS)
every = pytest.mark.parametrize("name", EVERY)
PATH = ending("vp", 7)
UP = rewind(PATH, 2, 3)


def begin(seeds, p=PATH, shape=(3, 2), dtype=torch.float64):
    return start(p[0], torch.stack([draw(s, "start", 0, shape) for s in seeds])).to(dtype)


# On a round Gaussian eps is one function of time for all samples, so that moments shared by a batch would not
# show: not here.
UNEVEN = Mixture([[[-3.0, 0.5]] * 3, [[0.2, 4.0]] * 3], [0.3, 1.5], [0.7, 0.3])


def final(name, seeds, p=PATH, dtype=torch.float64, world=WORLD, **options):
    return last(SAMPLERS[name](world, begin(seeds, p, dtype=dtype), p, seeded(seeds), **options))


# --- purity -------------------------------------------------------------------------------------------------


@every
def test_an_image_depends_on_its_own_seed_alone(name):
    for p in (PATH, UP):
        run = lambda seeds, p=p: final(name, seeds, p, torch.float32, UNEVEN)
        batch, turned = run([7, 8, 9]), run([9, 7, 8])
        for i, s in enumerate((7, 8, 9)):
            torch.testing.assert_close(batch[i], run([s])[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(batch, turned[[1, 2, 0]], atol=1e-5, rtol=1e-5)


@every
def test_the_noise_of_a_sample_is_equal_bit_for_bit_in_any_batch(name):
    def drawn(seeds):
        kept, inner = [], seeded(seeds)

        def noise(like, a, b):
            kept.append(inner(like, a, b))
            return kept[-1]

        last(SAMPLERS[name](WORLD, begin(seeds, UP), UP, noise))
        return torch.stack(kept, 1)

    assert torch.equal(drawn([7, 8, 9])[1], drawn([8])[0])


@every
def test_two_runs_interleaved_do_not_touch(name):
    whole = [list(SAMPLERS[name](WORLD, begin(s), UP, seeded(s))) for s in ([1], [2])]
    runs = [SAMPLERS[name](WORLD, begin(s), UP, seeded(s)) for s in ([1], [2])]
    for states in zip(*whole, strict=True):
        for run, state in zip(runs, states):
            assert torch.equal(next(run).x, state.x)
    again = list(SAMPLERS[name](WORLD, begin([1]), UP, seeded([1])))
    assert all(
        torch.equal(a.x, b.x) and torch.equal(a.x0, b.x0) for a, b in zip(whole[0], again, strict=True)
    )


@every
def test_stopping_early_gives_a_prefix(name):
    states = list(SAMPLERS[name](WORLD, begin([1, 2]), PATH, seeded([1, 2])))
    run = SAMPLERS[name](WORLD, begin([1, 2]), PATH, seeded([1, 2]))
    few = [next(run) for _ in range(4)]
    run.close()
    assert all(torch.equal(a.x, b.x) for a, b in zip(few, states))


@every
def test_what_is_given_is_left_as_it_was(name):
    x, p = begin([1, 2]), list(UP)
    copy, levels = x.clone(), [(l.alpha.clone(), l.sigma.clone()) for l in p]
    states = [(s, s.x.clone(), s.x0.clone()) for s in SAMPLERS[name](WORLD, x, p, seeded([1, 2]))]
    assert torch.equal(x, copy) and len(p) == len(levels)
    assert all(torch.equal(l.alpha, a) and torch.equal(l.sigma, s) for l, (a, s) in zip(p, levels))
    assert all(
        torch.equal(s.x, u) and torch.equal(s.x0, v) for s, u, v in states
    )  # no State is written to later either


@every
def test_grad_mode_is_off_inside_and_untouched_outside(name):
    seen = []

    def denoise(x, l):
        seen.append(torch.is_grad_enabled())
        return WORLD(x, l)

    x = begin([1]).requires_grad_()
    states = []
    for state in SAMPLERS[name](denoise, x, UP, seeded([1])):
        assert torch.is_grad_enabled()
        states.append(state)
    assert not any(seen) and not states[-1].x.requires_grad
    with torch.no_grad():
        for _ in SAMPLERS[name](denoise, x, PATH, seeded([1])):
            assert not torch.is_grad_enabled()


def test_without_noise_given_the_seeds_are_the_places_in_the_batch():
    x = begin([0, 1])
    assert torch.equal(
        last(SAMPLERS["ddpm"](WORLD, x, PATH)), last(SAMPLERS["ddpm"](WORLD, x, PATH, seeded([0, 1])))
    )


@every
def test_dtype_of_x_is_kept_and_half_precision_stays_close(name):
    exact = final(name, [1, 2], ending("vp", 12))
    for dtype, tol in ((torch.float32, 1e-4), (torch.bfloat16, 0.15)):
        found = final(name, [1, 2], ending("vp", 12), dtype)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), exact, atol=tol, rtol=tol)


def test_coefficients_are_not_rounded_to_the_precision_of_x():
    # Between close levels the one on x0 is a small difference: in bfloat16 it would be 0 here, or as large
    # again.
    a, b = level.vp(-6.0), level.vp(-5.9)
    x, x0 = torch.zeros(2, 3), torch.full((2, 3), 1000.0)
    for many in (a, b), (Level(*(v.expand(2) for v in a)), Level(*(v.expand(2) for v in b))):
        found = level.move(x.bfloat16(), x0.bfloat16(), *many).double()
        torch.testing.assert_close(found, level.move(x.double(), x0.double(), a, b), rtol=0.01, atol=0)


# --- what it yields, and how often it calls -----------------------------------------------------------------


@every
def test_states(name):
    states = list(SAMPLERS[name](WORLD, begin([1, 2]), PATH, seeded([1, 2])))
    assert all(isinstance(s, State) and s.x.shape == s.x0.shape == (2, 3, 2) for s in states)
    assert states[-1].level.clean and torch.equal(states[-1].x, states[-1].x0)
    *_, end = SAMPLERS[name](WORLD, begin([1, 2]), PATH[:-1], seeded([1, 2]))
    assert torch.equal(end.x, end.x0) and end.level == PATH[-2]  # on a path that stops early as well
    run = SAMPLERS[name].plan(PATH)[0]
    falls = [a for a, b in pairwise(run) if b.sigma * a.alpha < a.sigma * b.alpha]
    assert [s.level for s in states[:-1]] == falls
    assert torch.equal(states[0].x, begin([1, 2])) or run[1].sigma > run[0].sigma


EXTRA = {
    name: lambda n: 2 * n - 1 for name in ("heun", "dpmpp_2s", "edm", "dpmpp_sde", "predictor_corrector")
}
EXTRA |= {
    "plms": lambda n: n + (n > 1),
    "restart": lambda n: 2 * n - 1 + 2 * 2 * 2,
    "langevin": lambda n: 10 * n + 1,
}


@every
@pytest.mark.parametrize("n", [1, 2, 18])
def test_network_calls_are_as_documented(name, n):
    p = schedule.edm().path(n, "karras")
    denoise = Traced()
    out = last(SAMPLERS[name](denoise, begin([1], p), p, seeded([1])))
    want = EXTRA.get(name, lambda n: n)(n) - (
        8 if name == "restart" and n < 2 else 0
    )  # no level to restart from
    assert out.isfinite().all() and len(denoise.levels) == want == SAMPLERS[name].calls(p) == SAMPLERS[
        name
    ].calls(n)


@every
def test_network_calls_of_paths_that_go_up_or_end_noisy(name):
    for p in (UP, path("ve", 5), rewind(path("flow", 9), 3, 2)):
        denoise = Traced()
        last(SAMPLERS[name](denoise, begin([1], p), p, seeded([1])))
        assert len(denoise.levels) == SAMPLERS[name].calls(p)


def test_options_that_change_the_number_of_calls():
    cases = {"langevin": {"steps": 3}, "predictor_corrector": {"corrections": 4}, "restart": {"times": 5}}
    for name, options in cases.items():
        denoise, p = Traced(), schedule.edm().path(9, "karras")
        last(SAMPLERS[name](denoise, begin([1], p), p, seeded([1]), **options))
        assert len(denoise.levels) == SAMPLERS[name].calls(p, **options)


@every
def test_metadata(name):
    s = SAMPLERS[name]
    assert isinstance(s, Sampler) and s.name == name and s.order in range(6)
    assert s.summary.endswith(".") and 20 < len(s.summary) < 125
    drawn = []

    def noise(like, a, b):
        drawn.append(1)
        return torch.zeros_like(like)

    p = schedule.edm().path(8, "karras")
    last(s(WORLD, begin([1], p), p, noise))
    assert bool(drawn) == s.stochastic


def test_no_noise_is_drawn_where_its_coefficient_is_zero():
    def never(like, a, b):
        raise AssertionError("noise was drawn")

    for name, options in (
        ("ddim", {}),
        ("euler_ancestral", {"eta": 0}),
        ("dpmpp_2m_sde", {"eta": 0.0}),
        ("dpmpp_sde", {"eta": 0.0}),
        ("edm", {"s_churn": 0.0}),
        ("restart", {"times": 0}),
    ):
        last(SAMPLERS[name](WORLD, begin([1]), PATH, never, **options))
    for name in (
        "ddpm",
        "ddim",
        "euler_ancestral",
        "dpmpp_2m_sde",
        "dpmpp_sde",
        "consistency",
        "predictor_corrector",
    ):
        last(
            SAMPLERS[name](WORLD, begin([1]), [PATH[-2], level.clean()], never)
        )  # the last step has none to add
    last(SAMPLERS["ddpm"](WORLD, begin([1]), [PATH[-2], level.clean()], never, variance="large"))


# langevin moves x between its States; adams, lms and plms integrate to sigma = 0 at full order, which is not
# to land there.
@pytest.mark.parametrize("name", [n for n in EVERY if n not in ("langevin", "adams", "lms", "plms")])
@pytest.mark.parametrize(
    "p", [ending("vp", 9), ending("ve", 2), ending("flow", 1), rewind(ending("vp", 9), 2, 2)]
)
def test_the_last_step_lands_on_the_denoised_estimate(name, p):
    *_, before, end = SAMPLERS[name](WORLD, begin([1, 2], p), p, seeded([1, 2]))
    if name != "unipc":
        torch.testing.assert_close(end.x, WORLD(before.x, before.level), atol=1e-12, rtol=0)
    torch.testing.assert_close(end.x, before.x0, atol=1e-12, rtol=0)


# --- the two ends -------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    "make",
    [
        lambda n: schedule.flow().path(n),
        lambda n: schedule.scaled_linear().zero_terminal_snr().path(n),
        lambda n: schedule.scaled_linear().zero_terminal_snr().path(n, "karras"),
        lambda n: schedule.flow(shift=3.0).path(n),
    ],
)
def test_a_path_may_start_at_pure_noise(name, make):
    # Networks that predict velocity or v, as they must there: their target in their own frame, from the exact
    # denoiser.
    def network(kind, frame):
        def net(x, t):
            l = Level(*t)
            x0 = WORLD(x, l)
            return predict.target(kind, x0, (x - l.like(x).alpha * x0) / l.like(x).sigma, l)

        return adapt(net, frame, kind, lambda l: Clock(l, frame))

    for n in (1, 2, 5):
        p = make(n)
        assert p[0].alpha == 0
        found = [
            last(SAMPLERS[name](network(*k), begin([3, 4], p), p, seeded([3, 4])))
            for k in ((predict.velocity, convex), (predict.v, unit), (predict.x0, unit))
        ]
        for x in found:
            torch.testing.assert_close(x, found[0], atol=1e-8, rtol=1e-8)
        assert found[0].isfinite().all() and (found[0] - MEAN).abs().max() < 30
        if n == 1:
            torch.testing.assert_close(found[0], torch.full_like(found[0], MEAN), atol=1e-9, rtol=0)


class Clock(tuple):
    """A level in the network's frame, standing for its time input (which `adapt` moves with `.to`)."""

    def __new__(cls, l, frame):
        return super().__new__(cls, (l.alpha / frame(l), l.sigma / frame(l)))

    def to(self, x):
        return self


@every
def test_levels_may_differ_between_samples(name):
    paths = [ending("vp", 6, low=k) for k in (-9.0, -2.0, 0.5)]
    each = [Level(*(torch.stack(v) for v in zip(*ls))) for ls in zip(*paths)]
    x = torch.cat([begin([s], p) for s, p in zip((4, 5, 6), paths)])
    if name in ("restart", "edm"):
        with pytest.raises(BadInput, match="one level for the whole batch"):
            SAMPLERS[name](WORLD, x, each)
        return
    together = last(SAMPLERS[name](WORLD, x, each, seeded([4, 5, 6])))
    for i, p in enumerate(paths):
        alone = last(SAMPLERS[name](WORLD, x[i : i + 1], p, seeded([4 + i])))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-9, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(EVERY),
    st.sampled_from(list(FRAMES)),
    st.lists(st.floats(-12, 9), min_size=2, max_size=7),
    st.booleans(),
)
def test_any_list_of_levels_is_run_or_refused(name, frame, ks, ends):
    levels = [FRAMES[frame](torch.tensor(k, dtype=torch.float64)) for k in ks] + [level.clean()] * ends
    try:
        out = last(SAMPLERS[name](WORLD, begin([1], levels), levels, seeded([1])))
    except BadInput as e:
        assert "\n" not in str(e)
    else:
        assert out.isfinite().all()


@every
def test_a_path_may_only_go_up(name):
    denoise, p = Traced(), path("ve", 3)[::-1]
    x = last(SAMPLERS[name](denoise, begin([1], p), p, seeded([1])))
    assert x.isfinite().all() and not denoise.levels and SAMPLERS[name].calls(p) == 0


def test_a_level_given_twice_is_passed_over():
    twice = [PATH[0], PATH[0], *PATH[1:], PATH[-1]]
    for name in EVERY:
        assert torch.equal(last(SAMPLERS[name](WORLD, begin([1]), twice, seeded([1]))), final(name, [1]))


def test_a_run_may_begin_by_going_up_from_clean_data():
    x0 = MEAN + 0.6 * quick()(torch.empty(4000, 1))
    p = [level.clean(), *path("vp", 30), level.clean()]
    states = list(SAMPLERS["dpmpp_2m"](WORLD, x0.double(), p, quick(2)))
    assert abs(states[0].x.std() - std_at(p[1])) < 0.03 and len(states) == 32
    assert abs(states[-1].x.std() - 0.6) < 0.05 and abs(states[-1].x.mean() - MEAN) < 0.05


# --- what it refuses ----------------------------------------------------------------------------------------


@every
def test_an_unknown_option_is_refused_at_once_and_the_nearest_named(name):
    with pytest.raises(BadInput, match="unknown option of sampler") as e:
        SAMPLERS[name](WORLD, begin([1]), PATH, etaa=0.5)
    for option in SAMPLERS[name].options:
        assert option in str(e.value)
        with pytest.raises(BadInput, match=f"did you mean '{option}'"):
            SAMPLERS[name](WORLD, begin([1]), PATH, **{option + "x": 1})
        SAMPLERS[name](WORLD, begin([1]), PATH, **{option: SAMPLERS[name].options[option]})
    assert "etaa" in str(e.value)


@pytest.mark.parametrize(
    "name, options",
    [
        ("ddim", {"eta": -0.1}),
        ("ddim", {"eta": "1"}),
        ("ddpm", {"variance": "big"}),
        ("unipc", {"order": 0}),
        ("unipc", {"order": 2.0}),
        ("unipc", {"b_h": "bh3"}),
        ("ab", {"variable": "t"}),
        ("lms", {"order": 5}),
        ("ghvb", {"beta": 0}),
        ("ghvb", {"beta": 1.2}),
        ("adam", {"beta2": 1.0}),
        ("edm", {"s_churn": -1}),
        ("edm", {"s_min": 2, "s_max": 1}),
        ("langevin", {"steps": 0}),
        ("langevin", {"step": 3.0}),
        ("predictor_corrector", {"corrections": -1}),
        ("restart", {"low": 1.0, "high": 0.5}),
        ("restart", {"steps": 0}),
        ("gradient_estimation", {"gamma": math.nan}),
        ("dpmpp_2s", {"eta": True and -1}),
    ],
)
def test_a_value_out_of_range_is_refused_at_once(name, options):
    with pytest.raises(BadInput) as e:
        SAMPLERS[name](WORLD, begin([1]), PATH, **options)
    assert "given" in str(e.value) or "unknown" in str(e.value)


@pytest.mark.parametrize(
    "bad, says",
    [
        ([], "at least two"),
        (PATH[:1], "at least two"),
        ([PATH[0], PATH[0]], "at least two"),
        (3, "sequence of Levels"),
        ([PATH[0], 0.0], "level 1"),
        ([1.0, 0.5, 0.0], "level 0"),
        ([PATH[0], Level(torch.tensor(1.0), torch.tensor(-1.0))], "sigma >= 0"),
        ([level.level(math.nan, 1.0), PATH[1]], "finite"),
        ([level.level(0.0, 0.0), PATH[1]], "not both 0"),
        ([level.level(1.0, 2.0), level.level(0.5, 1.0), level.clean()], "cleaner"),
        ([level.clean(), level.level(0.5, 0.0)], "cleaner"),
        ([Level(torch.ones(3), torch.ones(3)), level.clean()], "one a sample"),
        (
            [Level(torch.ones(2), torch.tensor([1.0, 0.5])), Level(torch.ones(2), torch.tensor([0.5, 1.0]))],
            "for each sample",
        ),
    ],
)
def test_a_path_that_cannot_be_run_is_refused_at_once(bad, says):
    with pytest.raises(BadInput, match=says):
        SAMPLERS["ddim"](WORLD, begin([1, 2]), bad)


def test_other_refusals():
    with pytest.raises(BadInput, match="batch axis"):
        SAMPLERS["ddim"](WORLD, torch.tensor(1.0), PATH)
    with pytest.raises(BadInput, match="floating"):
        SAMPLERS["ddim"](WORLD, torch.ones(2, 2, dtype=torch.long), PATH)
    with pytest.raises(BadInput, match="gave shape"):
        last(SAMPLERS["ddim"](lambda x, l: x[:, :1], begin([1]), PATH))
    with pytest.raises(BadInput, match="3 seeds for a batch of 1"):
        last(SAMPLERS["ddpm"](WORLD, begin([1]), PATH, seeded([1, 2, 3])))
    run = SAMPLERS["ddim"](WORLD, begin([1]), PATH)
    last(run)
    with pytest.raises(BadInput, match="used up"):
        last(run)


def test_a_rule_of_ones_own():
    @ladder
    def lazy(denoise, noise, share: float = 1.0):
        """Euler, of which only a share is done."""
        return lambda x, x0, a, b: level.move(x, share * x0, a, b)

    assert torch.equal(last(lazy(WORLD, begin([1]), PATH)), final("euler", [1]))
    assert lazy.options == {"share": 1.0} and lazy.calls(10) == 10
    with pytest.raises(BadInput, match="did you mean 'share'"):
        lazy(WORLD, begin([1]), PATH, shared=1)
