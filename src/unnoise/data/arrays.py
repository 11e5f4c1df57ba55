"""Arrays and tables from files: .npy, .npz (x, labels, words, captions) and .csv of numbers.

uint8 arrays (n, h, w) or (n, h, w, c), c = 1 to 4, are images; everything else becomes float32 (n, ...) and must be finite.
Pickled objects are never loaded: reading data must not run code.
"""
from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from unnoise.data.dataset import Data
from unnoise.errors import BadInput

ACCEPTED = "a folder of images, .npy, .npz or .csv"


def load_array(path: Path, split: str = "train") -> Data:
    """The items of the file `path`. Raises BadInput naming it for objects, nothing in it, or values that are not finite.

    An .npz holds `x` (or just one array), and optionally `labels` (n,) with `words`, or `captions` (n,); where it holds
    x_train, x_test, … (and labels_train or y_train, …) `split` chooses among them; all else is one split, "train".
    """
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".csv"):
        raise BadInput(f"cannot read data from {path} (accepted: {ACCEPTED})")
    arrays = {"x": _csv(path)} if suffix == ".csv" else _numpy(path)
    x, rest = _choose(arrays, path, split)
    x = _items(x, path)
    labels, words = _labels(rest, len(x), path)
    return Data(x, labels, words, _captions(rest, len(x), path), str(path), split, "unknown")


def _numpy(path: Path) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (ValueError, OSError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        said = " ".join(str(error).split())
        why = "it holds pickled objects, which are never loaded" if "pickle" in said else f"broken file ({said[:120]})"
        raise BadInput(f"cannot read {path}: {why}; accepted are plain arrays of numbers") from error


def _csv(path: Path) -> np.ndarray:
    """(rows, columns) float64; a first line that is not all numbers is a header."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        skip = 0 if lines and all(_number(cell) for cell in lines[0].split(",")) else 1
        if len(lines) <= skip:
            raise BadInput(f"{path} holds no rows of numbers")
        return np.loadtxt(lines, delimiter=",", ndmin=2, skiprows=skip, comments=None)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path} is not a table of numbers: {str(error).split(';')[0].rstrip('.')}") from error


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _choose(arrays: dict[str, np.ndarray], path: Path, split: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(x of this split, the arrays that describe it under their plain names)."""
    suffix = f"_{split}"
    if any(key.startswith("x_") for key in arrays):
        arrays = {key.removesuffix(suffix): arrays[key] for key in arrays if key.endswith(suffix) or key == "words"}
        have = "x" in arrays
    else:
        have = split == "train"
    rest = {"labels" if key == "y" else key: value for key, value in arrays.items()}
    others = [key for key in rest if key not in ("labels", "words", "captions")]
    name = "x" if "x" in rest else others[0] if len(others) == 1 else ""
    if not have:
        raise BadInput(f"{path} has no split {split!r}; expected an array x_{split} in an .npz")
    if not name:
        raise BadInput(f"{path} holds {', '.join(arrays) or 'nothing'}; expected the items as `x` (with labels, captions)")
    return rest.pop(name), rest


def _items(x: np.ndarray, path: Path) -> np.ndarray:
    if x.ndim == 0 or x.size == 0:
        raise BadInput(f"{path} holds no items: its shape is {x.shape}")
    if x.dtype == np.uint8 and x.ndim in (3, 4):
        x = x if x.ndim == 4 else x[..., None]
        if x.shape[3] > 4:
            raise BadInput(f"{path}: images of shape {x.shape}; expected (n, h, w, c) with 1 to 4 channels last")
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
    words = tuple(str(word) for word in np.ravel(rest["words"])) if "words" in rest else _numbered(int(labels.max()) + 1)
    if labels.max() >= len(words):
        raise BadInput(f"{path}: label {labels.max()} has no word; {len(words)} words are given")
    return labels.astype(np.int64), words


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(n))


def _captions(rest: dict[str, np.ndarray], n: int, path: Path) -> tuple[str, ...] | None:
    if "captions" not in rest:
        return None
    captions = rest["captions"]
    if captions.shape != (n,) or captions.dtype.kind != "U":
        raise BadInput(f"{path}: captions are {captions.dtype} {captions.shape}; expected {n} strings")
    return tuple(str(text) for text in captions)
