"""numpy's files, .npy and .npz, from strangers: plain arrays of numbers or text, or one BadInput.

Everything that a header says is checked against the file's length before memory is taken; only stored and
deflated members of a zip are read, none that grows beyond MOST_GROWTH; pickles and structured types are
refused unread.
"""

from __future__ import annotations

import ast
import math
import os
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.text import one_line, short

MAGIC = b"\x93NUMPY"
MOST_HEADER = 10_000  # bytes; numpy's own limit
MOST_DIMENSIONS = 16
MOST_MEMBERS = 1000
MOST_GROWTH = 200  # times that a large zip may grow when unpacked; deflate reaches 1032, pictures hardly 10
LARGE = 2**28
PLAIN = "accepted are plain arrays of numbers"
TYPE = re.compile(r"[<>|=]?([biufcUSVOmM?])([0-9]{0,7})")


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name: those of an .npz, or {"x": that of an .npy}; told by content. BadInput:
    see the module.
    """
    read.regular(path, "file of arrays")
    try:
        with open(path, "rb") as file:
            if _is_zip(file, path):
                with zipfile.ZipFile(file) as archive:
                    return {
                        name: _member(archive, info, path) for name, info in _members(archive, path).items()
                    }
            return {"x": _array(file, os.fstat(file.fileno()).st_size, path)}
    except BadInput:
        raise
    except OSError as e:
        raise read.unreadable(path, e) from None
    # zlib.error, BadZipFile, LZMAError, struct.error, NotImplementedError, …: zipfile promises none in
    # particular
    except Exception as e:
        raise _broken(path, e) from None


def names(path: Path) -> list[str]:
    """The names of the arrays in a file, from the zip's own list alone."""
    read.regular(path, "file of arrays")
    try:
        with open(path, "rb") as file:
            if not _is_zip(file, path):
                return ["x"]
            with zipfile.ZipFile(file) as archive:
                return list(_members(archive, path))
    except BadInput:
        raise
    except Exception as e:
        raise _broken(path, e) from None


def _broken(path: Path, e: Exception) -> BadInput:
    return BadInput(f"cannot read {path}: broken file ({one_line(str(e), 120) or type(e).__name__}); {PLAIN}")


def _refused(path: Path, why: str) -> BadInput:
    return BadInput(f"cannot read {path}: {why}; {PLAIN}")


def _is_zip(file: IO[bytes], path: Path) -> bool:
    start = file.read(len(MAGIC))
    file.seek(0)
    if start[:1] == b"\x80":
        raise _refused(path, "it holds pickled objects, which are never loaded")
    if start == MAGIC or start[:2] == b"PK":
        return start != MAGIC
    raise _refused(path, "it is none of numpy's files" if start else "it is empty")


# --- zips ---------------------------------------------------------------------------------------------------


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """{name of an array: where it lies}, each fit to be unpacked."""
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise _refused(path, f"it holds {len(infos)} files, at most {MOST_MEMBERS} are read")
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in found:
            raise _refused(
                path, f"{short(info.filename)} in it {'stands twice' if name in found else 'is no array'}"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise _refused(
                path, f"{short(info.filename)} in it is encrypted or packed by a method that is not read"
            )
        found[name] = info
    assert archive.fp is not None  # it is open
    unpacked, size = sum(i.file_size for i in infos), os.fstat(archive.fp.fileno()).st_size
    if unpacked > max(LARGE, MOST_GROWTH * size):
        raise _refused(
            path,
            f"its {size} bytes say that they unpack to {unpacked}, more than {MOST_GROWTH} times as many",
        )
    return found


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    with archive.open(info) as file:
        x = _array(file, info.file_size, path)
        if file.read(1):
            raise _refused(path, f"{short(info.filename)} in it is longer than its header says")
    return x


# --- one array ----------------------------------------------------------------------------------------------


def _array(file: IO[bytes], size: int, path: Path) -> np.ndarray:
    """The array of an open .npy file of `size` bytes."""
    header, offset = _header(file, path)
    dtype, shape = _dtype(header["descr"], path), _shape(header["shape"], path)
    promised, there = math.prod(shape) * dtype.itemsize, size - offset
    if promised != there:
        raise _refused(
            path, f"its header promises {dtype} {_told(shape)}, {promised} bytes, and {there} follow"
        )
    raw = bytearray(there)
    if _fill(file, raw) < there:
        raise _refused(path, "it is truncated")
    x = np.frombuffer(raw, dtype=dtype)
    return x.reshape(shape[::-1]).T if header["fortran_order"] else x.reshape(shape)


def _fill(file: IO[bytes], into: bytearray) -> int:
    view, done = memoryview(into), 0
    while done < len(into):
        piece = file.read(min(len(into) - done, 2**24))
        if not piece:
            break
        view[done : done + len(piece)] = piece
        done += len(piece)
    return done


def _header(file: IO[bytes], path: Path) -> tuple[dict[str, Any], int]:
    """(the header's entries, where the values begin)."""
    start = file.read(8)
    width = {1: 2, 2: 4, 3: 4}.get(start[6] if len(start) == 8 else 0)
    if start[:6] != MAGIC or width is None:
        raise _refused(path, "it does not begin as an array of numpy's")
    length = int.from_bytes(file.read(width), "little")
    if length > MOST_HEADER:
        raise _refused(path, f"its header has {length} bytes, at most {MOST_HEADER} are read")
    text = file.read(length).decode("latin-1")
    entries = _entries(text) if len(text) == length else None
    if entries is None:
        raise _refused(path, "its header is broken")
    return entries, 8 + width + length


def _entries(text: str) -> dict[str, Any] | None:
    """What a header says; None where it is broken."""
    if "\\" in text or not text.rstrip("\n").isprintable():
        return None
    try:
        entries = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(entries, dict) or set(entries) != {"descr", "fortran_order", "shape"}:
        return None
    return entries if isinstance(entries["fortran_order"], bool) else None


def _dtype(given: Any, path: Path) -> np.dtype:
    match = TYPE.fullmatch(given) if isinstance(given, str) else None
    if match and match[1] == "O":
        raise _refused(path, "it holds pickled objects, which are never loaded")
    if match is None or match[1] in "SVmM":
        raise _refused(path, f"its values are of type {short(given)}")
    try:
        dtype = np.dtype(given)
    except TypeError:
        raise _refused(path, f"its values are of type {short(given)}") from None
    if not dtype.itemsize:
        raise _refused(path, f"its values are of type {short(given)}, of no bytes")
    return dtype


def _shape(given: Any, path: Path) -> tuple[int, ...]:
    numbers = isinstance(given, tuple) and all(type(n) is int and n >= 0 for n in given)
    if not numbers or len(given) > MOST_DIMENSIONS:
        raise _refused(
            path, f"its shape is {_told(given)}; at most {MOST_DIMENSIONS} whole numbers are expected"
        )
    return given


def _told(shape: Any) -> str:
    return short(shape, 80)
