"""Kinds of fault that edits have had: seeds recorded wrongly, batches that are not what was asked, gradients
lost, frames that run too fast.
"""

import numpy as np
import pytest
import torch
from PIL import Image

import unnoise
from tests.support import sd
from unnoise.edit import anomaly, denoise, upscale
from unnoise.edit.anomaly import Anomaly
from unnoise.edit.diffedit import difference
from unnoise.edit.outpaint import Zoom, durations
from unnoise.guide.steer import steer
from unnoise.process.level import Level
from unnoise.sample.invert import _accelerated

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return unnoise.load(sd.make(tmp_path_factory.mktemp("models") / "tiny-sd"), device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def upscaler():
    return unnoise.load("emoji-upscale", device="cpu", dtype="fp32")


class Sizes:
    """The batch sizes with which a pipeline's network is called."""

    def __init__(self, pipe, monkeypatch):
        self.seen = []
        fast = pipe.runner.fast

        def watched():
            net = fast()

            def call(x, *args, **kwargs):
                self.seen.append(len(x))
                return net(x, *args, **kwargs)

            return call

        monkeypatch.setattr(pipe.runner, "fast", watched)


# --- upscale ------------------------------------------------------------------------------------------------


def test_an_upscaling_without_a_seed_records_the_seed_that_it_used(pipe):
    first = upscale(pipe, PICTURE, "a dog", num_inference_steps=2, num_images=2)
    again = upscale(pipe, PICTURE, "a dog", num_inference_steps=2, seed=[r["seed"] for r in first.recipes])
    assert np.array_equal(first.arrays, again.arrays)
    assert not np.array_equal(
        first.arrays[0],
        upscale(pipe, PICTURE, "a dog", num_inference_steps=2, seed=first.seeds[0] + 1).arrays[0],
    )


def test_the_trained_upscaler_draws_as_many_at_once_as_are_asked(upscaler, monkeypatch):
    sizes = Sizes(upscaler, monkeypatch)
    all_at_once = upscale(upscaler, PICTURE, num_images=3, seed=5, num_inference_steps=2)
    assert set(sizes.seen) == {3}
    sizes.seen.clear()
    two = upscale(upscaler, PICTURE, num_images=3, seed=5, num_inference_steps=2, batch_size=2)
    assert set(sizes.seen) == {1, 2}
    assert (
        np.abs(two.arrays.astype(int) - all_at_once.arrays).max() <= 1
        and two.nfe == all_at_once.nfe
        and two.recipes == all_at_once.recipes
    )


def test_denoising_too(upscaler, monkeypatch):
    sizes = Sizes(upscaler, monkeypatch)
    r = denoise(
        upscaler, PICTURE, sigma=0.2, sample=True, num_images=3, seed=1, num_inference_steps=2, batch_size=1
    )
    assert set(sizes.seen) == {1}
    assert r.nfe == denoise(upscaler, PICTURE, sigma=0.2, sample=True, seed=1, num_inference_steps=2).nfe


# --- noises in batches --------------------------------------------------------------------------------------


def test_an_anomalys_noises_come_in_batches_and_change_nothing(pipe, monkeypatch):
    whole = anomaly(pipe, PICTURE, "a dog", noises=5, batch_size=5)
    sizes = Sizes(pipe, monkeypatch)
    parts = anomaly(pipe, PICTURE, "a dog", noises=5, batch_size=2)
    assert sizes.seen == [2, 2, 1] and isinstance(parts, Anomaly)
    assert parts.nfe == whole.nfe == 1 and parts.score == pytest.approx(whole.score, rel=1e-2)


def test_the_noises_of_a_difference_come_in_batches_and_change_nothing(pipe, monkeypatch):
    x0 = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = difference(pipe, x0, "a dog", "a cat", noises=5, space="cells", batch_size=5)
    sizes = Sizes(pipe, monkeypatch)
    parts = difference(pipe, x0, "a dog", "a cat", noises=5, space="cells", batch_size=3)
    assert sizes.seen == [3, 3, 2, 2]
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_large_pictures_have_small_batches_by_themselves(pipe, monkeypatch):
    monkeypatch.setattr(pipe.runner, "batch", lambda shape: 2)
    sizes = Sizes(pipe, monkeypatch)
    anomaly(pipe, PICTURE, "a dog", noises=3)
    assert sizes.seen == [2, 1]


# --- the gradient through the network -----------------------------------------------------------------------


def test_one_sample_at_pure_noise_takes_nothing_from_the_others():
    def denoiser(x, l):
        return x * torch.tensor([[3.0, 0.0]]) + x.flip(1) * torch.tensor([[0.0, 1.0]])

    loss = lambda images, l: ((images - 1) ** 2).sum(1)
    steered = steer(denoiser, [(loss, 1.0)], through=True)
    x = torch.tensor([[0.3, -0.2], [0.5, 0.7], [-0.4, 0.1]])
    levels = [(0.8, 0.6), (0.0, 1.0), (0.6, 0.8)]
    together = steered(x, Level(torch.tensor([a for a, _ in levels]), torch.tensor([s for _, s in levels])))
    alone = torch.cat(
        [steered(x[i : i + 1], Level(torch.tensor(a), torch.tensor(s))) for i, (a, s) in enumerate(levels)]
    )
    torch.testing.assert_close(together, alone)
    plain = steer(denoiser, [(loss, 1.0)])(
        x, Level(torch.tensor([a for a, _ in levels]), torch.tensor([s for _, s in levels]))
    )
    assert (
        torch.equal(together[1], plain[1])
        and not torch.allclose(together[0], plain[0])
        and not torch.allclose(together[2], plain[2])
    )


# --- devices without float64 --------------------------------------------------------------------------------


def test_acceleration_is_the_same_where_the_device_has_no_float64(monkeypatch):
    g = torch.Generator().manual_seed(0)
    tried, found = ([torch.randn(2, 3, 4, generator=g) for _ in range(3)] for _ in "ab")
    want = _accelerated(tried, found)
    monkeypatch.setattr("unnoise.process.level._NARROW", {"cpu"})
    assert torch.equal(_accelerated(tried, found), want) and want.dtype == torch.float32


# --- frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
@pytest.mark.parametrize("fps", [7, 12, 15, 24, 30, 48])
def test_the_mean_rate_of_frames_is_the_one_asked_for(suffix, fps, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    zoom = Zoom(pictures, 1.5, 0, 0)
    path = zoom.save(tmp_path / f"a{suffix}", each=10, fps=fps)
    times = []
    with Image.open(path) as im:
        for k in range(getattr(im, "n_frames")):  # noqa: B009
            im.seek(k)
            im.load()
            times.append(im.info["duration"])
    assert abs(sum(times) - 1000 * 31 / fps) <= (5 if suffix == ".gif" else 1)


def test_durations_are_whole_units_and_never_drift():
    for fps in range(1, 101):
        for unit in (1, 10):
            times = durations(200, fps, unit)
            assert all(t % unit == 0 for t in times) and max(times) - min(times) <= unit
            assert np.abs(np.cumsum(times) - 1000 * np.arange(1, 201) / fps).max() <= unit / 2 + 1e-9


def test_a_film_takes_a_new_name_and_replaces_only_when_asked(tmp_path):
    zoom = Zoom(np.zeros((2, 8, 8, 3), np.uint8), 1.5, 0, 0)
    (tmp_path / "a.gif").write_bytes(b"mine")
    assert zoom.save(tmp_path / "a.gif", 2).name == "a-2.gif" and (tmp_path / "a.gif").read_bytes() == b"mine"
    assert (
        zoom.save(tmp_path / "a.gif", 2, overwrite=True).name == "a.gif"
        and (tmp_path / "a.gif").read_bytes() != b"mine"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-2.gif", "a.gif"]
