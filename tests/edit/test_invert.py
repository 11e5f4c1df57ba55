"""Inversion of pictures: round trips and their errors, anchors under guidance, runs that retrace the way up;
the command and its replay.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import unnoise
from tests.cli.test_cli import bad, run
from tests.support import normal
from unnoise.denoiser.oracle import Mixture
from unnoise.edit import invert
from unnoise.edit.invert import Steps, follow, inverted, landing, null_text, reconstruct, rms
from unnoise.edit.picture import encoded
from unnoise.errors import BadInput
from unnoise.process.level import Level, move, vp
from unnoise.sample import SAMPLERS, last
from unnoise.sample import invert as plain_inversion


@pytest.fixture(scope="module")
def x0(emoji, apple):
    return encoded(emoji, apple)


def test_fifty_steps_come_back_to_40_db(emoji, apple):
    r = invert(emoji, apple, "a red apple", iterations=1)
    assert r.psnr > 40 and r.nfe == 100, r.psnr  # 47 on real pictures; plain inversion 36


def test_methods_are_the_formulas(emoji, x0):
    denoise, path = emoji.denoiser(["a red apple"]), emoji.schedule.path(6)
    for method, iterations, calls in (("plain", 0, 5), ("fixed-point", 2, 12)):
        found = inverted(emoji, x0, "a red apple", 6, method, iterations=2)
        assert (
            found.nfe == calls and len(found.xs) == 7 and found.path == path and torch.equal(found.xs[-1], x0)
        )
        torch.testing.assert_close(
            found.xs[0], plain_inversion(denoise, x0, path[::-1], iterations), atol=1e-4, rtol=1e-4
        )
        x, n = reconstruct(emoji, found)
        torch.testing.assert_close(
            x, last(SAMPLERS["ddim"](denoise, found.xs[0], path)), atol=1e-4, rtol=1e-4
        )
        assert n == 6


def test_coupled_is_exact_under_guidance(emoji, apple):
    r = invert(emoji, apple, "a red apple", method="coupled", guidance_scale=7.5, num_inference_steps=8)
    assert r.error < 1e-9 and r.psnr == float("inf") and r.nfe == 32, r.error


def test_anchors_hold_under_guidance(emoji, x0):
    found = inverted(emoji, x0, "a red apple", 8)
    back = lambda g, anchor, **o: rms(reconstruct(emoji, found, g, anchor, **o)[0], x0)
    free, off = back(7.5, "none"), back(1.0, "none")
    assert abs(back(7.5, "negative-prompt") - off) < 1e-4  # guidance between a prompt and itself
    nulls = null_text(emoji, found, 7.5, iterations=8)
    assert len(nulls) == 8 and all(n.shape == nulls[0].shape and not n.requires_grad for n in nulls)
    assert back(7.5, "null-text", iterations=8) - off < (free - off) / 2, (
        free,
        off,
    )  # what the inversion itself loses stays lost


def test_null_text_of_no_iterations_is_the_empty_prompt(emoji, x0):
    found = inverted(emoji, x0, "a red apple", 3)
    a, b = (
        reconstruct(emoji, found, 3.0, anchor, **o)[0]
        for anchor, o in (("none", {}), ("null-text", {"iterations": 0}))
    )
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_landing_is_the_inverse_of_a_move():
    a, b, x, x1 = vp(-3.0), vp(1.0), normal(2, 3), normal(2, 3, seed=1)
    torch.testing.assert_close(move(x, landing(x, x1, a, b), a, b), x1)


def test_following_passes_through_every_given_x():
    path, world = [vp(k) for k in (-6.0, -2.0, 0.0, 2.0)], Mixture.ring()
    path = [*path, Level(torch.tensor(1.0).double(), torch.tensor(0.0).double())]
    xs, mask = [normal(5, 2, seed=i) for i in range(5)], torch.tensor([0.0, 1.0])
    states = list(SAMPLERS["ddim"](follow(world, Steps(path), xs, mask), xs[0], path))
    for s, x in zip(states, xs):
        torch.testing.assert_close(s.x[:, 0], x[:, 0])
    free = list(SAMPLERS["ddim"](world, xs[0], path))
    torch.testing.assert_close(states[1].x[:, 1], free[1].x[:, 1])  # elsewhere it is its own
    alone = last(SAMPLERS["ddim"](follow(world, Steps(path), xs, torch.ones(2)), xs[0], path))
    assert torch.equal(alone, free[-1].x)


def test_pixel_models_with_words(tiny):
    pipe, picture = unnoise.load(tiny), np.zeros((20, 11), np.uint8)
    for method in ("plain", "fixed-point", "coupled"):
        r = invert(pipe, picture, "one", method=method, num_inference_steps=4)
        assert r.arrays.shape == (1, 20, 11, 3) and np.isfinite(r.error)
    a, b = (
        invert(pipe, picture, "one", num_inference_steps=4, **o)
        for o in ({}, {"guidance_scale": 4.0, "anchor": "negative-prompt"})
    )
    assert abs(a.error - b.error) < 1e-3
    with pytest.raises(BadInput, match="has not: use negative-prompt"):
        invert(pipe, picture, "one", num_inference_steps=2, guidance_scale=2.0, anchor="null-text")


def test_bad_input(emoji, apple):
    for options, said in (
        ({"method": "fixpoint"}, "did you mean 'fixed-point'"),
        ({"anchor": "nul-text"}, "did you mean 'null-text'"),
        ({"anchor": "null-text"}, "guidance, which is off"),
        ({"sampler": "heun"}, "must be 'ddim'"),
        ({"num_images": 2}, "must be 1"),
        ({"anchor": "negative-prompt", "guidance_scale": 2.0, "negative_prompt": "a dog"}, "one of them"),
        ({"clip_skip": 1}, "clip_skip"),
        (
            {"method": "coupled", "anchor": "negative-prompt", "guidance_scale": 2.0},
            "exactly without an anchor",
        ),
    ):
        with pytest.raises(BadInput, match=said):
            invert(emoji, apple, "a red apple", **{"num_inference_steps": 1, **options})
    with pytest.raises(BadInput, match="only the method 'coupled'"):
        inverted(emoji, encoded(emoji, apple), "", 2, guidance=2.0)


def test_the_command_prints_the_error_and_replays(tmp_path, capfd, apple):
    source = tmp_path / "apple.png"
    Image.fromarray(apple).save(source)
    code, out, _ = run(
        capfd,
        "edit",
        "invert",
        source,
        "a red apple",
        "--steps",
        4,
        "--method",
        "coupled",
        "--guidance",
        5,
        "-o",
        tmp_path / "r.png",
        "--json",
    )
    d = json.loads(out)
    assert (
        code == 0
        and d["round_trip_error"] < 1e-4
        and float(d["psnr"]) > 50
        and 10 < d["autoencoder_psnr"] < 60
        and d["files"] == [str(tmp_path / "r.png")]
    )
    code, out, _ = run(capfd, "replay", tmp_path / "r.png", "-o", tmp_path / "again.png", "--json")
    assert code == 0 and json.loads(out)["max_difference"] <= 1
    code, out, _ = run(capfd, "edit", "invert", source, "--steps", 2, "-o", tmp_path / "s.png")
    assert code == 0 and "error: " in out and "psnr: " in out
    assert "original" in bad(capfd, "edit", "invert", source, "-o", source)
    assert "did you mean" in bad(
        capfd, "edit", "invert", source, "--method", "plan", "-o", tmp_path / "t.png"
    )
