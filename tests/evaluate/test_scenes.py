"""Judging text models: prompts, what counts as right, near-copies, negative prompts, and the report, with a
judge that knows the truth.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.train.scenes import recipe, tokenizer
from unnoise.base import colour
from unnoise.cli.evaluate import scene_table
from unnoise.errors import BadInput
from unnoise.evaluate import scenes as room
from unnoise.evaluate.scenes import Asked, Copies, asked, evaluate_scenes, marks
from unnoise.pipeline import load
from unnoise.train import run
from unnoise.train.sources import latents
from unnoise.worlds import judge as judges
from unnoise.worlds.emoji.questions import answers
from unnoise.worlds.emoji.scenes import Attributes, Scenes, combinations, held_out
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


def knowing(items: list[Asked], heads: dict) -> Seen:
    """What a judge that is never wrong makes of pictures that are all right."""
    rows = {k: np.full((len(items), len(v)), 1e-3) for k, v in heads.items()}
    for i, item in enumerate(items):
        for k, answer in answers(item.scene).items():
            if answer in heads[k]:
                rows[k][i, heads[k].index(answer)] = 1.0
    return Seen(np.zeros((len(items), 2)), rows)


def test_prompts_are_the_same_for_ever_and_of_all_groups(judge):
    items = asked(60, judge, SET)
    assert items == asked(60, judge, SET)
    groups = {g: [i for i in items if i.group == g] for g in room.SHARES}
    assert {g: len(v) for g, v in groups.items()} == {"noun": 24, "seen": 18, "held out": 18}
    assert len({i.prompt for i in groups["noun"]}) == 24 and all(
        i.scene.kind == "plain" for i in groups["noun"]
    )
    assert not any(held_out(c) for i in groups["seen"] for c in combinations(i.scene))
    assert all(any(held_out(c) for c in combinations(i.scene)) for i in groups["held out"])


def test_right_pictures_are_right_in_every_row(judge):
    items = asked(200, judge, SET)
    rows = marks(items, knowing(items, judge.heads), judge.heads)
    assert set(rows) == set(room.ROWS) and all(v and all(v) for v in rows.values()), {
        k: (sum(v), len(v)) for k, v in rows.items()
    }


BOXES = {
    "left of": ((0, 0.3, 0.4, 0.7), (0.6, 0.3, 1, 0.7)),
    "above": ((0.3, 0, 0.7, 0.4), (0.3, 0.6, 0.7, 1)),
}


@pytest.mark.parametrize(
    "kind, changed, row",
    [
        ("noun", lambda a: replace(a, concepts=("dog",)), "noun"),
        ("colour", lambda a: replace(a, colours=("blue",)), "colour"),
        ("count", lambda a: replace(a, count=4), "count"),
        ("orientation", lambda a: replace(a, orientation="upright"), "orientation"),
    ],
)
def test_one_wrong_attribute_is_wrong_in_its_own_row_alone(judge, kind, changed, row):
    labels = judge.heads["noun"]
    one, other = labels[0], labels[1]
    a = Attributes("objects", ("x",), (one,), "noto", ("red",), 3, "upside down")
    shown = replace(a, concepts=(other,)) if kind == "noun" else changed(a)
    items = [Asked("", a, "seen")]
    rows = marks(items, knowing([Asked("", shown, "seen")], judge.heads), judge.heads)
    assert {k for k in ("colour", "count", "orientation") if rows[k] == [False]} == ({row} - {"noun"})
    assert not all(rows["seen combinations"]) and (kind == "noun" or any(rows["seen combinations"]))


@pytest.mark.parametrize(
    "said, shown, right",
    [
        ("left of", "left of", True),
        ("left of", "above", False),
        ("above", "above", True),
        ("next to", "left of", True),
    ],
)
def test_relations_are_judged_by_where_things_are(judge, said, shown, right):
    one, two = judge.heads["noun"][:2]
    a = Attributes("pair", ("x", "y"), (one, two), "noto", ("", ""), relation=said)
    seen = lambda boxes: knowing([Asked("", replace(a, boxes=boxes), "seen")], judge.heads)
    assert marks([Asked("", a, "seen")], seen(BOXES[shown]), judge.heads)["relation"] == [right]
    turned = marks([Asked("", a, "seen")], seen(BOXES[shown][::-1]), judge.heads)["relation"]
    assert turned == [said == "next to"]  # the other way round only what has no direction stays right


def test_a_training_picture_is_a_near_copy_and_others_are_not(judge):
    copies = Copies.of(judge, SET)
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
    cases, calls = room.forbidden(judge, 60, SET), []

    def draw(prompts, negatives, guidance):
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

    told = room.negative(draw, Obeys(), 60, 3.0, SET)
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


def test_what_is_forbidden_is_asked_for_only_where_that_is_said(judge):
    own = room.own_colours(SET, len(judge.heads["noun"]))
    for c in room.forbidden(judge, 90, SET):
        assert (c.word in c.prompt.split()) == c.kind.startswith(
            "asked-for"
        ) and c.word in c.negative.split(), c
        if c.kind == "colour":
            assert own[c.concept] == c.word


def test_the_report_is_whole_resumes_and_can_be_read(models, judge, tmp_path, monkeypatch):
    pipe = load(models["model"])
    ask = dict(
        guidances=(1.0, 2.0),
        num_inference_steps=2,
        judge=judge,
        emoji=SET,
        batch_size=8,
        work=tmp_path,
        negatives=6,
    )
    drawn = []
    report = evaluate_scenes(pipe, 20, progress=drawn.append, **ask)
    assert sum(drawn) == 2 * 20 + 2 * (6 + 2)
    json.dumps(report)
    assert (
        set(report["rows"]) == {"1", "2"}
        and report["rows"]["1"]["noun"]["n"] == 8
        and report["distances"]["2"]["n"] == 12
    )
    table = scene_table(report)
    for row in (
        *room.ROWS,
        "FID",
        "KID",
        "near-copies",
        "without the negative prompt",
        "asked-for background",
    ):
        assert row in table, row
    monkeypatch.setattr(type(pipe), "batches", None)  # nothing is drawn again
    assert evaluate_scenes(pipe, 20, **ask) == report


@pytest.mark.parametrize(
    "change, told", [({"n": 3}, "at least 10 prompts"), ({"judge": "digits-judge"}, "kind recogniser")]
)
def test_bad_input_is_told(models, judge, change, told):
    with pytest.raises(BadInput, match=told):
        evaluate_scenes(
            **{"model": models["model"], "n": 20, "judge": judge, "emoji": SET, "negatives": 0, **change}
        )


def test_a_judge_of_another_size_is_refused(models, judge):
    other = replace(judge, codec=replace(judge.codec, height=64, width=64))
    with pytest.raises(BadInput, match="looks at 64 x 64"):
        evaluate_scenes(models["model"], 20, judge=other, emoji=SET)
