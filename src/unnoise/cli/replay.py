"""`unnoise replay`: make the picture of a PNG again from the recipe it carries, and say whether it is the same."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from unnoise.cli.common import emit
from unnoise.errors import BadInput, unknown

# What a recipe holds where it is not the default.
KEPT = ("noise", "guidance_rescale", "guidance_interval", "height", "width", "clip_skip", "guide", "guide_through", "guide_linear")


def replay(
    file: Annotated[Path, typer.Argument(help="A PNG that unnoise wrote.")],
    output: Annotated[Optional[Path], typer.Option("-o", "--output", help="Where to write it (default: FILE with -replay added).")] = None,  # noqa: UP045
    model: Annotated[Optional[str], typer.Option("--model", help="Use this model folder instead of the one the recipe names.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Make the picture of a PNG again from the recipe it carries."""
    from unnoise import hub
    from unnoise.pipeline import load, read_recipe

    found = read_recipe(file)
    if "sweep" in found: raise BadInput(f"{file} is the sheet of a sweep: replay the pictures of its cells, which lie beside it")
    recipes = found.get("grid", [found])
    name = model or _field(recipes[0], "model", file)
    if model is None and name not in hub.bundled():
        raise BadInput(f"{file} was made with model {name!r}, which is not a bundled one ({', '.join(hub.bundled())}): give its folder with --model")
    pipe = load(name)
    output = output or file.with_name(f"{file.stem}-replay.png")
    if output.resolve() == file.resolve(): raise BadInput(f"{output} is the file to replay: name another")
    result, changed = replay_recipes(pipe, recipes, file)
    image = result.grid() if "grid" in found else result.images[0]
    if "grid" in found: _write_grid(image, output, result)
    else: result.save(output)
    out = {"files": [str(output)], "seeds": list(result.seeds), **_compare(image, file), "changed": changed}
    text = f"{output}: " + ("identical" if out["identical"] else f"differs by up to {out['max_difference']} of 255")
    emit(out, as_json, "\n".join([text, *(f"changed since: {c}" for c in changed)]))


def replay_recipes(pipe, recipes: list[dict], file: Path):
    """Draw the images of `recipes` with `pipe`; returns the Result and a list of what has changed since they were made."""
    from unnoise.pipeline import revisions

    r = recipes[0]
    get = lambda key: _field(r, key, file)
    now: dict[str, Any] = {**revisions(), "model_sha256": pipe.sha256}
    changed = [f"{k}: {r.get(k)} -> {v}" for k, v in now.items() if k != "version" and r.get(k) != v]
    each = lambda key: [_field(q, key, file) for q in recipes]
    if "edit" in r: return _edited(pipe, recipes, file), changed
    grid = {"timesteps": r["timesteps"]} if "timesteps" in r else {"num_inference_steps": get("steps"), "spacing": get("spacing")}
    result = pipe(each("prompt"), negative_prompt=each("negative_prompt"), guidance_scale=get("guidance"), seed=each("seed"),
                  sampler=get("sampler"), **grid, **{k: r[k] for k in KEPT if k in r},
                  **r.get("options", {}))
    return result, changed


def _edited(pipe, recipes: list[dict], file: Path):
    """The same edit of the same pictures again. BadInput when one of them has moved or changed."""
    from unnoise.edit import edits
    from unnoise.edit.picture import read

    r, told = recipes[0], _field(recipes[0], "edit", file)
    kind, known = _field(told, "kind", file), edits()
    if kind not in known: raise unknown(f"edit in {file}", kind, known)
    inputs = {}
    for name, source in _field(told, "inputs", file).items():
        path = source.get("path")
        if not path or not Path(path).is_file(): raise BadInput(f"{file} was made from the {name} {path or '(no file)'}, which is not there")
        inputs[name] = read(path)
        if inputs[name].sha256 != source.get("sha256"): raise BadInput(f"{file} was made from the {name} {path}, which has changed since")
    how = {k: r[k] for k in KEPT if k in r and k not in ("height", "width")} | {"guidance_scale": r["guidance"], "sampler": r["sampler"]} | r.get("options", {})
    how |= {"timesteps": r["timesteps"]} if "timesteps" in r else {"num_inference_steps": r["steps"], "spacing": r["spacing"]}
    return known[kind](pipe, **inputs, prompt=r["prompt"], negative_prompt=r["negative_prompt"], seed=[q["seed"] for q in recipes], num_images=len(recipes),
                       **_field(told, "options", file), **how)


def _field(recipe: Any, key: str, file: Path) -> Any:
    if not isinstance(recipe, dict) or key not in recipe: raise BadInput(f"{file}: its recipe has no {key!r}")
    return recipe[key]


def _compare(image, file: Path) -> dict:
    import numpy as np
    from PIL import Image

    with Image.open(file) as im: old = np.asarray(im).astype(int)
    new = np.asarray(image).astype(int)
    if old.shape != new.shape: return {"identical": False, "max_difference": 255}
    return {"identical": bool((old == new).all()), "max_difference": int(abs(old - new).max())}


def _write_grid(image, output: Path, result) -> None:
    import json

    from unnoise.pipeline import write_png

    write_png(image, output, json.dumps({"grid": list(result.recipes)}))
