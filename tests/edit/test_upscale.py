"""Upscaling: sizes, averages that are the picture, tiles without seams, seeds, the training-free way,
refusals, the command and replay.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.testing import assert_close

import unnoise
from tests.cli.test_cli import bad, run
from tests.edit.restoring import upscaler
from unnoise.edit import canvas, inpaint, upscale
from unnoise.errors import BadInput
from unnoise.pipeline import Count
from unnoise.process.level import ve


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return unnoise.load(upscaler(tmp_path_factory.mktemp("up") / "tiny-upscale"))


@pytest.fixture(scope="module")
def emoji():
    return unnoise.load("emoji")


def picture(h, w, c=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, c), np.uint8)


def means(a, f):
    h, w, c = a.shape
    return a.reshape(h // f, f, w // f, f, c).mean((1, 3))


@settings(max_examples=12, deadline=None)
@given(
    h=st.integers(1, 30),
    w=st.integers(1, 30),
    scale=st.sampled_from([2, 4]),
    c=st.sampled_from([1, 3, 4]),
    seed=st.integers(0, 99),
)
def test_any_size_comes_out_exact_and_averages_to_the_picture_to_the_byte(pipe, h, w, scale, c, seed):
    a = picture(h, w, c, seed)
    if c == 4:
        a[..., 3] = 255
    made = upscale(pipe, a, scale=scale, num_inference_steps=1, seed=seed).arrays[0]
    assert made.shape == (scale * h, scale * w, 3)
    assert np.array_equal(means(made, scale), np.repeat(a, 3, 2) if c == 1 else a[..., :3])


def test_without_consistency_it_is_what_the_network_made(pipe):
    a = picture(8, 8)
    free, held = (
        upscale(pipe, a, consistency=c, num_inference_steps=2, seed=0).arrays[0] for c in ("none", "range")
    )
    assert not np.array_equal(means(free, 2), a) and np.array_equal(means(held, 2), a)


def test_transparency_is_kept(pipe):
    a = picture(6, 9, 4)
    made = upscale(pipe, a, num_inference_steps=1, seed=0).arrays[0]
    assert made.shape == (12, 18, 4)
    alpha = np.asarray(Image.fromarray(a[..., 3]).resize((18, 12), Image.Resampling.BICUBIC))
    assert np.abs(made[..., 3].astype(int) - alpha).max() <= 1


def test_a_picture_depends_on_its_seed_alone_and_counts_its_calls(pipe):
    a = picture(10, 7)
    three = upscale(pipe, a, scale=4, num_inference_steps=3, seed=5, num_images=3, consistency="none")
    one = upscale(pipe, a, scale=4, num_inference_steps=3, seed=6, consistency="none")
    assert three.seeds == (5, 6, 7) and three.nfe == one.nfe == 6
    assert (
        np.abs(three.arrays[1].astype(int) - one.arrays[0]).max() <= 1
        and (three.arrays[0] != three.arrays[1]).any()
    )


def test_one_tile_is_the_network_itself(pipe):
    x, l, nothing = torch.randn(2, 12, 8, 8), ve(0.7), canvas.alone(pipe, (8, 8))
    net = pipe.process.denoiser(
        lambda y, t: pipe.fast(torch.cat([y, nothing.expand(len(y), -1, -1, -1)], 1), t)
    )
    with torch.no_grad():
        assert_close(canvas.over_tiles(pipe, nothing, Count())(x, l), net(x, l))


def test_tiles_of_a_network_that_looks_at_one_cell_are_the_whole_picture(pipe):
    """Each tile gets its own part of x and of the condition, and what is blended adds up to 1 everywhere."""
    local = SimpleNamespace(
        fast=lambda y, t: torch.tanh(y[:, :12] + 2 * y[:, 12:24]) + y[:, 24:],
        codec=pipe.codec,
        process=pipe.process,
    )
    x, condition, l, count = torch.randn(2, 12, 21, 37), torch.randn(1, 25 - 12, 21, 37), ve(0.7), Count()
    tiles = canvas.over_tiles(local, condition, count)(x, l)
    net = pipe.process.denoiser(
        lambda y, t: local.fast(torch.cat([y, condition.expand(2, -1, -1, -1)], 1), t)
    )
    assert_close(tiles, net(x, l), atol=1e-5, rtol=1e-5)
    assert count.calls == 1


def test_folding_is_undone_at_odd_sizes(pipe):
    x = torch.rand(2, 3, 5, 7)
    assert torch.equal(canvas.unfolded(pipe, canvas.folded(pipe, x), (5, 7)), x)


def test_augmenting_changes_what_is_shown(pipe):
    a = picture(8, 8)
    made = [
        upscale(pipe, a, augment=s, consistency="none", num_inference_steps=1, seed=0).arrays[0]
        for s in (0.0, 0.3)
    ]
    assert (made[0] != made[1]).any()


def test_noise_can_be_estimated(pipe):
    rng = np.random.default_rng(0)
    a = (128 + 0.2 * 127.5 * rng.standard_normal((24, 24, 3))).clip(0, 255).astype(np.uint8)
    made = upscale(pipe, a, noise="estimate", num_inference_steps=1, seed=0).arrays[0]
    near = upscale(pipe, a, noise=0.2, num_inference_steps=1, seed=0).arrays[0]
    assert np.abs(made.astype(int) - near).mean() < 1


def test_without_training_the_averages_are_the_picture_too(emoji):
    a = np.asarray(Image.fromarray(picture(4, 4)).resize((20, 28), Image.Resampling.BICUBIC))
    r = upscale(emoji, a, "a red apple", num_inference_steps=3, seed=1)
    assert r.arrays.shape == (1, 56, 40, 3) and np.array_equal(means(r.arrays[0], 2), a) and r.nfe == 3
    assert (r.arrays != upscale(emoji, a, "a red apple", num_inference_steps=3, seed=2).arrays).any()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"scale": 3}, "2 or 4"),
        ({"noise": 0.6}, "0 to 0.5"),
        ({"noise": "much"}, "'estimate'"),
        ({"noise": -1}, "from 0"),
        ({"augment": 0.6}, "0 to 0.5"),
        ({"consistency": "domain"}, "range"),
        ({"prompt": "an apple"}, "no prompt"),
        ({"strength": 0.5}, "no strength"),
        ({"guidance_scale": 3}, "guidance_scale"),
    ],
)
def test_what_cannot_be_done_is_said(pipe, how, says):
    with pytest.raises(BadInput, match=says):
        upscale(pipe, picture(8, 8), **how)


def test_models_that_do_not_fit_are_said(pipe, emoji, tiny):
    with pytest.raises(BadInput, match="emoji-upscale"):
        upscale(emoji, picture(8, 8), noise=0.1)
    with pytest.raises(BadInput, match="not trained to upscale"):
        upscale(unnoise.load(tiny), picture(8, 8))
    with pytest.raises(BadInput, match="makes pictures larger"):
        inpaint(pipe, picture(16, 16), np.full((16, 16), 255, np.uint8), seed=0)
    with pytest.raises(BadInput, match="8 pixels"):
        upscale(pipe, picture(4, 4), noise="estimate")
    with pytest.raises(BadInput, match="8192"):
        upscale(pipe, picture(1, 3000), scale=4)


def test_the_command_and_its_replay(pipe, tmp_path, capfd):
    Image.fromarray(picture(9, 8)).save(tmp_path / "a.png")
    out = tmp_path / "b.png"
    _, told, _ = run(
        capfd,
        "edit",
        "upscale",
        tmp_path / "a.png",
        "--model",
        pipe.folder.path,
        "--scale",
        4,
        "--steps",
        2,
        "--seed",
        3,
        "-o",
        out,
        "--json",
    )
    assert json.loads(told)["files"] == [str(out)] and Image.open(out).size == (32, 36)
    run(capfd, "replay", out, "--model", pipe.folder.path, "-o", tmp_path / "c.png", "--json")
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(Image.open(tmp_path / "c.png")))
    assert "2 or 4" in bad(
        capfd, "edit", "upscale", tmp_path / "a.png", "--model", pipe.folder.path, "--scale", 5
    )
