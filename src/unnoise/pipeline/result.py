"""Pictures with what made them, and where their files go: what lies under a name stays, unless it may be
overwritten.
"""

from __future__ import annotations

import html
import io
import json
import os
from base64 import standard_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unnoise.base import arguments, write
from unnoise.base.errors import BadInput
from unnoise.base.text import short, sound
from unnoise.pipeline.record import png

if TYPE_CHECKING:
    from PIL import Image

SHOWN = 64  # pictures that a notebook shows of a result, at most


@dataclass(frozen=True)
class Result:
    """Images with what made them. arrays: uint8 (n, h, w, c), or floats for models of vectors; nfe: network
    calls an image.
    """

    arrays: np.ndarray
    seeds: tuple[int, ...]
    nfe: int
    recipes: tuple[dict, ...]

    @cached_property
    def images(self) -> list[Image.Image]:
        """One PIL image a sample."""
        return [picture(a) for a in self.arrays]

    def grid(self, columns: int | None = None) -> Image.Image:
        """All images on one sheet, row by row, near square unless `columns` is given."""
        from unnoise.base.sheet import tile

        if columns is not None:
            columns = arguments.integer("columns", columns, 1)
        need_pictures(self.arrays)
        return picture(tile(self.arrays, columns))

    def save(self, path: str | os.PathLike, overwrite: bool = False) -> list[Path]:
        """Write PNG files that carry their recipes; returns one path an image, in order.

        One image goes to `path`. Of several, image with seed s goes to `<stem>-<s>.png` beside it and their
        grid to `path` itself; a folder (or a path without suffix) takes `<s>.png` files alone; a seed that
        comes twice gets a number. Where files of those names lie already, new numbers are taken, unless
        `overwrite`. BadInput when it cannot be written: files appear whole or not at all.
        """
        images, replace = self.images, arguments.flag("overwrite", overwrite)
        names = self.names(path, replace)
        files = [
            put(f, png(im, json.dumps(r)), replace) for f, im, r in zip(names.files, images, self.recipes)
        ]
        if names.grid:
            put(names.grid, png(self.grid(), json.dumps(self.grid_recipe())), replace)
        return files

    def names(self, path: str | os.PathLike, overwrite: bool = False) -> Names:
        """The files that `save` writes now. BadInput: no .png file's name."""
        return named(path, self.labels(), overwrite)

    def labels(self) -> list[str]:
        """What tells the files of several images apart: their seeds."""
        return labels_of(self.seeds)

    def grid_recipe(self) -> dict[str, Any]:
        """The recipe of the sheet of all images."""
        return {"grid": list(self.recipes)}

    def __repr__(self) -> str:
        shape = " x ".join(str(n) for n in self.arrays.shape[1:])
        what = "picture" if self.arrays.dtype == np.uint8 else "sample"
        seeds = ", ".join(map(str, self.seeds[:8])) + (", …" if len(self.seeds) > 8 else "")
        many = "" if len(self.arrays) == 1 else "s"
        return (
            f"{type(self).__name__}({len(self.arrays)} {what}{many} of {shape}, seed{many} {seeds},"
            f" {self.nfe} calls each)"
        )

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows: the picture, or the pictures on a sheet."""
        if self.arrays.dtype != np.uint8 or not len(self.arrays):
            return None
        return _shown(self.images[0] if len(self.images) == 1 else self.grid())

    def _repr_html_(self) -> str | None:
        """The same with the prompt and the seed under each."""
        if self.arrays.dtype != np.uint8:
            return None
        cells = [_cell(im, r) for im, r in zip(self.images[:SHOWN], self.recipes)]
        left = len(self.images) - len(cells)
        more = f"<p>and {left} more</p>" if left > 0 else ""
        return f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(cells)}</div>{more}'


def _cell(image: Image.Image, recipe: dict[str, Any]) -> str:
    prompt, seed = str(recipe.get("prompt", "")), recipe.get("seed", "")
    data = standard_b64encode(_shown(image)).decode()
    label = html.escape(f"{prompt} · seed {seed}" if prompt else f"seed {seed}")
    return (
        f'<figure style="margin:0"><img alt="{html.escape(prompt, quote=True)}"'
        f' src="data:image/png;base64,{data}" style="image-rendering:auto"><figcaption'
        f' style="font-size:smaller">{label}</figcaption></figure>'
    )


def _shown(image: Image.Image) -> bytes:
    """A PNG for the eye: small pictures enlarged by a whole factor."""
    from PIL.Image import Resampling

    k, out = max(1, 128 // max(image.size)), io.BytesIO()
    image.resize((k * image.width, k * image.height), Resampling.NEAREST).save(out, format="PNG")
    return out.getvalue()


def need_pictures(a: np.ndarray) -> None:
    """BadInput for numbers that are no pictures."""
    if a.dtype != np.uint8:
        raise BadInput(f"this model makes numbers of shape {a.shape[1:]}, not pictures: use result.arrays")


def picture(a: np.ndarray) -> Image.Image:
    """A uint8 array (h, w, c) as a PIL image; of one channel, grey. BadInput for numbers that are no
    picture.
    """
    from PIL import Image

    need_pictures(a[None])
    return Image.fromarray(a[..., 0] if a.ndim == 3 and a.shape[-1] == 1 else a)


# --- names of files -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Names:
    """Where pictures go: a file each, and their grid's where it has one. moved: the name asked for, where it
    was taken.
    """

    files: tuple[Path, ...]
    grid: Path | None = None
    moved: Path | None = None


def path_of(given: Any) -> Path:
    """A path to write to. BadInput: no path, or not a .png file's, in which the recipe is stored."""
    if not isinstance(given, str | os.PathLike) or not sound(str(given)) or not str(given):
        raise BadInput(f"a path must be text or a Path that names a file or a folder, given {short(given)}")
    path = Path(given)
    if path.suffix and path.suffix.lower() != ".png" and not path.is_dir():
        raise BadInput(
            f"cannot write {path}: the recipe is stored in PNG files, name one (given {path.suffix})"
        )
    return path


def is_folder(path: Path) -> bool:
    """Whether pictures go into `path` rather than to it."""
    return path.is_dir() or not path.suffix


def named(given: Any, labels: Sequence[str], overwrite: bool = False) -> Names:
    """The files of pictures with these labels; unless `overwrite`, of names that are free. BadInput: see
    `path_of`.
    """
    path = path_of(given)
    if is_folder(path):
        plain = [path / f"{label}.png" for label in labels]
        if overwrite:
            return Names(tuple(plain))
        free = _all_free(plain)
        return Names(tuple(free), None, next((p for p, f in zip(plain, free) if p != f), None))
    if len(labels) == 1:
        file = path if overwrite else write.free_name(path)
        return Names((file,), None, path if file != path else None)
    grid = path if overwrite else _free_group(path, labels)
    return Names(_group(grid, labels), grid, path if grid != path else None)


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
