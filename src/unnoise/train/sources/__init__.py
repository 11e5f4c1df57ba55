"""Where training data come from.

    sets      a known set, a folder or a file: all of it in memory, in shuffled epochs
    world     the items of a world, drawn as they are needed; for pictures, captions and answers
    latents   so many items of a world, encoded once
    captions  what a world says, without its pictures

A source is a class with the members of `Source` (see `protocol`): which items a step takes, what they are as
tensors, what validation looks at in their stead. The tasks open them (`Task.source`).
"""

from __future__ import annotations

from unnoise.train.recipe import Recipe
from unnoise.train.sources.protocol import Drawer, Source, Where, fetch, first
from unnoise.train.sources.sets import SetSource, open_set
from unnoise.train.sources.world import WorldSource, of_world
from unnoise.worlds import WORLDS

__all__ = ["Drawer", "SetSource", "Source", "Where", "WorldSource", "fetch", "first", "of_data", "of_world"]


def of_data(recipe: Recipe, split: str) -> Source:
    """A split of what `data.name` means: a world, else a set or a path. BadInput: it is neither."""
    return of_world(recipe, split) if recipe.data.name in WORLDS else open_set(recipe, split)
