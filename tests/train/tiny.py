"""Recipes that train in a blink on scikit-learn's 8x8 digits, and the ways in which the tests break a run."""

from __future__ import annotations

import copy
from collections.abc import Callable

from unnoise.train import fit
from unnoise.train.recipe import Recipe, parse

UNET = {
    "kind": "unet",
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "mid_block_type": "UNetMidBlock2D",
    "down_block_types": ["DownBlock2D"] * 2,
    "up_block_types": ["UpBlock2D"] * 2,
}
MLP = {"kind": "mlp", "width": 32, "layers": 1}
JUDGE = {"kind": "classifier", "widths": [4, 8], "features": 8, "dropout": 0.1}
BASE: dict = {
    "name": "tiny",
    "data": {"name": "digits8"},
    "net": MLP,
    "train": {"steps": 8, "batch": 8, "warmup": 2, "lr": 1e-3},
    "log": {"every": 1, "save": 2, "validate_every": 1000, "validation_samples": 8, "tensorboard": False},
}


def toml(net: dict = MLP, **sections: dict) -> dict:
    """The dictionary of a recipe: BASE with another net, and keys of sections replaced."""
    d = copy.deepcopy(BASE) | {"net": dict(net)}
    if net["kind"] == "classifier":
        d["task"] = "classify"
    for name, keys in sections.items():
        d[name] = {**d.get(name, {}), **keys} if isinstance(keys, dict) else keys
    return d


def recipe(net: dict = MLP, **sections: dict) -> Recipe:
    return parse(toml(net, **sections))


def poison(run: fit.Run, when: Callable[[int, int], bool]) -> fit.Run:
    """The run with a loss that is nan at the (step, salt) for which `when` holds; steps count from 0."""
    loss = run.loss
    run.loss = lambda net, b, salt: loss(net, b, salt) * (float("nan") if when(b.step, salt) else 1.0)
    return run
