"""Prompts through a tiny text encoder: nothing lost, nothing changed by weights of 1, by blends of one, or by
what else is in the batch.
"""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.vocabulary import published, trained
from unnoise.errors import BadInput
from unnoise.nets.clip import TextConfig, TextEncoder
from unnoise.text.encode import PromptEncoder, blend, edited, interpolate, vector, weighted
from unnoise.text.prompts import parse
from unnoise.text.tokenizer import Chunk, Tokenizer

WORDS = ["cat", "dog", "moon", "apple", "puppy", "horse", "table", "old", "red", "wooden"]


def net_of(vocabulary: int, places: int = 77, dtype=torch.float32) -> TextEncoder:
    torch.manual_seed(0)
    net = TextEncoder(
        TextConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=vocabulary,
            max_position_embeddings=places,
            eos_token_id=vocabulary - 1,
        )
    )
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)  # so that no mean and no bias is 0
    return net.to(dtype).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tok():
    return trained()


@pytest.fixture(scope="module")
def encoder(tok):
    return PromptEncoder(tok, net_of(700))


def test_a_plain_prompt_is_the_net_on_its_ids(tok, encoder, tmp_path):
    h = encoder.encode(["a red apple", ""])
    ids = torch.tensor(
        [
            [tok.bos, *tok.ids("a red apple"), *[tok.eos] * (76 - len(tok.ids("a red apple")))],
            [tok.bos] + [tok.eos] * 76,
        ]
    )
    for i in (0, 1):
        assert torch.equal(h[i], encoder.net(ids[i : i + 1]).hidden[0])
    assert torch.equal(
        PromptEncoder(tok, encoder.net, skip=1).encode("a red apple")[0],
        encoder.net(ids[:1], skip=1).hidden[0],
    )
    second = PromptEncoder(
        Tokenizer.load(published(tmp_path / "t", tok, pad="!")), encoder.net
    )  # SD 2.x fills with "!"
    assert torch.equal(
        second.encode("")[0], encoder.net(torch.tensor([[tok.bos, tok.eos] + [0] * 75])).hidden[0]
    )


def test_200_tokens_lose_nothing(tok, encoder):
    rnd = random.Random(1)
    words = [rnd.choice(WORDS) for _ in range(200)]
    ids = tok.ids(" ".join(words))
    assert encoder.chunks(" ".join(words)) == -(-len(ids) // 75) >= 3
    h = encoder.encode(" ".join(words))
    rows = [[tok.bos, *ids[i : i + 75], tok.eos] for i in range(0, len(ids), 75)]
    rows[-1] += [tok.eos] * (77 - len(rows[-1]))
    assert torch.equal(h, torch.cat([encoder.net(torch.tensor([row])).hidden for row in rows], dim=1))
    swapped = [*words[:-1], "friends" if words[-1] != "friends" else "cat"]
    assert not torch.equal(encoder.encode(" ".join(swapped)), h), "the last word counts"


def test_break_and_filling_with_empty_chunks(encoder):
    h, a, b, empty = (
        encoder.encode("cat BREAK dog", chunks=3),
        encoder.encode("cat"),
        encoder.encode("dog"),
        encoder.encode(""),
    )
    assert torch.equal(h, torch.cat([a, b, empty], dim=1)) and h.shape == (1, 231, 32)


@given(
    st.lists(
        st.sampled_from(
            ["(cat:1.0)", "key(board:1)", "[(moon)]", "((dog:2):0.5)", "{red:1|old:0}", "{old|old}", "a", ","]
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=30, deadline=None)
def test_weights_of_1_and_blends_of_one_are_bit_equal_to_plain(encoder, parts):
    plain = {
        "(cat:1.0)": "cat",
        "key(board:1)": "keyboard",
        "[(moon)]": "moon",
        "((dog:2):0.5)": "dog",
        "{red:1|old:0}": "red",
        "{old|old}": "old",
    }
    assert torch.equal(
        encoder.encode(" ".join(parts)), encoder.encode(" ".join(plain.get(p, p) for p in parts))
    )


def test_blends_average_and_are_pure_at_0_and_1(encoder):
    pure = [encoder.encode(f"an old {w}") for w in ("keyboard", "typewriter")]
    for w in (0.0, 0.25, 1.0):
        h = encoder.encode(f"an old {{keyboard:{1 - w}|typewriter:{w}}}")
        torch.testing.assert_close(h, (1 - w) * pure[0] + w * pure[1], atol=1e-6, rtol=1e-6)
        if w in (0, 1):
            assert torch.equal(h, pure[int(w)])
    long = " ".join(WORDS * 10)
    mixed = encoder.encode(f"{{cat|{long}}}")
    torch.testing.assert_close(
        mixed, (encoder.encode("cat", chunks=2) + encoder.encode(long)) / 2, atol=1e-6, rtol=1e-6
    )


def test_weights_multiply_states_and_keep_the_mean(tok):
    encoder = PromptEncoder(tok, net_of(700, dtype=torch.float64))
    plain, h = encoder.encode("a cat and a dog"), encoder.encode("a (cat:1.5) and a [dog]")
    w = torch.ones(77, 1, dtype=torch.float64)
    w[2], w[5] = 1.5, 1 / 1.1
    assert tok.tokens("a cat and a dog")[1] == "cat</w>" and len(tok.ids("a cat and a dog")) == 5
    torch.testing.assert_close(
        h[0], plain[0] * w * plain.mean() / (plain[0] * w).mean(), atol=1e-12, rtol=1e-12
    )
    torch.testing.assert_close(h.mean(), plain.mean(), atol=1e-12, rtol=1e-12)


def test_the_mean_of_one_chunk_is_that_chunks_own(encoder):
    both, a = encoder.encode("(cat:1.5) BREAK (dog:0.5)"), encoder.encode("(cat:1.5)")
    assert torch.equal(both[:, :77], a)


def test_a_mean_that_is_a_rounding_error_scales_nothing():
    torch.manual_seed(0)
    h = torch.nn.functional.layer_norm(torch.randn(1, 77, 64), (64,))
    chunk = Chunk(tuple(range(77)), (1.0, 1.3, *[1.0] * 75), 1)
    w = torch.tensor(chunk.weights)[:, None]
    assert h.mean().abs() < 1e-6 and torch.equal(weighted(h, chunk), h * w)
    assert (
        torch.isfinite(weighted(torch.zeros(1, 77, 64), chunk)).all()
        and weighted(h.half(), chunk).dtype == torch.float16
    )


@given(
    st.lists(
        st.lists(st.sampled_from([*WORDS, "(cat:1.4)", "{dog|cat}", "[a|b]", "BREAK"]), max_size=8).map(
            " ".join
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=25, deadline=None)
def test_alone_or_in_a_batch_is_bit_equal(encoder, prompts):
    chunks = max(encoder.chunks(p) for p in prompts)
    together = encoder.encode(prompts, step=1, steps=3, chunks=chunks)
    assert together.shape == (len(prompts), 77 * chunks, 32)
    for p, h in zip(prompts, together):
        assert torch.equal(encoder.encode(p, step=1, steps=3, chunks=chunks)[0], h)


def test_steps_choose_and_chunks_cover_all_of_them(encoder):
    long = " ".join(WORDS * 10)
    for text in (f"[cat|{long}]", f"[cat:{long}:0.9]", f"[cat:{long}:7]", f"[{long}::0.01]"):
        assert encoder.chunks(text) == 2 == encoder.chunks(text, steps=200)
    assert encoder.chunks(f"[cat:{long}:7]", steps=5) == 1 == encoder.chunks("cat")
    assert torch.equal(encoder.encode("[cat|dog]", step=3, steps=9), encoder.encode("dog"))
    assert torch.equal(encoder.encode(parse("[cat:dog:5]"), 4, 9), encoder.encode("cat"))


def test_each_different_chunk_is_computed_once(tok, encoder):
    net, calls = encoder.net, []
    hook = net.register_forward_pre_hook(lambda m, args: calls.append(args[0].shape))
    try:
        encoder.encode(["cat", "cat", "(cat:1.3)", "{cat|dog}", "dog BREAK cat"], chunks=4)
    finally:
        hook.remove()
    assert calls == [(1, 77)] * 3, "cat, dog, and the empty one"


# --- embeddings ---------------------------------------------------------------------------------------------


def test_half_puppy_half_skunk(tok, encoder):
    net = encoder.net
    puppy, skunk = vector(net, tok, "puppy"), vector(net, tok, "skunk")
    mix = blend(net, tok, "puppy", "skunk")
    torch.testing.assert_close(mix, (puppy + skunk) / 2)
    assert torch.equal(blend(net, tok, "puppy", "skunk", 0), puppy) and torch.equal(
        blend(net, tok, "puppy", "skunk", 1), skunk
    )
    assert torch.equal(encoder.encode("a puppy", replace={"puppy": skunk}), encoder.encode("a skunk")), (
        "the embedding is all there is to a word"
    )
    h = encoder.encode(["a puppy", "a cat"], replace={"puppy": mix})
    assert torch.equal(h[1:], encoder.encode("a cat")) and not torch.equal(h[:1], encoder.encode("a puppy"))
    ids = torch.tensor([tok.chunks([("a puppy", 1.0)])[0].ids])
    e = net.embed(ids)
    e[0, 2] = mix
    assert torch.equal(h[:1], net(ids, embeddings=e).hidden)


def test_gradients_reach_a_replaced_vector(tok, encoder):
    v = vector(encoder.net, tok, "puppy").clone().requires_grad_()
    encoder.encode("a (puppy:1.2)", replace={"puppy": v}).square().sum().backward()
    assert v.grad is not None and v.grad.abs().min() > 0


@pytest.mark.parametrize("spherical", [False, True])
def test_interpolation(spherical):
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 8, dtype=torch.float64), torch.randn(2, 5, 8, dtype=torch.float64)
    keep = a.clone()
    assert torch.equal(interpolate(a, b, 0.0, spherical), a) and torch.equal(
        interpolate(a, b, 1, spherical), b
    )
    torch.testing.assert_close(interpolate(a, b, 0.3, spherical), interpolate(b, a, 0.7, spherical))
    torch.testing.assert_close(interpolate(a, 2 * a, 0.3, spherical), 1.3 * a)
    assert torch.equal(a, keep) and interpolate(a.half(), b.half(), 0.3, spherical).dtype == torch.float16
    assert torch.equal(interpolate(a, torch.full_like(a, torch.inf), 0, spherical), a)
    if spherical:
        u, v = torch.nn.functional.normalize(a, dim=-1), torch.nn.functional.normalize(b, dim=-1)
        m = interpolate(u, v, 0.25, True)
        torch.testing.assert_close(m.norm(dim=-1), torch.ones(2, 5, dtype=torch.float64))
        torch.testing.assert_close((u * m).sum(-1).acos(), (u * v).sum(-1).acos() / 4)
    else:
        torch.testing.assert_close(interpolate(a, b, 0.3), 0.7 * a + 0.3 * b)


# --- refused ------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(tok, encoder):
    with pytest.raises(BadInput, match=r"700 tokens.*699"):
        PromptEncoder(tok, net_of(699))
    with pytest.raises(BadInput, match=r"77 tokens.*76 places"):
        PromptEncoder(tok, net_of(700, places=76))
    with pytest.raises(BadInput, match=r"needs 2 chunks.*given 1"):
        encoder.encode(["cat", "cat BREAK dog"], chunks=1)
    with pytest.raises(BadInput, match="empty"):
        encoder.encode([])
    with pytest.raises(BadInput, match="'puppy horse' is 2 tokens"):
        encoder.encode("cat", replace={"puppy horse": torch.zeros(32)})
    with pytest.raises(BadInput, match=r"shape \(32,\), given \(31,\)"):
        encoder.encode("cat", replace={"cat": torch.zeros(31)})
    with pytest.raises(BadInput, match="as many chunks"):
        interpolate(torch.zeros(1, 77, 4), torch.zeros(1, 154, 4), 0.5)
    with pytest.raises(BadInput, match="given nan"):
        interpolate(torch.zeros(1), torch.ones(1), float("nan"))
    with pytest.raises(BadInput, match="given 3"):
        encoder.encode("cat", step=3, steps=3)
    for bad in ("(a:-1)", 7, "".join(f"[{'a|' * (n - 1)}b]" for n in (7, 11, 13))):
        with pytest.raises(BadInput):
            encoder.check(bad)
    assert encoder.check("a cat").text == "a cat" and edited(encoder.net, torch.tensor([[1]]), {}).shape == (
        1,
        1,
        32,
    )
