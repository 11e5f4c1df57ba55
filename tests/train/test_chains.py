"""Resumed trainings against one left in peace, under SIGKILL, SIGTERM and SIGINT: a few kills of
`tests.train.chains`, which makes 60.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_nine_kills_over_two_chains_leave_weights_and_log_as_they_are(tmp_path):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.chains", "9", "2"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    got = json.loads(done.stdout.splitlines()[-1])
    assert [c["differs"] for c in got["chains"]] == [[], []]
    assert got["kills"] == {"SIGKILL": 3, "SIGTERM": 3, "SIGINT": 3} and all(
        c["rollbacks"] == 1 for c in got["chains"]
    )
