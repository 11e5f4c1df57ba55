"""recipes/words.py: an encoder that keeps every word, and a network that reads it as it read another one."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import unnoise
from tests.support import normal
from unnoise.hub import parts
from unnoise.train.sources.world import token_ids

spec = importlib.util.spec_from_file_location("words", Path(__file__).parents[2] / "recipes" / "words.py")
assert spec and spec.loader
words = importlib.util.module_from_spec(spec)
spec.loader.exec_module(words)


@pytest.fixture(scope="module")
def clip():
    return parts.load_clip("emoji")


@pytest.fixture(scope="module")
def own(clip):
    from unnoise.nets.clip import TextEncoder
    from unnoise.text.encode import PromptEncoder

    net = TextEncoder(clip.net.text_model.config)
    net.load_state_dict({k: v for k, v in clip.net.state_dict().items() if k.startswith("text_model.")})
    return PromptEncoder(clip.tokenizer, net.eval().requires_grad_(False))


def test_each_token_adds_the_mean_of_those_so_far(own):
    new = words.even(own)
    rows = token_ids(own.tokenizer, ["a blue car", "two apples above a tree"])
    w = own.net.state_dict()
    e = (
        w["text_model.embeddings.token_embedding.weight"][rows]
        + w["text_model.embeddings.position_embedding.weight"][: rows.shape[1]]
    )
    norm = lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:])
    mean = norm(e).cumsum(1) / torch.arange(1, rows.shape[1] + 1)[:, None]
    std = float(w["text_model.embeddings.token_embedding.weight"][: own.tokenizer.bos].std(1).mean())
    assert_close(new.net(rows).hidden, norm(e + words.SHARE * std * mean), atol=1e-4, rtol=1e-4)


def test_it_keeps_nouns_that_clip_forgets(own):
    """The squared spread over nouns at the noun's token of "a blue …", as a share of that of "a …"."""
    nouns = ["car", "cat", "dog", "tree", "house", "apple", "fish", "key", "heart", "star"]
    kept = {}
    for name, encoder in (("clip", own), ("even", words.even(own))):
        spread = [
            encoder.net(token_ids(own.tokenizer, [f"{a} {n}" for n in nouns])).hidden[:, k].var(0).sum()
            for k, a in ((2, "a"), (3, "a blue"))
        ]
        kept[name] = float(spread[1] / spread[0])
    assert kept["even"] > 0.7 and kept["clip"] < 0.3, kept


def test_a_translated_network_answers_alike():
    """On contexts s the one that it was on s M + b."""
    net = unnoise.load("emoji", dtype="fp32").net
    m, b = normal(256, 256, seed=1).float() / 16, normal(256, seed=2).float()
    s, x, t = (
        normal(2, 5, 256, seed=3).float(),
        normal(2, net.config.in_channels, 8, 8, seed=4).float(),
        torch.tensor([100.0, 700.0]),
    )
    with torch.no_grad():
        want = net(x, t, context=s @ m + b)
        before = {k: v.clone() for k, v in net.state_dict().items()}
        net.load_state_dict(words.translated(before, m, b))
        assert_close(net(x, t, context=s), want, atol=1e-4, rtol=1e-3)
        assert not torch.allclose(want, net(x, t, context=s @ m + b), atol=1e-2)
        net.load_state_dict(before)


def test_a_folder_keeps_both_text_encoders(clip, own, tmp_path):
    """What the model reads prompts by, and what CLIP compares pictures with; diffusers reads the first as any
    other.
    """
    from transformers import CLIPTextModel

    from unnoise import hub

    f, new = hub.load("emoji"), words.even(own)
    folder = hub.save(
        tmp_path / "m",
        name="m",
        kind=f.kind,
        net=f.net,
        weights=None,
        codec=f.codec,
        words=None,
        process=f.process,
        defaults=f.defaults,
        text=new,
        clip=clip.net,
    )
    both, prompts = parts.load_clip(folder), ["a blue car", "two cats"]
    assert_close(both.texts(prompts), clip.texts(prompts), atol=2e-3, rtol=0)
    assert_close(
        parts.load_text(folder).net(token_ids(own.tokenizer, prompts)).hidden,
        new.net(token_ids(own.tokenizer, prompts)).hidden,
        atol=1e-2,
        rtol=0,
    )
    with torch.no_grad():
        theirs = CLIPTextModel.from_pretrained(folder / "text_encoder")(
            token_ids(own.tokenizer, prompts)
        ).last_hidden_state
    assert_close(
        theirs, parts.load_text(folder).net(token_ids(own.tokenizer, prompts)).hidden, atol=1e-4, rtol=1e-4
    )
    again = unnoise.load(folder).save_pretrained(tmp_path / "again")
    assert_close(parts.load_clip(again).texts(prompts), both.texts(prompts), atol=1e-6, rtol=0)


def test_a_centred_autoencoder_is_the_same_without_its_shift():
    """Latents and pictures as before; diffusers' pipeline, which reads no shift_factor, then decodes them
    too.
    """
    from unnoise.codec import Latents

    net = unnoise.load("emoji", dtype="fp32").codec.net
    old, x = Latents(net, 64, 64, 0.5, 0.3), normal(2, 3, 64, 64, seed=5).float().clamp(-1, 1)
    with torch.no_grad():
        z = (net.encode(x).mean - 0.3) * 0.5
        y = net.decode(z / 0.5 + 0.3)
        new = parts.centred(old)
        assert new.shift == 0 and new.scale == 0.5
        assert_close(new.net.encode(x).mean * 0.5, z, atol=1e-4, rtol=1e-4)
        assert_close(new.net.decode(z / 0.5), y, atol=1e-3, rtol=1e-3)
        assert torch.equal(
            (net.encode(x).mean - 0.3) * 0.5, z
        )  # the network that was given is left as it was
