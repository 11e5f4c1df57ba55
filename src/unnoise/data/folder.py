"""A folder of images as one uint8 array (n, h, w, c), with captions or class labels where the folder holds
them.

    captions   see `data.captions`: a metadata file, or a text file beside each image
    labels     without captions: the first subfolder's name, when every image lies in one ("ankle_boot" ->
               "ankle boot")
    splits     folders `train/`, `test/` and `validation/` (also Train, training, testing, val, valid, dev)
               hold those splits; a folder without them is all "train". Beside splits nothing else may hold
               images

Images are found recursively in the order of their paths, links followed, turned as their EXIF says, first
frame only; hidden files and `__MACOSX` are passed over. Channels: the fewest that hold every image without
loss: grey among colours becomes colour, alpha that is opaque everywhere is dropped. Where some images have
transparent pixels, all must have alpha.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unnoise.base import picture
from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import one_line, short
from unnoise.data.captions import captions
from unnoise.data.dataset import SPLIT_NAMES, SPLITS, Data

UNREAD = (
    ".heic",
    ".heif",
    ".jxl",
    ".jp2",
    ".j2k",
    ".jpx",
    ".svg",
    ".tga",
    ".psd",
    ".ico",
    ".eps",
    ".exr",
    ".hdr",
    ".dds",
    ".qoi",
    ".pcx",
    ".xcf",
    ".apng",
    ".dng",
    ".cr2",
    ".nef",
    ".arw",
    ".pbm",
    ".pnm",
    ".dib",
)  # pictures of which none may be passed over
PASSED_OVER = ("__macosx", "thumbs.db", "desktop.ini")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def load_folder(path: Path, split: str = "train") -> Data:
    """The images under `path`. Raises BadInput, naming the file, for no images, mixed sizes, a broken image
    or caption.
    """
    split = SPLIT_NAMES.get(split.lower(), split)
    files = _files(path)
    roots = _split_roots(path, [f for f in files if _is_picture(f)])
    if split not in (roots or ["train"]):
        raise unknown(f"split of {path}", split, sorted(roots) or ["train"])
    root = path / roots[split] if roots else path
    images = _images(root, files)
    texts = captions(path, root, [f for f in files if _is_picture(f)], images, files)
    x = _pixels(images)
    labels, words = (None, ()) if texts else _labels(root, images)
    return Data(x, labels, words, texts, str(path), split, "unknown")


def splits(path: Path) -> tuple[str, ...]:
    """The splits that a folder holds, of SPLITS; ("train",) where it is not parted. BadInput: see
    `load_folder`.
    """
    return tuple(_split_roots(path, [f for f in _files(path) if _is_picture(f)])) or ("train",)


# --- which files --------------------------------------------------------------------------------------------


def _files(path: Path) -> list[Path]:
    """Every visible file below `path`, links to folders followed, in the order of their paths."""
    found = list(_walk(path, (os.path.realpath(path),)))
    return sorted(found, key=lambda p: p.relative_to(path).as_posix())


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """`above`: the real paths of the folders on the way, by which a circle of links is told."""
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError as e:
        raise BadInput(f"cannot read {folder}: {e.strerror or e}") from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in PASSED_OVER:
            continue
        path = folder / entry.name
        if not os.path.isdir(path):
            yield path
            continue
        real = os.path.realpath(path)
        if real in above:
            raise BadInput(
                f"{path} is a link to a folder that it lies in, so that it holds itself: remove it"
            )
        yield from _walk(path, (*above, real))


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in picture.SUFFIXES


def _images(root: Path, files: list[Path]) -> list[Path]:
    """The pictures under `root`. BadInput: there is none, or one of a kind that is not read."""
    inside = [f for f in files if f.is_relative_to(root)]
    unread = next((f for f in inside if f.suffix.lower() in UNREAD), None)
    if unread:
        raise BadInput(
            f"{unread} is a picture of a kind that is not read (accepted: {' '.join(picture.SUFFIXES)}):"
            " convert it, or move it away"
        )
    images = [f for f in inside if _is_picture(f)]
    if not images:
        raise BadInput(f"no images in {root} (looked in all its subfolders for {' '.join(picture.SUFFIXES)})")
    return images


# --- splits -------------------------------------------------------------------------------------------------


def _split_roots(path: Path, images: list[Path]) -> dict[str, str]:
    """{split: its folder's name} of a folder of splits; empty for one that is not parted.

    BadInput where what is meant cannot be told: two folders of one split, or splits beside other images.
    `train` alone beside others is a class, the train that runs on rails.
    """
    found = _named_splits(path)
    holders = dict.fromkeys(i.relative_to(path).parts[0] for i in images)
    others = [name for name in holders if name not in found.values()]
    if others and list(found) != ["train"] and found:
        raise BadInput(
            f"{path} holds the splits {', '.join(map(short, found.values()))} and beside them"
            f" {short(others[0])}: a folder of splits holds images in its splits alone ({', '.join(SPLITS)})"
        )
    if not others:
        return found
    _check_like_splits(path, others)
    _check_inner_splits(path, images)
    return {}


def _named_splits(path: Path) -> dict[str, str]:
    """{split: the folder of its name}, in the order of the folders. BadInput: two folders of one split."""
    found: dict[str, str] = {}
    for name in sorted(os.listdir(path)):
        split = SPLIT_NAMES.get(name.lower())
        if split is None or not (path / name).is_dir():
            continue
        if split in found:
            raise BadInput(
                f"{path} holds {short(found[split])} and {short(name)}, which both mean the split {split!r}:"
                " keep one"
            )
        found[split] = name
    return found


def _check_like_splits(path: Path, names: list[str]) -> None:
    """BadInput where all folders are called as if they were splits: train2017 and val2017, seg_train and
    seg_test.
    """
    meant = {
        name: {SPLIT_NAMES[w] for w in re.findall("[a-z]+", name.lower()) if w in SPLIT_NAMES}
        for name in names
    }
    if len(names) > 1 and all(meant.values()) and len(set.union(*meant.values())) > 1:
        raise BadInput(
            f"{path} holds {' and '.join(map(short, names[:4]))}: if they are splits, call them"
            f" {', '.join(SPLITS)}; if they are classes, call them otherwise"
        )


def _check_inner_splits(path: Path, images: list[Path]) -> None:
    """BadInput where the splits lie within the classes: cat/train/1.png."""
    parts = [i.relative_to(path).parts for i in images]
    inner = {p[1] for p in parts if len(p) > 2}
    within = all(len(p) > 2 for p in parts) and all(name.lower() in SPLIT_NAMES for name in inner)
    if within and len({SPLIT_NAMES[name.lower()] for name in inner}) > 1:
        tops = sorted({p[0] for p in parts})
        where = (
            f"give {path / tops[0]}"
            if len(tops) == 1
            else f"a split holds the classes: {sorted(inner)[0]}/{tops[0]}/…"
        )
        raise BadInput(
            f"{path} holds splits ({', '.join(sorted(inner))}) below {', '.join(tops[:3])}: {where}"
        )


# --- pixels -------------------------------------------------------------------------------------------------


def _pixels(files: list[Path]) -> np.ndarray:
    """(n, h, w, c) uint8 of all files, in their order."""
    (width, height), channels, with_alpha = _survey(files)
    x = np.empty((len(files), height, width, channels), dtype=np.uint8)
    clear = None  # the first file with pixels that are not opaque
    for into, file in zip(x, files):
        image = picture.without_opaque_alpha(picture.opened(file))
        clear = clear or (file if image.mode in ("LA", "RGBA") else None)
        into[:] = np.asarray(image.convert(MODES[channels])).reshape(into.shape)
    if channels in (1, 3):
        return x
    if clear is None:
        return np.ascontiguousarray(x[..., :-1])
    without = next((f for f in files if f not in with_alpha), None)
    if without:
        raise BadInput(
            f"{clear} has transparent pixels and {without} has no alpha channel: paint the transparent images"
            " on a background, or give every image an alpha channel"
        )
    return x


def _survey(files: list[Path]) -> tuple[tuple[int, int], int, set[Path]]:
    """((width, height), channels, the files with alpha), from the headers alone: a folder that cannot be used
    is refused early.
    """
    colours, with_alpha = False, set()
    first = (0, 0)
    for file in files:
        w, h, colour, alpha = picture.size_of(file)
        colours |= colour
        if alpha:
            with_alpha.add(file)
        first = (w, h) if file is files[0] else first
        if (w, h) != first:
            raise BadInput(
                f"images of different sizes: {files[0]} is {first[0]}x{first[1]}, {file} is {w}x{h}; make"
                " them one size first"
            )
    return first, 1 + 2 * colours + bool(with_alpha), with_alpha


# --- labels -------------------------------------------------------------------------------------------------


def _labels(root: Path, files: list[Path]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    parts = [file.relative_to(root).parts for file in files]
    if any(len(part) == 1 for part in parts):
        return None, ()
    names = [one_line(part[0].replace("_", " ").replace("-", " ")) for part in parts]
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    _check_classes(root, parts, names)
    return np.array([number[name] for name in names], dtype=np.int64), tuple(number)


def _check_classes(root: Path, parts: list[tuple[str, ...]], names: list[str]) -> None:
    """BadInput where two folders are classes that no prompt could tell apart: Cat and cat, ankle_boot and
    ankle-boot.
    """
    folders: dict[str, str] = {}
    for part, name in zip(parts, names):
        other = folders.setdefault(name.casefold(), part[0])
        if other != part[0]:
            raise BadInput(
                f"{root} holds {short(other)} and {short(part[0])}, which prompts could not tell apart: make"
                " them one folder"
            )
        if not name:
            raise BadInput(f"{root} holds {short(part[0])}, a folder whose name leaves no word for its class")
