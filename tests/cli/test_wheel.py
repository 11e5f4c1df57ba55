"""What a user installs: a wheel, in an environment of its own, run in an empty folder. Recipes and the lab
come along.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from unnoise import shipped
from unnoise.errors import BadInput

ROOT = Path(__file__).parents[2]
CLEAN = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel unpacked into an empty virtual environment that borrows its dependencies from this one;
    returns a function to run commands.
    """
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"  # a copy: a build leaves its folders in the tree
    tracked = (
        subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
        .stdout.decode()
        .split("\0")
    )
    for name in filter(None, tracked):
        if name.startswith(("tests/", "docs/", "bench/")) or not (ROOT / name).is_file():
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (
            os.link(ROOT / name, source / name)
            if os.stat(ROOT).st_dev == os.stat(place).st_dev
            else shutil.copy2(ROOT / name, source / name)
        )
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ".",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(place),
    ]
    subprocess.run(build, cwd=source, check=True, capture_output=True, env=CLEAN)
    (wheel,) = place.glob("unnoise-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "env"], check=True)
    (packages,) = (place / "env" / "lib").glob("python3*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    zipfile.ZipFile(wheel).extractall(packages)
    empty = place / "empty"
    empty.mkdir()

    def run(*args):
        env = {**CLEAN, "UNNOISE_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [place / "env" / "bin" / "python", "-m", "unnoise", *map(str, args)],
            cwd=empty,
            env=env,
            capture_output=True,
            text=True,
        )

    run.place, run.packages = place, packages  # type: ignore[attr-defined]
    return run


@pytest.mark.slow
def test_it_is_the_wheel_that_runs_and_nothing_of_the_repository(installed):
    files = {
        p.relative_to(installed.packages) for p in (installed.packages / "unnoise").rglob("*") if p.is_file()
    }
    assert Path("unnoise/recipes/smoke.toml") in files and Path("unnoise/lab/choices/run.py") in files
    assert Path("unnoise/models/emoji/model_index.json") in files
    assert not [f for f in files if f.suffix == ".pyc" and f.parts[1] in ("recipes", "lab")]
    r = installed("info", "emoji", "--no-hash", "--json")
    assert r.returncode == 0 and str(installed.packages) in r.stdout and str(ROOT) not in r.stdout


@pytest.mark.slow
def test_the_first_commands_of_a_new_user(installed):
    r = installed(
        "generate",
        "a handwritten seven",
        "--model",
        "digits",
        "-n",
        1,
        "--steps",
        1,
        "--seed",
        1,
        "-o",
        "a.png",
    )
    assert r.returncode == 0 and (installed.place / "empty" / "a.png").is_file(), r.stderr
    r = installed("train", "smoke", "--out", "run", "--steps", 1)
    assert r.returncode == 0 and (installed.place / "empty" / "run" / "model").is_dir(), r.stderr
    r = installed("train", "smok", "--out", "run2")
    assert r.returncode == 2 and "did you mean 'smoke'" in r.stderr and r.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["choices", "captions", "noise_predictor", "zero_shot", "p_digit"])
def test_an_experiment_without_its_data_says_so_in_one_line(installed, name):
    assert name in installed("lab", "list").stdout
    r = installed("lab", "run", name, "--quick")
    errors = [line for line in r.stderr.splitlines() if line.startswith("error: ")]
    assert (
        r.returncode == 2
        and len(errors) == 1
        and "Traceback" not in r.stderr
        and "not in the cache" in errors[0]
    )


def test_recipes_are_found_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    smoke = shipped.recipe("smoke")
    assert smoke.is_file() and {"smoke", "digits", "gpu/emoji"} <= set(shipped.recipes())
    assert all(
        shipped.recipe(given) == smoke
        for given in ("smoke.toml", "recipes/smoke.toml", "recipes/smoke", Path("smoke"))
    )
    (tmp_path / "smoke").write_text("")
    assert shipped.recipe("smoke") == Path("smoke"), "what is there goes before what comes along"
    (tmp_path / "mine.toml").write_text("")
    assert shipped.recipe("mine.toml") == Path("mine.toml")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("smok", "smoke"),
        ("emoji-upscal", "emoji-upscale"),
        ("nothing/at/all", None),
        ("../smoke", None),
        ("a\x1b[2J", None),
        ("/recipes/none.toml", None),
    ],
)
def test_a_recipe_that_is_not_there_is_told_with_the_nearest(given, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="no recipe") as e:
        shipped.recipe(given)
    text = str(e.value)
    assert (f"did you mean {meant!r}" in text) if meant else "digits" in text
    assert "\n" not in text and "\x1b" not in text
