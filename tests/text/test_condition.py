"""What every condition answers: `text.condition.Condition`."""

import pytest
import torch

import unnoise
from unnoise.base.errors import BadInput
from unnoise.text.condition import Labels, Texts, condition_of
from unnoise.text.words import Words

GIVEN = ["", "a red apple", "a green apple", "a red apple"]


@pytest.fixture(scope="module")
def texts():
    pipe = unnoise.load("emoji", device="cpu", dtype="fp32")
    calls = []
    return Texts(pipe.text, pipe.runner.encoder, lambda: calls.append(1)), pipe, calls


def test_labels_are_numbers_of_words_and_the_last_is_none():
    words = Labels(Words(("cat", "dog")))
    assert [c.tolist() for c in words.encode(["dog", "", "a cat"], steps=7)] == [[1, 2, 0]]
    assert words.size(["cat"]) == 1 and words.argument == "labels"
    words.check("dog")
    with pytest.raises(BadInput, match="cat"):
        words.check("cow")


def test_texts_are_encoded_alone_whatever_is_beside_them(texts):
    condition, pipe, calls = texts
    (told,) = condition.encode(GIVEN, steps=9)
    assert len(calls) == 1 and told.shape[0] == 4
    for i, text in enumerate(GIVEN):
        assert torch.equal(told[i], condition.encode([text])[0][0])
    assert torch.equal(told, pipe.text.encode(GIVEN)) and not torch.equal(told[1], told[2])
    assert not torch.equal(condition.encode(GIVEN, skip=1)[0], told)


def test_texts_that_change_share_the_steps_that_read_the_same(texts):
    condition = texts[0]
    told = condition.encode(["a red apple", "[red:green:0.5] apple"], steps=4)
    assert len(told) == 4 and told[0] is told[1] and told[2] is told[3] and told[1] is not told[2]
    assert torch.equal(told[0][0], told[3][0]) and not torch.equal(told[0][1], told[3][1])


def test_the_size_is_that_of_the_longest(texts):
    condition = texts[0]
    long = "a red apple " * 40
    assert condition.size(["a"]) == 1 < condition.size(["a", long])
    (short,), (both,) = condition.encode(["a"]), condition.encode(["a", long])
    assert both.shape[1] == condition.size([long]) * short.shape[1]


def test_a_model_has_the_condition_of_its_parts(texts):
    pipe = texts[1]
    assert isinstance(pipe.condition, Texts) and pipe.condition.argument == "context"
    assert isinstance(condition_of(Words(("a",)), None, pipe.runner.encoder, print), Labels)
    assert condition_of(None, None, pipe.runner.encoder, print) is None
