"""lab/anomaly runs: a network that never saw the class, a row with the sweep, the picture."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unnoise.data.sets import missing_files

RUN = Path(__file__).parents[2] / "lab" / "anomaly" / "run.py"


@pytest.mark.skipif(bool(missing_files("fashion-mnist")), reason="fashion-mnist is not fetched")
def test_a_quick_run_sweeps_and_draws(tmp_path):
    done = subprocess.run(
        [sys.executable, RUN, "--quick", "--json", "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [r["by"] for r in rows] == ["score", "relative"]
    for row in rows:
        assert (
            row["left out"] == "a bag"
            and len(row["sweep"]) == 9
            and all(0 <= v <= 1 for v in row["sweep"].values())
        )
        assert row["sweep"][str(row["best"])] == max(row["sweep"].values())
    recipe = json.loads((tmp_path / "fashion-without-bag-3" / "recipe.json").read_text())
    assert recipe["data"]["without"] == ["a bag"]
    assert np.asarray(Image.open(tmp_path / "anomaly.png")).std() > 10
