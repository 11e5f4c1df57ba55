"""lab/noise_predictor: equal work, what its page says of it, and that it runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.noise_predictor import run
from unnoise.data.sets import cached
from unnoise.train import fit
from unnoise.train.recipe import parse

HERE = Path(run.__file__).parent
PAGE = (HERE / "README.md").read_text()
needs_mnist = pytest.mark.skipif(not cached("mnist"), reason="mnist is not fetched")


@pytest.fixture(scope="module")
def made():
    return {name: fit.prepare(parse(run.recipe(net, 0, 2))) for name, net in run.ARMS.items()}


@needs_mnist
def test_both_do_the_same_work_on_a_sample_and_predict_as_many_numbers(made):
    work = {k: run.work(r) for k, r in made.items()}
    assert work["mlp"] == pytest.approx(work["unet"], rel=0.01)  # 21.36 and 21.48 MFLOP
    mlp = run.ARMS["mlp"]
    by_hand = 2 * (
        2 * 784 * mlp["width"] + 4 * mlp["layers"] * mlp["width"] ** 2 + 2 * mlp["width"] ** 2
    )  # in and out, layers, time
    assert work["mlp"] == by_hand
    for r in made.values():
        assert r.source.codec.shape(1)[1:] == (4, 14, 14)  # 784 in, 784 out


@needs_mnist
def test_the_label_reaches_both(made):
    x, t = torch.randn(1, 4, 14, 14, generator=torch.Generator().manual_seed(0)), torch.tensor([500.0])
    for r in made.values():
        three, none = (r.net(x, t, labels=torch.tensor([k])) for k in (3, run.DIGITS))
        assert three.shape == x.shape and not torch.equal(three, none)


@needs_mnist
def test_real_digits_are_balanced_and_near_each_other():
    images, labels = run.real("test", 40)
    assert np.bincount(labels).tolist() == [4] * 10 and images.shape == (40, 28, 28, 1)
    judge = run.load_judge()
    seen = judge.look(images)
    assert (
        run.judged(judge, images, labels, seen.features)["fid"] < 1e-6
        and (seen.said() == labels).mean() > 0.9
    )


@needs_mnist
def test_it_runs_and_keeps_what_it_has_made(tmp_path):
    command = [sys.executable, str(HERE / "run.py"), "--quick", "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["results"]) == {"mlp", "unet"} and {"mlp-0.png", "unet-0.json", "report.json"} <= {
        f.name for f in tmp_path.iterdir()
    }
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert json.loads(again.stdout)["results"] == report["results"] and "seed 0" not in again.stderr


def test_the_page_shows_the_table_of_three_seeds_and_draws_what_it_says():
    header = run.table(
        {"guidance": 2.0, "results": {}, "real": {"right": 1, "fid": 0, "kid": 0}}
    ).splitlines()[0]
    assert header in PAGE and (HERE / "shown.png").stat().st_size < 150_000
    losses = {
        k: [float(v) for v in m.split(", ")]
        for k, m in re.findall(r"^\| (mlp|unet) .*?\| 0\.\d+ \((.*?)\) \|", PAGE, re.MULTILINE)
    }
    assert all(len(v) == 3 for v in losses.values()) and max(losses["unet"]) < min(losses["mlp"]) / 3
