"""From a recipe and its data to the parts of a run: what fits, the data, the network."""

from __future__ import annotations

from torch import nn

from unnoise.base.errors import BadInput, unknown
from unnoise.train import reader, tasks
from unnoise.train.recipe import Recipe
from unnoise.train.sources import Source
from unnoise.train.sources.world import options
from unnoise.train.tasks import TASKS
from unnoise.train.unused import check_used
from unnoise.worlds import WORLDS

FITS = {name: task.kinds for name, task in TASKS.items()}
KINDS = tuple(dict.fromkeys(kind for kinds in FITS.values() for kind in kinds))


def check(recipe: Recipe) -> None:
    """BadInput where what can be told without the data does not fit: net kind and keys, and what `[process]`
    names.
    """
    kind, which = recipe.net.get("kind"), TASKS[recipe.task]
    if kind not in KINDS:
        raise unknown("net.kind", kind, KINDS)
    if kind not in which.kinds:
        fits = "; ".join(f"{name}: {', '.join(kinds)}" for name, kinds in FITS.items())
        raise BadInput(f"task {recipe.task!r} does not go with net.kind {kind!r} ({fits})")
    if recipe.data.tint and not which.tints:
        raise BadInput("data.tint is for task 'recognise': other networks are to keep colours")
    check_used(recipe)
    if recipe.data.name in WORLDS:
        options(recipe.data)
    task = tasks.of(recipe)
    _check_shown(recipe)
    task.check()


def _check_shown(recipe: Recipe) -> None:
    """BadInput where pictures are to be shown beside x to a network that takes none."""
    d = recipe.data
    takes = TASKS[recipe.task].shows and recipe.net["kind"] == "unet"
    if d.low and (not takes or d.name in WORLDS):
        raise BadInput("data.low is for task 'denoise' with net.kind 'unet' on pictures")
    if d.masked and (not takes or d.low):
        raise BadInput("data.masked is for task 'denoise' with net.kind 'unet', without data.low")


def source(recipe: Recipe, split: str | None = None) -> Source:
    """The recipe's training split (or another), with the codec that fits it. BadInput: no such data, or it
    does not fit.
    """
    return tasks.of(recipe).source(split or recipe.data.split)


def held_out(recipe: Recipe, train: Source) -> Source:
    """What validation looks at. BadInput: see `Source.held_out` and `Task.accept`."""
    held = train.held_out(recipe)
    tasks.of(recipe).accept(held, train)
    return held


def network(recipe: Recipe, src: Source) -> nn.Module:
    """The recipe's network, weights drawn from its seed; sizes and class counts that follow from the data are
    filled in. BadInput: see `Task.net`.
    """
    net = tasks.of(recipe).net(src)
    return reader.reading(net, recipe, src) if recipe.train.text else net
