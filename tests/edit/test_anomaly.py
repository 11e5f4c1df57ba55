"""Anomalies: AUROC against counting, scores against the closed form of a Gaussian, the map, refusals, the
command.
"""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import unnoise
from tests.cli.test_cli import bad, run
from unnoise.denoiser import Gaussian
from unnoise.edit import anomaly
from unnoise.edit.anomaly import FLAT, auroc, detail, scores
from unnoise.errors import BadInput
from unnoise.process import schedule


@settings(max_examples=50, deadline=None)
@given(
    a=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    b=st.lists(st.integers(0, 6), min_size=1, max_size=12),
)
def test_auroc_is_the_share_of_pairs_in_order(a, b):
    pairs = [(y > x) + 0.5 * (y == x) for x in a for y in b]
    assert auroc(torch.tensor(a), torch.tensor(b)) == pytest.approx(np.mean(pairs))


def test_the_score_of_a_gaussian_is_its_closed_form_and_grows_with_the_distance():
    """x0 - D = k' (x0 - m) - k sigma eps, k = v alpha / (alpha^2 v + sigma^2), k' = sigma^2 / (alpha^2 v +
    sigma^2).
    """
    curve, m, v, u = schedule.cosine(), 0.2, 0.3**2, 0.5
    l = curve.level(u)
    a, s = float(l.alpha), float(l.sigma)
    for far in (0.0, 0.5, 1.0):
        x0 = torch.full((40, 50), m + far, dtype=torch.float64)
        got = scores(Gaussian(m, v), x0, curve, u, noises=4).mean()
        total = a * a * v + s * s
        want = (s * s / total * far) ** 2 + (v * a * s / total) ** 2
        assert float(got) == pytest.approx(want, rel=0.05)


def test_the_map_is_of_the_models_size_and_its_mean_the_score():
    pipe = unnoise.load("digits")
    image = np.zeros((28, 28), np.uint8)
    image[8:20, 13:15] = 255
    found = anomaly(pipe, image, strength=0.4, noises=3, seed=0)
    assert found.map.shape == (28, 28) and found.map.mean() == pytest.approx(found.score) and found.nfe == 1
    assert found.heat().shape == (28, 28, 3) and found.heat(found.map.max()).max() == 255
    dx = np.diff(image / 127.5, axis=1)
    dy = np.diff(image / 127.5, axis=0)
    assert found.relative == pytest.approx(found.score / np.sqrt((dx**2).mean() + (dy**2).mean()))
    again = anomaly(pipe, image, strength=0.4, noises=3, seed=0)
    assert again.score == found.score != anomaly(pipe, image, strength=0.4, noises=3, seed=9).score
    many = anomaly(pipe, image, strength=0.4, noises=3, steps=4)
    assert many.nfe == 4


def test_where_a_digit_was_spoilt_the_map_is_hot():
    pipe = unnoise.load("digits")
    image = pipe("a handwritten one", seed=3, num_inference_steps=12).arrays[0].repeat(3, 2)
    spoilt = image.copy()
    spoilt[2:8, 2:8] = np.random.default_rng(0).integers(0, 256, (6, 6, 1), np.uint8)
    found = anomaly(pipe, spoilt, "a handwritten one", strength=0.4, noises=6)
    inside = found.map[2:8, 2:8].mean()
    assert inside > 3 * (found.map.sum() - found.map[2:8, 2:8].sum()) / (28 * 28 - 36)
    assert found.score > anomaly(pipe, image, "a handwritten one", strength=0.4, noises=6).score


def test_detail_is_of_neighbours_and_never_nothing():
    x = torch.zeros(3, 1, 4, 5)
    x[1, :, ::2], x[2] = 1.0, torch.arange(5) * 0.5
    assert detail(x).tolist() == pytest.approx([FLAT, 1.0, 0.5])
    assert detail(x[:, :, :1, :1]).tolist() == [FLAT] * 3


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"strength": 0}, "above 0"),
        ({"strength": 2}, "from 0"),
        ({"noises": 0}, "noises"),
        ({"steps": 1.5}, "steps"),
    ],
)
def test_what_cannot_be_done_is_said(tiny, how, says):
    with pytest.raises(BadInput, match=says):
        anomaly(unnoise.load(tiny), np.zeros((8, 8), np.uint8), **how)


def test_the_command(tmp_path, capfd):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)).save(tmp_path / "a.png")
    done = json.loads(
        run(
            capfd,
            "edit",
            "anomaly",
            tmp_path / "a.png",
            "--model",
            "digits",
            "--noises",
            2,
            "-o",
            tmp_path / "b.png",
            "--json",
        )[1]
    )
    assert done["score"] > 0 and done["relative"] > 0 and Image.open(tmp_path / "b.png").size == (28, 28)
    assert "above 0" in bad(
        capfd, "edit", "anomaly", tmp_path / "a.png", "--model", "digits", "--strength", 0
    )
