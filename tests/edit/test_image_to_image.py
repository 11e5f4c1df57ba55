"""Image to image: strength is a noise level, N steps are N steps, the two ends are exact; the command and its
replay.
"""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

import unnoise
from tests.cli.test_cli import bad, run
from unnoise.edit import image_to_image
from unnoise.edit.run import asked, part
from unnoise.errors import BadInput
from unnoise.process import noise
from unnoise.process.level import corrupt
from unnoise.sample import SAMPLERS, last


def test_strength_0_is_the_picture_and_1_is_text_to_image(emoji, apple):
    how = {"num_inference_steps": 3, "seed": 5, "num_images": 2}
    assert all(
        np.array_equal(a, apple) for a in image_to_image(emoji, apple, "a car", strength=0, **how).arrays
    )
    assert np.array_equal(
        image_to_image(emoji, apple, "a car", strength=1, **how).arrays, emoji("a car", **how).arrays
    )


def test_every_strength_and_number_of_steps_runs_just_so_many_calls(tiny):
    """Strengths 0, .01 … 1 on the path; the calls themselves on a part of them."""
    pipe = unnoise.load(tiny)
    for steps in (1, 2, 3, 7, 20, 50, 100):
        request = asked(pipe, (8, 8), "one", num_inference_steps=steps)
        for hundredths in range(101):
            path = part(pipe, request, hundredths / 100)
            assert len(path) == steps + 1 and path[-1].clean
            ratios = [float(l.ratio) for l in path]
            assert all(a > b for a, b in pairwise(ratios)), (steps, hundredths)
    for steps, strength in [(1, 0.01), (50, 0.58), (100, 0.29), (7, 0), (3, 1), (2, 0.5), (100, 0.57)]:
        r = image_to_image(
            pipe,
            np.zeros((8, 8), np.uint8),
            "one",
            strength=strength,
            num_inference_steps=steps,
            guidance_scale=1.0,
        )
        assert r.nfe == steps


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_as_many_calls_as_text_to_image_with_any_sampler(tiny, sampler):
    pipe, how = (
        unnoise.load(tiny),
        {"sampler": sampler, "num_inference_steps": 4, "guidance_scale": 1.0, "seed": 0},
    )
    calls = {
        s: image_to_image(pipe, np.zeros((8, 8), np.uint8), "one", strength=s, **how).nfe
        for s in (0.0, 0.3, 1.0)
    }
    if sampler not in ("edm", "restart"):
        assert (
            len(set(calls.values())) == 1 and calls[1.0] == pipe("one", **how).nfe
        )  # these two go back up by level


def test_the_run_is_the_formula(emoji, apple):
    """alpha x0 + sigma eps at the strength's level, then the sampler: written out here."""
    x0 = emoji.codec.encode(apple[None])
    u = 0.5 * np.arange(4, 0, -1) / 4
    path = [*(emoji.schedule.level(v) for v in u), emoji.schedule.level(0.0)]
    eps = noise.seeded([9], "init")(x0)
    x = last(SAMPLERS["ddim"](emoji.denoiser(["a car"], guidance=3.0), corrupt(x0, eps, path[0]), path))
    r = image_to_image(
        emoji,
        apple,
        "a car",
        strength=0.5,
        num_inference_steps=4,
        guidance_scale=3.0,
        seed=9,
        sampler="ddim",
        spacing="trailing",
    )
    assert np.abs(r.arrays.astype(int) - emoji.decode(x)).max() <= 1


def test_the_distance_to_the_source_grows_with_strength(emoji, apple):
    distances = []
    for s in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        r = image_to_image(emoji, apple, "a car", strength=s, num_inference_steps=6, seed=0, num_images=8)
        distances.append(np.mean((r.arrays.astype(float) - apple) ** 2))
    assert all(a < b for a, b in pairwise(distances)), distances


def test_then_edits_the_outcome_again(emoji, apple):
    how = {"num_inference_steps": 3, "seed": 2, "num_images": 2, "strength": 0.5}
    twice = image_to_image(emoji, apple, "a car", then=["a dog"], **how)
    assert twice.nfe == 6
    x0 = []
    first = emoji.request("a car", num_inference_steps=3, seed=2, num_images=2)
    x = last(
        emoji.run(
            first,
            path=part(emoji, first, 0.5),
            start=lambda e, l: corrupt(emoji.codec.encode(apple[None]), e, l),
        )
    )
    second = emoji.request("a dog", num_inference_steps=3, seed=2, num_images=2)
    x0 = last(emoji.run(second, path=part(emoji, second, 0.5), start=lambda e, l: corrupt(x, e, l)))
    assert np.abs(twice.arrays.astype(int) - emoji.decode(x0)).max() <= 1


def test_images_do_not_depend_on_their_batch(emoji, apple):
    run = lambda n: image_to_image(
        emoji, apple, "a car", then=["a dog"], num_inference_steps=2, seed=0, num_images=3, batch_size=n
    ).arrays.astype(int)
    assert np.abs(run(3) - run(1)).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (33, 90), (300, 200)])
def test_the_outcome_has_the_pictures_size(emoji, size):
    r = image_to_image(
        emoji, np.full((*size, 4), 128, np.uint8), "a car", strength=0.4, num_inference_steps=1, seed=0
    )
    assert r.arrays.shape == (1, *size, 4) and (r.arrays[..., 3] == 128).all()


def test_bad_input(emoji, apple):
    for s in (-0.1, 1.1, float("nan"), "half", True):
        with pytest.raises(BadInput, match="strength must be"):
            image_to_image(emoji, apple, strength=s)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="did you mean 'eta'"):
        image_to_image(emoji, apple, "a car", sampler="ddim", etta=0.5)


def test_the_command_and_its_replay(tmp_path, capfd, apple):
    source = tmp_path / "apple.png"
    Image.fromarray(apple).save(source)
    before = source.read_bytes()
    code, out, _ = run(
        capfd,
        "edit",
        "image-to-image",
        source,
        "a car",
        "--strength",
        0.5,
        "--then",
        "a dog",
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
    d = json.loads(out)
    assert (
        code == 0
        and d["nfe"] == 4
        and d["seeds"] == [3, 4]
        and len(d["files"]) == 2
        and source.read_bytes() == before
    )
    for name in ("e-4.png", "e.png"):
        code, out, _ = run(capfd, "replay", tmp_path / name, "-o", tmp_path / "again.png", "--json")
        assert code == 0 and json.loads(out)["identical"]
    assert "original" in bad(capfd, "edit", "image-to-image", source, "a car", "-o", source)
    assert source.read_bytes() == before
    code, _, _ = run(
        capfd,
        "edit",
        "image-to-image",
        source,
        "a car",
        "--steps",
        1,
        "--seed",
        0,
        "-o",
        source,
        "--overwrite",
    )
    assert code == 0 and source.read_bytes() != before
    assert "has changed since" in bad(capfd, "replay", tmp_path / "e-4.png", "-o", tmp_path / "again.png")
    source.unlink()
    assert "not there" in bad(capfd, "replay", tmp_path / "e-4.png", "-o", tmp_path / "again.png")


def test_bad_input_of_the_command(tmp_path, capfd):
    source = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(source)
    assert "no picture" in bad(
        capfd, "edit", "image-to-image", tmp_path / "none.png", "a car", "-o", tmp_path / "o.png"
    )
    assert "strength" in bad(
        capfd, "edit", "image-to-image", source, "a car", "--strength", "1.5", "-o", tmp_path / "o.png"
    )
    assert "did you mean '--strength'" in bad(capfd, "edit", "image-to-image", source, "--strenght", "1")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_torch_generator_is_untouched(emoji, apple):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    image_to_image(emoji, apple, "a car", num_inference_steps=1, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
