"""Checkpoints that survive any interruption: a folder is written under a temporary name, every file and the folder flushed
to disk, a manifest with the hash of each file last, then renamed. A checkpoint without a matching manifest does not exist.

    step-00000500/  raw, ema0, ema1, optimizer (.safetensors), state.json, manifest.json
"""
from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from unnoise.errors import BadInput

MANIFEST = "manifest.json"
Parts = dict[str, dict[str, Tensor]]


def weights_hash(weights: dict[str, Tensor]) -> str:
    """Hex sha256 of the weights: names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        t = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def first_nonfinite(tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor that holds an inf or a nan, or None."""
    pairs: Any = tensors.items() if isinstance(tensors, Mapping) else tensors
    for name, t in pairs:
        if t.is_floating_point() and not torch.isfinite(t).all(): return name
    return None


def write(folder: Path, step: int, parts: Parts, state: dict, keep: int = 2) -> Path:
    """Write checkpoint `step` under `folder`: each part as `<part>.safetensors`, `state` as JSON. Returns its folder.

    Older ones beyond `keep` are removed after the new one is in place, and so are those of a later step: a run that writes
    `step` has found them broken. BadInput: non-finite weights (none is written), too little free space, or a write that
    fails; whatever was there before stays.
    """
    _refuse(step, parts)
    final, temp = folder / f"step-{step:08d}", folder / f".tmp-step-{step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _room(folder, step, parts)
        shutil.rmtree(temp, ignore_errors=True)
        _fill(temp, parts, state)
        _swap(temp, final)
    except OSError as e:
        shutil.rmtree(temp, ignore_errors=True)
        raise BadInput(f"cannot save checkpoint {step} in {folder}: {e.strerror or e}; earlier ones are untouched") from e
    _prune(folder, step, keep)
    return final


def newest(folder: Path) -> tuple[Parts, dict] | None:
    """(parts, state) of the newest checkpoint whose every file matches its manifest, or None when there is none."""
    return next((found for _, path in reversed(_points(folder)) if (found := read(path))), None)


def read(path: Path) -> tuple[Parts, dict] | None:
    """(parts, state) of one checkpoint folder, or None when anything of it is missing or differs from its manifest."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        data = {name: (path / name).read_bytes() for name in manifest}
        if any(hashlib.sha256(data[name]).hexdigest() != digest for name, digest in manifest.items()): return None
        state = json.loads(data.pop("state.json"))
        return {name.removesuffix(".safetensors"): load(raw) for name, raw in data.items()}, state
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError):
        return None


def put(path: Path, raw: bytes) -> str:
    """Write a file and flush it to the disk; returns its sha256."""
    with open(path, "wb") as f:
        f.write(raw)
        f.flush()
        os.fsync(f.fileno())
    return hashlib.sha256(raw).hexdigest()


def _refuse(step: int, parts: Parts) -> None:
    for part, tensors in parts.items():
        bad = first_nonfinite(tensors)
        if bad: raise BadInput(f"refusing to write checkpoint {step}: {part}/{bad} is not finite")


def _room(folder: Path, step: int, parts: Parts) -> None:
    need = sum(t.numel() * t.element_size() for tensors in parts.values() for t in tensors.values()) + 2**20
    free = shutil.disk_usage(folder).free
    if free < need:
        sizes = f"it needs {need / 2**20:.1f} MiB, {free / 2**20:.1f} MiB are free"
        raise BadInput(f"cannot save checkpoint {step}: {sizes} in {folder}")


def _fill(temp: Path, parts: Parts, state: dict) -> None:
    temp.mkdir()
    manifest = {}
    for part, tensors in parts.items():
        name = f"{part}.safetensors"
        manifest[name] = put(temp / name, save({k: v.contiguous() for k, v in tensors.items()}))
    manifest["state.json"] = put(temp / "state.json", json.dumps(state).encode())
    put(temp / MANIFEST, json.dumps(manifest).encode())
    _flush(temp)


def _swap(temp: Path, final: Path) -> None:
    """Give `temp` its final name; one of that name (a broken one, or from before a roll-back) steps aside first."""
    if final.exists(): os.rename(final, temp.with_name(f".tmp-old-{final.name}"))
    os.rename(temp, final)
    _flush(final.parent)


def _points(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of all that are named like a checkpoint, whole or not, oldest first."""
    return sorted((int(m[1]), p) for p in folder.glob("step-*") if (m := re.fullmatch(r"step-(\d+)", p.name)))


def _prune(folder: Path, step: int, keep: int) -> None:
    points = _points(folder)
    older, later = [p for k, p in points if k < step], [p for k, p in points if k > step]
    surplus = older[: max(len(older) - (keep - 1), 0)]
    for path in [*surplus, *later, *folder.glob(".tmp-*")]: shutil.rmtree(path, ignore_errors=True)


def _flush(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try: os.fsync(fd)
    finally: os.close(fd)
