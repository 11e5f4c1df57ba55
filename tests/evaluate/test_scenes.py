"""The report on text models: near-copies, negative prompts before and after, resuming, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.train.scenes import recipe, tokenizer
from unnoise.base import colour
from unnoise.errors import BadInput
from unnoise.evaluate import evaluate
from unnoise.evaluate.copies import Copies
from unnoise.evaluate.scenes import SceneExam, negative
from unnoise.pipeline import load
from unnoise.train import run
from unnoise.train.sources import latents
from unnoise.worlds import judge as judges
from unnoise.worlds.emoji import exam
from unnoise.worlds.emoji.scenes import Scenes
from unnoise.worlds.judge import Seen

SET = "emoji-starter"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """A judge and a text model of the starter world, trained for a moment."""
    at = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latents, "cache", lambda: at)
        words = str(tokenizer(at / "words"))
        made = {
            t: run.train(recipe(t, d, steps=2), at / t)["folder"]
            for t, d in (("autoencode", {}), ("contrast", {"tokenizer": words}), ("recognise", {}))
        }
        latent = recipe(
            "denoise", {"autoencoder": made["autoencode"], "text": made["contrast"], "cached": 64}, steps=2
        )
        return {"judge": made["recognise"], "model": run.train(latent, at / "latent")["folder"]}


@pytest.fixture(scope="module")
def judge(models):
    return judges.load(models["judge"], judges.SCENES)


def test_a_training_picture_is_a_near_copy_and_others_are_not(judge):
    copies = Copies.of(exam.training_pictures(judge, SET))
    scenes = Scenes(SET, "train", {"plain": 1.0}, len(judge.heads["noun"]))
    own = np.stack([scenes.emoji.image(i) for i in scenes.plain[:20]])
    noise = np.random.default_rng(0).integers(0, 256, own.shape, dtype=np.uint8)
    assert copies.share(own)["value"] == 1.0 and copies.share(own)["median"] < 1e-3
    assert (
        copies.share(noise)["value"] == 0.0
        and 0 < copies.share(noise)["threshold"] < copies.share(noise)["median"]
    )


def test_negative_prompts_are_counted_before_and_after(judge):
    """A drawer that obeys: it shows what is forbidden unless it is told not to; red things are red until
    then.
    """
    cases, calls = exam.forbidden(judge, 60, SET), []

    def draw(prompts, guidance, negatives):
        calls.append((prompts, negatives, guidance))
        shown = [
            colour.NAMED["grey" if negatives else c.word] if c.kind == "colour" else (0, 0, 0) for c in cases
        ]
        x = np.full((len(prompts), 32, 32, 3), 254 if negatives else 255, np.uint8)
        x[:, 8:24, 8:24] = np.array(shown, np.uint8)[:, None, None]
        return x

    class Obeys:
        heads = judge.heads

        def look(self, images):
            rows = {k: np.zeros((len(images), len(v))) for k, v in judge.heads.items()}
            for i, c in enumerate(cases):
                rows["noun"][i, judge.heads["noun"].index(c.concept)] = 1.0
                for k in ("style", "colour", "background"):
                    at = judge.heads[k].index(c.word) if c.kind.split()[-1] == k else 0
                    rows[k][i, at - int(images[i, 0, 0, 0] != 255)] = 1.0  # the answer before it, once told
            return Seen(np.zeros((len(images), 2)), rows)

    told = negative(draw, Obeys(), cases, 60, 3.0)
    assert (
        calls[0][0] == calls[1][0] and calls[0][1] is None and len(calls[1][1]) == 80 and calls[0][2] == 3.0
    )
    assert all(v["value"] == 1.0 for v in told["before"].values())
    assert {k: v["value"] for k, v in told["after"].items()} == {k: float(k == "noun") for k in told["after"]}
    assert {k: v["n"] for k, v in told["before"].items()} == {
        "all": 60,
        "colour": 30,
        "style": 30,
        "asked-for colour": 10,
        "asked-for background": 10,
        "noun": 60,
    }


def test_the_report_is_whole_resumes_and_can_be_read(models, judge, tmp_path, monkeypatch):
    pipe = load(models["model"])
    ask = dict(
        guidance_scale=(1.0, 2.0),
        num_inference_steps=2,
        judge=judge,
        data=SET,
        batch_size=8,
        work=tmp_path,
        negatives=6,
    )
    drawn = []
    report = evaluate(pipe, 20, progress=drawn.append, **ask)
    assert sum(drawn) == 2 * 20 + 2 * (6 + 2)
    json.dumps(report)
    assert (
        set(report["rows"]) == {"1", "2"}
        and report["rows"]["1"]["noun"]["n"] == 8
        and report["distances"]["2"]["n"] == 12
    )
    table = SceneExam.table(report)
    for row in (
        *exam.ROWS,
        "FID",
        "KID",
        "near-copies",
        "without the negative prompt",
        "asked-for background",
    ):
        assert row in table, row
    monkeypatch.setattr(type(pipe), "batches", None)  # nothing is drawn again
    assert evaluate(pipe, 20, **ask) == report


@pytest.mark.parametrize(
    "change, told", [({"n": 3}, "at least 10 prompts"), ({"judge": "digits-judge"}, "kind recogniser")]
)
def test_bad_input_is_told(models, judge, change, told):
    with pytest.raises(BadInput, match=told):
        evaluate(**{"model": models["model"], "n": 20, "judge": judge, "data": SET, "negatives": 0, **change})


def test_a_judge_of_another_size_is_refused(models, judge):
    other = replace(judge, codec=replace(judge.codec, height=64, width=64))
    with pytest.raises(BadInput, match="looks at 64 x 64"):
        evaluate(models["model"], 20, judge=other, data=SET)
