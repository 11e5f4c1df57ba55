"""What a text model of the emoji world is asked, whose truth is known exactly, and what counts as right.

    noun        every trained name in turn: "an apple"
    seen        test scenes of several things, pairs and hands: combinations of words that training showed, in
                other pictures
    held out    scenes with a combination that training never showed (its words it did)

A combination (noun and colour, noun and count, …) is right when both are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unnoise.base.colour import dominant
from unnoise.base.errors import BadInput
from unnoise.data.draw import Draw
from unnoise.data.nouns import NOUNS, article, phrase, plain
from unnoise.worlds.emoji.scenes import Attributes, Scenes, caption, combinations, held_out
from unnoise.worlds.judge import Heads, Judge, Seen

SHARES = {"noun": 0.4, "seen": 0.3, "held out": 0.3}  # of the prompts
SPLIT = {"seen": "test", "held out": "held_out"}  # of what is asked in groups of several words
ROWS = (
    "noun",
    "seen combinations",
    "held-out combinations",
    "colour",
    "count",
    "orientation",
    "relation",
    "fingers",
)
WORLD = {"objects": 0.55, "pair": 0.25, "hand": 0.20}  # kinds of scene that combine words
PROMPTS = 990_000  # where in the streams of scenes the prompts begin: far from what validation looks at
OF_ITS_OWN = 0.6  # of a thing's training pictures, how many show a colour that is its own


@dataclass(frozen=True)
class Asked:
    """A prompt and what it asks for."""

    prompt: str
    scene: Attributes
    group: str


def asked(n: int, judge: Judge, emoji: str = "emoji") -> list[Asked]:
    """n prompts of all groups, the same for ever for the same judge."""
    labels = judge.heads["noun"]
    count = {group: round(n * SHARES[group]) for group in SPLIT}
    items = [_named(labels[i % len(labels)]) for i in range(n - sum(count.values()))]
    for group in SPLIT:
        scenes = _combining(group, judge, emoji)
        for i in range(PROMPTS, PROMPTS + count[group]):
            scene = scenes.attributes(0, i)
            items.append(Asked(caption(scene, Draw(0, i, 99)), scene, group))
    return items


def _named(label: str) -> Asked:
    return Asked(phrase(label), Attributes("plain", (plain(label),), (label,), ""), "noun")


def _combining(group: str, judge: Judge, emoji: str) -> Scenes:
    return Scenes(emoji, SPLIT[group], WORLD, len(judge.heads["noun"]))


def _plain(split: str, judge: Judge, emoji: str) -> Scenes:
    return Scenes(emoji, split, {"plain": 1.0}, len(judge.heads["noun"]))


# --- what is right ------------------------------------------------------------------------------------------


def verdict(
    a: Attributes, first: dict[str, int], p: Callable[[str, str], float], heads: Heads
) -> dict[str, bool]:
    """{what was asked: whether the judge sees it}. first: the judge's first answer to each question;
    p(question, answer): its probability.
    """
    sees = lambda question, answer: heads[question][first[question]] == answer
    if a.kind == "hand":
        return {"fingers": sees("fingers", str(a.fingers))}
    if a.kind == "pair":
        return _verdict_of_pair(a, sees, p)
    out = {"noun": sees("noun", a.concepts[0])}
    if a.colour:
        out["colour"] = sees("colour", a.colour)
    if a.count > 1:
        out["count"] = sees("count", str(a.count))
    if a.orientation != "upright":
        out["orientation"] = sees("orientation", a.orientation)
    return out


def _verdict_of_pair(
    a: Attributes, sees: Callable[[str, str], bool], p: Callable[[str, str], float]
) -> dict[str, bool]:
    """Which of the two the judge takes for the first in the picture (upper or left), and whether that is
    where it was asked to be.
    """
    one, two = a.concepts
    forward = p("noun_a", one) * p("noun_b", two) >= p("noun_a", two) * p("noun_b", one)
    places = "ab" if forward else "ba"
    axis = "vertical" if a.relation in ("above", "below") else "horizontal"
    ordered = a.relation == "next to" or forward == (a.relation in ("left of", "above"))
    out = {
        "noun": all(sees(f"noun_{k}", c) for k, c in zip(places, a.concepts)),
        "relation": sees("axis", axis) and ordered,
    }
    if any(a.colours):
        out["colour"] = all(sees(f"colour_{k}", c) for k, c in zip(places, a.colours) if c)
    return out


def marks(items: Sequence[Asked], seen: Seen, heads: Heads) -> dict[str, list[bool]]:
    """{row: whether each thing that counts for it is right}."""
    first = {question: seen.said(question) for question in seen.answers}
    rows: dict[str, list[bool]] = {row: [] for row in ROWS}
    for i, item in enumerate(items):

        def p(question: str, answer: str, i: int = i) -> float:
            known = answer in heads[question]
            return float(seen.answers[question][i, heads[question].index(answer)]) if known else 0.0

        right = verdict(item.scene, {k: int(f[i]) for k, f in first.items()}, p, heads)
        for row, mark in _counted(item, right):
            rows[row].append(mark)
    return rows


def _counted(item: Asked, right: dict[str, bool]) -> Iterator[tuple[str, bool]]:
    """The rows that a verdict counts for."""
    if item.group == "noun":
        yield "noun", right["noun"]
        return
    for row in ("colour", "count", "orientation", "relation", "fingers"):
        if row in right:
            yield row, right[row]
    for c in combinations(item.scene):
        both = right[c[0]] and right.get("noun", True)
        if item.group == "seen":
            yield "seen combinations", both
        elif held_out(c):
            yield "held-out combinations", both


# --- real pictures ------------------------------------------------------------------------------------------


def real(items: Sequence[Asked], judge: Judge, emoji: str) -> tuple[Seen, Seen]:
    """What the judge makes of real pictures of the scenes asked for (of the plain ones, any: `noun_ceiling`
    counts for them), and of others.
    """
    size = judge.codec.height
    scenes = {group: _combining(group, judge, emoji) for group in SPLIT}
    blank = np.full((size, size, 3), 255, dtype=np.uint8)
    x = [blank if i.group == "noun" else scenes[i.group].render(i.scene, size) for i in items]
    half = sum(i.group != "noun" for i in items) // 2
    others = [s.scene(1, PROMPTS + i, size)[0] for s in scenes.values() for i in range(half)]
    return judge.look(np.stack(x)), judge.look(np.stack(others))


def noun_ceiling(judge: Judge, emoji: str, n: int = 1000) -> float:
    """How often the judge names a plain test picture rightly: pictures of (concept, vendor) pairs that its
    training never showed.
    """
    scenes = _plain("test", judge, emoji)
    truths = [scenes.attributes(0, PROMPTS + i) for i in range(n)]
    seen = judge.look(np.stack([scenes.render(a, judge.codec.height) for a in truths]))
    named = [judge.heads["noun"][k] for k in seen.said("noun")]
    return float(np.mean([name == a.concepts[0] for name, a in zip(named, truths)]))


def ceilings(items: Sequence[Asked], seen: Seen, judge: Judge, emoji: str) -> dict[str, float | None]:
    """{row: the share that the judge gets right on real pictures, None where there are none}."""
    rows = {row: float(np.mean(v)) if v else None for row, v in marks(items, seen, judge.heads).items()}
    return {**rows, "noun": noun_ceiling(judge, emoji)}


def training_pictures(judge: Judge, emoji: str) -> list[np.ndarray]:
    """Every training picture of one thing, uint8 (h, w, 3)."""
    scenes = _plain("train", judge, emoji)
    return [scenes.emoji.image(i) for i in scenes.plain]


# --- negative prompts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forbidden:
    """A prompt, a negative prompt that names an attribute, and what tells whether a picture shows it."""

    kind: str
    prompt: str
    negative: str
    concept: str
    word: str


def forbidden(judge: Judge, pairs: int, emoji: str = "emoji") -> list[Forbidden]:
    """`pairs` cases whose prompts leave open what is forbidden, then a third as many (at least two) whose
    prompts ask for it.

    Of the former every other one forbids the colour that most training pictures of a thing have, else one
    vendor's style; of the latter the colour, else the ground. BadInput: nothing has a colour of its own.
    """
    labels = [label for label in judge.heads["noun"] if label in NOUNS]
    coloured = [(label, word) for label, word in own_colours(judge, emoji).items() if label in labels]
    if not coloured:
        raise BadInput(
            f"the set {emoji!r} has no thing of a colour of its own: leave negative prompts out (negatives 0)"
        )
    styles, colours, grounds = (judge.heads[k] for k in ("style", "colour", "background"))
    turn = lambda items, i: items[i // 2 % len(items)]
    cases = []
    for i in range(pairs):
        label = labels[i % len(labels)]
        cases.append(_own_colour(*turn(coloured, i)) if i % 2 == 0 else _style(label, turn(styles, i)))
    for i in range(contradictions(pairs)):
        label = labels[i % len(labels)]
        colour, ground = turn(colours[1:], i), turn(grounds[1:], i)
        cases.append(_asked_colour(label, colour) if i % 2 == 0 else _asked_ground(label, ground))
    return cases


def _own_colour(label: str, colour: str) -> Forbidden:
    return Forbidden("colour", phrase(label), colour, label, colour)


def _style(label: str, style: str) -> Forbidden:
    return Forbidden("style", phrase(label), f"{style} style", label, style)


def _asked_colour(label: str, colour: str) -> Forbidden:
    return Forbidden("asked-for colour", article(f"{colour} {NOUNS[label]}"), colour, label, colour)


def _asked_ground(label: str, ground: str) -> Forbidden:
    prompt = f"{phrase(label)} on {article(ground)} background"
    return Forbidden("asked-for background", prompt, f"{ground} background", label, ground)


def contradictions(pairs: int) -> int:
    """How many cases of `forbidden` contradict themselves, beside so many that do not."""
    return max(pairs // 3, 2) if pairs else 0


def own_colours(judge: Judge, emoji: str) -> dict[str, str]:
    """{concept: the colour that at least six in ten of its training pictures show}, where that is a hue: no
    grey, no black.
    """
    scenes, shown = _plain("train", judge, emoji), defaultdict(list)
    for i in scenes.plain:
        label = scenes.emoji.concepts[scenes.emoji.concept[i]].label
        shown[label].append(dominant(scenes.emoji.image(i)))
    found = {}
    for label, words in sorted(shown.items()):
        word, count = Counter(words).most_common(1)[0]
        if word not in (None, "grey", "black") and count >= OF_ITS_OWN * len(words):
            found[label] = word
    return found


def shows(case: Forbidden, picture: np.ndarray, answers: dict[str, str]) -> bool:
    """Whether a picture shows what is forbidden: its colour by its pixels, else by the judge's answers."""
    if case.kind == "colour":
        return dominant(picture) == case.word
    return answers[case.kind.split()[-1]] == case.word
