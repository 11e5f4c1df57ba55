"""A convolutional network of pixels on pictures of any size: one denoiser for the whole picture, by
overlapping tiles of the size it was trained at.

Each tile is denoised by itself and the estimates of E[x0 | x] are blended where tiles overlap, at every step
(MultiDiffusion, Bar-Tal et al. 2023), so that a sampler walks one picture and no seam can form between tiles
that went different ways.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.codec import PictureCodec, is_of_pictures
from unnoise.codec.scale import hidden
from unnoise.denoiser import Denoiser
from unnoise.nets.tiles import tiled
from unnoise.pipeline import Count, Pipeline
from unnoise.process.level import Level

OVERLAP = 8  # cells of the network


def shows(pipe: Pipeline) -> dict | None:
    """{"factor": f, "noise": the most it knows} of a network that is shown a smaller picture (see
    `train.upscale`), None of others.
    """
    return pipe.folder.abilities.low


def over_tiles(pipe: Pipeline, condition: Tensor, count: Count) -> Denoiser:
    """E[x0 | x, condition] of folded pictures (n, c p^2, h, w) of any size, condition (1 or n, c', h, w); one
    count for a whole picture.
    """
    net, c = pipe.fast, pipe.codec.shape(1)[1]
    tile = min(pipe.codec.shape(1)[2:])

    def denoise(x: Tensor, l: Level) -> Tensor:
        count()
        both = torch.cat([x, condition.to(x).expand(len(x), -1, -1, -1)], dim=1)

        def work(u: Tensor) -> Tensor:
            return pipe.process.denoiser(lambda y, t: net(torch.cat([y, u[:, c:]], dim=1), t))(u[:, :c], l)

        with torch.no_grad():
            return tiled(work, both, (1, 1), tile, min(OVERLAP, tile // 2), OVERLAP // 2, exact=False)

    return denoise


def alone(pipe: Pipeline, shape: tuple[int, int]) -> Tensor:
    """The condition that shows nothing: with it the network is a plain denoiser of pictures of `shape`
    cells.
    """
    on = pipe.runner.device
    return hidden(
        torch.zeros(1, pipe.codec.shape(1)[1] + 1, *shape, device=on), torch.tensor([True], device=on)
    )


def folded(pipe: Pipeline, x: Tensor) -> Tensor:
    """Pictures (n, 3, h, w) in [-1, 1] as the network sees them; sides that its patches do not divide are
    padded by their edge.
    """
    p = _pixels(pipe).cell
    x = F.pad(x, (0, -x.shape[-1] % p, 0, -x.shape[-2] % p), mode="replicate")
    return F.pixel_unshuffle(x, p)


def unfolded(pipe: Pipeline, z: Tensor, size: tuple[int, int]) -> Tensor:
    """The pictures back, of `size`."""
    return F.pixel_shuffle(z, _pixels(pipe).cell)[..., : size[0], : size[1]]


def _pixels(pipe: Pipeline) -> PictureCodec:
    codec = pipe.codec
    if not is_of_pictures(codec) or codec.autoencoder or codec.channels != 3:
        raise BadInput(f"model {pipe.name!r} is no network of colour pixels")
    return codec


def tensor(pipe: Pipeline, pixels: np.ndarray) -> Tensor:
    """uint8 (h, w, 3) -> float32 (1, 3, h, w) in [-1, 1], where the model's networks run."""
    return (torch.tensor(pixels).movedim(-1, 0)[None].float() / 127.5 - 1).to(pipe.runner.device)


def numbers(x: Tensor) -> np.ndarray:
    """(n, 3, h, w) in [-1, 1] -> float64 (n, h, w, 3) in 0 … 255, not yet rounded or held."""
    return ((x.cpu().double().movedim(1, -1) + 1) * 127.5).numpy()  # not every device has float64
