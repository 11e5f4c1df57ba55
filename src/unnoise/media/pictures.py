"""Pictures: uint8 (h, w, c), in PNG files that carry their record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pictures:
    """The medium of models that draw."""

    name: str = "picture"
    plural: str = "pictures"


PICTURES = Pictures()
