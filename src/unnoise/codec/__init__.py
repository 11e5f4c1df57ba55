"""Data <-> tensors near unit scale. A codec has encode, decode, shape and config; the networks see what it makes."""
from unnoise.codec.pixels import Codec, Pixels, Vectors, codec_for, from_config

__all__ = ["Codec", "Pixels", "Vectors", "codec_for", "from_config"]
