"""Stable Diffusion folders with random weights, made and saved by diffusers and transformers: tiny ones for
tests, whole ones for benches.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

SHAPES = {
    "1.x": {
        "unet": {"attention_head_dim": 4, "cross_attention_dim": 32},
        "text": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "hidden_act": "quick_gelu",
        },
        "scheduler": {"prediction_type": "epsilon"},
        "pad": "<|endoftext|>",
    },
    "2.x": {
        "unet": {"attention_head_dim": (2, 4), "cross_attention_dim": 48, "use_linear_projection": True},
        "text": {
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "hidden_act": "gelu",
        },
        "scheduler": {"prediction_type": "v_prediction"},
        "pad": "!",
    },
}
TINY_UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (32, 64),
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
TINY_VAE = {
    "sample_size": 32,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
WORDS = re.findall(
    r"\S+",
    "a photo of an astronaut riding a horse on mars the cat dog red green blue apple apples two keyboard"
    " typewriter picture drawing in style",
)


def write_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> Path:
    """A small vocabulary in the published files: every byte, and merges for the words above."""
    visible = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    letters = [chr(b) for b in visible] + [chr(256 + i) for i in range(256 - len(visible))]
    tokens, merges = letters + [c + "</w>" for c in letters], []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = (parts[-2], parts[-1])
            if f"{pair[0]} {pair[1]}" not in merges:
                merges.append(f"{pair[0]} {pair[1]}")
                tokens.append("".join(pair))
            parts[-2:] = ["".join(pair)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                **special,
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": 77,
                "do_lower_case": True,
                "add_prefix_space": False,
            }
        )
    )
    return folder


def make(
    folder: Path,
    shape: str = "1.x",
    unet: dict | None = None,
    vae: dict | None = None,
    text: dict | None = None,
    scheduler: dict | None = None,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    tokenizer: Path | None = None,
    **saving,
) -> Path:
    """Save a StableDiffusionPipeline with random weights (the same every time) by diffusers; returns its
    folder.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    s = SHAPES[shape]
    files = tokenizer or write_tokenizer(folder.with_name(f"{folder.name}-tokenizer"), s["pad"])
    words = CLIPTokenizer.from_pretrained(files)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPTextConfig(
            **{
                "vocab_size": len(words),
                "max_position_embeddings": 77,
                "bos_token_id": words.bos_token_id,
                "eos_token_id": words.eos_token_id,
                "pad_token_id": words.pad_token_id,
                **s["text"],
                **(text or {}),
            }
        )
        parts = {
            "text_encoder": CLIPTextModel(config),
            "vae": AutoencoderKL(**{**TINY_VAE, **(vae or {})}),
            "unet": UNet2DConditionModel(**{**TINY_UNET, **s["unet"], **(unet or {})}),
        }
    schedule = DDIMScheduler(
        **{
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            **s["scheduler"],
            **(scheduler or {}),
        }
    )
    pipe = StableDiffusionPipeline(
        **parts,
        tokenizer=words,
        scheduler=schedule,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.to(dtype=dtype).save_pretrained(folder, safe_serialization=True, variant=variant, **saving)
    return folder


# The shape of Stable Diffusion 1.5, and a small one of about 23 M parameters on 16 x 16 latents, for bench/.
SD15 = {
    "unet": {
        "sample_size": 64,
        "layers_per_block": 2,
        "block_out_channels": (320, 640, 1280, 1280),
        "norm_num_groups": 32,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    },
    "vae": {
        "sample_size": 512,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    },
    "text": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
}
SMALL = {
    "unet": {
        "sample_size": 16,
        "layers_per_block": 1,
        "block_out_channels": (96, 192, 256),
        "norm_num_groups": 32,
        "attention_head_dim": 4,
        "cross_attention_dim": 256,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    },
    "vae": {
        "sample_size": 128,
        "block_out_channels": (32, 64, 96, 96),
        "layers_per_block": 1,
        "norm_num_groups": 32,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    },
    "text": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4},
}
