"""A small residual convolutional classifier: the judge of generated images, and the source of features for FID and KID."""
from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn


class ClassifierConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (32, 64, 128)
    features: int = 64
    dropout: float = 0.1


class _Stage(nn.Module):
    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.norm2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout)
        self.short = nn.Conv2d(cin, cout, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.max_pool2d(F.relu(self.norm2(self.conv2(h)) + self.short(x)), 2)


class Classifier(nn.Module):
    """Images (n, channels, h, w) in [-1, 1] -> logits (n, classes); `embed` gives the features below the last layer."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = c = config
        ins = (c.channels, *c.widths)
        self.stages = nn.ModuleList(_Stage(a, b) for a, b in pairwise(ins))
        self.project = nn.Linear(2 * c.widths[-1], c.features)
        self.head = nn.Linear(c.features, c.classes)
        self.dropout = nn.Dropout(c.dropout)

    def embed(self, x: Tensor) -> Tensor:
        """(n, features), non-negative: mean and maximum over pixels of the last stage, projected, rectified."""
        for stage in self.stages: x = stage(x)
        return F.relu(self.project(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.embed(x)))
