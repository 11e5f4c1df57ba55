import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from unnoise.base.stop import Terminated, exit_code
from unnoise.cli.evaluate import _resumable, evaluate
from unnoise.errors import BadInput

app = typer.Typer()
app.command()(evaluate)


@pytest.fixture
def run(judge_folder, model_folder, tmp_path):
    def run(*args, n=40):
        base = [
            model_folder,
            "-n",
            n,
            "--steps",
            2,
            "--judge",
            judge_folder,
            "--data",
            "digits8",
            "--work",
            tmp_path / "work",
        ]
        return CliRunner().invoke(app, [str(a) for a in [*base, *args]])

    return run


def test_json_is_one_object_with_everything(run):
    done = run("--json", "--guidance", 1.5, "--sampler", "ddim", "--seed", 3)
    assert done.exit_code == 0, done.exception
    r = json.loads(done.stdout)
    assert {
        "model",
        "n",
        "settings",
        "nfe",
        "accuracy",
        "fid",
        "kid",
        "kid_se",
        "precision",
        "recall",
        "n_matched",
        "floor",
        "ceiling",
        "conditions",
        "work",
        "seconds",
    } == r.keys()
    s = r["settings"]
    assert (s["guidance"], s["sampler"], s["seed"], s["steps"]) == (1.5, "ddim", 3, 2)


def test_table_shows_every_number_with_its_n_and_what_it_depends_on(run):
    r, done = json.loads(run("--json").stdout), run()
    assert done.exit_code == 0, done.exception
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert (
        f"{r['fid']:.3f}" in lines["FID"]
        and f"{r['floor']['fid']:.3f}" in lines["FID"]
        and lines["FID"].endswith(" 40")
    )
    assert f"{r['kid']:.5f} ± {r['kid_se']:.5f}" in lines["KID"] and f"{r['recall']:.4f}" in lines["recall"]
    assert all(f"{r[k]['all']['value']:.4f}" in lines["all"] for k in ("accuracy", "ceiling"))
    assert all(word in lines for word in r["accuracy"]["classes"])
    hashes = r["model"]["sha256"][:12], r["conditions"]["judge_sha256"][:12]
    for told in (*hashes, "digits8, test split", "2 steps", "seeds 0 to 39"):
        assert told in done.stdout, told


def test_table_of_few_images_has_dashes(run):
    done = run(n=2)
    rows = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("KID", "precision"))]
    assert done.exit_code == 0 and rows == ["-", "-"]


def test_against_an_earlier_report(run, tmp_path):
    report = tmp_path / "a.json"
    report.write_text(run("--json").stdout)
    done = run("--json", "--seed", 100, "--against", report)
    a, b = json.loads(report.read_text()), json.loads(done.stdout)
    assert (
        b["against"]["fid"] == b["fid"] - a["fid"] != 0
        and "against" in run("--seed", 100, "--against", report).stdout
    )
    assert "cannot be compared: n" in str(run("--against", report, n=50).exception)
    assert "no report at" in str(run("--against", tmp_path / "b.json").exception)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["-n", 1], "-n must be at least 2 images, given 1"),
        (["-n", -5], "given -5"),
        (["--guidance", "nan"], "finite"),
        (["--steps", 0], "num_inference_steps"),
        (["--sampler", "dimm"], "did you mean 'ddim'"),
        (["--judge", "nowhere"], "nowhere"),
        (["--data", "mnits"], "did you mean 'mnist'"),
        (["--batch-size", 0], "batch_size"),
        (["--spacing", "logg"], "spacing"),
    ],
)
def test_bad_input_is_one_line(run, args, told):
    done = run(*args)
    assert (
        isinstance(done.exception, BadInput)
        and told in str(done.exception)
        and "\n" not in str(done.exception)
    )
    assert done.stdout == ""


def test_an_interrupt_says_how_to_continue():
    for kind, code in ((KeyboardInterrupt, 130), (Terminated, 143)):
        moved = []
        with (
            pytest.raises(
                KeyboardInterrupt, match=r"^12 images are made and kept; the same command continues"
            ) as e,
            _resumable(moved.append) as count,
        ):
            count(5), count(7)
            raise kind
        assert exit_code(e.value) == code and moved == [5, 7]


def test_help_needs_no_torch():
    code = (
        "import sys; import unnoise.cli.evaluate; assert 'torch' not in sys.modules and 'numpy' not in"
        " sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
