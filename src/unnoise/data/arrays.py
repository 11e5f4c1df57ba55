"""Arrays and tables from files: .npy, .npz (x, labels, words, captions) and .csv of numbers.

uint8 arrays (n, h, w) or (n, h, w, c), c = 1 to 4, are images; everything else becomes float32 (n, ...) and
must be finite. Pickled objects are never loaded: reading data must not run code. What a header promises is
compared with the file's length before any memory is taken (see `data.numpy_file`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.text import one_line, short, sound
from unnoise.data import numpy_file
from unnoise.data.dataset import SPLIT_NAMES, Data

ACCEPTED = "a folder of images, .npy, .npz or .csv"
SUFFIXES = (".npy", ".npz", ".csv")
MOST_CLASSES = 100_000
MOST_CSV = 2**32


def load_array(path: Path, split: str = "train") -> Data:
    """The items of the file `path`. Raises BadInput naming it for objects, nothing in it, or values that are
    not finite.

    An .npz holds `x` (or just one array), and optionally `labels` (n,) with `words`, or `captions` (n,);
    where it holds x_train, x_test, … (and labels_train or y_train, …) `split` chooses among them; all else is
    one split, "train".
    """
    _check_suffix(path)
    split = SPLIT_NAMES.get(split.lower(), split)
    arrays = {"x": _csv(path)} if path.suffix.lower() == ".csv" else numpy_file.load(path)
    x, rest = _choose(arrays, path, split)
    x = _items(x, path)
    labels, words = _labels(rest, len(x), path)
    return Data(x, labels, words, _captions(rest, len(x), path), str(path), split, "unknown")


def splits(path: Path) -> tuple[str, ...]:
    """The splits that the file holds. BadInput: it is none of the accepted kinds, or broken."""
    _check_suffix(path)
    names = [] if path.suffix.lower() == ".csv" else numpy_file.names(path)
    return tuple(_parted(names, path)) or ("train",)


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"cannot read data from {path} (accepted: {ACCEPTED})")


def _csv(path: Path) -> np.ndarray:
    """(rows, columns) float64; a first line that is not all numbers is a header."""
    lines = [
        line for line in read.text(path, "table", MOST_CSV).replace("\r", "\n").split("\n") if line.strip()
    ]
    skip = 0 if lines and all(_is_number(cell) for cell in lines[0].split(",")) else 1
    if len(lines) <= skip:
        raise BadInput(f"{path} holds no rows of numbers")
    try:
        return np.loadtxt(lines, delimiter=",", ndmin=2, skiprows=skip, comments=None)
    except (ValueError, OverflowError, TypeError) as error:
        raise BadInput(
            f"{path} is not a table of numbers: {one_line(str(error).split(';')[0].rstrip('.'), 200)}"
        ) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parted(names: list[str], path: Path) -> dict[str, str]:
    """{split: how the file calls it} of the arrays x_train, x_test, …; empty where it is not parted."""
    found: dict[str, str] = {}
    for name in names:
        if not name.startswith("x_"):
            continue
        called = name.removeprefix("x_")
        split = SPLIT_NAMES.get(called.lower(), called)
        if split in found:
            raise BadInput(
                f"{path} holds x_{short(found[split])[1:-1]} and {short(name)[1:-1]}, which both mean the"
                f" split {split!r}: keep one"
            )
        found[split] = called
    return found


def _choose(
    arrays: dict[str, np.ndarray], path: Path, split: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(x of this split, the arrays that describe it under their plain names)."""
    parted = _parted(list(arrays), path)
    if split not in (parted or ["train"]):
        raise BadInput(
            f"{path} has no split {split!r} (it holds: {', '.join(parted) or 'train'}); expected an array"
            f" x_{split} in an .npz"
        )
    if parted:
        suffix = f"_{parted[split]}"
        arrays = {
            key.removesuffix(suffix): arrays[key] for key in arrays if key.endswith(suffix) or key == "words"
        }
    rest = {"labels" if key == "y" else key: value for key, value in arrays.items()}
    others = [key for key in rest if key not in ("labels", "words", "captions")]
    name = "x" if "x" in rest else ""
    if not name and len(others) == 1:
        name = others[0]
    if not name:
        names = ", ".join(one_line(key, 60) for key in arrays)
        raise BadInput(
            f"{path} holds {names or 'nothing'}; expected the items as `x` (with labels, captions)"
        )
    return rest.pop(name), rest


def _items(x: np.ndarray, path: Path) -> np.ndarray:
    if x.ndim == 0 or x.size == 0:
        raise BadInput(f"{path} holds no items: its shape is {x.shape}")
    if x.dtype == np.uint8 and x.ndim in (3, 4):
        x = x if x.ndim == 4 else x[..., None]
        if x.shape[3] > 4:
            raise BadInput(
                f"{path}: images of shape {x.shape}; expected (n, h, w, c) with 1 to 4 channels last"
            )
        return np.ascontiguousarray(x)
    if x.dtype.kind not in "biuf":
        raise BadInput(f"{path} holds values of type {x.dtype}; expected numbers")
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, dtype=np.float32)
    if bad := int(np.count_nonzero(~np.isfinite(x))):
        raise BadInput(f"{path} holds {bad} values that are not finite in float32 (nan, inf or too large)")
    return x


def _labels(rest: dict[str, np.ndarray], n: int, path: Path) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if "labels" not in rest:
        return None, ()
    labels = rest["labels"]
    if labels.shape != (n,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise BadInput(f"{path}: labels are {labels.dtype} {labels.shape}; expected {n} integers from 0 on")
    most = int(labels.max())
    if most >= MOST_CLASSES:
        raise BadInput(f"{path}: a label is {most}; expected less than {MOST_CLASSES}")
    words = _words(rest["words"], path) if "words" in rest else tuple(str(i) for i in range(most + 1))
    if most >= len(words):
        raise BadInput(f"{path}: label {most} has no word; {len(words)} words are given")
    return labels.astype(np.int64), words


def _words(given: np.ndarray, path: Path) -> tuple[str, ...]:
    if given.ndim != 1 or given.dtype.kind != "U" or len(given) > MOST_CLASSES:
        raise BadInput(f"{path}: words are {given.dtype} {given.shape}; expected a row of strings")
    words = _strings(given, "words", path)
    if len(set(words)) < len(words) or "" in words:
        raise BadInput(f"{path}: a word is empty or stands twice; each class has one of its own")
    return words


def _captions(rest: dict[str, np.ndarray], n: int, path: Path) -> tuple[str, ...] | None:
    if "captions" not in rest:
        return None
    captions = rest["captions"]
    if captions.shape != (n,) or captions.dtype.kind != "U":
        raise BadInput(f"{path}: captions are {captions.dtype} {captions.shape}; expected {n} strings")
    return _strings(captions, "captions", path)


def _strings(given: np.ndarray, what: str, path: Path) -> tuple[str, ...]:
    try:
        texts = tuple(str(text) for text in given)
    except (ValueError, SystemError) as error:  # code points that there are not
        raise BadInput(f"{path}: {what} hold no text: {one_line(str(error), 100)}") from None
    bad = next((text for text in texts if not sound(text)), None)
    if bad is not None:
        raise BadInput(f"{path}: {what} hold a lone surrogate or a NUL: {short(bad)}")
    return texts
