"""Pictures: opened from any common file, masked, changed only where a mask says so, resized, and written as
PNG files that carry their record.

A picture keeps its size, its alpha and the colours under it. What is not to change keeps its bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from unnoise.base import write
from unnoise.base.colour import LUMA
from unnoise.base.errors import BadInput
from unnoise.base.picture import MOST_PIXELS, ROWS, opened, png_text, without_opaque_alpha
from unnoise.base.picture import MOST_SIDE as LIMIT
from unnoise.base.read import parse_object
from unnoise.base.sheet import tile

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

KEY = "unnoise"  # the PNG text chunk that holds a picture's record
Given = Union["Picture", str, os.PathLike, bytes, "Image.Image", np.ndarray]  # what `read` takes


@dataclass(frozen=True)
class Picture:
    """pixels: uint8 (h, w, 3), transparent parts on white; alpha: uint8 (h, w), or None where all is opaque;
    path: where it came from; raw: where there is alpha, the colours as they were stored, uint8 (h, w, 3):
    what is put back outside a mask.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    path: str | None = None
    raw: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def sha256(self) -> str:
        """Of the pixels and the alpha, not of the file: a picture that was saved in another format is the
        same.
        """
        return hashlib.sha256(str(self.size).encode() + self.whole().tobytes()).hexdigest()

    def tensor(self) -> Tensor:
        """The pixels as float32 (1, 3, h, w) in [0, 1]."""
        import torch

        return torch.from_numpy(self.pixels.copy()).permute(2, 0, 1)[None].float() / 255

    def whole(self, pixels: np.ndarray | None = None) -> np.ndarray:
        """uint8 (h, w, 3 or 4): these pixels (by default its own, as they were stored) with the picture's
        alpha, where it has one.
        """
        if pixels is None:
            pixels = self.pixels if self.raw is None else self.raw
        return pixels if self.alpha is None else np.dstack([pixels, self.alpha])


def read(given: Given) -> Picture:
    """A picture from a file, a PIL image or an array: uint8 (h, w), (h, w, 1), (h, w, 3) or (h, w, 4).

    Files and PIL images go through `base.picture`: turned as their EXIF says, colours by their ICC profile,
    palettes, grey and CMYK to RGB, 16 bits and floats in [0, 1] to 8; transparent parts lie on white. Arrays
    are taken as they are: they hold no EXIF. BadInput, one line: no such file, no picture, truncated, larger
    than is accepted, values of unknown range, or an array of another kind.
    """
    if isinstance(given, Picture):
        return given
    if isinstance(given, np.ndarray):
        return _of_array(given)
    image = without_opaque_alpha(opened(given))
    path = None if hasattr(given, "getexif") or isinstance(given, bytes) else str(given)
    if image.mode in ("LA", "RGBA"):
        return _on_white(np.array(image.convert("RGBA")), path)
    return Picture(np.array(image.convert("RGB")), None, path)


def _of_array(a: np.ndarray) -> Picture:
    a = a[..., None] if a.ndim == 2 else a
    if a.dtype != np.uint8 or a.ndim != 3 or a.shape[2] not in (1, 3, 4) or 0 in a.shape:
        raise BadInput(
            f"a picture must be uint8 (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), given {a.dtype} {a.shape}"
        )
    if max(a.shape[:2]) > LIMIT or a.shape[0] * a.shape[1] > MOST_PIXELS:
        raise BadInput(
            f"the picture has {a.shape[1]} x {a.shape[0]} pixels: at most {LIMIT} a side and"
            f" {MOST_PIXELS // 10**6} million in all are accepted"
        )
    if a.shape[2] == 4:
        return _on_white(a)
    return Picture(np.repeat(a, 3, axis=2) if a.shape[2] == 1 else a.copy())


def _on_white(rgba: np.ndarray, path: str | None = None) -> Picture:
    alpha, rgb = rgba[..., 3].copy(), rgba[..., :3].copy()
    if (alpha == 255).all():
        return Picture(rgb, None, path)
    seen = np.empty_like(rgb)
    for i in range(
        0, len(rgb), ROWS
    ):  # some rows at a time: of a large picture the wide numbers would not fit
        a = alpha[i : i + ROWS, :, None] / 255.0
        seen[i : i + ROWS] = (rgb[i : i + ROWS] * a + 255 * (1 - a)).round()
    return Picture(seen, alpha, path, rgb)


def read_mask(given: Given, picture: Picture) -> np.ndarray:
    """float64 (h, w) in [0, 1], 1 = change, of the picture's size: white changes, black stays, grey changes
    in part.

    Of a white mask with transparent parts, those change. White all over is allowed: all changes. BadInput on
    another size, and on a mask that is black all over (nothing would change).
    """
    mask = read(given)
    if mask.size != picture.size:
        (h, w), (H, W) = mask.size, picture.size
        raise BadInput(f"the mask has {w} x {h} pixels, the picture {W} x {H}: they must be of one size")
    m = (
        np.concatenate(
            [
                np.asarray(mask.pixels[i : i + ROWS], np.float64) @ LUMA
                for i in range(0, len(mask.pixels), ROWS)
            ]
        )
        / 255
    )
    if mask.alpha is not None and (mask.pixels == 255).all():
        m = 1 - mask.alpha / 255.0  # what an eraser leaves: holes in white
    m = np.where(m > 1 - 1e-9, 1.0, m)
    if not (m > 0).any():
        raise BadInput(
            "the mask is empty: it is black all over, so that nothing would change (white marks what changes)"
        )
    return m


def pasted(picture: Picture, edited: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3 or 4): `edited` (h, w, 3) where the mask is 1, the picture's own bytes where it is 0, a
    blend in between.

    A transparent picture becomes opaque as far as the mask says.
    """
    blend = lambda old, new, m: np.where(
        m == 0, old, np.where(m == 1, new, (old + m * (new.astype(np.float64) - old)).round())
    ).astype(np.uint8)
    out = blend(picture.pixels, edited, mask[..., None])
    if picture.alpha is None:
        return out
    if picture.raw is not None:
        out = np.where(mask[..., None] == 0, picture.raw, out)
    return np.dstack([out, blend(picture.alpha, np.full_like(picture.alpha, 255), mask)])


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (h, w, 3) at another (height, width), bicubic with antialiasing; the same array where the size is
    its own.
    """
    if pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC))


# --- files --------------------------------------------------------------------------------------------------


def picture(a: np.ndarray) -> Image.Image:
    """A uint8 array (h, w, c) as a PIL image; of one channel, grey. BadInput for numbers that are no
    picture.
    """
    from PIL import Image

    need_pictures(a[None])
    return Image.fromarray(a[..., 0] if a.ndim == 3 and a.shape[-1] == 1 else a)


def need_pictures(a: np.ndarray) -> None:
    """BadInput for numbers that are no pictures."""
    if a.dtype != np.uint8:
        raise BadInput(f"this model makes numbers of shape {a.shape[1:]}, not pictures: use result.arrays")


def sheet(samples: np.ndarray, columns: int | None = None) -> Image.Image:
    """All of (n, h, w, c) on one, row by row, near square unless `columns` is given."""
    need_pictures(samples)
    return picture(tile(samples, columns))


def png(image: Image.Image, record: str) -> bytes:
    """The bytes of a PNG with its record in its text chunk."""
    from PIL.PngImagePlugin import PngInfo

    info, out = PngInfo(), io.BytesIO()
    info.add_text(KEY, record)
    image.save(out, format="PNG", pnginfo=info)
    return out.getvalue()


def write_png(image: Image.Image, path: Path, record: str) -> Path:
    """Write a PNG with its record in a text chunk, whole or not at all; replaces what lies there. Returns its
    path.
    """
    return write.put(path, png(image, record))


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The record that a PNG carries, as it was written. BadInput: no picture, none in it, or no JSON
    object.
    """
    text = png_text(path).get(KEY)
    if text is None:
        raise BadInput(f"{path} carries no unnoise recipe: only PNG files that unnoise wrote can be replayed")
    return parse_object(text, f"the recipe in {path}", nul=True)


def _to_bytes(sample: np.ndarray | Image.Image, record: str) -> bytes:
    return png(picture(sample) if isinstance(sample, np.ndarray) else sample, record)


@dataclass(frozen=True)
class Pictures:
    """The medium of models that draw."""

    singular: str = "picture"
    plural: str = "pictures"
    suffixes: tuple[str, ...] = (".png",)
    together: bool = False
    read = staticmethod(read)
    to_bytes = staticmethod(_to_bytes)
    read_record = staticmethod(read_record)
    mask = staticmethod(read_mask)
    keep = staticmethod(pasted)
    show = staticmethod(picture)
    sheet = staticmethod(sheet)


PICTURES = Pictures()
