"""What a call gives: samples with what made them."""

from __future__ import annotations

import html
import io
import json
import os
from base64 import standard_b64encode
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unnoise.base import arguments
from unnoise.media import PICTURES, Medium
from unnoise.media.files import Names, labels_of, named, put
from unnoise.pipeline.record import together

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
    medium: Medium = field(default=PICTURES, kw_only=True)  # beside the fields of what extends this

    @cached_property
    def images(self) -> list[Image.Image]:
        """One PIL image a sample."""
        return [self.medium.show(a) for a in self.arrays]

    def grid(self, columns: int | None = None) -> Image.Image:
        """All images on one sheet, row by row, near square unless `columns` is given."""
        if columns is not None:
            columns = arguments.integer("columns", columns, 1)
        return self.medium.sheet(self.arrays, columns)

    def save(self, path: str | os.PathLike, overwrite: bool = False) -> list[Path]:
        """Write PNG files that carry their recipes; returns one path an image, in order.

        One image goes to `path`. Of several, image with seed s goes to `<stem>-<s>.png` beside it and their
        grid to `path` itself; a folder (or a path without suffix) takes `<s>.png` files alone; a seed that
        comes twice gets a number. Where files of those names lie already, new numbers are taken, unless
        `overwrite`. BadInput when it cannot be written: files appear whole or not at all.
        """
        replace = arguments.flag("overwrite", overwrite)
        if not self.medium.suffixes:
            self.grid()  # says why it cannot be written
        names = self.names(path, replace)
        if self.medium.together:
            every = json.dumps(together(self.recipes))
            return [put(names.files[0], self.medium.to_bytes(self.arrays, every), replace)]
        made = zip(names.files, self.arrays, self.recipes)
        files = [put(f, self.medium.to_bytes(a, json.dumps(r)), replace) for f, a, r in made]
        if names.grid:
            put(names.grid, self.medium.to_bytes(self.grid(), json.dumps(self.grid_recipe())), replace)
        return files

    def names(self, path: str | os.PathLike, overwrite: bool = False) -> Names:
        """The files that `save` writes now. BadInput: no .png file's name."""
        return named(path, self.labels(), overwrite, self.medium)

    def labels(self) -> list[str]:
        """What tells the files of several images apart: their seeds."""
        return labels_of(self.seeds)

    def grid_recipe(self) -> dict[str, Any]:
        """The recipe of the sheet of all images."""
        return {"grid": list(self.recipes)}

    def __repr__(self) -> str:
        shape = " x ".join(str(n) for n in self.arrays.shape[1:])
        seeds = ", ".join(map(str, self.seeds[:8])) + (", …" if len(self.seeds) > 8 else "")
        many = "" if len(self.arrays) == 1 else "s"
        what = f"{len(self.arrays)} {self.medium.singular}{many} of {shape}"
        return f"{type(self).__name__}({what}, seed{many} {seeds}, {self.nfe} calls each)"

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
