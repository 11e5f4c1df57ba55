"""The one opener of pictures: from a file, bytes or a PIL image to 8 bits a channel in sRGB, upright, whole,
or one BadInput.

formats   PNG, JPEG, WebP, GIF, BMP, TIFF, PPM and AVIF, told by content; no other decoder is ever asked
size      at most MOST_SIDE pixels a side and MOST_PIXELS in all, looked at before anything is decoded
values    16-bit grey by 257, floats in [0, 1] by 255, to the nearest; 32-bit whole numbers have no known
          range: refused. Colours of 16 bits come as their upper bytes, which is all that Pillow gives
turned    as EXIF says; the tag is gone afterwards, so that nothing is turned twice
colours   an ICC profile other than sRGB is converted (lcms, relative colorimetric); a broken one is taken for
          sRGB
"""

from __future__ import annotations

import ctypes
import io
import logging
import os
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.text import one_line, short

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageCms import ImageCmsTransform

Source = str | os.PathLike[str] | bytes
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jfif",
    ".jpe",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".avif",
)
MOST_SIDE = 8192
MOST_PIXELS = 50_000_000
MOST_BYTES = 512 * 2**20
ROWS = 256  # of a picture that are computed with at once, so that wide numbers take little room
_SETTINGS = threading.RLock()  # Python's filters of warnings and Pillow's switches are the whole process's
_PLAIN = ("L", "LA", "RGB", "RGBA")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_ORIENTATION = 0x0112
_SWAPPED = (5, 6, 7, 8)  # the orientations that exchange width and height


def opened(given: Source | Image.Image, name: str | None = None) -> Image.Image:
    """The first frame of a picture, decoded, upright, of mode L, LA, RGB or RGBA; the original is left alone.

    given: a file's name, a file's bytes, or a PIL image (its present frame). `name` stands for it in messages
    (by default the path). BadInput: no such file, no picture of an accepted format, truncated, too large,
    values without a known range. Opaque alpha is kept: see `without_opaque_alpha`.
    """
    from PIL import Image

    name = name or _name(given)
    if not isinstance(given, Image.Image):
        with _file(given, name) as image:
            if image.format == "PNG":
                _check_png(given, name)
            return _converted(image, name)
    with _errors(name):
        _check_size(given, name)
        return _converted(given, name)


def size_of(path: str | os.PathLike[str]) -> tuple[int, int, bool, bool]:
    """(width, height, colour, alpha) of a picture as it will be once upright, from its header alone.
    BadInput: see `opened`.
    """
    with _file(path, _name(path)) as image:
        w, h = image.size
        if image.format != "TIFF" and _orientation(image) in _SWAPPED:  # Pillow turns TIFFs by itself
            w, h = h, w
        return w, h, _is_colour(image), _has_alpha(image)


def png_text(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text entries of a PNG (its recipe is one of them); empty for another accepted format. BadInput: see
    `opened`.
    """
    with _file(path, _name(path)) as image:
        texts = getattr(image, "text", {})  # reads to the end of the file
        return {str(k): str(v) for k, v in texts.items()}


def without_opaque_alpha(image: Image.Image) -> Image.Image:
    """The image without an alpha channel that is 255 everywhere; otherwise as it is."""
    if image.mode not in ("LA", "RGBA") or image.getchannel("A").getextrema()[0] != 255:
        return image
    return image.convert(image.mode[:-1])


# --- opening ------------------------------------------------------------------------------------------------


@contextmanager
def _file(given: Source, name: str) -> Iterator[Image.Image]:
    """The picture in a file or in bytes, open and of an accepted size; whatever its decoder raises in the
    body is one BadInput.
    """
    from PIL import Image

    source = io.BytesIO(given) if isinstance(given, bytes) else _checked(given)
    with _errors(name), Image.open(source, formats=_formats()) as image:
        _check_size(image, name)
        yield image


def _checked(path: Any) -> Path:
    try:
        path = Path(path)
    except TypeError:
        raise BadInput(
            f"a picture must be the name of a file, bytes or a PIL image, given {short(path)}"
        ) from None
    size = read.regular(path, "picture").st_size
    if size > MOST_BYTES:
        raise BadInput(f"{path} has {size} bytes: a picture of at most {MOST_BYTES} is accepted")
    return path


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Pillow's own warnings, log lines and switches held off; whatever it raises becomes one line that names
    the picture.
    """
    from PIL import Image

    with _SETTINGS, warnings.catch_warnings(), _strict():
        warnings.simplefilter("ignore")
        try:
            yield
        except BadInput:
            raise
        except Image.DecompressionBombError:
            raise BadInput(f"{name} is too large: {_accepted()}") from None
        except (
            Exception
        ) as e:  # OSError, SyntaxError, ValueError, struct.error, …: Pillow promises none in particular
            raise BadInput(f"{name} cannot be read as a picture: {_why(e)}") from None


@contextmanager
def _strict() -> Iterator[None]:
    """Truncated files are errors, whatever another library has set; nothing of Pillow's or libtiff's reaches
    the terminal.
    """
    from PIL import ImageFile

    log = logging.getLogger("PIL")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    _quiet_tiff()
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@cache
def _quiet_tiff() -> None:
    """libtiff writes its complaints to the process's stderr itself: switch that off in the copy that Pillow
    has loaded (Linux).
    """
    from PIL import Image  # noqa: F401 - loads it

    with suppress(OSError, AttributeError, IndexError):
        maps = Path("/proc/self/maps").read_text(errors="replace").split("\n")
        for path in {line.split(maxsplit=5)[5] for line in maps if "/libtiff" in line}:
            library = ctypes.CDLL(path)
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)


def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this build of Pillow has; only their own modules are loaded."""
    from PIL import Image

    Image.preinit()
    for plugin in ("WebPImagePlugin", "TiffImagePlugin", "AvifImagePlugin"):
        with suppress(ImportError):
            __import__(f"PIL.{plugin}")
    return tuple(f for f in FORMATS if f in Image.OPEN)


def _check_size(image: Image.Image, name: str) -> None:
    w, h = image.size
    if max(w, h) > MOST_SIDE or w * h > MOST_PIXELS:
        raise BadInput(f"{name} has {w} x {h} pixels: {_accepted()}")
    if min(w, h) < 1:
        raise BadInput(f"{name} has {w} x {h} pixels: nothing is in it")


def _check_png(given: Source, name: str) -> None:
    """BadInput where a PNG ends before its last chunk, or a chunk of pixels is not what its check sum says:
    Pillow looks at neither.
    """
    with io.BytesIO(given) if isinstance(given, bytes) else open(given, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length = int.from_bytes(head[:4], "big")
            if head[4:] != b"IDAT":
                file.seek(length + 4, os.SEEK_CUR)
                continue
            body, told = file.read(length), file.read(4)
            if len(body) < length or len(told) < 4:
                break
            if zlib.crc32(body, zlib.crc32(b"IDAT")).to_bytes(4, "big") != told:
                raise BadInput(
                    f"{name} cannot be read as a picture: its pixels are damaged (a check sum is wrong)"
                )
        if head[4:] != b"IEND" or len(file.read(4)) < 4:
            raise BadInput(f"{name} cannot be read as a picture: it is truncated, its end is missing")


def _name(given: Any) -> str:
    return os.fspath(given) if isinstance(given, str | os.PathLike) else "the picture"


def _accepted() -> str:
    return f"at most {MOST_SIDE} a side and {MOST_PIXELS / 1e6:.0f} million in all are accepted"


def _why(e: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(e, UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}"
    return one_line(str(e), 200) or type(e).__name__


# --- what is in it ------------------------------------------------------------------------------------------


def _is_colour(image: Image.Image) -> bool:
    return image.mode not in ("1", "L", "LA", "La", "F", "I") and not image.mode.startswith("I;16")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _ALPHA or "transparency" in image.info


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 where there is none or none that can be read: a broken tag makes no picture unreadable."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as many kinds as for the picture itself
        return 1
    return found if isinstance(found, int) else 1


def _converted(file: Image.Image, name: str) -> Image.Image:
    """An image of one of the plain modes, upright and in sRGB, without any metadata; `file` is read and not
    changed.
    """
    clear = _clear_value(file)
    out = file.copy()  # decodes it
    turned, profile = _orientation(file), file.info.get("icc_profile")
    out.info = {} if clear is None else {"transparency": clear}
    if out.mode.startswith("I") or out.mode == "F":
        out = _eight(out, file.format, name)
    elif isinstance(profile, bytes) and profile:
        out = _to_srgb(out, profile)
    out = _upright(_plain(out), turned)
    out.info = {}
    return out


def _clear_value(file: Image.Image) -> Any:
    """What a file without an alpha channel says is transparent, in the units of Pillow's pixels; None where
    it says nothing.
    """
    value, tile = file.info.get("transparency"), getattr(file, "tile", None)
    layout = str(tile[0].args) if tile else ""
    if isinstance(value, int) and layout in (
        "L;2",
        "L;4",
    ):  # Pillow spreads the pixels over 8 bits, not this value
        return value * (85 if layout == "L;2" else 17)
    if isinstance(value, tuple) and (layout == "RGB;16B" or max(value, default=0) > 255):
        return tuple(v >> 8 for v in value)
    return value


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in _PLAIN and "transparency" not in image.info:
        return image
    if _has_alpha(image):
        return image.convert("LA" if image.mode in ("1", "L", "La") else "RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    from PIL.Image import Transpose

    ways = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(ways[orientation]) if orientation in ways else image


def _eight(image: Image.Image, kind: str | None, name: str) -> Image.Image:
    """Grey of more than 8 bits, told by mode and format, never by content; its transparent value becomes
    alpha.
    """
    from PIL import Image

    values = np.asarray(image)
    if image.mode == "F":
        _check_floats(values, name)
        eight = _by_rows(values, lambda v: np.round(v.astype(np.float64) * 255))
    elif image.mode == "I" and kind not in ("PPM", "PNG"):
        raise BadInput(
            f"{name} holds 32-bit whole numbers, whose range nobody knows: store it with 8 or 16 bits a value"
        )
    else:
        eight = _by_rows(values, lambda v: (v.astype(np.int64).clip(0, 65535) + 128) // 257)
    grey, clear = Image.fromarray(eight), image.info.get("transparency")
    if isinstance(clear, int | float):
        grey.putalpha(Image.fromarray(_by_rows(values, lambda v: np.where(v == clear, 0, 255))))
    return grey


def _check_floats(values: np.ndarray, name: str) -> None:
    low, high = float(values.min()), float(values.max())  # NaN where there is one
    if not (low >= 0 and high <= 1):
        known = values[np.isfinite(values)]
        found = f"{known.min():g} to {known.max():g}" if known.size else "none of them finite"
        others = "" if known.size in (0, values.size) else ", some not finite"
        raise BadInput(
            f"{name} holds floating-point values ({found}{others}): such pictures run from 0 to 1, all finite"
        )


def _by_rows(values: np.ndarray, f: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """f of (h, w) values as uint8, some rows at a time."""
    out = np.empty(values.shape, np.uint8)
    for i in range(0, len(values), ROWS):
        out[i : i + ROWS] = f(values[i : i + ROWS])
    return out


# --- colours ------------------------------------------------------------------------------------------------


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Colours by an embedded profile, as sRGB; alpha stays. As it is where the profile is sRGB, broken or of
    another kind of colours.
    """
    from PIL import ImageCms

    own = image if image.mode == "CMYK" else _plain(image)
    grey, alpha = own.mode in ("L", "LA"), own.getchannel("A") if own.mode in ("LA", "RGBA") else None
    space, transform = _transform(profile)
    accepted = {"CMYK": ("CMYK",), "RGB": ("RGB", "RGBA", "L", "LA"), "GRAY": ("L", "LA")}.get(space, ())
    if transform is None or own.mode not in accepted:
        return image
    made = ImageCms.applyTransform(own.convert({"CMYK": "CMYK", "RGB": "RGB", "GRAY": "L"}[space]), transform)
    if made is None:
        return image
    made = made.getchannel(0) if grey else made
    made.info = {}
    if alpha is not None:
        made.putalpha(alpha)
    return made


@lru_cache(maxsize=8)
def _transform(profile: bytes) -> tuple[str, ImageCmsTransform | None]:
    """(its kind of colours, the way from there to sRGB): None of a profile that is broken, or that changes no
    colour by more than 1.
    """
    from PIL import Image, ImageCms

    try:
        source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        mode = {"CMYK": "CMYK", "RGB": "RGB", "GRAY": "L"}[space]
        way = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        return "", None
    if space == "CMYK":
        return space, way
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    probe = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(18, -1, 3)
    given = Image.fromarray(probe).convert(mode)
    made = ImageCms.applyTransform(given, way)
    same = (
        made is not None
        and np.abs(np.asarray(made, np.int64) - np.asarray(given.convert("RGB"), np.int64)).max() <= 1
    )
    return space, None if same else way
