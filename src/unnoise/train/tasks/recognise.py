"""All that an item of a world shows: the sum over its questions of the cross-entropy of their answers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unnoise.base.section import checked
from unnoise.nets.recogniser import Recogniser, RecogniserConfig
from unnoise.train import networks, objective
from unnoise.train.items import Items
from unnoise.train.objective import Batch
from unnoise.train.sources import Source, WorldSource, of_world
from unnoise.train.tasks.protocol import Task
from unnoise.worlds import IGNORED


class Recognise(Task):
    """See the file."""

    kinds = ("recogniser",)
    tints = smooths = True

    def source(self, split: str) -> WorldSource:
        """Pictures with their answers."""
        pixels = of_world(self.recipe, split)
        return replace(pixels, heads=pixels.world.questions())

    def net(self, src: WorldSource) -> nn.Module:
        net = networks.seeded(self.recipe, lambda: self._net(src))
        self.start(net)
        return net

    def _net(self, src: WorldSource) -> nn.Module:
        keys = {"channels": 3, "heads": src.heads, **networks.keys(self.recipe)}
        return Recogniser(checked(RecogniserConfig, keys, "net."))

    def loss(self, src: Source) -> objective.Loss:
        return lambda net, b, salt: self._loss(net, b)

    def _loss(self, net: Any, b: Batch) -> Tensor:
        return self.losses(net(b.x0), b.more).sum() / b.total

    def losses(self, logits: dict[str, Tensor], more: dict[str, Tensor]) -> Tensor:
        """(n,) of the answers that "head/…" of `more` gives."""
        return answered(logits, more, self.recipe.train.label_smoothing)

    def validate(self, net: Any, items: Items, src: Source, start: int) -> dict[str, float]:
        """The loss, and of each question how often it is answered rightly."""
        logits = net(items.x)
        out = {"loss": float(self.losses(logits, items.more).mean())}
        for k, l in logits.items():
            true = items.more[f"head/{k}"]
            asked = true != IGNORED
            right = (l.argmax(1) == true)[asked]
            out[k] = float(right.cpu().double().mean()) if asked.any() else math.nan
        return out

    def save(self, net: Any, src: Source, name: str, folder: Path) -> Path:
        from unnoise import hub

        return hub.save(
            folder,
            name=name,
            kind="recogniser",
            net=net,
            weights=None,
            codec=src.codec,
            words=None,
            process=None,
        )


def answered(logits: dict[str, Tensor], more: dict[str, Tensor], smoothing: float = 0.0) -> Tensor:
    """(n,) sums over the questions of the cross-entropies of their answers, `more["head/…"]`; one that is not
    asked counts nothing.
    """
    how = {"reduction": "none", "ignore_index": IGNORED, "label_smoothing": smoothing}
    each = [F.cross_entropy(l.float(), more[f"head/{k}"], **how) for k, l in logits.items()]
    return torch.stack(each).sum(0)
