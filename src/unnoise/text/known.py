"""The words that a model was taught: which words of a prompt it never saw, and what it knows that is spelled
like them.

    known.json   in a model's folder, written by training: {"format", "things": {word: [labels]}, "grammar":
                 [words]}

`things` are the words of concepts' names, each with the few concepts that it most means; `grammar` all others
that captions say (colours, numbers, "on", "background", "watercolor"). Numbers and signs are not judged,
words of Stable Diffusion's folders neither: these have no such file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from unnoise.base.errors import BadInput
from unnoise.base.read import object_file
from unnoise.text.prompts import Prompt, parse

FILE = "known.json"
FORMAT = "unnoise-known-1"
NEAREST = 3
ALIKE = 0.6  # of difflib's ratio: "quoka" and "quokka" have .9
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_ENDINGS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""), ("'s", ""), ("’s", ""))


@dataclass(frozen=True)
class Known:
    """The words that a model was taught. `things`: word -> the concepts (their labels) that it most means;
    `grammar`: the rest.
    """

    things: dict[str, tuple[str, ...]]
    grammar: frozenset[str]

    def unknown(self, prompt: str | Prompt) -> list[tuple[str, tuple[str, ...]]]:
        """(word, the nearest words that name something) of each word of the prompt that training never said,
        in order, each once.

        The empty list: all are known. Case does not matter, and a plural is known by its singular. BadInput:
        no prompt.
        """
        words = dict.fromkeys(w for text in _texts(prompt) for w in words_of(text))
        return [(w, self.nearest(w)) for w in words if not self.knows(w)]

    def knows(self, word: str) -> bool:
        """Whether training said the word, or the one that it is the plural of."""
        return any(form in self.things or form in self.grammar for form in _forms(word.lower()))

    def nearest(self, word: str) -> tuple[str, ...]:
        """The words that name something and are spelled most like `word`, the likest first; at most NEAREST,
        perhaps none.
        """
        return tuple(get_close_matches(word.lower(), self._listed, NEAREST, ALIKE))

    def listed(self, like: str = "") -> list[tuple[str, tuple[str, ...]]]:
        """(word, concepts) of all words that name something, by the alphabet; with `like` those that hold it
        or are spelled like it.
        """
        near = set(self.nearest(like)) if like else set()
        return [(w, self.things[w]) for w in self._listed if not like or like.lower() in w or w in near]

    @cached_property
    def _listed(self) -> list[str]:
        return sorted(self.things)

    def content(self) -> bytes:
        """What known.json holds."""
        kept = {
            "format": FORMAT,
            "things": {w: list(self.things[w]) for w in self._listed},
            "grammar": sorted(self.grammar),
        }
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def load(folder: str | os.PathLike) -> Known | None:
    """What the model of a folder knows; None where nothing is told. BadInput: the file is damaged."""
    file = Path(folder) / FILE
    if not file.exists():
        return None
    d = object_file(file)
    things, grammar = d.get("things"), d.get("grammar")
    if d.get("format") != FORMAT or not isinstance(things, dict) or not isinstance(grammar, list):
        raise BadInput(f"{file} is no list of known words ({FORMAT})")
    return Known(
        {str(w): tuple(map(str, labels)) for w, labels in things.items()}, frozenset(map(str, grammar))
    )


def words_of(text: str) -> list[str]:
    """The words of a text, lower case, without numbers and signs."""
    return [w.lower().replace("’", "'") for w in _WORD.findall(text)]


def _texts(prompt: str | Prompt) -> Iterable[str]:
    """All texts that a prompt can encode at any step: without weights, brackets and keywords."""
    understood = prompt if isinstance(prompt, Prompt) else parse(prompt)
    for plain in understood.variants():
        for _, segments in plain.branches:
            yield from (text for text, _ in segments)


def _forms(word: str) -> Iterable[str]:
    yield word
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 1:
            yield word.removesuffix(ending) + instead
