"""Safetensors files: what a file is, is decided by its bytes, before anything of it is used. Nothing here
runs code from a file.

    8 bytes   n, little-endian
    n bytes   JSON: {name: {dtype, shape, data_offsets: [start, end]}, "__metadata__": {…}}
    the rest  the tensors, one after the other

Files of more than `MAP_ABOVE` bytes are memory-mapped: tensors are views of the file, read when first
touched, written to privately. `release` gives the pages of such tensors back to the system, which reads them
again when they are needed.
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
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from unnoise.base import read as read_
from unnoise.base.errors import BadInput
from unnoise.base.read import StrPath
from unnoise.base.text import short
from unnoise.base.write import new_file, put

if TYPE_CHECKING:
    from torch import Tensor

MAP_ABOVE = 64 * 2**20  # bytes; a smaller file is read whole, the bundled ones among them
_SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
}
_MAX_HEADER = 100_000_000
FP16_MOST = 65504.0  # the largest number of float16


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's place in a file: dtype as safetensors names it ("F16"), shape, and its bytes [start, end) of
    the whole file.
    """

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
    """The header of a safetensors file; reads no tensor. BadInput says what the file is instead, or what is
    wrong with it.
    """
    size = read_.regular(path, "safetensors file").st_size
    try:
        with open(path, "rb") as f:
            head = f.read(512)
            check_kind(head, path)
            if len(head) < 8:
                raise BadInput(f"{path} is truncated: {len(head)} bytes")
            n = struct.unpack("<Q", head[:8])[0]
            if n > min(size - 8, _MAX_HEADER):
                raise BadInput(
                    f"{path} is truncated or not safetensors: its header asks for {n} bytes of {size}"
                )
            f.seek(8)
            raw = f.read(n)
    except OSError as e:
        raise read_.unreadable(path, e) from None
    return parse(raw, size, path)


def check_kind(head: bytes, path: Path) -> None:
    """BadInput when the first bytes of a file are those of something else than safetensors; names it."""
    text = head[:512].lstrip().lower()
    what = (
        "a web page"
        if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))
        else (
            "a zip archive (a PyTorch checkpoint?)"
            if head[:4] == b"PK\x03\x04"
            else (
                "a pickle"
                if head[:1] == b"\x80"
                and head[1:2] in b"\x02\x03\x04\x05"
                and head[1:2]
                and head[8:9] != b"{"  # 640: a length
                else (
                    "a Git LFS pointer"
                    if text.startswith(b"version https://git-lfs")
                    else "empty"
                    if not head
                    else None
                )
            )
        )
    )
    if what:
        raise BadInput(f"{path} is {what}, not safetensors; only safetensors files are read")


class _Entry(BaseModel):
    """One tensor in the header."""

    model_config = ConfigDict(strict=True)

    dtype: str
    shape: list[Annotated[int, Field(ge=0, le=2**53)]] = Field(max_length=64)
    data_offsets: list[Annotated[int, Field(ge=0, le=2**53)]] = Field(min_length=2, max_length=2)


def parse(raw: bytes, size: int, path: Path) -> Header:
    """The header from its JSON bytes, checked against the file's size: every tensor's bytes are there, once,
    and fit its shape.
    """
    d = read_.parse_object(raw, f"{path}: its header, as of a safetensors file,")
    about = d.pop("__metadata__", None)
    metadata = (
        {k: v if isinstance(v, str) else json.dumps(v) for k, v in about.items()}
        if isinstance(about, dict)
        else {}
    )
    entries = {
        k: read_.fit(_Entry, v, f"{path}: the header is damaged at tensor {short(k)}") for k, v in d.items()
    }
    base, at, tensors = 8 + len(raw), 0, {}
    for name, t in sorted(entries.items(), key=lambda e: e[1].data_offsets):
        start, end = t.data_offsets
        if t.dtype not in _SIZES:
            raise BadInput(
                f"{path}: tensor {short(name)} has dtype {short(t.dtype)} (accepted: {', '.join(_SIZES)})"
            )
        if start != at or end - start != math.prod(t.shape) * _SIZES[t.dtype]:
            raise BadInput(f"{path}: the header is damaged at tensor {short(name)}")
        tensors[name], at = TensorInfo(t.dtype, tuple(t.shape), base + start, base + end), end
    if size != base + at:
        raise BadInput(f"{path} is truncated or has extra bytes: {size} bytes, its header says {base + at}")
    return Header(tensors, metadata)


# --- tensors ------------------------------------------------------------------------------------------------

_MAPS: dict[
    int, tuple[int, weakref.ref]
] = {}  # first address -> (length, the map), of the files that are mapped now


def read(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, after checking its header and, where it is known, its hash; all
    finite.

    BadInput names the file and what is wrong with it.
    """
    made = opened(path, sha256)
    if bad := examine(path).bad:
        raise BadInput(f"{path}: tensor {bad[0]!r} holds non-finite values")
    return made


def opened(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The same without a look at their values: `check_finite` is for those that are used."""
    head = header(path)
    if sha256 and examine(path).sha256 != sha256:
        raise BadInput(f"{path} is damaged: its sha256 differs from the one recorded in model_index.json")
    return tensors(path, head)


def check_finite(some: dict[str, Tensor], where: StrPath, dtype: Any = None) -> None:
    """BadInput that names the first tensor with a value that is not finite, or that would not be as
    `dtype`.
    """
    import torch

    for name, t in some.items():
        if not t.is_floating_point() or not t.numel():
            continue
        low, high = _range(t)
        release([t])
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BadInput(f"{where}: tensor {name!r} holds non-finite values")
        if dtype is not None and max(abs(low), abs(high)) > (most := torch.finfo(dtype).max):
            kind = str(dtype).removeprefix("torch.")
            raise BadInput(
                f"{where}: tensor {name!r} has values up to {max(abs(low), abs(high)):.3g}, {kind} ends at"
                f" {most:.5g}: use dtype fp32 or bf16"
            )


def types() -> dict[str, Any]:
    """safetensors' names of number types -> torch's."""
    import torch

    return {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U64": torch.uint64,
        "U32": torch.uint32,
        "U16": torch.uint16,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }


def shapes(head: Header) -> dict[str, Tensor]:
    """The tensors of a file as its header tells them: on the meta device, of the right shape and type,
    without memory.
    """
    import torch

    kinds = types()
    return {
        name: torch.empty(t.shape, dtype=kinds[t.dtype], device="meta") for name, t in head.tensors.items()
    }


def tensors(path: Path, head: Header) -> dict[str, Tensor]:
    """The tensors of a file whose header has been checked: views of one private buffer."""
    import torch

    kinds = types()
    if not head.tensors:
        return {}
    buffer = _buffer(path)

    def view(t: TensorInfo) -> Tensor:
        count = math.prod(t.shape)
        if not count:
            return torch.empty(t.shape, dtype=kinds[t.dtype])
        if t.start % _SIZES[t.dtype]:  # a header of another length than a multiple of 8 puts them askew
            raw = torch.frombuffer(buffer, dtype=torch.uint8, count=t.end - t.start, offset=t.start)
            return raw.clone().view(kinds[t.dtype]).view(t.shape)
        return torch.frombuffer(buffer, dtype=kinds[t.dtype], count=count, offset=t.start).view(t.shape)

    with torch.inference_mode(False):  # where this is called inside it, the weights are still plain tensors
        made = {name: view(t) for name, t in head.tensors.items()}
        if isinstance(buffer, mmap.mmap):
            base = torch.frombuffer(buffer, dtype=torch.uint8).data_ptr()
            _MAPS[base] = (len(buffer), weakref.ref(buffer, lambda _: _MAPS.pop(base, None)))
    return made


_SCALES = (".scale_weight", ".weight_scale")
_OF_FP8 = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")


def plain(some: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights without 8-bit floats, which nothing computes in: as float16, which holds them all;
    scaled ones in float32.

    A scaled weight (`x.weight` beside `x.scale_weight`, one number or one a row) is their product; the scales
    themselves are gone.
    """
    import torch

    small = {torch.float8_e4m3fn, torch.float8_e5m2}
    scales = {
        k.removesuffix(end) + ".weight": v for k, v in some.items() for end in _SCALES if k.endswith(end)
    }
    out: dict[str, Tensor] = {}
    for name, t in some.items():
        if name.endswith((*_SCALES, *_OF_FP8)):
            continue
        if t.dtype in small:
            scale = scales.get(name)
            rows = (-1,) + (1,) * (t.ndim - 1)
            t = (
                t.to(torch.float16)
                if scale is None
                else t.float()
                * (scale.float().reshape(rows) if scale.numel() > 1 else scale.float().reshape(()))
            )
        out[name] = t
    return out


def _buffer(path: Path) -> bytearray | mmap.mmap:
    try:
        with path.open("rb") as f:
            size = os.fstat(f.fileno()).st_size
            if size <= MAP_ABOVE:
                raw = bytearray(size)
                f.readinto(raw)
                return raw
            return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as e:
        raise read_.unreadable(path, e) from None


def mapped(t: Tensor) -> bool:
    """Whether a tensor is a view of a mapped file."""
    return _place(t) is not None


def _place(t: Tensor) -> tuple[mmap.mmap, int] | None:
    """The map that a tensor lies in, and where."""
    p = t.data_ptr()
    for base, (length, ref) in list(_MAPS.items()):
        if base <= p < base + length:
            return (m, p - base) if (m := ref()) is not None else None
    return None


def release(some: Iterable[Tensor]) -> None:
    """Give back the memory of mapped tensors that nobody has written to; their values stay readable, from the
    file.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    page = mmap.PAGESIZE
    for t in some:
        if t.is_inference() or t.device.type != "cpu" or t._version:  # a written page would be lost
            continue
        place = _place(t)
        if place is None:
            continue
        m, start = place
        first, last = -(-start // page) * page, (start + t.numel() * t.element_size()) // page * page
        if last > first:
            m.madvise(mmap.MADV_DONTNEED, first, last - first)


# --- what is known of a file --------------------------------------------------------------------------------


class Facts(BaseModel):
    """What is known of a file: its sha256; the tensors that hold values that are not finite; those beyond
    float16, with their largest.
    """

    model_config = ConfigDict(strict=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bad: list[str]
    large: dict[str, float]


class _Note(BaseModel):
    """The facts as they are kept, with what the file was like then."""

    key: list[str | int]
    facts: Facts


def sha256_of(path: Path) -> str:
    """The sha256 of a file; of a large one it is kept, and made anew once the file has changed."""
    return examine(path).sha256


def examine(path: Path) -> Facts:
    """The facts of a file, in one pass; kept for large files."""
    s = read_.regular(path)
    large, key = (
        s.st_size > MAP_ABOVE,
        [str(read_.resolved(path)), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino],
    )
    note = _notes() / (
        hashlib.sha256(str(key[0]).encode(errors="surrogateescape")).hexdigest()[:32] + ".json"
    )
    if large and os.path.isfile(note):
        with suppress(BadInput):
            kept = read_.fit(_Note, read_.object_file(note), str(note))
            if kept.key == key:
                return kept.facts
    facts = _examine(path)
    if large:
        _keep(note, {"key": key, "facts": facts.model_dump()})
    return facts


def _examine(path: Path) -> Facts:
    hasher, bad, large = hashlib.sha256(), [], {}
    try:
        with path.open("rb") as f:
            while chunk := f.read(2**22):
                hasher.update(chunk)
    except OSError as e:
        raise read_.unreadable(path, e) from None
    if path.suffix.lower() == ".safetensors" and path.stat().st_size:
        for name, t in tensors(path, header(path)).items():
            if not t.is_floating_point() or not t.numel():
                continue
            low, high = _range(t)
            release([t])
            most = max(abs(low), abs(high))
            if not (math.isfinite(low) and math.isfinite(high)):
                bad.append(name)
            elif most > FP16_MOST:
                large[name] = most
    return Facts(sha256=hasher.hexdigest(), bad=bad, large=large)


def _range(t: Tensor) -> tuple[float, float]:
    """The least and the greatest value, nan where there is one: by blocks, with no copy of the whole."""
    import torch

    if t.dtype in (torch.float32, torch.float64):
        low, high = torch.aminmax(t.reshape(-1))
        return float(low), float(high)
    lows, highs = zip(*(torch.aminmax(part.float()) for part in t.reshape(-1).split(2**20)))
    return float(torch.stack(lows).min()), float(torch.stack(highs).max())


def _notes() -> Path:
    from unnoise.base.cache import cache

    return cache() / "files"


def _keep(note: Path, d: dict) -> None:
    """Write a note; a cache folder that cannot be written is no error."""
    with suppress(BadInput):
        put(note, json.dumps(d).encode())


def write(tensors: dict[str, Tensor], file: Path, about: dict[str, str] | None = None) -> Path:
    """Write a safetensors file with these notes, whole or not at all; returns its path. BadInput when it
    cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with new_file(file) as part:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, metadata=about)
    except SafetensorError as e:
        raise BadInput(f"cannot write {file}: {e}") from e
    return file


def digest(some: dict[str, Tensor]) -> str:
    """Hex sha256 of tensors: names, dtypes, shapes and bytes, in the order of the names."""
    import torch

    h = hashlib.sha256()
    for name in sorted(some):
        t = some[name].detach().cpu().contiguous()
        h.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()
