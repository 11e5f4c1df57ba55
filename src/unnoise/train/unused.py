"""Keys of a recipe that its data and its task would not look at: given all the same, they are an error, not a
wish without effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from unnoise.base.errors import BadInput
from unnoise.train import worlds
from unnoise.train.recipe import DataSection, ProcessSection, Recipe, TrainSection

SCENES = (
    "size",
    "concepts",
    "mixture",
    "captions",
    "tokenizer",
    "autoencoder",
    "text",
    "cached",
    "tint",
)  # keys of [data] that scenes have
FILES = ("shift", "mirror", "without")  # … that sets and folders have


def check_used(recipe: Recipe) -> None:
    """BadInput names the first key that differs from its default and that nothing in this run reads; it says
    what does.
    """
    for key, reader in _unread(recipe):
        raise BadInput(f"{key} does nothing here: {reader}")


def _unread(recipe: Recipe) -> Iterator[tuple[str, str]]:
    of_scenes, task = worlds.named(recipe.data.name) is not None, recipe.task
    if of_scenes:
        yield from _given(
            recipe.data,
            FILES,
            "data.",
            f"scenes ({recipe.data.name}) are drawn as they are; it is for sets and folders",
        )
        if recipe.patch != 1:
            yield "patch", "scenes are seen pixel by pixel; it is for sets and folders"
    else:
        yield from _given(
            recipe.data,
            SCENES,
            "data.",
            f"it is for scenes (emoji-scenes, emoji-starter-scenes), given data {recipe.data.name!r}",
        )
    if task != "denoise" and not (task == "classify" and recipe.net.get("time")):
        yield from _given(
            recipe.process,
            ProcessSection.model_fields,
            "process.",
            f"task {task!r} has no noise of a process",
        )
    if task not in ("classify", "recognise"):
        yield from _given(
            recipe.train,
            ("label_smoothing",),
            "train.",
            f"task {task!r} has no labels to be smoothed (accepted: classify, recognise)",
        )
    if recipe.net.get("kind") != "unet":
        yield from _given(recipe.train, ("initial",), "train.", "it is for net.kind 'unet'")
    if not recipe.data.low:
        yield from _given(recipe.data, ("low_noise",), "data.", "it is for data.low, which is 0")


def _given(
    section: DataSection | ProcessSection | TrainSection, keys: Iterable[str], prefix: str, reader: str
) -> Iterator[tuple[str, str]]:
    fields = type(section).model_fields
    for key in keys:
        if getattr(section, key) != fields[key].get_default(call_default_factory=True):
            yield prefix + key, reader
