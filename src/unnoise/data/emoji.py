"""Colour emoji as one memory-mapped file: every vendor's picture of every concept, with its words, its split
and its place in the mixture.

    concept   what is meant ("waving hand"): label, code point, emojibase group and subgroup, tags
    variant   a concept in one skin tone ("waving hand: dark skin tone"); tone 0 is the concept itself, 6 two
              tones at once
    image     a variant as one vendor drew it: RGBA with straight alpha, lossless WebP, (size, size, 4)

    <cache>/data/emoji/emoji-64.safetensors    pixels (all files end to end) and where each ends; variant,
                                               style and measures an image; the words as JSON in the header;
                                               written by `prepare`, whole and verified

Splits of images, by hash and for ever: "train"; "test": 1 in 33 (concept, vendor) pairs, of concepts that
three or more free vendors drew; "personal": all pictures of 24 nouns, never shown in training; "unseen":
share-alike vendors, for evaluation alone.
"""

from __future__ import annotations

import hashlib
import io
import json
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unnoise.base.errors import BadInput, unknown
from unnoise.data.delivery import folder
from unnoise.data.draw import fate
from unnoise.data.nouns import HELD_OUT, plain
from unnoise.data.sources import ARTWORK, SOURCES

FORMAT = "unnoise-emoji-1"
SPLITS = ("train", "test", "personal", "unseen")
TONES = ("", "light", "medium-light", "medium", "medium-dark", "dark", "two")
STARTER = Path(__file__).parent / "starter" / "emoji-32.safetensors"
TEST_SHARE = 33  # one (concept, vendor) pair in so many is kept for tests
TONED = 0.5  # of a concept's weight, the share of its skin tones together
# What would otherwise drown the rest: 262 flags, 31 clock faces, people by gender and role, families.
SUBGROUP_WEIGHT = {
    "country-flag": 0.1,
    "subdivision-flag": 0.1,
    "time": 0.4,
    "family": 0.3,
    "alphanum": 0.5,
    "geometric": 0.5,
    "person-role": 0.4,
    "person-gesture": 0.5,
    "person-activity": 0.4,
    "person-fantasy": 0.5,
    "person-sport": 0.5,
}
TRAINABLE = {a.style: a.trainable for a in ARTWORK}


@dataclass(frozen=True)
class Concept:
    """What an emoji means. `code` is its code points in hexadecimal, without variation selectors."""

    label: str
    code: str
    group: str
    subgroup: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """A concept (its number) in one skin tone (an index of `TONES`)."""

    concept: int
    tone: int
    code: str
    label: str


def path(name: str) -> Path:
    """Where the set `name` lies once it is prepared."""
    return STARTER if name == "emoji-starter" else folder("emoji") / f"emoji-{SOURCES[name].size}.safetensors"


def load_emoji(name: str = "emoji") -> Emoji:
    """The set "emoji", "emoji-128" or "emoji-starter". Raises BadInput: unknown, not fetched yet (says the
    command), or damaged.
    """
    names = [n for n, source in SOURCES.items() if source.size]
    if name not in names:
        raise unknown("emoji set", name, names)
    if not path(name).is_file():
        raise BadInput(
            f"data set {name!r} is not in the cache ({path(name)} is missing); run: unnoise data fetch {name}"
        )
    return Emoji(path(name))


def _opened(file: Path, verify: bool) -> tuple[Any, dict[str, Any]]:
    """(the open safetensors file, what its header says). BadInput: it is no emoji set, or not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        opened = safe_open(file, framework="np")
        meta = json.loads((opened.metadata() or {}).get("emoji", "{}"))
        if meta.get("format") != FORMAT:
            raise BadInput(f"its format is {meta.get('format')!r}, not {FORMAT!r}")
        opened.get_slice("pixels")
        if verify and checksum(opened, meta["index"]) != meta["sha256"]:
            raise BadInput("its content is not what was written (sha256 differs)")
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError, BadInput) as error:
        raise BadInput(
            f"{file} is no whole emoji set: {error}; to replace it, run: unnoise data fetch emoji"
        ) from None
    return opened, meta


class Emoji:
    """A prepared file, open. `concepts` and `variants` are its words; image i is of variant `variant[i]`,
    drawn by `styles[style[i]]`.

    `box` (n, 4) is the picture without its empty margin, x0 y0 x1 y1 in pixels; `lab` (n, 3) its mean colour
    in Oklab; `turn` and `mirror` (n,) in [0, 1] tell how different it looks when turned and when mirrored;
    `agrees` (n,) whether it faces as Noto's does; `clash` (n, grounds) in [0, 1] the share of it that would
    be lost on each of `colour.GROUNDS`.
    """

    def __init__(self, file: Path, verify: bool = True, held_out: tuple[str, ...] = HELD_OUT):
        """verify: read everything once, to see that it is whole. held_out: the labels that make up the split
        "personal".
        """
        self.file, self.held_out = file, held_out
        self._open, meta = _opened(file, verify)
        self._pixels = self._open.get_slice("pixels")
        index = json.loads(meta["index"])
        self.size: int = meta["size"]
        self.styles: tuple[str, ...] = tuple(index["styles"])
        self.concepts = tuple(Concept(*c[:4], tags=tuple(c[4])) for c in index["concepts"])
        self.variants = tuple(Variant(*v) for v in index["variants"])
        self.made_with: dict[str, str] = index["made_with"]
        column = self._open.get_tensor
        self._ends = np.concatenate([[0], column("ends")]).tolist()
        self.variant, self.style, self.box, self.lab = map(column, ("variant", "style", "box", "lab"))
        self.turn, self.mirror, self.clash = (column(key) / 255 for key in ("turn", "mirror", "clash"))
        self.agrees = column("agrees").astype(bool)
        self.concept = np.array([v.concept for v in self.variants], dtype=np.int64)[self.variant]
        self.tone = np.array([v.tone for v in self.variants], dtype=np.int64)[self.variant]

    def __reduce__(self):
        return Emoji, (self.file, False, self.held_out)  # a worker process opens the file for itself

    def __len__(self) -> int:
        return len(self.variant)

    def keeping(self, held_out: tuple[str, ...]) -> Emoji:
        """The same set with other concepts (their labels) kept from training."""
        other = copy(self)
        other.__dict__.pop("split", None)
        other.held_out = held_out
        return other

    def raw(self, i: int) -> bytes:
        """Image i as it is stored: WebP."""
        return self._pixels[self._ends[i] : self._ends[i + 1]].tobytes()

    def rgba(self, i: int) -> np.ndarray:
        """Image i: (size, size, 4) uint8, straight alpha."""
        return np.asarray(Image.open(io.BytesIO(self.raw(i))).convert("RGBA"))

    def image(self, i: int) -> np.ndarray:
        """Image i on white: (size, size, 3) uint8."""
        return over(self.rgba(i), np.full((self.size, self.size, 3), 255, dtype=np.uint8))

    def label(self, i: int) -> str:
        """What image i shows, in emojibase's words: "waving hand: dark skin tone"."""
        return plain(self.variants[self.variant[i]].label)

    @cached_property
    def split(self) -> np.ndarray:
        """(n,) the index in `SPLITS` of every image."""
        drawn = np.zeros(len(self.concepts), dtype=np.int64)  # free vendors of each concept
        for concept, style in {*zip(self.concept.tolist(), self.style.tolist())}:
            drawn[concept] += TRAINABLE[self.styles[style]]
        known: dict[tuple[int, int], int] = {}
        for pair in zip(self.concept.tolist(), self.style.tolist()):
            if pair not in known:
                known[pair] = SPLITS.index(
                    self._split(self.concepts[pair[0]].label, self.styles[pair[1]], int(drawn[pair[0]]))
                )
        return np.array(
            [known[pair] for pair in zip(self.concept.tolist(), self.style.tolist())], dtype=np.int64
        )

    def _split(self, concept: str, style: str, free_vendors: int) -> str:
        if concept in self.held_out:
            return "personal"
        if not TRAINABLE[style]:
            return "unseen"
        kept = free_vendors >= 3 and fate("emoji", concept, style) % TEST_SHARE == 0
        return "test" if kept else "train"

    def members(self, split: str) -> np.ndarray:
        """The numbers of the images in `split`, ascending."""
        if split not in SPLITS:
            raise unknown("split of emoji", split, SPLITS)
        return np.flatnonzero(self.split == SPLITS.index(split))

    def weights(self, split: str, of_concept: np.ndarray | None = None, tones: float = TONED) -> np.ndarray:
        """(n,) how often each image should be drawn; adds up to 1 over `split`, 0 elsewhere.

        Concepts weigh `of_concept` (concepts,), which is the same but for SUBGROUP_WEIGHT where it is not
        given; within one, its vendors weigh the same, and of one's share its skin tones together have the
        part `tones`.
        """
        inside = np.zeros(len(self), dtype=bool)
        inside[self.members(split)] = True
        pair = self.concept * len(self.styles) + self.style
        toned = self.tone > 0
        kind = pair * 2 + toned
        of_kind = np.bincount(kind[inside], minlength=2 * int(pair.max()) + 2)
        both = (of_kind[pair * 2] > 0) & (of_kind[pair * 2 + 1] > 0)
        share = np.where(both, np.where(toned, tones, 1 - tones), 1.0) / np.maximum(of_kind[kind], 1)
        vendors = np.bincount(np.unique(pair[inside]) // len(self.styles), minlength=len(self.concepts))
        if of_concept is None:
            of_concept = np.array([SUBGROUP_WEIGHT.get(c.subgroup, 1.0) for c in self.concepts])
        weight = np.where(
            inside, share * of_concept[self.concept] / np.maximum(vendors[self.concept], 1), 0.0
        )
        return weight / max(weight.sum(), 1e-300)

    def find(self, label: str, style: str | None = None) -> list[int]:
        """The images whose variant or concept is called `label` (plain form only for a concept), of one
        vendor or of all.
        """
        wanted = {k for k, v in enumerate(self.variants) if v.label.lower() == label.lower()}
        return [
            i
            for i, (v, s) in enumerate(zip(self.variant.tolist(), self.style.tolist()))
            if v in wanted and style in (None, self.styles[s])
        ]


def over(rgba: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """`rgba` (h, w, 4) laid over `ground` (h, w, 3), both uint8, rounded to the nearest; exact in
    integers.
    """
    alpha = rgba[..., 3:].astype(np.uint32)
    return ((rgba[..., :3] * alpha + ground * (255 - alpha) + 127) // 255).astype(np.uint8)


def checksum(tensors, index: str) -> str:
    """The sha256 of the words and of every tensor, in the order of their names; `tensors` is an open
    safetensors file.
    """
    digest = hashlib.sha256(index.encode())
    for key in sorted(tensors.keys()):
        digest.update(np.ascontiguousarray(tensors.get_tensor(key)).data)
    return digest.hexdigest()
