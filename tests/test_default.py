"""The default model as a new user meets it: four pictures and a grid from words, the same ones again, and
what they show.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import unnoise
from tests.cli.test_cli import bad, run
from unnoise.hub import parts
from unnoise.pipeline import read_recipe
from unnoise.worlds.emoji.exam import ROWS, asked, marks
from unnoise.worlds.judge import SCENES, load


def test_generate_draws_four_pictures_and_a_grid(capfd, tmp_path):
    code, out, _ = run(
        capfd,
        "generate",
        "two red apples on their side",
        "--seed",
        7,
        "--steps",
        4,
        "-o",
        tmp_path / "x.png",
        "--json",
    )
    d = json.loads(out)
    assert (
        code == 0
        and d["model"] == "emoji"
        and d["seeds"] == [7, 8, 9, 10]
        and len(d["files"]) == 4
        and d["nfe"] == 4
    )
    assert Image.open(tmp_path / "x.png").size == (128, 128) and Image.open(d["files"][0]).size == (64, 64)
    assert read_recipe(d["files"][2])["prompt"] == "two red apples on their side"
    code, out, _ = run(capfd, "replay", d["files"][2], "-o", tmp_path / "again.png", "--json")
    assert code == 0 and json.loads(out)["identical"]


def test_one_picture_is_what_it_is_among_four(capfd, tmp_path):
    run(capfd, "generate", "a cat", "-n", 1, "--seed", 8, "--steps", 4, "-o", tmp_path / "one.png")
    run(capfd, "generate", "a cat", "--seed", 7, "--steps", 4, "-o", tmp_path / "x.png")
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "one.png")), np.asarray(Image.open(tmp_path / "x-8.png"))
    )


def test_the_judge_cannot_draw_and_says_so(capfd):
    assert "recogniser" in bad(capfd, "generate", "a cat", "--model", "emoji-judge")


def test_the_clip_knows_a_picture_from_its_name():
    clip, pipe = parts.load_clip("emoji"), unnoise.load("emoji")
    x = pipe(["a red apple", "a cat", "a blue car"], seed=[0, 0, 0]).arrays
    cosines = parts.similar(clip.images(x), clip.texts(["a red apple", "a cat", "a blue car"]))
    assert cosines.argmax(1).tolist() == [0, 1, 2], cosines


@pytest.mark.slow
def test_it_draws_what_is_asked():
    """Nouns of the captions; bounds far below what the card states, far above guessing (one of 300)."""
    judge, pipe = load(form=SCENES), unnoise.load("emoji")
    labels = judge.heads["noun"]
    items = [i for i in asked(400, judge, "emoji-starter") if i.group == "noun"][:60]
    rows = marks(
        items,
        judge.look(pipe([i.prompt for i in items], seed=list(range(60)), num_inference_steps=10).arrays),
        judge.heads,
    )
    assert set(rows) == set(ROWS) and len(labels) == 300
    assert np.mean(rows["noun"]) > 0.2, np.mean(rows["noun"])  # 0.30 in ten steps; 0.40 in the default twenty


def test_a_saved_copy_keeps_every_part(tmp_path):
    pipe = unnoise.load("emoji")
    copy = unnoise.load(pipe.save_pretrained(tmp_path / "copy"))
    ask = dict(seed=3, num_inference_steps=3)
    assert np.array_equal(copy("a cat", **ask).arrays, pipe("a cat", **ask).arrays)
    a, b = (parts.load_clip(m).net.state_dict() for m in ("emoji", tmp_path / "copy"))
    assert a.keys() == b.keys() and all(np.array_equal(a[k].numpy(), b[k].numpy()) for k in a)
