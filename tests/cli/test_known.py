"""Words that a model was never taught are said, or refused where that is asked for."""

import json
import shutil

import pytest

import unnoise
from tests.cli.test_cli import bad, run
from tests.support import sd
from unnoise.text import known

WORDS = known.Known(
    {"cat": ("cat",), "dog": ("dog", "guide dog"), "koala": ("koala",)},
    frozenset({"a", "red", "photo", "of", "the"}),
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A small model in the layout of Stable Diffusion that says what it was taught."""
    folder = sd.make(tmp_path_factory.mktemp("models") / "sd")
    (folder / known.FILE).write_bytes(WORDS.content())
    return folder


def test_unknown_words_are_named_in_one_line_and_in_json(taught, tmp_path, capfd):
    args = ["generate", "--model", taught, "--steps", 1, "--seed", 1, "-o", tmp_path / "x.png", "--json"]
    code, out, err = run(capfd, *args, "a red quoala")
    assert code == 0 and json.loads(out)["unknown"] == ["quoala"] and err.count("\n") == 1 and "koala" in err
    code, out, err = run(capfd, *args, "a photo of cats", "--overwrite")
    assert code == 0 and json.loads(out)["unknown"] == [] and err == ""
    _, out, _ = run(capfd, *args, "a cat", "--negative", "zebra", "--overwrite")
    assert json.loads(out)["unknown"] == ["zebra"]


def test_strict_refuses_before_anything_is_drawn(taught, tmp_path, capfd):
    args = ["generate", "--model", taught, "--steps", 1, "-o", tmp_path / "x.png", "--strict"]
    assert "'zebra'" in bad(capfd, *args, "a zebra")
    assert "'zebra'" in bad(capfd, *args, "--sweep", "prompt=a cat,a zebra")
    assert list(tmp_path.iterdir()) == []
    assert run(capfd, *args, "a cat")[0] == 0


def test_folders_that_do_not_say_it_change_nothing(taught, tmp_path):
    plain = shutil.copytree(taught, tmp_path / "plain")
    (plain / known.FILE).unlink()
    assert (
        unnoise.load(plain).unknown("a zebra") == []
        and unnoise.load(taught).unknown(["a zebra", "zebra cat"])[0][0] == "zebra"
    )


def test_models_list_their_words(taught, tiny, capfd):
    _, out, _ = run(capfd, "models", taught, "--words", "--json")
    assert [w["word"] for w in json.loads(out)["words"]] == ["cat", "dog", "koala"]
    _, out, _ = run(capfd, "models", taught, "do", "--words")
    assert out == "dog: dog, guide dog\n"
    _, out, _ = run(capfd, "models", tiny, "--words", "BOOT")
    assert out == "an ankle boot\n"
    assert "no word like" in bad(capfd, "models", taught, "xyzzy", "--words") and "--words" in bad(
        capfd, "models", taught, "do"
    )
