"""Wishes about a picture as losses: images (n, 3, h, w), sRGB in [0, 1] -> (n,) numbers, 0 where the wish is
granted, differentiable.

    steer(denoise, {lambda images: brightness(images, 0.6): 1.0}, decode)

Each sample's loss is of that sample alone. They are squares (of a colour's distance, of what differs), so
that the step of `guide.steer` lands near the wish and slows down there; the scale of a loss does not matter
to it. Networks come in as functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base.colour import LUMA, TO_LAB, TO_LMS

CROPS = 4  # of CLIP, beside the whole picture and its mirror image
Loss = Callable[[Tensor], Tensor]


def mean_colour(images: Tensor, rgb: Sequence[float]) -> Tensor:
    """The squared distance of the picture's mean colour to rgb, each in [0, 1]; the mean over the three."""
    return (images.mean((2, 3)) - images.new_tensor(rgb)).square().mean(1)


def brightness(images: Tensor, wanted: float) -> Tensor:
    """The squared difference of the mean luma to `wanted`, in [0, 1]."""
    return (luma(images).mean((1, 2)) - wanted).square()


def luma(images: Tensor) -> Tensor:
    """(n, h, w): how bright each pixel is, of its gamma-encoded values."""
    return torch.einsum("nchw,c->nhw", images, images.new_tensor(LUMA))


def oklab(images: Tensor) -> Tensor:
    """sRGB in [0, 1], (n, 3, h, w), as Oklab (Ottosson 2020), in which distances are as they are seen; its
    slope is held finite at black.
    """
    x = images.clamp(0, 1)
    linear = torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
    lms = torch.einsum("dc,nchw->ndhw", images.new_tensor(TO_LMS), linear)
    return torch.einsum("dc,nchw->ndhw", images.new_tensor(TO_LAB), (lms + 1e-4) ** (1 / 3) - 1e-4 ** (1 / 3))


def object_colour(images: Tensor, rgb: Sequence[float], light: float = 0.1) -> Tensor:
    """How far the object's pixels are from a colour: the mean over them of Δa^2 + Δb^2 + light ΔL^2 in Oklab.

    The object is what differs from the ground, which is the median colour of the picture's border: a pixel
    belongs to it by the share 1 - exp(-d^2 / 0.1^2), d its Oklab distance to the ground, which no gradient is
    taken of. Lightness counts little, so that shading stays.
    """
    lab = oklab(images)
    with torch.no_grad():
        own = foreground(lab)
    d = lab - oklab(images.new_tensor(rgb).view(1, 3, 1, 1))
    each = d[:, 1:].square().sum(1) + light * d[:, 0].square()
    return (own * each).sum((1, 2)) / (own.sum((1, 2)) + 1e-3 * own[0].numel())


def foreground(lab: Tensor) -> Tensor:
    """(n, h, w) in [0, 1]: how much a pixel of (n, 3, h, w) in Oklab is not the ground."""
    border = torch.cat([lab[:, :, 0], lab[:, :, -1], lab[:, :, :, 0], lab[:, :, :, -1]], dim=2)
    ground = border.median(2).values[:, :, None, None]
    return 1 - torch.exp(-(lab - ground).square().sum(1) / 0.1**2)


def target(images: Tensor, wanted: Tensor) -> Tensor:
    """The mean squared difference to a picture (1 or n, 3, h, w)."""
    return (images - wanted).square().flatten(1).mean(1)


def edges(images: Tensor, sketch: Tensor) -> Tensor:
    """1 - cos of two edge maps, of the pictures and of a sketch (1, 3, h, w): 0 where the edges lie alike,
    however strong they are.
    """
    return 1 - F.cosine_similarity(edge_map(images).flatten(1), edge_map(sketch).flatten(1), dim=1)


def edge_map(images: Tensor, blur: int = 2) -> Tensor:
    """(n, h, w): the size of the luma's slope (Sobel), spread by a box of 2 blur + 1 pixels, so that near
    edges are seen as near.
    """
    kernel = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    padded = F.pad(luma(images)[:, None], (1, 1, 1, 1), mode="replicate")
    slope = F.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])
    size = (slope.square().sum(1, keepdim=True) + 1e-6).sqrt() - 1e-3
    return F.avg_pool2d(size, 2 * blur + 1, 1, blur, count_include_pad=False)[:, 0]


def variation(images: Tensor) -> Tensor:
    """Total variation: the mean size of the difference to the next pixel, down and across (Rudin, Osher &
    Fatemi 1992, smoothed at 0).
    """
    d = images[:, :, :-1, :-1]
    down, across = images[:, :, 1:, :-1] - d, images[:, :, :-1, 1:] - d
    return ((down.square() + across.square() + 1e-6).sqrt() - 1e-3).flatten(1).mean(1)


def gram(features: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, c, c): what occurs together, wherever it is; the mean over places of the products
    (Gatys et al. 2016).
    """
    f = features.flatten(2)
    return f @ f.transpose(1, 2) / f.shape[2]


def style(images: Tensor, wanted: Sequence[Tensor], features: Callable[[Tensor], Sequence[Tensor]]) -> Tensor:
    """|G - G*|^2 / |G*|^2 of the Gram matrices, the mean over layers. features: images -> layers (n, c, h,
    w); wanted: G* of each, (1 or n, c, c).
    """
    pairs = zip(features(images), wanted, strict=True)
    return torch.stack([(gram(f) - g).square().sum((1, 2)) / g.square().sum((1, 2)) for f, g in pairs]).mean(
        0
    )


def similarity(
    images: Tensor, text: Tensor, encode: Callable[[Tensor], Tensor], crops: int = CROPS
) -> Tensor:
    """1 - cos of CLIP's vectors of the picture and of a text (1 or n, d): the mean over the whole, its mirror
    image and `crops` crops.

    encode: images of any size -> unit vectors (n, d). Several views make it harder to please the encoder
    alone, with a pattern.
    """
    views = [images, images.flip(3), *(crop(images, k) for k in range(crops))]
    return torch.stack([1 - (encode(v) * text).sum(1) for v in views]).mean(0)


def crop(images: Tensor, k: int, least: float = 0.7) -> Tensor:
    """The k-th crop: its side `least` to 1 of the picture's, its place and side by a low-discrepancy
    sequence, the same for every picture.
    """
    u = [
        (k + 1) * g % 1 for g in (0.8191725134, 0.6710436067, 0.5497004779)
    ]  # powers of 1 / 1.2207…: the sequence R3 of Roberts 2018
    h, w = (max(1, round(s * (least + (1 - least) * u[0]))) for s in images.shape[2:])
    top, left = (math.floor(v * (s - c + 1)) for v, s, c in zip(u[1:], images.shape[2:], (h, w)))
    return images[:, :, top : top + h, left : left + w]


def improbability(images: Tensor, log_prob: Callable[[Tensor], Tensor]) -> Tensor:
    """-log p(wanted | picture) in nats. log_prob: images -> (n,)."""
    return -log_prob(images)
