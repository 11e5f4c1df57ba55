"""Inpainting: outside the mask not a byte changes, whatever the method, size, alpha or number of passes; the
ends are exact; the command.
"""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import unnoise
from tests.cli.test_cli import bad, run
from unnoise.edit import inpaint
from unnoise.edit.inpaint import JUMP, METHODS, TIMES, Filling, fill, softened
from unnoise.edit.picture import read
from unnoise.edit.run import Run, asked
from unnoise.errors import BadInput

FREE = tuple(m for m in METHODS if m != "model")  # those that need no network of their own


@pytest.fixture(scope="module")
def pixels(tiny):
    return unnoise.load(tiny)


@pytest.fixture(scope="module")
def apple():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def hole(h, w, y=0.25, x=0.25):
    m = np.zeros((h, w), np.uint8)
    m[int(h * y) : max(int(h * 0.8), 1), int(w * x) : max(int(w * 0.8), 1)] = 255
    return m


@pytest.mark.parametrize("method", FREE)
def test_every_method_changes_what_is_masked_and_nothing_else(emoji, apple, method):
    m = hole(64, 64)
    r = inpaint(emoji, apple, m, "a car", method=method, num_inference_steps=4, seed=0, num_images=2)
    assert all(np.array_equal(a[m == 0], apple[m == 0]) for a in r.arrays)
    assert (
        all((a[m > 0] != apple[m > 0]).mean() > 0.5 for a in r.arrays) and (r.arrays[0] != r.arrays[1]).any()
    )


@settings(max_examples=25, deadline=None)
@given(
    h=st.integers(1, 40),
    w=st.integers(1, 40),
    seed=st.integers(0, 2**31),
    alpha=st.booleans(),
    soft=st.integers(0, 5),
    method=st.sampled_from(FREE),
)
def test_any_picture_and_mask_on_a_model_of_pixels(pixels, h, w, seed, alpha, soft, method):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (h, w, 4 if alpha else 3), np.uint8)
    m = (rng.integers(0, 256, (h, w)) * (rng.random((h, w)) < 0.5)).astype(np.uint8)
    m[rng.integers(h), rng.integers(w)] = 255
    if alpha:
        a[0, 0, 3] = 7  # else it would be opaque, and come back without alpha
    want = unnoise.edit.picture.read(a).whole()
    out = inpaint(pixels, a, m, "one", soft=soft, method=method, num_inference_steps=1, seed=0).arrays[0]
    assert out.shape == want.shape and np.array_equal(out[m == 0], want[m == 0])


@pytest.mark.parametrize("size", [(33, 90), (300, 201), (1, 1), (65, 63)])
def test_odd_sizes_and_alpha(emoji, size):
    a = np.random.default_rng(1).integers(0, 256, (*size, 4), np.uint8)
    m = hole(*size)
    m[0, 0] = 255 if size == (1, 1) else 0
    out = inpaint(emoji, a, m, "a car", num_inference_steps=1, seed=0).arrays[0]
    want = unnoise.edit.picture.read(a).whole()
    assert out.shape == (*size, 4) and np.array_equal(out[m == 0], want[m == 0])


def test_ten_passes_through_files(tmp_path, emoji):
    """Saved and opened again ten times, another mask each time: what no mask covered is what it was."""
    a, path = np.random.default_rng(2).integers(0, 256, (50, 41, 3), np.uint8), tmp_path / "a.png"
    Image.fromarray(a).save(path)
    covered, rng = np.zeros((50, 41), bool), np.random.default_rng(3)
    for k in range(10):
        m = np.zeros((50, 41), np.uint8)
        y, x = rng.integers(0, 30), rng.integers(0, 30)
        m[y : y + 9, x : x + 7] = 255
        covered |= m > 0
        inpaint(emoji, path, m, "a car", num_inference_steps=1, seed=k).save(path)
    assert np.array_equal(np.asarray(Image.open(path))[~covered], a[~covered]) and covered.mean() < 0.6


def test_white_all_over_is_text_to_image(emoji, apple):
    white = np.full((64, 64), 255, np.uint8)
    how: Any = {"num_inference_steps": 2, "seed": 4, "num_images": 2}
    for method in FREE:
        assert np.array_equal(
            inpaint(emoji, apple, white, "a car", method=method, **how).arrays, emoji("a car", **how).arrays
        )


def test_strength_0_is_the_picture_and_small_ones_stay_close(emoji, apple):
    m = hole(64, 64)
    how: Any = {"num_inference_steps": 3, "seed": 4}
    assert np.array_equal(inpaint(emoji, apple, m, "a car", strength=0, **how).arrays[0], apple)
    gray = np.full_like(apple, 128)
    far = [
        np.abs(inpaint(emoji, gray, m, "a car", strength=s, **how).arrays[0].astype(int) - 128).mean()
        for s in (0.1, 1.0)
    ]
    assert far[0] < far[1]


def test_calls_are_as_documented(emoji, apple):
    m = hole(64, 64)
    calls = lambda **how: inpaint(emoji, apple, m, "a car", guidance_scale=1.0, seed=0, **how).nfe
    assert calls(method="replace", num_inference_steps=7) == calls(method="pigdm", num_inference_steps=7) == 7
    for n, times, jump in [(7, None, None), (7, 3, 2), (6, 2, 6), (1, 4, 1)]:
        r, j = times or TIMES, jump or JUMP
        assert calls(method="repaint", num_inference_steps=n, times=times, jump=jump) == n + (r - 1) * j * (
            (n - 1) // j
        )


def test_images_do_not_depend_on_their_batch(emoji, apple):
    for method in ("repaint", "dps"):
        go = lambda k, method=method: inpaint(
            emoji,
            apple,
            hole(64, 64),
            "a car",
            method=method,
            num_inference_steps=2,
            seed=0,
            num_images=2,
            batch_size=k,
        )
        assert np.abs(go(2).arrays.astype(int) - go(1).arrays).max() <= 1


@pytest.mark.parametrize("method", ["pigdm", "covariance"])
def test_each_of_several_pictures_is_told_of_its_own(emoji, apple, method):
    """Under guidance, where the network sees the prompts' rows and then the negatives'."""
    pictures, mask = [read(apple), read(apple[::-1].copy())], (hole(64, 64) > 0) * 1.0
    request = asked(emoji, (64, 64), ["a car", "a dog"], num_inference_steps=2, seed=0, guidance_scale=5.0)
    f = Filling.of(emoji, method, 1.0, 2, None, None)
    run = Run(emoji, request, size=(64, 64))
    both, _ = fill(run, pictures, mask, f)
    for i in (0, 1):
        alone, _ = fill(run.only([i]), [pictures[i]], mask, f)
        assert np.abs(both[i].astype(int) - alone[0]).max() <= 2


def test_soft_edges_lie_inside_the_mask():
    m = np.zeros((20, 30))
    m[5:15, :14] = 1
    s = softened(m, 3)
    assert (
        (s[m == 0] == 0).all() and (s <= m).all() and (s[8:12, :11] == 1).all()
    )  # at the picture's own border nothing fades
    assert s[10, 13] == 0.25 and s[10, 12] == 0.5 and s[5, 0] == 0.25
    assert np.array_equal(softened(m, 0), m) and (softened(np.ones((4, 4)), 9) == 1).all()


def test_bad_input(emoji, apple):
    m = hole(64, 64)
    for said, how in {
        "empty": {"mask": np.zeros((64, 64), np.uint8)},
        "63 x 64 pixels, the picture 64 x 64": {"mask": m[:, 1:]},
        "soft": {"soft": -1},
        "did you mean 'repaint'": {"method": "repant"},
        "another than model": {"method": "model"},
        "strength must": {"strength": 2},
        "jump is for method repaint": {"jump": 2, "method": "dps"},
        "times must": {"times": 0},
        "Brownian": {"noise": "brownian"},
    }.items():
        with pytest.raises(BadInput, match=said) as e:
            inpaint(emoji, apple, **{"mask": m, "prompt": "a car", "num_inference_steps": 8, **how})
        assert "\n" not in str(e.value)


def test_the_command_and_its_replay(tmp_path, capfd, apple):
    source, mask, m = tmp_path / "a.png", tmp_path / "m.png", hole(64, 64)
    Image.fromarray(apple).save(source)
    Image.fromarray(m).save(mask)
    before = source.read_bytes(), mask.read_bytes()
    code, out, _ = run(
        capfd,
        "edit",
        "inpaint",
        source,
        "a car",
        "--mask",
        mask,
        "--steps",
        2,
        "--seed",
        3,
        "-n",
        2,
        "-o",
        tmp_path / "e.png",
        "--json",
    )
    assert (
        code == 0
        and json.loads(out)["seeds"] == [3, 4]
        and (source.read_bytes(), mask.read_bytes()) == before
    )
    for f in json.loads(out)["files"]:
        assert np.array_equal(np.asarray(Image.open(f))[m == 0], apple[m == 0])
    code, out, _ = run(capfd, "replay", tmp_path / "e-4.png", "-o", tmp_path / "again.png", "--json")
    assert code == 0 and json.loads(out)["identical"]
    assert "original" in bad(capfd, "edit", "inpaint", source, "a car", "--mask", mask, "-o", mask)
    assert "--mask" in bad(capfd, "edit", "inpaint", source, "a car")
    Image.fromarray(m * 0).save(mask)
    assert "empty" in bad(capfd, "edit", "inpaint", source, "a car", "--mask", mask, "-o", tmp_path / "o.png")
    assert not (tmp_path / "o.png").exists()


def test_models_that_take_a_mask_see_it_and_the_picture_without_what_it_covers(tmp_path):
    """A tiny folder of 9 channels: refused for text-to-image, drawn from by method model; what lies under the
    mask tells it nothing.
    """
    from tests.support import sd

    pipe = unnoise.load(sd.make(tmp_path / "nine", unet={"in_channels": 9}), device="cpu", dtype="fp32")
    with pytest.raises(BadInput, match="edit inpaint"):
        pipe("a cat", num_inference_steps=1)
    a, m = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)
    m[4:12, 4:12] = 255
    how: Any = {"num_inference_steps": 2, "seed": 1, "soft": 0}
    first = inpaint(pipe, a, m, "a cat", **how)
    assert np.array_equal(first.arrays[0][m == 0], a[m == 0]) and first.nfe == 2
    under, around = a.copy(), a.copy()
    under[m > 0], around[0] = 0, 255 - around[0]
    assert np.array_equal(inpaint(pipe, under, m, "a cat", **how).arrays, first.arrays)
    assert not np.array_equal(
        inpaint(pipe, around, m, "a cat", **how).arrays[0][m > 0], first.arrays[0][m > 0]
    )
    with pytest.raises(BadInput, match="method must be model"):
        inpaint(pipe, a, m, "a cat", method="dps")


def test_torch_generator_is_untouched(emoji, apple):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    inpaint(emoji, apple, hole(64, 64), "a car", num_inference_steps=1, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
