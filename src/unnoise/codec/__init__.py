"""Data <-> tensors near unit scale: `Codec` says what all of them answer; the networks see what one makes."""

from __future__ import annotations

from typing import Any, Protocol

from unnoise.base.errors import unknown
from unnoise.base.read import fit
from unnoise.codec.columns import ColumnsFile
from unnoise.codec.latents import Latents
from unnoise.codec.pixels import Pixels, PixelsFile, Vectors, VectorsFile, codec_for
from unnoise.codec.protocol import Codec, PictureCodec, is_of_pictures, of_pictures

__all__ = [
    "CODECS",
    "Codec",
    "Latents",
    "PictureCodec",
    "Pixels",
    "Vectors",
    "codec_for",
    "from_config",
    "is_of_pictures",
    "of_pictures",
]


class File(Protocol):
    """The pydantic model of a codec's `codec/config.json`; `codec()` is the codec that it describes."""

    def codec(self) -> Codec: ...


# kind -> what its file holds; latents have no file of their own: they are read from the autoencoder's
CODECS: dict[str, Any] = {"pixels": PixelsFile, "vectors": VectorsFile, "columns": ColumnsFile}


def from_config(d: dict[str, Any], where: str = "codec config") -> Codec:
    """The codec of a model folder's `codec/config.json`. BadInput, naming `where`: another kind, a key or
    value that is not accepted.
    """
    kind = d.get("kind")
    if not isinstance(kind, str) or kind not in CODECS:
        raise unknown("codec", kind, CODECS)
    file: File = fit(CODECS[kind], d, where)
    return file.codec()
