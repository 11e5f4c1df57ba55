"""From the vendors' packages to the prepared file of `emoji`: fetch, match each drawing to its code points,
render, measure, pack.

Every step can be cut and goes on where it was: packages are verified one by one, each vendor's pictures are
kept as soon as they are drawn (`<style>-<size>.drawn`), and the finished file appears under its name at once
or not at all.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL import __version__ as pillow

from unnoise.base.colour import GROUND_LAB, oklab
from unnoise.base.errors import BadInput
from unnoise.base.write import put
from unnoise.data.delivery import Progress, deliver, npm
from unnoise.data.emoji import FORMAT, STARTER, Concept, Emoji, Variant, checksum, path
from unnoise.data.sources import ARTWORK, SOURCES, TEXTS, Artwork

CANVAS = 128  # every drawing is rendered at this size and averaged down
FLAGS = ("country-flag", "subdivision-flag", "flag")
NOT_MICROSOFT = ("3d",)  # packs whose flags are of another, unstated origin: left out
MAX_TAGS = 16
LISTS = "emojibase (MIT), Unicode CLDR annotations (Unicode License v3), emojilib (MIT)"
VISIBLE = 12  # alpha, of 255
CLASH = 0.16  # nearer to a ground than this, in Oklab, a pixel is lost on it
_TAG = re.compile(r"[a-z][a-z0-9 '&.-]+")
Picture = tuple[int, Image.Image]  # the number of its variant, RGBA at CANVAS


def prepare(name: str, say: Progress) -> list[Path]:
    """Make sure that the emoji set `name` is whole in the cache; returns its file and its attribution. Raises
    BadInput in one line.
    """
    goal = path(name)
    if goal == STARTER:
        return [goal]
    if not _whole(goal):
        _renderer()
        try:
            for package in (*TEXTS, *(a.package for a in ARTWORK)):
                deliver(name, goal.parent, [(f"npm {package.npm}", npm(package.npm)[1])], package.files, say)
            _make(goal, SOURCES[name].size, say)
        except OSError as error:
            raise BadInput(f"cannot prepare {name!r} in {goal.parent}: {error.strerror or error}") from None
    notice = goal.parent / "ATTRIBUTION.md"
    if not notice.is_file():
        put(notice, attribution(Emoji(goal, verify=False)).encode())
    return [goal, notice]


def _whole(file: Path) -> bool:
    try:
        return file.is_file() and bool(Emoji(file))
    except BadInput:
        return False


# ---- words


@dataclass(frozen=True)
class Book:
    """Every concept and variant, and which variant (its number) each code, name and squeezed name stands
    for.
    """

    concepts: tuple[Concept, ...]
    variants: tuple[Variant, ...]
    code: dict[str, int]
    name: dict[str, int]
    squeezed: dict[str, int]


def read_book(place: Path) -> Book:
    """The words of all lists in `place`, joined."""
    concepts, variants = _listed(place)
    code = {v.code: k for k, v in enumerate(variants)}
    name = _first((_slug(v.label), k) for k, v in enumerate(variants))
    for chars in sorted(place.glob("*-chars.json")):
        name = name | {n: k for n, k in _inverse(_json(chars), code).items() if n not in name}
    old = (
        (_slug(text), code[_code(c)])
        for c, text in _json(place / "unicode-names.json").items()
        if _code(c) in code
    )
    squeezed = _first((n.replace("-", ""), k) for n, k in (*name.items(), *old))
    return Book(concepts, variants, code, name, squeezed)


def _listed(place: Path) -> tuple[tuple[Concept, ...], tuple[Variant, ...]]:
    """Every concept of emojibase and its variants, plain form first."""
    groups, keywords = _json(place / "groups.json"), _keywords(place)
    concepts, variants = [], []
    for entry in _json(place / "emojibase.json"):
        if "group" not in entry:
            continue  # the letters that flags are spelled with
        label, code = entry["label"], _code(entry["hexcode"])
        group, subgroup = (groups[kind][str(entry[kind[:-1]])] for kind in ("groups", "subgroups"))
        variants.append(Variant(len(concepts), 0, code, label))
        for skin in entry.get("skins", ()):
            tone, its_code = _tone(skin["tone"]), _code(skin["hexcode"])
            variants.append(Variant(len(concepts), tone, its_code, skin["label"]))
        tags = _tags(label, [*entry.get("tags", ()), *keywords.get(code, ())])
        concepts.append(Concept(label, code, group, subgroup, tags))
    return tuple(concepts), tuple(variants)


def _keywords(place: Path) -> dict[str, list[str]]:
    """Keywords by code, of CLDR and then emojilib."""
    known: dict[str, list[str]] = {}
    for text, words in _json(place / "cldr.json")["annotations"]["annotations"].items():
        known.setdefault(_code_of(text), []).extend(words.get("default", ()))
    for text, words in _json(place / "emojilib.json").items():
        known.setdefault(_code_of(text), []).extend(w.replace("_", " ") for w in words)
    return known


def _tags(label: str, words: list[str]) -> tuple[str, ...]:
    kept = dict.fromkeys(w.lower() for w in words if _TAG.fullmatch(w.lower()) and w.lower() != label.lower())
    return tuple(kept)[:MAX_TAGS]


def _first(pairs) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found


def _inverse(chars: dict[str, str], code: dict[str, int]) -> dict[str, int]:
    return _first((name, code[_code(c)]) for c, name in chars.items() if _code(c) in code)


def _code(text: str) -> str:
    """Code points as upper-case hexadecimal, without the variation selector that asks for colour."""
    return "-".join(p.lstrip("0").zfill(4) for p in text.upper().split("-") if p != "FE0F")


def _code_of(emoji: str) -> str:
    return _code("-".join(f"{ord(c):04X}" for c in emoji))


def _tone(tone: int | list[int]) -> int:
    tones = {tone} if isinstance(tone, int) else set(tone)
    return tones.pop() if len(tones) == 1 else 6


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "")).strip("-")


# ---- pictures


def pictures(artwork: Artwork, place: Path, book: Book) -> Iterator[Picture]:
    """All of a vendor's drawings that are matched to a variant, one each, in the order of the variants."""
    file = place / artwork.package.files[0].name
    if file.suffix == ".tgz":
        yield from _from_webp(file, artwork.style in NOT_MICROSOFT, book)
    else:
        chars = place / f"{artwork.style}-chars.json"
        yield from _from_svg(_json(file), _inverse(_json(chars), book.code) if chars.is_file() else {}, book)


def _from_svg(icons: dict, own: dict[str, int], book: Book) -> Iterator[Picture]:
    matched: dict[int, tuple[int, str]] = {}
    for name, icon in icons["icons"].items():
        rank, k = _match(name, own, book)
        if k is not None and not icon.get("hidden") and rank < matched.get(k, (9, ""))[0]:
            matched[k] = (rank, name)
    for k, (_, name) in sorted(matched.items()):
        yield k, _render(icons, name)


def _match(name: str, own: dict[str, int], book: Book) -> tuple[int, int | None]:
    """How surely an icon's name means a variant (0 is surest), and which: by the set's own list, by label, by
    the squeezed label.
    """
    flag = re.sub("^flag-for-(flag-)?", "flag-", name)
    for rank, (names, key) in enumerate(
        ((own, name), (book.name, name), (book.name, flag), (book.squeezed, name.replace("-", "")))
    ):
        if key in names:
            return rank, names[key]
    return 9, None


def _renderer():
    try:
        import resvg_py
    except ImportError:
        raise BadInput("drawing the emoji needs resvg-py: pip install 'unnoise[data]'") from None
    return resvg_py


def _render(icons: dict, name: str) -> Image.Image:
    icon = icons["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{CANVAS}"'
        f' height="{CANVAS}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )
    try:
        png = bytes(_renderer().svg_to_bytes(svg_string=svg, skip_system_fonts=True))
    except ValueError as error:
        raise BadInput(f"resvg-py cannot draw {name!r} of {icons.get('prefix')}: {error}") from None
    return Image.open(io.BytesIO(png)).convert("RGBA")


def _from_webp(file: Path, no_flags: bool, book: Book) -> Iterator[Picture]:
    found: dict[int, bytes] = {}
    with tarfile.open(file) as archive:
        for member in archive:
            k = book.code.get(_code(Path(member.name).stem)) if member.name.endswith(".webp") else None
            stream = archive.extractfile(member) if k is not None else None
            if (
                k is None
                or stream is None
                or (no_flags and book.concepts[book.variants[k].concept].subgroup in FLAGS)
            ):
                continue
            found.setdefault(k, stream.read())
    for k, raw in sorted(found.items()):
        yield k, Image.open(io.BytesIO(raw)).convert("RGBA").resize((CANVAS, CANVAS), Image.Resampling.BOX)


# ---- the file


def _make(goal: Path, size: int, say: Progress) -> None:
    """Draw every vendor that has not been drawn, then join them."""
    book, parts = read_book(goal.parent), []
    for number, artwork in enumerate(ARTWORK):
        part = goal.parent / f"{artwork.style}-{size}.drawn"
        if not _whole(part):
            say(f"{goal.stem}: drawing {artwork.title} ({number + 1} of {len(ARTWORK)})")
            images = pictures(artwork, goal.parent, book)
            put(part, pack(book, size, [(k, number, _webp(image, size)) for k, image in images]))
        parts.append(part)
    drawn = [
        (book.code[e.variants[e.variant[i]].code], int(e.style[i]), e.raw(i))
        for e in map(Emoji, parts)
        for i in range(len(e))
    ]
    put(goal, pack(book, size, drawn))
    for part in parts:
        part.unlink()


def _webp(image: Image.Image, size: int) -> bytes:
    """One image as lossless WebP. PIL averages colours weighted by alpha; what nobody sees is set to 0, so
    that it costs nothing.
    """
    pixels = np.array(image if image.width == size else image.resize((size, size), Image.Resampling.BOX))
    pixels[pixels[..., 3] == 0] = 0
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="WEBP", lossless=True, quality=80, method=4, exact=True)
    return out.getvalue()


def pack(book: Book, size: int, drawn: list[tuple[int, int, bytes]]) -> bytes:
    """The prepared file of (variant, style, WebP) triples; empty pictures are dropped. Words: all of `book`
    that have a picture.
    """
    from safetensors.numpy import save

    decoded = [np.asarray(Image.open(io.BytesIO(raw)).convert("RGBA")) for _, _, raw in drawn]
    keep = [i for i, x in enumerate(decoded) if (x[..., 3] > VISIBLE).any()]
    drawn, decoded = [drawn[i] for i in keep], [decoded[i] for i in keep]
    used = sorted({k for k, _, _ in drawn})
    new_variant = {old: new for new, old in enumerate(used)}
    tensors = {
        "pixels": np.frombuffer(b"".join(raw for _, _, raw in drawn), dtype=np.uint8),
        "ends": np.cumsum([len(raw) for _, _, raw in drawn], dtype=np.int64),
        "variant": np.array([new_variant[k] for k, _, _ in drawn], dtype=np.int32),
        "style": np.array([s for _, s, _ in drawn], dtype=np.uint8),
        **measures(decoded),
    }
    tensors["agrees"] = _agreement(decoded, tensors["variant"], tensors["style"])
    index = _index(book, used)
    header = {"format": FORMAT, "size": size, "sha256": checksum(_Opened(tensors), index), "index": index}
    # one entry: safetensors writes several in any order
    return save(tensors, {"emoji": json.dumps(header, ensure_ascii=False)})


def _index(book: Book, used: list[int]) -> str:
    """The words of the variants `used`, and of their concepts, as JSON."""
    concepts = sorted({book.variants[k].concept for k in used})
    new_concept = {old: new for new, old in enumerate(concepts)}
    words = {
        "styles": [a.style for a in ARTWORK],
        "made_with": {"pillow": pillow, "resvg-py": _resvg_version()},
        "concepts": [
            [c.label, c.code, c.group, c.subgroup, list(c.tags)] for c in (book.concepts[k] for k in concepts)
        ],
        "variants": [
            [new_concept[v.concept], v.tone, v.code, v.label] for v in (book.variants[k] for k in used)
        ],
    }
    return json.dumps(words, ensure_ascii=False)


@dataclass(frozen=True)
class _Opened:
    """Tensors in memory, read as an open safetensors file is."""

    tensors: dict[str, np.ndarray]

    def keys(self):
        return self.tensors.keys()

    def get_tensor(self, key: str) -> np.ndarray:
        return self.tensors[key]


def _resvg_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("resvg-py")
    except PackageNotFoundError:
        return "none"


def measures(decoded: list[np.ndarray]) -> dict[str, np.ndarray]:
    """What scenes must know of each RGBA picture before they draw it: see `Emoji`."""
    boxes, means, clash, turn, mirror = zip(
        *map(_measured, decoded)
    )  # picture by picture: the wide numbers of one at a time
    bytes_of = lambda shares: np.round(255 * np.array(shares)).astype(np.uint8)
    return {
        "box": np.array(boxes, dtype=np.uint8),
        "lab": np.array(means, dtype=np.float32),
        "clash": bytes_of(clash),
        "turn": bytes_of(turn),
        "mirror": bytes_of(mirror),
    }


def _measured(x: np.ndarray) -> tuple[tuple[int, int, int, int], np.ndarray, np.ndarray, float, float]:
    """(box, mean colour in Oklab, share that clashes with each ground, unlikeness turned, unlikeness
    mirrored) of a picture.
    """
    box, lab = tight(x), oklab(x[x[..., 3] > VISIBLE][:, :3])
    clash = [(np.linalg.norm(lab - ground, axis=-1) < CLASH).mean() for ground in GROUND_LAB.values()]
    small = _small(x, box)
    turn = min(unlike(small, np.rot90(small, k)) for k in (1, 2, 3))
    return box, lab.mean(0), np.array(clash), turn, unlike(small, small[:, ::-1])


def tight(rgba: np.ndarray) -> tuple[int, int, int, int]:
    """The box x0, y0, x1, y1 (ends excluded) of what can be seen, which must be something."""
    visible = rgba[..., 3] > VISIBLE
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def unlike(a: np.ndarray, b: np.ndarray) -> float:
    """How different two premultiplied RGBA pictures look, 0 (the same) to 1 (nothing in common)."""
    return float(np.abs(a - b).sum() / max(a.sum() + b.sum(), 1e-9))


def _small(rgba: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The picture without its margin, in the middle of 24x24, premultiplied."""
    cut = Image.fromarray(rgba).crop(box)
    scale = 24 / max(cut.size)
    cut = cut.resize(
        (max(1, round(cut.width * scale)), max(1, round(cut.height * scale))), Image.Resampling.BOX
    )
    out = Image.new("RGBA", (24, 24))
    out.paste(cut, ((24 - cut.width) // 2, (24 - cut.height) // 2))
    x = np.asarray(out) / 255
    return np.concatenate([x[..., :3] * x[..., 3:], x[..., 3:]], axis=-1)


def _agreement(decoded: list[np.ndarray], variant: np.ndarray, style: np.ndarray) -> np.ndarray:
    """(n,) uint8: whether each picture is more like the first vendor's of the same variant than like its
    mirror image.
    """
    small = [_small(x, tight(x)) for x in decoded]
    first: dict[int, int] = {}
    for i in np.argsort(style, kind="stable").tolist():
        first.setdefault(int(variant[i]), i)
    lead = [small[first[int(v)]] for v in variant]
    return np.array(
        [unlike(s, one) <= unlike(s, one[:, ::-1]) for s, one in zip(small, lead)], dtype=np.uint8
    )


def attribution(emoji: Emoji) -> str:
    """Who drew what is in `emoji`, under which terms: Markdown."""
    count = dict(zip(emoji.styles, np.bincount(emoji.style, minlength=len(emoji.styles)).tolist()))
    rows = [_credit(artwork, count[artwork.style]) for artwork in ARTWORK if count.get(artwork.style)]
    return "\n".join(
        [
            "# The artwork in this set",
            "",
            (
                f"{len(emoji)} pictures of {len(emoji.concepts)} emoji at {emoji.size}x{emoji.size} pixels,"
                " rendered from the vendors' drawings and otherwise unchanged; scenes made from them are"
                " recoloured, turned, scaled and combined."
            ),
            "",
            "| style | set | authors | licence of the artwork | published at | pictures |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Labels and tags: {LISTS}.",
            "",
        ]
    )


def _credit(artwork: Artwork, n: int) -> str:
    use = "" if artwork.trainable else " (evaluation only)"
    return (
        f"| {artwork.style} | {artwork.title} | {artwork.authors} | {artwork.licence}{use} |"
        f" {artwork.link} | {n} |"
    )


def _json(file: Path):
    return json.loads(file.read_bytes())
