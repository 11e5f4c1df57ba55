"""Pixels and plain vectors as tensors.

Pixels: uint8 0 … 255 becomes -1 … 1, channels first; `patch` folds p x p pixels into channels (a quarter of
the positions for p = 2, which is what makes small nets fast), and sizes that the net cannot halve are padded
by their edge and cropped again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.codec.protocol import WithoutNetwork
from unnoise.media import NUMBERS, PICTURES, Medium


@dataclass(frozen=True)
class Pixels(WithoutNetwork):
    """Images of one size and channel count. multiple: what h / patch and w / patch must be divisible by for
    the net.
    """

    height: int
    width: int
    channels: int = 3
    patch: int = 1
    multiple: int = 1
    kind: ClassVar[str] = "pixels"
    free: ClassVar[bool] = False

    def __post_init__(self):
        for k, v in asdict(self).items():
            if not isinstance(v, int) or isinstance(v, bool) or v < 1:
                raise BadInput(f"codec {k} must be a positive whole number, given {v!r}")

    @property
    def _padded(self) -> tuple[int, int]:
        m = self.patch * self.multiple
        return -(-self.height // m) * m, -(-self.width // m) * m

    @property
    def cell(self) -> int:
        """Pixels a side of one position of the tensor."""
        return self.patch

    def check_size(self, height: int, width: int) -> None:
        """BadInput on another size than its own."""
        if (height, width) != (self.height, self.width):
            raise BadInput(f"pictures must be {self.height} x {self.width}, given {height} x {width}")

    @property
    def medium(self) -> Medium:
        return PICTURES

    def shape(self, n: int, size: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """The tensor shape of n encoded images: (n, channels patch^2, h / patch, w / patch)."""
        if size is not None:
            self.check_size(*size)
        h, w = self._padded
        return n, self.channels * self.patch**2, h // self.patch, w // self.patch

    def encode(self, images: np.ndarray) -> Tensor:
        """uint8 (n, h, w, c) -> float32 `shape(n)` in [-1, 1]. BadInput on another size, channel count or
        type.
        """
        want = (self.height, self.width, self.channels)
        if images.dtype != np.uint8 or images.shape[1:] != want:
            raise BadInput(
                f"images must be uint8 (n, {', '.join(map(str, want))}), given {images.dtype} {images.shape}"
            )
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
        h, w = self._padded
        if (h, w) != x.shape[2:]:
            x = F.pad(x, (0, w - self.width, 0, h - self.height), mode="replicate")
        return F.pixel_unshuffle(x, self.patch)

    def decode(self, z: Tensor) -> np.ndarray:
        """`shape(n)` in [-1, 1] -> uint8 (n, h, w, c), rounded; values outside are clipped. BadInput names
        non-finite values.
        """
        if not torch.isfinite(z).all():
            raise BadInput("cannot decode: the sample holds non-finite values")
        x = self._unfolded(z.detach())
        return ((x.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()

    def _unfolded(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z.float(), self.patch)[:, :, : self.height, : self.width]

    def images(self) -> Callable[[Tensor], Tensor]:
        """z -> pictures (n, c, h, w), about -1 … 1, to differentiate."""
        return self._unfolded

    def cells(self, mask: np.ndarray, x: Tensor) -> Tensor:
        """See `over_cells`; over padding, the mask's edge."""
        h, w = self._padded
        if (h, w) == (self.height, self.width):
            return over_cells(mask, x)
        pixels = over_cells(mask, x.new_empty(1, 1, self.height, self.width))
        padded = F.pad(pixels, (0, w - self.width, 0, h - self.height), mode="replicate")
        return F.max_pool2d(padded, self.patch)

    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


def over_cells(mask: np.ndarray, x: Tensor) -> Tensor:
    """A mask (h, w) of a picture over the cells of its tensor x (n, c, h', w'), float (1, 1, h', w') in x's
    dtype: 1 where any of a cell's pixels change at all, else 0.

    So no pixel that is to change is told to stay; what a cell changes beyond the mask is put back in pixels.
    """
    m = torch.from_numpy((mask > 0).astype(np.float32))[None, None]
    h, w = x.shape[2:]
    if mask.shape[0] >= h and mask.shape[1] >= w:
        m = F.adaptive_max_pool2d(m, (h, w))
    else:
        m = F.interpolate(m, (h, w), mode="nearest")
    return m.to(x)


@dataclass(frozen=True)
class Vectors(WithoutNetwork):
    """Real vectors (or any float arrays of one shape), standardised by one mean and one standard deviation
    for all entries.
    """

    size: tuple[int, ...]
    mean: float = 0.0
    std: float = 1.0
    kind: ClassVar[str] = "vectors"
    free: ClassVar[bool] = False

    @property
    def medium(self) -> Medium:
        return NUMBERS

    def shape(self, n: int, size: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """(n, *size). BadInput on another size than its own."""
        if size is not None and tuple(size) != tuple(self.size):
            raise BadInput(f"a sample is of size {tuple(self.size)}, given {tuple(size)}")
        return n, *self.size

    def encode(self, x: np.ndarray) -> Tensor:
        """(n, *size) numbers -> float32 tensor near unit scale."""
        if x.shape[1:] != tuple(self.size):
            raise BadInput(f"data must be (n, {', '.join(map(str, self.size))}), given {x.shape}")
        return (torch.from_numpy(np.ascontiguousarray(x)).float() - self.mean) / self.std

    def decode(self, z: Tensor) -> np.ndarray:
        return (z.detach().float() * self.std + self.mean).cpu().numpy()

    def cells(self, mask: np.ndarray, x: Tensor) -> Tensor:
        """A number is a cell: (1, *size), 1 where the mask (*size) is above 0."""
        return torch.from_numpy((mask > 0).astype(np.float32))[None].to(x)

    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, "size": list(self.size), "mean": self.mean, "std": self.std}


Side = Annotated[int, Field(ge=1, le=8192)]


class PixelsFile(BaseModel):
    """codec/config.json of a model of pictures."""

    model_config = ConfigDict(strict=True, extra="forbid")

    kind: Literal["pixels"]
    height: Side
    width: Side
    channels: Annotated[int, Field(ge=1, le=4096)] = 3
    patch: Annotated[int, Field(ge=1, le=64)] = 1
    multiple: Annotated[int, Field(ge=1, le=1024)] = 1

    def codec(self) -> Pixels:
        return Pixels(**self.model_dump(exclude={"kind"}))


class VectorsFile(BaseModel):
    """codec/config.json of a model of numbers."""

    model_config = ConfigDict(strict=True, extra="forbid")

    kind: Literal["vectors"]
    size: Annotated[list[Annotated[int, Field(ge=1, le=2_000_000)]], Field(min_length=1, max_length=8)]
    mean: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    std: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    def codec(self) -> Vectors:
        return Vectors(tuple(self.size), self.mean, self.std)


def codec_for(x: np.ndarray, patch: int = 1, multiple: int = 1) -> Pixels | Vectors:
    """The codec that fits an array of data: Pixels for uint8 (n, h, w, c), else Vectors with the data's own
    mean and spread.
    """
    if x.dtype == np.uint8 and x.ndim == 4:
        return Pixels(*x.shape[1:], patch=patch, multiple=multiple)
    std = float(x.std())
    if not np.isfinite(std) or std == 0:
        raise BadInput(f"data has standard deviation {std}: it must be finite and vary")
    return Vectors(x.shape[1:], float(x.mean()), std)
