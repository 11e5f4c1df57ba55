"""`generate --sweep`: the same prompt and seeds over one or two ranges of settings, on one labelled sheet."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unnoise.base.errors import BadInput, unknown
from unnoise.cli import kept
from unnoise.cli.common import note

if TYPE_CHECKING:
    from unnoise.pipeline import Pipeline, Request

# name of the option -> the keyword of a pipeline call, the kind of its values
SWEPT: dict[str, tuple[str, Callable[[str], Any]]] = {
    "guidance": ("guidance_scale", float),
    "steps": ("num_inference_steps", int),
    "sampler": ("sampler", str),
    "seed": ("seed", int),
    "spacing": ("spacing", str),
    "negative": ("negative_prompt", str),
    "prompt": ("prompt", str),
    "noise": ("noise", str),
    "guidance-rescale": ("guidance_rescale", float),
    "clip-skip": ("clip_skip", int),
}


@dataclass(frozen=True)
class Axis:
    """One range: its name, the keyword of a pipeline call it sets, the values as typed and as given on."""

    name: str
    keyword: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]


def axes(given: list[str], taken: dict[str, Any], value: Callable[[str], Any]) -> list[Axis]:
    """The axes of "name=a,b,c" texts: one, or rows and columns.

    taken: the keywords that other options set; value: reads a sampler's option. A value with a comma is
    quoted: negative='"a, b",c'. BadInput on more than two, an unknown or taken name, values that cannot be
    read, none, or repeats.
    """
    if len(given) > 2:
        raise BadInput(f"--sweep may be given twice (rows and columns), given {len(given)} times")
    found = [_axis(text, value) for text in given]
    for i, a in enumerate(found):
        if a.keyword in taken:
            raise BadInput(
                f"{a.name} is swept over: leave out the option that sets it to {taken[a.keyword]!r}"
            )
        if a.keyword in [b.keyword for b in found[:i]]:
            raise BadInput(f"--sweep {a.name} is given twice: name two different settings")
    return found


def _axis(text: str, value: Callable[[str], Any]) -> Axis:
    name, eq, rest = text.partition("=")
    if not eq:
        raise BadInput(f"--sweep must be name=value,value,…, given {text!r}")
    keyword, kind = SWEPT[name] if name in SWEPT else (_option(name), value)
    texts = tuple(t.strip() for t in next(csv.reader([rest], skipinitialspace=True), []))
    if not texts:
        raise BadInput(f"--sweep {name} has no values: give {name}=value,value,…")
    values = tuple(_read(name, t, kind) for t in texts)
    for i, v in enumerate(values):
        if v in values[:i]:
            raise BadInput(f"--sweep {name}: the value {texts[i]!r} is repeated")
    return Axis(name, keyword, texts, values)


def _option(name: str) -> str:
    from unnoise.sample import SAMPLERS

    options = sorted({o for s in SAMPLERS.values() for o in s.options})
    if name not in options:
        raise unknown("setting for --sweep", name, [*SWEPT, *options])
    return name


def _read(name: str, text: str, kind: Callable[[str], Any]) -> Any:
    if not text and kind is not str:
        raise BadInput(f"--sweep {name} has an empty value: give {name}=value,value,…")
    try:
        return kind(text)
    except ValueError:
        raise BadInput(
            f"--sweep {name}: values must be {'whole ' if kind is int else ''}numbers, given {text!r}"
        ) from None


@dataclass(frozen=True)
class Cell:
    """One cell of a sweep: the values it sets, its part of file names, its request."""

    values: dict[str, Any]
    slug: str
    request: Request


def run(
    pipe: Pipeline,
    given: list[Axis],
    request: dict[str, Any],
    output: Path,
    draw: Callable[..., kept.Batches],
    rules: kept.Rules,
) -> tuple[dict[str, Any], list[str]]:
    """Draw every cell and write its pictures, then the sheet; returns what `generate` prints of it, as JSON
    and as lines.

    request: keywords of a pipeline call, shared by all cells; draw: the pictures of a request as they are
    finished. All cells are checked before the first is drawn.
    """
    from unnoise.show import need_pictures

    need_pictures(pipe, "--sweep")
    cells = _cells(pipe, given, request, output, rules)
    output = _place(output, cells, rules)
    done: list[kept.Files] = []
    entries: list[dict[str, Any]] = []
    how_far = lambda: kept.how_far(len(done), len(cells), _go_on(request, given, cells, output), "cells")
    with kept.telling(how_far):
        for cell in cells:
            began = time.perf_counter()
            files = kept.Files.of(pipe, cell.request, _file(output, cell), rules, quiet=True)
            nfe = files.draw(cell.request, draw)
            files.close()
            done.append(files)
            entries += _entries(given, cell, files, nfe, round(time.perf_counter() - began, 3))
        sheet = _write_sheet(pipe, given, request, done, output, rules)
    out = _report(sheet, entries)
    if rules.resume:
        out["kept"] = sum(f.kept for f in done)
    return out, [f"{sheet}  seed {_first_seeds(out['seeds'])}"]


def _report(sheet: Path, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """What `--json` prints of a sweep."""
    return {
        "files": [e["file"] for e in entries],
        "grid": str(sheet),
        "sweep": entries,
        "seeds": list(dict.fromkeys(e["seed"] for e in entries)),
    }


def _first_seeds(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds[:8])) + (", …" if len(seeds) > 8 else "")


def _cells(
    pipe: Pipeline, given: list[Axis], request: dict[str, Any], output: Path, rules: kept.Rules
) -> list[Cell]:
    """The cells, row by row, checked; of one seed, where that is not swept over."""
    keywords = [a.keyword for a in given]
    plain = {k: v for k, v in request.items() if k not in keywords}
    values = [dict(zip(keywords, v)) for v in product(*(a.values for a in given))]
    digits = len(str(len(values) - 1))
    slugs = [
        _slug(f"{k:0{digits}}", given, texts) for k, texts in enumerate(product(*(a.texts for a in given)))
    ]
    if "seed" not in plain and "seed" not in keywords:
        plain["seed"] = _seed(pipe, plain | values[0], output, slugs[0], rules)
    requests = [pipe.request(**plain | v) for v in values]
    for i, r in enumerate(requests):
        if r in requests[:i]:
            raise BadInput(
                f"--sweep {given[-1].name}: two values mean the same ({', '.join(given[-1].texts)})"
            )
    return [Cell(*c) for c in zip(values, slugs, requests)]


def _seed(pipe: Pipeline, first: dict[str, Any], output: Path, slug: str, rules: kept.Rules) -> int:
    """The seed of all cells: where a sweep is resumed that of its first cell, else a new one."""
    r = pipe.request(**first)
    begun = (
        kept.first_seed(pipe, r, _sheet(output).with_name(f"{_sheet(output).stem}-{slug}.png"))
        if rules.resume
        else None
    )
    return r.seeds[0] if begun is None else begun


def _sheet(output: Path) -> Path:
    return output / "sweep.png" if output.is_dir() or not output.suffix else output


def _file(output: Path, cell: Cell) -> Path:
    return output.with_name(f"{output.stem}-{cell.slug}.png")


def _place(output: Path, cells: list[Cell], rules: kept.Rules) -> Path:
    """Where the sheet goes; its name begins those of the cells. Unless files may be met there, a name that is
    free for all.
    """
    from unnoise.media.files import free_stem, labels_of, named

    wanted = _sheet(output)
    if rules.overwrite or rules.resume:
        return wanted

    def files(sheet: Path) -> list[Path]:
        names = [named(_file(sheet, c), labels_of(c.request.seeds), overwrite=True) for c in cells]
        return [sheet, *(f for n in names for f in (*n.files, *([n.grid] if n.grid else [])))]

    free = free_stem(wanted, files)
    if free != wanted:
        note(f"{wanted} or pictures of its cells exist: writing {free} (--overwrite replaces them)")
    return free


def _go_on(request: dict[str, Any], given: list[Axis], cells: list[Cell], output: Path) -> str:
    """What to add to a sweep that was broken off."""
    seed = (
        ""
        if "seed" in request or any(a.keyword == "seed" for a in given)
        else f"--seed {cells[0].request.seeds[0]} "
    )
    return f"-o {output} {seed}--resume"


def _entries(
    given: list[Axis], cell: Cell, files: kept.Files, nfe: int, seconds: float
) -> list[dict[str, Any]]:
    """What `--json` says of a cell's pictures."""
    named, told = {a.name: cell.values[a.keyword] for a in given}, files.report()
    return [
        {**named, "file": f, "seed": s, "nfe": nfe, "seconds": seconds}
        for f, s in zip(told["files"], told["seeds"])
    ]


def _write_sheet(
    pipe: Pipeline,
    given: list[Axis],
    request: dict[str, Any],
    done: list[kept.Files],
    output: Path,
    rules: kept.Rules,
) -> Path:
    """The sheet of all cells under labels; returns its path."""
    from unnoise.media.files import put
    from unnoise.media.pictures import png
    from unnoise.show import sheet

    rows, columns = given if len(given) == 2 else (None, given[0])
    pictures, width = [files.sheet() for files in done], len(columns.values)
    table = [pictures[i : i + width] for i in range(0, len(pictures), width)]
    image = sheet(
        table,
        _labels(columns),
        _labels(rows, f"{rows.name} ") if rows else (),
        _title(pipe, request, given, done[0].seeds[0]),
        columns.name,
        least=96 * math.ceil(math.sqrt(request["num_images"])),
    )
    recipe = {
        "sweep": [{"name": a.name, "values": list(a.values)} for a in given],
        "cells": [q for f in done for q in f.recipes],
    }
    if rules.resume and (there := kept.found(output, recipe)):
        return there
    return put(output, png(image, json.dumps(recipe)), rules.overwrite)


def _labels(axis: Axis, before: str = "") -> list[str]:
    return [before + (t or "(none)") for t in axis.texts]


def _title(pipe: Pipeline, request: dict[str, Any], given: list[Axis], seed: int) -> str:
    """What the cells share: the prompt, the model, the settings given and the first seed."""
    swept = [a.keyword for a in given]
    names = {keyword: name for name, (keyword, _) in SWEPT.items()}
    same = {k: v for k, v in {**request, "seed": request.get("seed", seed)}.items() if k not in swept}
    shared = [f"{names.get(k, k)} {v}" for k, v in same.items() if k not in ("prompt", "num_images")]
    prompt = [] if "prompt" in swept else [request.get("prompt") or "no prompt"]
    return ", ".join([*prompt, *shared, f"model {pipe.name}"])


def _slug(number: str, given: list[Axis], texts: tuple[str, ...]) -> str:
    """A cell's part of a file name. Its number keeps apart what the letters alone would not."""
    text = "-".join([number, *(f"{a.name}-{t}" for a, t in zip(given, texts))])
    return "".join(c if c.isalnum() or c in "._" else "-" for c in text)[:60].strip("-")
