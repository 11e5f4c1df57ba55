"""Two processes (gloo, CPU) against one: the same weights, one voice, one set of files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.train.test_cli import write
from tests.train.tiny import MLP, UNET
from unnoise.train import checkpoint

ROOT = Path(__file__).parents[2]


def start(processes: int, *args: str) -> subprocess.Popen:
    torchrun = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        if processes > 1
        else []
    )
    command = [sys.executable, *torchrun, "-m", "unnoise.cli.main", "train", *args, "--json"]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(p: subprocess.Popen) -> tuple[int, str, str]:
    out, err = p.communicate(timeout=120)
    return p.returncode, out, err


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path):
    # Adam turns rounding in a gradient near 0 into a part of its step, so what 1e-5 can hold depends on the
    # rate.
    file = write(tmp_path, UNET, train={"accumulate": 2, "lr": 5e-4})
    results = {}
    for n in (1, 2):
        code, out, err = finish(start(n, str(file), "--out", str(tmp_path / str(n))))
        assert code == 0, err
        assert out.count("\n") == 1  # one object, from the main process
        results[n] = json.loads(out)
    (a, sa), (b, sb) = (checkpoint.newest(tmp_path / str(n) / "checkpoints") for n in (1, 2))
    for part in ("raw", "ema0", "ema1"):
        for k in a[part]:
            torch.testing.assert_close(b[part][k], a[part][k], rtol=0, atol=1e-5)
    assert sa == sb and results[2]["loss"] == pytest.approx(results[1]["loss"], abs=1e-5)
    logs = [map(json.loads, (tmp_path / d / "log.jsonl").read_text().splitlines()) for d in "12"]
    rates = [[line["lr"] for line in log if line["event"] == "train"] for log in logs]
    assert rates[0] == rates[1] and len(rates[0]) == 8


@pytest.mark.slow
def test_processes_stop_together_and_one_says_why(tmp_path):
    """One of the two is told to stop: both do, it is saved, and one process alone can go on from there."""
    file, out = (
        write(tmp_path, MLP, train={"steps": 3000}, log={"every": 1, "save": 100000}),
        tmp_path / "run",
    )
    p, log = start(2, str(file), "--out", str(out)), out / "log.jsonl"
    while not (log.exists() and log.read_bytes().count(b"\n") > 2):
        assert p.poll() is None
        time.sleep(0.05)
    children = [int(c) for c in Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()]
    os.kill(children[-1], signal.SIGINT)
    code, said, err = finish(p)
    assert code != 0 and said == "" and err.count("is saved, --resume continues") == 1
    step = checkpoint.newest(out / "checkpoints")[1]["step"]
    assert 0 < step < 3000 and f"stopped after step {step} of 3000" in err

    code, said, err = finish(start(2, str(file), "--out", str(out)))
    assert code != 0 and said == "" and err.count("error: ") == 1 and "already holds a run" in err
