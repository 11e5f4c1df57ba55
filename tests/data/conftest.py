"""A small published set, delivered by client programs that stand first on PATH and may be told to misbehave.

Everything of `unnoise.data.delivery` runs for real here, subprocesses and archives included; only the bytes
are few.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from unnoise.data import idx
from unnoise.data.sources import SOURCES, File, Source

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def tiny_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    kinds = ((256, (60, 5, 7)), (3, (60,)), (256, (20, 5, 7)), (3, (20,)))
    return {
        name: idx.pack(rng.integers(0, high, shape, dtype=np.uint8))
        for name, (high, shape) in zip(NAMES, kinds)
    }


def tiny_source(npm: str = "tiny-data@1.0.0", deb: str = "") -> Source:
    pins = [File(name, len(raw), hashlib.sha256(raw).hexdigest()) for name, raw in tiny_files().items()]
    return Source(
        "a tiny set",
        {"train": 60, "test": 20},
        ("a", "b", "c"),
        "CC0-1.0",
        "made here",
        {"train": (pins[0], pins[1]), "test": (pins[2], pins[3])},
        npm=npm,
        deb=deb,
    )


def tarball(files: dict[str, bytes], zipped: bool = False) -> bytes:
    """A .tar.gz as npm packs one, the files inside plain or gzipped."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, raw in {"readme.md": b"hello", **files}.items():
            raw, name = (gzip.compress(raw), f"{name}.gz") if zipped else (raw, name)
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return out.getvalue()


class Clients:
    """A folder that is the whole PATH; `install` puts a program there, `calls` tells which were run and with
    what.
    """

    def __init__(self, place: Path):
        self.place = place
        self.log = place / "calls.log"
        place.mkdir()

    def install(self, name: str, body: str, payload: bytes = b"") -> None:
        """The program `name`: `body` is Python that finds `payload` (bytes), `args` and the modules os,
        signal, sys.
        """
        stored = self.place / f"{name}.payload"
        stored.write_bytes(payload)
        program = self.place / name
        program.write_text(
            f"#!{sys.executable} -S\nimport os, signal, sys\nargs = sys.argv[1:]\n"
            f"open({str(self.log)!r}, 'a').write({name!r} + ' ' + ' '.join(args) + '\\n')\n"
            f"payload = open({str(stored)!r}, 'rb').read()\n{body}\n"
        )
        program.chmod(0o755)

    def npm(self, payload: bytes, body: str = "open('tiny-data-1.0.0.tgz', 'wb').write(payload)") -> None:
        self.install("npm", body, payload)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def clients(tmp_path, monkeypatch) -> Clients:
    made = Clients(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(made.place))
    return made


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """The set "tiny" is known, the cache is empty; returns the folder in which its files will lie."""
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(SOURCES, "tiny", tiny_source())
    return tmp_path / "cache" / "data" / "tiny"
