"""What a judge of emoji scenes is asked, and what is true of a scene."""

from __future__ import annotations

from unnoise.base.colour import GROUNDS
from unnoise.worlds.emoji.scenes import COLOURS, COUNTS, ORIENTATIONS, SIZES, Attributes, Scenes


def questions(scenes: Scenes) -> dict[str, tuple[str, ...]]:
    """What a judge of these scenes is asked, with the answers to each question.

    noun, colour, count, orientation, size: of scenes of one thing; noun_a, colour_a, noun_b, colour_b: of
    pairs, a the upper or left one; axis: whether a pair lies side by side or one above the other; fingers: of
    hands; background and style: of all that have them.
    """
    labels, colours, emoji = scenes.labels, ("as drawn", *COLOURS), scenes.emoji
    trained = {emoji.styles[k] for k in emoji.style[emoji.members("train")]}
    return {
        "noun": labels,
        "noun_a": labels,
        "noun_b": labels,
        "colour": colours,
        "colour_a": colours,
        "colour_b": colours,
        "count": tuple(map(str, COUNTS)),
        "orientation": ORIENTATIONS,
        "axis": ("horizontal", "vertical"),
        "fingers": tuple(map(str, range(6))),
        "size": tuple(SIZES),
        "background": tuple(GROUNDS),
        "style": tuple(s for s in emoji.styles if s in trained),
    }


def answers(a: Attributes) -> dict[str, str]:
    """The true answers to the questions that a scene can be asked."""
    if a.kind == "hand":
        return {"background": a.background, "fingers": str(a.fingers)}
    of_all = {"background": a.background, "style": a.style}
    return of_all | (_of_pair(a) if a.kind == "pair" else _of_things(a))


def _of_pair(a: Attributes) -> dict[str, str]:
    (ax0, ay0, ax1, _), (bx0, by0, bx1, _) = a.boxes
    level = ax1 <= bx0 or bx1 <= ax0
    before = ax0 < bx0 if level else ay0 < by0
    first = 0 if before else 1
    known = {"axis": "horizontal" if level else "vertical"}
    for name, k in zip("ab", (first, 1 - first)):
        known |= {f"noun_{name}": a.concepts[k], f"colour_{name}": a.colours[k] or "as drawn"}
    return known


def _of_things(a: Attributes) -> dict[str, str]:
    known = {"noun": a.concepts[0]}
    if a.kind == "plain":
        return {**known, "count": "1", "orientation": "upright", "colour": "as drawn"}
    known |= {"colour": a.colour or "as drawn", "count": str(a.count), "orientation": a.orientation}
    return known | {"size": a.size} if a.count == 1 else known
