"""What is known by a hash: whatever it stands for may not be edited without another hash, or a refusal."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from unnoise.data.emoji import STARTER, Emoji
from unnoise.edit.picture import Picture, read
from unnoise.errors import BadInput
from unnoise.evaluate.kept import work_folder
from unnoise.train import checkpoint


def weights() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(4.0), "b": torch.zeros(2, 2)}


def test_weights_are_known_by_names_types_shapes_and_bytes():
    own = checkpoint.weights_hash(weights())
    assert own == checkpoint.weights_hash(dict(reversed(weights().items())))
    assert own[:16] == "8e38f4f43f8546ab"
    others = [
        {**weights(), "a": torch.arange(4.0) + 1e-6},
        {**weights(), "a": torch.arange(4.0).reshape(2, 2)},
        {**weights(), "b": torch.zeros(4)},
        {**weights(), "b": torch.zeros(2, 2, dtype=torch.int32)},
        {"a": weights()["a"], "c": weights()["b"]},
        {"a": weights()["a"]},
    ]
    hashes = {checkpoint.weights_hash(w) for w in others}
    assert len(hashes) == len(others)
    assert own not in hashes


@pytest.mark.parametrize(
    "name", ["raw.safetensors", "ema0.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_a_checkpoint_with_any_file_edited_is_none(tmp_path, name):
    parts = {"raw": weights(), "ema0": weights(), "optimizer": weights()}
    checkpoint.write(tmp_path, 1, parts, {"step": 1})
    checkpoint.write(tmp_path, 2, parts, {"step": 2})
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found[1]["step"] == 2
    file = tmp_path / "step-00000002" / name
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(bytes(raw))
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1


def test_work_is_kept_by_every_setting(tmp_path):
    """Two evaluations share a folder only where nothing differs."""
    own = {
        "model": "m",
        "model_sha256": "0",
        "sampler": "ddim",
        "steps": 20,
        "guidance": 2.0,
        "seed": 0,
        "batch_size": 50,
        "version": "1",
    }
    others = [{**own, "clip": 1}, *({**own, k: f"other {v}"} for k, v in own.items())]
    folders = {work_folder(tmp_path, settings) for settings in (own, *others)}
    assert len(folders) == len(own) + 2
    assert work_folder(tmp_path, dict(reversed(own.items()))) in folders
    told = work_folder(tmp_path, own) / "settings.json"
    told.write_text(json.dumps({**own, "steps": 21}))
    with pytest.raises(BadInput, match="does not belong"):
        work_folder(tmp_path, own)


def test_a_picture_is_known_by_its_pixels_its_shape_and_its_alpha():
    a = np.random.default_rng(0).integers(0, 256, (4, 6, 4), np.uint8)
    a[..., 3] = 9
    b, c = a.copy(), a.copy()
    b[0, 0, 0] ^= 1
    c[3, 5, 3] ^= 1
    pictures = [
        read(a),
        read(b),
        read(c),
        Picture(a[..., :3]),
        Picture(a[..., :3].reshape(6, 4, 3)),
        Picture(np.ascontiguousarray(a[:, ::-1, :3])),
    ]
    assert len({p.sha256 for p in pictures}) == len(pictures)
    assert read(a.copy()).sha256 == read(a).sha256


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return Path(shutil.copy(STARTER, tmp_path_factory.mktemp("sets") / "emoji-32.safetensors"))


@pytest.mark.parametrize(
    "key", ["pixels", "ends", "variant", "style", "box", "lab", "turn", "mirror", "clash", "agrees"]
)
def test_an_emoji_set_with_any_tensor_edited_is_refused(small, tmp_path, key):
    from safetensors import safe_open

    with safe_open(small, "np") as f:
        meta = f.metadata()
    tensors = load_file(small)
    flat = tensors[key].reshape(-1).view(np.uint8)
    flat[len(flat) // 2] ^= 1
    save_file(tensors, tmp_path / "edited.safetensors", metadata=meta)
    with pytest.raises(BadInput, match="sha256 differs"):
        Emoji(tmp_path / "edited.safetensors")
