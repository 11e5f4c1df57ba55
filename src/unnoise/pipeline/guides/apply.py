"""The guides of a request around its denoiser: understood and checked once, their estimate decoded inside the
gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.codec import PictureCodec, of_pictures
from unnoise.codec.rgb import fit_rgb
from unnoise.denoiser import Denoiser
from unnoise.guide.steer import Wish, steer
from unnoise.pipeline.guides.likeness import with_content
from unnoise.pipeline.guides.table import GUIDES, Value
from unnoise.pipeline.guides.texts import Guide, parse

if TYPE_CHECKING:
    from unnoise.pipeline.pipeline import Pipeline
    from unnoise.pipeline.request import Request

TOGETHER = 64 * 64 * 64  # pixels whose decoding is differentiated at once
FORMED = 1.0  # sigma / alpha: above it what is drawn is still being decided


def settled(pipe: Pipeline, items: Any) -> tuple[Guide, ...]:
    """The guides of a request, one or several, checked by building them; files by their content. BadInput on
    whatever cannot be used.
    """
    if items is None:
        return ()
    if not isinstance(items, Sequence | Callable):
        raise BadInput(
            f"guide must be a text such as 'colour=green:2', a function, or several, given {items!r:.80}"
        )
    several: list[Any] = [items] if isinstance(items, str) or callable(items) else [*items]
    guides = tuple(_with_content(parse(i)) for i in several)
    for g in guides:
        wish(pipe, g)
    return guides


def _with_content(g: Guide) -> Guide:
    from_file = g.name in GUIDES and GUIDES[g.name].value is Value.FILE
    return replace(g, value=with_content(g.value)) if from_file else g


def guided(pipe: Pipeline, r: Request, denoise: Denoiser) -> Denoiser:
    """The denoiser of a run under its request's guides: itself where none has a weight."""
    wishes = [(wish(pipe, g), g.weight, _late(g)) for g in r.guide if g.weight]
    if not wishes:
        return denoise
    h, w = r.size or (getattr(pipe.codec, "height", 1), getattr(pipe.codec, "width", 1))
    decode = pictures(pipe, r.guide_linear)
    steered = lambda some: steer(denoise, some, decode, r.guide_through, max(1, TOGETHER // (h * w)))
    every = steered([(f, v) for f, v, _ in wishes])
    early = steered([(f, v) for f, v, late in wishes if not late])
    until = formed(pipe, r)
    return lambda x, l: (every if float(l.ratio.max()) <= until else early)(x, l)


def _late(g: Guide) -> bool:
    return g.name in GUIDES and GUIDES[g.name].late


def formed(pipe: Pipeline, r: Request) -> float:
    """FORMED, or the last noisy level of a path that has none below it, as a path of one step."""
    return max(FORMED, float(pipe.path(r)[-2].ratio.max()))


def wish(pipe: Pipeline, g: Guide) -> Wish:
    """What a guide wants, (images, level) -> (n,), ready to be differentiated."""
    of_pictures(pipe.codec, pipe.name, "guides are for pictures")
    if g.loss is not None:
        return lambda images, l: _one_each(g, images)
    return GUIDES[g.name].build(pipe, g.value)


def _one_each(g: Guide, images: Tensor) -> Tensor:
    value = g.loss(images)  # type: ignore[misc]
    if isinstance(value, Tensor) and value.ndim == 0:  # of the whole batch: asked again image by image
        if len(images) == 1:
            value = value[None]
        else:
            value = torch.cat([_one_each(g, image) for image in images.split(1)])
    if not isinstance(value, Tensor) or value.shape != (len(images),):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise BadInput(
            f"guide {g.value!r} must return one number an image, a tensor of shape ({len(images)},), given"
            f" {got}"
        )
    return value


# --- decoding inside the gradient ---------------------------------------------------------------------------


def pictures(pipe: Pipeline, linear: bool = False) -> Callable[[Tensor], Tensor]:
    """x0 -> images (n, 3, h, w) in [0, 1], differentiable: values beyond are cut off, but their slope is
    kept, so that they can come back.

    linear: latents by the affine map to colours that previews use, at one colour a cell, enlarged: far
    cheaper than the decoder.
    """
    codec = of_pictures(pipe.codec, pipe.name, "it has no pictures to look at")
    if linear and codec.autoencoder is not None:
        shown = _linear(codec)
    else:
        images = codec.images()
        shown = lambda x: images(x) / 2 + 0.5

    def decode(x0: Tensor) -> Tensor:
        y = shown(x0).expand(-1, 3, -1, -1)
        return y + (y.clamp(0, 1) - y).detach()

    return decode


def _linear(codec: PictureCodec) -> Callable[[Tensor], Tensor]:
    m = fit_rgb(codec)

    def shown(z: Tensor) -> Tensor:
        slope, offset = m[:-1].to(z.device), m[-1].to(z.device)
        rgb = torch.einsum("nchw,cd->ndhw", z.float(), slope) + offset[None, :, None, None]
        return F.interpolate(rgb, scale_factor=codec.cell, mode="bilinear")

    return shown
