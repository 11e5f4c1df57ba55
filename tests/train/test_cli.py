"""`unnoise train`: one object on stdout, one line for what is wrong, 130 for Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.tiny import MLP, UNET, toml
from unnoise.train import checkpoint

ROOT = Path(__file__).parents[2]


def write(folder: Path, net: dict = MLP, **sections) -> Path:
    """A recipe as a TOML file."""
    path, d = folder / "recipe.toml", toml(net, **sections)
    top = {k: v for k, v in d.items() if not isinstance(v, dict)}
    value = lambda v: json.dumps(v)  # JSON's strings, numbers, booleans and lists are TOML's
    lines = [f"{k} = {value(v)}" for k, v in top.items()]
    for name, keys in d.items():
        if isinstance(keys, dict):
            lines += [f"[{name}]", *(f"{k} = {value(v)}" for k, v in keys.items())]
    path.write_text("\n".join(lines))
    return path


def start(*args: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "unnoise.cli.main", "train", *map(str, args)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def unnoise(*args: object) -> tuple[int, str, str]:
    p = start(*args)
    out, err = p.communicate(timeout=120)
    return p.returncode, out, err


@pytest.mark.slow
def test_train_stop_and_resume(tmp_path):
    file = write(tmp_path, UNET, train={"steps": 150}, log={"save": 50})
    code, out, err = unnoise(file, "--out", tmp_path / "whole", "--json")
    assert (code, err) == (0, "") and out.count("\n") == 1
    whole = json.loads(out)
    assert whole["steps"] == 150 and whole["folder"] == str(tmp_path / "whole" / "model")
    assert whole["raw_sha256"] and whole["ema_sha256"] == whole["ema0_sha256"]

    p, log = start(file, "--out", tmp_path / "cut", "--json"), tmp_path / "cut" / "log.jsonl"
    while not (log.exists() and log.read_bytes().count(b"\n") > 2):
        time.sleep(0.02)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert (
        p.returncode == 130
        and out == ""
        and err.count("\n") == 1
        and err.startswith("interrupted: stopped after step ")
    )
    assert 0 < checkpoint.newest(tmp_path / "cut" / "checkpoints")[1]["step"] < 150

    code, out, err = unnoise(file, "--out", tmp_path / "cut", "--resume", "--json")
    assert (code, err) == (0, "")
    assert all(json.loads(out)[k] == whole[k] for k in ("raw_sha256", "ema_sha256", "ema1_sha256"))


@pytest.mark.slow
def test_bad_input_is_one_line_and_takes_no_folder(tmp_path):
    file = write(tmp_path, train={"stepz": 3})
    cases = (
        (file, "unknown key 'train.stepz'; did you mean 'train.steps'?"),
        (tmp_path / "none.toml", "no recipe '"),
    )
    for path, words in cases:
        code, out, err = unnoise(path, "--out", tmp_path / "run", "--json")
        assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_steps_replace_the_recipes_and_are_part_of_the_run(tmp_path):
    file = write(tmp_path)
    code, out, _ = unnoise(file, "--out", tmp_path / "run", "--steps", 3, "--json")
    assert code == 0 and json.loads(out)["steps"] == 3
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["train"]["steps"] == 3
    code, _, err = unnoise(file, "--out", tmp_path / "run", "--resume")
    assert code == 2 and "train.steps is 3 there, given 8" in err
