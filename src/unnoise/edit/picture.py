"""Between a picture and a model: the working size, the encoded picture, and what comes back.

A picture keeps its own size. A model sees it scaled (bicubic, antialiased) to its working size: about the
model's own area at the picture's proportions, in multiples that the model takes. What comes out is scaled
back; where nothing was asked to change, the picture's own pixels are put back, exactly (`media.pictures`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.colour import LUMA
from unnoise.base.errors import BadInput
from unnoise.base.picture import MOST_SIDE as LIMIT
from unnoise.codec import is_of_pictures, of_pictures
from unnoise.codec.pixels import over_cells as cells
from unnoise.media.pictures import Given, Picture, pasted, read, read_mask, resized

if TYPE_CHECKING:
    from unnoise.pipeline import Pipeline

__all__ = [
    "LIMIT",
    "Given",
    "Picture",
    "cells",
    "decoded",
    "encoded",
    "pasted",
    "read",
    "read_mask",
    "resized",
    "shown",
    "working_size",
]


def working_size(
    pipe: Pipeline, picture: Picture, height: int | None = None, width: int | None = None
) -> tuple[int, int]:
    """Height and width at which a model works on a picture: as given, or of about the model's own area at the
    picture's proportions.

    A model of pixels has one size only. BadInput on a size that the model does not take, and for a model of
    numbers.
    """
    codec = of_pictures(pipe.codec, pipe.name, "it cannot edit pictures")
    height, width = (
        None if v is None else arguments.integer(k, v, 1, LIMIT)
        for k, v in (("height", height), ("width", width))
    )
    if not codec.free:
        if (height or codec.height, width or codec.width) != (codec.height, codec.width):
            raise BadInput(
                f"model {pipe.name!r} works at {codec.height} x {codec.width} only, given {height} x {width}"
            )
        return codec.height, codec.width
    h, w = picture.size
    cell, scale = codec.cell, math.sqrt(codec.height * codec.width / (h * w))
    fit = lambda v: min(max(round(v * scale / cell), 2), LIMIT // cell) * cell
    size = height or fit(h), width or fit(w)
    codec.check_size(*size)
    return size


def encoded(pipe: Pipeline, pixels: np.ndarray, size: tuple[int, int] | None = None) -> Tensor:
    """uint8 (h, w, 3) as the model's x0, (1, …), at a working size (by default its own)."""
    codec = pipe.codec
    pixels = resized(pixels, size or pixels.shape[:2])  # type: ignore[arg-type]
    if is_of_pictures(codec) and codec.channels == 1:
        pixels = (np.asarray(pixels, np.float64) @ LUMA).round().astype(np.uint8)[..., None]
    return codec.encode(pixels[None]).to(pipe.runner.device)


def decoded(pipe: Pipeline, x: Tensor, picture: Picture) -> np.ndarray:
    """The model's x0 (n, …) as uint8 (n, h, w, 3), of the picture's size."""
    return np.stack([resized(m, picture.size) for m in shown(pipe, x)])


def shown(pipe: Pipeline, x: Tensor) -> np.ndarray:
    """The model's x0 (n, …) as uint8 (n, h, w, 3), of its own size."""
    made = pipe.decode(x)
    return np.repeat(made, 3, axis=3) if made.shape[3] == 1 else made
