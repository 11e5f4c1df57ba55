"""A denoiser that is shown a smaller version of its picture (SR3, Saharia et al. 2021; CDM, Ho et al. 2021):
`[data] low = 2`.

    net([r_t, up(y + s eps'), s], t) -> prediction of r = g (x0 - up(y + s eps')),    y the f x f means of x0,
    s of [0, low_noise]

What is diffused is what the raised picture lacks, r, enlarged by g = scale.GAIN to near unit size: a network
that knows nothing gives that picture back. r_t, the raised picture and the plane that says s are the
network's input channels: c p^2 + c p^2 + 1, for patches of p. Trained at many s, it can be told at use how
far to believe what it is shown (noise-conditioning augmentation). A quarter of the small pictures are clean
(s = 0); with the chance `process.drop_label` none is shown, and r is x0 itself: for guidance, and for
denoising alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.codec import Codec, is_of_pictures
from unnoise.codec.scale import down, gain, hidden, shown
from unnoise.process import noise
from unnoise.train.recipe import Recipe

Net = Callable[..., Tensor]


def channels(codec: Codec, f: int) -> int:
    """How many channels the network takes more than the picture has. BadInput where the pictures cannot be
    halved so.
    """
    if not is_of_pictures(codec) or codec.autoencoder:
        raise BadInput("data.low needs pictures, not latents or numbers")
    if codec.height % (f * codec.cell) or codec.width % (f * codec.cell):
        raise BadInput(
            f"data.low = {f} and patch = {codec.cell} need sides divisible by {f * codec.cell}, the"
            f" pictures have {codec.height} x {codec.width}"
        )
    return codec.shape(1)[1] + 1


def seeing(net: Net, condition: Tensor) -> Net:
    """The network with the condition (n or 1, c', h, w) beside every x."""

    def call(x: Tensor, t: Tensor | None, **more) -> Tensor:
        return net(torch.cat([x, condition.to(x).expand(len(x), -1, -1, -1)], dim=1), t, **more)

    return call


def left(x0: Tensor, condition: Tensor) -> Tensor:
    """What the raised picture lacks: x0 less it, enlarged by GAIN; x0 itself where nothing is shown."""
    return (x0 - condition[:, : x0.shape[1]].to(x0)) * gain(condition).to(x0)


def restored(r: Tensor, condition: Tensor) -> Tensor:
    """The way back from `left`."""
    return r / gain(condition).to(r) + condition[:, : r.shape[1]].to(r)


def clean(recipe: Recipe, x0: Tensor) -> Tensor:
    """The condition that x0's own small version is, without noise: what validation uses."""
    return shown(_small(recipe, x0), recipe.data.low, torch.zeros(len(x0)), recipe.patch)


def drawn(
    recipe: Recipe, x0: Tensor, stream: str, step: int, total: int, places, positions, drop: Tensor
) -> Tensor:
    """The condition of a training batch: noise and its strength are those of the places in the stream."""
    y = _small(recipe, x0)
    u = noise.uniform(recipe.seed, stream + "/low/strength", step, (total,))[
        places
    ]  # a stream of its own: the noise has the other
    s = (recipe.data.low_noise * (4 * u - 1).clamp(min=0) / 3).to(y)
    eps = noise.draws(recipe.seed, stream + "/low", positions, y.shape[1:]).to(y)
    return hidden(shown(y + s.reshape(-1, 1, 1, 1) * eps, recipe.data.low, s, recipe.patch), drop)


def _small(recipe: Recipe, x0: Tensor) -> Tensor:
    return down(F.pixel_shuffle(x0, recipe.patch), recipe.data.low)
