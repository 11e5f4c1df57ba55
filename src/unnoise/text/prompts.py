r"""The prompt language: a text in, and what the text encoder is to be given at each step out. Pure functions,
no torch.

    (word)   ((word))   (word:1.3)   [word]     weights 1.1, 1.21, 1.3 and 1 / 1.1; nested ones multiply
    {keyboard:0.5|typewriter:0.5}               the average of both prompts' encodings; shares (1 where not
                                                given) are divided by their sum
    [cow|horse]                                 by turns: step i, from 0, takes branch i mod n
    [from:to:0.5]  [from:to:10]                 `from` for this fraction of the steps (a number with a point)
                                                or for so many steps, then `to`
    [to:0.5]  [from::0.5]                       the same with nothing before, with nothing after
    BREAK                                       what follows begins a new chunk of tokens
    \( \) \[ \] \{ \} \| \: \\                  the sign itself

What is none of these is text: brackets without a partner (the web UI of A1111 lets an open one weight all
that follows), `{a}` and `a|b`, a colon before something that is not a number: `(word:abc)` is the text
"word:abc" with weight 1.1. Control characters and lone surrogates become spaces. Weights are 0 to 1000.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from unnoise.base.errors import BadInput

MOST = 1000.0  # the largest weight
BRANCHES = 64  # the most encodings that one step averages
WAYS = 1000  # the most prompts that `variants` looks at
BREAK = ("", 1.0)  # the segment that begins a new chunk: no other segment's text is empty
_OPEN = {")": "(", "]": "[", "}": "{"}
_LEX = re.compile(r"\\(?P<escaped>[()\[\]{}|:\\])|(?P<mark>[()\[\]{}|:])|[^()\[\]{}|:\\]+|\\")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NUMBER = re.compile(
    r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+|inf|infinity|nan)(?:e[+-]?[0-9]+)?)\s*", re.IGNORECASE
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")


class Plain(NamedTuple):
    """What remains of a prompt at one step: encodings to average, as (share, segments), each segment a (text,
    weight).

    Shares are positive and sum to 1; equal branches are one. The segment BREAK, the only one with an empty
    text, begins a new chunk.
    """

    branches: tuple[tuple[float, tuple[tuple[str, float], ...]], ...]


@dataclass(frozen=True)
class Prompt:
    """A prompt understood; equal to another of the same text."""

    text: str
    _root: _Node = field(repr=False, compare=False)
    _changes: tuple[_Node, ...] = field(
        repr=False, compare=False
    )  # the brackets whose content depends on the step

    @property
    def by_step(self) -> bool:
        """Whether steps may differ; when False, `at` is the same for all of them."""
        return bool(self._changes)

    def at(self, step: int = 0, steps: int = 1) -> Plain:
        """The prompt at one of `steps` steps, counted from 0. BadInput when there is no such step."""
        if not 0 <= step < steps:
            raise BadInput(f"step must be 0 to {steps - 1} of {steps} steps, given {step}")
        return self._at(step, (step + 1) / steps)

    def variants(self, steps: int | None = None) -> tuple[Plain, ...]:
        """The different Plains over so many steps, in order; those that any number of steps may meet when
        None.

        BadInput: `steps` is None and there would be more than 1000 to look at.
        """
        if not self.by_step:
            return (self._at(0, 1.0),)
        if steps is not None:
            return tuple(dict.fromkeys(self.at(i, steps) for i in range(steps)))
        turns = math.lcm(*(len(n.items) for n in self._changes if n.kind == "turns"))
        starts = sorted({0, *(int(n.number) for n in self._changes if n.kind == "step")})
        done = sorted({1e-6, *(n.number + 1e-6 for n in self._changes if n.kind == "fraction")})
        ways = turns * len(starts) * len(done)
        if ways > WAYS:
            raise BadInput(
                f"the prompt may change in {ways} ways over its steps, at most {WAYS} are accepted"
            )
        return tuple(dict.fromkeys(self._at(i + k, u) for i in starts for k in range(turns) for u in done))

    def _at(self, step: int, done: float) -> Plain:
        """At a step, when this fraction of the steps will be done after it."""
        shares: dict[tuple, float] = {}
        for share, pieces in _walk(self._root, lambda node: _choose(node, step, done)):
            key = _segments(pieces)
            shares[key] = shares.get(key, 0.0) + share
        if len(shares) == 1:
            shares = dict.fromkeys(shares, 1.0)
        return Plain(tuple((share, segments) for segments, share in shares.items()))


def parse(text: str) -> Prompt:
    """Understand a prompt. BadInput: not a text, or a weight, share or step that is out of range."""
    if not isinstance(text, str):
        raise BadInput(f"a prompt must be a text, given {type(text).__name__}")
    tokens = [(m["mark"], m["escaped"] or m[0]) for m in _LEX.finditer(_CONTROL.sub(" ", text))]
    paired, changes = _paired([mark for mark, _ in tokens]), []
    stack: list[list[str | _Node]] = [[]]
    for i, (mark, piece) in enumerate(tokens):
        if i not in paired:
            stack[-1].append(_Mark(piece) if mark in ("|", ":") else piece)
        elif mark in _OPEN:
            node = _close(mark, stack.pop())
            if node.kind in ("turns", "step", "fraction"):
                changes.append(node)
            stack[-1].append(node)
        else:
            stack.append([])
    root = _row(stack[0])
    if root.peak > MOST:
        raise BadInput(f"weights multiply to {root.peak:.3g}, at most {MOST:.0f} is accepted")
    if root.ways > BRANCHES:
        raise BadInput(f"a prompt may blend at most {BRANCHES} branches, this one makes more")
    return Prompt(text, root, tuple(changes))


# --- the tree: built and walked without recursion, as brackets may nest as deep as a prompt is long ---------


class _Mark(str):
    """A "|" or ":" that may separate; where nothing is separated by it, it is text as it stands."""

    __slots__ = ()


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class _Node:
    """A bracket. Kind "row": items side by side, weighted by `number`. Else the items are options, each a
    row, of which

    "turns" takes one after the other, "step" the first before step `number`, "fraction" the first before this
    part of the steps, and "blend" all, by `shares`.
    """

    kind: str
    items: tuple[Any, ...]  # str or _Node
    number: float = 1.0
    shares: tuple[float, ...] = ()
    peak: float = 0.0  # the largest weight inside
    ways: int = 1  # how many branches its blends make


def _paired(marks: list[str | None]) -> set[int]:
    """Positions of the brackets that have a partner: a closing one takes the nearest open one of its kind,
    and those open inside stay text.
    """
    stack: list[int] = []
    waiting: Counter = Counter()
    paired: set[int] = set()
    for i, mark in enumerate(marks):
        if mark in _OPEN.values():
            stack.append(i)
            waiting[mark] += 1
        elif mark in _OPEN and waiting[_OPEN[mark]]:
            while True:
                j = stack.pop()
                waiting[marks[j]] -= 1
                if marks[j] == _OPEN[mark]:
                    break
            paired |= {i, j}
    return paired


def _close(mark: str, items: list) -> _Node:
    """The node of a bracket, by its closing sign and what it holds."""
    if mark == ")":
        head, number = _tail(items)
        return _row(head, 1.1 if number is None else _weight(number, "weight"))
    options = _split(items, "|")
    if mark == "}":
        return _blend(options) if len(options) > 1 else _row(["{", *items, "}"])
    if len(options) > 1:
        return _options("turns", [_row(o) for o in options])
    parts, (_, number) = _split(items, ":"), _tail(items)
    if number is None or len(parts) > 3:
        return _row(items, 1 / 1.1)
    kind, value = _switch(number)
    return _options(kind, [_row(parts[0] if len(parts) == 3 else []), _row(parts[-2])], value)


def _row(items: list, factor: float = 1.0) -> _Node:
    peak = max((n.peak if isinstance(n, _Node) else 1.0 for n in items), default=0.0)
    ways = 1
    for n in items:
        if isinstance(n, _Node):
            ways = min(ways * n.ways, BRANCHES + 1)
    return _Node("row", tuple(items), factor, (), factor * peak, ways)


def _options(kind: str, rows: list[_Node], number: float = 0.0) -> _Node:
    return _Node(kind, tuple(rows), number, (), max(r.peak for r in rows), max(r.ways for r in rows))


def _blend(options: list[list]) -> _Node:
    pairs = [_tail(o) for o in options]
    shares = [1.0 if number is None else _weight(number, "share of a blend") for _, number in pairs]
    total = sum(shares)
    if total == 0:
        raise BadInput("the shares of a blend are all 0: give one of them more")
    kept = [
        (_row(head), share / total) for (head, _), share in zip(pairs, shares) if share
    ]  # at 0 and 1 it is the other prompt itself
    rows = tuple(row for row, _ in kept)
    return _Node(
        "blend",
        rows,
        1.0,
        tuple(s for _, s in kept),
        max(r.peak for r in rows),
        min(sum(r.ways for r in rows), BRANCHES + 1),
    )


def _split(items: list, sign: str) -> list[list]:
    """The items between separators."""
    parts: list[list] = [[]]
    for item in items:
        if isinstance(item, _Mark) and item == sign:
            parts.append([])
        else:
            parts[-1].append(item)
    return parts


def _tail(items: list) -> tuple[list, str | None]:
    """(items before it, the number) when they end in ":" and a number; (items, None) otherwise."""
    if (
        len(items) < 2
        or not isinstance(items[-2], _Mark)
        or items[-2] != ":"
        or not isinstance(items[-1], str)
    ):
        return items, None
    number = _NUMBER.fullmatch(items[-1])
    return (items[:-2], number[1]) if number else (items, None)


def _weight(number: str, what: str) -> float:
    value = float(number)
    if not 0 <= value <= MOST:
        raise BadInput(
            f"a {what} must be 0 to {MOST:.0f}, given {number:.20} (write \\: where a colon is text)"
        )
    return value


def _switch(number: str) -> tuple[str, float]:
    """("step", n) for a whole number, ("fraction", u) for others."""
    kind, value = "step" if re.fullmatch("[+]?[0-9]+", number) else "fraction", float(number)
    if not 0 <= value <= (1e9 if kind == "step" else 1):
        raise BadInput(
            "a prompt changes at a step (a whole number) or at a fraction of the steps (0.0 to 1.0), given"
            f" {number:.20} (write \\: where a colon is text)"
        )
    return kind, value


def _choose(node: _Node, step: int, done: float) -> _Node:
    if node.kind == "turns":
        return node.items[step % len(node.items)]
    return node.items[step >= node.number if node.kind == "step" else done > node.number]


def _walk(root: _Node, choose: Callable[[_Node], _Node]) -> Iterator[tuple[float, list[tuple[str, float]]]]:
    """(share, weighted texts) of each branch. What is said and what is still to come are linked lists, so
    that a blend can fork.
    """
    forks: list[tuple[float, Any, Any]] = [(1.0, None, (root, 1.0, None))]
    while forks:
        share, said, rest = forks.pop()
        while rest is not None:
            item, weight, rest = rest
            if isinstance(item, str):
                said = (item, weight, said)
            elif item.kind == "row":
                for part in reversed(item.items):
                    rest = (part, weight * item.number, rest)
            elif item.kind == "blend":
                forks += [
                    (share * s, said, (option, weight, rest))
                    for option, s in zip(reversed(item.items), reversed(item.shares))
                ]
                break
            else:
                rest = (choose(item), weight, rest)
        else:
            yield share, _listed(said)


def _listed(said: Any) -> list[tuple[str, float]]:
    out = []
    while said is not None:
        text, weight, said = said
        out.append((text, weight))
    return out[::-1]


def _segments(pieces: list[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Neighbours of equal weight joined, so that marks in the middle of a word do not cut it; then cut at
    BREAK.
    """
    runs: list[tuple[list[str], float]] = []
    for text, weight in pieces:
        if not runs or runs[-1][1] != weight:
            runs.append(([], weight))
        runs[-1][0].append(text)
    out: list[tuple[str, float]] = []
    for texts, weight in runs:
        for i, part in enumerate(_BREAK.split("".join(texts))):
            if i:
                out.append(BREAK)
            if part:
                out.append((part, weight))
    return tuple(out)
