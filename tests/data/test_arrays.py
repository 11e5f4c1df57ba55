import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unnoise.data import load
from unnoise.errors import BadInput


def refuses(path, split="train"):
    with pytest.raises(BadInput) as error:
        load(path, split)
    assert "\n" not in str(error.value) and path.name in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((4, 5, 7), (4, 5, 7, 1)),
        ((4, 5, 7, 1), None),
        ((4, 5, 7, 2), None),
        ((4, 5, 7, 3), None),
        ((4, 1, 1, 4), None),
    ],
)
def test_uint8_arrays_are_images(tmp_path, shape, expected):
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    data = load(tmp_path / "x.npy")
    assert (
        data.x.dtype == np.uint8 and data.x.shape == (expected or shape) and data.x.tobytes() == x.tobytes()
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.bool_, ">f8"])
def test_everything_else_is_float32(tmp_path, dtype):
    x = np.arange(12).reshape(3, 4).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    data = load(tmp_path / "x.npy")
    assert data.x.dtype == np.float32 and np.array_equal(data.x, x.astype(np.float32)) and data.labels is None


@given(
    x=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=1, max_dims=4),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_floats_survive_bit_for_bit(tmp_path_factory, x):
    path = tmp_path_factory.mktemp("a") / "x.npy"
    np.save(path, np.asfortranarray(x))
    assert load(path).x.tobytes() == x.tobytes()


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("never"),)


@pytest.mark.parametrize("kind", ["npy", "npz", "pickle"])
def test_pickles_are_never_loaded(tmp_path, monkeypatch, kind):
    mark = tmp_path / "was-run"
    monkeypatch.setattr(Bomb, "__reduce__", lambda self: (Path.touch, (mark,)))
    path = tmp_path / ("x.npz" if kind == "npz" else "x.npy")
    objects = np.array([Bomb(), Bomb()], dtype=object)
    if kind == "npy":
        np.save(path, objects, allow_pickle=True)
    elif kind == "npz":
        np.savez(path, x=objects)
    else:
        path.write_bytes(pickle.dumps(Bomb()))
    assert "pickled objects, which are never loaded" in refuses(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "x, reason",
    [
        (np.array([[1.0, np.nan], [np.inf, 2.0]]), "2 values that are not finite"),
        (np.array([1e300]), "1 values"),
        (np.zeros((0, 3)), "no items"),
        (np.float64(3), "no items"),
        (np.array(["a", "b"]), "<U1"),
        (np.ones((3, 2), complex), "complex128"),
        (np.zeros((2, 3, 8, 9), np.uint8), "channels last"),
    ],
)
def test_bad_arrays(tmp_path, x, reason):
    np.save(tmp_path / "x.npy", x)
    assert reason in refuses(tmp_path / "x.npy")


@pytest.mark.parametrize("keep", [0, 4, 50, 130, 200])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_truncated_arrays(tmp_path, suffix, keep):
    path = tmp_path / f"x.{suffix}"
    np.save(path, np.arange(100.0)) if suffix == "npy" else np.savez(path, x=np.arange(100.0))
    path.write_bytes(path.read_bytes()[:keep])
    refuses(path)


def test_npz_with_labels_words_and_splits(tmp_path):
    x = np.zeros((3, 2, 2, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, labels=np.array([1, 0, 1]), words=np.array(["a cat", "a dog"]))
    data = load(tmp_path / "a.npz")
    assert data.labels.tolist() == [1, 0, 1] and data.labels.dtype == np.int64 and data.caption(0) == "a dog"
    np.savez(tmp_path / "b.npz", pictures=x, captions=np.array(["a", "b", "c"]))
    assert load(tmp_path / "b.npz").captions == ("a", "b", "c")
    np.savez(
        tmp_path / "c.npz", x_train=x, y_train=np.array([0, 1, 2]), x_test=x[:1] + 1, y_test=np.array([2])
    )
    assert load(tmp_path / "c.npz").labels.tolist() == [0, 1, 2] and load(tmp_path / "c.npz").words == (
        "0",
        "1",
        "2",
    )
    test = load(tmp_path / "c.npz", "test")
    assert len(test) == 1 and test.x.max() == 1 and test.labels.tolist() == [2]
    assert "no split 'validation'" in refuses(tmp_path / "c.npz", "val")
    assert "no split 'test'" in refuses(tmp_path / "a.npz", "test")


@pytest.mark.parametrize(
    "content, reason",
    [
        ({"p": [1.0], "q": [1.0]}, "p, q"),
        ({}, "nothing"),
        ({"x": [1.0, 2.0], "labels": [0.5, 1]}, "labels"),
        ({"x": [1.0, 2.0], "labels": [0]}, "labels"),
        ({"x": [1.0, 2.0], "labels": [0, -1]}, "labels"),
        ({"x": [1.0, 2.0], "labels": [0, 2], "words": ["a", "b"]}, "label 2 has no word"),
        ({"x": [1.0, 2.0], "captions": ["a"]}, "captions"),
        ({"x": [1.0, 2.0], "captions": [1, 2]}, "captions"),
    ],
)
def test_bad_npz(tmp_path, content, reason):
    np.savez(tmp_path / "x.npz", **{key: np.array(value) for key, value in content.items()})
    assert reason in refuses(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "text", ["1,2.5\n-3,4e1\n", "height, width\n1,2.5\n-3,4e1", "\ufeff1,2.5\r\n-3,4e1\r\n\r\n"]
)
def test_csv(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    data = load(tmp_path / "t.csv")
    assert data.x.tolist() == [[1, 2.5], [-3, 40]] and data.x.dtype == np.float32


@pytest.mark.parametrize(
    "raw, reason",
    [
        (b"", "no rows"),
        (b"a,b\n", "no rows"),
        (b"1,2\n3\n", "columns"),
        (b"1,2\n3,x\n", "'x'"),
        (b"1,2\n3,\n", "string"),
        (b"1,nan\n", "not finite"),
        (b"\xff\xfe1", "UTF-8"),
    ],
)
def test_bad_csv(tmp_path, raw, reason):
    (tmp_path / "t.csv").write_bytes(raw)
    assert reason in refuses(tmp_path / "t.csv")


def test_what_is_not_data(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"1")
    assert ".npz" in refuses(tmp_path / "x.pt")
    assert "no file or folder" in refuses(tmp_path / "missing.npy")
    with pytest.raises(BadInput, match="did you mean 'mnist'"):
        load("mnis")


def test_digits8_is_real_fixed_and_disjoint():
    train, test = load("digits8"), load("digits8", "test")
    from sklearn.datasets import load_digits

    images = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    everything = {(x.tobytes(), int(y)) for x, y in zip(images, load_digits().target)}
    seen = [(x.tobytes(), int(y)) for d in (train, test) for x, y in zip(d.x, d.labels)]
    assert (len(train), len(test)) == (1497, 300) and len(seen) == 1797 and set(seen) == everything
    assert train.x.max() == 255 and train.x.shape[1:] == (8, 8, 1) and train.words[7] == "a handwritten seven"
    assert np.bincount(test.labels).min() >= 20
    assert train.sha256 == "52aa7b3d20cc66bcf308008ae1b55ebae369ad7b5f8ef7fd439b0b0c27225b53"
    with pytest.raises(BadInput, match="accepted: train, test"):
        load("digits8", "val")
