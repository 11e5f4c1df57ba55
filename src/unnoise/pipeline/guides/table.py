"""Every guide that a text can name: a line here, and what it wants in a file beside this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from unnoise.guide.steer import Wish
from unnoise.pipeline.guides import likeness, networks, plain

if TYPE_CHECKING:
    from unnoise.pipeline.pipeline import Pipeline


class Value(Enum):
    """How the value of a guide is read: not at all, as a word or a number, as free text, as a picture's
    file.
    """

    NONE = 0
    WORD = 1
    TEXT = 2
    FILE = 3


@dataclass(frozen=True)
class Named:
    """build(pipe, value) -> what the guide wants; `example` of a value. late: of how a picture looks
    altogether, so that it acts from FORMED on, where it costs less of what the picture shows.
    """

    build: Callable[[Pipeline, str], Wish]
    value: Value = Value.WORD
    example: str = ""
    late: bool = False


GUIDES: dict[str, Named] = {
    "colour": Named(plain.colour, example="green"),
    "mean": Named(plain.mean, example="#c8dcc8", late=True),
    "brightness": Named(plain.brightness, example="0.6"),
    "clip": Named(networks.clip, Value.TEXT, "a happy face"),
    "clip-noised": Named(networks.clip_noised, Value.TEXT, "a happy face"),
    "target": Named(likeness.target, Value.FILE, "photo.png"),
    "edges": Named(likeness.edges, Value.FILE, "sketch.png"),
    "style": Named(likeness.style, Value.FILE, "ref.png", late=True),
    "judge": Named(networks.judged, example="a car"),
    "smooth": Named(plain.smooth, Value.NONE),
}
