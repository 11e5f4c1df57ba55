"""A world that is nothing but a class and its line: trained on, judged, resumed, saved and drawn from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import Field

from tests.train.tiny import MLP, recipe
from unnoise.base.errors import BadInput, unknown
from unnoise.base.section import Section
from unnoise.codec import Vectors
from unnoise.data.draw import Draw
from unnoise.pipeline import load
from unnoise.train import checkpoint, run
from unnoise.train.fit import fit, prepare
from unnoise.train.recipe import parse
from unnoise.worlds import WORLDS


class Options(Section):
    spread: float = Field(default=0.1, gt=0)


@dataclass(frozen=True)
class Corners:
    """Points about two corners of a square."""

    Options: ClassVar[type[Section]] = Options
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    name: str
    split: str
    options: Any
    licence: str = "MIT"
    says_anew: bool = False

    @classmethod
    def open(cls, name, split, options):
        if split not in cls.splits:
            raise unknown("split of corners", split, cls.splits)
        return cls(name, split, options)

    def other(self, split):
        return self.open(self.name, split, self.options)

    def digest(self, values):
        return hashlib.sha256(json.dumps([self.split, self.options.model_dump()]).encode()).hexdigest()

    def codec(self):
        return Vectors((2,), 0.0, 1.0)

    def attributes(self, seed, index):
        draw = Draw(seed, index, 200 + self.splits.index(self.split))
        return draw.below(2), draw.uniform(-1, 1), draw.uniform(-1, 1)

    def render(self, attributes):
        corner, dx, dy = attributes
        at = (-1.0, -1.0) if corner == 0 else (1.0, 1.0)
        return np.array(at, np.float32) + np.float32(self.options.spread) * np.array([dx, dy], np.float32)

    def caption(self, attributes, seed, index):
        return ""

    def again(self, seed, index, visit):
        return ""

    def questions(self):
        return {"corner": ("lower", "upper")}

    def answers(self, attributes):
        return {"corner": self.questions()["corner"][attributes[0]]}

    def held_out(self, attributes):
        return False

    def known(self):
        return None


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(WORLDS, "corners", Corners)


def corners(data: dict | None = None, **sections):
    return recipe(MLP, data={"name": "corners", **(data or {})}, **sections)


def test_a_model_of_it_trains_resumes_and_draws(tmp_path):
    r = corners(train={"steps": 4})
    done = run.train(r, tmp_path / "one")
    assert set(done["validation"]) == {"loss", *(f"loss_{(j + 0.5) / 8:.4f}" for j in range(8))}
    assert not (tmp_path / "one" / "samples").exists()  # there is nothing to see in numbers
    two = prepare(r)
    for s in fit(two):
        if s.step == 2:
            break
    checkpoint.write(tmp_path / "two" / "checkpoints", 2, two.parts(), two.state())
    (tmp_path / "two" / "recipe.json").write_text(r.model_dump_json())
    assert run.train(r, tmp_path / "two", resume=True)["raw_sha256"] == done["raw_sha256"]
    assert load(done["folder"])(seed=1, num_images=3, num_inference_steps=2).arrays.shape == (3, 2)


def test_its_options_change_its_items_and_its_digest():
    near, far = (prepare(corners({"options": {"spread": v}})).source for v in (0.1, 0.5))
    assert near.data.sha256 != far.data.sha256
    assert float(near.fetch(range(50)).x.abs().max()) < 1.11 < float(far.fetch(range(50)).x.abs().max())
    assert parse(json.loads(corners({"options": {"spread": 0.5}}).model_dump_json())) == corners(
        {"options": {"spread": 0.5}}
    )


def test_workers_draw_the_same_items():
    r = corners(train={"steps": 2})
    where = (1, 8, 0, 1, 0, 1)
    src = prepare(r).source
    drawer = src.ahead()
    assert drawer is not None
    items, more = drawer.draw(r, 0, where)
    assert items is not None
    assert more == {}
    assert np.array_equal(items.x.numpy(), src.fetch(range(8, 16)).x.numpy())


@pytest.mark.parametrize(
    "data, says",
    [
        ({"options": {"spred": 1.0}}, "'data.options.spred'; did you mean 'data.options.spread'"),
        ({"options": {"spread": -1.0}}, "data.options.spread: input should be greater than 0"),
        ({"name": "corner"}, "world 'corner'; did you mean 'corners'"),
        ({"split": "tests"}, "split of corners 'tests'; did you mean 'test'"),
        ({"size": 32}, "data.size does nothing here"),
        ({"mixture": {"plain": 1.0}}, "data.mixture does nothing here"),
        ({"shift": 1}, "data.shift does nothing here"),
    ],
)
def test_what_it_is_not_told_is_an_error(data, says):
    with pytest.raises(BadInput, match=says):
        prepare(corners(data))
