"""The command line: its contract of output, exit codes and one-line errors, run as a user runs it."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from unnoise.cli.main import main
from unnoise.pipeline import read_recipe
from unnoise.sample import REVISION


def run(capfd, *args) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command in this process."""
    with pytest.raises(SystemExit) as e:
        main([str(a) for a in args])
    out, err = capfd.readouterr()
    return e.value.code, out, err


def bad(capfd, *args) -> str:
    """The error line of a command that must end with 2 and one line."""
    code, out, err = run(capfd, *args)
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, (code, out, err)
    return err


def test_generate_writes_files_and_one_json_object(tiny, tmp_path, capfd):
    code, out, _ = run(
        capfd,
        "generate",
        "boot",
        "-n",
        3,
        "--seed",
        5,
        "--steps",
        2,
        "--model",
        tiny,
        "-o",
        tmp_path / "x.png",
        "--json",
    )
    d = json.loads(out)
    assert (
        code == 0 and d["seeds"] == [5, 6, 7] and d["nfe"] == 2 and d["seconds"] > 0 and len(d["files"]) == 3
    )
    for f, s in zip(d["files"], d["seeds"]):
        assert read_recipe(f)["seed"] == s and Image.open(f).size == (8, 8)
    assert Image.open(tmp_path / "x.png").size == (16, 16)


def test_one_image_goes_to_the_named_file(tiny, tmp_path, capfd):
    code, out, _ = run(
        capfd, "generate", "", "--seed", 5, "--steps", 1, "--model", tiny, "-o", tmp_path / "x.png", "--json"
    )
    assert (
        code == 0
        and json.loads(out)["files"] == [str(tmp_path / "x.png")]
        and [p.name for p in tmp_path.iterdir()] == ["x.png"]
    )


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["--sampler", "euler a"],
        ["--sampler", "ddim", "--option", "eta=0.7"],
        ["--spacing", "karras", "--negative", "one"],
        ["--sampler", "ddpm", "--noise", "brownian", "--guidance-rescale", "0.5"],
    ],
)
def test_replay_makes_the_same_picture(tiny, tmp_path, capfd, extra):
    run(
        capfd,
        "generate",
        "boot",
        "-n",
        2,
        "--seed",
        5,
        "--steps",
        3,
        "--model",
        tiny,
        "-o",
        tmp_path / "x.png",
        *extra,
    )
    for name in ("x-6.png", "x.png"):
        code, out, _ = run(
            capfd,
            "replay",
            tmp_path / name,
            "--model",
            tiny,
            "-o",
            tmp_path / "again.png",
            "--overwrite",
            "--json",
        )
        d = json.loads(out)
        assert code == 0 and d["identical"] and d["changed"] == []
        assert np.array_equal(
            np.asarray(Image.open(tmp_path / name)), np.asarray(Image.open(tmp_path / "again.png"))
        )
        assert read_recipe(tmp_path / "again.png") == read_recipe(tmp_path / name)


def test_replay_says_what_has_changed(tiny, vectors, tmp_path, capfd, monkeypatch):
    run(capfd, "generate", "boot", "--seed", 5, "--steps", 2, "--model", tiny, "-o", tmp_path / "x.png")
    monkeypatch.setattr("unnoise.pipeline.record.REVISION", 999)
    _, out, _ = run(capfd, "replay", tmp_path / "x.png", "--model", tiny, "--json")
    assert json.loads(out)["changed"] == [f"sampler_revision: {REVISION} -> 999"]


def test_explain_prints_the_grid_that_is_used(tiny, capfd):
    import unnoise

    _, out, _ = run(
        capfd,
        "samplers",
        "--explain",
        "--model",
        tiny,
        "--steps",
        5,
        "--spacing",
        "trailing",
        "--sampler",
        "ddim",
        "--json",
    )
    d, pipe = json.loads(out), unnoise.load(tiny)
    visited = [
        s.level for s in pipe.stream("one", num_inference_steps=5, spacing="trailing", sampler="ddim", seed=0)
    ]
    assert [g["t"] for g in d["grid"]] == [999, 799, 599, 399, 199, -1] and d["nfe"] == 5
    assert [g["sigma"] for g in d["grid"]] == [float(l.sigma) for l in visited]


BAD = [
    (["generate", "zebra", "--model", "TINY"], "an ankle boot"),
    (["generate", "one", "--model", "nope"], "digits-judge"),
    (["generate", "one", "--model", "TINY", "--sampler", "ddmi"], "ddim"),
    (["generate", "one", "--model", "TINY", "--steps", "0"], "from 1"),
    (["generate", "one", "--model", "TINY", "--steps", "x"], "integer"),
    (["generate", "one", "--model", "TINY", "--guidance", "nan"], "finite"),
    (["generate", "one", "--model", "TINY", "--guidance", "inf"], "finite"),
    (["generate", "one", "--model", "TINY", "-n", "0"], "num_images"),
    (["generate", "one", "--model", "TINY", "--stpes", "3"], "'--steps'"),
    (["gnerate", "one"], "generate"),
    (["generate", "a", "b"], "argument"),
    (["generate", "one", "--model", "TINY", "-o", "x.jpg"], ".png"),
    (["generate", "one", "--model", "TINY", "-o", "/no/such/x.png"], "no folder"),
    (["generate", "one", "--model", "TINY", "--option", "etta=1", "--sampler", "ddim"], "'eta'"),
    (["generate", "one", "--model", "TINY", "--option", "eta"], "name=value"),
    (["generate", "one", "--model", "digits-judge"], "classifier"),
    (["replay", "nothing.png"], "no picture"),
    (["replay", "PLAIN"], "no unnoise recipe"),
    (["replay", "TEXT"], "cannot be read"),
    (["models", "nope"], "digits-judge"),
    (["samplers", "--tune", "TINY"], "--calls"),
    (["samplers", "--calls", "5"], "--tune"),
    (["train", "nothing.toml", "--out", "OUT"], "no recipe"),
    (["data", "info", "nothing"], "nothing"),
    (["data", "fetch", "mnits"], "mnist"),
]


@pytest.mark.parametrize(("args", "said"), BAD, ids=[" ".join(a)[:50] for a, _ in BAD])
def test_bad_input_is_one_line_and_exit_2(tiny, tmp_path, capfd, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (3, 3)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("<html>")
    before = sorted(tmp_path.iterdir())
    places = {"TINY": tiny, "PLAIN": "plain.png", "TEXT": "text.png", "OUT": tmp_path / "run"}
    assert said in bad(capfd, *[places.get(a, a) for a in args])
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_model_is_named_and_nothing_is_written(tiny, tmp_path, capfd):
    model = shutil.copytree(tiny, tmp_path / "m")
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    assert file.name in bad(capfd, "generate", "one", "--model", model, "-o", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_debug_shows_the_traceback(tiny):
    with pytest.raises(ValueError):
        main(["generate", "zebra", "--model", str(tiny), "--debug"])


def test_help_and_import_do_not_load_torch():
    for code in (
        "import unnoise",
        "from unnoise.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass",
    ):
        check = (
            code
            + "\nimport sys; assert not {'torch', 'numpy', 'PIL', 'accelerate', 'rich'} & set(sys.modules),"
            " set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)


def test_the_installed_command_works(tiny, tmp_path):
    command = shutil.which("unnoise") or f"{sys.prefix}/bin/unnoise"
    r = subprocess.run(
        [command, "generate", "boot", "--model", tiny, "--steps", "1", "-o", tmp_path / "x.png", "--json"],
        capture_output=True,
    )
    assert r.returncode == 0 and json.loads(r.stdout)["files"] == [str(tmp_path / "x.png")]
