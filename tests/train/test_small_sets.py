"""Sets with fewer items than a sheet of samples shows: every task trains on them to its end."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.tiny import MLP, toml
from unnoise.train import run
from unnoise.train.recipe import parse


@pytest.mark.parametrize("task", ["denoise", "score"])
@pytest.mark.parametrize("items", [1, 5])
def test_a_set_of_few_items(tmp_path, task, items):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(items, 3)).astype(np.float32))
    d = toml(MLP, data={"name": str(tmp_path / "few.npy")}, train={"steps": 2, "batch": 4})
    result = run.train(parse({**d, "task": task}), tmp_path / "run")
    assert result["steps"] == 2 and (tmp_path / "run" / "model").is_dir()
