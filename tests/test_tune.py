"""Grid tuning: better on noises that were not fitted, never worse than the default, stored whole and used
when asked for.
"""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import nfe
from unnoise import load, tune
from unnoise.denoiser.oracle import Gaussian, Mixture
from unnoise.errors import BadInput
from unnoise.process import schedule
from unnoise.sample import SAMPLERS, last
from unnoise.sample.default import DEFAULT

SD = schedule.scaled_linear()


def tuned(mixture, calls, n=96, **options):
    fit, judge = nfe.start(mixture, n, 10**6), nfe.start(mixture, n, 2 * 10**6)
    truth, fresh_truth = (nfe.flow(mixture, x, 400) for x in (fit, judge))
    return tune.tune(mixture, SD, calls, fit, judge, truth=truth, fresh_truth=fresh_truth, **options)


@pytest.mark.slow
@pytest.mark.parametrize("calls", [5, 8])
def test_tuning_halves_the_error_on_noises_that_were_not_fitted(calls):
    ring = Mixture.ring()
    found = tuned(ring, calls, 192)
    x = nfe.start(ring, 256)
    truth = nfe.flow(ring, x, 400)
    error = lambda name, path, **o: nfe.rms(last(SAMPLERS[name](ring, x, path, **o)), truth)
    ours = error(found.sampler, found.path(SD), **found.options)
    assert ours < 0.75 * error(
        DEFAULT[0], SD.path(calls, DEFAULT[1])
    )  # itself below the best peer at 8 calls and more
    peers = [nfe.measure(e, ring, x, truth, calls)["rms"] for e in nfe.smalldiffusion() if "1.5" in e.sampler]
    assert ours < min(peers) / 2


def test_levels_go_down_from_the_noisiest_and_the_calls_are_as_asked():
    found = tuned(Mixture.ring(), 4, 32, rounds=2)
    path = found.path(SD)
    assert found.u[0] == 1.0 and len(path) == 5 and path[-1].clean
    assert SAMPLERS[found.sampler].calls(path, **found.options) == 4
    assert found.rms <= found.rms_default and found.ratio == found.rms / found.rms_default


def test_never_worse_than_the_default_on_fresh_noises():
    # Fitted to where a different distribution flows, no grid is any good here: what comes back is the
    # default.
    ring, other = Mixture.ring(), Gaussian([3.0, 0.0], [0.01, 4.0])
    fit, judge = nfe.start(ring, 24, 7), nfe.start(ring, 24, 99)
    found = tune.tune(
        ring,
        SD,
        6,
        fit,
        judge,
        truth=nfe.flow(other, fit, 200),
        rounds=3,
        fresh_truth=nfe.flow(ring, judge, 200),
    )
    assert (found.sampler, found.options, found.ratio) == (DEFAULT[0], {}, 1.0)
    assert [float(SD.time(l)) for l in SD.path(6, DEFAULT[1])[:-1]] == pytest.approx(found.u)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-30, 30), min_size=7, max_size=7),
    st.sampled_from(["scaled_linear", "flow", "edm", "cosine-zsnr"]),
)
def test_any_parameters_make_a_path(theta, name):
    s = schedule.named(name)
    x = torch.zeros(1, 2, dtype=torch.float64)
    problem = tune._Problem(Gaussian([0.0, 0.0], [1.0, 1.0]), s, 6, x, x, "adams", {"order": 3})
    theta = torch.tensor(theta).double().numpy()
    assert (
        len(problem.path(theta)) == 7 and problem.read(theta)[0][0] == 1.0
    )  # path_of refuses levels that do not go down


@pytest.mark.parametrize("calls", [0, 1, 101, 5.0, True])
def test_bad_calls(calls):
    with pytest.raises(BadInput, match="calls"):
        tuned(Mixture.ring(), calls, 4)


def test_model_stores_its_grid_and_uses_it_for_that_many_calls(tiny, tmp_path):
    folder, rounds = shutil.copytree(tiny, tmp_path / "tiny"), []
    out = tune.tune_model(load(folder), 4, folder, rounds.append, batch=4, rounds=1)
    stored = json.loads((folder / "model_index.json").read_text())["_defaults"]
    assert (
        stored["num_inference_steps"] == 4
        and stored["tuned"]["4"]["u"] == out["levels"]
        and out["ratio"] <= 1
        and rounds
    )
    pipe = load(folder)
    request = pipe.request(num_inference_steps=4, seed=0)
    assert request.spacing == "tuned" and request.recipe(pipe, 0)["timesteps"] == pytest.approx(
        [u * 1000 - 1 for u in out["levels"]]
    )
    assert [float(pipe.schedule.time(l)) for l in pipe.path(request)[:-1]] == pytest.approx(out["levels"])
    assert pipe.request(num_inference_steps=5).spacing != "tuned"
    assert pipe.request(num_inference_steps=4, sampler="ddim").spacing != "tuned"
    assert pipe("", num_inference_steps=4, seed=1).nfe == 4
    again = tune.tune_model(pipe, 3, folder, batch=4, rounds=1)
    both = json.loads((folder / "model_index.json").read_text())["_defaults"]["tuned"]
    assert {*both} == {"3", "4"} and again["calls"] == 3
    assert not list(folder.glob(".*"))


def test_model_is_copied_where_asked_and_the_original_left_alone(vectors, tmp_path):
    before = (vectors / "model_index.json").read_bytes()
    out = tune.tune_model(load(vectors), 3, tmp_path / "copy", batch=6, rounds=1)
    assert (vectors / "model_index.json").read_bytes() == before and load(tmp_path / "copy").tuned[3][
        "u"
    ] == out["levels"]
    assert load(tmp_path / "copy").sha256 == load(vectors).sha256


def test_folders_that_cannot_be_used_are_refused_before_the_work(tiny, vectors, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        tune.tune_model(load(vectors), 3, tmp_path / "file")
    with pytest.raises(BadInput, match="another model"):
        tune.tune_model(load(vectors), 3, tiny)
