"""Autoencoders, CLIPs and judges: what their losses are, that a step is a function of its number, and that
what they save is what was trained.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.train.scenes import DATA, recipe, tokenizer
from unnoise.errors import BadInput
from unnoise.hub import parts
from unnoise.nets.autoencoder import Posterior
from unnoise.train import checkpoint, run
from unnoise.train.fit import fit, prepare
from unnoise.train.items import Items
from unnoise.train.tasks import Autoencode, Recognise
from unnoise.worlds import IGNORED

TASKS = ("autoencode", "contrast", "recognise")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return {"tokenizer": str(tokenizer(tmp_path_factory.mktemp("words")))}


def given(task: str, words: dict) -> dict:
    return words if task == "contrast" else {}


@pytest.mark.parametrize("task", TASKS)
def test_a_step_is_a_function_of_its_number_and_parts_add_up_to_it(task, words):
    whole, again = (prepare(recipe(task, given(task, words))) for _ in range(2))
    losses = [[s.loss for s, _ in zip(fit(r), range(3))] for r in (whole, again)]
    assert losses[0] == losses[1] and all(map(math.isfinite, losses[0]))
    assert checkpoint.weights_hash(whole.net.state_dict()) == checkpoint.weights_hash(again.net.state_dict())
    if task == "autoencode":  # no layer there looks across the batch
        cut = prepare(recipe(task, accumulate=2))
        assert next(iter(fit(cut))).loss == pytest.approx(losses[0][0], rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_training_learns(task, words):
    r = prepare(recipe(task, given(task, words), steps=60, lr=5e-3, batch=16))
    losses = [s.loss for s in fit(r)]
    assert np.mean(losses[-5:]) < 0.93 * np.mean(losses[:5])


@pytest.mark.parametrize("task", TASKS)
def test_an_interrupted_run_ends_with_the_same_weights(task, words, tmp_path):
    r = recipe(task, given(task, words), steps=4)
    one = run.train(r, tmp_path / "one")
    two = prepare(r)
    for s in fit(two):
        if s.step == 2:
            break
    checkpoint.write(tmp_path / "two" / "checkpoints", 2, two.parts(), two.state())
    (tmp_path / "two" / "recipe.json").write_text(r.model_dump_json())
    assert run.train(r, tmp_path / "two", resume=True)["raw_sha256"] == one["raw_sha256"]


def test_the_autoencoders_loss_is_the_formula():
    r = recipe("autoencode", objective={"square": 2.0, "edge": 0.5, "kl": 0.25})
    task, x, y = Autoencode(r), torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    q = Posterior(torch.full((1, 2, 1, 1), 2.0), torch.zeros(1, 2, 1, 1))
    # |e| mean 1/4; e^2 mean 1/4; differences: each direction holds one of size 1 in two; KL of N(2, 1) is 2 a
    # number
    assert float(task.errors(x, y, q)) == pytest.approx(0.25 + 2 * 0.25 + 0.5 * (0.5 + 0.5) / 2 + 0.25 * 2)


def test_the_judges_loss_leaves_out_what_a_scene_is_not_asked():
    task: Any = Recognise(recipe("recognise"))
    logits = {"noun": torch.tensor([[2.0, 0.0], [0.0, 3.0]]), "count": torch.zeros(2, 5)}
    more = {"head/noun": torch.tensor([0, IGNORED]), "head/count": torch.tensor([IGNORED, 4])}
    want = [float(F.cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))), math.log(5)]
    assert task.losses(logits, more).tolist() == pytest.approx(want)
    told = task.validate(lambda x: logits, Items(torch.zeros(2, 3, 4, 4), None, more), None, 0)
    assert (
        told["noun"] == 1.0 and told["count"] in (0.0, 1.0) and told["loss"] == pytest.approx(sum(want) / 2)
    )


def test_a_saved_autoencoder_gives_latents_of_unit_scale(tmp_path):
    done = run.train(recipe("autoencode", steps=5), tmp_path / "run")
    codec = parts.load_autoencoder(done["folder"], 32)
    src = prepare(recipe("autoencode")).source
    z = (codec.net.encode(src.fetch(range(256)).x).mean - codec.shift) * codec.scale
    assert abs(float(z.mean())) < 1e-3 and float(z.std()) == pytest.approx(1, abs=1e-3)
    assert codec.encode(np.full((1, 32, 32, 3), 255, np.uint8)).shape == (1, 4, 8, 8)


def test_a_saved_clip_is_the_one_that_was_trained(words, tmp_path):
    r = recipe("contrast", words, objective={"loss": "sigmoid"}, steps=3)
    done = run.train(r, tmp_path / "run")
    clip, last = parts.load_clip(done["folder"]), checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert last is not None
    weights = {k.removeprefix("clip."): v for k, v in last[0]["ema0"].items() if k.startswith("clip.")}
    assert all(torch.equal(v, weights[k]) for k, v in clip.net.state_dict().items())
    assert clip.texts(["a red apple", ""]).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert parts.similar(clip.images(np.zeros((2, 32, 32, 3), np.uint8)), clip.texts(["a cat"])).shape == (
        2,
        1,
    )
    assert parts.load_text(done["folder"]).tokenizer.length == 64


def test_what_a_folder_lacks_is_named(words, tmp_path):
    done = run.train(recipe("autoencode", steps=1), tmp_path / "run")
    with pytest.raises(BadInput, match="has no text_encoder"):
        parts.load_text(done["folder"])
    with pytest.raises(BadInput, match="has no clip"):
        parts.load_clip(done["folder"])


@pytest.mark.parametrize(
    "change, told",
    [
        (dict(task="autoencode", objective={"edges": 1.0}), "did you mean 'objective.edge'"),
        (dict(task="contrast", objective={"loss": "hinge"}), "objective.loss"),
        (dict(task="contrast"), "needs data.tokenizer"),
        (dict(task="autoencode", data={"name": "digits8"}), "it is for scenes"),
        (dict(task="recognise", data={"concepts": 5}), "at least 10 concepts"),
        (dict(task="recognise", data={"mixture": {"cars": 1.0}}), "kind of scene"),
        (dict(task="autoencode", data={"size": 48}), "data.size"),
    ],
)
def test_bad_recipes_are_told_in_one_line(change, told):
    with pytest.raises(BadInput, match=told):
        prepare(recipe(**change))


def test_a_task_and_its_network_belong_together():
    wrong = recipe("autoencode").model_copy(update={"task": "recognise"})
    with pytest.raises(BadInput, match=r"does not go with net\.kind 'autoencoder'"):
        prepare(wrong)
    assert DATA["concepts"] == 40


@pytest.mark.slow
def test_workers_change_nothing_but_the_time():
    losses = []
    for workers in (0, 2):
        r = prepare(recipe("autoencode", steps=5, workers=workers, accumulate=2))
        losses.append([s.loss for s in fit(r)])
        if r.ahead:
            r.ahead.close()
    assert losses[0] == losses[1]
