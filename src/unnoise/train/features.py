"""Frozen networks by whose features a denoiser's error is also measured: see `perceptual`."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.codec import Codec
from unnoise.nets.classifier import Classifier
from unnoise.nets.unet import UNet
from unnoise.process.level import Level
from unnoise.train import objective
from unnoise.train.perceptual import Features, keys
from unnoise.train.recipe import Recipe


def stages(net: Classifier) -> Features:
    """The outputs of a classifier's stages for x0, and its features."""
    net = _frozen(net)

    def f(x0: Tensor, eps: Tensor, l: Level, labels: Tensor | None) -> list[Tensor]:
        h, out = x0, []
        for stage in net.to(x0.device).stages:
            h = stage(h)
            out.append(h)
        return out

    return f


def middle(net: UNet, process: objective.Process) -> Features:
    """The output of a denoiser's middle block for alpha x0 + sigma eps at a level, told the labels where it
    takes them.
    """
    half = _frozen(net)  # walks down and across, and returns what it has there
    half.up_blocks, half.finish = nn.ModuleList(), lambda x: x

    def f(x0: Tensor, eps: Tensor, l: Level, labels: Tensor | None) -> list[Tensor]:
        labelled = {"labels": labels} if half.config.num_class_embeds else {}
        return [process.answer(lambda x, t: half.to(x.device)(x, t, **labelled), x0, eps, l)[1]]

    return f


def features_of(recipe: Recipe, codec: Codec) -> Features | None:
    """The features that [objective] names, None where it names none. BadInput: no such model, another kind,
    or of other data.
    """
    from unnoise import hub

    name = keys(recipe).features
    if not name:
        return None
    if recipe.process.predict in ("eps", "epsilon", "score"):
        raise BadInput(
            "objective.features needs an estimate of x0 at every level, which process.predict"
            f" {recipe.process.predict!r} does not give without signal (accepted: v, x0, velocity, edm)"
        )
    f = hub.load(name)
    if _sees(f.codec) != _sees(codec):
        raise BadInput(f"objective.features: {f.name!r} sees other data ({f.codec}) than this run ({codec})")
    if isinstance(f.net, Classifier) and not f.net.config.time:
        return stages(f.net)
    if isinstance(f.net, UNet) and f.process and f.net.config.mid_block_type and not f.text:
        return middle(f.net, objective.resolve(f.process))
    raise BadInput(
        f"objective.features: {f.name!r} is of kind {f.kind} (accepted: a classifier of clean images, or a"
        " UNet with a middle block and no text)"
    )


def _sees(codec: Codec) -> tuple:
    """What makes two codecs give a network the same tensors."""
    return type(codec), tuple(codec.shape(1)), {k: v for k, v in codec.config().items() if k != "multiple"}


def _frozen(net: Any) -> Any:
    return copy.deepcopy(net).eval().requires_grad_(False)
