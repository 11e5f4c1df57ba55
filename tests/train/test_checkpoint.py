"""Checkpoints under every fault that can be injected: whatever fails, the newest whole one loads and nothing
else does.
"""

from __future__ import annotations

import builtins
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from unnoise.errors import BadInput
from unnoise.train import checkpoint

PARTS = ("raw", "ema0", "ema1", "optimizer")


def parts(value: float, n: int = 7) -> checkpoint.Parts:
    return {p: {"w": torch.full((n,), value + i), "count": torch.tensor(i)} for i, p in enumerate(PARTS)}


def put(folder, step: int, keep: int = 2, n: int = 7):
    return checkpoint.write(folder, step, parts(float(step), n), {"step": step, "rollbacks": 0}, keep)


def step_of(folder) -> int | None:
    found = checkpoint.newest(folder)
    if not found:
        return None
    for i, p in enumerate(PARTS):
        assert (found[0][p]["w"] == found[1]["step"] + i).all() and found[0][p]["count"] == i
    return found[1]["step"]


def names(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_round_trip_and_files(tmp_path):
    assert checkpoint.newest(tmp_path / "nothing") is None
    path = put(tmp_path, 3)
    assert names(path) == sorted(["manifest.json", "state.json", *(f"{p}.safetensors" for p in PARTS)])
    assert step_of(tmp_path) == 3


def test_strided_and_empty_tensors_survive(tmp_path):
    w = torch.arange(24.0).reshape(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    path = checkpoint.write(tmp_path, 1, {"raw": {"w": w}, "optimizer": {}}, {"step": 1})
    found = checkpoint.read(path)
    assert found and torch.equal(found[0]["raw"]["w"], w) and found[0]["optimizer"] == {}


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_older_ones_are_pruned_and_only_those(tmp_path, keep):
    (tmp_path / "step-by-step").mkdir()
    for step in (1, 2, 3, 4):
        put(tmp_path, step, keep)
    assert names(tmp_path) == sorted([f"step-{s:08d}" for s in range(5 - keep, 5)] + ["step-by-step"])


def flip(path, at: float) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(at * (len(raw) - 1))] ^= 4
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["manifest.json", "state.json", *(f"{p}.safetensors" for p in PARTS)])
@pytest.mark.parametrize(
    "harm", ["missing", "empty", "truncated", "flipped first", "flipped middle", "flipped last"]
)
def test_a_damaged_newest_is_skipped(tmp_path, name, harm):
    put(tmp_path, 1)
    file = put(tmp_path, 2) / name
    if harm == "missing":
        file.unlink()
    elif harm == "empty":
        file.write_bytes(b"")
    elif harm == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        flip(file, {"first": 0, "middle": 0.5, "last": 1}[harm.split()[1]])
    assert step_of(tmp_path) == 1


@pytest.mark.parametrize(
    "manifest", [b"[]", b"7", b"{}", b'{"state.json": 3}', b"null", b'["state.json"]', b"\xff"]
)
def test_a_manifest_that_is_nonsense_is_no_checkpoint(tmp_path, manifest):
    path = put(tmp_path, 1)
    (path / "manifest.json").write_bytes(manifest)
    assert checkpoint.newest(tmp_path) is None


def test_a_broken_later_one_is_not_kept_in_place_of_the_new(tmp_path):
    """keep = 1, 4 is broken, training goes on from 2 and writes 3: 3 must stay."""
    put(tmp_path, 2, keep=2)
    (put(tmp_path, 4, keep=2) / "manifest.json").unlink()
    put(tmp_path, 3, keep=1)
    assert names(tmp_path) == ["step-00000003"] and step_of(tmp_path) == 3


def test_the_same_step_is_replaced(tmp_path):
    (put(tmp_path, 2) / "raw.safetensors").write_bytes(b"")
    put(tmp_path, 2)
    assert step_of(tmp_path) == 2 and names(tmp_path) == ["step-00000002"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", PARTS)
def test_non_finite_weights_are_never_written(tmp_path, part, value):
    put(tmp_path, 1)
    bad = parts(2.0)
    bad[part]["w"][3] = value
    with pytest.raises(BadInput, match=f"{part}/w is not finite"):
        checkpoint.write(tmp_path, 2, bad, {"step": 2})
    assert names(tmp_path) == ["step-00000001"] and step_of(tmp_path) == 1


# --- faults of the disk -------------------------------------------------------------------------------------


@contextmanager
def failing(at: int, act: Callable[[], None]) -> Iterator[list[str]]:
    """`act` runs in place of operation number `at` (from 0) of those that write; yields the names of all that
    were tried.
    """
    seen: list[str] = []
    calls = (os, "fsync"), (os, "rename"), (os, "mkdir"), (os, "open"), (builtins, "open")
    real = {(m, n): getattr(m, n) for m, n in calls}

    def count(name: str) -> None:
        seen.append(name)
        if len(seen) - 1 == at:
            act()

    class File:
        def __init__(self, f):
            self.f = f

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.f.close()

        def __getattr__(self, name):
            return getattr(self.f, name)

        def write(self, raw):
            self.f.write(raw[: len(raw) // 2])  # a disk fills up in the middle of a file
            self.f.flush()
            count("write")
            self.f.write(raw[len(raw) // 2 :])

    def wrapped(key):
        def call(*a, **kw):
            count(key[1])
            out = real[key](*a, **kw)
            return File(out) if key == (builtins, "open") and "b" in str(a[1:2]) else out

        return call

    for m, n in real:
        setattr(m, n, wrapped((m, n)))
    try:
        yield seen
    finally:
        for (m, n), f in real.items():
            setattr(m, n, f)


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def operations() -> int:
    """How many writing operations one checkpoint takes."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as d:
        put(Path(d), 1)
        with failing(-1, full_disk) as seen:
            put(Path(d), 2)
    assert seen.count("fsync") == 8 and seen.count("write") == 6 and seen.count("rename") == 1
    return len(seen)


@pytest.mark.parametrize("at", range(1, operations()))  # 0 is the mkdir of a folder that is there
def test_a_disk_that_fills_up_at_any_write_leaves_the_previous_one(tmp_path, at):
    put(tmp_path, 1)
    with failing(at, full_disk), pytest.raises(BadInput) as e:
        put(tmp_path, 2)
    assert "No space left" in str(e.value) and "\n" not in str(e.value) and "checkpoint 2" in str(e.value)
    assert step_of(tmp_path) == (
        1 if at < operations() - 2 else 2
    )  # the last two flush what is in place already
    assert not [n for n in names(tmp_path) if n.startswith(".tmp")]
    put(tmp_path, 3)  # and when there is room again, it goes on
    assert step_of(tmp_path) == 3


@pytest.mark.parametrize("at", range(operations()))
@pytest.mark.parametrize("keep", [1, 2])
def test_a_power_cut_at_any_write_leaves_one_that_loads(tmp_path, at, keep):
    put(tmp_path, 1, keep)

    class PowerCut(BaseException):
        pass

    def cut() -> None:
        raise PowerCut

    with failing(at, cut), pytest.raises(PowerCut):
        put(tmp_path, 2, keep)
    assert step_of(tmp_path) in (1, 2)
    put(tmp_path, 3, keep)
    assert step_of(tmp_path) == 3 and len(names(tmp_path)) <= keep


def test_room_is_checked_first(tmp_path, monkeypatch):
    put(tmp_path, 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    with (
        failing(-1, full_disk) as seen,
        pytest.raises(BadInput, match=r"it needs 1\.0 MiB, 1\.0 MiB are free"),
    ):
        put(tmp_path, 2)
    assert "write" not in seen and step_of(tmp_path) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("checked", [True, False])
def test_a_real_disk_that_is_full(small_disk, monkeypatch, checked):
    put(small_disk, 1, n=1000)
    if not checked:  # someone else fills the disk after the check
        monkeypatch.setattr(checkpoint, "_room", lambda *a: None)
    with pytest.raises(BadInput) as e:
        put(small_disk, 2, n=200_000)
    assert ("are free" if checked else "No space left") in str(e.value)
    assert step_of(small_disk) == 1 and names(small_disk) == ["step-00000001"]
    put(small_disk, 3, n=1000)
    assert step_of(small_disk) == 3


def test_the_hash_sees_names_shapes_types_and_values_but_not_layout():
    a = {"w": torch.arange(24.0).reshape(2, 3, 2, 2), "b": torch.zeros(2)}
    same = {"b": a["b"].clone(), "w": a["w"].contiguous(memory_format=torch.channels_last)}
    assert checkpoint.weights_hash(a) == checkpoint.weights_hash(same)
    others = [{"w": a["w"], "c": a["b"]}, {**a, "w": a["w"].reshape(3, 2, 2, 2)}, {**a, "b": a["b"].int()}]
    others.append({**a, "b": -a["b"]})
    assert len({checkpoint.weights_hash(d) for d in [a, *others]}) == 5
    assert json.dumps(checkpoint.weights_hash({"n": torch.tensor(3)}))  # a scalar has bytes too
