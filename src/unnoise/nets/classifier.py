"""A small residual convolutional classifier: the judge of generated images, and the source of features for
FID and KID.

With `time` it is told how noisy its input is, and every stage adds what it makes of that: p(class | x,
level), for guidance.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.nets.bounds import Count, Fraction, Width, Widths, other_channels
from unnoise.nets.unet import TimestepEmbedding, sinusoid


class ClassifierConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: Width = 1
    classes: Count = 10
    widths: Widths = (32, 64, 128)
    features: Width = 64
    dropout: Fraction = 0.1
    time: bool = Field(default=False, strict=True)

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """What is wrong with samples of that shape, in words, or None."""
        return other_channels(shape, self.channels)


class _Stage(nn.Module):
    def __init__(self, cin: int, cout: int, time: int = 0):
        super().__init__()
        if time:
            self.time = nn.Linear(time, cout)
        self.conv1, self.norm1 = nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.norm2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout)
        self.short = nn.Conv2d(cin, cout, 1, bias=False)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        h = self.norm1(self.conv1(x))
        h = F.relu(h if t is None else h + self.time(t)[:, :, None, None])
        return F.max_pool2d(F.relu(self.norm2(self.conv2(h)) + self.short(x)), 2)


class Classifier(nn.Module):
    """Images (n, channels, h, w) in [-1, 1] -> logits (n, classes); `embed` gives the features below the last
    layer.

    With `config.time`, images at any level and its time, (), (1,) or (n,). Errors: BadInput if the time is
    given without need, or missing.
    """

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = c = config
        ins = (c.channels, *c.widths)
        if c.time:
            self.time_embedding = TimestepEmbedding(c.features, c.features)
        self.stages = nn.ModuleList(_Stage(a, b, c.features if c.time else 0) for a, b in pairwise(ins))
        self.project = nn.Linear(2 * c.widths[-1], c.features)
        self.head = nn.Linear(c.features, c.classes)
        self.dropout = nn.Dropout(c.dropout)

    def embed(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """(n, features), non-negative: mean and maximum over pixels of the last stage, projected,
        rectified.
        """
        c, t = self.config, None
        if c.time != (time is not None):
            raise BadInput(
                "this classifier"
                f" {'needs the time of its noisy images' if c.time else 'takes clean images and no time'},"
                f" given {time}"
            )
        if time is not None:
            t = F.silu(self.time_embedding(sinusoid(time.reshape(-1), c.features)))
        for stage in self.stages:
            x = stage(x, t)
        return F.relu(self.project(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)))

    def answers(self, features: Tensor) -> dict[str, Tensor]:
        """{"class": logits (n, classes)} of features: as a judge of one question."""
        return {"class": self.head(features)}

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        return self.head(self.dropout(self.embed(x, time)))
