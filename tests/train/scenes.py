"""Recipes on scenes of the bundled starter set that train in a blink: an autoencoder, a CLIP, a judge and a
latent model made of them.
"""

from __future__ import annotations

from pathlib import Path

from tests.train.tiny import BASE
from unnoise.text.tokenizer import Tokenizer
from unnoise.train.recipe import Recipe, parse

DATA = {"name": "emoji-starter-scenes", "size": 32, "concepts": 40}
AUTOENCODER = {
    "kind": "autoencoder",
    "block_out_channels": [8, 8, 16],
    "latent_channels": 4,
    "norm_num_groups": 4,
}
JUDGE = {"kind": "recogniser", "widths": [8, 8, 16], "features": 16, "dropout": 0.1}
ENCODER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "projection_dim": 8,
}
CLIP = {"kind": "clip", "text": ENCODER, "image": {**ENCODER, "patch_size": 8}}
LATENT = {
    "kind": "unet",
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "down_block_types": ["CrossAttnDownBlock2D"] * 2,
    "up_block_types": ["CrossAttnUpBlock2D"] * 2,
}
NETS = {"autoencode": AUTOENCODER, "contrast": CLIP, "recognise": JUDGE}


def recipe(task: str, data: dict | None = None, objective: dict | None = None, **train) -> Recipe:
    """A recipe of `task`; more keys of data, objective and train as given."""
    return parse(
        {
            **BASE,
            "task": task,
            "net": NETS.get(task, LATENT),
            "data": {**DATA, **(data or {})},
            "objective": objective or {},
            "train": {**BASE["train"], **train},
        }
    )


def tokenizer(folder: Path) -> Path:
    """A tokenizer of a few of the world's words, with room for 64 tokens."""
    return Tokenizer.train(
        ["a red apple on its side", "two blue cars", "a hand with three fingers", "a cat left of a dog"] * 3,
        560,
        64,
    ).save(folder)
