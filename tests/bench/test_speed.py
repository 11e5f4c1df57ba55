"""The speed benches run and print valid JSON; how fast anything is, is not looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import speed, train_speed


def _row_ok(row):
    assert row["ratio"] > 0 and all(v > 0 for v in row["seconds"].values())
    assert (
        set(row["images_per_s"]) <= set(row["seconds"])
        and "unnoise" in row["seconds"]
        and len(row["seconds"]) > 2
    )


def test_speed(capsys):
    speed.main(["--json", "--repeats", "1", "--steps", "2", "--batches", "1"])
    out = json.loads(capsys.readouterr().out)
    assert out["bench"] == "speed" and {r["what"] for r in out["rows"]} == {"forward", "pipeline"}
    assert {(r["batch"], r["guidance"]) for r in out["rows"] if r["what"] == "pipeline"} == {
        (1, 2.0),
        (1, 1.0),
    }
    for row in out["rows"]:
        _row_ok(row)


@pytest.mark.parametrize("more", [[], ["--dtype", "bf16"]])
def test_train_speed(capsys, more):
    train_speed.main(["--json", "--repeats", "1", "--steps", "1", "--batch", "2", *more])
    out = json.loads(capsys.readouterr().out)
    assert out["bench"] == "train_speed" and len(out["rows"]) == 1
    _row_ok(out["rows"][0])


@pytest.mark.slow
def test_startup():
    run = subprocess.run(
        [sys.executable, "-m", "bench.startup", "--json", "--repeats", "1", "--steps", "1"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    rows = json.loads(run.stdout)["rows"]
    assert rows[0]["what"] == "first PNG" and rows[0]["share"] > 0


@pytest.mark.parametrize(
    "code",
    [
        "import unnoise",
        "import unnoise.cli.main",
        (
            "import contextlib\nfrom unnoise.cli.main import main\n"
            "with contextlib.suppress(SystemExit): main(['generate', '--help'])"
        ),
    ],
)
def test_light_imports(code):
    """What `--help` and `import unnoise` must not load; the first for its time, the others since they are
    heavy and not needed.
    """
    heavy = (
        "torch",
        "numpy",
        "PIL",
        "accelerate",
        "sklearn",
        "diffusers",
        "tensorboard",
    )  # (typer itself brings pydantic)
    look = f"{code}\nimport sys\nprint('loaded:', [m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "loaded: []"


def test_drawing_imports_no_more_than_it_needs():
    heavy = ("accelerate", "sklearn", "diffusers", "transformers", "tensorboard", "torch.utils.tensorboard")
    look = f"import sys\nimport unnoise.pipeline\nprint([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
