"""The captions of a folder of images, from one of two places:

    metadata.jsonl or metadata.csv   a row an image, its name relative to the file's own folder ("a/1.png") as
                                     file_name, its text as text, caption or prompt; in the folder itself or
                                     in any subfolder
    a text file beside each image    a/1.txt or a/1.caption for a/1.png, or a/1.png.txt; UTF-8, or UTF-16 with
                                     its mark

Either every image of a split has one caption, or none of the folder's images has. What looks like captions
and is not read is an error: captions are never dropped without a word.
"""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections import defaultdict
from pathlib import Path

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.text import short, sound

METADATA = ("metadata.jsonl", "metadata.csv")
NAME_KEYS = ("file_name", "filename", "file", "image")
TEXT_KEYS = ("text", "caption", "prompt")
BESIDE = (".txt", ".caption")
LOOKS_LIKE = (
    "metadata",
    "captions",
    "caption",
    "prompts",
    "prompt",
    "annotations",
)  # names of files that hold all captions at once
TABLES = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".ndjson", ".xlsx")
SIDECARS = (".json", ".tags", ".cap", ".text", ".prompt", ".yaml", ".yml", ".captions", ".description")
OTHER_TEXTS = (
    "readme",
    "license",
    "licence",
    "notice",
    "notes",
    "note",
    "attribution",
    "credits",
    "changelog",
    "copying",
    "source",
    "sources",
    "info",
    "about",
    "todo",
    "classes",
    "labels",
    "index",
    "requirements",
)
MOST_CAPTION = 2**16  # bytes
MOST_METADATA = 2**30
ACCEPTED = (
    f"{METADATA[0]} or {METADATA[1]} with {NAME_KEYS[0]} and {TEXT_KEYS[0]}, or a text file beside each"
    " image: a.txt for a.png"
)


def captions(
    base: Path, root: Path, pictures: list[Path], images: list[Path], files: list[Path]
) -> tuple[str, ...] | None:
    """One caption for each of `images`, in their order; None where the folder holds none.

    base: the folder that was given; root: the split of it that `images` are of; pictures: those of all
    splits; files: all files.
    """
    inside = [f for f in files if f.parent == base or f.is_relative_to(root)]
    _check_names(inside)
    tables = [f for f in inside if f.name.lower() in METADATA]
    beside = _beside(images, inside)
    if tables and beside:
        text = next(iter(beside.values()))
        raise BadInput(f"captions both in {tables[0]} and beside the images ({text}): keep one of the two")
    if tables:
        return _one_each(_tables(tables, pictures), images, root, str(tables[0]))
    _check_left_over(root, images, inside, beside)
    texts = {image: _caption_file(file) for image, file in beside.items()}
    return _one_each(texts, images, root, f"text files beside the images in {root}") if texts else None


def _one_each(texts: dict[Path, str], images: list[Path], root: Path, where: str) -> tuple[str, ...]:
    """The caption of each image, in their order. BadInput: one has none."""
    missing = [image for image in images if image not in texts]
    if missing:
        name, have = missing[0].relative_to(root).as_posix(), len(images) - len(missing)
        raise BadInput(f"captions for {have} of {len(images)} images ({where}): none for {name}")
    return tuple(texts[image] for image in images)


def _check_names(files: list[Path]) -> None:
    """BadInput for a file that by its name holds all captions, in a form that is not read."""
    for file in files:
        name = file.name.lower()
        if name not in METADATA and file.stem.lower() in LOOKS_LIKE and file.suffix.lower() in TABLES:
            raise BadInput(
                f"{file} is not read, though its name says that it holds captions (accepted: {ACCEPTED})"
            )


# --- tables -------------------------------------------------------------------------------------------------


def _tables(tables: list[Path], pictures: list[Path]) -> dict[Path, str]:
    """{image: its caption} of all metadata files. BadInput: a row that names no image, or an image that was
    named before.
    """
    texts: dict[Path, str] = {}
    for table in tables:
        names = _Names(table.parent, pictures)
        other = next((t for t in tables if t.parent == table.parent and t != table), None)
        if other:
            raise BadInput(f"{table.parent} holds {table.name} and {other.name}: keep one")
        rows = _json_rows(table) if table.suffix.lower() == ".jsonl" else _csv_rows(table)
        for number, name, text in rows:
            image = names.find(name, f"{table}, line {number}")
            if image in texts:
                raise BadInput(f"{table}, line {number}: a second caption for {short(name)}")
            texts[image] = text
    return texts


class _Names:
    """Images below a folder by the names that metadata gives them: as they are, else in one spelling of
    slashes and accents.
    """

    def __init__(self, folder: Path, pictures: list[Path]):
        self.folder = folder
        self.exact = {p.relative_to(folder).as_posix(): p for p in pictures if p.is_relative_to(folder)}
        self.plain: dict[str, list[Path]] = defaultdict(list)
        for name, path in self.exact.items():
            self.plain[_plain(name)].append(path)

    def find(self, name: str, where: str) -> Path:
        if name in self.exact:
            return self.exact[name]
        found = self.plain.get(_plain(name), [])
        if len(found) > 1:
            raise BadInput(
                f"{where} names {short(name)}, which could be {short(found[0].name)} or"
                f" {short(found[1].name)}"
            )
        if not found:
            raise BadInput(f"{where} names {short(name)}, which is not an image in {self.folder}")
        return found[0]


def _plain(name: str) -> str:
    """A relative name with forward slashes, without `./`, its accents composed."""
    first, *rest = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join([*([] if first == "." else [first]), *(p for p in rest if p not in (".", ""))])


def _json_rows(table: Path) -> list[tuple[int, str, str]]:
    rows = []
    for number, line in enumerate(_decoded(table, MOST_METADATA).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{table}, line {number}"
        try:
            row = read.parse_object(line, where)
        except BadInput as e:
            raise BadInput(
                f"{where}: expected {_expected()}: {str(e).removeprefix(where).strip(' :')}"
            ) from None
        rows.append((number, *_pair(row, where)))
    return rows


def _csv_rows(table: Path) -> list[tuple[int, str, str]]:
    """(line, name, text) of a table with a header, its cells parted by commas, semicolons or tabs."""
    text = _decoded(table, MOST_METADATA)
    by = _parted_by(text, table)
    (_, first), *lines = _cells(text, by, table)
    header = [c.strip().lower() for c in first]
    if len(set(header)) < len(header):
        raise BadInput(f"{table}, line 1: a column stands twice in {short(header)}")
    rows = []
    for number, row in lines:
        where = f"{table}, line {number}"
        if len(row) != len(header):
            raise BadInput(
                f"{where}: {len(row)} cells, and {len(header)} columns in the header: a text with {by!r} in"
                " it stands in quotes"
            )
        rows.append((number, *_pair(dict(zip(header, row)), where)))
    return rows


def _parted_by(text: str, table: Path) -> str:
    """What stands between the cells of a table. BadInput: its first line is no header."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    for by in ",;\t":
        if set(NAME_KEYS) & {c.strip(' "\r').lower() for c in first.split(by)}:
            return by
    raise BadInput(f"{table}, line 1: expected a header with {_expected_keys()}, got {short(first)}")


def _cells(text: str, by: str, table: Path) -> list[tuple[int, list[str]]]:
    """(line, cells) of each row that is not empty."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=by, strict=True)
        return [(reader.line_num, row) for row in reader if any(c.strip() for c in row)]
    except csv.Error as e:
        raise BadInput(f"{table} is not a table of comma-separated values: {e}") from None


def _pair(row: dict, where: str) -> tuple[str, str]:
    """(the image's name, its caption) of a row. BadInput: one of them is missing, empty, no text, or there
    are two of a kind.
    """
    name, text = (_only(row, keys, where) for keys in (NAME_KEYS, TEXT_KEYS))
    if not name or not text.strip():
        raise BadInput(f"{where}: {'the caption' if name else 'the name'} is empty; expected {_expected()}")
    return name, text.strip()


def _only(row: dict, keys: tuple[str, ...], where: str) -> str:
    found = {k: row[k] for k in keys if row.get(k) is not None}
    if not found:
        raise BadInput(f"{where}: expected {_expected()}, got {short(row, 80)}")
    values = list(found.values())
    if not all(isinstance(v, str) for v in values):
        raise BadInput(f"{where}: expected {_expected()}, got {short(row, 80)}")
    if any(v != values[0] for v in values):
        raise BadInput(f"{where}: {' and '.join(found)} differ: keep one of them")
    return values[0]


def _expected() -> str:
    return '{"file_name": "…", "text": "…"} (' + _expected_keys() + ")"


def _expected_keys() -> str:
    return f"one of {', '.join(NAME_KEYS)} and one of {', '.join(TEXT_KEYS)}"


# --- beside the images --------------------------------------------------------------------------------------


def _beside(images: list[Path], files: list[Path]) -> dict[Path, Path]:
    """{image: the text file beside it}. BadInput: two for one image, or one that two images share."""
    wanted: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for image in images:
        wanted[image.parent, _same(image.stem)].append(image)
        wanted[image.parent, _same(image.name)].append(image)
    found: dict[Path, Path] = {}
    for file in files:
        if file.suffix.lower() not in BESIDE:
            continue
        meant = wanted.get((file.parent, _same(file.stem)), [])
        if len(meant) > 1:
            raise BadInput(
                f"{file} could be the caption of {meant[0].name} or of {meant[1].name}: call it"
                f" {meant[0].name}.txt or {meant[1].name}.txt"
            )
        if meant and meant[0] in found:
            raise BadInput(f"{found[meant[0]]} and {file} are both captions of {meant[0].name}: keep one")
        if meant:
            found[meant[0]] = file
    return found


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _check_left_over(root: Path, images: list[Path], files: list[Path], beside: dict[Path, Path]) -> None:
    """BadInput for text that may be a caption and is none of an image."""
    stems = {(i.parent, _same(n)) for i in images for n in (i.stem, i.name)}
    classes = {i.relative_to(root).parts[0] for i in images if i.parent != root}
    by_class = not beside and len(classes) > 1 and all(i.parent != root for i in images)
    allowed = (
        {i.parent for i in images} | {root} if by_class else set()
    )  # where classes are told by folders, other texts may lie
    used = set(beside.values())
    for file in files:
        suffix = file.suffix.lower()
        if not beside and suffix in SIDECARS and (file.parent, _same(file.stem)) in stems:
            raise BadInput(
                f"{file} lies beside an image and is not read (captions are accepted as: {ACCEPTED})"
            )
        spare = suffix == ".caption" or (
            suffix == ".txt" and file.parent not in allowed and file.stem.lower() not in OTHER_TEXTS
        )
        if spare and file not in used and file.is_relative_to(root):
            raise BadInput(
                f"{file} is the caption of no image: a caption has its image's name and folder, a.txt for"
                f" a.png (accepted: {ACCEPTED})"
            )


def _caption_file(file: Path) -> str:
    """The one line of a text file. BadInput: another encoding, nothing in it, or more lines than one."""
    text = _decoded(file, MOST_CAPTION).strip()
    if not text:
        raise BadInput(f"{file} is empty: write the image's caption into it")
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1:
        raise BadInput(f"{file} holds {len(lines)} lines: one caption an image, on one line, is accepted")
    return text


def _decoded(file: Path, most: int) -> str:
    """Text in UTF-8, or in UTF-16 where the mark at its beginning says so."""
    raw = read.content(file, "text file", most)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            text = raw.decode("utf-16")
        except UnicodeDecodeError as e:
            raise BadInput(
                f"{file} is not UTF-16 text, as its first bytes say: {e.reason} at byte {e.start}; save it as"
                " UTF-8"
            ) from None
    else:
        text = read.decoded(raw, os.fspath(file))
    if not sound(text):
        raise BadInput(f"{file} holds a NUL or half a character, so it is no UTF-8 text: save it as UTF-8")
    return text
