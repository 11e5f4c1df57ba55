import math

import pytest
import torch
from torch.testing import assert_close

from tests.support import normal
from unnoise.errors import BadInput
from unnoise.guide import clip, matched, rescale, threshold
from unnoise.process import predict
from unnoise.process.level import level, vp

X, L = normal(4, 3, 5, 5), vp(-1.0)
G, C = 3 * normal(4, 3, 5, 5, seed=1) + 0.5, normal(4, 3, 5, 5, seed=2)


def std(x):
    return x.flatten(1).std(1)


def test_phi_1_gives_equal_deviations_per_sample():
    out = rescale(lambda x, l: G, lambda x, l: C, 1.0)(X, L)
    assert_close(std(out), std(C), rtol=0, atol=1e-12)
    assert_close(
        out / G, (std(C) / std(G)).reshape(-1, 1, 1, 1).expand_as(G)
    )  # a factor a sample, the mean goes with it


def test_phi_mixes_and_0_is_off_without_a_second_call():
    full, guided = rescale(lambda x, l: G, lambda x, l: C, 1.0), lambda x, l: G
    assert_close(rescale(guided, lambda x, l: C, 0.7)(X, L), 0.7 * full(X, L) + 0.3 * G)
    assert rescale(guided, lambda x, l: 1 / 0, 0.0)(X, L) is G


def test_rescale_in_v_space_is_lin_et_als():
    as_v = lambda x0: L.alpha * (X - L.alpha * x0) / L.sigma - L.sigma * x0
    out = rescale(lambda x, l: G, lambda x, l: C, 1.0, kind=predict.v)(X, L)
    assert_close(std(as_v(out)), std(as_v(C)), rtol=0, atol=1e-6)
    assert (std(out) - std(C)).abs().min() > 1e-3  # not the same as in x0 space
    top = rescale(lambda x, l: G, lambda x, l: C, 1.0, kind=predict.v)(X, level(0.0, 1.0))
    assert_close(std(top), std(C))  # at pure noise v is -x0


def test_rescale_does_not_mix_samples():
    out = rescale(lambda x, l: G[: len(x)], lambda x, l: C[: len(x)], 0.7)
    assert torch.equal(out(X, L)[:1], out(X[:1], L))


def test_constant_estimates_stay_finite():
    flat = torch.ones(2, 1, 4, 4)
    assert torch.equal(matched(flat, normal(2, 1, 4, 4).float(), 0.7), flat)
    assert_close(matched(normal(2, 1, 4, 4), flat.double(), 1.0), torch.zeros(2, 1, 4, 4).double())


def test_rescale_changes_nothing_when_nothing_was_guided():
    assert_close(rescale(lambda x, l: C, lambda x, l: C, 0.7)(X, L), C)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("bound", [1.0, 0.5])
def test_threshold_is_imagens(q, bound):
    out = threshold(lambda x, l: G, q, bound)(X, L)
    for one, o in zip(G, out):
        s = max(bound, float(torch.quantile(one.abs().flatten(), q, interpolation="nearest")))
        assert_close(o, one.clamp(-s, s) / s * bound)
    assert out.abs().max() <= bound + 1e-12


def test_threshold_leaves_what_is_inside_bit_for_bit():
    small = G / 100
    assert torch.equal(threshold(lambda x, l: small)(X, L), small)


def test_threshold_is_per_sample_and_takes_half_precision_and_large_images():
    out = threshold(lambda x, l: G[: len(x)], 0.9)
    assert torch.equal(out(X, L)[:1], out(X[:1], L))
    assert threshold(lambda x, l: G.half(), 0.9)(X, L).dtype == torch.float16
    assert (
        threshold(lambda x, l: x, 0.9)(torch.ones(1, 3, 2400, 2400), L).max() == 1
    )  # beyond torch.quantile's limit


def test_clip():
    assert torch.equal(clip(lambda x, l: G)(X, L), G.clamp(-1, 1))
    assert torch.equal(clip(lambda x, l: G, 0.0, 2.0)(X, L), G.clamp(0, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda d: rescale(d, d, 1.1),
        lambda d: rescale(d, d, -0.1),
        lambda d: rescale(d, d, math.nan),
        lambda d: threshold(d, 0.0),
        lambda d: threshold(d, 1.5),
        lambda d: threshold(d, math.nan),
        lambda d: threshold(d, 0.9, 0.0),
        lambda d: clip(d, 1.0, -1.0),
        lambda d: clip(d, math.nan, 1.0),
        lambda d: threshold(d, 99.5),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(BadInput) as e:
        make(lambda x, l: x)
    assert "\n" not in str(e.value)
