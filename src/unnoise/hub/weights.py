"""Safetensors files: what a file is, is decided by its bytes, before anything of it is used. Nothing here runs code from a file.

    8 bytes   n, little-endian
    n bytes   JSON: {name: {dtype, shape, data_offsets: [start, end]}, "__metadata__": {…}}
    the rest  the tensors, one after the other

Files of more than `MAP_ABOVE` bytes are memory-mapped: tensors are views of the file, read when first touched, written to
privately. `release` gives the pages of such tensors back to the system, which reads them again when they are needed.
"""
from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import struct
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unnoise.base.write import new_file, put
from unnoise.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

MAP_ABOVE = 64 * 2**20  # bytes; a smaller file is read whole, the bundled ones among them
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's place in a file: dtype as safetensors names it ("F16"), shape, and its bytes [start, end) of the whole file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """The checked header of a safetensors file."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


def header(path: Path) -> Header:
    """The header of a safetensors file; reads no tensor. BadInput says what the file is instead, or what is wrong with it."""
    try:
        with path.open("rb") as f:
            size, head = os.fstat(f.fileno()).st_size, f.read(512)
            check_kind(head, path)
            if len(head) < 8: raise BadInput(f"{path} is truncated: {len(head)} bytes")
            n = struct.unpack("<Q", head[:8])[0]
            if n > min(size - 8, _MAX_HEADER): raise BadInput(f"{path} is truncated or not safetensors: its header asks for {n} bytes of {size}")
            f.seek(8)
            raw = f.read(n)
    except FileNotFoundError: raise BadInput(f"{path} is missing") from None
    except OSError as e: raise BadInput(f"cannot read {path}: {e.strerror}") from e
    return parse(raw, size, path)


def check_kind(head: bytes, path: Path) -> None:
    """BadInput when the first bytes of a file are those of something else than safetensors; names it."""
    text = head[:512].lstrip().lower()
    what = ("a web page" if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")) else
            "a zip archive (a PyTorch checkpoint?)" if head[:4] == b"PK\x03\x04" else
            "a pickle" if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and head[1:2] and head[8:9] != b"{" else  # 640: a length
            "a Git LFS pointer" if text.startswith(b"version https://git-lfs") else
            "empty" if not head else None)
    if what: raise BadInput(f"{path} is {what}, not safetensors; only safetensors files are read")


def parse(raw: bytes, size: int, path: Path) -> Header:
    """The header from its JSON bytes, checked against the file's size: every tensor's bytes are there, once, and fit its shape."""
    try: d = json.loads(raw)
    except ValueError: raise BadInput(f"{path} is not safetensors: its header is not JSON") from None
    base, at, tensors = 8 + len(raw), 0, {}
    try:
        metadata = {str(k): str(v) for k, v in (d.pop("__metadata__", None) or {}).items()}
        entries = sorted(d.items(), key=lambda e: e[1]["data_offsets"][0])
        for name, t in entries:
            start, end = t["data_offsets"]
            shape = tuple(t["shape"])
            if t["dtype"] not in _SIZES: raise BadInput(f"{path}: tensor {name!r} has dtype {t['dtype']} (accepted: {', '.join(_SIZES)})")
            whole = all(isinstance(s, int) and s >= 0 for s in shape) and end - start == math.prod(shape) * _SIZES[t["dtype"]]
            if start != at or not whole: raise BadInput(f"{path}: the header is damaged at tensor {name!r}")
            tensors[name], at = TensorInfo(t["dtype"], shape, base + start, base + end), end
    except (TypeError, KeyError, IndexError, AttributeError, ValueError) as e:
        if isinstance(e, BadInput): raise
        raise BadInput(f"{path}: the header is damaged") from None
    if size != base + at: raise BadInput(f"{path} is truncated or has extra bytes: {size} bytes, its header says {base + at}")
    return Header(tensors, metadata)


# --- tensors --------------------------------------------------------------------------------------------------------------

_MAPS: dict[int, tuple[int, weakref.ref]] = {}  # first address -> (length, the map), of the files that are mapped now


def read(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, after checking its header and, where it is known, its hash; all finite.

    BadInput names the file and what is wrong with it.
    """
    head = header(path)
    facts = examine(path)
    if sha256 and facts["sha256"] != sha256:
        raise BadInput(f"{path} is damaged: its sha256 differs from the one recorded in model_index.json")
    if facts["bad"]: raise BadInput(f"{path}: tensor {facts['bad']!r} holds non-finite values")
    return tensors(path, head)


def tensors(path: Path, head: Header) -> dict[str, Tensor]:
    """The tensors of a file whose header has been checked: views of one private buffer."""
    import torch

    types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
             "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}
    if not head.tensors: return {}
    buffer = _buffer(path)
    def view(t: TensorInfo) -> Tensor:
        count = math.prod(t.shape)
        if not count: return torch.empty(t.shape, dtype=types[t.dtype])
        return torch.frombuffer(buffer, dtype=types[t.dtype], count=count, offset=t.start).view(t.shape)
    made = {name: view(t) for name, t in head.tensors.items()}
    if isinstance(buffer, mmap.mmap):
        base = torch.frombuffer(buffer, dtype=torch.uint8).data_ptr()
        _MAPS[base] = (len(buffer), weakref.ref(buffer, lambda _: _MAPS.pop(base, None)))
    return made


def _buffer(path: Path) -> bytearray | mmap.mmap:
    try:
        with path.open("rb") as f:
            size = os.fstat(f.fileno()).st_size
            if size <= MAP_ABOVE:
                raw = bytearray(size)
                f.readinto(raw)
                return raw
            return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as e: raise BadInput(f"cannot read {path}: {e.strerror}") from e


def mapped(t: Tensor) -> bool:
    """Whether a tensor is a view of a mapped file."""
    return _place(t) is not None


def _place(t: Tensor) -> tuple[mmap.mmap, int] | None:
    """The map that a tensor lies in, and where."""
    p = t.data_ptr()
    for base, (length, ref) in list(_MAPS.items()):
        if base <= p < base + length: return (m, p - base) if (m := ref()) is not None else None
    return None


def release(some: Iterable[Tensor]) -> None:
    """Give back the memory of mapped tensors that nobody has written to; their values stay readable, from the file."""
    if not hasattr(mmap, "MADV_DONTNEED"): return
    page = mmap.PAGESIZE
    for t in some:
        place = _place(t) if t.device.type == "cpu" and t._version == 0 else None  # a written page would be lost
        if place is None: continue
        m, start = place
        first, last = -(-start // page) * page, (start + t.numel() * t.element_size()) // page * page
        if last > first: m.madvise(mmap.MADV_DONTNEED, first, last - first)


# --- what is known of a file ----------------------------------------------------------------------------------------------

def sha256_of(path: Path) -> str:
    """The sha256 of a file; of a large one it is kept, and made anew once the file has changed."""
    return examine(path)["sha256"]


def examine(path: Path) -> dict:
    """{"sha256": …, "bad": the first tensor with a value that is not finite, or None}, in one pass; kept for large files."""
    s = path.stat()
    large, key = s.st_size > MAP_ABOVE, [str(path.resolve()), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino]
    note = _notes() / (hashlib.sha256(str(key[0]).encode()).hexdigest()[:32] + ".json")
    if large:
        try:
            d = json.loads(note.read_bytes())
            if d["key"] == key: return d["facts"]
        except (OSError, ValueError, KeyError, TypeError): pass
    facts = _examine(path)
    if large: _keep(note, {"key": key, "facts": facts})
    return facts


def _examine(path: Path) -> dict:
    import torch

    hasher, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as f:
        while chunk := f.read(2**22): hasher.update(chunk)
    bad = None
    if path.suffix == ".safetensors" and size:
        made = tensors(path, header(path))
        for name, t in made.items():
            if t.is_floating_point() and t.numel() and not _finite(t, torch): bad = bad or name
            release([t])
    return {"sha256": hasher.hexdigest(), "bad": bad}


def _finite(t: Tensor, torch) -> bool:
    """Whether all values are finite: by blocks, with no copy of the whole."""
    low, high = torch.aminmax(t.reshape(-1)) if t.dtype in (torch.float32, torch.float64) else _range(t, torch)
    return math.isfinite(low) and math.isfinite(high)


def _range(t: Tensor, torch) -> tuple[float, float]:
    lows, highs = zip(*(torch.aminmax(part.float()) for part in t.reshape(-1).split(2**20)))
    return float(torch.stack(lows).min()), float(torch.stack(highs).max())


def _notes() -> Path:
    from unnoise.data.fetch import cache

    return cache() / "files"


def _keep(note: Path, d: dict) -> None:
    """Write a note; a cache folder that cannot be written is no error."""
    with suppress(BadInput):
        put(note, json.dumps(d).encode())


def write(tensors: dict[str, Tensor], file: Path, about: dict[str, str] | None = None) -> Path:
    """Write a safetensors file with these notes, whole or not at all; returns its path. BadInput when it cannot be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with new_file(file) as part:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, metadata=about)
    except SafetensorError as e:
        raise BadInput(f"cannot write {file}: {e}") from e
    return file
