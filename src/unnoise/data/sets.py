"""Known data sets: fetched into a cache once, read back from there, verified.

    <cache>/data/<set>/<file>     <cache> is $UNNOISE_CACHE, else ~/.cache/unnoise; a final name means whole
                                  and verified
    <cache>/data/emoji/           the emoji sets share one folder: packages, and what `emoji` prepares from
                                  them

How the bytes come here, and what is believed of them, is `delivery`'s.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from unnoise.base.errors import BadInput, unknown
from unnoise.data import idx
from unnoise.data.delivery import Progress, clients, deliver, folder, lacking, verify
from unnoise.data.sources import SOURCES, File


def fetch(name: str, progress: Progress | None = None) -> list[Path]:
    """Make sure that every file of the set `name` is in the cache and verified; returns their paths.

    Files that are there and whole are not fetched again. `progress` is called with one line per event. Raises
    BadInput when the name is unknown or, in one line with every client's own reason, when no client could
    deliver.
    """
    say = progress or (lambda line: None)
    if name not in SOURCES:
        raise unknown("data set", name, SOURCES)
    source = SOURCES[name]
    if source.size:
        from unnoise.data import prepare

        files = prepare.prepare(name, say)
        say(f"{name}: ready")
        return files
    for part in source.parts:
        fetch(part, say)
    if missing_files(name):
        deliver(name, folder(name), clients(source), all_files(name), say)
    say(f"{name}: ready")
    return [folder(part) / file.name for part in source.parts or (name,) for file in all_files(part)]


def all_files(name: str) -> list[File]:
    """Every pinned file of the set `name`, in a fixed order (none for a set that needs no fetching)."""
    return [file for pair in SOURCES[name].files.values() for file in pair]


def missing_files(name: str) -> list[File]:
    """The files of `name` (not of its parts) that the cache does not hold whole; reads and hashes those that
    it does.
    """
    return lacking(folder(name), all_files(name))


def cached(name: str) -> bool:
    """Whether `load(name)` would find its files: present with the right size (their content is verified on
    load).
    """
    if name == "digits8":
        return importlib.util.find_spec("sklearn") is not None
    if SOURCES[name].size:
        from unnoise.data import emoji

        return emoji.path(name).is_file()
    paths = [
        (folder(part) / file.name, file)
        for part in SOURCES[name].parts or (name,)
        for file in all_files(part)
    ]
    return all(path.is_file() and path.stat().st_size == file.size for path, file in paths)


def read(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 (n, h, w, 1), labels int64 (n,)) of the set `name` from the cache. Never touches the
    network.

    Raises BadInput: not fetched yet (says the command), or a file that is not the published one (expected and
    got sha256).
    """
    source = SOURCES[name]
    images, labels = (_read_file(name, file) for file in source.files[split])
    x, y = (
        idx.parse(images, source.files[split][0].name, 3),
        idx.parse(labels, source.files[split][1].name, 1),
    )
    if len(x) != len(y) or len(x) != source.count[split] or y.max() >= len(source.words):
        raise BadInput(
            f"{name}: {len(x)} images, {len(y)} labels up to {y.max()}; "
            f"expected {source.count[split]} of each, labels below {len(source.words)}"
        )
    return x[..., None], y.astype(np.int64)


def _read_file(name: str, file: File) -> bytes:
    path = folder(name) / file.name
    if not path.is_file():
        raise BadInput(
            f"data set {name!r} is not in the cache ({path} is missing); run: unnoise data fetch {name}"
        )
    raw = path.read_bytes()
    try:
        verify(raw, file, str(path))
    except BadInput as error:
        raise BadInput(f"{error}; to replace it, run: unnoise data fetch {name}") from None
    return raw
