"""Inpainting against its parts by hand: which levels observations count at, how strongly, what is grey, what
a method falls back to.
"""

import sys

import numpy as np
import pytest
import torch

import unnoise
from tests.support.painter import painter
from unnoise.edit import inpaint
from unnoise.edit.inpaint import Filling, conditioned, softened
from unnoise.edit.picture import cells, encoded, read
from unnoise.guide import covariance, dps, pigdm, seen
from unnoise.process.level import ve


@pytest.fixture(scope="module")
def pixels(tiny):
    return unnoise.load(tiny, device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return unnoise.load(painter(tmp_path_factory.mktemp("models") / "painter"), device="cpu", dtype="fp32")


PICTURE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
MASK = np.zeros((8, 8), np.uint8)
MASK[2:6, 2:6] = 255
HOW = {"soft": 0, "guidance_scale": 1.0, "seed": 3}


def one_step(pipe, method: str, ratio: float) -> torch.Tensor:
    """What a run of one step, begun at sigma / alpha = ratio, makes of the hidden part."""
    return torch.from_numpy(
        inpaint(pipe, PICTURE, MASK, "one", method=method, sigmas=[ratio], **HOW)
        .arrays[0][MASK > 0]
        .astype(np.float64)
    )


@pytest.mark.parametrize(("method", "trust"), [("dps", 3.0), ("pigdm", 3.0), ("covariance", 10.0)])
def test_observations_wait_until_the_derivative_can_be_trusted(pixels, method, trust):
    """Above TRUST the one step is the plain model's; below it is the guide's, with its weight and its noise
    of .2.
    """
    for ratio, told in ((trust * 1.02, False), (trust * 0.98, True)):
        plain = pixels("one", sigmas=[ratio], guidance_scale=1.0, seed=3).arrays[0]
        hidden = np.repeat(plain, 3, 2)[MASK > 0] if plain.shape[2] == 1 else plain[MASK > 0]
        assert np.array_equal(one_step(pixels, method, ratio), hidden) == (not told), ratio


@pytest.mark.parametrize(
    ("method", "guide"),
    [
        ("dps", lambda d, a, y: dps(d, a, y, 0.5, squared=True)),
        ("pigdm", lambda d, a, y: pigdm(d, a, y, 0.2, iterations=1)),
        ("covariance", lambda d, a, y: covariance(d, a, y, 0.2, how="iterative", iterations=1)),
    ],
)
def test_an_observation_counts_as_its_guide_says(pixels, method, guide):
    x0 = encoded(pixels, PICTURE)
    operator = seen(torch.from_numpy(MASK == 0)[None, None])
    l = pixels.schedule.at(float(pixels.schedule.timestep(ve(1.5))))
    eps = pixels.noise(pixels.request("one", seed=3))
    with torch.no_grad():
        want = guide(pixels.denoiser(["one"]), operator, operator(x0))(eps * float(l.sigma), l)
    made = np.repeat(pixels.decode(want)[0], 3, 2)[MASK > 0]
    assert np.abs(one_step(pixels, method, 1.5).numpy() - made).max() <= 1


def test_what_a_filling_is_made_of(pixels):
    assert Filling.of(pixels, None, 1.0, 2, None, None) == Filling("repaint", 1.0, 2, 4, 5)
    assert Filling.of(pixels, "repaint", 0.5, 0, 3, 2) == Filling("repaint", 0.5, 0, 3, 2)
    m = sys.modules["unnoise.edit.inpaint"]
    assert (m.NOISE, m.ZETA, m.TRUST) == (0.2, 0.5, {"dps": 3.0, "pigdm": 3.0, "covariance": 10.0})


def beside(pipe, mask: np.ndarray, picture: np.ndarray, monkeypatch) -> torch.Tensor:
    """The masked picture that a network trained for it would be shown."""
    shown: list[torch.Tensor] = []
    p = read(picture)
    x0 = encoded(pipe, p.pixels)
    monkeypatch.setattr(
        type(pipe), "fast", property(lambda _: lambda x, t: shown.append(x) or x[:, : x0.shape[1]])
    )
    conditioned(pipe, p, mask, cells(mask, x0), x0, picture.shape[:2])(torch.zeros_like(x0), None)
    return shown[0][:, x0.shape[1] + 1 :]


@pytest.mark.parametrize("grey", [1.0, 0.5, 0.01])
def test_all_that_changes_at_all_is_hidden_from_the_network(pixels, latents, monkeypatch, grey):
    """Also where the mask is grey: by middle grey of pixels, and by exactly 0 of what an autoencoder is
    shown.
    """
    mask = (MASK / 255.0) * grey
    shown = beside(pixels, mask, PICTURE, monkeypatch)[0, 0]
    hidden = torch.from_numpy(MASK > 0)
    torch.testing.assert_close(shown[hidden], torch.full((16,), 128 / 127.5 - 1))
    torch.testing.assert_close(shown[~hidden], encoded(pixels, PICTURE)[0, 0][~hidden])
    large = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    wide = np.kron(mask, np.ones((2, 2)))
    want = latents.codec.encode(np.where(wide[..., None] > 0, np.uint8(128), large)[None], blank=wide > 0)
    torch.testing.assert_close(beside(latents, wide, large, monkeypatch), want)


def test_soft_edges_by_hand():
    assert softened(np.array([[0, 1, 1, 1, 1, 1, 0.0]]), 2)[0].tolist() == pytest.approx(
        [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0]
    )
