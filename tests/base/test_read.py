"""The one reader: every kind of bad file is one BadInput that names it."""

import json
import os

import pytest
from pydantic import BaseModel, ConfigDict

from unnoise.base import read
from unnoise.errors import BadInput


class Small(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    steps: int = 3
    name: str = ""


BAD = {
    "not json": (b"{", "not valid JSON"),
    "utf-16": ("{}".encode("utf-16"), "save it as UTF-8"),
    "latin-1": (b'{"a": "\xe9"}', "save it as UTF-8"),
    "deep list": (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
    "deep object": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deep"),
    "just too deep": (b"[" * 70 + b"]" * 70, "nested too deep"),
    "twice": (b'{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
    "twice below": (b'{"c": [{"a": 1, "a": 1}]}', "'a' stands twice"),
    "surrogate key": (b'{"\\ud800": 1}', "lone surrogate"),
    "surrogate value": (b'[{"x": "\\udfff"}]', "lone surrogate"),
    "nul": (b'{"x": "a\\u0000b"}', "NUL"),
    "digits": (b'{"x": ' + b"9" * 5000 + b"}", "not valid JSON"),
    "empty": (b"", "not valid JSON"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_json_is_one_line_that_names_the_file(tmp_path, kind):
    raw, said = BAD[kind]
    path = tmp_path / "config.json"
    path.write_bytes(raw)
    with pytest.raises(BadInput) as e:
        read.json_file(path)
    assert said in str(e.value) and str(path) in str(e.value) and "\n" not in str(e.value)
    assert len(str(e.value)) < 600


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": "é"}).encode())
    assert read.object_file(path) == {"a": "é"}
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbfsteps = 3\n")
    assert read.toml_file(tmp_path / "r.toml") == {"steps": 3}


def test_depth_that_is_accepted():
    assert read.parse_json("[" * 64 + "]" * 64, "here") is not None


@pytest.mark.parametrize("value", ["[]", "3", "null", '"a"'])
def test_an_object_is_expected(value):
    with pytest.raises(BadInput, match="a JSON object is expected"):
        read.parse_object(value, "config.json")


def test_places_that_are_no_files(tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    os.mkfifo(tmp_path / "pipe")
    said = {
        "none": "no file",
        "circle": "symbolic links",
        "pipe": "pipe or a device",
        "a\0b": "null",
        ".": "is a folder",
        "x" * 300: "too long",
    }
    for name, expected in said.items():
        with pytest.raises(BadInput, match=expected):
            read.content(f"{tmp_path}/{name}")
        with pytest.raises(BadInput):
            read.json_file(f"{tmp_path}/{name}")


def test_a_file_that_is_too_large(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(BadInput, match=r"11 bytes.*at most 10"):
        read.content(tmp_path / "big", most=10)
    assert read.content(tmp_path / "big", most=11) == b"x" * 11


def test_lines_end_at_line_feeds_alone(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes('{"t": "a\u2028b\u0085c\u000b"}\r\n\n{"t": "d"}'.replace("\u000b", "").encode())
    assert read.json_lines(path) == [(1, {"t": "a\u2028b\u0085c"}), (3, {"t": "d"})]
    path.write_text('{"t": 1}\n{"t": \n')
    with pytest.raises(BadInput, match="line 2"):
        read.json_lines(path)


def test_toml_errors(tmp_path):
    path = tmp_path / "r.toml"
    for raw, said in (
        (b"a = [", "not valid TOML"),
        ("a = 1".encode("utf-16"), "save it as UTF-8"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "nested too deep"),
        (b"a = " + b"9" * 5000, "not valid TOML"),
    ):
        path.write_bytes(raw)
        with pytest.raises(BadInput, match=said):
            read.toml_file(path)


def test_fit_names_the_entry_and_both_values():
    assert read.fit(Small, {"steps": 4}, "f").steps == 4
    with pytest.raises(BadInput, match=r"f: steps: .*integer, given 'four'"):
        read.fit(Small, {"steps": "four"}, "f")
    with pytest.raises(BadInput, match=r"unknown key 'step'; did you mean 'steps'"):
        read.fit(Small, {"step": 4}, "f")
    for strange in ([], "x", None, 3):
        with pytest.raises(BadInput):
            read.fit(Small, strange, "f")


def test_texts_that_name_no_file_may_hold_a_nul():
    assert read.parse_object('{"a": "x\\u0000"}', "here", nul=True) == {"a": "x\0"}
    with pytest.raises(BadInput, match="lone surrogate"):
        read.parse_object('{"a": "\\ud800\\u0000"}', "here", nul=True)
