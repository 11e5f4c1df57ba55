"""Files of arrays that promise what they do not hold, or hold what is never loaded: one line each, and no
memory taken.
"""

import io
import lzma
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from unnoise.data import load, splits
from unnoise.errors import BadInput


def refuses(path, split="train"):
    with pytest.raises(BadInput) as error:
        load(path, split)
    assert "\n" not in str(error.value) and path.name in str(error.value) and str(error.value).isprintable()
    return str(error.value)


def npy(header, body=b"", version=1):
    raw = header.encode("latin-1") if isinstance(header, str) else header
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack("<H" if version == 1 else "<I", len(raw))
        + raw
        + body
    )


def told(descr="'<f4'", order="False", shape="(3,)"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


HEADERS = {
    "a million dimensions": told(shape="(" + "1," * 3000 + ")"),
    "17 dimensions": told(shape="(" + "1," * 17 + ")"),
    "3.6 TB": told("'<f8'", shape="(1000000, 450000)"),
    "overflowing": told(shape=f"({2**62}, {2**62})"),
    "negative": told(shape="(-1,)"),
    "booleans": told(shape="(True, 3)"),
    "floats": told(shape="(3.0,)"),
    "a list": told(shape="[3]"),
    "text": told(shape="'3'"),
    "5,000 digits": told(shape="(" + "9" * 5000 + ",)"),
    "structured": told("[('a', '<f4'), ('b', '<i4')]"),
    "a subarray": told("'(3,)<f4'"),
    "bytes": told("'|S4'"),
    "void": told("'|V12'"),
    "objects": told("'|O'"),
    "dates": told("'<M8[s]'"),
    "no bytes": told("'<U0'"),
    "an unknown type": told("'<f5'"),
    "a huge type": told("'<U9999999'"),
    "an order of text": told(order="'no'"),
    "nested deep": told(shape="(" * 4000),
    "a call": told(shape="__import__('os').getcwd()"),
    "another entry": told()[:-3] + "'more': 1}\n",
    "an escape": told("'\\\\x3cf4'"),
    "a list of entries": "[1, 2]",
    "nothing": "",
    "control characters": told("'\x1b]0;x\x07'"),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("kind", ["npy", "npz", "version 3"])
def test_headers_are_checked_before_memory_is_taken(tmp_path, name, kind):
    path, raw = (
        tmp_path / f"x.{kind[:3] if kind != 'version 3' else 'npy'}",
        npy(HEADERS[name], bytes(12), 3 if kind == "version 3" else 1),
    )
    path.write_bytes(raw)
    if kind == "npz":
        with zipfile.ZipFile(path, "w") as z:
            z.writestr("x.npy", raw)
    tracemalloc.start()
    refuses(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_sound_header_is_read(tmp_path, version, order):
    x = np.asarray(np.arange(6, dtype="<f4").reshape(3, 2), order=order)
    (tmp_path / "x.npy").write_bytes(
        npy(told(order=str(order == "F"), shape="(3, 2)"), x.tobytes(order), version)
    )
    assert np.array_equal(load(tmp_path / "x.npy").x, x)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda raw: raw + b"\0", "and 801 follow"),
        (lambda raw: raw[:-1], "and 799 follow"),
        (lambda raw: raw + raw, "follow"),
        (lambda raw: b"", "empty"),
        (lambda raw: b"<html>", "none of numpy's files"),
        (lambda raw: raw[:6] + b"\x09" + raw[7:], "begin"),
    ],
)
def test_the_length_must_be_the_one_promised(tmp_path, change, reason):
    np.save(tmp_path / "x.npy", np.arange(100.0))
    (tmp_path / "x.npy").write_bytes(change((tmp_path / "x.npy").read_bytes()))
    assert reason in refuses(tmp_path / "x.npy")


def zipped(path, method=zipfile.ZIP_DEFLATED, **arrays):
    with zipfile.ZipFile(path, "w", method) as z:
        for name, x in arrays.items():
            body = io.BytesIO()
            np.save(body, x)
            z.writestr(f"{name}.npy", body.getvalue())
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_ways_of_packing_are_refused(tmp_path, method):
    assert "method that is not read" in refuses(zipped(tmp_path / "x.npz", method, x=np.arange(50.0)))


@pytest.mark.parametrize("at, value, width", [(8, 99, 2), (6, 1, 2), (18, 7, 4), (22, 2**31, 4), (14, 5, 4)])
@pytest.mark.parametrize("central", [False, True])
def test_patched_zips_are_refused_or_read_as_they_are(tmp_path, at, value, width, central):
    """The method, the flags, the packed and the unpacked size and the check sum, in the member's own header
    or in the zip's list.
    """
    path = zipped(tmp_path / "x.npz", x=np.arange(500.0))
    raw = bytearray(path.read_bytes())
    start = raw.index(b"PK\x01\x02") + at + 2 if central else at
    raw[start : start + width] = value.to_bytes(width, "little")
    path.write_bytes(raw)
    try:
        assert np.array_equal(load(path).x, np.arange(500.0))
    except BadInput as error:
        assert "\n" not in str(error)
    if central:
        refuses(path)


def test_any_byte_of_a_zip_changed_is_an_answer(tmp_path):
    raw = zipped(tmp_path / "x.npz", x=np.arange(40, dtype=np.float32), labels=np.arange(40)).read_bytes()
    rng, seen = np.random.default_rng(0), []
    for _ in range(400):
        broken = bytearray(raw)
        broken[rng.integers(len(raw))] = rng.integers(256)
        (tmp_path / "x.npz").write_bytes(broken)
        try:
            load(tmp_path / "x.npz")
            seen.append(True)
        except BadInput as error:
            assert "\n" not in str(error)
            seen.append(False)
    assert seen.count(False) > 100


def test_a_bomb_is_refused_unread(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z, z.open("x.npy", "w", force_zip64=True) as f:
        f.write(npy(told("'|u1'", shape=f"({2**29},)")))
        for _ in range(32):
            f.write(bytes(2**24))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    assert "more than 200 times" in refuses(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["x", "x.txt", "../x.npz", "x.NPY"])
def test_members_that_are_no_arrays(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as z:
        z.writestr(name, b"words")
    assert "is no array" in refuses(tmp_path / "a.npz")


def test_two_members_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as z, pytest.warns(UserWarning):
        for _ in range(2):
            z.writestr("x.npy", npy(told(), bytes(12)))
    assert "stands twice" in refuses(tmp_path / "a.npz")


def test_lzma_and_xz_files(tmp_path):
    (tmp_path / "x.npz").write_bytes(lzma.compress(b"x" * 99))
    assert "none of numpy's files" in refuses(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "content, reason",
    [
        ({"labels": np.array([0, 2**40])}, "a label is"),
        ({"labels": np.array([0, 2**64 - 1], np.uint64)}, "a label is"),
        ({"labels": np.array([0, 1]), "words": np.array([b"a", b"b"])}, "type '|S1'"),
        ({"labels": np.array([0, 1]), "words": np.array([1, 2])}, "words are int64"),
        ({"labels": np.array([0, 1]), "words": np.array(["a", "a"])}, "stands twice"),
        ({"labels": np.array([0, 1]), "words": np.array([["a", "b"]])}, "words are"),
        ({"captions": np.array(["a", "b\ud800"])}, "surrogate"),
        ({"captions": np.array(["a", "b\0c"])}, "NUL"),
        ({"captions": np.frombuffer(b"\xff" * 8, "<U1")}, "hold no text"),
        ({"labels": np.array([[0], [1]])}, "labels are"),
        ({"labels": np.array(["a", "b"])}, "labels are"),
    ],
)
def test_what_stands_beside_the_items(tmp_path, content, reason):
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3), np.float32), **content)
    assert reason in refuses(tmp_path / "x.npz")


def test_splits_by_their_other_names(tmp_path):
    x = np.zeros((3, 2), np.float32)
    np.savez(tmp_path / "x.npz", x_train=x, x_val=x + 1, y_val=np.array([0, 1, 0]))
    assert splits(tmp_path / "x.npz") == ("train", "validation")
    for name in ("val", "validation", "valid"):
        data = load(tmp_path / "x.npz", name)
        assert data.x.max() == 1 and data.labels.tolist() == [0, 1, 0] and data.split == "validation"
    np.savez(tmp_path / "x.npz", x_train=x, x_val=x, x_valid=x)
    assert "both mean the split" in refuses(tmp_path / "x.npz")
    np.save(tmp_path / "y.npy", x)
    assert splits(tmp_path / "y.npy") == ("train",) and splits("digits8") == ("train", "test")


@pytest.mark.parametrize(
    "raw, reason",
    [
        (b"1;2\n3;4\n", "not a table"),
        ("1,2\n".encode("utf-16"), "UTF-16"),
        (b"1,2\n3,\x00\n", "t.csv"),
        (b"x,y\n" + b"9" * 5000 + b",1\n", "not finite"),
        (b"1,1_000\n", "not a table"),
        (b"1,2\r3,4,5\r", "columns"),
    ],
)
def test_tables_that_are_refused(tmp_path, raw, reason):
    (tmp_path / "t.csv").write_bytes(raw)
    assert reason in refuses(tmp_path / "t.csv")


def test_what_is_no_file(tmp_path):
    for name in ("x.npy", "x.npz", "x.csv"):
        (tmp_path / name).symlink_to(tmp_path / name)
        refuses(tmp_path / name)
