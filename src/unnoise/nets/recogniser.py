"""The judge of scenes: one convolutional trunk, and a head for each thing that a scene can show.

    x (n, 3, h, w) in [-1, 1] -> stem (4x4, stride 2) -> residual stages, halved after each -> 3 x 3 grid of
    means and the maxima -> features features -> one linear layer a head: logits by head

The grid of means keeps where things are, which relations and pairs need; a mean over all places would forget
it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from unnoise.nets.bounds import Fraction, Width, Widths, other_channels
from unnoise.nets.classifier import _Stage


class RecogniserConfig(BaseModel):
    """`heads`: each head's answers, in the order of its logits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: Width = 3
    widths: Widths = (48, 96, 192, 256)
    features: Width = 256
    dropout: Fraction = 0.1
    heads: dict[
        Annotated[str, Field(pattern=r"^\w{1,100}$")],
        Annotated[tuple[str, ...], Field(min_length=1, max_length=1_000_000)],
    ]

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """What is wrong with samples of that shape, in words, or None."""
        return other_channels(shape, self.channels)


class Recogniser(nn.Module):
    """Images (n, channels, h, w) in [-1, 1] -> {head: logits (n, answers)}; `embed` gives the features that
    all heads read.
    """

    def __init__(self, config: RecogniserConfig):
        super().__init__()
        self.config = c = config
        self.stem = nn.Conv2d(c.channels, c.widths[0], 4, stride=2, padding=1)
        self.stages = nn.ModuleList(_Stage(a, b) for a, b in pairwise((c.widths[0], *c.widths)))
        self.project = nn.Linear(10 * c.widths[-1], c.features)
        self.dropout = nn.Dropout(c.dropout)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(c.features, len(answers)) for name, answers in c.heads.items()}
        )

    def embed(self, x: Tensor) -> Tensor:
        """(n, features), non-negative."""
        x = F.relu(self.stem(x))
        for stage in self.stages:
            x = stage(x)
        grid = F.adaptive_avg_pool2d(x, 3).flatten(1)
        return F.relu(self.project(torch.cat([grid, x.amax((2, 3))], dim=1)))

    def answers(self, features: Tensor) -> dict[str, Tensor]:
        """{head: logits (n, answers)} of features."""
        return {name: head(features) for name, head in self.heads.items()}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.answers(self.dropout(self.embed(x)))
