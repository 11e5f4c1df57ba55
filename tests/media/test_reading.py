"""Pictures and masks that edits are given go through the one opener, whatever they are given as."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.support import profiles
from unnoise.errors import BadInput
from unnoise.media.pictures import Picture, read, read_mask


def raw(image: Image.Image, kind: str = "PNG", **how) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def ways(file: bytes, path):
    """The same picture as a file, a name, bytes, an open PIL image and a loaded one."""
    path.write_bytes(file)
    loaded = Image.open(path)
    loaded.load()
    return path, str(path), file, Image.open(path), loaded


@pytest.mark.parametrize("top", [65535, 1000, 256, 255, 100])
def test_depth_is_told_by_mode_alone(top, tmp_path):
    a = np.linspace(0, top, 64).reshape(8, 8).astype(np.uint16)
    for given in (
        *ways(raw(Image.fromarray(a)), tmp_path / "a.png"),
        *ways(raw(Image.fromarray(a), "TIFF"), tmp_path / "a.tif"),
        Image.fromarray(a),
    ):
        assert np.array_equal(read(given).pixels[..., 0], np.round(a / 257).astype(np.uint8))


def test_turned_once_however_given(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    a = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    for given in ways(raw(Image.fromarray(a), exif=exif), tmp_path / "a.png"):
        assert np.array_equal(read(given).pixels, np.rot90(a, -1))
    mask = Image.fromarray((a[..., 0] > 100).astype(np.uint8) * 255)
    picture = read(raw(Image.fromarray(a), exif=exif))
    assert np.array_equal(read_mask(raw(mask, exif=exif), picture), np.rot90(np.asarray(mask) > 0, -1))


def test_profiles_are_obeyed_by_pictures_and_references(tmp_path):
    red = Image.new("RGB", (4, 4), (0, 255, 0))
    for given in ways(
        raw(Image.new("RGB", (4, 4), (200, 100, 50)), icc_profile=profiles.rgb()), tmp_path / "a.png"
    ):
        assert read(given).pixels[0, 0].tolist() != [200, 100, 50] and read(given).pixels[0, 0, 0] > 210
    assert read(red).pixels[0, 0].tolist() == [0, 255, 0]


def test_the_same_pixels_have_one_digest_however_stored(tmp_path):
    a = np.random.default_rng(0).integers(0, 256, (4, 8, 4), dtype=np.uint8)
    image = Image.fromarray(a)
    assert (
        len(
            {
                read(g).sha256
                for g in (
                    a,
                    image,
                    raw(image),
                    raw(image, "TIFF"),
                    raw(image, "WEBP", lossless=True, exact=True),
                )
            }
        )
        == 1
    )
    assert (
        read(tmp_path_file(tmp_path, raw(image))).path == str(tmp_path / "x.png")
        and read(image).path is None
        and read(raw(image)).path is None
    )


def tmp_path_file(folder, file: bytes):
    (folder / "x.png").write_bytes(file)
    return folder / "x.png"


@pytest.mark.parametrize(
    "given",
    [
        None,
        5,
        [1, 2],
        {"a": 1},
        object(),
        np.zeros((2, 2), np.float64),
        np.zeros((2, 2, 5), np.uint8),
        b"",
        b"x",
        "\0",
        Image.new("F", (2, 2), 7.0),
        Image.new("I", (2, 2)),
        np.array("a.png"),
        np.zeros((3, 0), np.uint8),
    ],
)
def test_what_is_no_picture_is_one_line(given):
    with pytest.raises(BadInput) as e:
        read(given)
    assert "\n" not in str(e.value)
    with pytest.raises(BadInput):
        read_mask(given, Picture(np.zeros((2, 2, 3), np.uint8)))


def test_arrays_are_limited_like_files():
    with pytest.raises(BadInput, match="8192 a side and 50 million"):
        read(np.zeros((8192, 6200), np.uint8))
    with pytest.raises(BadInput, match="8192"):
        read(np.zeros((1, 9000, 3), np.uint8))


def test_white_behind_what_is_transparent_row_by_row():
    a = np.random.default_rng(0).integers(
        0, 256, (700, 3, 4), dtype=np.uint8
    )  # more rows than are computed at once
    p = read(a)
    share = a[..., 3:] / 255.0
    assert np.array_equal(p.pixels, (a[..., :3] * share + 255 * (1 - share)).round().astype(np.uint8))
    m = read_mask(a[..., :3].copy(), p)
    assert m.shape == (700, 3) and np.allclose(m, a[..., :3] @ np.array([0.299, 0.587, 0.114]) / 255)
