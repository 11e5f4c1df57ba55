"""Guides as they are given: a text, a function, or a function with a weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput, unknown
from unnoise.guide.scale import number
from unnoise.pipeline.guides.plain import numeric
from unnoise.pipeline.guides.table import GUIDES, Value

Item = str | Callable[[Tensor], Tensor] | tuple[Callable[[Tensor], Tensor], float]


@dataclass(frozen=True)
class Guide:
    """A guide understood: name, value and weight of a text, or a function (name "python", value its name)."""

    name: str
    value: str
    weight: float
    loss: Callable[[Tensor], Tensor] | None = None

    @property
    def text(self) -> str:
        """As it is given and stored."""
        short = f"{self.weight:g}"
        weight = short if float(short) == self.weight else repr(self.weight)
        space = " " if _is_text(self.name) and self.value[-1:].isdigit() else ""
        return f"{self.name}={self.value}{space}:{weight}" if self.value else f"{self.name}:{weight}"


def parse(item: Any) -> Guide:
    """A guide from a text "name=value:weight", a function, or (function, weight). BadInput names the nearest
    guide.
    """
    if isinstance(item, Guide):
        return item
    if callable(item):
        item = (item, 1.0)
    if isinstance(item, tuple) and len(item) == 2 and callable(item[0]):
        name = getattr(item[0], "__qualname__", type(item[0]).__name__)
        return Guide("python", name, _weight(item[1]), item[0])  # type: ignore[arg-type]
    if not isinstance(item, str):
        raise BadInput(
            "a guide is a text such as 'colour=green:2', a function, or (function, weight), given"
            f" {item!r:.80}"
        )
    name, value, weight = _split(arguments.string("a guide", item))
    _check_value(name, value, item)
    return Guide(name, value, _weight(weight))


def _check_value(name: str, value: str, item: str) -> None:
    """BadInput for a name that is no guide's, and a value too many or too few."""
    if name == "python":
        raise BadInput(
            f"guide {value!r} is a function in Python, which a recipe or a command cannot hold: give the"
            " function itself"
        )
    if name not in GUIDES:
        raise unknown("guide", name, GUIDES)
    takes_one = GUIDES[name].value is not Value.NONE
    if takes_one and not value:
        raise BadInput(f"guide {name!r} needs a value: {name}={GUIDES[name].example}")
    if value and not takes_one:
        raise BadInput(f"guide {name!r} takes a weight only, as in {name}:0.5, given {item!r}")


def _split(item: str) -> tuple[str, str, float | str]:
    """Name, value and weight of a text. What follows the last colon is the weight where it is a number, but
    in a text for CLIP a colon between two digits is the text's own, as in "clock at 10:30"; a space before it
    makes it the weight's: "number 7 :2".
    """
    left, equals, right = item.partition("=")
    name, given = left.strip().lower(), right if equals else left
    body, colon, tail = given.rpartition(":")
    inside = _is_text(name) and body[-1:].isdigit() and tail[:1].isdigit()
    weighted = bool(colon) and numeric(tail) and tail == tail.strip() and not inside
    if not weighted:
        body = given
    name, value = (name, body.strip()) if equals else (body.strip().lower(), "")
    return {"color": "colour"}.get(name, name), value, tail if weighted else 1.0


def _is_text(name: str) -> bool:
    return name in GUIDES and GUIDES[name].value is Value.TEXT


def _weight(given: Any) -> float:
    w = number("a guide's weight", given)
    if w < 0:
        raise BadInput(
            f"a guide's weight must not be negative, given {w:g}: what to avoid belongs in the negative"
            " prompt"
        )
    return w
