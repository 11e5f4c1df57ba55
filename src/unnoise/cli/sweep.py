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

from unnoise.errors import BadInput, unknown

if TYPE_CHECKING:
    from unnoise.pipeline import Pipeline, Result

# name of the option -> the keyword of a pipeline call, the kind of its values
SWEPT: dict[str, tuple[str, Callable[[str], Any]]] = {
    "guidance": ("guidance_scale", float), "steps": ("num_inference_steps", int), "sampler": ("sampler", str), "seed": ("seed", int),
    "spacing": ("spacing", str), "negative": ("negative_prompt", str), "prompt": ("prompt", str), "noise": ("noise", str),
    "guidance-rescale": ("guidance_rescale", float), "clip-skip": ("clip_skip", int),
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

    taken: the keywords that other options set; value: reads a sampler's option. A value with a comma is quoted: negative='"a, b",c'.
    BadInput on more than two, an unknown or taken name, values that cannot be read, none, or repeats.
    """
    if len(given) > 2: raise BadInput(f"--sweep may be given twice (rows and columns), given {len(given)} times")
    found = [_axis(text, value) for text in given]
    for i, a in enumerate(found):
        if a.keyword in taken: raise BadInput(f"{a.name} is swept over: leave out the option that sets it to {taken[a.keyword]!r}")
        if a.keyword in [b.keyword for b in found[:i]]: raise BadInput(f"--sweep {a.name} is given twice: name two different settings")
    return found


def _axis(text: str, value: Callable[[str], Any]) -> Axis:
    name, eq, rest = text.partition("=")
    if not eq: raise BadInput(f"--sweep must be name=value,value,…, given {text!r}")
    keyword, kind = SWEPT[name] if name in SWEPT else (_option(name), value)
    texts = tuple(t.strip() for t in next(csv.reader([rest], skipinitialspace=True), []))
    if not texts: raise BadInput(f"--sweep {name} has no values: give {name}=value,value,…")
    values = tuple(_read(name, t, kind) for t in texts)
    for i, v in enumerate(values):
        if v in values[:i]: raise BadInput(f"--sweep {name}: the value {texts[i]!r} is repeated")
    return Axis(name, keyword, texts, values)


def _option(name: str) -> str:
    from unnoise.sample import SAMPLERS

    options = sorted({o for s in SAMPLERS.values() for o in s.options})
    if name not in options: raise unknown("setting for --sweep", name, [*SWEPT, *options])
    return name


def _read(name: str, text: str, kind: Callable[[str], Any]) -> Any:
    if not text and kind is not str: raise BadInput(f"--sweep {name} has an empty value: give {name}=value,value,…")
    try: return kind(text)
    except ValueError: raise BadInput(f"--sweep {name}: values must be {'whole ' if kind is int else ''}numbers, given {text!r}") from None


def run(pipe: Pipeline, given: list[Axis], request: dict[str, Any], output: Path, draw: Callable[..., Result]) -> dict[str, Any]:
    """Draw every cell and write its pictures, then the sheet; returns what `generate --json` prints of it.

    request: keywords of a pipeline call, shared by all cells; draw: makes a Result of a cell's. All cells are checked before the first is drawn.
    """
    from unnoise.look import need_pictures, sheet
    from unnoise.pipeline import make_folder, write_png

    need_pictures(pipe, "--sweep")
    request = {k: v for k, v in request.items() if k not in [a.keyword for a in given]}
    rows, columns = given if len(given) == 2 else (None, given[0])
    cells = [dict(zip([a.keyword for a in given], values)) for values in product(*(a.values for a in given))]
    slugs = [_slug(f"{k:0{len(str(len(cells) - 1))}}", given, texts) for k, texts in enumerate(product(*(a.texts for a in given)))]
    if not any(a.keyword == "seed" for a in given): request = {**request, "seed": pipe.request(**request | cells[0]).seeds[0]}
    _check(pipe, given, [request | cell for cell in cells])
    if output.is_dir() or not output.suffix:
        make_folder(output)
        output = output / "sweep.png"
    pictures, entries, recipes = [], [], []
    for cell, slug in zip(cells, slugs):
        began = time.perf_counter()
        result = draw(request | cell)
        files = result.save(output.with_name(f"{output.stem}-{slug}.png"))
        seconds = round(time.perf_counter() - began, 3)
        named = {a.name: cell[a.keyword] for a in given}
        entries += [{**named, "file": str(f), "seed": s, "nfe": result.nfe, "seconds": seconds} for f, s in zip(files, result.seeds)]
        pictures.append(result.grid() if len(files) > 1 else result.images[0])
        recipes += result.recipes
    width = len(columns.values)
    image = sheet([pictures[i : i + width] for i in range(0, len(pictures), width)], _labels(columns), _labels(rows, f"{rows.name} ") if rows else (),
                  _title(pipe, request, given), columns.name,
                  least=96 * math.ceil(math.sqrt(request["num_images"])))
    write_png(image, output, json.dumps({"sweep": [{"name": a.name, "values": list(a.values)} for a in given], "cells": recipes}))
    return {"files": [e["file"] for e in entries], "grid": str(output), "sweep": entries, "seeds": list(dict.fromkeys(e["seed"] for e in entries))}


def _check(pipe: Pipeline, given: list[Axis], cells: list[dict[str, Any]]) -> None:
    """Every cell's request, before the first is drawn. BadInput also where two cells are the same under two names."""
    requests = [pipe.request(**cell) for cell in cells]
    for i, r in enumerate(requests):
        if r in requests[:i]: raise BadInput(f"--sweep {given[-1].name}: two values mean the same ({', '.join(given[-1].texts)})")


def _labels(axis: Axis, before: str = "") -> list[str]:
    return [before + (t or "(none)") for t in axis.texts]


def _title(pipe: Pipeline, request: dict[str, Any], given: list[Axis]) -> str:
    """What the cells share: the prompt, the model and the settings given."""
    names = {keyword: name for name, (keyword, _) in SWEPT.items()}
    shared = [f"{names.get(k, k)} {v}" for k, v in request.items() if k not in ("prompt", "num_images")]
    prompt = [] if any(a.keyword == "prompt" for a in given) else [request.get("prompt") or "no prompt"]
    return ", ".join([*prompt, *shared, f"model {pipe.name}"])


def _slug(number: str, given: list[Axis], texts: tuple[str, ...]) -> str:
    """A cell's part of a file name. Its number keeps apart what the letters alone would not."""
    text = "-".join([number, *(f"{a.name}-{t}" for a, t in zip(given, texts))])
    return "".join(c if c.isalnum() or c in "._" else "-" for c in text)[:60].strip("-")
