"""lab/optimisers: its reference is exact, its rough denoiser as rough as it says, its distances are
distances, and it runs.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from lab.optimisers import run
from unnoise.denoiser import Gaussian
from unnoise.process import noise
from unnoise.process.level import clean, ve

HERE = Path(run.__file__).parent
start = lambda n: noise.seeded(range(n), "test")(torch.zeros(n, run.D, dtype=torch.float64)) * 80.0


def test_the_reference_is_the_exact_flow():
    world, x = Gaussian(torch.full((run.D,), 0.5), torch.full((run.D,), 0.04)), start(20)
    assert_close(run.exact(world, x), world.flow(x, ve(80.0), clean()), rtol=0, atol=2e-6)
    m = run.mixture(0)
    once, twice = run.exact(m, start(64), 1000), run.exact(m, start(64), 2000)
    assert (once - twice).square().mean(
        1
    ).sqrt().median() < 1e-6  # against differences of 6e-4 and more in the table


def test_the_rough_denoisers_eps_is_off_by_what_it_says():
    m, x = run.mixture(1), start(2000)
    for sigma in (0.1, 1.0, 80.0):
        l, y = ve(sigma), x / 80 * sigma
        off = (m(y, l) - run.rough(m, 1, run.ROUGH)(y, l)) / sigma
        assert abs(float(off.square().mean().sqrt()) / run.ROUGH - 1) < 0.25, sigma


def test_sliced_distance_is_that_of_a_shift_and_gamma_one_is_euler():
    x = noise.draw(0, "x", 0, (500, 3))
    v = torch.tensor([0.3, 0.0, -0.4], dtype=torch.float64)
    directions = noise.draw(0, "lab/directions", 0, (3, 128))
    want = (v @ (directions / directions.norm(dim=0))).square().mean().sqrt()
    assert run.sliced(x, x + v) == pytest.approx(float(want), abs=1e-12) and run.sliced(x, x.flip(0)) == 0
    found = {
        k: {"few": {"5": (e, 0)}}
        for k, e in zip(["euler", *(f"gradient estimation {g:g}" for g in run.GAMMAS)], (5, 4, 1, 2, 3, 9))
    }
    assert run.best_gamma(found, 5) == "1.5"


def test_the_page_holds_the_tables_of_the_figures():
    page = (HERE / "README.md").read_text()
    assert (
        page.count("| gradient estimation 1.5 |") == 7
        and "gamma.png" in page
        and (HERE / "gamma.png").stat().st_size < 150_000
    )


def test_it_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, HERE / "run.py", "--quick", "--images", "0", "--json", "--out", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["runs"][0]["mixtures"]
    assert set(found) == {"exact", "rough", "floor"} and (tmp_path / "gamma.png").exists()
    errors = found["exact"]["gradient estimation 1.5"]["few"]
    assert errors["50"][0] < errors["5"][0] / 20  # measured 31 times less
