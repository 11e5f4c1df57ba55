"""What passes from a source to a task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ENDLESS = 2**40  # the length of what is drawn as it is needed


@dataclass(frozen=True)
class Items:
    """What a step takes: x (n, …) encoded, labels (n,) or None, and more tensors by name ("ids", a head's
    targets).
    """

    x: Tensor
    labels: Tensor | None
    more: dict[str, Tensor]

    def to(self, device: torch.device) -> Items:
        return Items(
            self.x.to(device),
            None if self.labels is None else self.labels.to(device),
            {k: v.to(device) for k, v in self.more.items()},
        )


@dataclass(frozen=True)
class Facts:
    """What a run remembers of its data: enough to refuse to go on with other data."""

    name: str
    split: str
    sha256: str
    licence: str
    length: int

    def __len__(self) -> int:
        return self.length
