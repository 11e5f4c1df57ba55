"""Keys of a recipe that its data and its task would not look at: given all the same, they are an error, not a
wish without effect.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from unnoise.base.errors import BadInput, unknown
from unnoise.base.names import nearest
from unnoise.base.section import Section
from unnoise.data import SOURCES
from unnoise.process.section import ProcessSection
from unnoise.train.recipe import Recipe
from unnoise.train.tasks import TASKS
from unnoise.worlds import WORLDS

Unread = Iterator[tuple[str, str]]  # a key, and who would read it
# keys of [data] that worlds have, and of those the ones that each may have or not (see its Options)
OF_WORLDS = (
    *("size", "world", "concepts", "mixture", "captions"),
    *("tokenizer", "autoencoder", "text", "cached", "tint", "options"),
)
OPTIONS = OF_WORLDS[:5]
OF_FILES = ("shift", "mirror", "without")  # … that sets and folders have


def check_used(recipe: Recipe) -> None:
    """BadInput names the first key that differs from its default and that nothing in this run reads; it says
    what does.
    """
    for of in (_of_data, _of_process, _of_training):
        for key, reader in of(recipe):
            raise BadInput(f"{key} does nothing here: {reader}")


def _of_data(recipe: Recipe) -> Unread:
    d = recipe.data
    if d.name not in WORLDS:
        if d.name not in SOURCES and not os.path.exists(d.name) and nearest(d.name, WORLDS):
            raise unknown("world", d.name, WORLDS)
        why = f"it is for scenes ({', '.join(WORLDS)}), given data {d.name!r}"
        yield from _given(d, OF_WORLDS, "data.", why)
        return
    why = f"scenes ({d.name}) are drawn as they are; it is for sets and folders"
    yield from _given(d, OF_FILES, "data.", why)
    options = WORLDS[d.name].Options.model_fields
    yield from _given(
        d, [k for k in OPTIONS if k not in options], "data.", f"world {d.name!r} has no such option"
    )
    if recipe.patch != 1:
        yield "patch", "scenes are seen pixel by pixel; it is for sets and folders"


def _of_process(recipe: Recipe) -> Unread:
    if not TASKS[recipe.task].noised(recipe):
        why = f"task {recipe.task!r} has no noise of a process"
        yield from _given(recipe.process, ProcessSection.model_fields, "process.", why)


def _of_training(recipe: Recipe) -> Unread:
    if not TASKS[recipe.task].smooths:
        smooth = ", ".join(name for name, task in TASKS.items() if task.smooths)
        why = f"task {recipe.task!r} has no labels to be smoothed (accepted: {smooth})"
        yield from _given(recipe.train, ("label_smoothing",), "train.", why)
    if recipe.net.get("kind") != "unet":
        yield from _given(recipe.train, ("initial",), "train.", "it is for net.kind 'unet'")
    if not recipe.data.low:
        yield from _given(recipe.data, ("low_noise",), "data.", "it is for data.low, which is 0")


def _given(section: Section, keys: Iterable[str], prefix: str, reader: str) -> Unread:
    fields = type(section).model_fields
    for key in keys:
        if getattr(section, key) != fields[key].get_default(call_default_factory=True):
            yield prefix + key, reader
