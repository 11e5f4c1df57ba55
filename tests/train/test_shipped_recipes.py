"""Every recipe that ships can be read, names what exists, and asks for a network that can be built for its
task.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from unnoise.train import build, recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted([*(ROOT / "recipes").rglob("*.toml"), *(ROOT / "lab").rglob("*.toml")])


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.relative_to(ROOT)))
def test_it_can_be_read_and_names_what_exists(path):
    r = recipe.load(path)
    build.check(r)
    assert r.train.steps % r.log.save == 0 or r.train.steps > r.log.save


@pytest.mark.parametrize("name", ["autoencoder", "clip", "emoji", "judge"])
def test_the_full_size_is_the_same_world_with_more_of_everything(name):
    small, large = (recipe.load(ROOT / "recipes" / d / f"{name}.toml") for d in (".", "gpu"))
    assert (small.name, small.task, small.data.name, small.process) == (
        large.name,
        large.task,
        large.data.name,
        large.process,
    )
    assert large.train.steps * large.train.batch > small.train.steps * small.train.batch
    assert large.data.concepts == 0 and large.data.world == (2 if name in ("autoencoder", "emoji") else 1)


@pytest.mark.parametrize("target, count", [("train-gpu", 6), ("train-default", 14)])
def test_make_trains_them_in_an_order_that_works(target, count):
    """Each run comes after those whose folders its recipe names."""
    rules = dict(re.findall(r"^([a-z-]+): (.*(?:\n\t.*)*)", (ROOT / "Makefile").read_text(), re.M))
    lines = rules["words"].splitlines()[1:] + rules[target].splitlines()[1:]
    assert rules[target].startswith("words") and "data fetch emoji" in lines[0]
    made = set()
    for line in lines:
        if m := re.search(r"recipes/tokenizer.py --out (\S+)", line):
            made.add(m[1])
        if "recipes/words.py" in line:
            made |= {"runs/gpu/words"} if "--out runs/gpu" in line else {"runs/words", "runs/words-start"}
        if not (m := re.search(r"TRAIN,([^)]+)\)", line)):
            continue
        r = tomllib.loads((ROOT / "recipes" / f"{m[1]}.toml").read_text())
        needs = {r["data"].get(k, "") for k in ("autoencoder", "text", "tokenizer")} | {
            r["train"].get("start", "")
        }
        assert {n.removesuffix("/model") for n in needs if n} <= made, f"{m[1]} comes before what it needs"
        made.add(f"runs/{m[1]}")
    assert len(made) == count
