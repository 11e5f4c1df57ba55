"""The judge of cases sees what commands may not do: each fault planted once. Cases are always the same."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import case, mutate


def judged(main, place: Path, argv=("x",), **limits) -> dict:
    """What case.run finds in a fork, where hooks and limits may stay."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        for name, value in limits.items():
            setattr(case, name, value)
        case.watch(place / "cache")
        try:
            told = case.run(main, list(argv), place)
        except BaseException as e:
            told = {"faults": [f"harness: {e!r}"]}
        os.write(write, json.dumps(told).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        raw = f.read()
    os.waitpid(pid, 0)
    return json.loads(raw)


def leave(code, err="", out=""):
    def main(_):
        print(err, end="", file=sys.stderr)
        print(out, end="")
        raise SystemExit(code)

    return main


def write(path, text="x"):
    def main(_):
        Path(path).write_text(text)

    return main


def below(_):
    os.write(2, b"libpng warning: bad chunk\n")


def loop(_):
    while True:
        pass


def fill(_):
    bytearray(300 * 2**20)


def sleep(_):
    import time

    time.sleep(30)


def start(_):
    subprocess.run(["true"])


def unpickle(_):
    pickle.loads(mutate.hostile_pickle())


def connect(_):
    import socket

    socket.create_connection(("127.0.0.1", 9))


def remove(_):
    Path("../in/given").unlink()


def swallow(_):
    with suppress(Exception):
        loop(_)


@pytest.fixture
def place(tmp_path):
    """A case's folder with one file given."""
    folder = tmp_path / "case"
    for name in ("in", "out", "tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "in" / "given").write_text("as it was")
    return folder


@pytest.mark.parametrize(
    ("main", "told"),
    [
        (leave(1, "error: ValueError\n"), "exit 1"),
        (leave(130), "exit 130"),
        (lambda _: 1 / 0, "exit raised"),
        (leave(2, "error: one thing\nand another\n"), "not one line"),
        (leave(2, "no such thing is there\n"), "not one line"),
        (leave(2), "not one line"),
        (leave(2, "error: a thing\n", "made.png\n"), "on stdout"),
        (leave(2, "error: " + "x" * 6000), "letters"),
        (leave(0, "", "a\x1b[31mb"), "U+001B"),
        (leave(2, "error: a \x9b31m thing\n"), "U+009B"),
        (leave(0, "", "a\u202eb"), "U+202E"),
        (leave(0, "", "a\rb"), "U+000D"),
        (leave(2, "error: a\u2028b here\n"), "U+2028"),
        (lambda _: os.write(1, b"\xff"), "U+DCFF"),
        (leave(0, "/x/y.py:3: UserWarning: old\n"), "on stderr"),
        (below, "on stderr"),
        (start, "subprocess.Popen"),
        (unpickle, "pickle.find_class"),
        (connect, "socket.getaddrinfo"),
        (write("../in/given"), "given was changed"),
        (remove, "given was removed"),
        (write("../in/new"), "beside what was given"),
        (write(".made.png.12.part"), "left behind"),
        (write(".lock"), "left behind"),
        (write("../tmp/x"), "temporary folder"),
        (write("../../elsewhere"), "elsewhere"),
    ],
)
def test_a_fault_is_seen(place, main, told):
    faults = judged(main, place)["faults"]
    assert any(told in f for f in faults), faults


@pytest.mark.parametrize(
    ("main", "limits", "told"),
    [
        (loop, {"CPU": 0.2}, "exit hang"),
        (swallow, {"CPU": 0.2}, "exit hang"),
        (sleep, {"WALL": 0.2}, "exit hang"),
        (fill, {"MEMORY": 200 * 2**20}, "MiB more"),
        (fill, {"ROOM": 100 * 2**20}, "MemoryError"),
    ],
)
def test_time_and_memory_are_limited(place, main, limits, told):
    faults = judged(main, place, **limits)["faults"]
    assert any(told in f for f in faults), faults


def test_a_failed_command_leaves_nothing(place):
    def main(_):
        Path("made.png").write_text("half")
        leave(2, "error: a thing is wrong\n")(_)

    assert judged(main, place)["faults"] == ["exit 2, but there is made.png"]


def test_json_is_one_object(place):
    assert judged(leave(0, "", '{"a": 1}\n'), place, ["--json"])["faults"] == []
    for out in ("", "[1]", '{"a": 1}\n{"b": 2}', "a line\n{}"):
        assert "JSON object" in judged(leave(0, "", out), place, ["--json"])["faults"][0]


@pytest.mark.parametrize(
    "main",
    [
        leave(0, "", "made.png\n"),
        leave(2, "error: a thing is wrong\n"),
        write("made.png"),
        lambda _: Path("made.png").read_bytes,
        leave(0, "1 of 2\n"),
    ],
)
def test_what_is_right_is_left_alone(place, main):
    found = judged(main, place)
    assert found["faults"] == [] and found["code"] in (0, 2)


def test_cases_are_a_function_of_their_number():
    raw, value = bytes(range(256)) * 4, {"a": [1, {"b": "x"}], "c": 2.5, "d": {"e": None}}
    for how in (*mutate.BYTES, mutate.some_bytes):
        assert [how(Random(i), raw) for i in range(30)] == [how(Random(i), raw) for i in range(30)]
    texts = [mutate.odd_json(Random(i), value) for i in range(300)]
    assert texts == [mutate.odd_json(Random(i), value) for i in range(300)]
    assert value == {"a": [1, {"b": "x"}], "c": 2.5, "d": {"e": None}}
    assert len(set(texts)) > 200 and sum(t == json.dumps(value).encode() for t in texts) < 15


def test_png_is_taken_apart_and_put_together():
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(out, format="PNG")
    raw = out.getvalue()
    assert mutate.png(mutate.chunks(raw)) == raw
    odd = [mutate.odd_png(Random(i), raw) for i in range(100)]
    assert sum(o == raw for o in odd) < 10
    for o in odd[:40]:  # those whose chunks were changed have valid sums: a decoder goes on to what is wrong
        if o.startswith(raw[:8]) and mutate.png(mutate.chunks(o)) == o:
            break
    else:
        raise AssertionError("no PNG with valid sums among forty")
