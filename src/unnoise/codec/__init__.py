"""Data <-> tensors near unit scale. A codec has encode, decode, shape and config; the networks see what it
makes.
"""

from unnoise.codec.latents import Latents
from unnoise.codec.pixels import Pixels, Vectors, codec_for, from_config

Codec = Pixels | Vectors | Latents

__all__ = ["Codec", "Latents", "Pixels", "Vectors", "codec_for", "from_config"]
