"""`task = "classify"` with `net.time`: a classifier of noisy samples, by a recipe, through checkpoints, into
a folder and out again.
"""

import json

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tests.train.tiny import JUDGE, recipe
from unnoise import hub
from unnoise.errors import BadInput
from unnoise.evaluate import load_judge
from unnoise.nets.classifier import Classifier
from unnoise.process import noise, schedule, weight
from unnoise.process.level import Level, vp
from unnoise.train import checkpoint, fit, objective, run

NOISY = {**JUDGE, "time": True}


def test_the_loss_is_the_cross_entropy_of_samples_corrupted_by_hand():
    r = fit.prepare(recipe({**NOISY, "dropout": 0.0}, process={"schedule": "cosine"}))
    r.net.eval()
    b = fit._batch(r, 0, 1, 0)
    eps = torch.stack([noise.draw(0, "train/0", int(i), (1, 8, 8)) for i in b.positions]).float()
    u = weight.stratified(noise.uniform(0, "train/0/level", 0, (8,)))
    l = weight.along(schedule.cosine())(u)
    alpha, sigma = (v.float().reshape(-1, 1, 1, 1) for v in l)
    logits = r.net(alpha * b.x0 + sigma * eps, schedule.cosine().timestep(l).float())
    assert b.labels is not None
    assert_close(r.loss(r.net, b, 0), F.cross_entropy(logits, b.labels), rtol=1e-5, atol=1e-6)
    assert l.sigma.min() < 0.2 and l.sigma.max() > 0.9  # one batch holds levels from clean to noise


def test_it_reads_a_level_of_any_process_with_equal_signal_to_noise():
    r = fit.prepare(recipe(NOISY))
    r.net.eval()
    log_classes = objective.resolve(r.recipe.process).classes(r.net)
    l, x = vp(torch.tensor([2.0, -1.0])), noise.draw(0, "x", 0, (2, 1, 8, 8)).float()
    stretched = Level(3 * l.alpha, 3 * l.sigma)
    out = log_classes(x, l)
    assert_close(log_classes(3 * x, stretched), out, rtol=1e-4, atol=1e-5)
    assert_close(out.exp().sum(1), torch.ones(2))
    assert out.shape == (2, 10)


def test_it_learns_more_of_what_is_less_noisy_and_its_folder_holds_the_process(tmp_path):
    sections = dict(
        train={"steps": 150, "batch": 64, "lr": 5e-3, "warmup": 10},
        log={"validate_every": 150, "save": 150, "every": 50, "validation_samples": 200},
    )
    told = run.train(
        recipe({**NOISY, "widths": [16, 32], "features": 16}, process={"schedule": "sigmoid"}, **sections),
        tmp_path / "r",
    )
    seen = [json.loads(line) for line in (tmp_path / "r" / "log.jsonl").read_text().splitlines()]
    v = next(s for s in seen if s["event"] == "validation")
    accuracies = [v[f"accuracy_{(j + 0.5) / 8:.4f}"] for j in range(8)]
    assert accuracies[0] > 0.85 and accuracies[-1] < 0.35  # measured: .94 and .14
    assert v["accuracy"] == pytest.approx(sum(accuracies) / 8, abs=1e-6)
    f = hub.load(told["folder"])
    assert (
        f.process is not None
        and f.process.schedule == "sigmoid"
        and isinstance(f.net, Classifier)
        and f.net.config.time
    )
    x = noise.draw(0, "x", 0, (3, 1, 8, 8)).float()
    out = objective.resolve(f.process).classes(f.net)(x, vp(0.0))
    assert_close(out, F.log_softmax(f.net(x, schedule.sigmoid().timestep(vp(torch.zeros(1))).float()), 1))
    with pytest.raises(BadInput, match="judge looks at clean images"):
        load_judge(told["folder"])


def test_resumed_it_is_the_same_network(tmp_path):
    def trained(until=8):
        r = fit.prepare(recipe(NOISY))
        for s in fit.fit(r):
            if s.step == until:
                break
        return r

    whole, half = trained(), trained(3)
    checkpoint.write(tmp_path, 3, half.parts(), half.state())
    resumed = fit.prepare(recipe(NOISY))
    found = checkpoint.newest(tmp_path)
    assert found is not None
    resumed.restore(*found)
    for _ in fit.fit(resumed):
        pass
    assert checkpoint.weights_hash(resumed.net.state_dict()) == checkpoint.weights_hash(
        whole.net.state_dict()
    )


def test_two_halves_of_a_batch_draw_what_the_whole_draws():
    r = fit.prepare(recipe({**NOISY, "dropout": 0.0}))
    r.net.eval()  # batch norm would look across the batch
    whole = r.loss(r.net, fit._batch(r, 0, 1, 0), 0)
    halves = sum(r.loss(r.net, fit._batch(r, rank, 2, 0), 0) for rank in range(2))
    assert_close(whole, halves)


@pytest.mark.parametrize(
    "process, told", [({"clock": "none"}, "net.time asks for the time"), ({"schedule": "cosin"}, "'cosin'")]
)
def test_a_process_that_does_not_fit_is_told(process, told):
    with pytest.raises(BadInput, match=told):
        fit.prepare(recipe(NOISY, process=process))
