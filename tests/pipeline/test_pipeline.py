"""The pipeline: one seed an image, options that exist or are refused, and runs that do not see each other."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unnoise
from unnoise.errors import BadInput
from unnoise.pipeline import read_recipe
from unnoise.sample import SAMPLERS, last


@pytest.fixture(scope="module")
def pipe(tiny):
    return unnoise.load(tiny)


def test_public_contract(pipe):
    r = pipe(
        "one",
        negative_prompt="a t-shirt",
        num_inference_steps=3,
        guidance_scale=2.0,
        seed=7,
        num_images=4,
        sampler="dpmpp_2m",
    )
    assert r.seeds == (7, 8, 9, 10) and r.nfe == 3 and len(r.images) == 4
    assert all(isinstance(im, Image.Image) and im.size == (8, 8) for im in r.images)
    assert r.grid().size == (16, 16)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_an_image_depends_on_its_own_seed_alone(pipe, sampler):
    run = lambda **kw: last(
        pipe.stream("boot", num_inference_steps=3, guidance_scale=1.5, sampler=sampler, **kw)
    )
    together, alone, reordered = run(seed=[5, 9, 2]), run(seed=9), run(seed=[9, 2, 5])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together[[1, 2, 0]], reordered, atol=1e-5, rtol=0)


def test_batches_make_the_same_images(pipe):
    a, b = (pipe("", seed=0, num_images=7, num_inference_steps=3, batch_size=n).arrays for n in (7, 2))
    assert np.abs(a.astype(int) - b).max() <= 1 and (a != b).mean() < 0.01


def test_guidance_one_is_off_and_calls_once(pipe):
    plain = last(pipe.stream("one", guidance_scale=1.0, seed=3))
    same = last(pipe.stream("one", guidance_scale=1.0, negative_prompt="boot", seed=3))
    assert torch.equal(plain, same)
    assert not torch.equal(plain, last(pipe.stream("one", guidance_scale=2.0, seed=3)))
    assert not torch.equal(
        last(pipe.stream("one", guidance_scale=2.0, seed=3)),
        last(pipe.stream("one", guidance_scale=2.0, negative_prompt="boot", seed=3)),
    )


def test_guidance_is_the_formula(pipe):
    """u + s (c - u) of two plain denoisers, written out here."""
    x, l = torch.randn(2, 1, 8, 8), pipe.schedule.level(0.6)
    c, u = pipe.denoiser(["one", "boot"])(x, l), pipe.denoiser(["", ""])(x, l)
    torch.testing.assert_close(
        pipe.denoiser(["one", "boot"], guidance=3.0)(x, l), u + 3 * (c - u), atol=1e-5, rtol=1e-5
    )


def test_within_is_around_both_answers_that_guidance_mixes(pipe):
    """A function that is not linear, so that it matters where it stands: the prompts' rows come first, then
    the negatives'.
    """
    x, l, seen = torch.randn(2, 1, 8, 8), pipe.schedule.level(0.6), []

    def within(denoise):
        def bent(x, l):
            seen.append(len(x))
            return denoise(x, l).tanh()

        return bent

    c, u = pipe.denoiser(["one", "boot"])(x, l).tanh(), pipe.denoiser(["", ""])(x, l).tanh()
    torch.testing.assert_close(
        pipe.denoiser(["one", "boot"], guidance=3.0, within=within)(x, l),
        u + 3 * (c - u),
        atol=1e-5,
        rtol=1e-5,
    )
    torch.testing.assert_close(pipe.denoiser(["one", "boot"], within=within)(x, l), c, atol=1e-5, rtol=1e-5)
    assert seen == [4, 2]


def test_stream_is_the_call(pipe):
    states = list(pipe.stream("one", seed=4, num_inference_steps=3))
    assert len(states) == 4
    assert np.array_equal(pipe.decode(states[-1].x), pipe("one", seed=4, num_inference_steps=3).arrays)
    assert pipe.decode(states[0].x0).shape == (1, 8, 8, 1)


def test_eight_threads_equal_the_serial_runs(pipe):
    jobs = [
        dict(prompt=p, seed=s, num_inference_steps=n, sampler=k)
        for p, s, n, k in [
            ("one", 1, 3, "ddim"),
            ("boot", 2, 5, "unipc"),
            ("", 3, 4, "dpmpp_2m"),
            ("one", 4, 2, "euler_ancestral"),
        ]
        * 4
    ]
    serial = [pipe(**j).arrays for j in jobs]
    with ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(lambda j: pipe(**j).arrays, jobs))
    assert all(np.array_equal(a, b) for a, b in zip(serial, parallel))


@pytest.mark.parametrize(
    ("kw", "said"),
    [
        (dict(prompt="zebra"), "an ankle boot"),
        (dict(num_inference_steps=0), "from 1"),
        (dict(num_inference_steps=2.5), "whole number"),
        (dict(num_inference_steps=True), "whole number"),
        (dict(guidance_scale=float("nan")), "finite"),
        (dict(guidance_scale=float("inf")), "finite"),
        (dict(num_images=0), "num_images"),
        (dict(sampler="dimm"), "did you mean 'ddim'"),
        (dict(spacing="trialing"), "trailing"),
        (dict(eta=0.5, sampler="dpmpp_2m"), "eta"),
        (dict(guidence_scale=2.0), "did you mean 'guidance_scale'"),
        (dict(seed=[1, 2], num_images=3), "2 seeds"),
        (dict(negative_prompt="zebra"), "zebra"),
        (dict(batch_size=0), "batch_size"),
        (dict(spacing="tuned"), "tuned"),
    ],
)
def test_bad_requests_say_what_is_accepted(pipe, kw, said):
    with pytest.raises(BadInput, match=said) as e:
        pipe(**kw)
    assert "\n" not in str(e.value)


def test_guidance_by_interval_and_rescale(pipe):
    run = lambda **kw: last(
        pipe.stream("one", guidance_scale=3.0, seed=3, num_inference_steps=4, sampler="ddim", **kw)
    )
    assert torch.equal(run(guidance_interval=(0, float("inf"))), run())
    assert torch.equal(
        run(guidance_interval=(1e6, 2e6)),
        last(pipe.stream("one", guidance_scale=1.0, seed=3, num_inference_steps=4, sampler="ddim")),
    )
    assert not torch.equal(run(guidance_rescale=0.7), run())
    r = pipe("one", guidance_interval=(0.2, 5), guidance_rescale=0.5, seed=0, num_inference_steps=1).recipes[
        0
    ]
    assert (r["guidance_interval"], r["guidance_rescale"]) == ([0.2, 5.0], 0.5)


def test_brownian_noise_draws_one_path_for_any_number_of_steps(pipe):
    run = lambda n, noise: last(
        pipe.stream("one", seed=[3, 4], num_inference_steps=n, sampler="ddim", eta=1.0, noise=noise)
    )
    apart = lambda noise: float((run(60, noise) - run(120, noise)).square().mean())
    assert apart("brownian") < 0.25 * apart("seeded")
    with pytest.raises(BadInput, match="goes back up"):
        pipe("one", sampler="restart", noise="brownian")
    with pytest.raises(BadInput, match="did you mean 'brownian'"):
        pipe("one", noise="browian")


def test_aliases_and_options(pipe):
    assert (
        pipe("one", sampler="euler a", seed=1, num_inference_steps=2).recipes[0]["sampler"]
        == "euler_ancestral"
    )
    r = pipe("one", sampler="DPM++ 2M Karras", seed=1, num_inference_steps=2).recipes[0]
    assert (r["sampler"], r["spacing"]) == ("dpmpp_2m", "karras")
    a, b = (pipe("one", sampler="ddim", seed=1, num_inference_steps=4, eta=e).arrays for e in (0.0, 1.0))
    assert not np.array_equal(a, b)


def test_files_carry_their_recipe(pipe, tmp_path):
    r = pipe("one", seed=3, num_images=3, num_inference_steps=2)
    files = r.save(tmp_path / "x.png")
    assert [f.name for f in files] == ["x-3.png", "x-4.png", "x-5.png"] and (tmp_path / "x.png").exists()
    d = read_recipe(files[1])
    assert (d["seed"], d["prompt"], d["model"], d["model_sha256"]) == (4, "one", "tiny", pipe.sha256)
    assert {"sampler", "steps", "guidance", "version", "sampler_revision", "noise_revision"} <= set(d)
    assert not any("/" in str(v) for v in d.values())
    assert np.array_equal(np.asarray(Image.open(files[1])), r.arrays[1, ..., 0])
    assert len(r.save(tmp_path)) == 3 and (tmp_path / "3.png").exists()


def test_a_failing_write_leaves_nothing_under_the_final_name(pipe, tmp_path, monkeypatch):
    def full(self, raw):
        with open(self, "wb") as f:
            f.write(raw[:20])
        raise OSError(28, "No space left on device")

    r = pipe("one", seed=3, num_inference_steps=1)
    monkeypatch.setattr(Path, "write_bytes", full)
    for overwrite in False, True:
        with pytest.raises(BadInput, match="No space left"):
            r.save(tmp_path / "x.png", overwrite)
    assert list(tmp_path.iterdir()) == []


def test_models_of_vectors(vectors):
    pipe = unnoise.load(vectors)
    r = pipe(num_images=5, seed=0, num_inference_steps=3)
    assert r.arrays.shape == (5, 3) and r.arrays.dtype == np.float32
    with pytest.raises(BadInput, match="not pictures"):
        r.images  # noqa: B018
    with pytest.raises(BadInput, match="takes no prompt"):
        pipe("one")
    with pytest.raises(BadInput, match="no condition"):
        pipe(guidance_scale=2.0)


def test_non_finite_samples_are_an_error_never_a_picture(tiny):
    pipe = unnoise.load(tiny)
    with torch.no_grad():
        pipe.net.conv_out.bias.fill_(float("inf"))
    with pytest.raises(BadInput, match="non-finite"):
        pipe("one", seed=0, num_inference_steps=2)


def test_save_pretrained_opens_again_and_draws_the_same(pipe, tmp_path):
    again = unnoise.load(pipe.save_pretrained(tmp_path / "copy"))
    assert np.array_equal(again("one", seed=1).arrays, pipe("one", seed=1).arrays)
