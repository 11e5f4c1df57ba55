"""Text from elsewhere, made fit to be shown: a terminal obeys escape sequences, whoever wrote them into a
file name.
"""

from __future__ import annotations

import unicodedata

# format characters that a terminal or a page acts on: directions, joiners that hide, tags; ordinary joiners
# of emoji stay
_KEPT = {"\u200c", "\u200d", "\ufeff"}
_HIDDEN = {"Cc", "Cs", "Zl", "Zp"}


def clean(text: str, lines: bool = False) -> str:
    """`text` with control characters, lone surrogates and direction marks spelled out (`\\x1b`); the rest as
    it is.

    lines: line feeds and tabs stay; otherwise they are spelled out too.
    """
    if (text.replace("\n", "") if lines else text).isprintable():  # the common case, told at once
        return text
    return "".join(c if _shown(c, lines) else _spelled(c) for c in text)


def one_line(text: str, limit: int = 2000) -> str:
    """`text` cleaned, on one line, cut after `limit` characters."""
    joined = clean(" ".join(text.split()))
    return joined if len(joined) <= limit else joined[: limit - 1] + "…"


def short(value: object, limit: int = 60) -> str:
    """A value as Python writes it, cleaned and cut: for messages that say what was given."""
    try:
        text = repr(value)
    except Exception:  # a foreign object's own repr, whatever it raises
        text = f"a {type(value).__name__}"
    return one_line(text, limit)


def sound(text: str, nul: bool = False) -> bool:
    """Whether `text` can be written as UTF-8 and named in a file system: no lone surrogates, no NUL (unless
    `nul`: what is said, not named).
    """
    return (nul or "\0" not in text) and (text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text))


def _shown(c: str, lines: bool) -> bool:
    if c.isascii() and c.isprintable():
        return True
    if c in "\n\t":
        return lines
    kind = unicodedata.category(c)
    return kind not in _HIDDEN and (kind != "Cf" or c in _KEPT)


def _spelled(c: str) -> str:
    n = ord(c)
    if n < 0x100:
        return f"\\x{n:02x}"
    return f"\\u{n:04x}" if n < 0x10000 else f"\\U{n:08x}"
