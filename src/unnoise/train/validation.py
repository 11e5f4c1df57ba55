"""What a run has come to: figures of held-out data, and sheets of samples, by its averaged weights."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from unnoise.base.sheet import tile
from unnoise.base.write import new_file
from unnoise.train.build import held_out
from unnoise.train.fit import Run
from unnoise.train.items import Items
from unnoise.train.sources import first

BATCH = 256


class Validation:
    """The figures of a task (`Task.validate`) on held-out data with fixed noise: the same at every evaluation
    of the same weights, to the bit.
    """

    def __init__(self, run: Run):
        recipe = run.recipe
        self.src = held_out(recipe, run.source)
        self.index = self.src.judged(recipe.log.validation_samples, recipe.seed)
        if self.src.overlaps(run.source):
            print(
                f"{recipe.data.name} holds no other split than {self.src.data.split!r}: validation looks at"
                " training data",
                file=sys.stderr,
            )

    @torch.no_grad()
    def __call__(self, run: Run) -> dict[str, float]:
        totals: dict[str, list[tuple[float, int]]] = {}
        with averaged(run) as net:
            for start in range(0, len(self.index), BATCH):
                items = self.src.fetch(self.index[start : start + BATCH], run.recipe.seed)
                items = items.to(run.accelerator.device)
                for k, v in run.task.validate(net, items, self.src, start).items():
                    if not math.isnan(v):
                        totals.setdefault(k, []).append((v, len(items.x)))
        return {k: round(math.fsum(u * n for u, n in v) / sum(n for _, n in v), 8) for k, v in totals.items()}


@contextmanager
def averaged(run: Run) -> Iterator[nn.Module]:
    """The run's network with its averaged weights (ema0), not learning; the raw ones afterwards."""
    raw = {k: v.clone() for k, v in run.net.state_dict().items()}
    run.net.load_state_dict(run.ema[0].weights)
    run.net.eval()
    try:
        yield run.net
    finally:
        run.net.load_state_dict(raw)
        run.net.train()


def sheet(run: Run, path: Path) -> None:
    """Write what the task shows (`Task.show`), if there is anything to see."""
    from PIL import Image

    def held(n: int) -> Items:
        return first(held_out(run.recipe, run.source), n).to(run.accelerator.device)

    with torch.no_grad(), averaged(run) as net:
        shown = run.task.show(net, run.source, held)
    if shown is None:
        return
    pictures = run.source.codec.decode(shown)
    with new_file(path) as part:
        Image.fromarray(tile(pictures)).save(part, format="png")
