"""Where what a model makes goes: names of files, of which none that lies there is lost unless it may be.

One sample goes to the path asked for; of several, the one with seed s to `<stem>-<s>` beside it and their
sheet to the path itself; a folder takes a file each. A medium whose samples go into one file has that file
alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unnoise.base import write
from unnoise.base.errors import BadInput
from unnoise.base.text import short, sound
from unnoise.media.pictures import PICTURES
from unnoise.media.protocol import Medium


@dataclass(frozen=True)
class Names:
    """Where samples go: a file each, and their sheet's where it has one. moved: the name asked for, where it
    was taken.
    """

    files: tuple[Path, ...]
    grid: Path | None = None
    moved: Path | None = None


def path_of(given: Any, medium: Medium = PICTURES) -> Path:
    """A path to write to. BadInput: no path, or not that of a file of the medium, in which the recipe is
    stored.
    """
    if not isinstance(given, str | os.PathLike) or not sound(str(given)) or not str(given):
        raise BadInput(f"a path must be text or a Path that names a file or a folder, given {short(given)}")
    path = Path(given)
    if path.suffix and path.suffix.lower() not in medium.suffixes and not path.is_dir():
        kinds = " or ".join(s[1:].upper() for s in medium.suffixes)
        raise BadInput(
            f"cannot write {path}: the recipe is stored in {kinds} files, name one (given {path.suffix})"
        )
    return path


def is_folder(path: Path) -> bool:
    """Whether pictures go into `path` rather than to it."""
    return path.is_dir() or not path.suffix


def named(given: Any, labels: Sequence[str], overwrite: bool = False, medium: Medium = PICTURES) -> Names:
    """The files of samples with these labels; unless `overwrite`, of names that are free. BadInput: see
    `path_of`.
    """
    path = path_of(given, medium)
    if is_folder(path):
        names = ["samples"] if medium.together else labels
        return _inside([path / f"{name}{medium.suffixes[0]}" for name in names], overwrite)
    if medium.together or len(labels) == 1:
        file = path if overwrite else write.free_name(path)
        return Names((file,), None, path if file != path else None)
    grid = path if overwrite else _free_group(path, labels)
    return Names(_group(grid, labels), grid, path if grid != path else None)


def _inside(files: Sequence[Path], overwrite: bool) -> Names:
    """These files of a folder, under free names unless `overwrite`."""
    if overwrite:
        return Names(tuple(files))
    free = _all_free(files)
    return Names(tuple(free), None, next((p for p, f in zip(files, free) if p != f), None))


def put(path: Path, raw: bytes, overwrite: bool) -> Path:
    """Write a file; one that has come to lie there in the meantime stays, unless `overwrite`. Returns the
    path.
    """
    return write.put(path, raw) if overwrite else write.put_beside(path, raw)


def labels_of(seeds: Sequence[int]) -> list[str]:
    """The seeds as parts of file names; one that comes again as `7-2`, `7-3`."""
    met: dict[int, int] = {}
    labels = []
    for s in seeds:
        met[s] = met.get(s, 0) + 1
        labels.append(f"{s}-{met[s]}" if met[s] > 1 else str(s))
    return labels


def _group(grid: Path, labels: Sequence[str]) -> tuple[Path, ...]:
    return tuple(grid.with_name(f"{grid.stem}-{label}{grid.suffix}") for label in labels)


def _free_group(path: Path, labels: Sequence[str]) -> Path:
    """The first name of a grid, path or path with a number, under which neither it nor one of its pictures
    lies.
    """
    return free_stem(path, lambda grid: (grid, *_group(grid, labels)))


def free_stem(path: Path, files: Callable[[Path], Iterable[Path]]) -> Path:
    """path, or its first number for which none of files(path) lies there."""
    n, name = 1, path
    while any(os.path.lexists(f) for f in files(name)):
        n += 1
        name = path.with_name(f"{path.stem}-{n}{path.suffix}")
    return name


def _all_free(files: Sequence[Path]) -> list[Path]:
    """Each file's name, or its first free number; no two alike."""
    taken: set[Path] = set()
    out = []
    for f in files:
        free, n = (f if f not in taken else f.with_name(f"{f.stem}-2{f.suffix}")), 2
        while os.path.lexists(free) or free in taken:
            free, n = f.with_name(f"{f.stem}-{n}{f.suffix}"), n + 1
        taken.add(free)
        out.append(free)
    return out
