"""The affine map from a position of a model's space to its mean colour: a picture of latents without their
decoder.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.codec.protocol import Codec, is_of_pictures


@torch.no_grad()
def fit_rgb(codec: Codec, count: int = 8) -> Tensor:
    """The affine map (c + 1, 3) from a position's channels (and a 1) to its mean colour in 0 … 1, by least
    squares.

    It is fitted to `count` smooth pictures, encoded (small ones for an autoencoder: 8 x 8 positions); colours
    are averaged over the pixels that one position stands for. Grey models give three equal columns. BadInput
    on a codec of vectors.
    """
    if not is_of_pictures(codec):
        raise BadInput(f"{codec.medium.plural} have no colours: fit_rgb needs a codec of pictures")
    h, w = (8 * codec.cell, 8 * codec.cell) if codec.free else (codec.height, codec.width)
    images = smooth(count, h, w, codec.channels)
    z = codec.encode(images).float().cpu()
    rgb = F.interpolate(
        torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, z.shape[2:], mode="area"
    ).expand(-1, 3, -1, -1)
    return torch.linalg.lstsq(
        with_one(z).double(), rgb.permute(0, 2, 3, 1).reshape(-1, 3).double(), driver="gelsd"
    ).solution.float()


def smooth(n: int, h: int, w: int, c: int = 3) -> np.ndarray:
    """n smooth coloured pictures, uint8 (n, h, w, c), the same every time: a 4 x 4 grid of random colours
    each, interpolated.
    """
    corners = torch.from_numpy(np.random.default_rng(0).random((n, c, 4, 4)))
    full = F.interpolate(corners, (h, w), mode="bicubic", align_corners=True).clamp(0, 1)
    return (full * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def with_one(z: Tensor) -> Tensor:
    """(n, c, h, w) -> (n h w, c + 1): each position's channels and a 1."""
    flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    return torch.cat([flat, torch.ones(len(flat), 1)], 1)
