"""Guides of a pipeline: off is the plain picture to the bit, a colour moves the mean, recipes hold them,
errors say what is meant.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import unnoise
from tests.cli.test_cli import bad, run
from unnoise.edit import image_to_image
from unnoise.errors import BadInput
from unnoise.pipeline import guides
from unnoise.pipeline.guides.plain import colour_of
from unnoise.sample import SAMPLERS


def darkness(images):
    return images.mean((1, 2, 3)).square()


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_weight_0_is_the_plain_picture_and_weight_1_is_not_with_any_sampler(tiny, sampler):
    pipe, how = (
        unnoise.load(tiny),
        {"sampler": sampler, "num_inference_steps": 3, "guidance_scale": 1.5, "seed": 0},
    )
    plain = pipe("one", **how).arrays
    assert np.array_equal(
        pipe("one", guide=["brightness=0.1:0", (darkness, 0)], guide_through=True, **how).arrays, plain
    )
    if sampler == "langevin":
        return  # three of its steps leave the range of pictures, guided or not
    assert pipe("one", guide=["brightness=0.05"], **how).arrays.mean() < plain.mean() - 2


@pytest.mark.parametrize("how", [{}, {"guide_through": True}, {"guide_linear": True}])
def test_a_wanted_mean_colour_is_neared(emoji, how):
    wanted, seeds = np.array([0.6, 0.8, 0.6]), {"seed": 0, "num_images": 2, "num_inference_steps": 8}
    far = lambda r: np.abs(r.arrays.mean((1, 2)) / 255 - wanted).max(1)
    plain, guided = emoji("an apple", **seeds), emoji("an apple", guide=["mean=#99cc99:2"], **seeds, **how)
    assert guided.nfe == plain.nfe and (far(guided) < far(plain) - 0.03).all(), (far(plain), far(guided))


@pytest.mark.parametrize(("guide", "late"), [("mean=green", True), ("brightness=.2", False)])
def test_a_mean_colour_guides_where_the_thing_is_formed_and_others_everywhere(tiny, guide, late):
    pipe = unnoise.load(tiny)
    r = pipe.request("one", guide=[guide], seed=0)
    steered = guides.guided(pipe, r, lambda x, l: torch.zeros_like(x))
    x = torch.randn(2, *pipe.codec.shape(1)[1:], generator=torch.Generator().manual_seed(0))
    moved = [bool(steered(x, pipe.schedule.level(u)).any()) for u in (0.9, 0.05)]
    assert pipe.schedule.level(0.9).ratio > guides.FORMED > pipe.schedule.level(0.05).ratio and moved == [
        not late,
        True,
    ]


def test_images_do_not_depend_on_their_batch(emoji):
    make = lambda n: emoji(
        "a car",
        guide=["colour=blue", "judge=a bus:.5"],
        seed=0,
        num_images=2,
        num_inference_steps=2,
        batch_size=n,
    ).arrays.astype(int)
    assert np.abs(make(2) - make(1)).max() <= 1


def test_every_guide_lowers_its_own_loss(emoji, tmp_path):
    """One step from one noise, through the estimate: what is wished for is nearer than without."""
    file = tmp_path / "ref.png"
    emoji("a blue car", seed=5, num_inference_steps=4).save(file)
    how = {"seed": [1], "num_inference_steps": 1, "guidance_scale": 1.0, "sampler": "ddim"}
    last = lambda **g: [s.x0 for s in emoji.stream("a dog", **how, **g)][-1]
    decode, plain, l = guides.pictures(emoji), last(), emoji.schedule.level(1e-3)
    texts = (
        "colour=blue",
        "mean=green",
        "brightness=.3",
        "clip=a car",
        "judge=a car",
        "judge=blue",
        "smooth",
    )
    for text in (*texts, f"target={file}", f"edges={file}", f"style={file}"):
        wish = guides.wish(emoji, guides.parse(text))
        with torch.no_grad():
            before, after = (float(wish(decode(x), l)) for x in (plain, last(guide=[f"{text}:0.3"])))
        assert after < before, (text, before, after)


def test_parsing():
    g = guides.parse("color=green:2.0")
    assert (g.name, g.value, g.weight, g.text) == ("colour", "green", 2.0, "colour=green:2")
    assert guides.parse("target=C:\\a.png").value == "C:\\a.png"
    assert [guides.parse(t).weight for t in ("clip=ratio 1 :2", "clip=ratio 1:2", "smooth")] == [2, 1, 1]
    assert guides.parse(darkness).text == "python=darkness:1" and colour_of("#ff0000") == (1, 0, 0)


@pytest.mark.parametrize(
    ("guide", "says"),
    [
        ("colr=green", "did you mean 'colour'"),
        ("colour=gren:2", "did you mean 'green'"),
        ("colour", "needs a value"),
        ("colour=green:-1", "must not be negative"),
        ("colour=green:nan", "finite"),
        ("brightness=2", "from 0"),
        ("judge=a carr", "did you mean"),
        ("target=nowhere.png", "no picture at"),
        (3, "a guide is a text"),
        ("smooth=3", "weight only"),
        ("python=f:1", "function in Python"),
    ],
)
def test_bad_guides(emoji, guide, says):
    with pytest.raises(BadInput, match=says):
        emoji.request("a car", guide=[guide])


def test_a_function_must_give_one_number_an_image(emoji, vectors):
    with pytest.raises(BadInput, match="one number an image"):
        emoji("a car", guide=[lambda images: images.mean((2, 3))], num_images=2, num_inference_steps=1)
    with pytest.raises(BadInput, match="makes numbers"):
        unnoise.load(vectors)(guide=["smooth"])


def test_one_number_for_a_batch_is_asked_of_each_image_alone(tiny):
    """A mean over the batch would move every image by what the others lack; by the sum of all losses, no step
    is that of one alone.
    """
    pipe, how = unnoise.load(tiny), {"seed": 0, "num_inference_steps": 2, "guidance_scale": 1.5}
    batch, seen = {"num_images": 3, **how}, []

    def whole(images):
        return (seen.append(len(images)), (images.mean() - 0.3).square())[1]

    def own(images):
        return (images.mean((1, 2, 3)) - 0.3).square()

    made = pipe("one", guide=[whole], **batch).arrays
    far = lambda a, b: np.abs(a.astype(int) - b).max()
    assert far(made, pipe("one", guide=[own], **batch).arrays) <= 1 and seen[:4] == [3, 1, 1, 1]
    assert (
        far(made[:1], pipe("one", guide=[whole], **how).arrays) <= 1
        and far(made, pipe("one", **batch).arrays) > 5
    )


def test_the_command_its_recipe_and_replay(tmp_path, capfd, emoji):
    ref = tmp_path / "ref.png"
    Image.new("RGB", (20, 12), (30, 90, 200)).save(ref)
    code, out, _ = run(
        capfd,
        "generate",
        "a car",
        "-n",
        1,
        "--steps",
        2,
        "--seed",
        3,
        "--guide",
        "color=green:2.0",
        "--guide",
        f"target={ref}:0.5",
        "-o",
        tmp_path / "g.png",
        "--json",
    )
    assert code == 0 and json.loads(out)["nfe"] == 2
    code, out, _ = run(capfd, "replay", tmp_path / "g.png", "-o", tmp_path / "again.png", "--json")
    assert code == 0 and json.loads(out)["identical"]
    code, _, _ = run(
        capfd,
        "edit",
        "image-to-image",
        ref,
        "a car",
        "--steps",
        2,
        "--seed",
        1,
        "--guide",
        "colour=red",
        "-o",
        tmp_path / "e.png",
    )
    code, out, _ = run(capfd, "replay", tmp_path / "e.png", "-o", tmp_path / "again.png", "--json")
    assert code == 0 and json.loads(out)["identical"]
    Image.new("RGB", (20, 12), (200, 90, 30)).save(ref)
    assert "has changed since" in bad(capfd, "replay", tmp_path / "g.png", "-o", tmp_path / "again.png")
    assert "did you mean 'clip'" in bad(
        capfd, "generate", "a car", "--guide", "clp=a car", "-o", tmp_path / "x.png"
    )
    emoji("a car", guide=[darkness], num_inference_steps=1, seed=0).save(tmp_path / "f.png")
    assert "'darkness' is a function" in bad(
        capfd, "replay", tmp_path / "f.png", "-o", tmp_path / "again.png"
    )


def test_guides_of_an_edit(emoji):
    apple = np.full((64, 64, 3), 200, np.uint8)
    how = {"strength": 0.7, "num_inference_steps": 2, "seed": 0}
    plain, dark = (
        image_to_image(emoji, apple, "a car", guide=g, **how).arrays.mean()
        for g in (None, ["brightness=.2:2"])
    )
    assert dark < plain - 2
