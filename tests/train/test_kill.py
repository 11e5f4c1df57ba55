"""SIGKILL at any moment, again and again, and the weights are those of the run that was left in peace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.tiny import UNET, toml

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_twenty_kills_in_one_run_and_every_hash_is_equal(tmp_path):
    """Kills hit steps, checkpoint writes and the middle of accumulation; one roll-back lies on the way."""
    r = toml({**UNET, "dropout": 0.1}, train={"steps": 60, "accumulate": 2, "bad_steps": 2}, log={"save": 1})
    spec = {"recipe": r, "folder": str(tmp_path / "killed"), "kills": 20, "seed": 0}
    command = [sys.executable, "-m", "tests.train.nursery", json.dumps(spec)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    got = json.loads(done.stdout.splitlines()[-1])
    assert got["torn"] >= 3, "too few kills hit a checkpoint that was being written"
    assert [got["kinds"].count(k) for k in ("time", "write", "micro")] == [7, 7, 6]
    for key in ("steps", "rollbacks", "raw_sha256", "ema0_sha256", "ema1_sha256", "validation"):
        assert got["killed"][key] == got["whole"][key], key
    assert got["whole"]["rollbacks"] == 1
