"""The one error a user can cause: bad input, told in one line (what was given, what is accepted).

The command line prints it as `error: …` and exits with 2; in Python it is a ValueError.
"""
from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(ValueError):
    """Something the caller gave cannot be used; the message says what was given and what would be accepted."""


def unknown(kind: str, given: object, accepted: Iterable[str]) -> BadInput:
    """The error for a name that is not among `accepted`: it names the nearest one and lists them all.

    Returns (does not raise) a BadInput, so that call sites read `raise unknown("sampler", name, SAMPLERS)`.
    """
    names = list(accepted)
    near = get_close_matches(str(given).lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return BadInput(f"unknown {kind} {given!r}{hint} (accepted: {', '.join(names)})")
