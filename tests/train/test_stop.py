"""What stops a training, and what a resumed one then has: signals, the folder's lock, the log, and which
checkpoints stay.
"""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest
import torch

from tests.train.tiny import JUDGE, MLP, UNET, poison, recipe
from unnoise.base import stop
from unnoise.base.lock import alone
from unnoise.errors import BadInput
from unnoise.train import checkpoint, run
from unnoise.train.fit import fit, prepare

WEIGHTS = ("raw_sha256", "ema0_sha256", "ema1_sha256")


def log(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_s"} for line in lines]


def at(step, sig):
    return lambda s, n: os.kill(os.getpid(), sig) if s.step == step else None


def cut(r, folder, step, sig, resume=False):
    with pytest.raises(run.Interrupted) as e:
        run.train(r, folder, resume, report=at(step, sig))
    return e.value


def same(a, b):
    return all(a[k] == b[k] for k in (*WEIGHTS, "validation", "rollbacks"))


@pytest.mark.parametrize("sig, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_both_signals_save_and_say_how_to_go_on(tmp_path, sig, code):
    e = cut(recipe(), tmp_path, 3, sig)
    assert (
        stop.exit_code(e) == code
        and str(e) == "stopped after step 3 of 8; step 3 is saved, --resume continues"
    )
    assert checkpoint.newest(tmp_path / "checkpoints")[1]["log"] == 3 == len(log(tmp_path))


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_result_is_made(tmp_path, sig, monkeypatch):
    """No step runs then: what is saved is told all the same, and the result is made by resuming."""
    whole = run.train(recipe(), tmp_path / "whole")

    def broken_off(*_):
        raise stop.Terminated if sig == signal.SIGTERM else KeyboardInterrupt

    with (
        monkeypatch.context() as m,
        pytest.raises(run.Interrupted, match="after step 8 of 8; step 8 is saved, --resume") as e,
    ):
        m.setattr(run, "export", broken_off)
        run.train(recipe(), tmp_path / "cut")
    assert stop.exit_code(e.value) == 128 + sig
    assert same(run.train(recipe(), tmp_path / "cut", resume=True), whole) and log(tmp_path / "cut") == log(
        tmp_path / "whole"
    )


def test_a_signal_before_the_first_step_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    def broken_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "prepare", broken_off)
    with pytest.raises(run.Interrupted, match="before the first step"):
        run.train(recipe(), tmp_path / "r")
    assert not (tmp_path / "r").exists()


# --- the log ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [[4], [5], [6], [5, 6, 7], [3, 7]])
@pytest.mark.parametrize("save", [1, 2, 5])
def test_the_log_has_every_line_around_a_roll_back(tmp_path, monkeypatch, stops, save):
    monkeypatch.setattr(
        run, "prepare", lambda *a: poison(prepare(*a), lambda step, salt: step in (4, 5) and salt == 0)
    )
    r = recipe(MLP, train={"steps": 9, "bad_steps": 2}, log={"save": save, "validate_every": 4})
    whole = run.train(r, tmp_path / "whole")
    assert whole["rollbacks"] == 1 and [
        line["step"] for line in log(tmp_path / "whole") if line["event"] == "rollback"
    ] == [6]
    for step in stops:
        cut(r, tmp_path / "cut", step, signal.SIGTERM, resume=(tmp_path / "cut").exists())
    assert same(run.train(r, tmp_path / "cut", resume=True), whole)
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "train", "step": null}',
        b'{"event": "train", "step": "3"}',
        b"[" * 99_999,
        b"null",
        b'{"event": "train"}',
        b'{"step": 1e999}',
        b"\xff\xfe",
        b'{"event": "train", "step": true}',
        b'{"event": "train", "st',
    ],
)
@pytest.mark.parametrize("counted", [True, False])
def test_lines_of_nonsense_in_the_log_stop_nothing(tmp_path, line, counted):
    """A checkpoint of an earlier version does not count the log's lines: then the lines' own steps tell."""
    cut(recipe(), tmp_path, 4, signal.SIGINT)
    if not counted:
        state = tmp_path / "checkpoints/step-00000004/state.json"
        manifest = state.with_name("manifest.json")
        d = json.loads(state.read_bytes())
        del d["log"]
        old = checkpoint.hashlib.sha256(state.read_bytes()).hexdigest()
        state.write_text(json.dumps(d))
        manifest.write_text(
            manifest.read_text().replace(old, checkpoint.hashlib.sha256(state.read_bytes()).hexdigest())
        )
    with open(tmp_path / "log.jsonl", "ab") as f:
        f.write(line)
    run.train(recipe(), tmp_path, resume=True)
    assert [x["step"] for x in log(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8, 8]


# --- checkpoints --------------------------------------------------------------------------------------------


def test_what_a_signal_saves_takes_no_regular_ones_place(tmp_path):
    r = recipe(train={"steps": 12}, log={"save": 4, "keep": 2})
    for step in (5, 6, 7, 9, 10):
        cut(r, tmp_path, step, signal.SIGINT, resume=tmp_path.joinpath("recipe.json").exists())
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000004",
        "step-00000008",
        "step-00000010",
    ]
    run.train(r, tmp_path, resume=True)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000008", "step-00000012"]


@pytest.mark.parametrize(
    "harm",
    [
        "no optimizer",
        "no ema1",
        "another shape",
        "another name",
        "an optimizer's other name",
        "no step",
        "step of text",
        "a path out",
    ],
)
def test_checkpoints_that_do_not_fit_are_told_or_passed_over(tmp_path, harm, capsys):
    whole = run.train(recipe(), tmp_path / "whole")
    cut(recipe(), tmp_path / "r", 5, signal.SIGINT)
    parts, state = checkpoint.newest(tmp_path / "r/checkpoints")
    if harm == "no optimizer":
        del parts["optimizer"]
    if harm == "no ema1":
        del parts["ema1"]
    first = next(iter(parts["raw"]))
    if harm == "another shape":
        parts["raw"][first] = torch.zeros(3)
    if harm == "another name":
        parts["raw"]["x"] = parts["raw"].pop(first)
    if harm == "an optimizer's other name":
        parts["optimizer"]["x/exp_avg"] = torch.zeros(3)
    if harm == "no step":
        del state["step"]
    if harm == "step of text":
        state["step"] = "5"
    path = checkpoint.write(tmp_path / "r/checkpoints", 5, parts, state)
    if harm == "a path out":
        (path / "manifest.json").write_text('{"../../recipe.json": "0"}')
    if "another" in harm or "other" in harm:
        with pytest.raises(BadInput, match="the checkpoint is of another network") as e:
            run.train(recipe(), tmp_path / "r", resume=True)
        assert "\n" not in str(e.value)
        return
    assert same(run.train(recipe(), tmp_path / "r", resume=True), whole)
    assert log(tmp_path / "r") == log(tmp_path / "whole")


def test_a_run_without_a_whole_checkpoint_says_that_it_begins_anew(tmp_path, capsys):
    cut(recipe(), tmp_path, 1, signal.SIGINT)
    (tmp_path / "checkpoints/step-00000001/raw.safetensors").write_bytes(b"")
    run.train(recipe(), tmp_path, resume=True)
    assert (
        "no checkpoint in" in (err := capsys.readouterr().err)
        and "begins anew" in err
        and err.count("\n") == 1
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"null",
        b"[" * 99_999,
        b'{"name": "x"}',
        b'{"name": 3}',
        b'{"name": "\\ud800"}',
        b"\xff",
        b'{"a": 1, "a": 2}',
        b"9" * 5000,
    ],
)
def test_a_recipe_of_nonsense_in_the_folder_is_one_line(tmp_path, raw):
    cut(recipe(), tmp_path, 1, signal.SIGINT)
    (tmp_path / "recipe.json").write_bytes(raw)
    with pytest.raises(BadInput, match="cannot read") as e:
        run.train(recipe(), tmp_path, resume=True)
    assert "\n" not in str(e.value) and str(e.value).isprintable()


# --- the lock -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [True, False])
def test_two_in_one_folder_and_the_second_is_told(tmp_path, resume):
    if resume:
        cut(recipe(), tmp_path, 1, signal.SIGINT)
    with (
        alone(tmp_path, "training"),
        pytest.raises(
            BadInput,
            match=rf"is in use: training by process {os.getpid()} on .*; wait for it, or give another",
        ) as e,
    ):
        run.train(recipe(), tmp_path, resume)
    assert "\n" not in str(e.value)
    assert run.train(recipe(), tmp_path, resume)["steps"] == 8 and not (tmp_path / ".lock").exists()


def test_a_second_run_waits_for_nothing_and_changes_nothing(tmp_path):
    told = []

    def again(s, n):
        if s.step == 4:
            before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
            with pytest.raises(BadInput, match="is in use: training"):
                run.train(recipe(), tmp_path, resume=True)
            told.append({p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before)

    run.train(recipe(), tmp_path, report=again)
    assert told == [True]


def test_a_lock_file_that_a_dead_process_left_is_no_lock(tmp_path):
    tmp_path.joinpath(".lock").write_text("training by process 1 on elsewhere\n")
    assert run.train(recipe(), tmp_path)["steps"] == 8


# --- the caller's numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [{**UNET, "dropout": 0.3}, JUDGE], ids=lambda n: n["kind"])
def test_training_leaves_the_callers_generator_alone(net):
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    steps = fit(prepare(recipe(net)))
    next(steps), next(steps)
    assert torch.equal(torch.rand(3), want)


def test_it_runs_outside_the_main_thread(tmp_path):
    done = []
    t = threading.Thread(target=lambda: done.append(run.train(recipe(), tmp_path)["steps"]))
    t.start()
    t.join()
    assert done == [8]
