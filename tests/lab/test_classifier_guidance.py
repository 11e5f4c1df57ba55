"""lab/classifier_guidance: the family's exact numbers, what is measured of a classifier, and a quick run."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from lab.classifier_guidance import run
from unnoise.data.sets import cached
from unnoise.process.level import clean

HERE = Path(run.__file__).parent


def test_the_family_at_gamma_0_and_1_is_the_mixture_and_its_component():
    whole, wanted = run.WORLD, run.WORLD.given(run.WANTED)
    mean = float((whole.weights[:, None] * whole.means).sum())
    std = math.sqrt(float((whole.weights[:, None] * (whole.means**2 + 0.64)).sum()) - mean**2)
    for gamma, true in ((0.0, (mean, std)), (1.0, (float(wanted.means[0, 0]), 0.8))):
        found = run.family(gamma, 1, 200)
        assert found["tilted"] == pytest.approx(true, abs=1e-6)
        assert found["flow"] == pytest.approx(
            true, abs=0.02
        )  # measured: .012, of which the start at sigma = 100 owes .75 * 1.5 %
        assert found["sampled"]["flow"][0] == pytest.approx(true, abs=4 * std / math.sqrt(200))


def test_above_1_the_flow_goes_further_than_the_formula_says():
    found = run.family(4.0, 1, 100)
    assert (
        found["flow"][0] > found["tilted"][0] + 0.9 and found["flow"][1] < found["tilted"][1] - 0.2
    )  # measured: 1.10 and .25


def test_log_tilted_is_what_its_name_says():
    x = torch.tensor([[0.3], [-1.0]], dtype=torch.float64)
    by_hand = (run.WORLD.pdf(x, clean()) * run.WORLD.classes(x, clean())[:, 1] ** 3).log()
    assert_close(run.log_tilted(x, 3.0), by_hand)


def test_the_wanted_column_of_every_row():
    logs = torch.arange(12.0).reshape(3, 4)
    assert run.wanted(lambda x, l: logs, torch.tensor([2, 0, 3]))(torch.zeros(3), clean()).tolist() == [
        2.0,
        4.0,
        11.0,
    ]


def test_scores_of_real_pictures_are_perfect():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 20
    features = rng.normal(size=(200, 4))
    saying = lambda features, y: run.judge.Seen(features, {run.judge.CLASS: np.eye(20)[y]})
    seen = [saying(rng.normal(size=(40, 4)), y) for _ in range(3)]
    found = run.scored(seen, y, features, np.arange(200) % 20)
    assert found["right"] == [1.0] * 3 and abs(np.mean(found["kid"])) < 0.5 and found["fd"] < 0.5
    assert (
        run.scored([saying(s.features, (y + 1) % 20) for s in seen], y, features, np.arange(200) % 20)[
            "right"
        ]
        == [0.0] * 3
    )


@pytest.mark.slow
@pytest.mark.skipif(not (cached("mnist") and cached("fashion-mnist")), reason="needs mnist and fashion-mnist")
def test_a_quick_run(tmp_path):
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), "--quick", "--json", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert set(report["family"]) == {"0", "1", "2", "4"} and {"unguided", "noisy 1", "clean 1"} <= set(
        report["arms"]
    )
    assert all(math.isfinite(v["fd"]) for v in report["arms"].values())
    with Image.open(tmp_path / "shown.png") as picture:
        picture.verify()


def test_bad_options_are_told():
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), "--images", "5"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "--images" in done.stderr and not done.stdout
