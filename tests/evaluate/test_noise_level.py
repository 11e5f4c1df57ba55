"""Blind noise levels: pure noise of any size, pictures with known parts, photographs, what a residual falls
short by.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_sample_images
from torch.testing import assert_close

from unnoise.denoiser import Gaussian
from unnoise.errors import BadInput
from unnoise.evaluate import noise_level
from unnoise.evaluate.noise_level import METHODS, TAPS, estimate_sigma, residual


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def photographs(size=128):
    """30 squares of two photographs, (30, 3, size, size) in [-1, 1]."""
    images = load_sample_images().images
    cut = [
        im[a : a + size, b : b + size]
        for im in images
        for a in range(0, 384, size)
        for b in range(0, 640, size)
    ]
    return torch.from_numpy(np.stack(cut)).movedim(-1, 1).double() / 127.5 - 1


def errors(x, sigma, method, seed=0):
    """(mean, rms) of ln(estimate / sigma)."""
    e = (estimate_sigma(x + sigma * normal(seed, *x.shape), method) / sigma).log()
    return float(e.mean()), float(e.square().mean().sqrt())


def test_the_wavelet_is_daubechies_high_pass():
    assert_close(TAPS.square().sum(), torch.tensor(1.0).double())
    assert abs(float((TAPS[:2] * TAPS[2:]).sum())) < 1e-7  # orthogonal to its shift by 2
    for power in (0, 1):
        assert abs(float((TAPS * torch.arange(4.0) ** power).sum())) < 1e-7  # blind to lines
    assert not torch.allclose(TAPS.abs(), TAPS.abs().flip(0))  # so it is not two Haar taps


@pytest.mark.parametrize(
    ("method", "bias", "rms"),
    [("mad", 0.006, 0.018), ("clipped", 0.006, 0.018), ("pca", 0.004, 0.009), ("smaller", 0.009, 0.015)],
)
def test_pure_noise_is_measured(method, bias, rms):
    # 64 pictures of 3 x 64 x 64, measured mean and rms of the log error: mad -.0005, .0141; clipped -.0011,
    # .0137; pca -.0014, .0070;
    # smaller -.0066, .0118; the least possible rms is .0064
    mean, spread = errors(torch.zeros(64, 3, 64, 64).double(), 0.3, method)
    assert (
        abs(mean) < bias and spread < rms and spread > 0.8 / math.sqrt(2 * 3 * 64 * 64)
    )  # no better than the noise itself allows


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(METHODS)), st.floats(1e-3, 1e3), st.floats(-5, 5), st.integers(0, 99))
def test_it_follows_scale_and_ignores_brightness_and_ramps(method, scale, shift, seed):
    x = normal(seed, 2, 2, 24, 24)
    assert_close(estimate_sigma(scale * x, method), scale * estimate_sigma(x, method), rtol=1e-6, atol=0)
    assert_close(estimate_sigma(x + shift, method), estimate_sigma(x, method), rtol=1e-6, atol=1e-9)
    ramp = (
        torch.arange(24.0).double() * torch.arange(24.0).double()[:, None] / 50
    )  # nothing for the wavelet to see
    if method != "pca" and method != "smaller":
        assert_close(estimate_sigma(x + ramp, method), estimate_sigma(x, method), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_of_each_picture_alone(method):
    x = normal(1, 4, 1, 28, 28) * torch.tensor([0.1, 0.5, 1.0, 2.0]).reshape(4, 1, 1, 1)
    assert_close(
        estimate_sigma(x, method),
        torch.cat([estimate_sigma(x[i : i + 1], method) for i in range(4)]),
        rtol=1e-12,
        atol=0,
    )
    assert estimate_sigma(torch.zeros(1, 1, 28, 28), method).item() == 0


def test_edges_are_left_out_by_clipping_where_they_bias_the_median():
    x = torch.zeros(32, 1, 64, 64).double()
    x[:, :, :, 20:40:3] = 2.0
    x[:, :, 20:40] *= -1  # a fence, in and out of which things turn
    assert (
        abs(errors(x, 0.02, "clipped")[0]) < 0.012 < 0.035 < errors(x, 0.02, "mad")[0]
    )  # measured -.004 and +.043


@pytest.mark.parametrize(("sigma", "rms"), [(0.02, 0.25), (0.05, 0.08), (0.1, 0.04), (0.5, 0.015)])
def test_photographs(sigma, rms):
    # measured on all 30: .215, .069, .034, .011. At .02 grass and petals, finer than the wavelet, read as
    # noise.
    assert errors(photographs()[::3], sigma, "smaller")[1] < rms


def test_texture_is_where_patches_win_and_neither_exceeds_the_other():
    x = photographs()[:8] + 0.05 * normal(2, 8, 3, 128, 128)
    each = {m: estimate_sigma(x, m) for m in METHODS}
    assert (each["pca"] < each["clipped"]).any() and (each["clipped"] <= each["mad"] + 1e-12).all()
    assert_close(each["smaller"], torch.minimum(each["pca"], each["clipped"]))


def test_bytes_are_floats_and_clipping_hides_noise():
    grey = torch.full((8, 3, 32, 32), -0.2).double() + 0.1 * normal(3, 8, 3, 32, 32)
    as_bytes = ((grey + 1) * 127.5).round().clamp(0, 255).byte().movedim(1, -1)
    assert_close(estimate_sigma(as_bytes.numpy()), estimate_sigma(grey), rtol=0.01, atol=0)  # measured .005
    assert_close(estimate_sigma(as_bytes), estimate_sigma(as_bytes.numpy()))
    black = (-1 + 0.1 * normal(3, 8, 3, 32, 32)).clamp(-1, 1)
    assert (estimate_sigma(black) < 0.07).all()  # what the module says is lost: .048 to .054 of .1


def test_large_pictures_are_measured_from_some_of_their_patches():
    assert noise_level._patches(torch.zeros(1, 1, 600, 600)).shape[2] < 2 * noise_level.MANY
    assert errors(torch.zeros(1, 3, 600, 600).double(), 0.1, "pca")[1] < 0.004  # measured .0007


def test_a_function_is_a_method():
    x = 0.3 * normal(4, 6, 1, 16, 16)
    method = lambda x: x.flatten(1).square().mean(1).sqrt().float()
    assert_close(estimate_sigma(x, method), x.flatten(1).square().mean(1).sqrt(), rtol=1e-5, atol=0)
    with pytest.raises(BadInput, match="mad"):
        estimate_sigma(x, "mda")


def test_the_residual_falls_short_by_the_mean_squared_error():
    # x0 ~ N(0, v I): D = v / (v + s^2) x, so |x - D|^2 / d = s^4 / (v + s^2) = s^2 - mmse, mmse = v s^2 / (v
    # + s^2)
    v, s, d = 0.25, 0.5, 4096
    x = math.sqrt(v + s * s) * normal(5, 8, d)
    found = residual(Gaussian(0.0, torch.full((d,), v).double()), x, torch.full((8,), s).double())
    assert_close(
        found, torch.full((8,), s * s / math.sqrt(v + s * s)).double(), rtol=0.04, atol=0
    )  # measured .027
    once = residual(Gaussian(0.0, torch.full((d,), v).double()), x, found)
    assert_close(
        residual(Gaussian(0.0, torch.full((d,), v).double()), x, torch.full((8,), s).double(), 2), once
    )


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2, 28, 28), np.float32), r"\(2, 28, 28\)"),
        (np.zeros((2, 1, 28, 28), np.int64), "int64"),
        (np.zeros((1, 28, 28), np.uint8), "uint8"),
        (torch.zeros(1, 1, 7, 28), "8 pixels"),
        (torch.full((1, 1, 28, 28), math.nan), "finite"),
        (torch.zeros(0, 1, 28, 28), "0, 1"),
    ],
    ids=lambda v: str(v)[:12],
)
def test_what_cannot_be_measured(images, said):
    with pytest.raises(BadInput, match=said):
        estimate_sigma(images)


def test_digits_of_8_pixels_are_the_least_that_is_taken():
    x = torch.from_numpy(load_digits(return_X_y=True)[0][:50]).reshape(50, 1, 8, 8) / 8 - 1
    assert errors(x, 2.0, "clipped")[1] < 0.3  # measured .233: 25 coefficients
