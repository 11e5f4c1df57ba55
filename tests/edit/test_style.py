"""Style from one picture: the shared attention by its formula, the reference on its own way, off is the plain
picture; the command.
"""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.testing import assert_close

import unnoise
from tests.cli.test_cli import bad, run
from tests.support import normal
from unnoise.edit.run import asked
from unnoise.edit.style import adain, gram_to, sharing, style, way
from unnoise.errors import BadInput
from unnoise.nets.layers import attention
from unnoise.nets.unet import Place
from unnoise.sample import inversion

SELF, CROSS = Place("a", "self", (2, 3)), Place("a", "cross", (2, 3))


@pytest.fixture(scope="module")
def stripes():
    y = (np.arange(64) // 4 % 2 * 255).astype(np.uint8)
    return np.stack(
        [
            np.broadcast_to(y[:, None], (64, 64)),
            np.full((64, 64), 60, np.uint8),
            np.full((64, 64), 200, np.uint8),
        ],
        2,
    )


def test_adain_gives_the_mean_and_spread_of_another():
    x, like = normal(2, 3, 50, 4, seed=1) * 3 + 1, normal(2, 3, 20, 4, seed=2) - 5
    out = adain(x, like, 0.0)
    assert_close(out.mean(-2), like.mean(-2))
    assert_close(out.std(-2, correction=0), like.std(-2, correction=0))
    assert_close(adain(x, x), x)


@pytest.mark.parametrize("share", [1.0, 2.0])
def test_shared_attention_is_softmax_over_both_with_the_share_as_a_shift_of_scores(share):
    q, k, v = (
        normal(4, 2, 6, 5, seed=i) for i in range(3)
    )  # two groups of two: the reference and one picture
    out = sharing(2, share)(q, k, v, SELF)
    for group in (0, 2):
        ref, own = group, group + 1
        a, b = adain(q[own], q[ref]), adain(k[own], k[ref])
        keys = torch.cat([k[ref], b], 1)
        shift = torch.cat([torch.full((6,), math.log(share)), torch.zeros(6)]).double()
        assert_close(
            out[own],
            ((a @ keys.transpose(1, 2)) / 5**0.5 + shift).softmax(-1) @ torch.cat([v[ref], v[own]], 1),
        )
        assert_close(out[ref], F.scaled_dot_product_attention(q[ref], k[ref], v[ref]))
    assert_close(sharing(2, share)(q, k, v, CROSS), attention(q, k, v))


def test_the_reference_is_on_its_inversion(emoji, stripes):
    request = asked(emoji, (64, 64), "a car", num_inference_steps=5, seed=0)
    x0 = emoji.codec.encode(stripes[None])
    at = way(emoji, request, x0, "a dog")
    states = [
        s for s in inversion(emoji.denoiser(["a dog"]), x0, emoji.path(request)[::-1]) if not s.level.clean
    ]
    assert len(states) == 5
    for s in states:
        assert_close(at(s.level), s.x, atol=2e-4, rtol=1e-4)
    assert_close(at(emoji.schedule.level(0.0)), x0)
    middle = at(emoji.schedule.level(0.5))
    assert float((middle - at(emoji.schedule.level(0.501))).abs().max()) < 0.05  # no jumps between levels


def test_off_is_the_plain_picture_and_the_loss_nears_the_reference(emoji, stripes):
    how = {"seed": 0, "num_images": 2, "num_inference_steps": 3}
    plain = emoji("a car", **how)
    far = lambda a: gram_to(_picture(stripes))(torch.from_numpy(a).permute(0, 3, 1, 2).float() / 255)
    for method in ("aligned", "loss"):
        assert np.array_equal(
            style(emoji, stripes, "a car", method=method, amount=0, **how).arrays, plain.arrays
        )
        made = style(emoji, stripes, "a car", method=method, **how)
        assert made.nfe == plain.nfe and made.arrays.shape == plain.arrays.shape
        assert not np.array_equal(made.arrays, plain.arrays)
        with torch.no_grad():
            nearer = far(made.arrays) < far(plain.arrays)
        assert (
            method == "aligned" or nearer.all()
        )  # how near shared attention comes is for bench/edit_style.py
        again = style(emoji, stripes, "a car", method=method, batch_size=1, **how).arrays.astype(int)
        assert np.abs(again - made.arrays).max() <= 2


def _picture(a):
    from unnoise.edit.picture import read

    return read(a)


def test_samplers_that_leave_the_grid_and_other_sizes(emoji, stripes):
    for sampler in ("heun", "dpmpp_sde"):
        assert style(
            emoji, stripes, "a car", method="aligned", sampler=sampler, num_inference_steps=2, seed=0
        ).arrays.shape == (1, 64, 64, 3)
    assert style(
        emoji, stripes[:30], "a car", method="aligned", num_inference_steps=1, seed=0, height=48, width=80
    ).arrays.shape == (1, 48, 80, 3)


def test_a_model_of_words_in_grey(tiny):
    for method in ("aligned", "loss"):
        made = style(
            unnoise.load(tiny),
            np.zeros((9, 7), np.uint8),
            "one",
            method=method,
            num_inference_steps=2,
            seed=0,
            guidance_scale=1.0,
        )
        assert made.arrays.shape == (1, 8, 8, 3)


def test_an_adapter_begins_as_the_plain_model_and_learns(emoji, stripes, tmp_path):
    from unnoise.edit import adapter

    f = adapter.vector(torch.from_numpy(stripes.copy()).permute(2, 0, 1)[None].float() / 255)
    net, how = adapter.Adapter.of(emoji, f.shape[1]), {"seed": 0, "num_images": 2, "num_inference_steps": 2}
    fresh = style(
        emoji, stripes, "a car", method="adapter", adapter=net.save(tmp_path / "a.safetensors"), **how
    ).arrays.astype(int)
    assert np.abs(fresh - emoji("a car", **how).arrays).max() <= 2  # W_v is zero
    context = emoji.runner.encoder().encode(["a car"]).expand(2, -1, -1)
    x0, eps, l = (
        emoji.codec.encode(stripes[None]).expand(2, -1, -1, -1),
        normal(*emoji.codec.shape(2)).float(),
        emoji.schedule.level([0.3, 0.7]),
    )
    optimiser, seen = torch.optim.Adam(net.parameters(), lr=3e-3), []
    for _ in range(4):
        value = adapter.loss(emoji, net, x0, eps, l, context, f.expand(2, -1))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        seen.append(value.item())
    assert seen[-1] < seen[0] and all(p.grad is None for p in emoji.net.parameters())
    again = adapter.load(net.save(tmp_path / "a.safetensors"), emoji)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(again.parameters(), net.parameters()))
    learned = style(emoji, stripes, "a car", method="adapter", adapter=tmp_path / "a.safetensors", **how)
    assert np.abs(learned.arrays.astype(int) - fresh).max() > 2 and learned.nfe == 2


def test_pairs_for_an_adapter_are_of_one_style_and_two_things():
    from unnoise.edit import adapter

    styles, things = [0, 0, 0, 1, 1, 2], [0, 1, 0, 0, 2, 3]  # style 2 has one thing only
    for k in range(20):
        shown, others, _ = adapter.draw(0, k, styles, things, 8)
        assert (
            all(styles[i] == styles[j] and things[i] != things[j] for i, j in zip(shown, others))
            and 5 not in shown
        )
    assert adapter.draw(0, 3, styles, things, 8)[:2] == adapter.draw(0, 3, styles, things, 8)[:2]


def test_bad_input(emoji, stripes, vectors):
    with pytest.raises(BadInput, match="did you mean 'aligned'"):
        style(emoji, stripes, "a car", method="align")
    with pytest.raises(BadInput, match="amount must be a finite number of at least 0, given -1"):
        style(emoji, stripes, "a car", amount=-1)
    with pytest.raises(BadInput, match="needs a trained adapter"):
        style(emoji, stripes, "a car", method="adapter")
    with pytest.raises(BadInput, match="no adapter at"):
        style(emoji, stripes, "a car", method="adapter", adapter="nowhere.safetensors")
    with pytest.raises(BadInput, match="has no style"):
        style(unnoise.load(vectors), stripes)


def test_the_command_and_its_replay(tmp_path, capfd, stripes):
    ref = tmp_path / "ref.png"
    Image.fromarray(stripes).save(ref)
    for method in ("aligned", "loss"):
        code, out, _ = run(
            capfd,
            "edit",
            "style",
            ref,
            "a car",
            "--method",
            method,
            "--reference-prompt",
            "a dog",
            "--steps",
            2,
            "--seed",
            3,
            "-o",
            tmp_path / "s.png",
            "--overwrite",
            "--json",
        )
        assert code == 0 and json.loads(out)["nfe"] == 2
        code, out, _ = run(capfd, "replay", tmp_path / "s.png", "-o", tmp_path / "again.png", "--json")
        assert code == 0 and json.loads(out)["identical"]
    assert "unknown style method" in bad(
        capfd, "edit", "style", ref, "a car", "--method", "x", "-o", tmp_path / "new.png"
    )
    assert "is an original" in bad(capfd, "edit", "style", ref, "a car", "-o", ref)
