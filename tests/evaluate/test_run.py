import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import unnoise
from unnoise.data import load
from unnoise.errors import BadInput
from unnoise.evaluate import compare, evaluate
from unnoise.evaluate.classes import _accuracy, _groups, _pick
from unnoise.worlds.judge import CLASS

from .conftest import Shows

# the test split has at most 41 images of a class: with 41 asked for of each, every one of them is a reference
ALL = 410


@pytest.fixture(scope="module")
def test():
    return load("digits8", "test")


@pytest.fixture
def run(judge, tmp_path):
    def run(model, n=ALL, **options):
        usual = {"judge": judge, "data": "digits8", "work": tmp_path / "work", "batch_size": 50}
        return evaluate(model, n, **{**usual, **options})

    return run


def numbers(report):
    return {k: v for k, v in report.items() if k not in ("work", "seconds")}


def share(p, n):
    return {"value": pytest.approx(p), "se": pytest.approx(np.sqrt(p * (1 - p) / n)), "n": n}


# --- generators whose answer is known -----------------------------------------------------------------------


def test_the_reference_itself(run, judge, test):
    r = run(Shows(test))
    biggest = np.bincount(test.labels).max()
    assert biggest == 41 and r["n_matched"] == 300 and r["n"] == 410
    assert r["fid"] < 1e-6 and r["kid"] < 0 and r["precision"] == r["recall"] == 1.0
    right = judge.look(test.x).said() == test.labels
    assert r["ceiling"]["all"] == share(right.mean(), 300)
    for c, word in enumerate(test.words):  # asked 41 times each, shown in turn
        own = right[test.labels == c]
        assert r["accuracy"]["classes"][word]["value"] == pytest.approx(np.resize(own, 41).mean())
        assert r["ceiling"]["classes"][word] == share(own.mean(), len(own))
    assert r["accuracy"]["all"]["n"] == 410 and r["accuracy"]["groups"] == {}


def test_real_images_of_the_other_split_are_at_the_floor(run, judge):
    train = load("digits8")
    r = run(Shows(train))
    assert 0.5 < r["fid"] / r["floor"]["fid"] < 2 and r["floor"]["fid"] > 0 and r["floor"]["n_matched"] == 300
    assert abs(r["kid"]) < 4 * r["kid_se"] and abs(r["floor"]["kid"]) < 4 * r["floor"]["kid_se"]
    assert min(r[k] for k in ("precision", "recall")) > 0.5 and r["accuracy"]["all"]["value"] > 0.95


def test_wrong_labels_cost_exactly_their_share(run, judge, test):
    known = test.take(np.flatnonzero(judge.look(test.x).said() == test.labels))
    show = Shows(known)
    wrong = Shows(
        known, lambda x, s: show.pool[(s + 1) % 10][0] if s // 10 % 4 == 0 else x, tag="b"
    )  # every 4th of each
    right, r = run(show, 200), run(wrong, 200)
    assert right["accuracy"]["all"]["value"] == 1.0
    assert r["accuracy"]["all"] == share(0.75, 200)
    assert all(v == share(0.75, 20) for v in r["accuracy"]["classes"].values())


def blur(x, seed):
    wide = np.pad(x.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    return (sum(wide[i : i + 8, j : j + 8] for i in range(3) for j in range(3)) / 9).round().astype(np.uint8)


def test_blur_and_collapse_are_seen(run):
    train = load("digits8")
    good, bad = run(Shows(train)), run(Shows(train, blur, tag="b"))
    assert (
        bad["fid"] > 5 * good["fid"]
        and bad["kid"] > 5 * bad["kid_se"]
        and bad["precision"] < good["precision"]
    )
    one = Shows(train, tag="c")
    one.pool = [p[:1] for p in one.pool]
    collapsed = run(one)
    assert collapsed["recall"] < 0.1 and collapsed["precision"] > 0.5 and collapsed["fid"] > 5 * good["fid"]


def test_words_of_a_part_of_the_classes_are_measured_against_those(run, test):
    show = Shows(test)
    show.words = type(show.words)(
        tuple(reversed(test.words[3:5]))
    )  # fewer, and in another order than the judge's
    r = run(show, 82, batch_size=7)
    own = int(np.isin(test.labels, (3, 4)).sum())
    assert (
        r["conditions"]["classes"]
        == list(test.words[3:5])
        == sorted(r["accuracy"]["classes"], key=test.words.index)
    )
    assert r["n_matched"] == r["ceiling"]["all"]["n"] == own and r["accuracy"]["all"]["value"] > 0.85


def test_a_model_without_words_has_no_accuracy_but_the_rest(run, test):
    r = run(Shows(test, worded=False), 300)
    assert r["accuracy"] is None and r["n_matched"] == np.minimum(np.bincount(test.labels), 30).sum() < 300
    assert r["fid"] < 5 * r["floor"]["fid"] and r["precision"] > 0.8 and r["ceiling"]["all"]["n"] == 300


def test_few_images_give_none_where_nothing_can_be_said(run, test):
    r = run(Shows(test), 2)
    assert (
        r["kid"] is r["kid_se"] is r["precision"] is None and r["fid"] >= 0 and r["accuracy"]["all"]["n"] == 2
    )
    assert run(Shows(test), 20)["kid_se"] is None and json.loads(json.dumps(r)) == r


# --- what is counted and chosen -----------------------------------------------------------------------------


def test_groups_are_the_sets_that_were_joined():
    class Joined:
        name = "mnist+fashion"

    groups = _groups(Joined)
    assert groups == {"mnist": range(10), "fashion-mnist": range(10, 20)}
    labels, said = np.array([0, 1, 12, 13]), np.array([0, 12, 12, 13])
    got = _accuracy(said, labels, tuple("abcdefghijklmnopqrst"), groups)
    assert got["groups"] == {"mnist": share(0.5, 2), "fashion-mnist": share(1.0, 2)} and got["all"] == share(
        0.75, 4
    )
    assert {k: v["value"] for k, v in got["classes"].items()} == {"a": 1, "b": 0, "m": 1, "n": 1}


def test_pick_takes_so_many_of_each_class_and_is_fixed():
    labels = np.arange(100) % 5
    counts = np.array([3, 0, 20, 1, 7])
    i = _pick(labels, counts)
    assert (
        (np.bincount(labels[i], minlength=5) == counts).all()
        and len(set(i)) == 31
        and (i == np.sort(i)).all()
    )
    assert (i == _pick(labels, counts)).all() and not (i == _pick(labels, counts, shuffled=False)).all()
    assert (_pick(labels, counts, shuffled=False)[:2] == [0, 2]).all()


def test_same_inputs_same_numbers_and_all_conditions_are_told(run, judge, test, tmp_path):
    a, b = run(Shows(test), 100), run(Shows(test), 100, work=tmp_path / "other")
    assert numbers(a) == numbers(b) and a["work"] != b["work"]
    c = a["conditions"]
    assert (c["n"], c["data"], c["split"], c["data_sha256"]) == (100, "digits8", "test", test.sha256)
    assert (c["judge"], c["judge_sha256"], c["features"]) == ("tiny-judge", judge.sha256, 16)
    assert (
        a["model"] == {"name": "shows", "sha256": "a" * 64}
        and a["settings"]["steps"] == 1
        and a["settings"]["seed"] == 0
    )
    revisions = {"version", "sampler_revision", "noise_revision"}
    assert {"sampler", "guidance", "batch_size", "words"} | revisions <= a["settings"].keys()


def test_compare_refuses_unlike_settings(run, test):
    a, b = run(Shows(test), 100), run(Shows(load("digits8"), blur, tag="b"), 100)
    d = compare(a, b)
    assert d["fid"] == b["fid"] - a["fid"] > 0
    assert d["accuracy"] == b["accuracy"]["all"]["value"] - a["accuracy"]["all"]["value"]
    with pytest.raises(BadInput, match="cannot be compared: n"):
        compare(a, run(Shows(test), 110))
    for key in a["conditions"]:
        other = {**b, "conditions": {**b["conditions"], key: "else"}}
        with pytest.raises(BadInput, match=key):
            compare(a, other)
        other["conditions"].pop(key)
        with pytest.raises(BadInput, match=key):
            compare(other, a)
    for no_report in ({}, {"conditions": 3}, {"conditions": a["conditions"]}):
        alike = {**a, "conditions": no_report.get("conditions", {})}
        with pytest.raises(BadInput, match="give two reports"):
            compare(no_report, alike)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n": 1}, "at least 2 images, given 1"),
        ({"n": 2.5}, "given 2.5"),
        ({"n": True}, "given True"),
        ({"batch_size": 0}, "batch_size"),
        ({"judge": "no-such"}, "no-such"),
        ({"data": "no-such"}, "unknown data set"),
        ({"model": "no-such"}, "unknown model"),
    ],
)
def test_bad_input_is_told_before_any_work(run, test, tmp_path, options, told):
    show = Shows(test)
    with pytest.raises(BadInput, match=told) as e:
        run(**{"model": show, "n": 10, **options})
    assert not show.calls and not (tmp_path / "work").exists() and "\n" not in str(e.value)


def test_data_that_was_not_fetched_says_the_command(run, test, tmp_path, monkeypatch):
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "empty"))
    with pytest.raises(BadInput, match="run: unnoise data fetch mnist"):
        run(Shows(test), data="mnist")


def test_a_judge_of_other_words_or_sizes_is_refused(run, judge, test):
    show = Shows(test)
    show.words = type(show.words)(("a red apple", *test.words[1:]))
    with pytest.raises(BadInput, match="'tiny-judge' does not know 'a red apple' of model 'shows'"):
        run(show)
    other = dataclasses.replace(judge, heads={CLASS: tuple(reversed(judge.words))})
    with pytest.raises(BadInput, match="'digits8' has other classes than judge 'tiny-judge'"):
        run(Shows(test), judge=other)
    big = Shows(test, lambda x, s: np.zeros((9, 9, 1), np.uint8), tag="d")
    with pytest.raises(BadInput, match=r"given uint8 \(50, 9, 9, 1\)"):
        run(big)
    assert len(big.calls) == 1  # told after the first chunk, not after the last


# --- resuming -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [0, 49, 50, 130, 199])
def test_an_interrupted_run_continues(run, test, tmp_path, stop_at):
    whole = run(Shows(test), 200, work=tmp_path / "whole")
    stopped, again = Shows(test), Shows(test)
    stopped.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        run(stopped, 200)
    counted = []
    r = run(again, 200, progress=counted.append)
    done = stop_at // 50
    assert again.calls == [tuple(range(s, s + 50)) for s in range(50 * done, 200, 50)] and counted == [50] * 4
    assert numbers(r) == numbers(whole) and not list((tmp_path / "work").rglob("*.part"))
    last = Shows(test)
    assert run(last, 200) == r and last.calls == []


def test_more_images_reuse_whole_chunks_and_other_settings_reuse_none(run, test):
    run(Shows(test), 120)
    more = Shows(test)
    run(more, 200)
    assert more.calls == [tuple(range(100, 150)), tuple(range(150, 200))]  # the chunk of 20 was not whole
    back = Shows(test)
    run(back, 120)
    assert back.calls == []  # nor did a larger one take its place
    for change in ({"num_inference_steps": 3}, {"guidance_scale": 2.0}, {"seed": 5}, {"batch_size": 60}):
        other = Shows(test)
        run(other, 120, **change)
        assert len(other.calls) >= 2, change
    other = Shows(test, tag="e")
    run(other, 120)
    assert len(other.calls) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: b"<html>",
        lambda raw: raw[:200] + bytes([raw[200] ^ 255]) + raw[201:],
    ],
)
def test_a_damaged_chunk_is_made_again(run, test, tmp_path, damage):
    r = run(Shows(test), 100)
    file = sorted((tmp_path / "work").rglob("*.npz"))[1]
    file.write_bytes(damage(file.read_bytes()))
    again = Shows(test)
    assert run(again, 100) == r and again.calls == [tuple(range(50, 100))]


def test_a_chunk_of_another_length_is_made_again(run, test, tmp_path):
    r = run(Shows(test), 100)
    file = sorted((tmp_path / "work").rglob("*.npz"))[1]
    np.savez(file, images=np.load(file)["images"][:-1], nfe=1)
    again = Shows(test)
    assert run(again, 100) == r and again.calls == [tuple(range(50, 100))]


def test_a_work_folder_of_other_settings_or_that_cannot_be_written_is_refused(run, test, tmp_path):
    r = run(Shows(test), 50)
    told = os.path.join(r["work"], "settings.json")
    for text in (json.dumps({**r["settings"], "steps": 99}), "{"):
        with open(told, "w") as f:
            f.write(text)
        with pytest.raises(BadInput, match="does not belong"):
            run(Shows(test), 50)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        run(Shows(test), 50, work=tmp_path / "file")


def test_a_full_disk_leaves_no_partial_chunk(run, test, tmp_path, monkeypatch):
    def full(to, **arrays):
        to.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(np, "savez_compressed", full)
        with pytest.raises(BadInput, match="No space left"):
            run(Shows(test), 50)
    assert [p.name for p in (tmp_path / "work").rglob("*") if p.is_file()] == ["settings.json"]


# --- the real pipeline --------------------------------------------------------------------------------------


def test_the_real_pipeline_is_measured(judge, model_folder, tmp_path):
    options = {
        "judge": judge,
        "data": "digits8",
        "work": tmp_path,
        "num_inference_steps": 2,
        "batch_size": 16,
    }
    r = evaluate(model_folder, 40, **options)
    assert r["nfe"] == 2 and r["settings"]["steps"] == 2 and r["accuracy"]["all"]["n"] == 40
    assert r["fid"] > 10 * r["floor"]["fid"]  # untrained: noise is far from digits
    pipe = unnoise.load(model_folder)
    assert evaluate(pipe, 40, **options) == r and r["model"] == {"name": "tiny", "sha256": pipe.sha256}
    files = sorted(tmp_path.rglob("*.npz"))
    kept = np.concatenate([np.load(f)["images"] for f in files])
    seven = pipe(pipe.words.words[37 % 10], seed=37, num_inference_steps=2).arrays[0]
    assert (
        len(kept) == 40 and np.abs(kept[37].astype(int) - seven).max() <= 1
    )  # image i: word i mod 10, seed i


COMMAND = """import sys, typer; from unnoise.cli.evaluate import evaluate
app = typer.Typer(); app.command()(evaluate); app(sys.argv[1:])"""


@pytest.mark.slow
def test_sigkill_at_any_moment_then_the_same_command_finishes(judge_folder, model_folder, tmp_path):
    def command(work):
        return [
            sys.executable,
            "-c",
            COMMAND,
            str(model_folder),
            "-n",
            "200",
            "--steps",
            "4",
            "--judge",
            str(judge_folder),
            "--data",
            "digits8",
            "--batch-size",
            "10",
            "--work",
            str(tmp_path / work),
            "--json",
        ]

    def files():
        return {f.name: f.stat().st_mtime_ns for f in (tmp_path / "killed").rglob("*.npz")}

    whole = json.loads(subprocess.run(command("whole"), check=True, capture_output=True, timeout=120).stdout)
    for at_least in (3, 9):
        process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(files()) < at_least and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = files()
        assert at_least <= len(before) < 20, "the process was not killed half-way"
    resumed = json.loads(
        subprocess.run(command("killed"), check=True, capture_output=True, timeout=120).stdout
    )
    assert numbers(resumed) == numbers(whole) and len(files()) == 20
    assert all(files()[name] == changed for name, changed in before.items())
