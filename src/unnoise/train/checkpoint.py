"""Checkpoints that survive any interruption: a folder is written under a temporary name, every file and the
folder flushed to disk, a manifest with the hash of each file last, then renamed. A checkpoint without a
matching manifest does not exist.

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
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, RootModel
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from unnoise.base import read as files
from unnoise.base.errors import BadInput
from unnoise.hub import weights

MANIFEST = "manifest.json"
weights_hash = weights.digest
Parts = dict[str, dict[str, Tensor]]


class Manifest(RootModel[dict[Annotated[str, Field(pattern=r"^[\w.-]+\.(safetensors|json)$")], str]]):
    """{a file of the checkpoint: its sha256}."""


class State(BaseModel):
    """What a checkpoint holds beside tensors; more keys may follow."""

    model_config = ConfigDict(extra="allow", strict=True)
    step: int = Field(ge=0, lt=2**53)
    rollbacks: int = Field(default=0, ge=0, lt=2**31)
    recipe: dict[str, Any] = {}
    data: str = ""
    log: int | None = Field(default=None, ge=0)


def first_nonfinite(tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor that holds an inf or a nan, or None."""
    pairs: Any = tensors.items() if isinstance(tensors, Mapping) else tensors
    for name, t in pairs:
        if t.is_floating_point() and not torch.isfinite(t).all():
            return name
    return None


def write(folder: Path, step: int, parts: Parts, state: dict, keep: int = 2, every: int = 1) -> Path:
    """Write checkpoint `step` under `folder`: each part as `<part>.safetensors`, `state` as JSON. Returns its
    folder.

    Of those at multiples of `every` the newest `keep` stay, all others of an earlier step are removed after
    the new one is in place: one that a signal made between two multiples lasts until the next, and takes no
    place of theirs. Those of a later step are removed too: a run that writes `step` has found them broken.
    BadInput: non-finite weights (none is written), too little free space, or a write that fails; whatever was
    there before stays.
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
        raise BadInput(
            f"cannot save checkpoint {step} in {folder}: {e.strerror or e}; earlier ones are untouched"
        ) from e
    _prune(folder, step, keep, every)
    return final


def newest(folder: Path, every: int = 1, needs: Iterable[str] = ()) -> tuple[Parts, dict] | None:
    """(parts, state) of the newest checkpoint whose every file matches its manifest, or None when there is
    none.

    every: only of those at multiples of it; needs: names of the parts that it must have.
    """
    points = [path for step, path in _points(folder) if step % every == 0]
    return next(
        (found for path in reversed(points) if (found := read(path)) and set(needs) <= found[0].keys()), None
    )


def read(path: Path) -> tuple[Parts, dict] | None:
    """(parts, state) of one checkpoint folder, or None when anything of it is missing or differs from its
    manifest.
    """
    try:
        manifest = files.fit(Manifest, files.object_file(path / MANIFEST), str(path / MANIFEST)).root
        data = {name: files.content(path / name, "checkpoint's file", 2**50) for name in manifest}
        if any(hashlib.sha256(data[name]).hexdigest() != digest for name, digest in manifest.items()):
            return None
        if "state.json" not in data:
            return None
        state = files.fit(State, files.parse_object(data.pop("state.json"), "state.json"), "state.json")
        return {name.removesuffix(".safetensors"): load(raw) for name, raw in data.items()}, state.model_dump(
            exclude_unset=True
        )
    except (BadInput, OSError, ValueError, KeyError, TypeError, OverflowError, SafetensorError):
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
        if bad:
            raise BadInput(f"refusing to write checkpoint {step}: {part}/{bad} is not finite")


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
    """Give `temp` its final name; one of that name (a broken one, or from before a roll-back) steps aside
    first.
    """
    if final.exists():
        os.rename(final, temp.with_name(f".tmp-old-{final.name}"))
    os.rename(temp, final)
    _flush(final.parent)


def _points(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of all that are named like a checkpoint, whole or not, oldest first."""
    return sorted((int(m[1]), p) for p in folder.glob("step-*") if (m := re.fullmatch(r"step-(\d+)", p.name)))


def _prune(folder: Path, step: int, keep: int, every: int) -> None:
    points = _points(folder)
    older, later = [(k, p) for k, p in points if k < step], [p for k, p in points if k > step]
    regular = [p for k, p in older if k % every == 0]
    room = keep - 1 if step % every == 0 else keep
    staying = regular[len(regular) - min(room, len(regular)) :]
    gone = [p for _, p in older if p not in staying]
    for path in [*gone, *later, *folder.glob(".tmp-*")]:
        shutil.rmtree(path, ignore_errors=True)


def _flush(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
