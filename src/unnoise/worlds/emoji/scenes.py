"""Scenes whose every attribute is known: emoji recoloured, counted, turned, scaled and set beside one
another, and drawn hands.

Rendering is a pure function of (seed, index): attributes first, as exact ground truth, then pixels from the
attributes alone, and a caption in one of several phrasings. Four kinds make up the mixture: "plain" (one
emoji as it was drawn, the largest share), "objects" (1 to 5 of one thing), "pair" (two things in a relation)
and "hand" (0 to 5 raised fingers).

Splits hold out combinations, never words: noun x colour, noun x count, noun x orientation, pair x relation,
fingers x way of drawing, one in HELD_SHARE of each by hash. "train" and "test" show no held-out combination
and differ in their random stream (and "test" shows plain pictures of (concept, vendor) pairs that "train"
never does); each "held_out" scene has at least one; "personal" is made of the 24 nouns that no other split
shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from PIL import Image

from unnoise.base.colour import GROUND_LAB, GROUNDS, LAB, NAMED, oklab, recolour
from unnoise.base.errors import BadInput, unknown
from unnoise.data.draw import Draw, fate
from unnoise.data.emoji import TRAINABLE, Emoji, load_emoji, over
from unnoise.data.nouns import HELD_OUT, NOUNS, article, plural
from unnoise.worlds.emoji import hands

KINDS = ("plain", "objects", "pair", "hand")
TURNED_ONLY = "turned"  # a kind to ask for in a mixture: objects that are not upright
WEIGHTS: dict[str, float] = {"plain": 0.45, "objects": 0.30, "pair": 0.15, "hand": 0.10}
SPLITS = ("train", "test", "held_out", "personal")
COLOURS = tuple(NAMED)
COUNTS = (1, 2, 3, 4, 5)
ORIENTATIONS = ("upright", "on its side", "upside down", "mirrored")
RELATIONS = ("left of", "right of", "above", "below", "next to")
SIZES = {"small": 0.34, "medium": 0.66, "large": 0.94}  # of the picture's side, the object's longer one
SIDES = (32, 64, 128)
HELD_SHARE = 10
STREAM = {split: 16 + i for i, split in enumerate(SPLITS)}  # purposes of Draw; the captions' are 16 further
TURNED, FLIPPED = (
    0.25,
    0.15,
)  # an object is turned (mirrored) only when at least so much of it then looks different
CONTRAST, LOST = (
    0.2,
    0.3,
)  # in Oklab between an object and its ground; the share of it that may be lost on one
GRIDS = {
    1: ((1, 1),),
    2: ((1, 2), (2, 1), (2, 2)),
    3: ((2, 2), (1, 3), (2, 3)),
    4: ((2, 2), (2, 3), (3, 2)),
    5: ((2, 3), (3, 2), (3, 3)),
}
FILL = 0.84  # of a cell of the grid, how much an object may take
TRIES = 2000

SECRET = {NOUNS[label] for label in HELD_OUT}  # words that training never says
NUMBER = ("no", "one", "two", "three", "four", "five")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Attributes:
    """Everything that a scene shows. Fields that a kind does not have keep their defaults.

    `nouns`, `concepts` (emojibase's labels) and `colours` ("" as drawn) run in parallel, one an object of a
    pair; `count` is of the first noun. `boxes` are x0, y0, x1, y1 of each object in [0, 1], y pointing down;
    `images` their numbers in the emoji set; `style` the vendor, for hands the way of drawing. `names` are
    further words for a plain picture, `tone` its skin's; `turns` are quarter turns to the left.
    """

    kind: str
    nouns: tuple[str, ...]
    concepts: tuple[str, ...]
    style: str
    colours: tuple[str, ...] = ("",)
    count: int = 1
    orientation: str = "upright"
    relation: str = ""
    fingers: int | None = None
    size: str = "medium"
    background: str = "white"
    tone: str = ""
    names: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    images: tuple[int, ...] = ()
    turns: int = 0
    hand: hands.Hand | None = None

    @property
    def colour(self) -> str:
        """The colour of the first noun; "" when it is as drawn."""
        return self.colours[0]


def combinations(a: Attributes) -> list[tuple[str, ...]]:
    """The combinations of words in a scene that a split may hold out."""
    found: list[tuple[str, ...]] = [
        ("colour", noun, colour) for noun, colour in zip(a.nouns, a.colours) if colour
    ]
    if a.kind == "objects" and a.count > 1:
        found.append(("count", a.nouns[0], str(a.count)))
    if a.orientation != "upright":
        found.append(("orientation", a.nouns[0], a.orientation))
    if a.relation:
        found.append(("relation", *_canonical(a.nouns[0], a.nouns[1], a.relation)))
    if a.fingers is not None:
        found.append(("fingers", str(a.fingers), a.style))
    return found


def held_out(combination: tuple[str, ...]) -> bool:
    """Whether a combination is kept out of training, for ever the same."""
    return fate("scene", *combination) % HELD_SHARE == 0


def _canonical(a: str, b: str, relation: str) -> tuple[str, ...]:
    """One name for what can be said in two ways: "a right of b" is "b left of a"."""
    if relation in ("right of", "below"):
        return b, a, {"right of": "left of", "below": "above"}[relation]
    return (*sorted((a, b)), relation) if relation == "next to" else (a, b, relation)


def _drawn_kinds(split: str, weights: Mapping[str, float]) -> dict[str, float]:
    """The kinds of scene that are drawn in a split, with their shares. BadInput: none, or an unknown one."""
    if split not in SPLITS:
        raise unknown("split of scenes", split, SPLITS)
    for kind in weights:
        if kind not in (*KINDS, TURNED_ONLY):
            raise unknown("kind of scene", kind, (*KINDS, TURNED_ONLY))
    # a plain picture combines nothing, a hand is no noun
    without = {"held_out": "plain", "personal": "hand"}.get(split)
    kinds = {k: w for k, w in weights.items() if w > 0 and k != without}
    if not kinds or min(weights.values()) < 0:
        raise BadInput(
            f"weights of scenes {dict(weights)} leave nothing to draw in {split!r}: at least one of"
            f" {', '.join(KINDS)} above 0"
        )
    return kinds


class Scenes:
    """The endless scenes of one split of one emoji set: `scene(seed, index)` is always the same one.

    `weights` are the shares of the four kinds, and of TURNED_ONLY (missing ones 0); `concepts` narrows the
    world to so many of the commonest (see `commonest`; 0 is all). Raises BadInput for an unknown split or
    kind, or a set that is not fetched.
    """

    def __init__(
        self,
        emoji: Emoji | str = "emoji",
        split: str = "train",
        weights: Mapping[str, float] = WEIGHTS,
        concepts: int = 0,
    ):
        self.split, self.kinds = split, _drawn_kinds(split, weights)
        self.emoji = load_emoji(emoji) if isinstance(emoji, str) else emoji
        kept = self._kept(concepts)
        self._of_noun = self._images(kept)
        self.nouns = tuple(self._of_noun)
        self._of_style = _by_style(self.emoji, self._of_noun)
        plain = self._weights(split if split in ("test", "personal") else "train")
        if split != "personal":
            plain = np.where(np.isin(self.emoji.concept, kept), plain, 0.0)
        self._plain = np.flatnonzero(plain).tolist()
        self._cumulative = list(accumulate(plain[self._plain].tolist()))
        if ("plain" in self.kinds and not self._plain) or len(self.nouns) < 2:
            raise BadInput(f"{self.emoji.file.name} has no pictures for scenes of the split {split!r}")

    def _images(self, kept: np.ndarray) -> dict[str, list[int]]:
        """The nouns of this split's things, of the concepts kept, with the numbers of their images."""
        if self.split == "personal":
            return _vocabulary(self.emoji, "personal", self._things())
        there = _vocabulary(self.emoji, "train", self._things())
        return {noun: images for noun, images in there.items() if self.emoji.concept[images[0]] in kept}

    def _kept(self, concepts: int) -> np.ndarray:
        """The numbers of the concepts that the world is narrowed to."""
        return commonest(self.emoji, concepts) if concepts else np.arange(len(self.emoji.concepts))

    def _things(self) -> Mapping[str, str]:
        """What can be counted, coloured and turned: label -> noun."""
        return NOUNS

    def _weights(self, split: str) -> np.ndarray:
        return self.emoji.weights(split)

    def attributes(self, seed: int, index: int) -> Attributes:
        """What scene `index` shows."""
        draw = Draw(seed, index, STREAM[self.split])
        kind = draw.among(tuple(self.kinds), tuple(self.kinds.values()))
        for _ in range(TRIES):
            a = {"plain": self._draw_plain, "pair": self._draw_pair, "hand": self._draw_hand}.get(
                kind, self._draw_objects
            )(draw)
            if kind == TURNED_ONLY and a.orientation == "upright":
                continue
            held = any(held_out(c) for c in combinations(a))
            if self.split == "personal" or held == (self.split == "held_out"):
                return a
        raise BadInput(f"no scene of kind {kind!r} fits the split {self.split!r}")

    def caption(self, seed: int, index: int) -> str:
        """What scene `index` is called."""
        return self.say(self.attributes(seed, index), Draw(seed, index, STREAM[self.split] + 16))

    def say(self, a: Attributes, draw: Draw) -> str:
        """One way of saying what `a` is."""
        return caption(a, draw)

    def again(self, seed: int, index: int, visit: int) -> str:
        """What scene `index` is called at the place `visit` of a run: the same as ever, since this world's
        captions are kept with their scenes.
        """
        return self.caption(seed, index)

    def scene(self, seed: int, index: int, size: int = 64) -> tuple[np.ndarray, str, Attributes]:
        """Scene `index`: its image (size, size, 3) uint8, its caption and its attributes. `size` is 32, 64 or
        128.
        """
        a = self.attributes(seed, index)
        return self.render(a, size), self.say(a, Draw(seed, index, STREAM[self.split] + 16)), a

    def render_many(self, seed: int, indices: Iterable[int], size: int = 64) -> tuple[np.ndarray, list[str]]:
        """Images (n, size, size, 3) uint8 and captions of the scenes `indices`, in that order."""
        scenes = [self.scene(seed, int(i), size) for i in indices]
        images = np.stack([s[0] for s in scenes]) if scenes else np.zeros((0, size, size, 3), dtype=np.uint8)
        return images, [s[1] for s in scenes]

    def render(self, a: Attributes, size: int = 64) -> np.ndarray:
        """The picture of `a`: (size, size, 3) uint8. Drawn at 64 (or larger) and averaged down, as far as the
        emoji set has such detail.
        """
        if size not in SIDES:
            raise BadInput(f"scenes are {', '.join(map(str, SIDES))} pixels wide, not {size}")
        side = max(size, min(64, self.emoji.size))
        canvas = np.empty((side, side, 3), dtype=np.uint8)
        canvas[:] = GROUNDS[a.background]
        if a.kind == "plain":
            canvas = over(_resize(self.emoji.rgba(a.images[0]), side, side), canvas)
        elif a.hand is not None:
            _put(canvas, _cut_hand(a.hand, a.boxes[0], side), a.boxes[0])
        else:
            for image, colour, boxes in self._objects(a):
                sprite = self._sprite(image, colour, a)
                for box in boxes:
                    _put(canvas, sprite, box)
        return _average(canvas, side // size)

    # ---- attributes

    def _draw_plain(self, draw: Draw) -> Attributes:
        i = self._plain[draw.at(self._cumulative)]
        concept = self.emoji.concepts[self.emoji.concept[i]]
        noun = NOUNS.get(concept.label)
        tags = concept.tags if self.split == "personal" else tuple(t for t in concept.tags if t not in SECRET)
        return Attributes(
            "plain",
            (self.emoji.label(i),),
            (concept.label,),
            self.emoji.styles[self.emoji.style[i]],
            tone=_tone(self.emoji, i),
            names=(*((noun,) if noun else ()), *tags),
            boxes=(_unit_box(self.emoji, i),),
            images=(i,),
        )

    def _draw_objects(self, draw: Draw) -> Attributes:
        noun, i = self._pick(draw)
        count = 1 if draw.chance(0.45) else 2 + draw.below(4)
        colour = draw.pick(COLOURS) if draw.chance(0.5) else ""
        orientation = self._orient(draw, i) if draw.chance(0.4) else "upright"
        size = draw.pick(("small", "large")) if count == 1 and draw.chance(0.35) else "medium"
        turns = {"on its side": 1 + 2 * draw.below(2), "upside down": 2}.get(orientation, 0)
        ratio = self._ratio(i, turns)
        boxes = (_one_box(draw, ratio, SIZES[size]),) if count == 1 else _boxes(draw, ratio, count)
        return Attributes(
            "objects",
            (noun,),
            (self._label(i),),
            self.emoji.styles[self.emoji.style[i]],
            (colour,),
            count,
            orientation,
            size=size,
            background=_ground(draw, 0.25, self._clear(i, colour)),
            boxes=boxes,
            images=(i,),
            turns=turns,
        )

    def _draw_pair(self, draw: Draw) -> Attributes:
        first, i = self._pick(draw)
        style = int(self.emoji.style[i])
        second, j = draw.pick(self._of_style[style])
        while second == first:
            second, j = draw.pick(self._of_style[style])
        colours = tuple(draw.pick(COLOURS) if draw.chance(0.3) else "" for _ in range(2))
        relation = draw.pick(RELATIONS)
        boxes = _pair_boxes(draw, self._ratio(i, 0), self._ratio(j, 0), relation)
        ground = _ground(draw, 0.2, self._clear(i, colours[0]) & self._clear(j, colours[1]))
        return Attributes(
            "pair",
            (first, second),
            (self._label(i), self._label(j)),
            self.emoji.styles[style],
            colours,
            relation=relation,
            background=ground,
            boxes=boxes,
            images=(i, j),
        )

    def _draw_hand(self, draw: Draw) -> Attributes:
        fingers, drawing = draw.below(6), draw.pick(hands.DRAWINGS)
        hand = hands.draw_hand(draw, fingers, drawing)
        x0, y0, x1, y1 = hands.extent(hand)
        box = _one_box(draw, (x1 - x0) / (y1 - y0), draw.uniform(0.7, 0.95))
        ground = _ground(draw, 0.3, _far_from(oklab(np.array(hands.shown(hand), dtype=np.uint8))))
        return Attributes(
            "hand",
            ("hand",),
            ("",),
            drawing,
            fingers=fingers,
            background=ground,
            tone=hand.tone,
            boxes=(box,),
            hand=hand,
        )

    @property
    def plain(self) -> tuple[int, ...]:
        """The images that plain scenes show."""
        return tuple(self._plain)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all concepts that scenes of this split can show: a judge's classes."""
        images = [*self._plain, *(i for choices in self._of_noun.values() for i in choices)]
        return tuple(self.emoji.concepts[c].label for c in np.unique(self.emoji.concept[images]))

    def _pick(self, draw: Draw) -> tuple[str, int]:
        noun = draw.pick(self.nouns)
        return noun, draw.pick(self._of_noun[noun])

    def _orient(self, draw: Draw, i: int) -> str:
        """A way of turning image i that can be seen."""
        possible = [
            *(("on its side", "upside down") if self.emoji.turn[i] >= TURNED else ()),
            *(("mirrored",) if self.emoji.mirror[i] >= FLIPPED and self.emoji.agrees[i] else ()),
        ]
        return draw.pick(possible) if possible else "upright"

    def _ratio(self, i: int, turns: int) -> float:
        """Width over height of image i without its margin, turned."""
        x0, y0, x1, y1 = self.emoji.box[i].tolist()
        return (x1 - x0) / (y1 - y0) if turns % 2 == 0 else (y1 - y0) / (x1 - x0)

    def _label(self, i: int) -> str:
        return self.emoji.concepts[self.emoji.concept[i]].label

    def _clear(self, i: int, colour: str) -> set[str]:
        """The grounds that image i, painted `colour`, stands out from."""
        if colour:
            return _far_from(LAB[colour])
        return {name for name, lost in zip(GROUNDS, self.emoji.clash[i]) if lost < LOST} & _far_from(
            self.emoji.lab[i]
        )

    # ---- pixels

    def _objects(self, a: Attributes) -> list[tuple[int, str, tuple[Box, ...]]]:
        if a.kind == "pair":
            return [(i, colour, (box,)) for i, colour, box in zip(a.images, a.colours, a.boxes)]
        return [(a.images[0], a.colour, a.boxes)]

    def _sprite(self, i: int, colour: str, a: Attributes) -> np.ndarray:
        x0, y0, x1, y1 = self.emoji.box[i].tolist()
        rgba = self.emoji.rgba(i)[y0:y1, x0:x1]
        if colour:
            rgba = recolour(rgba, colour)
        return rgba[:, ::-1] if a.orientation == "mirrored" else np.rot90(rgba, a.turns)


NOUN_SHARE = (
    0.8  # of a narrowed world's concepts; the rest are faces, gestures, symbols, as users ask for them
)


def commonest(emoji: Emoji, n: int) -> np.ndarray:
    """The n concepts that the most free vendors drew, four fifths of them nouns, ascending; equal ones in
    emojibase's order.

    Training never shows the 24 nouns kept for personalisation, flags or clock faces: they are left out.
    BadInput: n < 10.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 10:
        raise BadInput(f"a narrowed world has at least 10 concepts, given {n!r}")
    free = np.array([TRAINABLE[s] for s in emoji.styles])[emoji.style] & (emoji.tone == 0)
    drawn = np.bincount(emoji.concept[free], minlength=len(emoji.concepts))
    order = np.argsort(-drawn, kind="stable").tolist()
    concepts = emoji.concepts
    nouns = [k for k in order if concepts[k].label in NOUNS and concepts[k].label not in emoji.held_out]
    others = [
        k
        for k in order
        if concepts[k].label not in NOUNS and concepts[k].group != "flags" and concepts[k].subgroup != "time"
    ]
    several = min(round(n * NOUN_SHARE), len(nouns))
    return np.sort(np.array([*nouns[:several], *others[: n - several]], dtype=np.int64))


def _vocabulary(emoji: Emoji, split: str, things: Mapping[str, str]) -> dict[str, list[int]]:
    """The pictures of every noun in a split of `emoji`, by free vendors; nouns without any are left out."""
    number = {c.label: k for k, c in enumerate(emoji.concepts)}
    inside: dict[int, list[int]] = {}
    for i in emoji.members(split).tolist():
        if TRAINABLE[emoji.styles[emoji.style[i]]] and emoji.tone[i] == 0:
            inside.setdefault(int(emoji.concept[i]), []).append(i)
    return {
        noun: inside[number[label]]
        for label, noun in things.items()
        if label in number and number[label] in inside
    }


def _by_style(emoji: Emoji, of_noun: dict[str, list[int]]) -> dict[int, list[tuple[str, int]]]:
    """All (noun, picture) of each vendor; vendors with fewer than two have no pairs."""
    found: dict[int, list[tuple[str, int]]] = {}
    for noun, images in of_noun.items():
        for i in images:
            found.setdefault(int(emoji.style[i]), []).append((noun, i))
    return found


def _far_from(lab: np.ndarray) -> set[str]:
    return {
        name
        for name, ground in GROUND_LAB.items()
        if name != "white" and np.linalg.norm(lab - ground) > CONTRAST
    }


def _ground(draw: Draw, share: float, clear: set[str]) -> str:
    """White, or with the probability `share` one of the grounds from which everything stands out."""
    possible = [name for name in GROUNDS if name in clear]
    return draw.pick(possible) if draw.chance(share) and possible else "white"


def _tone(emoji: Emoji, i: int) -> str:
    return ("", *list(hands.TONES)[1:], "two")[int(emoji.tone[i])]


def _unit_box(emoji: Emoji, i: int) -> Box:
    x0, y0, x1, y1 = (float(v) / emoji.size for v in emoji.box[i])
    return x0, y0, x1, y1


# ---- places


def _fit(ratio: float, width: float, height: float) -> tuple[float, float]:
    """The largest (w, h) with w / h = ratio inside width x height."""
    return (width, width / ratio) if ratio * height > width else (height * ratio, height)


def _about(x: float, y: float, w: float, h: float) -> Box:
    """The box of w x h about (x, y), moved into the picture."""
    x, y = min(max(x, w / 2), 1 - w / 2), min(max(y, h / 2), 1 - h / 2)
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def _one_box(draw: Draw, ratio: float, side: float) -> Box:
    w, h = _fit(ratio, side, side)
    room = 0.5 - side / 2
    return _about(0.5 + draw.uniform(-room, room), 0.5 + draw.uniform(-room, room), w, h)


def _boxes(draw: Draw, ratio: float, count: int) -> tuple[Box, ...]:
    """`count` boxes of one size in different cells of a grid, each anywhere in its cell: they never touch."""
    rows, columns = draw.pick(GRIDS[count])
    w, h = _fit(ratio, min(FILL / columns, 0.45), min(FILL / rows, 0.45))
    boxes = []
    for cell in draw.sample(range(rows * columns), count):
        x, y = (cell % columns + 0.5) / columns, (cell // columns + 0.5) / rows
        room = (FILL + 0.08) / columns - w, (FILL + 0.08) / rows - h
        boxes.append(
            _about(x + draw.uniform(-0.5, 0.5) * room[0], y + draw.uniform(-0.5, 0.5) * room[1], w, h)
        )
    return tuple(boxes)


def _pair_boxes(draw: Draw, first: float, second: float, relation: str) -> tuple[Box, Box]:
    """Boxes of two objects (by their ratios) so that `relation` holds of the first to the second, and
    clearly.
    """
    (w1, h1), (w2, h2) = sizes = (_fit(first, 0.42, 0.42), _fit(second, 0.42, 0.42))
    if relation in ("above", "below"):
        rows = (0.25, 0.75) if relation == "above" else (0.75, 0.25)
        a, b = (
            _about(0.5 + draw.uniform(-0.12, 0.12), y + draw.uniform(-0.03, 0.03), *wh)
            for y, wh in zip(rows, sizes)
        )
        return a, b
    if relation == "next to":
        y, turn = 0.5 + draw.uniform(-0.2, 0.2), draw.below(2)
        left, right = (w1, w2) if turn == 0 else (w2, w1)
        edge = 0.5 + (left - right) / 2  # where the two meet
        places = (edge - 0.02 - left / 2, edge + 0.02 + right / 2)
        return _about(places[turn], y, w1, h1), _about(places[1 - turn], y, w2, h2)
    columns = (0.25, 0.75) if relation == "left of" else (0.75, 0.25)
    y = 0.5 + draw.uniform(-0.15, 0.15)
    a, b = (
        _about(x + draw.uniform(-0.03, 0.03), y + draw.uniform(-0.06, 0.06), *wh)
        for x, wh in zip(columns, sizes)
    )
    return a, b


# ---- pixels


def _resize(rgba: np.ndarray, w: int, h: int) -> np.ndarray:
    if rgba.shape[:2] == (h, w):
        return rgba
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(rgba)).resize((w, h), Image.Resampling.BICUBIC)
    )  # PIL weighs colours by alpha


def _put(canvas: np.ndarray, rgba: np.ndarray, box: Box) -> None:
    """Lay `rgba`, scaled to `box`, over the canvas in place; edges go to the nearest pixel."""
    side = len(canvas)
    x0, y0 = (min(round(v * side), side - 1) for v in box[:2])
    x1, y1 = (max(min(round(v * side), side), low + 1) for v, low in zip(box[2:], (x0, y0)))
    canvas[y0:y1, x0:x1] = over(_resize(rgba, x1 - x0, y1 - y0), canvas[y0:y1, x0:x1])


def _cut_hand(hand: hands.Hand, box: Box, side: int) -> np.ndarray:
    """The hand without its margin, drawn as large as the box is."""
    extent = hands.extent(hand)
    full = round(side * (box[3] - box[1]) / (extent[3] - extent[1]))
    x0, y0, x1, y1 = (round(v * full) for v in extent)
    return hands.picture(hand, full)[y0:y1, x0:x1]


def _average(x: np.ndarray, k: int) -> np.ndarray:
    """Blocks of k x k pixels averaged, to the nearest."""
    if k == 1:
        return x
    n = len(x) // k
    return ((x.reshape(n, k, n, k, 3).sum((1, 3), dtype=np.uint32) + k * k // 2) // (k * k)).astype(np.uint8)


# ---- words

COUNTED = ("raised finger", "extended finger", "finger")
TURN_WORDS = {
    "on its side": ("on its side", "lying on its side", "turned on its side"),
    "upside down": ("upside down", "turned upside down"),
    "mirrored": ("mirrored", "seen in a mirror", "mirror image"),
}
RELATION_WORDS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "next to": ("next to", "beside"),
}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
DRAWING_WORDS = {
    "flat": "flat drawing",
    "outlined": "outlined drawing",
    "line": "line drawing",
    "shaded": "shaded drawing",
    "glove": "gloved hand",
    "silhouette": "silhouette",
}


def caption(a: Attributes, draw: Draw) -> str:
    """One way of saying what `a` is, lower case.

    Always said: the nouns, colours, a count above 1, an orientation but upright, a relation, the number of
    fingers, a size but medium, a ground but white. Sometimes: the style, the skin, which hand, and of the
    rest that it is upright, one, or on white.
    """
    if a.kind == "plain":
        return _say_plain(a, draw)
    said = {"objects": _say_objects, "pair": _say_pair, "hand": _say_hand}[a.kind](a, draw)
    if a.background != "white" or draw.chance(0.06):
        said = draw.pick(
            (
                f"{said} on {article(a.background)} background",
                f"{said}, {a.background} background",
                f"{said} in front of {article(a.background)} background",
            )
        )
    if a.kind != "hand" and draw.chance(0.25):
        said = _with_style(said, a.style, draw)
    return said if draw.chance(0.9) else f"a picture of {said}"


def _with_style(said: str, style: str, draw: Draw) -> str:
    return draw.pick(
        (f"{said} in {style} style", f"{said}, {style} style", f"{said}, {style}", f"{style} emoji of {said}")
    )


def _say_plain(a: Attributes, draw: Draw) -> str:
    label = a.nouns[0]
    if label.startswith("flag: "):
        label = draw.pick((label, f"flag of {label[6:]}"))
    elif ": " in label and not label.startswith(("keycap", "family", "kiss", "couple")):
        label = draw.pick((label, label.replace(": ", " with ")))
    noun = NOUNS.get(a.concepts[0])
    tags = [t for t in a.names if t != noun]
    way = draw.uniform()
    if way < 0.20:
        return _with_style(label, a.style, draw)
    if way < 0.30 and tags:
        return ", ".join((label, *draw.sample(tags, 1 + draw.below(min(3, len(tags))))))
    if way < 0.40 and tags:
        return ", ".join(draw.sample(tags, 1 + draw.below(min(3, len(tags)))))
    if way < 0.60 and noun:
        return article(noun)
    if way < 0.68:
        return f"{label} emoji"
    return label


def _turned(a: Attributes, draw: Draw) -> str:
    """How it is turned, in words; "" where that is not said."""
    if a.orientation != "upright":
        return draw.pick(TURN_WORDS[a.orientation])
    return "upright" if draw.chance(0.06) else ""


def _say_objects(a: Attributes, draw: Draw) -> str:
    noun, words = a.nouns[0], []
    if a.size != "medium":
        words.append(draw.pick(SIZE_WORDS[a.size]))
    turned = _turned(a, draw)
    if turned == "mirrored":
        words, turned = [*words, turned], ""
    words += [a.colour] * bool(a.colour)
    thing = " ".join((*words, noun if a.count == 1 else plural(noun)))
    if a.count == 1:
        thing = f"one {thing}" if draw.chance(0.08) else article(thing)
    else:
        thing = f"{a.count if draw.chance(0.12) else NUMBER[a.count]} {thing}"
        turned = turned.replace("its side", "their sides" if draw.chance(0.5) else "their side")
    if turned == "mirror image":
        return f"{turned} of {thing}"
    return f"{thing} {turned}".strip()


def _say_pair(a: Attributes, draw: Draw) -> str:
    first, second = (
        article(" ".join(w for w in (colour, noun) if w)) for noun, colour in zip(a.nouns, a.colours)
    )
    return f"{first} {draw.pick(RELATION_WORDS[a.relation])} {second}"


def _say_hand(a: Attributes, draw: Draw) -> str:
    assert a.hand is not None and a.fingers is not None
    hand = draw.pick(("hand", f"{a.hand.side} hand"))
    drawing = DRAWING_WORDS[a.style] if draw.chance(0.35) else ""
    if drawing == "gloved hand":
        hand, drawing = hand.replace("hand", "gloved hand"), ""
    number = str(a.fingers) if draw.chance(0.15) else NUMBER[a.fingers]
    fingers = f"{number} {draw.pick(COUNTED)}{'' if a.fingers == 1 else 's'}"
    who = f"{article(hand)} with {a.tone} skin tone" if a.tone and draw.chance(0.5) else article(hand)
    plainly = f"{who}, {fingers}" if " with " in who else f"{who} with {fingers}"
    shown = draw.pick((f"{who} showing {fingers}", f"{who} holding up {fingers}", plainly))
    if a.fingers == 0 and draw.chance(0.5):
        shown = draw.pick((f"{who} making a fist with no fingers raised", f"{who}, closed, no finger raised"))
    return f"{article(drawing)} of {shown}" if drawing else shown
