"""What comes along beside the code: recipes of training and the experiments of the lab, in the repository or
in an installed package.

In the repository they lie at its top (`recipes/`, `lab/`); setup.py puts them into the package when a wheel
is built.
"""

from __future__ import annotations

import os
from pathlib import Path

from unnoise.base.errors import BadInput
from unnoise.base.names import nearest
from unnoise.base.text import short


def folder(name: str) -> Path:
    """Where `recipes` or `lab` lies; it need not exist (a package that was put together by hand)."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.is_dir() else package.parents[1] / name


def recipes() -> dict[str, Path]:
    """{name: file} of the recipes that come along: "smoke", "digits", "gpu/emoji", …"""
    top = folder("recipes")
    return {
        str(p.relative_to(top).with_suffix("")).replace(os.sep, "/"): p for p in sorted(top.rglob("*.toml"))
    }


def recipe(given: str | os.PathLike[str]) -> Path:
    """The file of a recipe: one that is there under that path, else the one that comes along under that name
    ("smoke", also written "smoke.toml" or "recipes/smoke.toml"). BadInput: neither; names the nearest and
    lists them."""
    path, known = Path(given), recipes()
    if os.path.lexists(path):
        return path
    name = str(given).replace(os.sep, "/").removesuffix(".toml").removeprefix("recipes/")
    if name in known:
        return known[name]
    near = nearest(name, known)
    meant = f"; did you mean {near!r}?" if near else ""
    raise BadInput(
        f"no recipe {short(str(given), 200)}: there is no such file, and none of that name comes along{meant}"
        f" (those: {', '.join(known)})"
    )
