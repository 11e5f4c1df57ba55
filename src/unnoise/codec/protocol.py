"""What every codec answers, so that nobody need ask which one it is.

A new codec is a file here with a class of these members and, where it has no weights of its own, its line in
`codec.CODECS`; the medium that it names is one of `media.MEDIA`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self, TypeGuard, TypeVar

import numpy as np
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.media import PICTURES, Medium, makes
from unnoise.nets.autoencoder import Autoencoder

Net = TypeVar("Net", bound=nn.Module)
Size = tuple[int, ...]


class Codec(Protocol):
    """Data <-> tensors near unit scale.

    kind: its name in files and in `CODECS`. free: whether it takes data of other sizes than its own. Values
    do not change; what `moved` and `decoding_by` give are copies.
    """

    kind: ClassVar[str]
    free: ClassVar[bool]

    @property
    def medium(self) -> Medium:
        """What its data are to people."""
        ...

    @property
    def autoencoder(self) -> Autoencoder | None:
        """The network between data and tensors, if there is one."""

    def shape(self, n: int, size: Size | None = None) -> tuple[int, ...]:
        """The tensor shape of n samples, of a size in the medium's own units. BadInput on one not taken."""
        ...

    def encode(self, data: np.ndarray, /) -> Tensor:
        """(n, …) -> float32 tensors of `shape(n)`. BadInput on data of another kind."""
        ...

    def decode(self, z: Tensor, /) -> np.ndarray:
        """Tensors -> data. BadInput where values are not finite and the medium has no place for such."""
        ...

    def cells(self, mask: np.ndarray, x: Tensor) -> Tensor:
        """The mask of one sample over the cells of x (n, …), in x's dtype, broadcastable to it: 1 where any
        part of a cell's data changes, else 0.
        """
        ...

    def config(self) -> dict[str, Any]:
        """What its file holds, `kind` among it."""
        ...

    def moved(self, place: Callable[[Any], Any]) -> Self:
        """The same with its networks as place(net) gives them: copies on a device, in a number type."""
        ...

    def decoding_by(self, decode: Callable[[Tensor], Tensor]) -> Self:
        """The same with another form of its autoencoder's decode."""
        ...

    def decoding_bytes(self) -> int:
        """The memory that decoding one sample takes, the float32 form of its network's weights included."""
        ...


class WithoutNetwork:
    """What a codec without a network answers of one."""

    @property
    def autoencoder(self) -> None:
        """There is none."""

    def moved(self, place: Callable[[Any], Any]) -> Self:
        return self

    def decoding_by(self, decode: Callable[[Tensor], Tensor]) -> Self:
        return self

    def decoding_bytes(self) -> int:
        return 0


class PictureCodec(Codec, Protocol):
    """A codec of pictures. height, width: in pixels, where nothing else is asked for; channels: of a picture;
    cell: pixels along a side of what one position of the tensor stands for.
    """

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def cell(self) -> int: ...

    def check_size(self, height: int, width: int) -> None:
        """BadInput on a size that it does not take."""

    def images(self) -> Callable[[Tensor], Tensor]:
        """z -> pictures (n, channels, h, w), about -1 … 1, neither rounded nor clipped: to differentiate."""
        ...


def is_of_pictures(codec: Codec) -> TypeGuard[PictureCodec]:
    """Whether what it makes has a height, a width and colours."""
    return codec.medium is PICTURES


def of_pictures(codec: Codec, who: str, but: str) -> PictureCodec:
    """The codec of the model `who`. BadInput where it is of another medium: "model 'x' makes numbers: " and
    `but`.
    """
    if not is_of_pictures(codec):
        raise BadInput(f"{makes(who, codec.medium)}: {but}")
    return codec
