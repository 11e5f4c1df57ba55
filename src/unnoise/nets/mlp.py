"""A residual MLP for vectors: x (n, d) with time and class added to every hidden layer."""

from __future__ import annotations

import math
from typing import Annotated

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.nets.bounds import Classes, Count, Flag, Width
from unnoise.nets.unet import TimestepEmbedding, sinusoid


class MLPConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Count
    width: Width = 128
    layers: Annotated[int, Field(strict=True, ge=0, le=256)] = 3
    num_class_embeds: Classes | None = None
    time: Flag = True

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """What is wrong with samples of that shape, in words, or None."""
        n = math.prod(shape)
        return None if n == self.size else f"{n} numbers a sample, the network takes {self.size}"


class MLP(nn.Module):
    """(x, t) -> prediction in x's shape; x (n, …) with `size` entries a sample."""

    def __init__(self, config: MLPConfig):
        super().__init__()
        self.config = c = config
        self.proj_in = nn.Linear(c.size, c.width)
        if c.time:
            self.time_embedding = TimestepEmbedding(c.width, c.width)
        if c.num_class_embeds:
            self.class_embedding = nn.Embedding(c.num_class_embeds, c.width)
        self.norms = nn.ModuleList(nn.LayerNorm(c.width) for _ in range(c.layers))
        self.layers = nn.ModuleList(
            nn.ModuleList([nn.Linear(c.width, 2 * c.width), nn.Linear(2 * c.width, c.width)])
            for _ in range(c.layers)
        )
        self.proj_out = nn.Linear(c.width, c.size)

    def forward(
        self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """x (n, …), t (), (1,) or (n,), labels (n,) int64 -> (n, …). `context` is accepted for the UNet's
        signature; must be None.
        """
        c, h = self.config, self.proj_in(x.flatten(1))
        if x[0].numel() != c.size:
            raise BadInput(f"MLP takes {c.size} numbers a sample, given {tuple(x.shape[1:])}")
        if c.time:
            if t is None:
                raise BadInput("this MLP needs a time t, given None")
            h = h + self.time_embedding(sinusoid(t.reshape(-1), c.width).to(h.dtype))
        if c.num_class_embeds:
            h = h + self.class_embedding(labels)
        for norm, pair in zip(self.norms, self.layers):
            up, down = pair.children()
            h = h + down(F.silu(up(norm(h))))
        return self.proj_out(h).reshape(x.shape)
