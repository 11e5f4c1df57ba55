import json

import numpy as np
import pytest
from PIL import Image

from unnoise.data import load
from unnoise.errors import BadInput

RNG = np.random.default_rng(0)


def pixels(h=5, w=7, c=3):
    return RNG.integers(0, 256, (h, w, c), dtype=np.uint8)


def save(path, x, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(x[..., 0] if x.ndim == 3 and x.shape[2] == 1 else x).save(path, **options)
    return x


def refuses(path, split="train"):
    with pytest.raises(BadInput) as error:
        load(path, split)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (9, 2)])
def test_lossless_files_come_back_exactly(tmp_path, channels, size):
    xs = [save(tmp_path / f"{i}.png", pixels(*size, channels)) for i in range(3)]
    data = load(tmp_path)
    assert data.x.shape == (3, *size, channels) and data.x.dtype == np.uint8
    assert np.array_equal(data.x, np.stack(xs))
    assert data.labels is None and data.captions is None and data.words == () and data.licence == "unknown"


def test_recursive_sorted_and_only_images(tmp_path):
    xs = {
        name: save(tmp_path / name, pixels())
        for name in ("b.png", "a/2.webp", "a/1.BMP", "z.png")
        if not name.endswith("webp")
    }
    xs["a/2.webp"] = pixels()
    Image.fromarray(xs["a/2.webp"]).save(tmp_path / "a/2.webp", lossless=True)
    save(tmp_path / ".thumbnails/b.png", pixels(2, 2))
    (tmp_path / "notes.md").write_text("not an image")
    data = load(str(tmp_path))
    assert np.array_equal(data.x, np.stack([xs[name] for name in ("a/1.BMP", "a/2.webp", "b.png", "z.png")]))
    assert data.labels is None  # some lie in no subfolder


def test_grey_among_colours_loses_nothing_and_opaque_alpha_is_dropped(tmp_path):
    grey, rgb = save(tmp_path / "1.png", pixels(c=1)), pixels()
    save(tmp_path / "2.png", np.concatenate([rgb, np.full((5, 7, 1), 255, np.uint8)], axis=2))
    assert np.array_equal(load(tmp_path).x, np.stack([np.repeat(grey, 3, axis=2), rgb]))


def test_palette_bilevel_and_sixteen_bits(tmp_path):
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    (tmp_path / "p").mkdir()
    Image.fromarray(colour).quantize(3).save(tmp_path / "p/1.png")
    assert np.array_equal(load(tmp_path / "p").x[0], colour)
    (tmp_path / "b").mkdir()
    Image.fromarray(np.array([[True, False, True]])).save(tmp_path / "b/1.png")
    assert load(tmp_path / "b").x[0, 0, :, 0].tolist() == [255, 0, 255]
    save(tmp_path / "s/1.png", np.array([[0, 257, 32896, 65535, 255, 128]], np.uint16))
    assert load(tmp_path / "s").x[0, 0, :, 0].tolist() == [
        0,
        1,
        128,
        255,
        1,
        0,
    ]  # scaled: a cut would say 255 for 257


def test_a_transparent_colour_is_alpha(tmp_path):
    Image.fromarray(np.array([[[9, 9, 9], [1, 2, 3]]], np.uint8)).save(
        tmp_path / "1.png", transparency=(9, 9, 9)
    )
    assert load(tmp_path).x[0].tolist() == [[[9, 9, 9, 0], [1, 2, 3, 255]]]


@pytest.mark.parametrize(
    "orientation, turn",
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.transpose(1, 0, 2)),
        (6, lambda x: np.rot90(x, -1)),
        (8, lambda x: np.rot90(x)),
        (7, lambda x: np.rot90(x, 2).transpose(1, 0, 2)),
    ],
)
def test_exif_rotation_is_applied(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    x = save(tmp_path / "1.png", pixels(5, 7), exif=exif)
    data = load(tmp_path)
    assert np.array_equal(data.x[0], turn(x))


def test_mixed_sizes_name_both_files_and_sizes(tmp_path):
    save(tmp_path / "a.png", pixels(5, 7)), save(tmp_path / "b.png", pixels(7, 5))
    said = refuses(tmp_path)
    assert "a.png is 7x5" in said and "b.png is 5x7" in said
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "b.png", pixels(7, 5), exif=exif)  # the same size once turned
    assert load(tmp_path).x.shape == (2, 5, 7, 3)


def test_no_images(tmp_path):
    assert "no images in" in refuses(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/readme.txt").write_text("x")
    assert str(tmp_path) in refuses(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.6])
def test_truncated_images_are_named(tmp_path, suffix, keep):
    save(tmp_path / "a.png", pixels(40, 40))
    broken = tmp_path / f"broken.{suffix}"
    save(broken, pixels(40, 40))
    raw = broken.read_bytes()
    broken.write_bytes(raw[: int(keep * len(raw))])
    assert f"{broken} cannot be read as a picture" in refuses(tmp_path)


def test_not_an_image_and_a_bomb(tmp_path):
    (tmp_path / "a.png").write_text("<html>404</html>")
    assert "a.png" in refuses(tmp_path)
    save(tmp_path / "a.png", pixels())
    raw = bytearray((tmp_path / "a.png").read_bytes())
    raw[16:24] = (60_000).to_bytes(4, "big") * 2  # a header that promises 3.6 gigapixels
    import zlib

    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(raw)
    assert "a.png" in refuses(tmp_path)


def test_float_images_run_from_0_to_1(tmp_path):
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    assert load(tmp_path).x[0, 0, :, 0].tolist() == [0, 128, 255]
    for bad in (1.5, -0.1, np.nan, np.inf):
        Image.fromarray(np.array([[0, bad, 1]], np.float32)).save(tmp_path / "a.tif")
        assert "a.tif" in refuses(tmp_path) and "from 0 to 1" in refuses(tmp_path)


def rows(path, *lines):
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8"
    )


def test_captions_from_metadata(tmp_path):
    save(tmp_path / "a/1.png", pixels()), save(tmp_path / "2.png", pixels())
    two, one = (
        {"file_name": "2.png", "text": "zwei Äpfel", "more": 1},
        {"file_name": "a/1.png", "text": "one"},
    )
    rows(tmp_path / "metadata.jsonl", two, "", one)
    data = load(tmp_path)
    assert (
        data.captions == ("zwei Äpfel", "one") and data.labels is None
    )  # in the order of the files, not of the rows
    assert data.caption(0) == "zwei Äpfel" and data.take([1, 1]).captions == ("one", "one")


@pytest.mark.parametrize(
    "lines, reason",
    [
        ([{"file_name": "1.png", "text": "one"}], "none for 2.png"),
        ([{"file_name": f"{i}.png", "text": "x"} for i in (1, 2, 3)], "'3.png'"),
        (
            [{"file_name": "1.png", "text": "x"}, {"file_name": "1.png", "text": "y"}],
            "line 2: a second caption",
        ),
        ([{"file_name": "1.png", "text": "x"}, "{broken"], "line 2: expected"),
        ([{"file_name": "1.png"}], "line 1: expected"),
        (["[1, 2]"], "line 1: expected"),
        (["null"], "line 1: expected"),
        ([{"file_name": "1.png", "text": 3}], "line 1: expected"),
        ([{"file_name": "../1.png", "text": "x"}], "../1.png"),
    ],
)
def test_bad_metadata(tmp_path, lines, reason):
    save(tmp_path / "1.png", pixels()), save(tmp_path / "2.png", pixels())
    rows(tmp_path / "metadata.jsonl", *lines)
    assert reason in refuses(tmp_path) and "metadata.jsonl" in refuses(tmp_path)


def test_captions_beside_the_images(tmp_path):
    save(tmp_path / "a/1.png", pixels()), save(tmp_path / "a/2.png", pixels())
    (tmp_path / "a/1.txt").write_text("\ufeffa café\n", encoding="utf-8")
    assert "1 of 2 images" in refuses(tmp_path) and "2.png" in refuses(tmp_path)
    (tmp_path / "a/2.txt").write_bytes(b"caf\xe9")
    assert "2.txt is not UTF-8" in refuses(tmp_path)
    (tmp_path / "a/2.txt").write_text("two")
    assert load(tmp_path).captions == ("a café", "two")


def test_class_folders_become_labels(tmp_path):
    for name in ("shoe/1", "ankle_boot/2", "ankle_boot/deep/3", "ankle_boot/1"):
        save(tmp_path / f"{name}.png", pixels())
    data = load(tmp_path)
    assert (
        data.words == ("ankle boot", "shoe")
        and data.labels.tolist() == [0, 0, 0, 1]
        and data.labels.dtype == np.int64
    )
    assert data.caption(3) == "shoe" and data.take([3, 0]).labels.tolist() == [1, 0]


def test_split_folders(tmp_path):
    train, test = (
        save(tmp_path / "train/cat/1.png", pixels()),
        save(tmp_path / "test/cat/1.png", pixels(3, 3)),
    )
    assert np.array_equal(load(tmp_path).x[0], train) and np.array_equal(load(tmp_path, "test").x[0], test)
    assert load(tmp_path).words == ("cat",)
    assert "accepted: test, train" in refuses(tmp_path, "validation")
    save(tmp_path / "bus/1.png", pixels(3, 3))
    assert "beside them 'bus'" in refuses(tmp_path)
    save(tmp_path / "wheels/bus/1.png", pixels(3, 3)), save(tmp_path / "wheels/train/1.png", pixels(3, 3))
    assert load(tmp_path / "wheels").words == ("bus", "train")  # the train that runs on rails
    assert "accepted: train" in refuses(tmp_path / "wheels", "test")


def test_sha256_tells_content_not_place(tmp_path):
    a = save(tmp_path / "a/1.png", pixels())
    save(tmp_path / "b/x.bmp", a)
    assert load(tmp_path / "a").sha256 == load(tmp_path / "b").sha256
    save(tmp_path / "b/x.bmp", a ^ 1)
    assert load(tmp_path / "a").sha256 != load(tmp_path / "b").sha256
    (tmp_path / "a/1.txt").write_text("one")
    one = load(tmp_path / "a").sha256
    (tmp_path / "a/1.txt").write_text("two")
    assert load(tmp_path / "a").sha256 != one
