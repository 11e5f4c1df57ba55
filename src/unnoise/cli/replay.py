"""`unnoise replay`: make the picture of a PNG again from the recipe it carries, and say whether it is the
same.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import short
from unnoise.cli.common import emit, note

if TYPE_CHECKING:
    from PIL import Image

    from unnoise.pipeline import Pipeline, Result
    from unnoise.pipeline.record import Recipe

# What a recipe holds where it is not the default.
KEPT = (
    "noise",
    "guidance_rescale",
    "guidance_interval",
    "clip_skip",
    "guide",
    "guide_through",
    "guide_linear",
)
MOST_THREADS = 256

File = Annotated[Path, typer.Argument(help="A PNG that unnoise wrote.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Where to write it (default: FILE with -replay added).")
]
Model = Annotated[
    str | None, typer.Option("--model", help="Use this model folder instead of the one the recipe names.")
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace a file that lies there; by default a new number is taken."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def replay(
    file: File,
    output: Output = None,
    model: Model = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make the picture of a PNG again from the recipe it carries, in its number type and with its number of
    threads.
    """
    from unnoise.base import picture as pictures
    from unnoise.media import of_file, read_record
    from unnoise.pipeline import load, record

    found, medium = read_record(file), of_file(file)
    if not medium.together:
        pictures.opened(file)  # nothing is drawn for a picture that is damaged, and cannot be compared with
    recipes = record.checked(found, str(file))
    first = recipes[0]
    model = model or _bundled(first, file)
    output = _output(output, file, medium.suffixes)
    with _threads(first):
        pipe = load(model, dtype=first.dtype or "auto")
        result, changed = replay_recipes(pipe, [r.model_dump(exclude_unset=True) for r in recipes], file)
        if medium.together:
            output, difference = _rows(result, file, output, overwrite)
        else:
            output, image = _write(result, "grid" in found, output, overwrite)
            difference = _compare(image, file)
    out = {"files": [str(output)], "seeds": list(result.seeds), **difference, "changed": changed}
    emit(out, as_json, "\n".join(_lines(output, out, changed)))


def _bundled(r: Recipe, file: Path) -> str:
    """The model that a recipe names. BadInput where it does not come with the package: a file names no
    folder that is opened unasked.
    """
    from unnoise import hub

    if r.model not in hub.bundled():
        raise BadInput(
            f"{file} was made with model {short(r.model)}, which is not a bundled one "
            f"({', '.join(hub.bundled())}): give its folder with --model"
        )
    return r.model


def _output(output: Path | None, file: Path, suffixes: Sequence[str]) -> Path:
    """Where to write, never over the file itself."""
    from unnoise.cli.generate import writable

    out = output or file.with_name(f"{file.stem}-replay{suffixes[0]}")
    writable(out)
    if out.is_dir() or out.suffix.lower() not in suffixes:
        what = "a folder" if out.is_dir() else f"no {suffixes[0]} file"
        raise BadInput(f"{out} is {what}: name a {suffixes[0]} file")
    if out.resolve() == file.resolve():
        raise BadInput(f"{out} is the file to replay: name another")
    return out


def _rows(result: Result, file: Path, output: Path, overwrite: bool) -> tuple[Path, dict[str, Any]]:
    """(path, whether it is the file's, the largest difference of a value) of rows made again. BadInput where
    the file holds others, or the model makes no rows.
    """
    import numpy as np

    [path] = result.save(output, overwrite)
    there, now = result.medium.read(file), result.medium.read(path)
    if there.shape != now.shape:
        raise BadInput(f"{file} holds {len(there)} rows, its recipe {len(now)}")
    return path, {
        "identical": bool(np.array_equal(there, now)),
        "max_difference": float(np.abs(there - now).max()),
    }


def _write(result: Result, as_grid: bool, output: Path, overwrite: bool) -> tuple[Path, Image.Image]:
    """(path, picture) of what was made again, with its recipe."""
    from unnoise.media.files import put
    from unnoise.media.pictures import png

    image = result.grid() if as_grid else result.images[0]
    recipe = {"grid": list(result.recipes)} if as_grid else result.recipes[0]
    path = put(output, png(image, json.dumps(recipe)), overwrite)
    if path != output:
        note(f"{output} exists: writing {path} (--overwrite replaces it)")
    return path, image


def _lines(output: Path, out: dict[str, Any], changed: list[str]) -> list[str]:
    same = "identical" if out["identical"] else f"differs by up to {out['max_difference']} of 255"
    lines = [f"{output}: {same}", *(f"changed since: {c}" for c in changed)]
    machine = any(c.partition(":")[0] in ("device", "engine", "cpu", "threads", "torch") for c in changed)
    if machine and not out["identical"]:
        lines.append(
            "sums are rounded in another order there: pictures may differ by 1 or 2 of 255, rarely more"
        )
    return lines


class _threads:
    """Inside, the number of threads that a picture was made with: rounding depends on it."""

    def __init__(self, r: Recipe):
        self.wanted = r.machine.threads if r.machine else None

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_num_threads()
        if self.wanted and self.wanted <= MOST_THREADS:
            torch.set_num_threads(self.wanted)

    def __exit__(self, *error: object) -> None:
        import torch

        torch.set_num_threads(self.before)


def replay_recipes(pipe: Pipeline, recipes: Sequence[dict[str, Any]], file: Path) -> tuple[Result, list[str]]:
    """Draw the images of `recipes` with `pipe`; returns the Result and a list of what has changed since they
    were made.

    BadInput where a recipe is damaged, or is not one of a picture that this version and this model can make.
    """
    from unnoise.pipeline import record

    given = record.several(recipes, str(file))
    first = given[0]
    changed = [f"{k}: unknown to this version" for k in record.unknown_keys(first)] + _changed(pipe, first)
    if first.dtype is not None:
        pipe = pipe.with_defaults(
            clip=first.clip,
            spacing_options=first.spacing_options or None,
            spacing=first.spacing if first.spacing_options else pipe.defaults["spacing"],
        )
    if first.edit:
        return _edited(pipe, given, file), changed
    how = _how(first) | {k: v for k in ("height", "width") if (v := getattr(first, k)) is not None}
    prompts, negatives = [r.prompt for r in given], [r.negative_prompt for r in given]
    return pipe(prompts, negative_prompt=negatives, seed=[r.seed for r in given], **how), changed


def _changed(pipe: Pipeline, r: Recipe) -> list[str]:
    """What a picture depends on that is otherwise now than it was, as `name: then -> now`."""
    from unnoise.engine.device import name_of
    from unnoise.pipeline import revisions

    now: dict[str, Any] = {
        **revisions(),
        "model_sha256": pipe.sha256,
        "weights_sha256": pipe.runner.weights_sha256(),
    }
    then: dict[str, Any] = {k: getattr(r, k) for k in now}
    if r.dtype is not None:
        now, then = now | {"dtype": name_of(pipe.runner.dtype)}, then | {"dtype": r.dtype}
    if r.machine:
        now, then = now | pipe.runner.facts(), then | r.machine.model_dump(exclude_none=True)
    return [
        f"{k}: {then.get(k) or None} -> {v or None}"
        for k, v in now.items()
        if k != "version" and then.get(k) != v
    ]


def _how(r: Recipe) -> dict[str, Any]:
    """The keywords of a pipeline call that a recipe stands for, without its prompt, seed and size."""
    if r.timesteps is not None:
        grid: dict[str, Any] = {"timesteps": r.timesteps}
    else:
        grid = {"num_inference_steps": r.steps, "spacing": r.spacing}
    told = {k: getattr(r, k) for k in KEPT if k in r.model_fields_set and getattr(r, k) is not None}
    clash = sorted({*r.options} & {*grid, *told, "guidance_scale", "sampler", "prompt", "seed"})
    if clash:
        raise BadInput(f"a recipe's option {clash[0]!r} is none of a sampler's")
    return {**grid, **told, "guidance_scale": r.guidance, "sampler": r.sampler, **r.options}


def _edited(pipe: Pipeline, recipes: Sequence[Recipe], file: Path) -> Result:
    """The same edit of the same pictures again. BadInput when one of them has moved or changed."""
    from unnoise.edit import edits

    r, known = recipes[0], edits()
    assert r.edit is not None
    if r.edit.kind not in known:
        raise unknown(f"edit in {file}", r.edit.kind, known)
    given = {
        **_inputs(r, file),
        "prompt": r.prompt,
        "negative_prompt": r.negative_prompt,
        "seed": [q.seed for q in recipes],
        "num_images": len(recipes),
    }
    twice = sorted(({*r.edit.options} & {*given, *_how(r)}) | ({*given} & {*_how(r)}))
    if twice:
        raise BadInput(f"{file}: its recipe gives {twice[0]!r} twice")
    return _called(known[r.edit.kind], pipe, {**given, **r.edit.options, **_how(r)}, file)


def _called(edit: Any, pipe: Pipeline, given: dict[str, Any], file: Path) -> Result:
    """An edit's Result. BadInput where a recipe's values are of types that the edit does not take."""
    try:
        inspect.signature(edit).bind(pipe, **given)
        return edit(pipe, **given)
    except (TypeError, AttributeError, OverflowError) as e:
        raise BadInput(f"{file}: its recipe does not fit the edit: {short(str(e), 200)}") from e


def _inputs(r: Recipe, file: Path) -> dict[str, Any]:
    """The pictures that an edit was made from, by name."""
    from unnoise.edit.picture import read

    assert r.edit is not None
    found = {}
    for name, source in r.edit.inputs.items():
        path = source.path
        if not path or not Path(path).is_file():
            raise BadInput(
                f"{file} was made from the {name} {short(path) if path else '(no file)'}, which is not there"
            )
        found[name] = read(path)
        if found[name].sha256 != source.sha256:
            raise BadInput(f"{file} was made from the {name} {short(path)}, which has changed since")
    return found


def _compare(image: Image.Image, file: Path) -> dict[str, Any]:
    """Whether a picture is a file's, and the largest difference of a value."""
    import numpy as np

    from unnoise.base.picture import opened

    old, new = (np.asarray(v).astype(int) for v in (opened(file), image))
    if old.shape != new.shape:
        return {"identical": False, "max_difference": 255}
    return {"identical": bool((old == new).all()), "max_difference": int(abs(old - new).max())}
