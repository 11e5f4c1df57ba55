"""The one opener of pictures: each kind of file as what it shows, each fault in one line, nothing on the
terminal.
"""

import io
import logging
import os
import random
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from tests.support import profiles
from unnoise.base import picture
from unnoise.base.picture import opened, png_text, size_of, without_opaque_alpha
from unnoise.errors import BadInput

TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def raw(image: Image.Image, kind: str, **how) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def png(w: int, h: int, depth: int, colour: int, rows: list[bytes], **chunks: bytes) -> bytes:
    """A PNG written by hand."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0))
    extra = b"".join(chunk(k.encode(), v) for k, v in chunks.items())
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r for r in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + extra + body + chunk(b"IEND", b"")


def said(given, word: str = "") -> str:
    """The one line with which a picture is refused."""
    with pytest.raises(BadInput) as e:
        opened(given)
    assert word in str(e.value) and "\n" not in str(e.value)
    return str(e.value)


# --- depth: by mode and format, never by content ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("top", [65535, 1000, 257, 256, 255, 200, 128, 1])
def test_sixteen_bits_are_scaled_alike_whatever_their_largest_value(kind, top):
    a = np.linspace(0, top, 48).reshape(6, 8).astype(np.uint16)
    shown = np.asarray(opened(raw(Image.fromarray(a), kind)))
    assert np.array_equal(shown, np.round(a / 257).astype(np.uint8))


def test_every_sixteen_bit_value_to_the_nearest():
    a = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(
        np.asarray(opened(Image.fromarray(a))), np.round(a.astype(np.float64) / 257).astype(np.uint8)
    )


def test_big_endian_sixteen_bits():
    im = Image.frombytes("I;16B", (2, 1), struct.pack(">HH", 257, 65535))
    assert np.asarray(opened(im)).tolist() == [[1, 255]]
    assert np.asarray(opened(raw(im, "TIFF"))).tolist() == [[1, 255]]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits_spreads_to_eight(depth):
    most = 2**depth - 1
    row = bytes([0b01000000 if depth == 1 else most << (8 - 2 * depth)])  # values 0 and most
    assert np.asarray(opened(png(2, 1, depth, 0, [row]))).tolist() == [[0, 255]]


def test_sixteen_bit_colours_are_their_upper_bytes():
    values = [0, 300, 65535, 256, 255, 40000]
    a = np.asarray(opened(png(2, 1, 16, 2, [struct.pack(">6H", *values)])))
    assert a.tolist() == [[[v >> 8 for v in values[:3]], [v >> 8 for v in values[3:]]]]


@pytest.mark.parametrize("top", [1.0, 0.5, 0.001])
def test_floats_from_0_to_1(top):
    a = np.linspace(0, top, 48).reshape(6, 8).astype(np.float32)
    assert np.array_equal(
        np.asarray(opened(raw(Image.fromarray(a), "TIFF"))),
        np.round(a.astype(np.float64) * 255).astype(np.uint8),
    )
    assert np.array_equal(
        np.asarray(opened(Image.fromarray(a))), np.round(a.astype(np.float64) * 255).astype(np.uint8)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.01, 1.01, 255, 1e30])
def test_floats_beyond_are_refused_and_told(bad):
    a = np.full((4, 4), 0.5, np.float32)
    a[1, 2] = bad
    for given in (Image.fromarray(a), raw(Image.fromarray(a), "TIFF")):
        assert "0 to 1" in said(given, "floating-point")
    said(Image.fromarray(np.full((2, 2), bad, np.float32)), "floating-point")


def test_a_pfm_is_a_float():
    a = np.linspace(0, 1, 6, dtype="<f4").reshape(2, 3)
    assert np.array_equal(
        np.asarray(opened(b"Pf\n3 2\n-1.0\n" + a[::-1].tobytes())), np.round(a * 255).astype(np.uint8)
    )


@pytest.mark.parametrize("low, high", [(0, 2**31 - 1), (-1000, 1000), (0, 255), (0, 65535)])
def test_int32_is_refused_whatever_is_in_it(low, high):
    a = np.linspace(low, high, 16).reshape(4, 4).astype(np.int32)
    for given in (Image.fromarray(a), raw(Image.fromarray(a), "TIFF")):
        said(given, "32-bit whole numbers")


# --- transparency -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "depth, row, value",
    [
        (1, b"\x40", 1),
        (2, b"\x60", 1),
        (4, b"\x35", 3),
        (8, b"\x03\x05", 3),
        (16, struct.pack(">HH", 300, 40000), 300),
    ],
)
def test_a_transparent_grey_at_every_depth(depth, row, value):
    image = opened(png(2, 1, depth, 0, [row], tRNS=struct.pack(">H", value)))
    clear = [255, 0] if depth == 1 else [0, 255]
    assert image.mode == "LA" and np.asarray(image)[0, :, 1].tolist() == clear


def test_a_transparent_colour_of_8_and_16_bits():
    eight = opened(png(2, 1, 8, 2, [bytes((9, 8, 7, 1, 2, 3))], tRNS=struct.pack(">3H", 9, 8, 7)))
    deep = opened(
        png(2, 1, 16, 2, [struct.pack(">6H", 300, 0, 0, 40000, 0, 0)], tRNS=struct.pack(">3H", 300, 0, 0))
    )
    assert np.asarray(eight)[0, :, 3].tolist() == np.asarray(deep)[0, :, 3].tolist() == [0, 255]


def test_palettes_with_and_without_transparency():
    image = Image.fromarray(noise(6, 5) % 4, "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3])
    index = np.asarray(image)
    plain = opened(raw(image, "PNG"))
    assert plain.mode == "RGB" and np.array_equal(np.asarray(plain), np.asarray(image.convert("RGB")))
    one = np.asarray(opened(raw(image, "PNG", transparency=2)))
    assert np.array_equal(one[..., 3], np.where(index == 2, 0, 255)) and np.array_equal(
        one[..., :3], np.asarray(plain)
    )
    table = np.asarray(opened(raw(image, "PNG", transparency=bytes([255, 128, 7, 0]))))
    assert np.array_equal(table[..., 3], np.array([255, 128, 7, 0], np.uint8)[index])
    assert np.array_equal(
        np.asarray(opened(raw(image, "GIF", transparency=1)))[..., 3], np.where(index == 1, 0, 255)
    )


@pytest.mark.parametrize(
    "mode, wanted",
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "LA"),
        ("La", "LA"),
        ("P", "RGB"),
        ("PA", "RGBA"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("RGBa", "RGBA"),
        ("RGBX", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("HSV", "RGB"),
        ("LAB", "RGB"),
        ("I;16", "L"),
        ("I;16L", "L"),
        ("I;16B", "L"),
        ("F", "L"),
    ],
)
def test_every_mode_of_pillow_comes_as_a_plain_one(mode, wanted):
    image = Image.new(mode, (3, 2))
    out = opened(image)
    assert (out.mode, out.size, out.info) == (wanted, (3, 2), {}) and image.mode == mode


def test_opaque_alpha_is_dropped_when_asked():
    a = noise(3, 3, 4)
    a[..., 3] = 255
    assert (
        opened(Image.fromarray(a)).mode == "RGBA"
        and without_opaque_alpha(opened(Image.fromarray(a))).mode == "RGB"
    )
    a[0, 0, 3] = 254
    assert without_opaque_alpha(opened(Image.fromarray(a))).mode == "RGBA"
    assert (
        without_opaque_alpha(Image.new("LA", (2, 2), (7, 255))).mode == "L"
        and without_opaque_alpha(Image.new("L", (2, 2))).mode == "L"
    )


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    for ink, colour in (
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 255, 0), (0, 255, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 0, 0, 0), (255, 255, 255)),
    ):
        a = np.asarray(opened(raw(Image.new("CMYK", (16, 16), ink), kind)), np.int64)
        assert a.shape == (16, 16, 3) and np.abs(a - colour).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame(kind, tmp_path):
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "green", "blue")]
    file = tmp_path / "a"
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    for given in (file, file.read_bytes(), Image.open(file)):
        a = np.asarray(opened(given).convert("RGB"), np.int64)
        assert np.abs(a - (255, 0, 0)).max() < 12


def test_of_a_given_animation_the_present_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as image:
        image.seek(1)
        assert np.asarray(opened(image).convert("RGB"))[0, 0].tolist() == [0, 0, 255]


# --- upright ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_exif_says_however_it_is_given(kind, orientation, tmp_path):
    a = np.zeros((32, 48, 3), np.uint8)  # four fields, each of another brightness
    a[:16, :24], a[:16, 24:], a[16:, :24] = 255, 170, 85
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "a"
    Image.fromarray(a).save(file, kind, exif=exif, **({"quality": 100} if kind != "TIFF" else {}))
    wanted = TURNS[orientation](a)
    loaded = Image.open(file)
    loaded.load()
    for given in (file, str(file), file.read_bytes(), Image.open(file), loaded, Image.open(file).copy()):
        image = opened(given)
        assert image.size == (wanted.shape[1], wanted.shape[0])
        assert np.abs(np.asarray(image, np.int64) - wanted)[2:-2, 2:-2].mean() < 8
        assert opened(image).size == image.size and np.array_equal(
            np.asarray(opened(image)), np.asarray(image)
        )  # not twice
    assert size_of(file) == (wanted.shape[1], wanted.shape[0], True, False)


def test_turning_by_xmp_and_of_palettes_and_deep_grey():
    exif = Image.Exif()
    exif[0x0112] = 6
    for image in (
        Image.fromarray(noise(4, 8) % 4, "P"),
        Image.fromarray(noise(4, 8).astype(np.uint16) * 257),
        Image.fromarray(noise(4, 8, 4)),
    ):
        if image.mode == "P":
            image.putpalette(noise(12).tolist())
        straight, turned = opened(raw(image, "PNG")), opened(raw(image, "PNG", exif=exif))
        assert np.array_equal(np.asarray(turned), np.rot90(np.asarray(straight), -1))


@pytest.mark.parametrize("bad", [0, 9, 99, 65535])
def test_an_unknown_orientation_is_none(bad):
    exif = Image.Exif()
    exif[0x0112] = bad
    assert opened(raw(Image.new("RGB", (8, 4)), "PNG", exif=exif)).size == (8, 4)


def test_a_broken_exif_makes_no_picture_unreadable():
    whole = Image.fromarray(noise(4, 8, 3))
    for exif in (
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\x01",
        b"nonsense",
    ):
        assert np.array_equal(np.asarray(opened(raw(whole, "PNG", exif=exif))), np.asarray(whole))


# --- colours ------------------------------------------------------------------------------------------------


def by_hand(image: Image.Image, profile: bytes) -> np.ndarray:
    """What lcms says, asked directly."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    made = ImageCms.profileToProfile(
        image,
        source,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert made is not None
    return np.asarray(made)


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] as sRGB (IEC 61966-2-1), 0 to 255."""
    v = linear.clip(0, 1)
    return 255 * np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_another_rgb_profile_is_converted_in_every_format(kind):
    profile = profiles.rgb()
    how = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    file = raw(Image.fromarray(noise(16, 16, 3)), kind, icc_profile=profile, **how)
    stored = Image.open(io.BytesIO(file)).convert("RGB")
    assert np.array_equal(np.asarray(opened(file)), by_hand(stored, profile))
    assert np.array_equal(np.asarray(opened(Image.open(io.BytesIO(file)))), by_hand(stored, profile))
    assert np.abs(np.asarray(opened(file), np.int64) - np.asarray(stored, np.int64)).max() > 20


def test_the_conversion_is_that_of_the_formulas():
    a = noise(8, 8, 3)
    xyz = (a / 255.0) ** (563 / 256) @ np.array(profiles.ADOBE)
    to_srgb = np.array(
        [
            [3.1338561, -1.6168667, -0.4906146],
            [-0.9787684, 1.9161415, 0.0334540],
            [0.0719453, -0.2289914, 1.4052427],
        ]
    )  # Lindbloom, D50
    wanted = encoded(xyz @ to_srgb.T)
    got = np.asarray(opened(raw(Image.fromarray(a), "PNG", icc_profile=profiles.rgb())), np.float64)
    assert np.abs(got - wanted).max() < 2.5


@pytest.mark.parametrize("name", ["by hand", "almost sRGB", "Linear sRGB"])
def test_a_profile_is_known_by_what_it_does_not_by_its_name(name):
    a = noise(8, 8, 3)
    srgb = profiles.rgb(
        ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)), 1.0, name
    )
    got = np.asarray(opened(raw(Image.fromarray(a), "PNG", icc_profile=srgb)), np.float64)
    assert np.abs(got - encoded(a / 255)).max() < 2


def test_srgb_itself_changes_no_byte():
    a = noise(32, 32, 3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(np.asarray(opened(raw(Image.fromarray(a), "PNG", icc_profile=profile))), a)


@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_grey_profiles(gamma):
    a = noise(8, 8)
    image = opened(raw(Image.fromarray(a), "PNG", icc_profile=profiles.grey(gamma)))
    assert image.mode == "L" and np.array_equal(
        np.asarray(image), by_hand(Image.fromarray(a), profiles.grey(gamma))[..., 0]
    )
    off = np.abs(np.asarray(image, np.float64) - encoded((a / 255) ** gamma))
    assert (
        off[a > 32].max() < 2 and off.max() < 10
    )  # lcms itself is coarse where a curve is steep, near black


def test_alpha_and_palettes_are_carried_through_a_profile():
    a = noise(8, 8, 4)
    got = np.asarray(opened(raw(Image.fromarray(a), "PNG", icc_profile=profiles.rgb())))
    assert np.array_equal(got[..., 3], a[..., 3]) and np.array_equal(
        got[..., :3], by_hand(Image.fromarray(a[..., :3].copy()), profiles.rgb())
    )
    image = Image.fromarray(noise(6, 5) % 4, "P")
    image.putpalette([10, 20, 30, 40, 250, 60, 70, 80, 90, 1, 2, 3])
    got = np.asarray(opened(raw(image, "PNG", icc_profile=profiles.rgb(), transparency=2)))
    assert np.array_equal(got[..., 3], np.where(np.asarray(image) == 2, 0, 255))
    assert np.array_equal(got[..., :3], by_hand(image.convert("RGB"), profiles.rgb()))
    grey = Image.fromarray(noise(4, 4, 2), "LA")
    assert np.array_equal(
        np.asarray(opened(raw(grey, "PNG", icc_profile=profiles.grey(1.0))))[..., 1], np.asarray(grey)[..., 1]
    )


def test_a_printers_profile():
    image = Image.new("CMYK", (4, 4), (200, 100, 50, 0))
    for file in (
        raw(image, "TIFF", icc_profile=profiles.cmyk()),
        raw(image, "JPEG", icc_profile=profiles.cmyk()),
    ):
        a = np.asarray(opened(file), np.int64)
        assert (a == a[..., :1]).all() and 220 < a.mean() < 235  # the paper's L of 90 alone: 226


@pytest.mark.parametrize(
    "profile",
    [
        b"x",
        b"",
        bytes(200),
        profiles.rgb()[:300],
        profiles.rgb()[:128] + bytes(400),
        profiles.cmyk(),
        profiles.grey(1.0),
    ],
)
def test_a_broken_profile_or_one_of_other_colours_changes_nothing(profile):
    a = noise(4, 4, 3)
    assert np.array_equal(np.asarray(opened(raw(Image.fromarray(a), "PNG", icc_profile=profile))), a)


# --- what is refused ----------------------------------------------------------------------------------------

FILES = {
    "png": ("PNG", {}),
    "jpeg": ("JPEG", {}),
    "webp": ("WEBP", {}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "ppm": ("PPM", {}),
    "avif": ("AVIF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_refused_or_whole(name, capfd):
    kind, how = FILES[name]
    file = raw(Image.fromarray(noise(12, 16, 3)), kind, **how)
    whole = np.asarray(opened(file))
    for n in range(0, len(file), 3):
        try:
            assert np.array_equal(np.asarray(opened(file[:n])), whole), (
                f"taken as whole after {n} of {len(file)} bytes"
            )
        except BadInput as e:
            assert "cannot be read" in str(e) or "nothing is in it" in str(e)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", FILES)
def test_changed_bytes_never_crash_and_never_write_to_the_terminal(name, capfd):
    kind, how = FILES[name]
    file, chance = raw(Image.fromarray(noise(12, 16, 3)), kind, **how), random.Random(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(300):
            bad = bytearray(file)
            for _ in range(chance.choice((1, 2, 8))):
                bad[chance.randrange(len(bad) if chance.random() < 0.5 else min(200, len(bad)))] = (
                    chance.randrange(256)
                )
            try:
                image = opened(bytes(bad))
            except BadInput as e:
                assert "\n" not in str(e) and len(str(e)) < 400
            else:
                assert image.mode in ("L", "LA", "RGB", "RGBA")
    assert capfd.readouterr() == ("", "")


def test_another_librarys_switches_do_not_count(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    file = raw(Image.fromarray(noise(64, 64, 3)), "PNG")
    said(file[: len(file) // 2], "cannot be read")
    said(raw(Image.new("1", (8000, 8000)), "PNG"), "8000 x 8000")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize(
    "w, h", [(8193, 1), (1, 8193), (8192, 8192), (100_000, 100_000), (2**31 - 1, 2**31 - 1), (50_000, 2)]
)
def test_bombs_are_refused_before_they_are_decoded(w, h):
    file = png(w, h, 8, 0, [b""])
    assert "at most 8192 a side and 50 million" in said(file)
    assert len(file) < 200


def test_bombs_of_other_kinds():
    said(png(2, 2, 8, 0, [b"ab", b"cd"], zTXt=b"a\0\0" + zlib.compress(bytes(70_000_000))), "cannot be read")
    said(png(2, 2, 8, 0, [b"ab", b"cd"], iCCP=b"a\0\0" + zlib.compress(bytes(3_000_000))), "cannot be read")
    bmp = bytearray(raw(Image.new("RGB", (2, 2)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    said(bytes(bmp), "at most 8192")


def test_other_formats_are_not_asked(tmp_path):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    pictures = {
        kind: raw(Image.new("RGB", (8, 8)), kind) for kind in ("TGA", "PCX", "ICO", "SGI", "DDS", "JPEG2000")
    }
    pictures |= {
        "EPS": eps,
        "BLP": b"BLP2" + bytes(200),
        "FLI": struct.pack("<IHHHHHHI", 128, 0xAF11, 1, 8, 8, 8, 0, 0) + bytes(200),
        "PDF": b"%PDF-1.4\n",
        "SVG": b"<svg/>",
        "text": b"no picture",
        "nothing": b"",
        "XBM": b"#define a_width 8\n#define a_height 8\n",
    }
    for name, file in pictures.items():
        for given in (file, tmp_path / f"{name}.png"):
            if not isinstance(given, bytes):
                given.write_bytes(file)
            assert "none of PNG, JPEG, WEBP, GIF, BMP, TIFF, PPM" in said(given), name


def test_no_other_plug_in_is_even_loaded():
    code = (
        "import sys; from unnoise.base.picture import opened\n"
        "from unnoise.errors import BadInput\n"
        "try: opened(b'%!PS-Adobe-3.0 EPSF-3.0\\n')\n"
        "except BadInput: pass\n"
        "print(*sorted(m for m in sys.modules if m.startswith('PIL.') and m.endswith('ImagePlugin')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {
        f"PIL.{n}ImagePlugin" for n in ("Avif", "Bmp", "Gif", "Jpeg", "Ppm", "Png", "Tiff", "WebP")
    }
    assert done.stderr == ""


def test_no_file_a_folder_a_pipe_a_device_a_circle_of_links(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    cases = {
        tmp_path / "none.png": "no picture at",
        tmp_path: "is a folder",
        tmp_path / "pipe": "no regular file",
        "/dev/zero": "no regular file",
        "/dev/null": "no regular file",
        tmp_path / "a": "links",
        tmp_path / "dangling": "no picture at",
        "": "is a folder",
        "a\0b": "cannot read",
        "x" * 5000: "cannot read",
        tmp_path / "none" / "a.png": "no picture at",
    }
    for path, word in cases.items():
        said(path, word)
        for look in (size_of, png_text):
            with pytest.raises(BadInput, match=word):
                look(path)


@pytest.mark.parametrize("given", [None, 5, 2.5, ["a.png"], {}, object(), np.zeros((2, 2, 3), np.uint8)])
def test_something_else_than_a_picture_is_told(given):
    said(given, "name of a file, bytes or a PIL image")


def test_a_closed_image_and_an_empty_one():
    image = Image.open(io.BytesIO(raw(Image.new("RGB", (4, 4)), "PNG")))
    image.close()
    said(image, "cannot be read")
    said(Image.new("RGB", (0, 4)), "nothing is in it")


def test_pillows_log_reaches_nobody_who_did_not_ask(capfd):
    logging.getLogger("PIL.TiffImagePlugin").error("a word")
    opened(Image.new("L", (2, 2)))
    capfd.readouterr()
    logging.getLogger("PIL.TiffImagePlugin").error("another word")
    assert capfd.readouterr().err == ""


# --- from the header alone, texts, threads ------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode, colour, alpha",
    [
        ("1", False, False),
        ("L", False, False),
        ("LA", False, True),
        ("P", True, False),
        ("RGB", True, False),
        ("RGBA", True, True),
        ("I;16", False, False),
    ],
)
def test_size_of_says_what_opened_will_give(mode, colour, alpha, tmp_path):
    file = tmp_path / "a.png"
    Image.new(mode, (5, 3)).save(file)
    assert size_of(file) == (5, 3, colour, alpha)
    image = opened(file)
    assert (image.size, image.mode in ("RGB", "RGBA"), image.mode in ("LA", "RGBA")) == (
        (5, 3),
        colour,
        alpha,
    )


def test_texts_of_a_png_wherever_they_stand(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("unnoise", '{"a": 1}')
    info.add_itxt("other", "größe")
    file = tmp_path / "a.png"
    Image.new("L", (2, 2)).save(file, pnginfo=info)
    assert png_text(file) == {"unnoise": '{"a": 1}', "other": "größe"}
    whole = file.read_bytes()
    text = b"tEXtlate\0here"
    late = struct.pack(">I", 9) + text + struct.pack(">I", zlib.crc32(text))
    file.write_bytes(whole[:-12] + late + whole[-12:])  # after the pixels
    assert png_text(file)["late"] == "here"
    Image.new("L", (2, 2)).save(tmp_path / "a.gif")
    assert png_text(tmp_path / "a.gif") == {}


def test_a_picture_given_twice_at_once_from_threads():
    files = [raw(Image.fromarray(noise(16, 16, 3, seed=i)), "PNG") for i in range(8)]
    wrong = []

    def look(i: int) -> None:
        for _ in range(20):
            if not np.array_equal(np.asarray(opened(files[i])), noise(16, 16, 3, seed=i)):
                wrong.append(i)

    threads = [threading.Thread(target=look, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and picture.FORMATS[0] == "PNG"


def test_the_image_that_is_given_stays_as_it_was():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = raw(Image.fromarray(noise(4, 8, 3)), "PNG", exif=exif, icc_profile=profiles.rgb())
    given = Image.open(io.BytesIO(file))
    out = opened(given)
    assert (
        given.size == (8, 4) and given.getexif()[0x0112] == 6 and given.info["icc_profile"] == profiles.rgb()
    )
    out.putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(np.asarray(given), noise(4, 8, 3))
