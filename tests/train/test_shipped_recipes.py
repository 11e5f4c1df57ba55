"""Every recipe that ships can be read, names what exists, and asks for a network that can be built for its task."""
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
    assert (small.name, small.task, small.data.name, small.process) == (large.name, large.task, large.data.name, large.process)
    assert large.train.steps * large.train.batch > small.train.steps * small.train.batch and large.data.concepts == 0


def test_make_train_default_runs_them_in_an_order_that_works():
    lines = (ROOT / "Makefile").read_text().split("\ntrain-default:")[1].split("\n\n")[0]
    places = [lines.index(part) for part in ("data fetch emoji", "tokenizer.py", "clip.toml", "autoencoder.toml", "cache.py", "emoji.toml --out")]
    assert places == sorted(places)
    for size in ("recipes", "recipes/gpu"):
        made = {"runs/tokenizer"}
        for name, out in re.findall(r"train \$\(RECIPES\)/(\S+\.toml) --out (\S+)", lines):
            if not (ROOT / size / name).exists(): continue
            r = tomllib.loads((ROOT / size / name).read_text())
            needs = {r["data"].get(k, "") for k in ("autoencoder", "text", "tokenizer")} | {r["train"].get("start", "")}
            if name == "emoji-words.toml" and "recipes/words.py" in lines.split("emoji-composed.toml --out")[1]: made |= {"runs/words", "runs/words-start"}
            assert {n.removesuffix("/model") for n in needs if n} <= made, f"{size}/{name} comes before what it needs"
            made.add(out)
        assert len(made) == (6 if size == "recipes/gpu" else 14)
