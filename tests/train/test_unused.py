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
        (lambda: recipe(UNET, data={"world": 2}), "data.world"),
        (lambda: recipe(UNET, data={"options": {"noise": 1}}), "data.options"),
        (lambda: scenes.recipe("contrast", label_smoothing=0.1), "train.label_smoothing"),
        (lambda: scenes.recipe("autoencode").model_copy(update={"patch": 2}), "patch"),
    ],
)
def test_other_keys_without_effect(r, key):
    with pytest.raises(BadInput, match=f"^{key} does nothing here"):
        build.check(r())


@pytest.mark.parametrize(
    "r, says",
    [
        (
            lambda: scenes.recipe("recognise", {"options": {"siz": 32}}),
            "'data.options.siz'; did you mean 'data.options.size'",
        ),
        (
            lambda: scenes.recipe("recognise", {"name": "emoji-scene"}),
            "world 'emoji-scene'; did you mean 'emoji-scenes'",
        ),
        (
            lambda: scenes.recipe("autoencode", objective={"edges": 1}),
            "'objective.edges'; did you mean 'objective.edge'",
        ),
        (lambda: recipe(MLP, objective={"los": "mse"}), "'objective.los'; did you mean 'objective.loss'"),
        (lambda: recipe({**MLP, "widht": 3}), "'net.widht'; did you mean 'net.width'"),
        (lambda: recipe({"kind": "unett"}), "net.kind 'unett'; did you mean 'unet'"),
        (
            lambda: scenes.recipe("contrast").model_copy(update={"net": {"kind": "clip", "txt": {}}}),
            "'net.txt'; did you mean 'net.text'",
        ),
        (lambda: recipe(MLP, task="denois"), "task: input should be 'denoise', 'classify'"),
        (lambda: recipe(MLP, data={"shfit": 1}), "'data.shfit'; did you mean 'data.shift'"),
    ],
)
def test_unknown_keys_of_tasks_worlds_and_sources_name_the_nearest(r, says):
    with pytest.raises(BadInput, match=says):
        build.check(r())


@pytest.mark.parametrize("task", ["score", "classify"])
def test_only_denoisers_are_shown_pictures(task):
    net = MLP if task == "score" else JUDGE
    for data in ({"low": 2}, {"masked": True}):
        with pytest.raises(BadInput, match=f"data.{next(iter(data))} is for task 'denoise'"):
            build.check(recipe(net, task=task, data=data))


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
