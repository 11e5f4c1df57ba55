"""A closed vocabulary: prompts that name one of a model's classes, in a few spellings. For models without a text encoder."""
from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from unnoise.errors import BadInput

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FILLERS = {"a", "an", "the", "of", "pair", "handwritten", "hand-written", "digit", "number", "numeral", "photo", "picture", "image", "drawing"}
_PLURALS = {"shirts": "shirt", "dresses": "dress", "coats": "coat", "sandals": "sandal", "sneakers": "sneaker", "bags": "bag", "boots": "boot",
            "pullovers": "pullover", "trouser": "trousers", "pants": "trousers", "tshirt": "t-shirt", "tshirts": "t-shirt", "t-shirts": "t-shirt",
            "handbag": "bag", "purse": "bag", "sweater": "pullover", "shoe": "sneaker", "top": "t-shirt", "tee": "t-shirt"}

SHOWN = 40  # words that an error lists


def normalise(text: str) -> str:
    """The words of a prompt that carry meaning: lower case, digits spelled out, articles and "handwritten", "picture of" dropped."""
    words = re.findall(r"[\w-]+", text.lower().replace("t shirt", "t-shirt").replace("t-shirt/top", "t-shirt"))
    words = [_PLURALS.get(w, w) for w in words if w not in _FILLERS]
    return " ".join(_NUMBERS[int(w)] if re.fullmatch("[0-9]", w) else w for w in words)


@dataclass(frozen=True)
class Words:
    """Label i is called words[i]; the label len(words) stands for no condition at all (the empty prompt)."""

    words: tuple[str, ...]

    @property
    def null(self) -> int:
        return len(self.words)

    def label(self, prompt: str | None) -> int:
        """The label a prompt names; `null` for an empty one. BadInput lists the words when it names none, or more than one."""
        if prompt is None or not prompt.strip(): return self.null
        exact = {w: i for i, w in enumerate(self.words)}
        if prompt in exact: return exact[prompt]
        names = {normalise(w): i for i, w in enumerate(self.words)}
        key = normalise(prompt)
        ends = {name.split()[-1]: i for name, i in names.items() if " " in name}  # "boot" for "ankle boot"
        found = names.get(key, ends.get(key))
        if found is not None: return found
        near = get_close_matches(key, names, n=1, cutoff=0.7)
        hint = f"; did you mean {self.words[names[near[0]]]!r}?" if near else ""
        shown = ", ".join(self.words[:SHOWN]) + (f", … {len(self.words)} in all" if len(self.words) > SHOWN else "")
        raise BadInput(f"prompt {prompt[:80]!r} is outside this model's words{hint} (accepted: {shown}; or an empty prompt for any)")

    def config(self) -> dict:
        return {"words": list(self.words)}
