"""Keys of a recipe that nothing in the run would read are errors; every shipped recipe is free of them."""

from pathlib import Path

import pytest

from tests.train import scenes
from tests.train.tiny import JUDGE, MLP, UNET, recipe
from unnoise.errors import BadInput
from unnoise.train import build
from unnoise.train import recipe as recipes
from unnoise.train.unused import check_used

ROOT = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("task", ["autoencode", "recognise", "contrast"])
@pytest.mark.parametrize(
    "key, change",
    [
        ("data.mirror", {"data": {"mirror": 0.5}}),
        ("data.shift", {"data": {"shift": 2}}),
        ("data.without", {"data": {"without": ["nonsense"]}}),
        ("data.low_noise", {"data": {"low_noise": 0.1}}),
        ("train.initial", {"initial": "near_linear"}),
    ],
)
def test_scenes_and_their_tasks(task, key, change):
    with pytest.raises(BadInput, match=rf"^{key} does nothing here: ") as e:
        build.check(scenes.recipe(task, **change))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "keys", [{"schedule": "nonsense"}, {"predict": "eps"}, {"drop_label": 0.3}, {"clock": "none"}]
)
@pytest.mark.parametrize("task", ["autoencode", "recognise"])
def test_a_process_where_there_is_none(task, keys):
    r = scenes.recipe(task)
    r = r.model_copy(update={"process": recipes.ProcessSection(**keys)})
    with pytest.raises(BadInput, match=f"process.{next(iter(keys))} does nothing here: task '{task}'"):
        build.check(r)
    with pytest.raises(BadInput, match="process"):
        build.check(recipe(JUDGE, process=keys))


@pytest.mark.parametrize(
    "r, key",
    [
        (lambda: recipe(MLP, data={"concepts": 5}), "data.concepts"),
        (lambda: recipe(UNET, data={"size": 32}), "data.size"),
        (lambda: recipe(UNET, data={"captions": "plain"}), "data.captions"),
        (lambda: recipe(MLP, train={"initial": "near_linear"}), "train.initial"),
        (lambda: recipe(UNET, train={"label_smoothing": 0.1}), "train.label_smoothing"),
        (lambda: recipe(UNET, data={"low_noise": 0.1}), "data.low_noise"),
        (lambda: scenes.recipe("contrast", label_smoothing=0.1), "train.label_smoothing"),
        (lambda: scenes.recipe("autoencode").model_copy(update={"patch": 2}), "patch"),
    ],
)
def test_other_keys_without_effect(r, key):
    with pytest.raises(BadInput, match=f"^{key} does nothing here"):
        build.check(r())


def test_keys_that_are_read_stay_accepted():
    for r in (
        recipe(UNET, train={"initial": "near_linear"}, data={"mirror": 0.5, "low": 2, "low_noise": 0.1}),
        recipe(JUDGE, train={"label_smoothing": 0.1}),
        recipe({**JUDGE, "time": True}, process={"schedule": "cosine", "drop_label": 0.0}),
        scenes.recipe("recognise", {"tint": 0.2}, label_smoothing=0.1),
    ):
        check_used(r)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_have_none(path):
    check_used(recipes.load(path))
