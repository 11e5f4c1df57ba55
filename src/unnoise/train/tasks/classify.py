"""Pictures to their classes: judges, and with `net.time` classifiers of noisy samples, for guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.process.level import corrupt
from unnoise.train import networks, objective
from unnoise.train.items import Items
from unnoise.train.recipe import Recipe
from unnoise.train.sources import Source, of_data
from unnoise.train.tasks.protocol import Task


class Classify(Task):
    """See the file. The loss is `objective.classifying`."""

    kinds = ("classifier",)
    smooths = True

    def __init__(self, recipe: Recipe):
        if recipe.objective:
            keys = ", ".join(recipe.objective)
            raise BadInput(f"task {recipe.task!r} has no [objective] (given {keys}); see [process]")
        super().__init__(recipe)

    @classmethod
    def noised(cls, recipe: Recipe) -> bool:
        return bool(recipe.net.get("time"))

    def check(self) -> None:
        r = self.recipe
        networks.config("classifier", networks.keys(r))
        if not self.noised(r):
            return
        objective.resolve(r.process)
        if r.process.clock == "none":
            raise BadInput(
                "net.time asks for the time of noisy samples, and process.clock 'none' gives none (accepted:"
                " table, c_noise)"
            )

    def source(self, split: str) -> Source:
        return of_data(self.recipe, split)

    def accept(self, held: Source, train: Source) -> None:
        """BadInput: an item of a class that was not trained on."""
        if held.labels is not None and (held.labels == len(train.words)).any():
            raise BadInput(
                f"{self.recipe.data.name}: its {held.data.split} split has a class that its"
                f" {train.data.split} split has not"
            )

    def net(self, src: Source) -> nn.Module:
        r = self.recipe
        channels = networks.picture_shape(r, src.codec)[0]
        if src.labels is None:
            raise BadInput(f"net.kind 'classifier' needs labels, and {r.data.name} has none")
        follows = {"channels": channels, "classes": len(src.words)}
        networks.check_follows(networks.keys(r), follows)
        return networks.built(r, follows, self.start)

    def loss(self, src: Source) -> objective.Loss:
        return objective.classifying(self.recipe)

    def validate(self, net: Any, items: Items, src: Source, start: int) -> dict[str, float]:
        """Loss and accuracy; of noisy samples at the levels of `objective.validated` too, and their means."""
        if not self.noised(self.recipe):
            return self._judged(net(items.x), items.labels)
        process, out, x = objective.resolve(self.recipe.process), {}, items.x
        for u, eps, l in objective.validated(self.recipe, process, x, start):
            found = self._judged(process.classes(net)(corrupt(x, eps, l), l), items.labels)
            out |= {f"{k}_{u:.4f}": v for k, v in found.items()}
        of = {k: [v for name, v in out.items() if name.startswith(k)] for k in ("loss", "accuracy")}
        return {**{k: sum(v) / objective.VALIDATED for k, v in of.items()}, **out}

    def _judged(self, logits: Tensor, labels: Tensor | None) -> dict[str, float]:
        assert labels is not None  # `net` makes no classifier without labels
        logits = logits.float()
        right = (logits.argmax(1) == labels).cpu().double().mean()
        return {"loss": float(F.cross_entropy(logits, labels)), "accuracy": float(right)}

    def save(self, net: Any, src: Source, name: str, folder: Path) -> Path:
        from unnoise import hub
        from unnoise.text.words import Words

        return hub.save(
            folder,
            name=name,
            kind="classifier",
            net=net,
            weights=None,
            codec=src.codec,
            words=Words(tuple(src.words)),
            process=self.recipe.process if self.noised(self.recipe) else None,
        )
