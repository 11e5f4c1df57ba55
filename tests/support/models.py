"""Small real models for tests: a UNet and an MLP with random weights, saved as model folders."""

from __future__ import annotations

from pathlib import Path

import torch

from unnoise import hub
from unnoise.codec import Pixels, Vectors
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.nets.unet import UNet, config_from
from unnoise.text.words import Words
from unnoise.train.recipe import ProcessSection

WORDS = Words(("a handwritten zero", "a handwritten one", "a t-shirt", "an ankle boot"))
UNET = {
    "in_channels": 1,
    "out_channels": 1,
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "mid_block_type": "UNetMidBlock2D",
    "attention_head_dim": 16,
    "num_class_embeds": 5,
}


def tiny_unet() -> UNet:
    """An 8x8 grey class-conditional UNet; the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(config_from(UNET)).eval()


def tiny_folder(path: Path) -> Path:
    """A model folder that draws 8x8 pictures."""
    return hub.save(
        path,
        name="tiny",
        kind="unet",
        net=tiny_unet(),
        weights=None,
        codec=Pixels(8, 8, 1, multiple=2),
        words=WORDS,
        process=ProcessSection(),
        defaults={"num_inference_steps": 4, "guidance_scale": 1.5},
    )


def vector_folder(path: Path) -> Path:
    """A model folder that draws vectors of three numbers, without conditions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = MLP(MLPConfig(size=3, width=16, layers=1)).eval()
    return hub.save(
        path,
        name="vectors",
        kind="mlp",
        net=net,
        weights=None,
        codec=Vectors((3,), 1.0, 2.0),
        words=None,
        process=ProcessSection(),
    )
