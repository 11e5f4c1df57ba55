"""A whole text-to-image model of random weights, small enough to be made in a blink: autoencoder with a scale
and a shift, text encoder, UNet.
"""

from __future__ import annotations

from pathlib import Path

import torch

from unnoise import hub
from unnoise.codec import Latents
from unnoise.nets.autoencoder import Autoencoder, AutoencoderConfig
from unnoise.nets.clip import TextConfig, TextEncoder
from unnoise.nets.unet import UNet, config_from
from unnoise.text.encode import PromptEncoder
from unnoise.text.tokenizer import Tokenizer
from unnoise.train.recipe import ProcessSection

CAPTIONS = ["a red apple", "two blue cars", "a cat left of a dog", "a green apple on its side"] * 3
SIDE = 16  # pixels; latents have half as many cells
UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "sample_size": SIDE // 2,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "cross_attention_dim": 16,
}
VAE = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
    "sample_size": SIDE,
    "scaling_factor": 0.5,
    "shift_factor": 0.25,
}


def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS, 560, 16)


def codec() -> Latents:
    """8 x 8 latents of pictures of 16 x 16, (z - 0.25) / 2; the same weights every time."""
    return Latents.of(_seeded(lambda: Autoencoder(AutoencoderConfig(**VAE))), SIDE, SIDE)


def text() -> PromptEncoder:
    words = tokenizer()
    config = TextConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=words.size,
        max_position_embeddings=words.length,
        bos_token_id=words.bos,
        eos_token_id=words.eos,
        pad_token_id=words.pad,
    )
    return PromptEncoder(words, _seeded(lambda: TextEncoder(config)))


def painter(folder: Path, **defaults) -> Path:
    """A model folder that draws 16 x 16 pictures for a prompt."""
    return hub.save(
        folder,
        name="painter",
        kind="unet",
        net=_seeded(lambda: UNet(config_from(UNET))),
        weights=None,
        codec=codec(),
        words=None,
        process=ProcessSection(),
        defaults={"num_inference_steps": 4, "guidance_scale": 2.0, **defaults},
        text=text(),
    )


def _seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval().requires_grad_(False)
