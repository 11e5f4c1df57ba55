"""Pictures and masks: every common kind of file opens as what it shows, what cannot be used is told in a
line, and pasting is exact.
"""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unnoise.errors import BadInput
from unnoise.media.pictures import LIMIT, Picture, pasted, read, read_mask, resized


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(path, image: Image.Image, **how):
    image.save(path, **how)
    return path


def test_rgb_opens_as_it_is(tmp_path):
    a = noise(5, 7, 3)
    for p in (saved(tmp_path / "a.png", Image.fromarray(a)), a, Image.fromarray(a), str(tmp_path / "a.png")):
        assert np.array_equal(read(p).pixels, a) and read(p).alpha is None and read(p).size == (5, 7)


def test_transparent_parts_lie_on_white_and_alpha_is_kept(tmp_path):
    a = noise(4, 6, 4)
    a[0, 0, 3], a[1, 1, 3] = 0, 255
    p = read(saved(tmp_path / "a.png", Image.fromarray(a)))
    assert (
        np.array_equal(p.alpha, a[..., 3])
        and (p.pixels[0, 0] == 255).all()
        and np.array_equal(p.pixels[1, 1], a[1, 1, :3])
    )
    assert np.array_equal(p.whole(), a)  # the colours under transparent parts too
    a[..., 3] = 255
    assert read(a).alpha is None


def test_palette_grey_bilevel_and_sixteen_bits(tmp_path):
    a = noise(6, 5, 3)
    palette = Image.fromarray(a).quantize(16)
    assert np.array_equal(read(saved(tmp_path / "p.png", palette)).pixels, np.asarray(palette.convert("RGB")))
    clear = Image.fromarray(noise(6, 5) % 4, "P")
    clear.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3])
    p = read(saved(tmp_path / "t.png", clear, transparency=2))
    assert p.alpha is not None and set(np.unique(p.alpha)) == {0, 255}
    grey = noise(6, 5)
    assert np.array_equal(
        read(saved(tmp_path / "g.png", Image.fromarray(grey))).pixels, np.repeat(grey[..., None], 3, 2)
    )
    deep = np.random.default_rng(1).integers(0, 65536, (6, 5)).astype(np.uint16)
    assert np.array_equal(
        read(saved(tmp_path / "d.png", Image.fromarray(deep))).pixels[..., 0],
        np.round(deep / 257).astype(np.uint8),
    )


def test_exif_turns_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    a = np.zeros((4, 8, 3), np.uint8)
    a[:, :4] = 255
    p = read(saved(tmp_path / "e.png", Image.fromarray(a), exif=exif))
    assert p.size == (8, 4) and (p.pixels[:4] == 255).all() and (p.pixels[4:] == 0).all()


def test_what_cannot_be_read_is_told_in_one_line(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    saved(tmp_path / "wide.png", Image.new("1", (LIMIT + 1, 1)))
    saved(tmp_path / "huge.png", Image.new("1", (10_000, 10_000)))
    for name, said in {
        "cut.png": "cannot be read",
        "text.png": "cannot be read",
        "empty.png": "cannot be read",
        "none.png": "no picture",
        ".": "folder",
        "wide.png": "at most 8192",
        "huge.png": "8192",
    }.items():
        with pytest.raises(BadInput, match=said) as e:
            read(tmp_path / name)
        assert "\n" not in str(e.value)
    for a in (
        np.zeros((3, 3), np.float32),
        np.zeros((0, 3, 3), np.uint8),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros(4, np.uint8),
    ):
        with pytest.raises(BadInput, match="uint8"):
            read(a)


def test_masks(tmp_path):
    picture = Picture(noise(4, 6, 3))
    m = np.zeros((4, 6), np.uint8)
    with pytest.raises(BadInput, match="empty"):
        read_mask(m, picture)
    m[1, 2], m[2, 3] = 255, 128
    mask = read_mask(m, picture)
    assert mask[1, 2] == 1 and 0.4 < mask[2, 3] < 0.6 and (mask > 0).sum() == 2
    assert read_mask(np.full((4, 6), 255, np.uint8), picture).min() == 1  # all white: everything changes
    hole = np.full((4, 6, 4), 255, np.uint8)
    hole[0, 1, 3] = 0
    assert read_mask(hole, picture)[0, 1] == 1 and read_mask(hole, picture).sum() == 1
    with pytest.raises(BadInput, match="5 x 4 pixels, the picture 6 x 4"):
        read_mask(np.ones((4, 5), np.uint8), picture)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**31), st.booleans())
def test_outside_the_mask_bytes_stay(h, w, seed, transparent):
    rng = np.random.default_rng(seed)
    given_ = rng.integers(0, 256, (h, w, 4 if transparent else 3), dtype=np.uint8)
    picture = read(given_)
    mask = np.where(rng.random((h, w)) < 0.5, 0.0, rng.random((h, w)))
    mask[rng.random((h, w)) < 0.3] = 1.0
    new = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    out = pasted(picture, new, mask)
    assert np.array_equal(out[mask == 0], given_[mask == 0]) and np.array_equal(
        out[mask == 1][:, :3], new[mask == 1]
    )
    low, high = np.minimum(picture.pixels, new), np.maximum(picture.pixels, new)
    some = mask > 0
    assert ((out[..., :3] >= low) & (out[..., :3] <= high))[some].all()


def test_resizing_to_the_same_size_is_nothing():
    a = noise(9, 4, 3)
    assert resized(a, (9, 4)) is a and resized(a, (3, 2)).shape == (3, 2, 3)
