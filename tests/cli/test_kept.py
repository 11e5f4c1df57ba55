"""Finished pictures are kept: files that lie there stay, runs that are broken off are told how to go on, and
go on.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_cli import bad, run
from unnoise.pipeline import Pipeline, read_recipe

BASE = ["generate", "boot", "--steps", 1]


def files(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_lies_there_stays_and_new_numbers_are_said(tiny, tmp_path, capfd):
    args = [*BASE, "--model", tiny, "-o", tmp_path / "x.png", "--json"]
    run(capfd, *args, "--seed", 1)
    before = files(tmp_path)
    code, out, err = run(capfd, *args, "--seed", 2)
    assert (
        code == 0
        and json.loads(out)["files"] == [str(tmp_path / "x-2.png")]
        and "x-2.png (--overwrite" in err
    )
    assert files(tmp_path)["x.png"] == before["x.png"] and read_recipe(tmp_path / "x-2.png")["seed"] == 2
    code, out, err = run(capfd, *args, "--seed", 3, "--overwrite")
    assert (
        code == 0 and err == "" and read_recipe(tmp_path / "x.png")["seed"] == 3 and len(files(tmp_path)) == 2
    )


def test_several_pictures_and_their_grid_move_together(tiny, tmp_path, capfd):
    args = [*BASE, "--model", tiny, "-n", 2, "--seed", 5, "-o", tmp_path / "x.png", "--json"]
    run(capfd, *args)
    (tmp_path / "x-2-6.png").write_text("of somebody else")
    before = files(tmp_path)
    d = json.loads(run(capfd, *args)[1])
    assert d["files"] == [str(tmp_path / f"x-3-{s}.png") for s in (5, 6)] and d["grid"] == str(
        tmp_path / "x-3.png"
    )
    assert before.items() <= files(tmp_path).items()


def test_a_folder_takes_numbers_file_by_file(tiny, tmp_path, capfd):
    args = [*BASE, "--model", tiny, "-o", tmp_path, "--json"]
    run(capfd, *args, "--seed", 6)
    d = json.loads(run(capfd, *args, "-n", 3, "--seed", 5)[1])
    assert [os.path.basename(f) for f in d["files"]] == ["5.png", "6-2.png", "7.png"]


def test_sweeps_spare_what_lies_there(tiny, tmp_path, capfd):
    args = [
        *BASE[:2],
        "--model",
        tiny,
        "--seed",
        5,
        "--sweep",
        "steps=1,2",
        "-o",
        tmp_path / "x.png",
        "--json",
    ]
    first = json.loads(run(capfd, *args)[1])
    before = files(tmp_path)
    second = json.loads(run(capfd, *args)[1])
    assert second["grid"] == str(tmp_path / "x-2.png") and not {*first["files"]} & {*second["files"]}
    assert before.items() <= files(tmp_path).items()
    resumed = json.loads(run(capfd, *args, "--resume")[1])
    assert resumed["kept"] == 2 and resumed["grid"] == first["grid"] and resumed["files"] == first["files"]


def test_stages_spare_an_earlier_run(tiny, tmp_path, capfd):
    args = [
        *BASE,
        "--model",
        tiny,
        "--stages",
        tmp_path / "s",
        "--seed",
        5,
        "-o",
        tmp_path / "x.png",
        "--json",
    ]
    run(capfd, *args)
    before = files(tmp_path / "s")
    assert (
        json.loads(run(capfd, *args)[1])["stages"] == str(tmp_path / "s-2")
        and files(tmp_path / "s") == before
    )
    assert json.loads(run(capfd, *args, "--overwrite")[1])["stages"] == str(tmp_path / "s")


def test_resuming_draws_the_rest_and_nothing_else(tiny, tmp_path, capfd, monkeypatch):
    args = [
        *BASE,
        "--model",
        tiny,
        "-n",
        5,
        "--seed",
        5,
        "-o",
        tmp_path / "x.png",
        "--batch-size",
        1,
        "--json",
    ]
    run(capfd, *args)
    whole = files(tmp_path)
    (tmp_path / "x-6.png").unlink()
    (tmp_path / "x.png").unlink()
    other = Image.open(tmp_path / "x-8.png")
    other.save(tmp_path / "x-8.png")  # the same pixels, without the recipe: not ours to replace
    drawn = []
    plain = Pipeline.finish
    monkeypatch.setattr(
        Pipeline, "finish", lambda self, r, *a, **k: drawn.extend(r.seeds) or plain(self, r, *a, **k)
    )
    d = json.loads(run(capfd, *args, "--resume")[1])
    assert (
        drawn == [6, 8]
        and d["kept"] == 3
        and [os.path.basename(f) for f in d["files"]]
        == ["x-5.png", "x-6.png", "x-7.png", "x-8-2.png", "x-9.png"]
    )
    now = files(tmp_path)
    assert (
        all(now[n] == whole[n] for n in ("x-5.png", "x-6.png", "x-7.png", "x-9.png"))
        and now["x-8-2.png"] == whole["x-8.png"]
    )
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "x.png")), np.asarray(Image.open(tmp_path / d["grid"]))
    )
    drawn.clear()
    assert json.loads(run(capfd, *args, "--resume")[1])["kept"] == 5 and drawn == []


@pytest.mark.parametrize("change", [["--steps", 2], ["--negative", "one"], ["--guidance", 3]])
def test_pictures_of_another_recipe_are_not_taken_for_done(tiny, tmp_path, capfd, change):
    args = ["generate", "boot", "--model", tiny, "--seed", 5, "-o", tmp_path, "--json"]
    run(capfd, *args, "--steps", 1)
    d = json.loads(
        run(capfd, *args, *(change if "--steps" in change else ["--steps", 1, *change]), "--resume")[1]
    )
    assert d["kept"] == 0 and d["files"] == [str(tmp_path / "5-2.png")]


def test_a_damaged_picture_is_drawn_again_when_resuming(tiny, tmp_path, capfd):
    args = [*BASE, "--model", tiny, "--seed", 5, "-o", tmp_path / "x.png", "--json"]
    run(capfd, *args)
    raw = (tmp_path / "x.png").read_bytes()
    at = raw.index(b"IDAT")
    (tmp_path / "x.png").write_bytes(raw[: at + 20])
    d = json.loads(run(capfd, *args, "--resume")[1])
    assert (
        d["kept"] == 0
        and d["files"] == [str(tmp_path / "x-2.png")]
        and (tmp_path / "x-2.png").read_bytes() == raw
    )


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_done_and_says_how_to_go_on(tiny, tmp_path, capfd, monkeypatch, kind, code):
    """The signal comes while the third picture is drawn; no seed was given: the line names it."""
    plain, calls = Pipeline.finish, []

    def finish(self, r, *args, **how):
        calls.append(r.seeds)
        if len(calls) == 3:
            signal.raise_signal(kind)
        return plain(self, r, *args, **how)

    args = [*BASE, "--model", tiny, "-n", 5, "-o", tmp_path / "out", "--batch-size", 1, "--json"]
    with monkeypatch.context() as m:
        m.setattr(Pipeline, "finish", finish)
        got, out, err = run(capfd, *args)
    first = calls[0][0]
    assert got == code and out == "" and err.count("\n") == 1
    assert f"2 of 5 pictures are written; the same command with --seed {first} --resume draws the rest" in err
    assert sorted(files(tmp_path / "out")) == sorted(f"{s}.png" for s in (first, first + 1))
    d = json.loads(run(capfd, *args, "--resume")[1])  # and without the seed, that of what lies there
    assert (
        d["kept"] == 2 and d["seeds"] == list(range(first, first + 5)) and len(files(tmp_path / "out")) == 5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_process_that_is_killed_leaves_whole_pictures(tiny, tmp_path, kind, code):
    out = tmp_path / "out"
    p = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "unnoise.cli.main",
            "generate",
            "boot",
            "-n",
            "5000",
            "--seed",
            "0",
            "--steps",
            "20",
            "--model",
            str(tiny),
            "--batch-size",
            "4",
            "-o",
            str(out),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not (out.is_dir() and len(list(out.glob("*.png"))) > 8) and time.monotonic() < until:
        time.sleep(0.05)
    p.send_signal(kind)
    _, err = p.communicate(timeout=60)
    assert p.returncode == code and (kind == signal.SIGKILL or "of 5000 pictures are written" in err)
    made = list(out.glob("*.png"))
    assert len(made) > 8 and all(read_recipe(f)["seed"] == int(f.stem) and Image.open(f).load() for f in made)


def test_rules_that_exclude_each_other(tiny, tmp_path, capfd):
    assert "exclude" in bad(
        capfd, *BASE, "--model", tiny, "-o", tmp_path / "x.png", "--resume", "--overwrite"
    )
    assert "--resume" in bad(
        capfd, *BASE, "--model", tiny, "-o", tmp_path / "x.png", "--resume", "--stages", tmp_path / "s"
    )
    assert files(tmp_path) == {}


def test_models_of_numbers_are_refused_before_they_draw(vectors, tmp_path, capfd):
    assert "numbers" in bad(capfd, "generate", "--model", vectors, "-o", tmp_path / "x.png")


def test_seeds_and_files_are_printed(tiny, tmp_path, capfd):
    _, out, _ = run(capfd, *BASE, "--model", tiny, "-n", 2, "--seed", 5, "-o", tmp_path / "x.png")
    assert out.split("\n")[:3] == [
        f"{tmp_path}/x-5.png  seed 5",
        f"{tmp_path}/x-6.png  seed 6",
        f"{tmp_path}/x.png  all of them",
    ]


def test_two_writers_of_one_name_both_keep_their_pictures(tiny, tmp_path):
    import unnoise

    result, made = unnoise.load(tiny)("boot", seed=1, num_inference_steps=1), []
    threads = [
        threading.Thread(target=lambda: made.extend(result.save(tmp_path / "x.png"))) for _ in range(6)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len({*made}) == 6 == len(files(tmp_path))
