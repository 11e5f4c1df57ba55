"""Files that change while they are read: never more than was looked at, never more than is accepted."""

import os

import pytest

from unnoise.base import read
from unnoise.errors import BadInput


@pytest.fixture
def growing(tmp_path, monkeypatch):
    """A file of 4 bytes that has `more` by the time it is opened."""

    def make(more: bytes):
        path = tmp_path / "f.json"
        path.write_bytes(b"1234")
        regular = read.regular

        def then(*args):
            facts = regular(*args)
            path.write_bytes(more)
            return facts

        monkeypatch.setattr(read, "regular", then)
        return path

    return make


@pytest.mark.parametrize("more, least, most", [(b"12", 2, 2), (b"1234", 4, 4), (b"x" * 10_000_000, 4, 5)])
def test_a_file_that_grows_is_read_no_further_than_it_was_long(growing, more, least, most):
    got = read.content(growing(more))
    assert least <= len(got) <= most and more.startswith(got)


def test_a_file_that_grows_beyond_the_bound_takes_no_memory(growing, monkeypatch):
    """One byte beyond what is accepted is all that is ever asked for."""
    assert len(read.content(growing(b"x" * 1_000_000), most=4)) <= 5


def test_a_file_that_is_gone_is_said(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"1")
    regular = read.regular

    def then(*args):
        facts = regular(*args)
        os.unlink(path)
        return facts

    monkeypatch.setattr(read, "regular", then)
    with pytest.raises(BadInput, match="no file at"):
        read.content(path)
