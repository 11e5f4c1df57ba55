"""Ways in which what is read comes damaged or hostile: bytes, JSON, files, safetensors, NumPy, PNG.

Every function takes a random.Random first and changes nothing but what it returns (`…_file`: the file given).
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.case import MARK

ESCAPES = (
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[31m",
    "\x9b31m",
    "\x90q\x9c",
    "\r\nerror: forged",
    "\x07\x08\x7f",
    "\u202egnp.exe",
    "\u2028forged",
    "\x85forged",
    "[/b]",
    "[bold red]x",
    "\udcff",
    "a\0b",
    "\ufeff",
    "é\u0301" * 3,
    "%s%n{0}{x}",
)
NUMBERS = (
    "0",
    "-1",
    "1",
    "2",
    "3",
    "7",
    "0.5",
    "-0.0",
    "1e-320",
    "1e308",
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "1000000000",
    "-2147483649",
    "4294967296",
    "9223372036854775808",
    "1" + "0" * 30,
    "9" * 5000,
    "1.0",
    "64",
    "65536",
)
VALUES = (
    "null",
    "true",
    "false",
    '""',
    '"x"',
    '"1"',
    "[]",
    "{}",
    "[null]",
    "[1, 2]",
    "[[1], [2]]",
    '{"a": 1}',
    '["a", "b"]',
    '[1, "a", null]',
    '"../../../etc/passwd"',
    '"/dev/zero"',
    '"' + "A" * 100_000 + '"',
    "[" + "1," * 20_000 + "1]",
    '{"x": ' * 70 + "1" + "}" * 70,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 3000 + "1" + "}" * 3000,
    '"\\ud800"',
    '"\\u0000"',
    "{",
    "nul",
    "'x'",
    "",
)


# --- bytes ----------------------------------------------------------------------------------------------


def place(rng: Random, size: int) -> int:
    """An index below `size` (0 for nothing): half of the time near the beginning, where the headers are."""
    return min(int(size * rng.random() ** rng.choice((1, 4))), max(size - 1, 0))


def flipped(rng: Random, raw: bytes) -> bytes:
    out = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 5, 20)) if out else 0):
        i = place(rng, len(out))
        out[i] = rng.choice((out[i] ^ (1 << rng.randrange(8)), 0, 255, rng.randrange(256)))
    return bytes(out)


def cut(rng: Random, raw: bytes) -> bytes:
    return raw[: rng.choice((0, 1, 8, place(rng, len(raw)), len(raw) - 1, len(raw) // 2))]


def inserted(rng: Random, raw: bytes) -> bytes:
    i = place(rng, len(raw))
    more = (b"\0", b"\xff" * 8, rng.randbytes(rng.randrange(1, 40)), b"\x1b[31m", b"\n", raw[i : i + 64])
    return raw[:i] + rng.choice(more) + raw[i:]


def removed(rng: Random, raw: bytes) -> bytes:
    i = place(rng, len(raw))
    return raw[:i] + raw[i + rng.choice((1, 2, 4, 16, 100)) :]


def swapped(rng: Random, raw: bytes) -> bytes:
    a, b, n = place(rng, len(raw)), place(rng, len(raw)), rng.choice((1, 4, 16))
    a, b = min(a, b), max(a, b)
    if b < a + n:
        return raw
    return raw[:a] + raw[b : b + n] + raw[a + n : b] + raw[a : a + n] + raw[b + n :]


def recoded(rng: Random, raw: bytes) -> bytes:
    """The same text as other programs store it."""
    text = raw.decode("utf-8", "replace")
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: b"\xef\xbb\xbf" + raw,
        lambda: text.encode("utf-16"),
        lambda: text.encode("utf-16-le"),
        lambda: text.encode("utf-32"),
        lambda: text.encode("latin-1", "replace") + b"\xe9",
        lambda: raw.replace(b"\n", b"\r\n"),
        lambda: raw.replace(b"\n", b"\r"),
        lambda: raw + b"\n\n\n",
        lambda: raw + b"\0",
        lambda: b"\n" + raw,
        lambda: raw.rstrip(b"\n"),
    )
    return rng.choice(ways)()


def foreign(rng: Random, raw: bytes) -> bytes:
    """Something else altogether, as downloads and mistakes bring it. The pickle leaves a mark when opened."""
    ways = (
        b"",
        b" ",
        b"\0" * 100,
        b"<!DOCTYPE html><html><title>Login</title></html>",
        b"version https://git-lfs.github.com/spec/v1\nsize 9\n",
        hostile_pickle(),
        b"PK\x03\x04" + raw[:40],
        b"null",
        b"[]",
        b"{}",
        b"\x80\x04.",
        rng.randbytes(300),
        b"%PDF-1.7\n",
        raw * 2,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        b"\xff\xd8\xff\xe0",
        b"\x1f\x8b\x08\0",
    )
    return rng.choice(ways)


def hostile_pickle() -> bytes:
    return pickle.dumps(_Hostile())


class _Hostile:
    def __reduce__(self):
        return os.system, (f"touch {MARK}",)


BYTES = (flipped, flipped, cut, inserted, removed, swapped, recoded, foreign)


def some_bytes(rng: Random, raw: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2))):
        raw = rng.choice(BYTES)(rng, raw)
    return raw


# --- JSON -----------------------------------------------------------------------------------------------


def paths(value: Any, at: tuple = ()) -> list[tuple]:
    """Where something lies in a JSON value: tuples of keys and places, the value itself as ()."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(p for k, v in inside for p in paths(v, (*at, k)))]


def odd_value(rng: Random) -> str:
    """A JSON text that is hardly what was expected."""
    text = rng.choice((rng.choice(VALUES), rng.choice(NUMBERS), None))
    return text if text is not None else json.dumps(rng.choice(ESCAPES), ensure_ascii=rng.random() < 0.7)


def odd_json(rng: Random, value: Any, changes: int | None = None) -> bytes:
    """A JSON value with a few things replaced, left out, renamed, doubled, wrapped or exchanged, as text."""
    value, texts = json.loads(json.dumps(value)), []
    for _ in range(changes or rng.choice((1, 1, 1, 2, 3))):
        spots = [p for p in paths(value) if p] or [()]
        value = _changed(rng, value, _spot(rng, spots), texts)
    text = json.dumps(value, ensure_ascii=False)
    for i, raw in enumerate(texts):
        text = text.replace(f'"@{i}@"', raw)
    return text.encode("utf-8", "surrogatepass")


def _spot(rng: Random, spots: list[tuple]) -> tuple:
    """One of the places: half of the time one that is near the top, as long lists hide the rest."""
    near = [p for p in spots if len(p) <= 2 and not (p and isinstance(p[-1], int))]
    return rng.choice(near) if near and rng.random() < 0.7 else rng.choice(spots)


def _changed(rng: Random, value: Any, path: tuple, texts: list[str]) -> Any:
    def raw(text: str) -> str:
        texts.append(text)
        return f"@{len(texts) - 1}@"

    if not path:
        return raw(odd_value(rng))
    parent, key = value, path[-1]
    for k in path[:-1]:
        parent = parent[k]
    if not isinstance(parent, dict | list) or (isinstance(parent, list) and key >= len(parent)):
        return value
    kind = rng.choice(("put", "put", "put", "put", "drop", "name", "add", "twice", "wrap", "swap"))
    if kind == "put":
        parent[key] = raw(odd_value(rng))
    elif kind == "drop":
        del parent[key]
    elif kind == "wrap":
        parent[key] = rng.choice(([parent[key]], {"a": parent[key]}, str(parent[key])))
    elif kind == "swap":
        other = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        parent[key], parent[other] = parent[other], parent[key]
    elif isinstance(parent, dict):
        if kind == "twice":
            parent[key] = raw(f"{json.dumps(parent[key])}, {json.dumps(key)}: {odd_value(rng)}")
        else:
            parent[rng.choice((*ESCAPES, str(key) + "s", "", "x" * 3000))] = (
                parent.pop(key) if kind == "name" else raw(odd_value(rng))
            )
    else:
        parent.insert(key, raw(odd_value(rng)))
    return value


# --- files ----------------------------------------------------------------------------------------------


def change(path: Path, change_bytes: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change_bytes(path.read_bytes()))


def odd_file(rng: Random, path: Path, root: Path) -> None:
    """A file of the case's folder missing, or something else than a file, or another one of that folder."""
    others = [p for p in sorted(root.rglob("*")) if p.is_file() and p != path]
    raw = path.read_bytes()
    path.unlink()
    kind = rng.choice(
        ("gone", "folder", "pipe", "circle", "broken", "device", "other", "renamed", "root", "long")
    )
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "circle":
        path.symlink_to(path.name)
    elif kind == "broken":
        path.symlink_to("gone/nowhere\x1b[31m")
    elif kind == "device":
        path.symlink_to(rng.choice(("/dev/zero", "/dev/null", "/dev/full")))
    elif kind == "root":
        path.symlink_to("/")
    elif kind == "other" and others:
        path.write_bytes(rng.choice(others).read_bytes())
    elif kind == "renamed":
        path.with_name(path.name + rng.choice((".bak", "\x1b]0;owned\x07", "\n", " "))).write_bytes(raw)
    elif kind == "long":
        path.with_name("x" * 250).write_bytes(raw)


def odd_json_file(rng: Random, path: Path) -> None:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    path.write_bytes(odd_json(rng, value))


def odd_lines(rng: Random, path: Path) -> None:
    """Some lines of a JSONL file changed, and its last line twice."""
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError:  # an earlier change has broken it already
        return
    lines[0] = lines[-1]
    odd = (odd_json(rng, line) if rng.random() < 0.5 else json.dumps(line).encode() for line in lines)
    path.write_bytes(b"\n".join(odd))


# --- safetensors ----------------------------------------------------------------------------------------


def odd_safetensors(rng: Random, raw: bytes) -> bytes:
    """Header or numbers of a safetensors file changed, the rest of it in order."""
    try:
        n = struct.unpack("<Q", raw[:8])[0]
        head, body = json.loads(raw[8 : 8 + n]), raw[8 + n :]
    except (struct.error, ValueError):  # an earlier change has broken it already
        return some_bytes(rng, raw)
    kind = rng.choice(("json", "json", "tensor", "tensor", "tensor", "length", "body", "bytes"))
    if kind == "bytes":
        return some_bytes(rng, raw)
    if kind == "length":
        return (
            struct.pack("<Q", rng.choice((0, 1, n - 1, n + 1, 2**31, 2**63, 2**64 - 1, len(raw)))) + raw[8:]
        )
    if kind == "body":
        body = _odd_numbers(rng, body)
    if kind == "tensor":
        _odd_tensor(rng, head)
    text = odd_json(rng, head) if kind == "json" else json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body


def _odd_tensor(rng: Random, head: dict[str, Any]) -> None:
    name = rng.choice([k for k in head if k != "__metadata__"])
    t, (start, end) = head[name], head[name]["data_offsets"]
    shape = t["shape"]
    ways: tuple[dict[str, Any], ...] = (
        {
            "dtype": rng.choice(
                ("F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "X", "I32")
            )
        },
        {"shape": shape[::-1]},
        {"shape": [*shape, 1]},
        {"shape": [1] * 200_000},
        {"shape": [2**40, *shape]},
        {"shape": [0, *shape]},
        {"shape": []},
        {"shape": [-1]},
        {"shape": [2**64]},
        {"shape": [1.0]},
        {"shape": [sum(shape)]},
        {"data_offsets": [start, end + 4]},
        {"data_offsets": [end, start]},
        {"data_offsets": [-4, end]},
        {"data_offsets": [0, end]},
        {"data_offsets": [start, 2**62]},
        {"data_offsets": [start]},
    )
    head[name] = {**t, **rng.choice(ways)}
    if rng.random() < 0.3:
        head[rng.choice((*ESCAPES, "lora_unet_x", "model_ema.x", name + "2"))] = head.pop(name)


def _odd_numbers(rng: Random, body: bytes) -> bytes:
    bad = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\x00\x00\x80"))
    i = place(rng, len(body)) // 4 * 4
    return rng.choice(
        (body[:i] + bad + body[i + 4 :], body[:-4], body + b"1234", body[::-1], bad * (len(body) // 4))
    )


# --- NumPy ----------------------------------------------------------------------------------------------


def odd_npy(rng: Random, raw: bytes) -> bytes:
    """An .npy file with another header before the same numbers."""
    n = struct.unpack("<H", raw[8:10])[0]
    head, body = raw[10 : 10 + n].decode("latin-1").strip(), raw[10 + n :]
    descr = (
        "'|O'",
        "'<f2'",
        "'>f8'",
        "'|S5'",
        "'<U3'",
        "'<M8[s]'",
        "[('a', '<f4'), ('b', 'u1')]",
        "'|V8'",
        "'<c16'",
        "'|b1'",
        "'x'",
        "None",
        "[('a', '|O')]",
        "'<f4, <f4'",
        "'|S0'",
        "'<U0'",
        "'<f16'",
        "{'names': ['a'], 'formats': ['|u1']}",
        "__import__('os').getcwd()",
    )
    shape = (
        "()",
        "(0,)",
        "(-1,)",
        "(3, 0, 8)",
        "(1000000, 1000000)",
        "(99999999999999999999,)",
        "(" + "1," * 64 + ")",
        "(" + "1," * 100_000 + ")",
        "(8.0,)",
        "None",
        "(8, 8, 8, 1, 1, 1)",
        "(2**9,)",
        "(True,)",
        "('8',)",
        "8",
    )
    old = head[head.index("'shape':") + 8 : head.rindex(")") + 1].strip()
    ways = (
        head.replace(head.split("'descr': ")[1].split(",")[0], rng.choice(descr)),
        head.replace(old, rng.choice(shape)),
        head.replace("False", rng.choice(("True", "1", "None", "'x'"))),
        head[:-1],
        "{}",
        "{'descr': '<f4'}",
        head.replace("}", ", 'x': 1}"),
        "[" * 3000,
        head * 2,
        "x" * 60_000,
    )
    text = rng.choice(ways).encode("latin-1") + b"\n"
    version = rng.choice((b"\x01\0", b"\x01\0", b"\x02\0", b"\x03\0", b"\x09\x09"))
    size = struct.pack("<H", len(text) % 65536) if version[0] == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + version + size + text + rng.choice((body, body, body[:9], b"", hostile_pickle()))


def odd_npz(rng: Random, raw: bytes) -> bytes:
    """A zip of arrays with other members, other names, other compression, or its own numbers wrong."""
    if rng.random() < 0.3:
        return _patched_zip(rng, raw)
    with zipfile.ZipFile(io.BytesIO(raw)) as z:
        members = {n: z.read(n) for n in z.namelist()}
    name = rng.choice(list(members))
    kind = rng.choice(("npy", "npy", "bytes", "drop", "name", "more", "way"))
    if kind == "npy":
        members[name] = odd_npy(rng, members[name])
    elif kind == "bytes":
        members[name] = some_bytes(rng, members[name])
    elif kind == "drop":
        members.pop(name)
    elif kind == "name":
        members[
            rng.choice(
                ("../../evil.npy", "/tmp/evil.npy", "a\x1b[31m.npy", "x", ".npy", "é.npy", "x_train.npy")
            )
        ] = members.pop(name)
    elif kind == "more":
        members[rng.choice(("y.npy", "z.npy", "readme.txt", "x/", "labels.npy"))] = rng.choice(
            (b"", members[name], hostile_pickle())
        )
    out = io.BytesIO()
    ways = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(out, "w", rng.choice(ways) if kind == "way" else zipfile.ZIP_DEFLATED) as z:
        for n, content in members.items():
            z.writestr(n, content)
    return out.getvalue()


def _patched_zip(rng: Random, raw: bytes) -> bytes:
    """Fields of the local headers or of the directory set to other numbers."""
    out, sign = bytearray(raw), rng.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
    places = [i for i in range(len(raw)) if raw.startswith(sign, i)]
    i = rng.choice(places) + 4 + rng.randrange(26)
    out[i : i + 2] = struct.pack("<H", rng.choice((0, 1, 8, 12, 14, 93, 99, 65535, rng.randrange(65536))))
    return bytes(out)


# --- pictures -------------------------------------------------------------------------------------------


def chunks(raw: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, data) of the chunks of a PNG."""
    out, i = [], 8
    while i + 8 <= len(raw):
        n = struct.unpack(">I", raw[i : i + 4])[0]
        out.append((raw[i + 4 : i + 8], raw[i + 8 : i + 8 + n]))
        i += 12 + n
    return out


def png(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of chunks, their sums right."""
    whole = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def text_chunk(rng: Random, key: bytes, text: bytes) -> tuple[bytes, bytes]:
    """A PNG text entry in one of the three forms."""
    latin = text.decode("utf-8", "replace").encode("latin-1", "replace")
    return rng.choice(
        (
            (b"tEXt", key + b"\0" + latin),
            (b"zTXt", key + b"\0\0" + zlib.compress(latin)),
            (b"iTXt", key + b"\0\0\0\0\0" + text),
            (b"iTXt", key + b"\0\x01\0\0\0" + zlib.compress(text)),
        )
    )


def odd_png(rng: Random, raw: bytes) -> bytes:
    """A PNG whose chunks are changed, left out, doubled, moved or joined by odd ones, with valid sums."""
    parts = chunks(raw)
    i = rng.randrange(len(parts))
    kind = rng.choice(("head", "head", "data", "drop", "twice", "move", "more", "more", "bytes"))
    if kind == "bytes" or not parts:
        return some_bytes(rng, raw)
    if kind == "head":
        parts[0] = (b"IHDR", _odd_head(rng, parts[0][1]))
    elif kind == "data":
        parts[i] = (parts[i][0], some_bytes(rng, parts[i][1]))
    elif kind == "drop":
        del parts[i]
    elif kind == "twice":
        parts.insert(i, parts[i])
    elif kind == "move":
        parts.insert(rng.randrange(len(parts)), parts.pop(i))
    else:
        parts.insert(rng.randrange(1, len(parts)), _odd_chunk(rng))
    return png(parts)


def _odd_head(rng: Random, head: bytes) -> bytes:
    w, h, *rest = struct.unpack(">IIBBBBB", head)
    side = (0, 1, w + 1, 2**31 - 1, 2**32 - 1, 50_000, 9000, 100_000)
    if rng.random() < 0.6:
        return struct.pack(">IIBBBBB", rng.choice((w, *side)), rng.choice((h, *side)), *rest)
    rest[rng.randrange(5)] = rng.choice((0, 1, 2, 3, 4, 6, 7, 16, 255))
    return struct.pack(">IIBBBBB", w, h, *rest)


def _odd_chunk(rng: Random) -> tuple[bytes, bytes]:
    bomb = zlib.compress(b"A" * 30_000_000, 9)
    return rng.choice(
        (
            text_chunk(rng, b"Comment", rng.choice(ESCAPES).encode("utf-8", "surrogatepass")),
            (b"zTXt", b"x\0\0" + bomb),
            (b"iCCP", b"x\0\0" + bomb),
            (b"iCCP", b"x\0\0" + zlib.compress(rng.randbytes(200))),
            (b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0"),
            (b"eXIf", rng.randbytes(40)),
            (b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 300)))),
            (b"PLTE", rng.randbytes(rng.choice((0, 3, 4, 900)))),
            (b"acTL", struct.pack(">II", rng.choice((0, 1, 2**32 - 1)), 0)),
            (b"fcTL", rng.randbytes(26)),
            (b"fdAT", rng.randbytes(30)),
            (b"gAMA", b"\0\0\0\0"),
            (b"pHYs", rng.randbytes(9)),
            (b"IEND", b""),
            (b"\x1b[2J", b"x"),
            (b"ABCD", b"critical"),
        )
    )


def odd_picture(rng: Random, raw: bytes) -> bytes:
    return odd_png(rng, raw) if raw.startswith(b"\x89PNG") and rng.random() < 0.6 else some_bytes(rng, raw)
