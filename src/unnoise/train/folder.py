"""The folder of a run: whose it is."""

from __future__ import annotations

from pathlib import Path

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.write import put
from unnoise.train.recipe import Recipe, parse


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """BadInput when `folder` holds another run, one that was not asked to go on, or something else under our
    names.
    """
    path = folder / "recipe.json"
    if not path.exists():
        for name in ("checkpoints", "log.jsonl", "model", "samples"):
            if (folder / name).exists():
                raise BadInput(
                    f"{folder} holds {name} but no recipe.json: it is not a training run; give another folder"
                )
        return
    if not resume:
        raise BadInput(f"{folder} already holds a run: give --resume to continue it, or another folder")
    try:
        there = parse(read.object_file(path, "recipe"), str(path))
    except BadInput as e:
        raise BadInput(f"cannot read {path}: {e}") from None
    if there != recipe:
        how = _difference(there.model_dump(), recipe.model_dump())
        raise BadInput(f"{folder} holds a run of another recipe ({how}): it can only be resumed with its own")


def _difference(there: dict, asked: dict, section: str = "") -> str:
    """The first entry in which two different recipes differ, and both values."""
    key = next(k for k in {**there, **asked} if there.get(k) != asked.get(k))
    u, v, name = there.get(key), asked.get(key), section + key
    if isinstance(u, dict) and isinstance(v, dict):
        return _difference(u, v, f"{name}.")
    return f"{name} is {u!r} there, given {v!r}"


def claim(folder: Path, recipe: Recipe) -> None:
    """Make `folder` this recipe's."""
    path = folder / "recipe.json"
    if not path.exists():
        put(path, recipe.model_dump_json(indent=1).encode())
