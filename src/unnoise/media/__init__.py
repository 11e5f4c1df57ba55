"""What data are to people: pictures, numbers. A medium knows their files and their words; never a model.

A codec names its medium (`unnoise.codec`); what only one medium has (a height, colours) is asked for by
`codec.of_pictures`, and what a model's medium cannot do is said in one sentence, `makes`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from unnoise.media.numbers import NUMBERS
from unnoise.media.pictures import PICTURES
from unnoise.media.protocol import Medium, makes
from unnoise.media.table import TABLE

__all__ = ["MEDIA", "NUMBERS", "PICTURES", "TABLE", "Medium", "makes", "of_file", "read_record"]

MEDIA: dict[str, Medium] = {m.plural: m for m in (PICTURES, NUMBERS, TABLE)}


def of_file(path: str | os.PathLike[str]) -> Medium:
    """The medium whose files end so; pictures where none's do: what they are is told by their content."""
    suffix = Path(path).suffix.lower()
    return next((m for m in MEDIA.values() if suffix in m.suffixes), PICTURES)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The record that a file of any medium carries, as it was written. BadInput: no such file, none in it, or
    no JSON object.
    """
    return of_file(path).read_record(path)
