import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from tests.support import normal
from unnoise.denoiser import Gaussian, Mixture
from unnoise.errors import BadInput
from unnoise.guide import autoguide, cfg, cfg_batched, interval, matched, rescale
from unnoise.process import predict
from unnoise.process.level import Level, clean, flow, level, move, ve, vp

COND, UNCOND = Gaussian(1.0, 0.25), Gaussian(0.0, 1.0)
X = normal(5, 3)


def counted(denoise):
    def call(x, l):
        call.calls += 1
        return denoise(x, l)

    call.calls = 0
    return call


def test_formula():
    c, u = COND(X, vp(0.3)), UNCOND(X, vp(0.3))
    assert_close(cfg(COND, UNCOND, 4.0)(X, vp(0.3)), u + 4 * (c - u))
    assert_close(cfg(COND, UNCOND, -1.5)(X, vp(0.3)), u - 1.5 * (c - u))


@pytest.mark.parametrize(
    "scale, calls", [(1, (1, 0)), (1.0, (1, 0)), (0, (0, 1)), (0.0, (0, 1)), (3.0, (1, 1)), (0.5, (1, 1))]
)
@pytest.mark.parametrize("as_function", [False, True])
def test_scale_1_is_cond_and_0_uncond_bit_for_bit_and_nothing_else_is_called(scale, calls, as_function):
    c, u = counted(COND), counted(UNCOND)
    out = cfg(c, u, (lambda l: scale) if as_function else scale)(X, flow(0.7))
    assert (c.calls, u.calls) == calls
    if scale == 1:
        assert torch.equal(out, COND(X, flow(0.7)))
    if scale == 0:
        assert torch.equal(out, UNCOND(X, flow(0.7)))


@pytest.mark.parametrize("kind", predict.KINDS.values(), ids=predict.KINDS)
def test_commutes_with_every_parameterisation(kind):
    l = vp(torch.tensor([-2.0, -1.0, 0.0, 1.0, 4.0], dtype=torch.float64))
    own = l.like(X)
    c, u = (predict.target(kind, e, (X - own.alpha * e) / own.sigma, own) for e in (COND(X, l), UNCOND(X, l)))
    assert_close(
        predict.solve_x0(kind, X, u + 3 * (c - u), l), cfg(COND, UNCOND, 3.0)(X, l), rtol=1e-9, atol=1e-10
    )


# --- the exact numbers for p_c = N(1, .5^2), p_u = N(0, 1) (algorithms: C2) ---------------------------------


def flow_of(denoise, steps=1500):
    """Mean and deviation of what the probability flow makes of N(0, 80^2): the map is affine, so two points
    tell it.
    """
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    path = [
        *(ve(s) for s in torch.logspace(math.log10(80), math.log10(0.002), steps, dtype=torch.float64)),
        clean(),
    ]
    for a, b in itertools.pairwise(path):
        x = move(x, denoise(x, a), a, b)
    return float(x[0]), 80 * float(x[1] - x[0])


@pytest.mark.parametrize(
    "scale, mean, std",
    [
        (1.0, 0.988, 0.497),
        (2.0, 1.371, 0.248),
        (4.0, 1.514, 0.062),
        (7.5, 1.439, 0.005),
        (interval(4.0, 0.2, 2.0), 1.436, 0.093),
        (interval(4.0, 0.5, 1.0), 1.273, 0.254),
    ],
)
def test_flow_of_two_guided_gaussians(scale, mean, std):
    got = flow_of(cfg(COND, UNCOND, scale))
    assert got == pytest.approx((mean, std), abs=0.008)
    if scale == 4.0:
        assert abs(got[0] - 1.231) > 0.2 and abs(got[1] - 0.277) > 0.2  # it is not the tilted distribution


# --- scales that depend on the level ------------------------------------------------------------------------


def test_interval_is_open_below_and_closed_above_and_saves_calls():
    c, u = counted(COND), counted(UNCOND)
    guided = cfg(c, u, interval(3.0, 0.5, 2.0))
    for s, both in ((0.4, False), (0.5, False), (0.51, True), (2.0, True), (2.01, False)):
        c.calls = u.calls = 0
        l = Level(*(0.3 * v for v in ve(s)))  # the ratio decides, in any frame
        out = guided(X, ve(s))
        assert (c.calls, u.calls) == (1, int(both)) and torch.equal(out, COND(X, ve(s))) is not both
        assert float(interval(3.0, 0.5, 2.0)(l)) == (3.0 if both else 1.0)


def test_interval_at_pure_noise_and_clean_data():
    assert (
        interval(3.0, 0.5, math.inf)(level(0.0, 1.0)) == 3 and interval(3.0, 0.5, 2.0)(level(0.0, 1.0)) == 1
    )
    assert interval(3.0, 0.0, 2.0)(clean()) == 1 and interval(3.0, 0.0, 2.0, outside=0.0)(clean()) == 0


@pytest.mark.parametrize("broadcast", [False, True])
def test_one_scale_a_sample(broadcast):
    l = level([1.0] * 5, [0.1, 1.0, 1.5, 2.0, 9.0])
    out = cfg(COND, UNCOND, interval(3.0, 0.5, 2.0))(X, l.like(X) if broadcast else l)
    assert_close(out[1:4], cfg(COND, UNCOND, 3.0)(X, l)[1:4])
    assert torch.equal(out[[0, 4]], COND(X, l)[[0, 4]])


def test_a_scale_that_falls_with_the_level():
    got = cfg(COND, UNCOND, lambda l: 1 + l.sigma)(X, flow(0.25))
    assert_close(got, cfg(COND, UNCOND, 1.25)(X, flow(0.25)))


# --- one network call ---------------------------------------------------------------------------------------


def bind(context):
    """A Denoiser of a Gaussian whose means are the context, one a sample."""

    def denoise(x, l):
        bind.batches.append(len(x))
        assert len(x) == len(context)
        own = l.like(x)
        return context + 0.25 * own.alpha / (0.25 * own.alpha**2 + own.sigma**2) * (x - own.alpha * context)

    return denoise


@pytest.mark.parametrize(
    "l",
    [vp(0.4), level([1.0] * 5, [0.1, 1.0, 1.5, 2.0, 9.0]), level([0.5], [0.5])],
    ids=["one", "each", "(1,)"],
)
@pytest.mark.parametrize("scale, batches", [(3.0, [10]), (1.0, [5]), (0.0, [5])])
def test_doubled_batch_is_the_same_in_one_call(l, scale, batches):
    bind.batches = []
    cond, uncond = normal(5, 3, seed=1), normal(5, 3, seed=2)
    got = cfg_batched(bind, cond, uncond, scale)(X, l)
    assert bind.batches == batches
    assert_close(got, cfg(bind(cond), bind(uncond), scale)(X, l))


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_rescale_inside_cfg_is_rescale_around_it(phi):
    bind.batches = []
    cond, uncond, l = normal(5, 3, seed=1), normal(5, 3, seed=2), vp(-1.0)
    want = rescale(cfg(bind(cond), bind(uncond), 6.0), bind(cond), phi)(X, l)
    assert_close(cfg(bind(cond), bind(uncond), 6.0, rescale=phi)(X, l), want)
    assert_close(cfg_batched(bind, cond, uncond, 6.0, rescale=phi)(X, l), want)
    assert_close(want, matched(cfg(bind(cond), bind(uncond), 6.0)(X, l), bind(cond)(X, l), phi))


# --- others -------------------------------------------------------------------------------------------------


def test_autoguide_is_linear_and_goes_away_from_the_bad_one():
    l, good, bad = vp(0.1), COND, Gaussian(0.8, 0.5)
    g, b = good(X, l), bad(X, l)
    for w in (0.5, 2.1, 3.0):
        assert_close(autoguide(good, bad, w)(X, l), b + w * (g - b))
    assert torch.equal(autoguide(good, bad, 1.0)(X, l), g)
    assert ((autoguide(good, bad, 2.0)(X, l) - b).abs() > (g - b).abs()).all()


def test_negative_prompt_pushes_away_from_its_class():
    two = Mixture([[-1.0, 0.0], [1.0, 0.0]], 0.5)
    x, l = torch.zeros(1, 2, dtype=torch.float64), ve(1.0)
    assert cfg(two, two.given(0), 2.0)(x, l)[0, 0] > 0.1 and cfg(two, two.given(1), 2.0)(x, l)[0, 0] < -0.1


def test_nesting():
    inner = cfg(COND, UNCOND, 2.0)
    assert_close(cfg(inner, UNCOND, 3.0)(X, vp(0.0)), cfg(COND, UNCOND, 6.0)(X, vp(0.0)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: cfg(COND, UNCOND, math.nan),
        lambda: cfg(COND, UNCOND, math.inf),
        lambda: cfg(COND, UNCOND, "7"[:0]),
        lambda: cfg(COND, UNCOND, None),
        lambda: cfg(COND, UNCOND, 2.0, rescale=1.5),
        lambda: cfg(COND, UNCOND, 2.0, rescale=math.nan),
        lambda: autoguide(COND, UNCOND, -math.inf),
        lambda: interval(3.0, 2.0, 1.0),
        lambda: interval(3.0, 1.0, 1.0),
        lambda: interval(3.0, -1.0, 1.0),
        lambda: interval(math.nan, 0.0, 1.0),
        lambda: interval(3.0, 0.0, math.nan),
        lambda: cfg_batched(bind, X, X, math.nan),
    ],
)
def test_bad_scales_are_refused_at_construction(make):
    with pytest.raises(BadInput) as e:
        make()
    assert "\n" not in str(e.value)


def test_a_scale_function_that_is_not_finite_is_refused_when_it_is_used():
    with pytest.raises(BadInput):
        cfg(COND, UNCOND, lambda l: l.logsnr)(X, clean())
