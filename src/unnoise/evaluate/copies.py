"""Near-copies: pictures that lie closer to a training picture than training pictures lie to one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from unnoise.evaluate.exam import share

SIDE = 32  # pixels of what is compared
NEAR = 0.01  # of the training pictures, how many lie closer to another than the threshold


@dataclass(frozen=True)
class Copies:
    """Training pictures, (n, 3072) as 32 x 32 x 3 numbers in [0, 1], and the distance below which a picture
    is a near-copy.
    """

    x: torch.Tensor
    threshold: float

    @classmethod
    def of(cls, pictures: Sequence[np.ndarray]) -> Copies:
        """uint8 (h, h, 3) each, h a multiple of 32."""
        x = torch.stack([_small(p) for p in pictures])
        d = torch.cdist(x, x)
        d.fill_diagonal_(float("inf"))
        return cls(x, float(torch.quantile(d.amin(1), NEAR)))

    def share(self, images: np.ndarray) -> dict[str, float]:
        """{value, se, n, median (of the nearest distances, root mean square a number), threshold}."""
        parts = [images[k : k + 100] for k in range(0, len(images), 100)]
        near = torch.cat([torch.cdist(torch.stack([_small(i) for i in p]), self.x).amin(1) for p in parts])
        scale = self.x.shape[1] ** -0.5
        return {
            **share((near < self.threshold).numpy()),
            "median": float(near.median()) * scale,
            "threshold": self.threshold * scale,
        }


def _small(image: np.ndarray) -> torch.Tensor:
    block = len(image) // SIDE
    return torch.from_numpy(image.reshape(SIDE, block, SIDE, block, 3).mean((1, 3)).reshape(-1) / 255).float()
