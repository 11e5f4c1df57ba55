"""Denoising: against the exact posterior of a Gaussian, sigma 0, sizes, samples, latents, refusals, the
command.
"""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import unnoise
from tests.cli.test_cli import bad, run
from tests.edit.restoring import upscaler
from unnoise.denoiser import Gaussian
from unnoise.edit import denoise
from unnoise.edit.denoise import come_down, latent_sigma
from unnoise.edit.picture import read
from unnoise.errors import BadInput


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return unnoise.load(upscaler(tmp_path_factory.mktemp("up") / "tiny-upscale"))


def noisy(h, w, sigma, seed=0):
    eps = np.random.default_rng(seed).standard_normal((h, w, 3))
    return (128 + 127.5 * sigma * eps).clip(0, 255).round().astype(np.uint8)


def test_the_mean_and_the_samples_are_those_of_the_gaussian_posterior(pipe):
    """x0 ~ N(0.3, 0.5^2), x = x0 + 0.4 eps at x = 0.9: mean .6659, std .3123 in closed form."""
    v, s = 0.5**2, 0.4**2
    model, x = Gaussian(0.3, v), torch.full((100, 100), 0.9, dtype=torch.float64)
    r = pipe.request(num_inference_steps=40, seed=0, num_images=100, sampler="ddim", eta=1.0)
    mean = come_down(pipe, r, x[:1], 0.4, model, sample=False)
    assert_close(
        mean[0, 0], torch.tensor((s * 0.3 + v * 0.9) / (v + s), dtype=torch.float64), atol=1e-9, rtol=0
    )
    made = come_down(pipe, r, x, 0.4, model, sample=True)
    assert abs(made.mean() - mean[0, 0]) < 0.02
    assert abs(made.std() - math.sqrt(v * s / (v + s))) < 0.02


def test_sigma_0_gives_the_picture_back_to_the_byte(pipe):
    a = np.dstack([noisy(9, 13, 0.3), np.full((9, 13), 77, np.uint8)])
    r = denoise(pipe, a, sigma=0.0, seed=0)
    assert np.array_equal(r.arrays[0], read(a).whole()) and r.nfe == 0


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 16), (41, 30)])
@pytest.mark.parametrize("sample", [False, True])
def test_any_size_keeps_its_size(pipe, size, sample):
    r = denoise(
        pipe, noisy(*size, 0.3), sigma=0.3, sample=sample, num_inference_steps=3, seed=0, num_images=2
    )
    assert r.arrays.shape == (2, *size, 3) and r.nfe == (3 if sample else 1)
    assert (r.arrays[0] == r.arrays[1]).all() or sample


def test_the_noise_is_estimated_and_told(pipe):
    r = denoise(pipe, noisy(64, 64, 0.2), seed=0)
    assert r.recipes[0]["edit"]["options"]["sigma"] == pytest.approx(0.2, abs=0.02)


def test_a_model_of_latents_measures_its_own_level():
    emoji = unnoise.load("emoji")
    p = read(noisy(64, 64, 0.1))
    levels = [latent_sigma(emoji, p, s) for s in (0.05, 0.1, 0.3)]
    assert 0 < levels[0] < levels[1] < levels[2] and latent_sigma(emoji, p, 0.1) == levels[1]
    r = denoise(emoji, p, "a red apple", sigma=0.1, seed=0)
    assert r.arrays.shape == (1, 64, 64, 3) and r.nfe >= 1


def test_what_cannot_be_done_is_said(pipe, tiny):
    for how, says in (
        ({"sigma": -0.1}, "from 0"),
        ({"sigma": math.nan}, "from 0"),
        ({"prompt": "an apple"}, "no prompt"),
    ):
        with pytest.raises(BadInput, match=says):
            denoise(pipe, noisy(16, 16, 0.1), **{"seed": 0, "sigma": 0.1, **how})
    with pytest.raises(BadInput, match="8 pixels"):
        denoise(pipe, noisy(4, 4, 0.1))
    with pytest.raises(BadInput, match="emoji-upscale takes any"):
        denoise(unnoise.load(tiny), noisy(64, 64, 0.1), sigma=0.1)


def test_the_command(pipe, tmp_path, capfd):
    Image.fromarray(noisy(20, 24, 0.2)).save(tmp_path / "a.png")
    how = "--model", pipe.folder.path, "--seed", 1, "-o", tmp_path / "b.png", "--json"
    done = json.loads(run(capfd, "edit", "denoise", tmp_path / "a.png", "--sigma", 0.2, *how)[1])
    assert done["sigma"] == 0.2 and Image.open(tmp_path / "b.png").size == (24, 20)
    assert "from 0" in bad(
        capfd, "edit", "denoise", tmp_path / "a.png", "--model", pipe.folder.path, "--sigma", "-1"
    )
