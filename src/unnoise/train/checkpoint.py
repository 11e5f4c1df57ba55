"""Checkpoints that survive any interruption: a folder is written under a temporary name, every file and the folder flushed to
disk, a manifest with the hash of each file last, then renamed. A checkpoint without a matching manifest does not exist.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from unnoise.errors import BadInput

MANIFEST = "manifest.json"


def weights_hash(weights: dict[str, Tensor]) -> str:
    """Hex sha256 of the weights: names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        t = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def first_nonfinite(tensors: dict[str, Tensor] | Iterator[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor that holds an inf or a nan, or None."""
    for name, t in tensors.items() if isinstance(tensors, dict) else tensors:
        if t.is_floating_point() and not torch.isfinite(t).all(): return name
    return None


def write(folder: Path, step: int, parts: dict[str, dict[str, Tensor]], state: dict, keep: int = 2) -> Path:
    """Write checkpoint `step` under `folder`: each part as `<part>.safetensors`, `state` as JSON. Returns its folder.

    Older ones beyond `keep` are removed after the new one is in place. BadInput: non-finite weights (none is written), too
    little free space, or a write that fails; whatever was there before stays.
    """
    for part, tensors in parts.items():
        bad = first_nonfinite(tensors)
        if bad: raise BadInput(f"refusing to write checkpoint {step}: {part}/{bad} is not finite")
    files = {f"{part}.safetensors": tensors for part, tensors in parts.items()}
    need = sum(t.numel() * t.element_size() for ts in files.values() for t in ts.values()) + 2**20
    final, temp = folder / f"step-{step:08d}", folder / f".tmp-step-{step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < need: raise BadInput(f"cannot save checkpoint {step}: it needs {need >> 20} MiB, {free >> 20} MiB are free in {folder}")
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
        manifest = {}
        for name, tensors in files.items(): manifest[name] = _put(temp / name, save({k: v.contiguous() for k, v in tensors.items()}))
        manifest["state.json"] = _put(temp / "state.json", json.dumps(state).encode())
        _put(temp / MANIFEST, json.dumps(manifest).encode())
        _flush(temp)
        if final.exists(): shutil.rmtree(final)
        os.rename(temp, final)
        _flush(folder)
    except OSError as e:
        shutil.rmtree(temp, ignore_errors=True)
        raise BadInput(f"cannot save checkpoint {step} in {folder}: {e.strerror or e}; earlier checkpoints are untouched") from e
    for old in sorted(folder.glob("step-*"))[:-keep]: shutil.rmtree(old, ignore_errors=True)
    for left in folder.glob(".tmp-step-*"): shutil.rmtree(left, ignore_errors=True)
    return final


def newest(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict] | None:
    """(parts, state) of the newest checkpoint whose every file matches its manifest, or None when there is none."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        found = read(path)
        if found: return found
    return None


def read(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict] | None:
    """(parts, state) of one checkpoint folder, or None when anything of it is missing or differs from its manifest."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        data = {name: (path / name).read_bytes() for name in manifest}
        if any(hashlib.sha256(data[name]).hexdigest() != digest for name, digest in manifest.items()): return None
        state = json.loads(data.pop("state.json"))
        return {name.removesuffix(".safetensors"): load(raw) for name, raw in data.items()}, state
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _put(path: Path, raw: bytes) -> str:
    """Write and flush a file; its sha256."""
    with open(path, "wb") as f:
        f.write(raw)
        f.flush()
        os.fsync(f.fileno())
    return hashlib.sha256(raw).hexdigest()


def _flush(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try: os.fsync(fd)
    finally: os.close(fd)
