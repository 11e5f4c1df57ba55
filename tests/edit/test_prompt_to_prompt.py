"""Prompt-to-prompt: tokens aligned by closed forms, hooks that do the formula, identity edits to the bit; the
command and its replay.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import unnoise
from tests.cli.test_cli import bad, run
from tests.support import normal
from unnoise.edit import prompt_to_prompt
from unnoise.edit.hooks import maps, mixed
from unnoise.edit.invert import Steps
from unnoise.edit.picture import encoded
from unnoise.edit.prompt_to_prompt import Control, aligned, places_of, token_ids
from unnoise.errors import BadInput
from unnoise.nets.layers import attention
from unnoise.nets.unet import Place


def ids(*tokens: int) -> list[int]:
    return [99, *tokens, 98, *[98] * (8 - len(tokens))]


def test_alignment_of_equal_exchanged_added_and_dropped_tokens():
    eye = torch.eye(10)
    a, fresh = aligned(ids(1, 2, 3), ids(1, 2, 3), (3, 3))
    assert torch.equal(a, eye) and not fresh.any()
    a, fresh = aligned(ids(1, 2, 3), ids(1, 7, 3), (3, 3))  # a word for a word takes its maps
    assert torch.equal(a, eye) and not fresh.any()
    a, fresh = aligned(ids(1, 3), ids(1, 2, 3), (2, 3))  # an added one has its own
    assert fresh.nonzero().flatten().tolist() == [2] and a[2, 3] == 1 and a[1, 1] == 1 and a[3, 4] == 1
    a, fresh = aligned(ids(1, 2, 3), ids(1, 3), (3, 2))  # of a dropped one nothing is left
    assert a[2].sum() == 0 and a[3, 2] == 1 and a[4, 3] == 1 and not fresh.any()
    a, _ = aligned(
        ids(1, 2, 5), ids(1, 7, 8, 9, 5), (3, 5)
    )  # one for three: a third each, so that the sum stays
    torch.testing.assert_close(a[2, 2:5], torch.full((3,), 1 / 3))
    a, _ = aligned(ids(2, 4, 5), ids(7, 5), (3, 2))  # two for one: their sum
    assert a[1, 1] == 1 and a[2, 1] == 1
    for pair in ((ids(1, 2), ids(1, 7)), (ids(1, 2, 4), ids(8, 4))):
        a, fresh = aligned(*pair, (pair[0].index(98) - 1, pair[1].index(98) - 1))
        assert not fresh.any() and ((a.sum(0) > 0).all())


def test_words_are_found_in_prompts(emoji):
    tokens, n = token_ids(emoji, "a red apple next to a red car")
    assert places_of(emoji, "red", tokens) == [2, 7] and places_of(emoji, "dog", tokens) == [] and n == 8
    assert places_of(emoji, "a", tokens) == [1, 6]


def control(emoji, source="a red apple", target="a green apple", **how):
    how = {"cross": 0.8, "self_": 0.4, "weights": {}, "local": [], **how}
    c = Control.of(emoji, source, target, **how).begin(2, Steps(emoji.schedule.path(10)), None)
    return c


def test_the_hook_is_the_formula(emoji):
    c, place = control(emoji, weights={"green": 3.0}), Place("mid", "cross", (4, 4))
    q, (k, v) = normal(8, 3, 16, 5).float(), (normal(8, 3, len(c.factor), 5, seed=s).float() for s in (1, 2))
    for step, replaced in ((0, True), (7, True), (8, False), (9, False)):
        c.steps.now = step
        out, m = c.hook(q, k, v, place), maps(q[:2], k[:2]) @ c.align if replaced else maps(q[2:4], k[2:4])
        torch.testing.assert_close(out[2:4], mixed(m * c.factor, v[2:4]))
        torch.testing.assert_close(out[:2], attention(q[:2], k[:2], v[:2]), atol=1e-5, rtol=1e-5)
        assert torch.equal(out[4:], attention(q, k, v)[4:])  # the unconditional half is left alone
    assert c.factor[2] == 3 and c.factor.sum() == len(c.factor) + 2
    k, v = (normal(8, 3, 16, 5, seed=s).float() for s in (3, 4))
    for step, size, replaced in ((3, (4, 4), True), (4, (4, 4), False), (0, (32, 4), False)):
        c.steps.now = step
        out = c.hook(q, k, v, Place("mid", "self", size))
        want = mixed(maps(q[:2], k[:2]), v[2:4]) if replaced else attention(q[2:4], k[2:4], v[2:4])
        torch.testing.assert_close(out[2:4], want, atol=1e-5, rtol=1e-5)


def test_the_same_prompt_gives_the_source_bit_for_bit(emoji):
    how = {"seed": 3, "num_images": 2, "num_inference_steps": 5, "guidance_scale": 6.0}
    r = prompt_to_prompt(emoji, prompt="a red apple", source="a red apple", **how)
    assert np.array_equal(r.arrays, r.source) and r.nfe == 5
    plain = emoji("a red apple", sampler="ddim", **how).arrays
    assert np.abs(r.source.astype(int) - plain).max() <= 1  # and the source is what the model draws of itself
    again = prompt_to_prompt(
        emoji, prompt="a red apple", source="a red apple", weights={"red": 1.0}, local=["apple"], **how
    )
    assert (
        np.abs(again.arrays.astype(int) - again.source).max() <= 1
    )  # the words' background is set by arithmetic, to rounding


def test_of_a_real_picture_the_same_prompt_gives_the_picture(emoji, apple):
    how = {"num_inference_steps": 5, "guidance_scale": 6.0, "source": "a red apple"}
    r = prompt_to_prompt(emoji, apple, "a red apple", **how)
    own = emoji.decode(encoded(emoji, apple))
    assert np.array_equal(r.arrays, r.source) and np.abs(r.source.astype(int) - own).max() <= 1
    edited = prompt_to_prompt(emoji, apple, "a green apple", **how)
    assert np.abs(edited.source.astype(int) - own).max() <= 1 and not np.array_equal(edited.arrays, own)
    for anchor in ("none", "negative-prompt", "null-text"):
        assert prompt_to_prompt(
            emoji, apple, "a green apple", anchor=anchor, **{**how, "num_inference_steps": 2}
        ).arrays.shape == (1, 64, 64, 3)


def test_replaced_attention_keeps_the_layout(emoji):
    """The edited picture lies nearer to its source than the same seed's own picture of the new prompt
    does.
    """
    how = {"seed": 0, "num_images": 4, "num_inference_steps": 8, "sampler": "ddim"}
    r = prompt_to_prompt(emoji, prompt="a green apple", source="a red apple", self_=1.0, cross=1.0, **how)
    light = lambda a: a.astype(float).min(-1) < 200  # where there is something
    there = lambda a: np.mean(light(a) != light(r.source))
    assert there(r.arrays) < there(emoji("a green apple", **how).arrays)


def test_local_words_bound_the_change(emoji, apple):
    r = prompt_to_prompt(
        emoji, apple, "a green apple", source="a red apple", local=["apple"], num_inference_steps=5
    )
    outside = r.masks[0] == 0
    assert 0 < outside.mean() < 1 and np.array_equal(r.arrays[0][outside], apple[outside])
    drawn = prompt_to_prompt(
        emoji, prompt="a green apple", source="a red apple", local=["apple"], num_inference_steps=5, seed=1
    )
    assert drawn.masks.shape == (1, 64, 64) and 0 < drawn.masks.mean() < 1


def test_pairs_do_not_depend_on_their_batch(emoji):
    run = lambda n: prompt_to_prompt(
        emoji,
        prompt="a green apple",
        source="a red apple",
        seed=0,
        num_images=3,
        num_inference_steps=2,
        batch_size=n,
    )
    assert np.abs(run(3).arrays.astype(int) - run(1).arrays).max() <= 1


def test_bad_input(emoji, apple, tiny):
    call = lambda **o: prompt_to_prompt(
        emoji, **{"prompt": "a green apple", "source": "a red apple", "num_inference_steps": 1, **o}
    )
    for options, said in (
        ({"weights": {"dog": 2}}, "'dog' is not in the prompt"),
        ({"local": ["dog"]}, "in neither prompt"),
        ({"cross": 1.5}, "cross"),
        ({"weights": {"apple": -1}}, "weight of 'apple'"),
        ({"self_": -1}, "self_"),
        ({"source": "word " * 90}, "at most 30 tokens"),
        ({"source": "[a:b:0.5]"}, "plain prompts"),
        ({"image": apple, "anchor": "nul-text"}, "did you mean 'null-text'"),
        ({"image": apple, "method": "coupled"}, "single way"),
        ({"image": apple, "sampler": "heun"}, "ddim"),
    ):
        with pytest.raises(BadInput, match=said):
            call(**options)
    with pytest.raises(BadInput, match="no text encoder"):
        prompt_to_prompt(unnoise.load(tiny), prompt="one", source="zero")


def test_the_command_and_its_replay(tmp_path, capfd, apple):
    source = tmp_path / "apple.png"
    Image.fromarray(apple).save(source)
    for image, extra in (
        ("none", ("-n", 2, "--seed", 4, "--weight", "green=2")),
        (source, ("--local", "apple", "--anchor", "negative-prompt")),
    ):
        code, out, _ = run(
            capfd,
            "edit",
            "prompt-to-prompt",
            image,
            "a green apple",
            "--source",
            "a red apple",
            "--steps",
            2,
            *extra,
            "--show-source",
            tmp_path / "s.png",
            "-o",
            tmp_path / "e.png",
            "--json",
        )
        assert code == 0 and json.loads(out)["nfe"] > 1 and Image.open(tmp_path / "s.png").size[1] == 64
        code, out, _ = run(capfd, "replay", tmp_path / "e.png", "-o", tmp_path / "again.png", "--json")
        assert code == 0 and json.loads(out)["identical"]
    assert "WORD=FACTOR" in bad(
        capfd,
        "edit",
        "prompt-to-prompt",
        "none",
        "a cat",
        "--source",
        "a dog",
        "--weight",
        "cat",
        "-o",
        tmp_path / "x.png",
    )
    assert "no picture" in bad(
        capfd,
        "edit",
        "prompt-to-prompt",
        tmp_path / "none.png",
        "a cat",
        "--source",
        "a dog",
        "-o",
        tmp_path / "x.png",
    )
