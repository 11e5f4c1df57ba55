"""The one opener of pictures: from a file, bytes or a PIL image to 8 bits a channel in sRGB, upright, whole, or one BadInput.

    formats   PNG, JPEG, WebP, GIF, BMP, TIFF, PPM and AVIF, told by content; no other decoder is ever asked
    size      at most MOST_SIDE pixels a side and MOST_PIXELS in all, looked at before anything is decoded
    values    16-bit grey by 257, floats in [0, 1] by 255, to the nearest; 32-bit whole numbers have no known range: refused
    turned    as EXIF says; the tag is gone afterwards, so that nothing is turned twice
    colours   an ICC profile other than sRGB is converted (lcms, relative colorimetric); a broken one is taken for sRGB
"""
from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unnoise.base import read
from unnoise.base.text import one_line
from unnoise.errors import BadInput

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
MOST_SIDE = 8192
MOST_PIXELS = 50_000_000
MOST_BYTES = 512 * 2**20
_WARNINGS = threading.RLock()  # Python's filters of warnings are the whole process's
_PLAIN = ("L", "LA", "RGB", "RGBA")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def opened(given: str | os.PathLike[str] | bytes | Image.Image, name: str | None = None) -> Image.Image:
    """The first frame of a picture, decoded, upright, of mode L, LA, RGB or RGBA; the original is left alone.

    `name` stands for it in messages (by default the path). BadInput: no such file, no picture of an accepted format, truncated, too large,
    values without a known range. Opaque alpha is kept: see `without_opaque_alpha`.
    """
    from PIL import Image

    path = None if isinstance(given, bytes | Image.Image) else Path(given)
    name = name or (str(path) if path is not None else "the picture")
    if path is not None:
        _check_file(path)
    with _quiet():
        try:
            if isinstance(given, Image.Image):
                return _converted(given.copy() if _size_fits(given, name) else given, name)
            source = io.BytesIO(given) if isinstance(given, bytes) else Path(given)
            with Image.open(source, formats=_formats()) as image:
                _size_fits(image, name)
                image.load()
                return _converted(image, name)
        except BadInput:
            raise
        except Image.DecompressionBombError:
            raise _too_large(name) from None
        except Exception as e:  # OSError, SyntaxError, ValueError, struct.error, …: Pillow promises none in particular
            raise BadInput(f"{name} cannot be read as a picture: {_why(e)}") from None


def size_of(path: str | os.PathLike[str]) -> tuple[int, int, bool, bool]:
    """(width, height, colour, alpha) of a picture as it will be once upright, from its header alone. BadInput: see `opened`."""
    from PIL import Image

    _check_file(Path(path))
    with _quiet():
        try:
            with Image.open(path, formats=_formats()) as image:
                _size_fits(image, str(path))
                w, h = image.size
                if image.getexif().get(0x0112) in (5, 6, 7, 8):
                    w, h = h, w
                return w, h, _is_colour(image), _has_alpha(image)
        except BadInput:
            raise
        except Image.DecompressionBombError:
            raise _too_large(str(path)) from None
        except Exception as e:
            raise BadInput(f"{path} cannot be read as a picture: {_why(e)}") from None


def png_text(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text entries of a PNG (its recipe is one of them); empty for another accepted format. BadInput: see `opened`."""
    from PIL import Image

    _check_file(Path(path))
    with _quiet():
        try:
            with Image.open(path, formats=_formats()) as image:
                _size_fits(image, str(path))
                texts = getattr(image, "text", {})  # reads to the end of the file
                return {str(k): str(v) for k, v in texts.items()}
        except BadInput:
            raise
        except Image.DecompressionBombError:
            raise _too_large(str(path)) from None
        except Exception as e:
            raise BadInput(f"{path} cannot be read as a picture: {_why(e)}") from None


def without_opaque_alpha(image: Image.Image) -> Image.Image:
    """The image without an alpha channel that is 255 everywhere; otherwise as it is."""
    if image.mode not in ("LA", "RGBA") or image.getchannel("A").getextrema()[0] != 255:
        return image
    return image.convert(image.mode[:-1])


class _quiet:
    """No warnings and log lines of PIL's on the user's terminal: what is wrong is told by our own error."""

    def __enter__(self) -> None:
        _WARNINGS.acquire()
        log = logging.getLogger("PIL")
        if not log.handlers:
            log.addHandler(logging.NullHandler())
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *error: object) -> None:
        self.caught.__exit__(*error)  # pyright: ignore[reportArgumentType]
        _WARNINGS.release()


def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this build of Pillow has; only their own modules are loaded."""
    from PIL import Image

    Image.preinit()
    for plugin in ("WebPImagePlugin", "TiffImagePlugin", "AvifImagePlugin"):
        try:
            __import__(f"PIL.{plugin}")
        except ImportError:
            continue
    return tuple(f for f in FORMATS if f in Image.OPEN)


def _check_file(path: Path) -> None:
    size = read.regular(path, "picture").st_size
    if size > MOST_BYTES:
        raise BadInput(f"{path} has {size} bytes: a picture of at most {MOST_BYTES} is accepted")


def _size_fits(image: Image.Image, name: str) -> bool:
    w, h = image.size
    if max(w, h) > MOST_SIDE or w * h > MOST_PIXELS:
        raise BadInput(f"{name} has {w} x {h} pixels: {_accepted()}")
    if min(w, h) < 1:
        raise BadInput(f"{name} has {w} x {h} pixels: nothing is in it")
    return True


def _too_large(name: str) -> BadInput:
    return BadInput(f"{name} is too large: {_accepted()}")


def _accepted() -> str:
    return f"at most {MOST_SIDE} a side and {MOST_PIXELS / 1e6:.0f} million in all are accepted"


def _why(e: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(e, UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}"
    return one_line(str(e), 200) or type(e).__name__


def _is_colour(image: Image.Image) -> bool:
    return image.mode not in ("1", "L", "LA", "La", "F", "I") and not image.mode.startswith("I;16")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _ALPHA or "transparency" in image.info


def _converted(image: Image.Image, name: str) -> Image.Image:
    """A decoded image as one of the plain modes, upright and in sRGB."""
    from PIL import ImageOps

    profile, kind = image.info.get("icc_profile"), image.format
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _eight(image, kind, name)
    if profile:
        image = _to_srgb(image, profile)
    if image.mode in _PLAIN and "transparency" not in image.info:
        return image
    if image.mode == "1":
        return image.convert("L")
    if _has_alpha(image):
        return image.convert("LA" if image.mode in ("L", "La") else "RGBA")
    return image.convert("RGB")


def _eight(image: Image.Image, kind: str | None, name: str) -> Image.Image:
    """Grey of more than 8 bits, told by mode and format, never by content."""
    from PIL import Image

    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            found = f"{np.nanmin(values):g} to {np.nanmax(values):g}" if np.isfinite(values).any() else "no finite ones"
            raise BadInput(f"{name} holds floating-point values ({found}): such pictures run from 0 to 1, all finite")
        return Image.fromarray(np.round(values.astype(np.float64) * 255).astype(np.uint8))
    if image.mode == "I" and kind not in ("PPM", "PNG"):
        raise BadInput(f"{name} holds 32-bit whole numbers, whose range nobody knows: store it with 8 or 16 bits a value")
    return Image.fromarray(np.round(values.astype(np.float64) / 257).clip(0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Colours by an embedded profile, as sRGB; alpha is carried over. As it is where the profile is sRGB, broken or of another space."""
    from PIL import ImageCms

    colour = {"RGB": "RGB", "RGBA": "RGB", "L": "L", "LA": "L", "CMYK": "CMYK", "P": "RGB"}.get(image.mode)
    if colour is None:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        plain = image.convert("RGBA" if "transparency" in image.info else colour) if image.mode == "P" else image
        alpha = plain.getchannel("A") if plain.mode in ("RGBA", "LA") else None
        goal = ImageCms.createProfile("sRGB")
        made = ImageCms.profileToProfile(plain.convert(colour), source, goal,
                                         renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    if made is None:
        return image
    if colour == "L":
        made = made.convert("L")
    if alpha is not None:
        made.putalpha(alpha)
    made.info.pop("icc_profile", None)
    return made
