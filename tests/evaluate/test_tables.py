"""A model of tables from its recipe to its exam, as a user goes: train, draw a CSV, replay it, evaluate."""

import json

import numpy as np
import pytest

from unnoise import shipped
from unnoise.cli.main import main
from unnoise.errors import BadInput
from unnoise.evaluate import evaluate
from unnoise.evaluate.tables import _same_kind
from unnoise.train import run
from unnoise.train.recipe import load
from unnoise.worlds.moons import Moons


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    recipe = load(shipped.recipe("moons"), steps=2)
    small = recipe.model_copy(update={"net": {"kind": "mlp", "width": 16, "layers": 1}})
    return run.train(small, tmp_path_factory.mktemp("runs") / "moons")["folder"]


def ran(capsys, *args):
    with pytest.raises(SystemExit) as e:
        main([str(a) for a in args])
    return e.value.code, capsys.readouterr()


def test_one_file_of_rows_with_its_record(folder, tmp_path, capsys):
    out = tmp_path / "moons.csv"
    command = ("generate", "--model", folder, "-n", "7", "--seed", "3", "--steps", "2", "-o", out, "--json")
    code, said = ran(capsys, *command)
    told = json.loads(said.out)
    assert code == 0 and told["files"] == [str(out)] and told["seeds"] == list(range(3, 10))
    lines = out.read_text().splitlines()
    assert lines[1] == "x,y,moon,tenth" and len(lines) == 9 and lines[2].split(",")[2] in ("upper", "lower")
    before = out.read_bytes()
    assert ran(capsys, *command, "--resume")[0] == 0 and out.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["moons.csv"]
    code, said = ran(capsys, "replay", out, "--model", folder, "--json")
    assert code == 0 and json.loads(said.out)["identical"] and (tmp_path / "moons-replay.csv").exists()


def test_a_row_depends_on_its_seed_alone(folder, tmp_path, capsys):
    for name, n, seed in (("a", 4, 0), ("b", 2, 2)):
        how = ("-n", n, "--seed", seed, "--steps", "2", "-o", tmp_path / f"{name}.csv")
        assert ran(capsys, "generate", "--model", folder, *how)[0] == 0
    a, b = (
        Moons.open("moons", "train", Moons.Options()).codec().medium.read(tmp_path / f"{n}.csv") for n in "ab"
    )
    np.testing.assert_allclose(a[2:], b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("output", ["moons.png", "moons.txt"])
def test_another_kind_of_file_is_refused(folder, output, tmp_path, capsys):
    code, said = ran(capsys, "generate", "--model", folder, "-o", tmp_path / output)
    assert code == 2 and said.err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_the_exam(folder, tmp_path):
    report = evaluate(folder, 40, num_inference_steps=2, work=tmp_path)
    real = report["floor"]
    assert set(report["columns"]) == {"x", "y", "moon", "tenth"} and set(report["truth"]) == {"moon", "tenth"}
    assert real["truth"]["moon"]["value"] > 0.95 and 0.3 < real["nearest_neighbour"]["value"] < 0.7
    again = evaluate(folder, 40, num_inference_steps=2, work=tmp_path)
    assert {k: v for k, v in again.items() if k != "seconds"} == {
        k: v for k, v in report.items() if k != "seconds"
    }


def test_the_exam_refuses(folder, tmp_path):
    for how, told in (
        ({"judge": "digits-judge"}, "by their world"),
        ({"data": "monos"}, "did you mean 'moons'"),
    ):
        with pytest.raises(BadInput, match=told):
            evaluate(folder, 20, work=tmp_path, **how)


def test_nearest_rows_tell_two_kinds_apart_where_they_can():
    g = np.random.default_rng(0)
    a, b = g.normal(size=(300, 2)), g.normal(size=(300, 2))
    assert abs(_same_kind(a, b).mean() - 0.5) < 0.06 and _same_kind(a, b + 100).all()
