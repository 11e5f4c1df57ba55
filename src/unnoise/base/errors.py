"""The one error a user can cause: bad input, told in one line (what was given, what is accepted).

The command line prints it as `error: …` and exits with 2; in Python it is a ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable

from unnoise.base.names import nearest
from unnoise.base.text import short


class BadInput(ValueError):
    """Something the caller gave cannot be used; the message says what was given and what would be
    accepted.
    """


def unknown(kind: str, given: object, accepted: Iterable[str], also: Iterable[str] = ()) -> BadInput:
    """The error for a name that is not among `accepted`: it names the one that is meant or the nearest, and
    lists them all.

    also: what is accepted beside names, in words ("a model folder"): listed, never taken for what was meant.
    Returns (does not raise) a BadInput, so that call sites read `raise unknown("sampler", name, SAMPLERS)`.
    """
    names = list(accepted)
    near = nearest(str(given), names)
    hint = f"; did you mean {near!r}?" if near else ""
    return BadInput(f"unknown {kind} {short(given)}{hint} (accepted: {', '.join([*names, *also])})")
