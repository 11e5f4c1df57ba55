"""`load`: a data set by name (from the cache only, never the network) or by path, as one `Data`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from unnoise.base.arguments import string
from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import short
from unnoise.data.dataset import Data
from unnoise.data.sets import cached, read
from unnoise.data.sources import NAMES, SOURCES
from unnoise.data.transforms import permutation


def load(name_or_path: str | Path, split: str = "train") -> Data:
    """The data set called `name_or_path` (see `NAMES`), or the one at that path: folder of images, .npy, .npz
    or .csv.

    A name wins over a folder of the same name; write `./mnist` for the folder. Raises BadInput for anything
    that cannot be used; for a known set that is not in the cache it says which command fetches it.
    """
    split = string("split", split)
    path = _path(name_or_path)
    if path is None:
        return _known(str(name_or_path), split)
    if path.is_dir():
        from unnoise.data.folder import load_folder

        return load_folder(path, split)
    from unnoise.data.arrays import load_array

    return load_array(path, split)


def splits(name_or_path: str | Path) -> tuple[str, ...]:
    """The splits that `load` accepts for a known set or a path. BadInput: see `load`."""
    path = _path(name_or_path)
    if path is None:
        return tuple(SOURCES[str(name_or_path)].count)
    if path.is_dir():
        from unnoise.data import folder

        return folder.splits(path)
    from unnoise.data import arrays

    return arrays.splits(path)


def _path(name_or_path: str | Path) -> Path | None:
    """The file or folder that is there under a path; None for the name of a known set. BadInput: it is
    neither.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise BadInput(f"data must be a known set's name or a path, given {short(name_or_path)}")
    if str(name_or_path) in SOURCES:
        return None
    path = Path(name_or_path).expanduser()
    if os.path.exists(path):
        return path
    if os.path.islink(path):
        raise BadInput(f"{path} is a link to nothing that is there")
    if len(path.parts) > 1 or path.suffix:
        raise BadInput(
            f"no file or folder {short(str(path), 300)} (or give one of the known sets: {', '.join(NAMES)})"
        )
    raise unknown("data set", name_or_path, NAMES, ("a path to a folder of images, .npy, .npz or .csv",))


def describe() -> list[dict]:
    """One plain dict a known set, for listings: name, what, count by split, licence, provenance, cached,
    classes.
    """
    return [
        {
            "name": name,
            "what": s.what,
            "count": dict(s.count),
            "licence": s.licence,
            "provenance": s.provenance,
            "cached": cached(name),
            "words": list(s.words),
        }
        for name, s in SOURCES.items()
    ]


def _known(name: str, split: str) -> Data:
    source = SOURCES[name]
    if split not in source.count:
        raise unknown(f"split of {name}", split, source.count)
    if name == "digits8":
        return _digits8(split)
    if source.size:
        return _emoji(name, split)
    if not source.parts:
        x, labels = read(name, split)
        return Data(x, labels, source.words, None, name, split, source.licence)
    parts = [_known(part, split) for part in source.parts]
    starts = np.cumsum([0, *(len(p.words) for p in parts[:-1])])
    labels = np.concatenate([p.labels + start for p, start in zip(parts, starts) if p.labels is not None])
    licence = "; ".join(f"{p.name}: {p.licence}" for p in parts)
    return Data(np.concatenate([p.x for p in parts]), labels, source.words, None, name, split, licence)


def _emoji(name: str, split: str) -> Data:
    """Every picture of a split on white, its label as caption; what is made of them by the grammar comes from
    `scenes`.
    """
    from unnoise.data.emoji import load_emoji

    emoji = load_emoji(name)
    members = emoji.members(split).tolist()
    x = np.empty((len(members), emoji.size, emoji.size, 3), dtype=np.uint8)
    for row, i in zip(x, members):
        row[:] = emoji.image(i)
    return Data(x, None, (), tuple(emoji.label(i) for i in members), name, split, SOURCES[name].licence)


def _digits8(split: str) -> Data:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise BadInput(
            "data set 'digits8' needs scikit-learn, which carries it: pip install 'unnoise[data]'"
        ) from None
    source = SOURCES["digits8"]
    values, labels = load_digits(return_X_y=True)
    x = np.round(np.reshape(values, (-1, 8, 8, 1)) * (255 / 16)).astype(np.uint8)
    shuffled = permutation(
        len(x), seed=0, epoch=0
    )  # the file is ordered by writer: its tail alone would be another hand
    chosen = np.sort(
        shuffled[: source.count["train"]] if split == "train" else shuffled[source.count["train"] :]
    )
    return Data(
        x[chosen],
        np.asarray(labels)[chosen].astype(np.int64),
        source.words,
        None,
        "digits8",
        split,
        source.licence,
    )
