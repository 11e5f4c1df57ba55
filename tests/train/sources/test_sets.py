"""What validation looks at: the other split, by whatever name, or an error that says what is wrong with it;
never silently the training pictures.
"""

import numpy as np
import pytest
from PIL import Image

from tests.train.tiny import recipe
from unnoise.errors import BadInput
from unnoise.train import build, run
from unnoise.train.fit import prepare


def folder(path, splits=("train", "test"), size=8, captions=True):
    for k, split in enumerate(splits):
        (path / split).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (size, size), (40 * i, 100 * k, 0)).save(path / split / f"{i}.png")
            if captions:
                (path / split / f"{i}.txt").write_text(f"shade {i}")
    return path


def seen(path, **data):
    r = recipe(data={"name": str(path), **data})
    return build.held_out(r, build.source(r)).data


@pytest.mark.parametrize("name", ["test", "Test", "val", "valid", "validation"])
def test_the_other_split_by_any_name(tmp_path, name, capsys):
    data = seen(folder(tmp_path / "d", ("train", name)))
    assert data.x[:, 0, 0, 1].tolist() == [100] * 3 and data.split != "train"
    run.Validation(prepare(recipe(data={"name": str(tmp_path / "d")})))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "harm, reason",
    [
        (lambda d: (d / "test/1.png").write_bytes(b"broken"), "test/1.png"),
        (lambda d: (d / "test/1.txt").unlink(), "2 of 3 images"),
        (lambda d: Image.new("RGB", (9, 8)).save(d / "test/1.png"), "different sizes"),
        (lambda d: [p.unlink() for p in (d / "test").glob("*.txt")], "no captions"),
        (lambda d: [p.unlink() for p in (d / "test").iterdir()], "no images"),
        (
            lambda d: [Image.new("RGB", (4, 4)).save(d / f"test/{i}.png") for i in range(3)],
            "items of its test split",
        ),
        (
            lambda d: [Image.new("L", (8, 8)).save(d / f"test/{i}.png") for i in range(3)],
            "items of its test split",
        ),
        (lambda d: (d / "test/1.png").write_bytes((d / "test/1.png").read_bytes()[:-14]), "truncated"),
        (lambda d: (d / "test/1.txt").write_bytes(b"caf\xe9"), "UTF-8"),
    ],
)
def test_a_broken_test_split_is_an_error(tmp_path, harm, reason):
    harm(folder(tmp_path / "d"))
    with pytest.raises(BadInput, match=reason):
        seen(tmp_path / "d")
    with pytest.raises(BadInput, match=reason) as e:
        run.train(recipe(data={"name": str(tmp_path / "d")}), tmp_path / "r")
    assert "\n" not in str(e.value) and not (tmp_path / "r" / "log.jsonl").exists()


@pytest.mark.parametrize("kind", ["folder", "array"])
def test_training_data_stand_in_with_a_word(tmp_path, capsys, kind):
    path = folder(tmp_path / "d", ("",)) if kind == "folder" else tmp_path / "x.npy"
    if kind == "array":
        np.save(path, np.arange(12.0).reshape(3, 4))
    run.Validation(prepare(recipe(data={"name": str(path)})))
    err = capsys.readouterr().err
    assert "validation looks at training data" in err and err.count("\n") == 1


def test_a_validation_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="split"):
        seen(folder(tmp_path / "d"), validation="validation")
