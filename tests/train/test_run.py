"""A run in its folder: resuming, signals, roll-backs, full disks, logs, validation, and who may use the
folder.
"""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.train.tiny import JUDGE, MLP, UNET, poison, recipe
from unnoise.base.sheet import tile
from unnoise.errors import BadInput
from unnoise.train import checkpoint, objective, run
from unnoise.train.fit import prepare

WEIGHTS = ("raw_sha256", "ema0_sha256", "ema1_sha256")


def weights(result: dict) -> list[str]:
    return [result[k] for k in WEIGHTS]


def log(folder: Path, event: str = "train") -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def poisoned(monkeypatch, when) -> None:
    monkeypatch.setattr(run, "prepare", lambda *a: poison(prepare(*a), when))


def one_line(e: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(e.value)
    return str(e.value)


# --- what a run leaves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [MLP, UNET, JUDGE], ids=lambda n: n["kind"])
def test_a_run_leaves_a_log_checkpoints_samples_and_a_model(net, tmp_path):
    from unnoise import hub

    result = run.train(recipe(net, log={"sample": 4, "validate_every": 4}), tmp_path / "r")
    folder = tmp_path / "r"
    assert result["steps"] == 8 and result["folder"] == str(folder / "model")
    assert result["ema_sha256"] == result["ema0_sha256"]
    assert [line["step"] for line in log(folder)] == list(range(1, 9))
    assert [line["step"] for line in log(folder, "validation")] == [4, 8] and len(log(folder, "final")) == 1
    assert {"loss", "lr", "grad_norm", "images_per_s"} < set(log(folder)[0])
    assert names(folder / "checkpoints") == ["step-00000006", "step-00000008"]
    assert checkpoint.weights_hash(hub.load(folder / "model").net.state_dict()) == result["ema0_sha256"]
    if net is not JUDGE:
        assert Image.open(folder / "samples" / "final.png").size[0] % 8 == 0
        assert names(folder / "samples") == ["00000004.png", "00000008.png", "final.png"]
    parts, state = checkpoint.newest(folder / "checkpoints")
    assert [checkpoint.weights_hash(parts[p]) for p in ("raw", "ema0", "ema1")] == weights(result) and state[
        "step"
    ] == 8


def test_the_exported_track_is_the_one_asked_for(tmp_path):
    from unnoise import hub

    for export in ("raw", "ema0", "ema1"):
        result = run.train(recipe(train={"export": export}), tmp_path / export)
        assert (
            checkpoint.weights_hash(hub.load(tmp_path / export / "model").net.state_dict())
            == result[f"{export}_sha256"]
        )
    assert result["ema_sha256"] == result["ema1_sha256"] and len(set(weights(result))) == 3


def test_how_often_it_saves_validates_and_draws_does_not_change_the_weights(tmp_path):
    a = run.train(recipe(JUDGE), tmp_path / "a")
    b = run.train(recipe(JUDGE, log={"save": 3, "validate_every": 2, "every": 5}), tmp_path / "b")
    assert weights(a) == weights(b)
    c = run.train(recipe(UNET), tmp_path / "c")
    d = run.train(recipe(UNET, log={"save": 1, "validate_every": 3, "sample": 2}), tmp_path / "d")
    assert weights(c) == weights(d)


def test_tensorboard_has_the_same_numbers(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run.train(recipe(log={"tensorboard": True, "validate_every": 4}), tmp_path)
    board = events.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    seen = board.Scalars("train/loss")
    assert [s.step for s in seen] == [line["step"] for line in log(tmp_path)]
    assert [s.value for s in seen] == pytest.approx([line["loss"] for line in log(tmp_path)])
    assert [s.step for s in board.Scalars("validation/loss")] == [4, 8]


def test_tile_lays_images_out_row_by_row():
    images = np.stack([np.full((2, 3, 1), v, np.uint8) for v in (10, 20, 30)])
    sheet = tile(images, columns=2)
    assert (
        sheet.shape == (4, 6)
        and sheet[0, 0] == 10
        and sheet[0, 3] == 20
        and sheet[2, 0] == 30
        and sheet[2, 3] == 255
    )


# --- validation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [MLP, JUDGE], ids=lambda n: n["kind"])
def test_two_validations_are_equal_to_the_bit_and_change_nothing(net):
    r = prepare(recipe(net, log={"validation_samples": 50}))
    before = [checkpoint.weights_hash(w) for w in r.parts().values()]
    first = run.Validation(r)(r)
    torch.manual_seed(5)
    assert run.Validation(r)(r) == first
    assert [checkpoint.weights_hash(w) for w in r.parts().values()] == before and r.net.training


def test_validation_has_one_value_a_level_and_is_the_errors_mean(tmp_path):
    r = prepare(recipe(log={"validation_samples": 300}))
    v = run.Validation(r)
    values = v(r)
    curve = [values[f"loss_{(j + 0.5) / 8:.4f}"] for j in range(8)]
    assert values["loss"] == pytest.approx(sum(curve) / 8, abs=1e-7) and len(values) == 9
    assert sorted(v.index) == list(range(300)) and v.src.data.split == "test"  # every held-out digit, once
    with torch.no_grad():
        for w in r.ema[0].weights.values():
            w.zero_()
    zero = run.Validation(r)(
        r
    )  # a net that says 0 has the mean square of its target v = alpha eps - sigma x0
    x = v.src.encode(v.index)
    for j, value in enumerate(zero[f"loss_{(j + 0.5) / 8:.4f}"] for j in range(8)):
        l = objective.resolve(r.recipe.process).curve.level((j + 0.5) / 8)
        assert value == pytest.approx(float(l.alpha**2 + l.sigma**2 * x.square().mean()), rel=0.03)


def test_validation_numbers_words_as_training_does(tmp_path):
    """A validation split with fewer, or other, words: the same word has the same number, a new one is "no
    condition".
    """
    pictures = np.zeros((6, 8, 8, 1), np.uint8)
    pictures[:] = np.arange(6)[:, None, None, None] * 40
    np.savez(
        tmp_path / "set.npz",
        x_train=pictures,
        captions_train=list("abcabc"),
        x_test=pictures[:3],
        captions_test=list("cza"),
    )
    r = prepare(recipe(data={"name": str(tmp_path / "set.npz")}))
    v = run.Validation(r)
    assert r.source.words == ("a", "b", "c") and v.src.labels.tolist() == [2, 3, 0]
    assert np.isfinite(v(r)["loss"])


def test_validation_data_is_scaled_as_training_data_is(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "set.npz", x_train=rng.normal(3, 2, (50, 4)), x_test=rng.normal(9, 1, (50, 4)))
    r = prepare(recipe(data={"name": str(tmp_path / "set.npz")}))
    assert run.Validation(r).src.codec == r.source.codec and r.source.codec.std == pytest.approx(2, rel=0.2)


# --- resuming and signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sig, net, at", [(signal.SIGINT, UNET, 3), (signal.SIGTERM, MLP, 5), (signal.SIGINT, JUDGE, 1)]
)
def test_a_signal_saves_and_resuming_ends_where_the_whole_run_does(tmp_path, sig, net, at):
    whole = run.train(recipe(net), tmp_path / "whole")
    before = signal.getsignal(sig)
    with pytest.raises(
        run.Interrupted, match=rf"after step {at} of 8; step {at} is saved, --resume continues"
    ):
        run.train(
            recipe(net),
            tmp_path / "cut",
            report=lambda s, n: os.kill(os.getpid(), sig) if s.step == at else None,
        )
    assert signal.getsignal(sig) == before and issubclass(run.Interrupted, KeyboardInterrupt)
    assert checkpoint.newest(tmp_path / "cut" / "checkpoints")[1]["step"] == at
    resumed = run.train(recipe(net), tmp_path / "cut", resume=True)
    assert weights(resumed) == weights(whole) and resumed["validation"] == whole["validation"]
    strip = lambda lines: [{k: v for k, v in line.items() if k != "images_per_s"} for line in lines]
    assert strip(log(tmp_path / "cut")) == strip(log(tmp_path / "whole"))


@pytest.mark.parametrize("harm", ["truncated", "flipped", "no manifest", "empty folder"])
def test_resume_takes_the_newest_whole_checkpoint(tmp_path, harm):
    whole = run.train(recipe(UNET), tmp_path)
    newest = tmp_path / "checkpoints" / "step-00000008"
    raw = (newest / "raw.safetensors").read_bytes()
    if harm == "truncated":
        (newest / "raw.safetensors").write_bytes(raw[:-7])
    if harm == "flipped":
        (newest / "raw.safetensors").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    if harm == "no manifest":
        (newest / "manifest.json").unlink()
    if harm == "empty folder":
        for p in newest.iterdir():
            p.unlink()
    seen = []
    again = run.train(recipe(UNET), tmp_path, resume=True, report=lambda s, n: seen.append(s.step))
    assert seen == [7, 8] and weights(again) == weights(whole)


def test_resuming_a_finished_run_makes_the_same_model_again(tmp_path):
    whole = run.train(recipe(), tmp_path)
    again = run.train(recipe(), tmp_path, resume=True)
    assert weights(again) == weights(whole) and again["loss"] is None and len(log(tmp_path, "final")) == 1


def test_a_torn_log_is_cut_back(tmp_path):
    run.train(recipe(), tmp_path)
    for p in (tmp_path / "checkpoints" / "step-00000008").iterdir():
        p.unlink()
    with open(tmp_path / "log.jsonl", "ab") as f:
        f.write(b'{"event": "train", "st\xff')
    run.train(recipe(), tmp_path, resume=True)
    assert [line["step"] for line in log(tmp_path)] == list(range(1, 9))


# --- the folder ---------------------------------------------------------------------------------------------


def test_a_folder_is_one_recipes(tmp_path):
    run.train(recipe(), tmp_path / "r")
    before = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    for r, resume, words in (
        (recipe(), False, "already holds a run"),
        (recipe(train={"lr": 2e-3}), True, "train.lr is 0.001 there, given 0.002"),
        (recipe(MLP | {"width": 16}), True, "net.width is 32 there, given 16"),
    ):
        with pytest.raises(BadInput, match=words) as e:
            run.train(r, tmp_path / "r", resume)
        one_line(e)
    assert {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()} == before


def test_what_is_not_a_run_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder" / "model").mkdir(parents=True)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "recipe.json").write_text("{")
    for name, resume, words in (
        ("file", False, "cannot write"),
        ("file/below", False, "cannot write"),
        ("folder", True, "holds model but no recipe.json"),
        ("broken", True, "cannot read"),
    ):
        with pytest.raises(BadInput, match=words) as e:
            run.train(recipe(), tmp_path / name, resume)
        one_line(e)
    assert (tmp_path / "file").read_text() == "mine" and not list((tmp_path / "folder" / "model").iterdir())


# --- the disk -----------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_while_training_keeps_what_is_saved(tmp_path, monkeypatch):
    whole = run.train(recipe(UNET), tmp_path / "whole")
    put, count = checkpoint.put, [0]

    def full(path: Path, raw: bytes) -> str:
        ours = path.parent.parent.name == "checkpoints"
        count[0] += ours
        if ours and count[0] == 15:
            raise OSError(errno.ENOSPC, "No space left on device")  # third file, third checkpoint
        return put(path, raw)

    monkeypatch.setattr(checkpoint, "put", full)
    with pytest.raises(BadInput, match=r"cannot save checkpoint 6 .*No space left on device; earlier") as e:
        run.train(recipe(UNET), tmp_path / "r")
    one_line(e)
    assert checkpoint.newest(tmp_path / "r" / "checkpoints")[1]["step"] == 4
    assert weights(run.train(recipe(UNET), tmp_path / "r", resume=True)) == weights(whole)


@pytest.mark.parametrize("tensorboard", [False, True])
def test_a_log_that_cannot_be_written_is_one_line(tmp_path, tensorboard):
    """/dev/full: a real file that has no room."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    r = recipe(log={"tensorboard": tensorboard, "save": 1})

    def fill(s, n) -> None:
        if s.step == 3:
            made[0].file = open("/dev/full", "a", buffering=1)  # noqa: SIM115

    made = []

    class Log(run.Log):
        def __init__(self, *a):
            super().__init__(*a)
            made.append(self)

    with (
        pytest.MonkeyPatch.context() as m,
        pytest.raises(BadInput, match=r"cannot write .*log\.jsonl: No space left") as e,
    ):
        m.setattr(run, "Log", Log)
        run.train(r, tmp_path, report=fill)
    one_line(e)
    assert checkpoint.newest(tmp_path / "checkpoints")[1]["step"] == 2


# --- non-finite numbers -------------------------------------------------------------------------------------


def test_a_bad_step_is_skipped_and_logged(tmp_path, monkeypatch):
    poisoned(monkeypatch, lambda step, salt: step == 3)
    result = run.train(recipe(), tmp_path)
    assert (
        log(tmp_path, "skipped") == [{"event": "skipped", "step": 4, "tensor": "loss"}]
        and result["rollbacks"] == 0
    )
    assert names(tmp_path / "checkpoints") == ["step-00000006", "step-00000008"]
    assert all(np.isfinite(line["loss"]) for line in log(tmp_path))


@pytest.mark.parametrize("first", [0, 5])
def test_after_some_bad_steps_it_rolls_back_and_draws_afresh(tmp_path, monkeypatch, first):
    poisoned(monkeypatch, lambda step, salt: step >= first and salt == 0)
    result = run.train(recipe(train={"bad_steps": 2}), tmp_path)
    assert result["rollbacks"] == 1 and result["steps"] == 8
    assert log(tmp_path, "rollback") == [
        {"event": "rollback", "step": first + 2, "to": max(first - 1, 0), "tensor": "loss"}
    ]
    parts, state = checkpoint.newest(tmp_path / "checkpoints")
    assert state["rollbacks"] == 1 and not any(checkpoint.first_nonfinite(p) for p in parts.values())


@pytest.mark.parametrize("stop", range(1, 8))
def test_a_resume_around_a_roll_back_is_exact(tmp_path, monkeypatch, stop):
    poisoned(monkeypatch, lambda step, salt: step in (3, 4) and salt == 0)
    r = recipe(train={"bad_steps": 2}, log={"save": 1})
    whole = run.train(r, tmp_path / "whole")
    assert whole["rollbacks"] == 1
    calls = []

    def count(s, n) -> None:
        calls.append(s.step)
        if len(calls) == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(run.Interrupted):
        run.train(r, tmp_path / "cut", report=count)
    resumed = run.train(r, tmp_path / "cut", resume=True)
    assert weights(resumed) == weights(whole) and resumed["rollbacks"] == 1


def test_it_gives_up_with_a_clear_word(tmp_path, monkeypatch):
    poisoned(monkeypatch, lambda step, salt: step >= 4)
    said = (
        r"training diverged: loss is not finite at step 6, after 3 roll-backs; lower train.lr \(given 0.001\)"
    )
    with pytest.raises(BadInput, match=said) as e:
        run.train(recipe(train={"bad_steps": 2}), tmp_path)
    one_line(e)
    assert [line["to"] for line in log(tmp_path, "rollback")] == [4, 4, 4]
    assert checkpoint.newest(tmp_path / "checkpoints")[1]["step"] == 4 and not (tmp_path / "model").exists()


def test_weights_that_overflow_are_rolled_back_and_never_written(tmp_path):
    """A finite gradient with a rate beyond float32: no step is bad, the weights are."""
    with pytest.raises(BadInput, match=r"training diverged: (raw/|gradient of |loss)"):
        run.train(recipe(train={"lr": 1e39, "warmup": 0, "bad_steps": 1}, log={"save": 1}), tmp_path)
    assert checkpoint.newest(tmp_path / "checkpoints") is None and log(tmp_path, "rollback")[0][
        "tensor"
    ].startswith("raw/")
