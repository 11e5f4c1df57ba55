"""Recipes: what is accepted, and what one line says of what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from tests.train.tiny import JUDGE, MLP, UNET, recipe, toml
from unnoise.base.read import explain
from unnoise.errors import BadInput
from unnoise.train import recipe as recipes
from unnoise.train.fit import prepare

SHIPPED = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def complaint(d: dict) -> str:
    with pytest.raises(BadInput) as e:
        prepare(recipes.parse(d))
    assert "\n" not in str(e.value)
    return str(e.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_recipes_load_and_survive_json(path):
    r = recipes.load(path)
    assert recipes.parse(json.loads(r.model_dump_json())) == r
    assert recipes.load(path, steps=7).train.steps == 7


@pytest.mark.parametrize(
    "edit, words",
    [
        (
            {"train": {"stepz": 5}},
            ["unknown key 'train.stepz'", "did you mean 'train.steps'?", "accepted: steps, batch"],
        ),
        ({"log": {"evry": 5}}, ["unknown key 'log.evry'", "'log.every'"]),
        ({"process": {"shedule": "ve"}}, ["'process.shedule'", "'process.schedule'"]),
        ({"tran": {}}, ["unknown key 'tran'", "'train'"]),
        ({"zzz": 1}, ["unknown key 'zzz'", "accepted: name, task"]),
        ({"train": {"steps": "ten"}}, ["train.steps", "valid integer", "'ten'"]),
        ({"train": {"steps": True}}, ["train.steps", "True"]),
        ({"train": {"steps": 2.5}}, ["train.steps", "2.5"]),
        ({"train": {"steps": 0}}, ["train.steps", "greater than or equal to 1", "0"]),
        ({"train": {"lr": float("inf")}}, ["train.lr", "finite", "inf"]),
        ({"train": {"lr": float("nan")}}, ["train.lr", "nan"]),
        ({"train": {"betas": [0.9, 1.0]}}, ["train.betas.1", "less than 1", "1.0"]),
        ({"train": {"betas": [0.9]}}, ["train.betas", "missing"]),
        ({"train": {"ema": [0.05, "x"]}}, ["train.ema.1", "'x'"]),
        ({"train": {"ema": [0.05, 0.5]}}, ["train.ema.1", "0.28", "0.5"]),
        ({"train": {"ema": 0.05}}, ["train.ema", "tuple", "0.05"]),
        (
            {"train": {"batch": 8, "accumulate": 3}},
            ["train: batch must be a multiple of accumulate", "8 and 3"],
        ),
        ({"train": {"precision": "fp8"}}, ["train.precision", "'bf16'", "'fp8'"]),
        ({"process": {"weight_options": {"gamma": "five"}}}, ["process.weight_options.gamma", "'five'"]),
        ({"process": {"weight_options": 5}}, ["process.weight_options", "dictionary", "5"]),
        ({"process": {"schedule": "cosin"}}, ["'cosin'", "'cosine'"]),
        ({"process": {"schedule_options": {"U": 3}}}, ["cosine", "'U'"]),
        ({"process": {"predict": "epsi"}}, ["'epsi'", "'eps'"]),
        ({"process": {"weight": "min_snrr"}}, ["'min_snrr'", "'min_snr'"]),
        ({"process": {"weight": "min_snr", "weight_options": {"gama": 5}}}, ["min_snr", "gama"]),
        (
            {"process": {"density": "lognormal", "density_options": {"sd": 1}}},
            ["density 'lognormal'", "sd", "mean and std"],
        ),
        ({"process": {"density_options": {"mean": 1}}}, ["process.density 'schedule'", "mean"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"task": "denoize"}, ["task", "'denoise'", "'denoize'"]),
        ({"task": "classify"}, ["classify", "'mlp'", "classifier"]),
        ({"data": {"name": "digits9"}}, ["'digits9'", "'digits8'"]),
        ({"data": {"validation": "tset"}}, ["'tset'", "'test'"]),
        ({"train": 5}, ["train", "5"]),
    ],
)
def test_a_bad_value_is_one_line_that_says_what_and_where(edit, words, tmp_path):
    from unnoise.train.run import train

    with pytest.raises(BadInput) as e:
        train(recipes.parse(toml(**edit)), tmp_path / "run")
    said = str(e.value)
    assert "\n" not in said
    for word in words:
        assert word in said
    assert not (tmp_path / "run").exists()  # a recipe that cannot be used takes no folder


@pytest.mark.parametrize(
    "net, words",
    [
        ({}, ["net.kind", "None", "unet, mlp, classifier"]),
        ({"kind": "unett"}, ["'unett'", "'unet'"]),
        ({**MLP, "widht": 3}, ["unknown key 'net.widht'", "'net.width'"]),
        ({**MLP, "width": "wide"}, ["net.width", "integer", "'wide'"]),
        ({**MLP, "width": -4}, ["net", "-4"]),
        ({**MLP, "size": 63}, ["net.size", "64", "63"]),
        ({**MLP, "num_class_embeds": 5}, ["net.num_class_embeds", "10", "5"]),
        ({**UNET, "block_out_chanels": [8]}, ["'net.block_out_chanels'", "'net.block_out_channels'"]),
        ({**UNET, "block_out_channels": 8}, ["net.block_out_channels", "tuple", "8"]),
        ({**UNET, "block_out_channels": [8, "x"]}, ["net.block_out_channels.1", "'x'"]),
        ({**UNET, "attention_head_dim": "x"}, ["net.attention_head_dim", "integer", " or ", "tuple", "'x'"]),
        ({**UNET, "down_block_types": ["DownBlock2D"]}, ["net", "down_block_types"]),
        ({**UNET, "norm_num_groups": 5}, ["net", "5"]),
        ({**UNET, "act_fn": "relu"}, ["act_fn", "'relu'", "silu"]),
        ({**UNET, "in_channels": 3}, ["net.in_channels", "1", "3"]),
        ({**JUDGE, "widths": [4, 8, 8, 8, 8]}, ["net"]),  # 8x8 pixels cannot be halved five times
    ],
)
def test_a_bad_net_is_one_line(net, words):
    said = complaint(toml({"kind": "mlp"}) | {"net": net} if net.get("kind") != "classifier" else toml(net))
    for word in words:
        assert word in said


def test_a_missing_key_is_named_unless_it_is_misspelt():
    d = toml()
    del d["train"]["steps"]
    assert complaint(d) == "recipe: train.steps is missing"
    d["train"]["setps"] = 5
    assert "did you mean 'train.steps'" in complaint(d)


def test_files_that_are_no_recipe(tmp_path):
    cases = (
        ("a.toml", b"x = ", "not valid TOML"),
        ("b.toml", b"\xff\xfe", "not UTF-8"),
        ("c.toml", None, "no recipe at"),
    )
    for name, raw, words in cases:
        if raw is not None:
            (tmp_path / name).write_bytes(raw)
        with pytest.raises(BadInput, match=words) as e:
            recipes.load(tmp_path / name)
        assert "\n" not in str(e.value) and name in str(e.value)
    with pytest.raises(BadInput, match="is a folder: a recipe is expected"):
        recipes.load(tmp_path)


def test_explain_follows_lists_dictionaries_and_unions():
    class Leaf(BaseModel):
        model_config = ConfigDict(extra="forbid")
        width: int = 1

    class Tree(BaseModel):
        leaves: list[Leaf] = []
        named: dict[str, Leaf] = {}
        either: Leaf | Literal["none"] = "none"

    def said(**d) -> str:
        with pytest.raises(ValidationError) as e:
            Tree.model_validate(d)
        return explain(e.value, Tree, "tree.")

    assert (
        said(leaves=[{}, {"widht": 1}])
        == "unknown key 'tree.leaves.1.widht'; did you mean 'tree.leaves.1.width'? (accepted: width)"
    )
    assert said(named={"a": {"widht": 1}}).startswith(
        "unknown key 'tree.named.a.widht'; did you mean 'tree.named.a.width'?"
    )
    assert said(either={"widht": 1}).startswith(
        "unknown key 'tree.either.widht'; did you mean 'tree.either.width'?"
    )
    assert (
        said(named={"a": {"width": "x"}})
        == "tree.named.a.width: input should be a valid integer, unable to parse "
        "string as an integer, given 'x'"
    )


def test_data_that_does_not_fit_the_net(tmp_path):
    import numpy as np
    from PIL import Image

    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    vectors = {"name": str(tmp_path / "vectors.npy"), "validation": "train"}
    assert "needs images" in complaint(toml(UNET, data=vectors)) and "'mlp'" in complaint(
        toml(UNET, data=vectors)
    )
    assert "needs images" in complaint(toml(JUDGE, data=vectors))
    assert "data.shift" in complaint(toml(data=vectors | {"shift": 1}))
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.new("RGB", (6, 5), (i, 0, 0)).save(tmp_path / "photos" / f"{i}.png")
    photos = {"name": str(tmp_path / "photos")}
    assert "needs labels" in complaint(toml(JUDGE, data=photos))
    prepare(recipe(UNET, data=photos))  # odd, non-square: padded by the codec
    prepare(recipe(MLP, data=photos))
    prepare(recipe(MLP, data=vectors))
