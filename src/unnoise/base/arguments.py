"""Arguments that people give in Python, brought to one kind or refused in one line: `steps = integer("steps",
steps, 1)`.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import short, sound


def integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int: whole numbers of any library, no booleans, no fractions. BadInput outside [least,
    most].
    """
    given = None if isinstance(value, bool) or _is_array(value) else _index(value)
    if given is None or _outside(given, least, most):
        raise BadInput(f"{name} must be a whole number{_range(least, most)}, given {short(value)}")
    return given


def number(
    name: str, value: Any, least: float | None = None, most: float | None = None, above: float | None = None
) -> float:
    """`value` as a finite float; no booleans, no text. BadInput outside [least, most], or not over
    `above`.
    """
    given = None
    if not isinstance(value, bool | str | bytes) and not _is_array(value):
        try:
            given = float(value)
        except (TypeError, ValueError, OverflowError):
            given = None
    low = given is not None and above is not None and given <= above
    if given is None or not math.isfinite(given) or low or _outside(given, least, most):
        limit = f" above {above:g}" if above is not None else ""
        raise BadInput(f"{name} must be a finite number{limit}{_range(least, most)}, given {short(value)}")
    return given


def flag(name: str, value: Any) -> bool:
    """`value` as a bool; nothing else is taken for one."""
    foreign = str(getattr(value, "dtype", "")) in ("bool", "torch.bool") and not _is_array(value)
    if isinstance(value, bool) or foreign:
        return bool(value)
    raise BadInput(f"{name} must be True or False, given {short(value)}")


def string(name: str, value: Any, nul: bool = False) -> str:
    """`value` where it is text that can be written. BadInput: another type, a lone surrogate, a NUL (unless
    `nul`).
    """
    if not isinstance(value, str):
        raise BadInput(f"{name} must be text, given {short(value)}")
    if not sound(value, nul):
        raise BadInput(f"{name} holds a lone surrogate or a NUL, which cannot be written: {short(value)}")
    return str(value)


def path(name: str, value: Any) -> Path:
    """`value` as a Path: text or another path. BadInput: another type, nothing, or a name that no file can
    have.
    """
    try:
        given = os.fspath(value)
    except TypeError:
        given = None
    if not isinstance(given, str):
        raise BadInput(f"{name} must be text or a path, given {short(value)}")
    if not given:
        raise BadInput(f"{name} must be text or a path, given an empty one")
    try:
        os.fsencode(
            given
            # bytes of another encoding, which the system hands over as surrogates, are a name that can be
            # opened
        )
    except UnicodeEncodeError:
        string(name, given)
    return Path(given if "\0" not in given else string(name, given))


def choice(name: str, value: Any, accepted: Iterable[str]) -> str:
    """`value` where it is one of `accepted`; the BadInput names the nearest."""
    names = list(accepted)
    if not isinstance(value, str) or value not in names:
        raise unknown(name, value, names)
    return value


def _index(value: Any) -> int | None:
    try:
        return operator.index(value)
    except TypeError:
        return None


def _is_array(value: Any) -> bool:
    """A tensor or array with dimensions: never one number, even where it holds one."""
    return getattr(value, "ndim", 0) != 0


def _outside(value: float, least: float | None, most: float | None) -> bool:
    return (least is not None and value < least) or (most is not None and value > most)


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" from {least:g} to {most:g}" if isinstance(least, float) else f" from {least} to {most}"
    if least is not None:
        return f" of at least {least}"
    return f" of at most {most}" if most is not None else ""
