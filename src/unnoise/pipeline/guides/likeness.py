"""Guides towards a picture from a file: the picture itself, its edges, its style."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.guide import losses
from unnoise.guide.steer import Wish
from unnoise.media.pictures import read
from unnoise.pipeline.guides import networks
from unnoise.pipeline.guides.networks import fitted

if TYPE_CHECKING:
    from unnoise.pipeline.pipeline import Pipeline
    from unnoise.worlds.judge import Judge

_WITH_CONTENT = re.compile(r"(.+)@([0-9a-f]{16})")


def target(pipe: Pipeline, value: str) -> Wish:
    """The picture itself."""
    wanted = picture_of(value)
    return lambda images, l: losses.target(images, fitted(wanted, images.shape[2:]).to(images))


def edges(pipe: Pipeline, value: str) -> Wish:
    """Edges where a sketch has them."""
    sketch = picture_of(value)
    return lambda images, l: losses.edges(images, fitted(sketch, images.shape[2:]).to(images))


def style(pipe: Pipeline, value: str) -> Wish:
    """The Gram matrices of the judge's first layers (Gatys et al. 2016)."""
    features = trunk(networks.judge(pipe.runner.device))
    with torch.no_grad():
        wanted = [losses.gram(f) for f in features(picture_of(value))]
    return lambda images, l: losses.style(images, wanted, features)


def trunk(judge: Judge) -> Callable[[Tensor], list[Tensor]]:
    """Images (n, 3, h, w) in [0, 1], of any size -> the outputs of the judge's stem and of all its stages but
    the last.
    """
    size, at = (judge.codec.height, judge.codec.width), next(judge.net.parameters())

    def features(images: Tensor) -> list[Tensor]:
        h = F.relu(judge.net.stem(fitted(images.to(at), size) * 2 - 1))
        out = [h]
        for stage in judge.net.stages[:-1]:
            h = stage(h)
            out.append(h)
        return out

    return features


def with_content(value: str) -> str:
    """The value of a guide's file with the content that it has now: `photo.png@<16 hex digits>`."""
    return value if _WITH_CONTENT.fullmatch(value) else f"{value}@{read(value).sha256[:16]}"


def picture_of(value: str) -> Tensor:
    """The picture (1, 3, h, w) in [0, 1] of a file, named with its content or without. BadInput when that has
    changed.
    """
    named = _WITH_CONTENT.fullmatch(value)
    path = named[1] if named and not Path(value).is_file() else value
    picture = read(path)
    if named and path != value and not picture.sha256.startswith(named[2]):
        raise BadInput(f"the guide's picture {path} has changed since")
    return picture.tensor()
