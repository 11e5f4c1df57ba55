"""What evaluations keep: under a key of all that changes pictures, one process at a time, and never believed
unchecked.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unnoise.base.lock import alone
from unnoise.errors import BadInput
from unnoise.evaluate.kept import chunks, drawing, read_chunk, work_folder, write_chunk
from unnoise.pipeline import Request, load

SETTINGS = {"model": "m", "steps": 3}


REQUEST = Request(("one",), ("",), 2, 1.0, (0,), "ddim", "time")


def test_whatever_changes_pictures_is_in_the_key(model_folder, tmp_path, monkeypatch):
    """Number type, threads, instructions, torch, device and revisions: each another folder; the prompt is not
    in the settings.
    """
    pipe, before = load(model_folder, device="cpu", dtype="fp32"), torch.get_num_threads()
    plain = drawing(pipe, REQUEST)
    assert (
        plain["machine"] == pipe.runner.facts()
        and plain["machine"]["threads"] == before
        and "prompt" not in plain
    )
    kinds = [plain, drawing(load(model_folder, device="cpu", dtype="bf16"), REQUEST)]
    torch.set_num_threads(before + 1)
    kinds.append(drawing(pipe, REQUEST))
    torch.set_num_threads(before)
    facts = pipe.runner.facts()
    for key, other in (("torch", "0.1"), ("cpu", "AVX9"), ("device", "cuda"), ("engine", "another")):
        monkeypatch.setattr(pipe.runner, "facts", lambda key=key, other=other: {**facts, key: other})
        kinds.append(drawing(pipe, REQUEST))
    monkeypatch.setattr(pipe.runner, "facts", lambda: facts)
    assert drawing(pipe, REQUEST) == plain
    assert len({work_folder(tmp_path, k) for k in kinds}) == 7


def test_other_generators_tell_no_machine():
    told = drawing(SimpleNamespace(name="m", sha256="a"), REQUEST)
    assert "machine" not in told and told["sampler"] == "ddim"


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"null",
        b"[" * 99_999,
        b"\xff",
        b"{",
        b"9" * 5000,
        b'{"model": "m", "model": "m"}',
        b'{"model": "\\ud800"}',
    ],
)
def test_settings_of_nonsense_are_refused(tmp_path, raw):
    (work_folder(tmp_path, SETTINGS) / "settings.json").write_bytes(raw)
    with pytest.raises(BadInput, match="does not belong to these settings") as e:
        work_folder(tmp_path, SETTINGS)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros(2)},
        {"images": np.zeros((2, 4), "u1"), "nfe": np.array([1, 2])},
        {"images": np.array(3), "nfe": 1},
        {"images": np.zeros((2, 4), "u1"), "nfe": np.array("x")},
        {"nfe": 1},
        {"images": np.zeros((3, 4), "u1"), "nfe": 1},
        {"images": np.zeros((2, 4), "u1"), "nfe": np.array(1.5)},
    ],
)
def test_chunks_of_another_make_are_made_again(tmp_path, arrays):
    np.savez(tmp_path / "c.npz", **arrays)
    assert read_chunk(tmp_path / "c.npz", 2) is None and read_chunk(tmp_path / "none.npz", 2) is None


def test_a_chunk_comes_back(tmp_path):
    x = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    write_chunk(tmp_path / "c.npz", x, 7)
    again, nfe = read_chunk(tmp_path / "c.npz", 2)
    assert np.array_equal(again, x) and nfe == 7 and [p.name for p in tmp_path.iterdir()] == ["c.npz"]


def test_a_chunk_with_a_huge_header_takes_no_memory(tmp_path):
    import zipfile

    head = (
        json.dumps({"descr": "<f8", "fortran_order": 0, "shape": 0})
        .replace('"shape": 0', '"shape": (1000000, 450000)')
        .replace(": 0", ": False")
        .encode()
    )
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as z:
        z.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
        z.writestr("nfe.npy", b"")
    assert read_chunk(tmp_path / "c.npz", 2) is None


def test_the_folder_is_one_processes(tmp_path):
    folder = work_folder(tmp_path, SETTINGS)
    with (
        alone(folder, "evaluating"),
        pytest.raises(BadInput, match="is in use: evaluating by process"),
        alone(folder, "evaluating"),
    ):
        pass
    request = Request(("", ""), ("", ""), 1, 1.0, (0, 1), "ddim", "time")
    write_chunk(folder / "00000000-00000002.npz", np.zeros((2, 1, 1, 1), np.uint8), 1)
    assert [len(x) for x, _ in chunks(None, request, 2, folder)] == [2]
