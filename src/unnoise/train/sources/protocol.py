"""What every source of training data answers, so that nobody need ask which one it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from unnoise.codec import Codec
from unnoise.data import positions
from unnoise.train.items import Items
from unnoise.train.recipe import Recipe

if TYPE_CHECKING:
    from unnoise.text.encode import PromptEncoder
    from unnoise.text.known import Known

Index = Sequence[int] | np.ndarray
Where = tuple[int, ...]  # the places of a batch in the endless stream: see `data.positions`


class Description(Protocol):
    """What is known of a source's data: a `data.Data`, or `items.Facts`."""

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> str: ...

    @property
    def licence(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def __len__(self) -> int: ...


class Source(Protocol):
    """Data as a network sees them, and in which order. What a source has not keeps the value here.

    labels: (n,) classes that index `words`. text: the encoder of the prompts that its network attends to,
    with `condition`.
    """

    data: Description
    codec: Codec
    labels: np.ndarray | None = None
    words: tuple[str, ...] = ()
    text: PromptEncoder | None = None

    def indices(self, seed: int, where: Where) -> np.ndarray:
        """The items at the places `where` of the stream that `seed` orders."""
        ...

    def fetch(
        self, index: Index, seed: int = 0, place: Index | None = None, shift: int = 0, mirror: float = 0.0
    ) -> Items:
        """Items by number. place: theirs in a run, of which depends what is drawn for them anew; shift,
        mirror: how far files' pictures are moved and how often they are mirrored.
        """
        ...

    def held_out(self, recipe: Recipe) -> Source:
        """What validation looks at, through the same codec. BadInput: it is broken, or of another kind."""
        ...

    def judged(self, n: int, seed: int) -> np.ndarray:
        """The numbers of the n items (or fewer) that validation looks at."""
        return np.arange(min(n, len(self.data)))  # these are in random order as they are

    def overlaps(self, train: Source) -> bool:
        """Whether these are the items that training sees."""
        return False

    def condition(self, ids: Tensor, dropped: Tensor) -> Tensor:
        """What the network attends to: (n, tokens, width) of token ids (n, tokens); of the empty prompt where
        `dropped` (n,). Of sources with `text` alone.
        """
        raise TypeError("this source has no text encoder")

    def known(self) -> Known | None:
        """The words that its captions say; None where a model is not to remember any."""
        return None

    def on(self, device: torch.device) -> Self:
        """Put its networks there, in place; returns itself."""
        return self

    def ahead(self) -> Drawer | None:
        """What other processes can make of it ahead of its step; None where that is not worth their while."""
        return None


class Drawer(Protocol):
    """A part of a source that can be pickled."""

    def draw(self, recipe: Recipe, rollbacks: int, where: Where) -> tuple[Items | None, dict[str, Tensor]]:
        """The items at the places `where` of a run (None where its own process has them at hand), and tensors
        that replace theirs by name.
        """
        ...


def fetch(src: Source, recipe: Recipe, rollbacks: int, where: Where) -> Items:
    """The items at the places `where` of a run."""
    d = recipe.data
    index = src.indices(recipe.seed + rollbacks, where)
    return src.fetch(index, recipe.seed, positions(*where), d.shift, d.mirror)


def first(src: Source, n: int) -> Items:
    """The first n items; of a set with fewer, some of them again."""
    return src.fetch(np.arange(n) % len(src.data))
