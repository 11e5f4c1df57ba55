"""Attention hooks: the identity hook changes nothing, every attention is reached under its name, and what a
hook returns is what counts.
"""

import pytest
import torch

import unnoise
from tests.support import normal
from unnoise.edit.hooks import hooked, maps, mixed
from unnoise.errors import BadInput
from unnoise.nets.layers import attention
from unnoise.text.prompts import parse


@pytest.fixture(scope="module")
def emoji():
    return unnoise.load("emoji", device="cpu", dtype="fp32")


def _call(pipe, hook=None):
    net = pipe.net if hook is None else hooked(pipe, hook)
    denoise = pipe.denoiser(["a red apple", "a car"], guidance=3.0, net=net)
    with torch.no_grad():
        return denoise(normal(*pipe.codec.shape(2), seed=3).float(), pipe.schedule.level(0.7))


def test_the_identity_hook_is_the_plain_network_bit_for_bit(emoji):
    assert torch.equal(_call(emoji), _call(emoji, lambda q, k, v, place: attention(q, k, v)))


def test_explicit_maps_are_the_attention_and_sum_to_one(emoji):
    torch.testing.assert_close(
        _call(emoji, lambda q, k, v, place: mixed(maps(q, k), v)), _call(emoji), atol=2e-4, rtol=2e-4
    )
    q, k, v = (normal(2, 3, 5, 4, seed=i) for i in range(3))
    torch.testing.assert_close(maps(q, k).sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))
    torch.testing.assert_close(mixed(maps(q, k), v), attention(q, k, v))


def test_every_attention_is_reached_with_its_place(emoji):
    seen, tokens_of_a_prompt = [], emoji.runner.encoder().encode([parse("a car")]).shape[1]
    _call(emoji, lambda q, k, v, place: (seen.append((place, len(q), k.shape[2])), attention(q, k, v))[1])
    places = [p for p, _, _ in seen]
    layers = {
        name
        for name, m in emoji.net.named_modules()
        if name.endswith(tuple("0123456789")) and "attentions." in name and "transformer" not in name
    }
    assert {p.layer for p in places} == layers and len(places) == 2 * len(layers)
    for place, n, tokens in seen:
        assert n == 4  # two samples, under their prompts and without
        assert tokens == (tokens_of_a_prompt if place.kind == "cross" else place.size[0] * place.size[1])
    assert {p.size for p in places} == {(8, 8), (4, 4)}


def test_a_hook_that_gives_zeros_changes_the_prediction(emoji):
    assert not torch.allclose(_call(emoji), _call(emoji, lambda q, k, v, place: torch.zeros_like(q)))


def test_a_network_without_attention_is_refused(tmp_path):
    from tests.support.models import vector_folder

    with pytest.raises(BadInput, match="no attention"):
        hooked(unnoise.load(vector_folder(tmp_path / "v")), lambda q, k, v, place: q)
