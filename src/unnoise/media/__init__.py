"""What data are to people: pictures, numbers. A medium knows their files and their words; never a model.

A codec names its medium (`unnoise.codec`); what only one medium has (a height, colours) is asked for by
`codec.of_pictures`, and what a model's medium cannot do is said in one sentence, `makes`.
"""

from __future__ import annotations

from typing import Protocol

from unnoise.media.numbers import NUMBERS
from unnoise.media.pictures import PICTURES

__all__ = ["MEDIA", "NUMBERS", "PICTURES", "Medium", "makes"]


class Medium(Protocol):
    """A kind of data. name: of one thing of it and of several, as errors say it."""

    @property
    def name(self) -> str: ...

    @property
    def plural(self) -> str: ...


MEDIA: dict[str, Medium] = {m.name: m for m in (PICTURES, NUMBERS)}


def makes(who: str, medium: Medium) -> str:
    """The beginning of every sentence that says what a model cannot do: "model 'x' makes numbers"."""
    return f"model {who!r} makes {medium.plural}"
