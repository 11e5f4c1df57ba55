"""Samples of a medium that has them in one file: written when all are drawn, found again by their recipe."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from unnoise import media
from unnoise.cli.kept import Files, OneFile, Rules
from unnoise.errors import BadInput


@dataclass(frozen=True)
class Lines:
    """Rows of numbers in a text file, under their record."""

    singular: str = "row"
    plural: str = "rows"
    suffixes: tuple[str, ...] = (".rows",)
    together: bool = True

    def to_bytes(self, samples, record):
        return "\n".join([record, *(" ".join(map(str, s)) for s in samples)]).encode()

    def read(self, path):
        return np.loadtxt(path, skiprows=1)

    def read_record(self, path):
        if not path.exists():
            raise BadInput(f"{path} is missing")
        return json.loads(path.read_text().split("\n")[0])


@dataclass
class Request:
    seeds: tuple[int, ...] = (7, 8, 9)
    asked: list = field(default_factory=list)

    def recipe(self, pipe, i):
        return {"model": pipe.name, "seed": self.seeds[i]}

    def only(self, places):
        self.asked.append(list(places))
        return self


@pytest.fixture
def pipe(monkeypatch):
    monkeypatch.setitem(media.MEDIA, "rows", Lines())
    return SimpleNamespace(name="moons", codec=SimpleNamespace(medium=media.MEDIA["rows"]))


def drawn(request):
    yield [0, 1], np.arange(4.0).reshape(2, 2), 5
    yield [2], np.full((1, 2), 9.0), 5


def test_all_samples_are_one_file_and_are_found_again(pipe, tmp_path):
    request, out = Request(), tmp_path / "moons.rows"
    files = Files.of(pipe, request, out, Rules())
    assert isinstance(files, OneFile) and files.missing() == [0, 1, 2]
    assert files.draw(request, drawn) == 5 and not out.exists()
    files.close()
    assert files.report() == {"files": [str(out)], "seeds": [7, 8, 9]}
    assert files.lines() == [f"{out}  3 rows, seeds 7 … 9"]
    assert media.of_file(out).read(out).tolist() == [[0, 1], [2, 3], [9, 9]]
    assert media.read_record(out)["seeds"] == [7, 8, 9]
    again = Files.of(pipe, request, out, Rules(resume=True))
    assert again.missing() == [] and again.draw(request, drawn) == 0
    again.close()
    assert list(tmp_path.iterdir()) == [out]
    other = Files.of(pipe, Request((7, 8)), out, Rules())
    assert other.files == [tmp_path / "moons-2.rows"] and len(other.missing()) == 2


def test_another_mediums_file_is_refused(pipe, tmp_path):
    with pytest.raises(BadInput, match=r"stored in ROWS files, name one \(given \.png\)"):
        Files.of(pipe, Request(), tmp_path / "moons.png", Rules())
