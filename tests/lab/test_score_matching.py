"""lab/score_matching: what it measures is what it says, the costs grow as they should, and it runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lab.score_matching import run
from unnoise.denoiser import Mixture
from unnoise.process.level import clean
from unnoise.sample import mcmc
from unnoise.train.tasks import Score

HERE = Path(run.__file__).parent


def test_exact_samples_are_told_to_be_exact_and_others_are_not():
    m = run.ring(uneven=True)
    found = run.told(m.sample(20_000, 3), m)
    # entropy of well separated modes: that of the shares and ln(2 pi e STD^2) of a round Gaussian in the
    # plane
    entropy = float(
        -(m.weights * m.weights.log()).sum() + torch.log(torch.tensor(2 * torch.pi * run.STD**2)) + 1
    )
    assert (
        found["energy"] == pytest.approx(entropy, abs=0.03)
        and found["spread"] == pytest.approx(1, abs=0.03)
        and found["shares"] < 0.02
    )
    modes = run.told(m.means[:1].repeat(50, 1), m)
    assert modes["spread"] == 0 and modes["shares"] == pytest.approx(1 - 1 / 36)


def test_memory_of_the_trace_grows_with_the_dimension_and_of_the_rest_does_not():
    kept = {k: [run.cost(k, d, repeats=1)[1] for d in (8, 16, 32)] for k in run.COSTS}
    trace = kept["implicit, exact trace"]
    assert (trace[2] - trace[1]) / (trace[1] - trace[0]) == pytest.approx(2, abs=0.15)  # measured 2.0: linear
    for k in run.COSTS:
        if k != "implicit, exact trace":
            assert kept[k][2] < 1.2 * kept[k][0], k


def test_learned_scores_are_read_in_the_units_of_the_data(tmp_path):
    r = run.learned(tmp_path, {"kind": "explicit", "form": "energy"}, 0, 1)
    s, logp = run.learned_energy(r)
    x = run.ring().sample(5, 7)
    assert torch.allclose(
        mcmc.gradient(logp)(x), s(x), rtol=1e-3, atol=1e-3
    )  # the energy's gradient, by both routes
    r.net.forward = lambda y, t=None: Score(r.recipe).true_score(r.net)(y).float()
    r.recipe = r.recipe.model_copy(update={"objective": {**r.recipe.objective, "form": "score"}})
    assert (
        run.learning(r, 0)["clean"] < 1e-5
    )  # the true score in the network's units is found to be without error


def test_the_page_tells_what_was_measured():
    page = (HERE / "README.md").read_text()
    assert all(f"| {k} |" in page for k in run.OBJECTIVES) and (HERE / "cost.png").stat().st_size < 150_000


def test_it_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, HERE / "run.py", "--quick", "--json", "--out", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["learning"][0]) == set(run.OBJECTIVES) and (tmp_path / "cost.png").exists()
    assert isinstance(run.ring(), Mixture) and run.ring().score(torch.zeros(1, 2), clean()).abs().max() < 1e-9
