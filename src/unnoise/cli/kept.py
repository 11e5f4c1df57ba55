"""Pictures on their way to their files: each is written as it is finished, what lies there is spared, a
broken-off run is told how to go on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unnoise.base.errors import BadInput
from unnoise.cli.common import note

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from unnoise.media import Medium
    from unnoise.pipeline import Pipeline, Request, Result

    Batches = Iterator[tuple[list[int], np.ndarray, int]]

MOST_LINES = 24  # files that are listed one by one


@dataclass(frozen=True)
class Rules:
    """How files that lie there are met: replaced, or kept where they hold the very picture; by default new
    numbers are taken.
    """

    overwrite: bool = False
    resume: bool = False

    def check(self) -> Rules:
        """BadInput for both at once."""
        if self.overwrite and self.resume:
            raise BadInput("--overwrite and --resume exclude each other: give one of them")
        return self


class Files:
    """The files of pictures whose recipes are known before they are drawn. With `resume`, those that exist
    with the same recipe are taken as they are.

    form: (arrays, seeds, calls, recipes) -> the Result that names the files and lays out their sheet.
    """

    def __init__(
        self,
        recipes: Sequence[dict[str, Any]],
        output: Path,
        rules: Rules,
        form: Callable[..., Result] | None = None,
        quiet: bool = False,
        medium: Medium | None = None,
    ):
        import numpy as np

        from unnoise.media import PICTURES
        from unnoise.media import files as outputs
        from unnoise.pipeline import Result

        self.medium = medium or PICTURES

        self.recipes, self.rules, self.form = list(recipes), rules, form or Result
        self.seeds = tuple(r["seed"] for r in recipes)
        labels = self._result(np.empty((len(recipes), 0))).labels()
        names = outputs.named(output, labels, rules.overwrite or rules.resume, self.medium)
        self.files, self.grid, self.moved = list(names.files), names.grid, names.moved
        self.done: dict[int, Path] = self._there() if rules.resume else {}
        self.kept = len(self.done)
        self.arrays: dict[int, np.ndarray] = {}
        if self.moved and not quiet:
            note(f"{self.moved} exists: writing {self.grid or self.files[0]} (--overwrite replaces it)")

    @classmethod
    def of(cls, pipe: Pipeline, request: Request, output: Path, rules: Rules, quiet: bool = False) -> Files:
        """The files of a request's samples. BadInput for a model whose medium has none."""
        from unnoise.media import makes
        from unnoise.pipeline import Result

        medium = pipe.codec.medium
        if not medium.suffixes:
            raise BadInput(
                f"{makes(pipe.name, medium)}, not pictures: draw them in Python, where"
                " result.arrays holds them"
            )
        recipes = [request.recipe(pipe, i) for i in range(len(request.seeds))]
        if medium.together:
            return OneFile(recipes, output, rules, partial(Result, medium=medium), quiet, medium)
        return cls(recipes, output, rules, quiet=quiet)

    def _there(self) -> dict[int, Path]:
        """The files of those that lie there with the same recipe."""
        return {i: f for i, f in enumerate(map(found, self.files, self.recipes)) if f}

    def missing(self) -> list[int]:
        """The places of the pictures that are still to be drawn."""
        return [i for i in range(len(self.files)) if i not in self.done]

    def draw(self, request: Request, draw: Callable[[Request], Batches]) -> int:
        """Draw what is missing of the request and write each picture as it is finished; returns the network
        calls an image (0: none was drawn).
        """
        left, calls = self.missing(), []
        if not left:
            return 0
        for places, arrays, n in draw(request.only(left)):
            calls.append(n)
            for k, a in zip(places, arrays):
                self.write(left[k], a)
        return sum(calls) // len(calls)

    def write(self, i: int, a: np.ndarray) -> None:
        """Write the picture of a place."""
        from unnoise.media.files import put
        from unnoise.media.pictures import picture, png

        self.done[i] = put(self.files[i], png(picture(a), json.dumps(self.recipes[i])), self.rules.overwrite)
        if self.grid:
            self.arrays[i] = a

    def close(self) -> None:
        """Write the grid, where there is one."""
        import numpy as np

        from unnoise.media.files import put
        from unnoise.media.pictures import png

        if not self.grid:
            return
        recipe = self._result(np.empty((len(self.files), 0))).grid_recipe()
        exact = "grid" in recipe  # else it does not say which pictures these are
        there = found(self.grid, recipe) if self.rules.resume and (exact or not self.arrays) else None
        self.grid = there or put(self.grid, png(self.sheet(), json.dumps(recipe)), self.rules.overwrite)

    def _result(self, arrays: np.ndarray) -> Result:
        return self.form(arrays, self.seeds, 0, tuple(self.recipes))

    def sheet(self) -> Image.Image:
        """All pictures on one sheet; a single one as it is."""
        import numpy as np

        from unnoise.media.pictures import picture

        arrays = np.stack(
            [self.arrays[i] if i in self.arrays else pixels(self.done[i]) for i in range(len(self.files))]
        )
        return picture(arrays[0]) if len(arrays) == 1 else self._result(arrays).grid()

    def report(self) -> dict[str, Any]:
        """What `--json` prints of the files."""
        out: dict[str, Any] = {
            "files": [str(self.done[i]) for i in range(len(self.files))],
            "seeds": list(self.seeds),
        }
        if self.grid:
            out["grid"] = str(self.grid)
        if self.rules.resume:
            out["kept"] = self.kept
        return out

    def lines(self) -> list[str]:
        """The same for people: a file a line, with its seed."""
        files = [str(self.done[i]) for i in range(len(self.files))]
        seeds = self.seeds
        if len(files) > MOST_LINES:
            told = [f"{len(files)} files, {files[0]} … {files[-1]}, seeds {seeds[0]} … {seeds[-1]}"]
        else:
            told = [f"{f}  seed {s}" for f, s in zip(files, seeds)]
        if self.kept:
            told.append(f"{self.kept} of them were there already")
        return [*told, f"{self.grid}  all of them"] if self.grid else told


class OneFile(Files):
    """Samples whose medium has them in one file: it is written when all are drawn."""

    def _there(self) -> dict[int, Path]:
        from unnoise.pipeline.record import together

        file = found(self.files[0], together(self.recipes))
        return {} if file is None else dict.fromkeys(range(len(self.recipes)), file)

    def missing(self) -> list[int]:
        return [] if self.done else list(range(len(self.recipes)))

    def write(self, i: int, a: np.ndarray) -> None:
        self.arrays[i] = a

    def close(self) -> None:
        import numpy as np

        from unnoise.media.files import put
        from unnoise.pipeline.record import together

        if self.done:
            return
        samples = np.stack([self.arrays[i] for i in range(len(self.recipes))])
        raw = self.medium.to_bytes(samples, json.dumps(together(self.recipes)))
        self.done = dict.fromkeys(self.arrays, put(self.files[0], raw, self.rules.overwrite))

    def report(self) -> dict[str, Any]:
        return super().report() | {"files": [str(self.done[0])]}

    def lines(self) -> list[str]:
        n, seeds = len(self.recipes), self.seeds
        many = f"{n} {self.medium.singular}{'s' if n > 1 else ''}"
        there = ["it was there already"] if self.kept else []
        return [f"{self.done[0]}  {many}, seeds {seeds[0]} … {seeds[-1]}", *there]


@contextmanager
def telling(state: Callable[[], str]) -> Iterator[None]:
    """When the body is broken off by Ctrl-C or SIGTERM, the last line says state()."""
    try:
        yield
    except KeyboardInterrupt as e:
        raise type(e)(str(e) or state()) from None


def how_far(done: int, of: int, more: str = "--resume", what: str = "pictures") -> str:
    """The last line of a run that was broken off."""
    return f"{done} of {of} {what} are written; the same command with {more} draws the rest"


def numbered(path: Path) -> Iterator[Path]:
    """path, path-2, path-3, … as long as they exist."""
    n, name = 1, path
    while os.path.lexists(name):
        yield name
        n += 1
        name = path.with_name(f"{path.stem}-{n}{path.suffix}")


def found(path: Path, recipe: dict[str, Any]) -> Path | None:
    """The file of this name, or of this name with a number, that holds what this very recipe makes, whole."""
    from unnoise.media import of_file, read_record
    from unnoise.pipeline.record import same

    for name in numbered(path):
        try:
            if same(read_record(name), recipe) and of_file(name).read(name) is not None:
                return name
        except BadInput:
            continue
    return None


def written(path: Path, raw: bytes, rules: Rules) -> Path:
    """Write a file that carries no recipe; with `resume`, one that holds these very bytes stays. Returns its
    path.
    """
    from unnoise.media.files import put

    for name in numbered(path) if rules.resume else ():
        if name.is_file() and name.read_bytes() == raw:
            return name
    file = put(path, raw, rules.overwrite)
    if file != path:
        note(f"{path} exists: wrote {file} (--overwrite replaces it)")
    return file


def pixels(path: Path) -> np.ndarray:
    """The picture of a file as uint8 (h, w, c)."""
    import numpy as np

    from unnoise.base import picture

    a = np.asarray(picture.opened(path))
    return a[..., None] if a.ndim == 2 else a


def first_seed(pipe: Pipeline, request: Request, output: Path) -> int | None:
    """The first seed of a broken-off run of this request whose pictures lie at `output`, or None."""
    from unnoise.media import read_record
    from unnoise.media.files import is_folder
    from unnoise.pipeline.record import same

    folder, pattern = (output, "*.png") if is_folder(output) else (output.parent, "*.png")
    stem, seeds = "" if is_folder(output) else output.stem, []
    wanted = replace(request, seeds=(0,) * len(request.seeds)).recipe(pipe, 0)
    for file in folder.glob(pattern):
        if not file.name.startswith(stem):
            continue
        try:
            recipe = read_record(file)
        except BadInput:
            continue
        seed = recipe.get("seed")
        if isinstance(seed, int) and same({**recipe, "seed": 0}, wanted):
            seeds.append(seed)
    return min(seeds, default=None)
