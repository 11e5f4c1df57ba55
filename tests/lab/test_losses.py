"""lab/losses: what differs between arms, what is corrupted, what is measured, and that it runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lab.losses import run
from unnoise import data

pytest.importorskip("sklearn")
HERE = Path(run.__file__).parent


def test_a_tenth_of_the_training_digits_is_noise_and_no_held_out_one(tmp_path):
    file = run.corrupted(tmp_path, 3)
    clean, test, found = data.load("digits8", "train"), data.load("digits8", "test"), data.load(file, "train")
    changed = (found.x != clean.x).any((1, 2, 3))
    assert abs(changed.mean() - 0.1) < 0.03 and np.array_equal(found.labels, clean.labels)
    assert abs(found.x[changed].mean() - 127.5) < 4 and np.array_equal(data.load(file, "test").x, test.x)
    assert not np.array_equal(
        changed, (data.load(run.corrupted(tmp_path, 4), "train").x != clean.x).any((1, 2, 3))
    )


def test_arms_differ_in_the_loss_alone():
    for name, arm in run.ARMS.items():
        assert set(arm) <= {"objective", "process"} and set(arm.get("process", {})) <= {"weight"}, name
    assert run.filled(run.ARMS["self_perceptual"], {"mse": "there"}) == {
        "objective": {"features": "there", "share": run.SHARE}
    }


def test_the_page_holds_what_was_measured():
    page = (HERE / "README.md").read_text()
    assert (
        all(f"| {k} |" in page for k in (*run.ARMS, *run.OUTLIERS, *run.COLUMNS.values()))
        and (HERE / "losses.png").stat().st_size < 150_000
    )


def test_it_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, HERE / "run.py", "--quick", "--json", "--out", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["losses"][0]) == set(run.ARMS) and set(found["outliers"][0]) == set(run.OUTLIERS)
    assert found["losses"][0]["self_perceptual"]["seconds"] > 0 and (tmp_path / "losses.png").exists()
