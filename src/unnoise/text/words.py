"""A closed vocabulary: prompts that name one of a model's classes, in a few spellings. For models without a
text encoder.

A prompt is compared with the names in rounds, from the strictest reading to the loosest; the first round in
which a name fits decides, and where more than one fits there, the prompt is refused, as one that fits none
is: nothing is guessed.

    as it stands; without case; its words without articles and "picture of", with and without case; the same
    with other spellings and digits as words; the last word of names that have several ("boot" for "ankle
    boot")

A word of a class's own name is never dropped and never another spelling: a model that knows "photo" and
"drawing" tells them apart.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict, Field

from unnoise.base.errors import BadInput

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FILLERS = {
    "a",
    "an",
    "the",
    "of",
    "pair",
    "handwritten",
    "hand-written",
    "digit",
    "number",
    "numeral",
    "photo",
    "picture",
    "image",
    "drawing",
}
_SPELLINGS = {
    "shirts": "shirt",
    "dresses": "dress",
    "coats": "coat",
    "sandals": "sandal",
    "sneakers": "sneaker",
    "bags": "bag",
    "boots": "boot",
    "pullovers": "pullover",
    "trouser": "trousers",
    "pants": "trousers",
    "tshirt": "t-shirt",
    "tshirts": "t-shirt",
    "t-shirts": "t-shirt",
    "handbag": "bag",
    "purse": "bag",
    "sweater": "pullover",
    "shoe": "sneaker",
    "top": "t-shirt",
    "tee": "t-shirt",
    **{str(i): word for i, word in enumerate(_NUMBERS)},
}

SHOWN = 40  # words that an error lists


class WordsFile(BaseModel):
    """What `words/config.json` holds."""

    model_config = ConfigDict(strict=True)

    words: list[str] = Field(min_length=1, max_length=1_000_000)


def pieces(text: str) -> tuple[str, ...]:
    """The words of a text: parted by white space, without the punctuation around them; signs such as emoji
    are words too.
    """
    text = unicodedata.normalize("NFC", text).replace("\ufe0f", "")
    parted = (_stripped(w) for w in text.split())
    return tuple(w for w in parted if w)


def _stripped(word: str) -> str:
    inside = [i for i, c in enumerate(word) if unicodedata.category(c)[0] not in "PC"]
    return word[inside[0] : inside[-1] + 1] if inside else ""


def _folded(words: tuple[str, ...]) -> tuple[str, ...]:
    return pieces(" ".join(words).casefold().replace("t shirt", "t-shirt"))


@dataclass(frozen=True)
class Words:
    """Label i is called words[i]; the label len(words) stands for no condition at all (the empty prompt).

    A name with "/" in it has alternatives: "t-shirt/top" is found as either.
    """

    words: tuple[str, ...]

    @property
    def null(self) -> int:
        return len(self.words)

    def label(self, prompt: str | None) -> int:
        """The label a prompt names; `null` for an empty one. BadInput lists the words when it names none, or
        more than one.
        """
        if prompt is None or not prompt.strip():
            return self.null
        for found in self._rounds(prompt):
            if len(found) == 1:
                return found[0]
            if found:
                which = ", ".join(repr(self.words[i]) for i in found[:SHOWN])
                raise BadInput(
                    f"prompt {prompt[:80]!r} may be any of this model's words {which}: write one of them as"
                    " it stands"
                )
        raise BadInput(
            f"prompt {prompt[:80]!r} is outside this model's words{self._hint(prompt)} "
            f"(accepted: {self._listed()}; or an empty prompt for any)"
        )

    def _rounds(self, prompt: str) -> Iterator[list[int]]:
        """The labels whose names fit the prompt, in each round."""
        yield [i for i, w in enumerate(self.words) if w == prompt]
        own = {w for name in self.words for w in _folded(pieces(name.replace("/", " ")))}
        for read in self._readings(own):
            key = read(pieces(prompt))
            if key:
                yield [i for i, name in enumerate(self.words) if key in self._names(name, read)]
        for read in self._readings(own):
            key = read(pieces(prompt))
            if len(key) == 1:
                names = ((i, n) for i, name in enumerate(self.words) for n in self._names(name, read))
                yield sorted({i for i, n in names if len(n) > 1 and n[-1:] == key})

    @staticmethod
    def _names(name: str, read: Callable) -> list[tuple[str, ...]]:
        """A class's name and its alternatives, read in the same way as the prompt."""
        return [read(pieces(n)) for n in dict.fromkeys((name, *name.split("/")))]

    @staticmethod
    def _readings(own: set[str]) -> list[Callable[[tuple[str, ...]], tuple[str, ...]]]:
        """Ways to read a text's words, from the strictest to the loosest. own: words of the classes'
        names.
        """

        def bare(fillers: set[str]) -> Callable:
            return lambda words: tuple(w for w in words if w.casefold() not in fillers)

        def spelt(words: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(w if w in own else spellings.get(w, w) for w in _folded(words))

        digits = {
            word: str(i) for i, word in enumerate(_NUMBERS) if str(i) in own
        }  # of classes that are called "7"
        spellings = _SPELLINGS | digits

        foreign = bare(_FILLERS - own)
        every = bare(_FILLERS)
        return [
            lambda w: w,
            _folded,
            foreign,
            lambda w: foreign(_folded(w)),
            lambda w: foreign(spelt(w)),
            every,
            lambda w: every(_folded(w)),
            lambda w: every(spelt(w)),
        ]

    def _hint(self, prompt: str) -> str:
        plain = lambda text: " ".join(w for w in _folded(pieces(text)) if w not in _FILLERS)
        names = {plain(name): name for name in self.words if plain(name)}
        near = get_close_matches(plain(prompt)[:200], list(names), n=1, cutoff=0.7) if plain(prompt) else []
        return f"; did you mean {names[near[0]]!r}?" if near else ""

    def _listed(self) -> str:
        return ", ".join(self.words[:SHOWN]) + (
            f", … {len(self.words)} in all" if len(self.words) > SHOWN else ""
        )

    def config(self) -> dict:
        return {"words": list(self.words)}
