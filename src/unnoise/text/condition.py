"""What a network is told beside x: the protocol of every condition, and those of prompts.

    labels     a closed list of words, a number each: `text.words`
    texts      any prompt, by a text encoder: `text.encode`

A new condition is a class with these members, and its line in `condition_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from unnoise.text.encode import PromptEncoder
from unnoise.text.prompts import parse
from unnoise.text.words import Words


class Condition(Protocol):
    """What a model is told of each sample. argument: of the network's call, which takes it; empty: what
    stands for no condition at all.
    """

    argument: ClassVar[str]
    empty: ClassVar[str]

    def check(self, given: str) -> None:
        """BadInput where it cannot be used; says what can."""

    def size(self, given: Sequence[str]) -> int:
        """How much room the largest of these takes: what goes into one batch has one size."""
        ...

    def encode(self, given: Sequence[str], steps: int = 1, skip: int = 0) -> list[Tensor]:
        """(n, …) as the network takes it: one tensor, or one a step where something changes by step; steps at
        which all is the same share a tensor. skip: how many of an encoder's last layers to leave out.
        """
        ...


class Labels:
    """A word of a closed list, by its number."""

    argument: ClassVar[str] = "labels"
    empty: ClassVar[str] = ""

    def __init__(self, words: Words):
        self.words = words

    def check(self, given: str) -> None:
        self.words.label(given)

    def size(self, given: Sequence[str]) -> int:
        return 1

    def encode(self, given: Sequence[str], steps: int = 1, skip: int = 0) -> list[Tensor]:
        return [torch.tensor([self.words.label(g) for g in given])]


class Texts:
    """Any text. encoder(skip): the encoder that runs, without its last layers; release: called when no more
    is encoded for now.
    """

    argument: ClassVar[str] = "context"
    empty: ClassVar[str] = ""

    def __init__(
        self, text: PromptEncoder, encoder: Callable[[int], PromptEncoder], release: Callable[[], None]
    ):
        self.text, self.encoder, self.release = text, encoder, release

    def check(self, given: str) -> None:
        self.text.check(given)

    def size(self, given: Sequence[str]) -> int:
        """How many times the encoder reads, for the longest of some texts."""
        return max(map(self.text.chunks, given))

    def encode(self, given: Sequence[str], steps: int = 1, skip: int = 0) -> list[Tensor]:
        encoder, parsed = self.encoder(skip), [parse(g) for g in given]
        chunks = max(map(encoder.chunks, parsed))
        steps = steps if any(p.by_step for p in parsed) else 1
        read = [tuple(p.at(i, steps) for p in parsed) for i in range(steps)]
        encoded: dict[tuple, Tensor] = {}
        with torch.no_grad():
            for i, key in enumerate(read):
                if key not in encoded:
                    encoded[key] = encoder.encode(parsed, step=i, steps=steps, chunks=chunks)
        self.release()
        return [encoded[key] for key in read]


def condition_of(
    words: Words | None,
    text: PromptEncoder | None,
    encoder: Callable[[int], PromptEncoder],
    release: Callable[[], None],
) -> Condition | None:
    """The condition of a model with these parts, or None; see `Texts` for the others."""
    if text is not None:
        return Texts(text, encoder, release)
    return None if words is None else Labels(words)
