"""How the second world's scenes are said: any name of a thing, any phrasing, long or short, now and then with
a slip of the finger.

What a scene shows and a prompt could ask for is always said (count, colour, turn, relation, fingers, size,
ground: as in `scenes`). Plain words for what no scene has ("a watercolor painting of …", "… at night", "cute
…, please") are said of pictures that have nothing of it: they must not lead astray. Captions are lower case
but for a few: the tokenizer knows no case.
"""

from __future__ import annotations

from collections.abc import Mapping

from unnoise.base.colour import GROUNDS, NAMED
from unnoise.data.draw import Draw
from unnoise.data.nouns import article
from unnoise.worlds.emoji.names import Called, many, several
from unnoise.worlds.emoji.scenes import (
    COUNTED,
    DRAWING_WORDS,
    NUMBER,
    RELATION_WORDS,
    SIZE_WORDS,
    TURN_WORDS,
    Attributes,
    _with_style,
)

TONES = ("", "light", "medium-light", "medium", "medium-dark", "dark", "two")
BEFORE = (
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "a painting of {}",
    "a watercolor painting of {}",
    "an oil painting of {}",
    "a pencil sketch of {}",
    "a cartoon of {}",
    "a photograph of {}",
    "an illustration of {}",
    "an icon of {}",
    "an emoji of {}",
    "draw {}",
    "please draw {}",
    "show me {}",
    "i want {}",
    "can you draw {}",
    "make {}",
    "generate {}",
    "a close-up of {}",
    "this is {}",
    "here is {}",
    "just {}",
    "a sticker of {}",
    "clip art of {}",
    "pixel art of {}",
    "a realistic photo of {}",
    "photo of {}",
    "picture of {}",
    "drawing of {}",
    "painting of {}",
)
AFTER = (
    "{} emoji",
    "{} icon",
    "{} please",
    "{}, please",
    "{} clipart",
    "{} sticker",
    "{}, digital art",
    "{}, high quality",
    "{}, 4k",
    "{}, cartoon",
    "{} drawing",
    "{} at night",
    "{} in the rain",
    "{} in the snow",
    "{} in the forest",
    "{} in space",
    "{} in a city",
    "{} by the sea",
    "{}, detailed",
    "{}, minimalist",
    "{} in watercolor",
    "{} logo",
    "{}!",
    "{}.",
    "{} picture",
    "{} image",
    "{}, photorealistic",
    "{}, oil painting",
    "{} symbol",
    "{}, trending on artstation",
)
KIND = (
    "cute",
    "nice",
    "beautiful",
    "pretty",
    "lovely",
    "cool",
    "simple",
    "funny",
    "realistic",
    "cartoon",
    "amazing",
    "colourful",
    "typical",
    "single",
)
Names = Mapping[str, Called]
SLIP = 0.02
SURE = {*NAMED, *GROUNDS, *NUMBER}  # too few letters away from one another


def caption(a: Attributes, names: Names, draw: Draw) -> str:
    """One way of saying what `a` is."""
    said = {"plain": _plain, "objects": _objects, "pair": _pair, "hand": _hand}[a.kind](a, names, draw)
    if a.background != "white" or draw.chance(0.03):
        ground = a.background
        said = draw.pick(
            (
                f"{said} on {article(ground)} background",
                f"{said}, {ground} background",
                f"{said} in front of {article(ground)} background",
                f"{said} on {ground}",
                f"{said} against {article(ground)} background",
            )
        )
    elif a.kind != "plain" and draw.chance(0.1):
        said = draw.pick(BEFORE).format(said) if draw.chance(0.6) else draw.pick(AFTER).format(said)
    if a.kind != "hand" and draw.chance(0.2):
        said = _with_style(said, a.style, draw)
    return _slipped(_cased(said, draw), draw)


def plainly(a: Attributes, names: Names) -> str:
    """The one plain way of saying what `a` is: by labels and nouns, nothing left out, nothing besides."""
    ground = "" if a.background == "white" else f" on {article(a.background)} background"
    first = names[a.concepts[0]].main[0] if a.kind != "hand" else ""
    if a.kind == "plain":
        if a.tone not in ("", "two"):
            return f"{first} with {a.tone} skin tone"
        return first if ": " in first else _one(first)
    if a.kind == "hand":
        return f"a hand with {NUMBER[a.fingers or 0]} finger{'' if a.fingers == 1 else 's'}{ground}"
    if a.kind == "pair":
        one, two = (
            _one(" ".join(w for w in (colour, names[label].main[0]) if w))
            for label, colour in zip(a.concepts, a.colours)
        )
        return f"{one} {a.relation} {two}{ground}"
    turned = "" if a.orientation in ("upright", "mirrored") else f" {a.orientation}"
    words = [
        a.size if a.size != "medium" else "",
        "mirrored" if a.orientation == "mirrored" else "",
        a.colour,
        first if a.count == 1 else many(first),
    ]
    thing = " ".join(w for w in words if w)
    if a.count == 1:
        return f"{_one(thing)}{turned}{ground}"
    return f"{NUMBER[a.count]} {thing}{turned.replace('its', 'their')}{ground}"


def _one(thing: str) -> str:
    return thing if several(thing) else article(thing)


def _plain(a: Attributes, names: Names, draw: Draw) -> str:
    thing = names[a.concepts[0]]
    way = draw.uniform()
    if way < 0.06 and thing.others:
        return ", ".join(
            dict.fromkeys((thing.main[0], *(_other(thing, draw) for _ in range(1 + draw.below(2)))))
        )
    if way < 0.10 and thing.others:
        return ", ".join(dict.fromkeys(_other(thing, draw) for _ in range(1 + draw.below(3))))
    name = _name(thing, draw)
    if name.startswith("flag: "):
        name = draw.pick((name, f"flag of {name[6:]}", f"{name[6:]} flag", f"the flag of {name[6:]}"))
    elif ": " in name and draw.chance(0.5):
        name = name.replace(": ", " with ")
    if draw.chance(0.08):
        name = f"{draw.pick(KIND)} {name}"
    if a.tone not in ("", "two") and draw.chance(0.5):
        name = f"{name} with {a.tone} skin tone"
    said = _determined(name, draw)
    if draw.chance(0.28):
        said = draw.pick(BEFORE).format(said) if draw.chance(0.55) else draw.pick(AFTER).format(said)
    return said


def _name(thing: Called, draw: Draw) -> str:
    if thing.others and draw.chance(0.52):
        return _other(thing, draw)
    return thing.main[0] if draw.chance(0.7) else thing.main[-1]


def _other(thing: Called, draw: Draw) -> str:
    return draw.among([w for w, _ in thing.others], [v for _, v in thing.others])


def _determined(name: str, draw: Draw) -> str:
    """With an article or without."""
    if several(name) or draw.chance(0.45):
        return name
    if draw.chance(0.06):
        return f"{draw.pick(('the', 'one', 'my', 'this'))} {name}"
    return article(name)


def _noun(label: str, names: Names, draw: Draw) -> str:
    thing = names[label]
    return thing.main[0] if draw.chance(0.55) else draw.pick(thing.nouns)


def _single(thing: str, plural: bool, draw: Draw) -> str:
    """One thing, with its number, its article or neither."""
    if plural or draw.chance(0.15):
        return thing
    return f"one {thing}" if draw.chance(0.08) else article(thing)


def _turned(a: Attributes, draw: Draw) -> str:
    """How it is turned, in words; "" where that is not said."""
    if a.orientation != "upright":
        return draw.pick(TURN_WORDS[a.orientation])
    return "upright" if draw.chance(0.05) else ""


def _objects(a: Attributes, names: Names, draw: Draw) -> str:
    noun, words = _noun(a.concepts[0], names, draw), []
    if a.size != "medium":
        words.append(draw.pick(SIZE_WORDS[a.size]))
    turned = _turned(a, draw)
    if turned == "mirrored":
        words, turned = [*words, turned], ""
    if a.colour:
        words.append("gray" if a.colour == "grey" and draw.chance(0.5) else a.colour)
    thing = " ".join((*words, noun if a.count == 1 else many(noun)))
    if a.count == 1:
        thing = _single(thing, several(noun), draw)
    else:
        thing = f"{_number(a.count, draw)} {thing}"
        turned = turned.replace("its side", "their sides" if draw.chance(0.5) else "their side")
    return f"{turned} of {thing}" if turned == "mirror image" else f"{thing} {turned}".strip()


def _number(count: int, draw: Draw) -> str:
    if draw.chance(0.15):
        return str(count)
    if count == 2 and draw.chance(0.08):
        return draw.pick(("a pair of", "a couple of"))
    return NUMBER[count]


def _pair(a: Attributes, names: Names, draw: Draw) -> str:
    things = [
        " ".join(w for w in (colour, _noun(label, names, draw)) if w)
        for label, colour in zip(a.concepts, a.colours)
    ]
    first, second = things if draw.chance(0.12) else [_one(t) for t in things]
    if a.relation == "next to" and draw.chance(0.4):
        return f"{first} {draw.pick(('and', 'and', 'with'))} {second}"
    words = (
        *RELATION_WORDS[a.relation],
        *(("on top of",) if a.relation == "above" else ()),
        *(("by", "near") if a.relation == "next to" else ()),
    )
    return f"{first} {draw.pick(words)} {second}"


def _hand(a: Attributes, names: Names, draw: Draw) -> str:
    assert a.hand is not None and a.fingers is not None
    hand = draw.pick(("hand", "hand", f"{a.hand.side} hand"))
    drawing = DRAWING_WORDS[a.style] if draw.chance(0.35) else ""
    if drawing == "gloved hand":
        hand, drawing = hand.replace("hand", "gloved hand"), ""
    number = str(a.fingers) if draw.chance(0.15) else NUMBER[a.fingers]
    fingers = f"{number} {draw.pick(COUNTED)}{'' if a.fingers == 1 else 's'}"
    who = f"{article(hand)} with {a.tone} skin tone" if a.tone and draw.chance(0.5) else article(hand)
    plainly = f"{who}, {fingers}" if " with " in who else f"{who} with {fingers}"
    shown = draw.pick(
        (f"{who} showing {fingers}", f"{who} holding up {fingers}", plainly, f"{fingers}", plainly)
    )
    if a.fingers == 0 and draw.chance(0.5):
        shown = draw.pick((f"{who} making a fist with no fingers raised", f"{who}, closed, no finger raised"))
    return f"{article(drawing)} of {shown}" if drawing else shown


def _cased(said: str, draw: Draw) -> str:
    if draw.chance(0.94):
        return said
    return draw.pick((said.capitalize(), said.title(), said.upper()))


def _slipped(said: str, draw: Draw) -> str:
    """Now and then with two letters of a long word exchanged, one doubled or one left out."""
    if not draw.chance(SLIP):
        return said
    words = said.split(" ")
    long = [k for k, w in enumerate(words) if len(w) >= 5 and w.isalpha() and w.lower() not in SURE]
    if not long:
        return said
    k = draw.pick(long)
    w, at = words[k], 1 + draw.below(len(words[k]) - 2)
    words[k] = draw.pick(
        (w[:at] + w[at + 1] + w[at] + w[at + 2 :], w[:at] + w[at] + w[at:], w[:at] + w[at + 1 :])
    )
    return " ".join(words)
