"""Every task's trainer with its networks on another device than the CPU: steps, validation, sample grids,
checkpoints, resuming, the model.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.support import gpu
from tests.train import scenes, tiny
from unnoise import hub
from unnoise.train import fit, run
from unnoise.train.build import KINDS
from unnoise.train.recipe import Recipe, parse
from unnoise.train.sources import latents
from unnoise.train.tasks import TASKS, denoise

SCORE = {
    "implicit": {},
    "sliced": {},
    "sliced_vr": {},
    "denoising": {},
    "ncsn": {"levels": 3},
    "energy": {"kind": "denoising", "form": "energy"},
}
WAYS = {"softmax": {"loss": "softmax"}, "sigmoid": {"loss": "sigmoid"}}
PLAIN = {**tiny.UNET, "num_class_embeds": 0}
SHORT = {"save": 1}  # validation and a grid of samples come at the end of each run


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """On the CPU: a tokenizer, an autoencoder and a CLIP of scenes, a judge and a denoiser of digits, points
    with their density.
    """
    at = tmp_path_factory.mktemp("parts")
    words = str(scenes.tokenizer(at / "words"))
    np.save(at / "points.npy", torch.randn(64, 2, generator=torch.Generator().manual_seed(0)).numpy())
    (at / "truth.json").write_text(json.dumps({"means": [[0.0, 0.0]], "std": 1.0}))
    made = {
        "autoencoder": run.train(scenes.recipe("autoencode", steps=1), at / "autoencoder")["folder"],
        "text": run.train(scenes.recipe("contrast", {"tokenizer": words}, steps=1), at / "clip")["folder"],
        "judge": run.train(tiny.recipe(tiny.JUDGE, train={"steps": 1}), at / "judge")["folder"],
        "unet": run.train(tiny.recipe(tiny.UNET, train={"steps": 1}), at / "unet")["folder"],
    }
    return {**made, "tokenizer": words, "points": str(at / "points.npy"), "truth": str(at / "truth.json")}


@pytest.fixture(autouse=True)
def cached(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(latents, "cache", lambda: tmp_path_factory.getbasetemp() / "latents of this file")
    monkeypatch.setattr(denoise, "STEPS", 2)


def digits(net: dict = tiny.MLP, **sections) -> Recipe:
    return tiny.recipe(net, **{**sections, "train": {"steps": 1, **sections.get("train", {})}, "log": SHORT})


def of_scenes(task: str, data: dict | None = None, objective: dict | None = None, **train) -> Recipe:
    made = scenes.recipe(task, data, objective, **{"steps": 1, **train}).model_dump()
    return parse(
        {
            **made,
            "log": {**made["log"], **SHORT},
            "net": {"kind": "reader"} if task == "words" else made["net"],
        }
    )


def latent(parts: dict, data: dict | None = None, **train) -> Recipe:
    return of_scenes(
        "denoise",
        {"autoencoder": parts["autoencoder"], "text": parts["text"], "cached": 16, **(data or {})},
        **train,
    )


def words(parts: dict, **train) -> Recipe:
    made = scenes.recipe(
        "denoise",
        {"world": 2, "concepts": 60, "text": parts["text"]},
        {"length": 12},
        **{"steps": 1, **train},
    ).model_dump()
    return parse({**made, "task": "words", "net": {"kind": "reader"}, "log": {**made["log"], **SHORT}})


def score(parts: dict, kind: str, objective: dict) -> Recipe:
    return digits(task="score", data={"name": parts["points"]}, objective={"kind": kind, **objective})


CASES = {
    "denoise/labels": lambda p: digits(tiny.UNET),
    "denoise/vectors": lambda p: digits(data={"name": p["points"]}),
    "denoise/whitened": lambda p: digits(
        tiny.UNET, process={"predict": "edm", "frame": "whiten", "clock": "c_noise", "density": "lognormal"}
    ),
    "denoise/upscale": lambda p: digits(PLAIN, data={"low": 2}),
    "denoise/masked": lambda p: digits(PLAIN, data={"masked": True}),
    "denoise/moved": lambda p: digits(
        tiny.UNET, data={"shift": 1, "mirror": 0.5}, train={"accumulate": 2, "start": p["unet"]}
    ),
    "denoise/judge's features": lambda p: digits(tiny.UNET, objective={"features": p["judge"]}),
    "denoise/own features": lambda p: digits(tiny.UNET, objective={"features": p["unet"], "loss": "huber"}),
    "denoise/latents": lambda p: latent(p),
    "denoise/latents of the second world": lambda p: latent(p, {"world": 2, "concepts": 60}),
    "denoise/text": lambda p: latent(p, text=True),
    "denoise/text at a rate of its own": lambda p: latent(p, text=True, tokens=3.0, start=""),
    "classify/clean": lambda p: digits(tiny.JUDGE),
    "classify/noisy": lambda p: digits({**tiny.JUDGE, "time": True}),
    "autoencode": lambda p: of_scenes("autoencode"),
    **{
        f"contrast/{k}": lambda p, o=o: of_scenes("contrast", {"tokenizer": p["tokenizer"]}, o)
        for k, o in WAYS.items()
    },
    "recognise": lambda p: of_scenes("recognise"),
    "recognise/tinted": lambda p: of_scenes("recognise", {"tint": 0.2}),
    **{
        f"score/{k}": lambda p, k=k, o=o: score(p, o.get("kind", k), {"truth": p["truth"], **o})
        for k, o in SCORE.items()
    },
    "score/explicit": lambda p: score(p, "explicit", {"truth": p["truth"]}),
    "words": lambda p: words(p),
}


def test_every_task_is_tried(parts):
    recipes = [make(parts) for make in CASES.values()]
    assert {r.task for r in recipes} == set(TASKS)
    assert {r.net["kind"] for r in recipes} == set(KINDS)


RESUMED = ("denoise/labels", "denoise/text", "autoencode", "classify/noisy", "words")


@pytest.mark.parametrize("case", CASES)
def test_every_task_trains_on_another_device(case, parts, tmp_path):
    r = CASES[case](parts)
    with gpu.there():
        result = run.train(r, tmp_path / "run", accelerator=gpu.accelerator())
    assert result["steps"] == 1 and result["rollbacks"] == 0 and result["validation"]
    shown = r.task == "autoencode" or (r.task == "denoise" and r.data.name != parts["points"])
    assert (tmp_path / "run" / "samples" / "final.png").exists() == shown
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert events.count("final") == 1 and "skipped" not in events


@pytest.mark.parametrize("case", RESUMED)
def test_a_run_goes_on_on_another_device(case, parts, tmp_path):
    r = CASES[case](parts)
    longer = r.model_copy(update={"train": r.train.model_copy(update={"steps": 2})})
    with gpu.there():
        run.train(r, tmp_path / "run", accelerator=gpu.accelerator())
        (tmp_path / "run" / "recipe.json").write_text(longer.model_dump_json())
        again = run.train(longer, tmp_path / "run", resume=True, accelerator=gpu.accelerator())
    assert again["steps"] == 2 and again["rollbacks"] == 0


def test_the_networks_lie_there_and_what_is_saved_here(parts, tmp_path):
    with gpu.there():
        r = fit.prepare(latent(parts, text=True), gpu.accelerator())
        for _ in fit.fit(r):
            pass
        everything = [
            *r.net.parameters(),
            *r.net.buffers(),
            *(v for e in r.ema for v in e.weights.values()),
            *(v for s in r.optimizer.state.values() for v in s.values()),
        ]
        saved = [t for part in r.parts().values() for t in part.values()]
    assert {t.device.type for t in everything} == {"meta"} and {t.device.type for t in saved} == {"cpu"}
    with gpu.there():
        run.train(latent(parts), tmp_path / "run", accelerator=gpu.accelerator())
    f = hub.load(tmp_path / "run" / "model")
    assert {p.device.type for p in f.net.parameters()} == {"cpu"}
