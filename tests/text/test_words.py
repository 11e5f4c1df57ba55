"""Prompts of a closed vocabulary."""

import pytest

from unnoise.errors import BadInput
from unnoise.text.words import Words

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GARMENTS = (
    "a t-shirt",
    "a pair of trousers",
    "a pullover",
    "a dress",
    "a coat",
    "a sandal",
    "a shirt",
    "a sneaker",
    "a bag",
    "an ankle boot",
)
WORDS = Words(tuple(f"a handwritten {n}" for n in NUMBERS) + GARMENTS)


@pytest.mark.parametrize("i", range(10))
def test_digits_in_every_spelling(i):
    for spelling in (
        f"a handwritten {NUMBERS[i]}",
        NUMBERS[i],
        str(i),
        f"the digit {i}",
        f"A Handwritten {i}.",
        f"number {NUMBERS[i]}",
    ):
        assert WORDS.label(spelling) == i, spelling


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("ankle boot", "an ankle boot"),
        ("boots", "an ankle boot"),
        ("T-shirt", "a t-shirt"),
        ("t shirt", "a t-shirt"),
        ("tshirt", "a t-shirt"),
        ("trousers", "a pair of trousers"),
        ("pants", "a pair of trousers"),
        ("shirt", "a shirt"),
        ("a picture of a bag", "a bag"),
        ("sneakers", "a sneaker"),
    ],
)
def test_garments(prompt, word):
    assert WORDS.words[WORDS.label(prompt)] == word


def test_every_word_names_itself():
    assert [WORDS.label(w) for w in WORDS.words] == list(range(20))


@pytest.mark.parametrize("prompt", ["", "  ", None])
def test_no_prompt_is_no_condition(prompt):
    assert WORDS.label(prompt) == WORDS.null == 20


@pytest.mark.parametrize(
    "prompt", ["zebra", "seven nine", "17", "boot bag", "a handwritten", "x" * 10_000, "\x00", "7 7"]
)
def test_others_are_refused_with_the_words(prompt):
    with pytest.raises(BadInput, match="an ankle boot") as e:
        WORDS.label(prompt)
    assert len(str(e.value)) < 800


def test_the_nearest_is_named():
    with pytest.raises(BadInput, match="did you mean 'a pullover'"):
        WORDS.label("pulover")
