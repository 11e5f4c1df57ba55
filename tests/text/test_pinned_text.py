"""Prompts, encodings and words by the number: weights of brackets, the step of a change, how weighted tokens
are restored, what prompts may say.
"""

import json
import math

import pytest
import torch

from tests.support import painter
from unnoise.errors import BadInput
from unnoise.text import prompts
from unnoise.text.encode import interpolate, weighted
from unnoise.text.prompts import parse
from unnoise.text.tokenizer import Chunk, Tokenizer
from unnoise.text.words import SHOWN, Words


def weights(text: str) -> list[tuple[str, float]]:
    ((share, segments),) = parse(text).at().branches
    assert share == 1
    return [(t, round(w, 6)) for t, w in segments]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("(a)", [("a", 1.1)]),
        ("((a))", [("a", 1.21)]),
        ("[a]", [("a", round(1 / 1.1, 6))]),
        ("[[a]]", [("a", round(1 / 1.21, 6))]),
        ("(a:1.3)", [("a", 1.3)]),
        ("([a])", [("a", 1.0)]),
        ("((a:2):0.5) b", [("a b", 1.0)]),
        ("a (b:0) c", [("a ", 1.0), ("b", 0.0), (" c", 1.0)]),
    ],
)
def test_weights_of_brackets(text, want):
    assert weights(text) == want


@pytest.mark.parametrize(
    ("text", "steps", "want"),
    [
        ("[a:b:0.5]", 4, "aabb"),
        ("[a:b:0.5]", 5, "aabbb"),
        ("[a:b:0.25]", 4, "abbb"),
        ("[a:b:0.0]", 3, "bbb"),
        ("[a:b:1.0]", 3, "aaa"),
        ("[a:b:2]", 5, "aabbb"),
        ("[a:b:0]", 2, "bb"),
        ("[a:b:9]", 3, "aaa"),
        ("[a|b|c]", 5, "abcab"),
        ("[b:0.5]", 2, " b"),
        ("[a::0.5]", 2, "a "),
    ],
)
def test_the_step_at_which_a_prompt_changes(text, steps, want):
    """A step counts to the share that is done after it: of 4 steps .5 are the first two."""
    said = lambda i: "".join(t for t, _ in parse(text).at(i, steps).branches[0][1]) or " "
    assert [said(i) for i in range(steps)] == list(want)


def test_shares_of_blends():
    shares = {s[0][0]: p for p, s in parse("{a:3|b|c:0}").at().branches}
    assert shares == {"a": pytest.approx(0.75), "b": pytest.approx(0.25)}


def test_limits_of_prompts():
    assert (prompts.MOST, prompts.BRANCHES, prompts.WAYS) == (1000.0, 64, 1000)
    assert weights("(a:1000)") == [("a", 1000.0)]
    with pytest.raises(BadInput, match="at most 1000"):
        parse("((a:1000):1.01)")
    assert len(parse("{" + "|".join(f"w{i}" for i in range(64)) + "}").at().branches) == 64
    with pytest.raises(BadInput, match="at most 64"):
        parse("{" + "|".join(f"w{i}" for i in range(65)) + "}")


# --- encodings ----------------------------------------------------------------------------------------------


def test_weighted_tokens_are_brought_back_to_their_mean():
    """States 1, 2, 3 of mean 2, the second doubled: 1, 4, 3 of mean 8/3, so times .75."""
    h = torch.tensor([[[1.0], [2.0], [3.0]]])
    chunk = Chunk((0, 1, 2), (1.0, 2.0, 1.0), 1)
    assert weighted(h, chunk)[0, :, 0].tolist() == pytest.approx([0.75, 3.0, 2.25])
    assert weighted(h, Chunk((0, 1, 2), (1.0, 1.0, 1.0), 1)) is h


@pytest.mark.parametrize(("mean", "restored"), [(2e-3, True), (5e-4, False)])
def test_a_mean_that_is_nothing_restores_nothing(mean, restored):
    """Under a thousandth of the states' size it is left as it is."""
    h = torch.tensor([[[1.0], [-1.0], [1.0], [-1.0]]], dtype=torch.float64) + mean
    y = weighted(h, Chunk((0, 1, 2, 3), (1.0, 1.0, 2.0, 2.0), 2))
    plain = h * torch.tensor([1.0, 1.0, 2.0, 2.0], dtype=torch.float64)[:, None]
    assert torch.allclose(y, plain) == (not restored)
    if restored:
        assert float(y.mean()) == pytest.approx(float(h.mean()))


def test_mixing_by_hand():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert interpolate(a, b, 0.25).tolist() == pytest.approx([0.75, 0.25])
    assert interpolate(a, b, 1 / 3, spherical=True).tolist() == pytest.approx([math.cos(math.pi / 6), 0.5])
    assert interpolate(a, 2 * a, 0.25, spherical=True).tolist() == pytest.approx([1.25, 0.0])


def test_a_prompt_is_its_branches_by_their_shares():
    text = painter.text()
    one, two = (text.encode(p) for p in ("a red apple", "two blue cars"))
    torch.testing.assert_close(text.encode("{a red apple:3|two blue cars}"), 0.75 * one + 0.25 * two)
    assert text.encode("a red apple BREAK two blue cars").shape == (1, 32, 16)
    torch.testing.assert_close(text.encode("a red apple BREAK two blue cars"), torch.cat([one, two], 1))


# --- tokens -------------------------------------------------------------------------------------------------


def test_chunks_by_hand():
    words = painter.tokenizer()
    (chunk,) = words.chunks([("a red", 1.5), (" apple", 1.0)])
    own = words.ids("a red"), words.ids("apple")
    n = len(own[0]) + len(own[1])
    assert chunk.ids == (words.bos, *own[0], *own[1], words.eos, *[words.pad] * (14 - n))
    assert chunk.count == n
    assert chunk.weights == (1.0, *[1.5] * len(own[0]), *[1.0] * len(own[1]), *[1.0] * (15 - n))
    long = words.chunks([("a " * 15, 1.0)])
    assert [c.count for c in long] == [14, 1]
    assert words.length == 16


@pytest.mark.parametrize(("given", "length"), [(None, 77), (100_000, 100_000), (10**30, 77), (20, 20)])
def test_how_long_a_chunk_is_where_the_files_say_it_or_not(tmp_path, given, length):
    folder = painter.tokenizer().save(tmp_path / "words")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["model_max_length"] = given
    (folder / "tokenizer_config.json").write_text(
        json.dumps({k: v for k, v in config.items() if v is not None})
    )
    assert Tokenizer.load(folder).length == length


def test_a_trained_tokenizer_is_for_ever_the_same():
    words = painter.tokenizer()
    assert words.size == 544
    assert words.tokens("a red apple on its side") == [
        "a</w>",
        "red</w>",
        "apple</w>",
        "on</w>",
        "its</w>",
        "side</w>",
    ]
    assert (words.bos, words.eos, words.pad) == (words.size - 2, words.size - 1, words.size - 1)


# --- closed vocabularies ------------------------------------------------------------------------------------

CLASSES = Words(("zero", "seven", "a t-shirt", "an ankle boot", "trousers"))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("a photo of a zero", 0),
        ("The handwritten digit 7", 1),
        ("picture of the number seven", 1),
        ("T-shirt", 2),
        ("an image of an ankle boot", 3),
        ("boot", 3),
        ("a drawing of trousers", 4),
        (" ", 5),
    ],
)
def test_what_carries_meaning(text, label):
    assert CLASSES.label(text) == label


def test_an_error_lists_so_many_words_and_no_more():
    words = Words(tuple(f"word{i:03}" for i in range(50)))
    with pytest.raises(BadInput) as e:
        words.label("zebra")
    assert SHOWN == 40
    assert "word039" in str(e.value)
    assert "word040" not in str(e.value)
    assert "50 in all" in str(e.value)
    assert words.label("") == words.null == 50
    assert words.label("a word007") == 7
