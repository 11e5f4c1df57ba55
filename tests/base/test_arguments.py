import math

import numpy as np
import pytest
import torch

from unnoise.base import arguments, text
from unnoise.errors import BadInput


def test_what_is_a_whole_number():
    assert (
        arguments.integer("n", 3) == 3
        and arguments.integer("n", np.int64(3)) == 3
        and arguments.integer("n", torch.tensor(3)) == 3
    )
    for bad in (True, 3.0, "3", None, [3], np.float32(3), np.array([3]), torch.tensor([3]), math.nan, 0, 11):
        with pytest.raises(BadInput, match="n must be a whole number from 1 to 10, given"):
            arguments.integer("n", bad, 1, 10)


def test_what_is_a_number():
    assert arguments.number("x", 3) == 3.0 and arguments.number("x", np.float32(0.5)) == 0.5
    for bad in (True, "3", None, [3.0], math.nan, math.inf, np.array([1.0]), 10**400, 0.0, -1):
        with pytest.raises(BadInput, match="x must be a finite number"):
            arguments.number("x", bad, above=0)


def test_text_and_flags():
    assert arguments.string("s", "a") == "a" and arguments.flag("f", np.bool_(True)) is True
    for bad in (5, None, b"a", "\ud800", "a\0"):
        with pytest.raises(BadInput):
            arguments.string("s", bad)
    for bad in (1, "yes", None):
        with pytest.raises(BadInput):
            arguments.flag("f", bad)
    with pytest.raises(BadInput, match="did you mean 'ddim'"):
        arguments.choice("sampler", "dim", ["ddim", "euler"])


def test_foreign_text_is_spelled_out():
    assert text.clean("a\x1b]0;title\x07b") == "a\\x1b]0;title\\x07b"
    assert text.clean("\u202egnp.exe") == "\\u202egnp.exe" and text.clean("\x9b31m") == "\\x9b31m"
    assert text.clean("a\ud800") == "a\\ud800" and text.clean("x\x7f") == "x\\x7f"
    assert text.clean("á 中 👩\u200d🚀 \u200b".strip()) == "á 中 👩\u200d🚀 \\u200b"
    assert text.clean("a\nb\tc", lines=True) == "a\nb\tc" and text.one_line(" a\n b ") == "a b"
