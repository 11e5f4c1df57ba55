"""Small UNets that between them have every kind of block, resampling and projection."""

from __future__ import annotations

import torch
from torch import Tensor

from unnoise.nets.unet import UNet

CLASSES = dict(
    in_channels=4,
    out_channels=4,
    sample_size=14,
    block_out_channels=(64, 128),
    mid_block_type="UNetMidBlock2D",
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=32,
    num_class_embeds=21,
)
TEXT = dict(
    sample_size=16,
    block_out_channels=(32, 64),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    layers_per_block=1,
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=24,
    attention_head_dim=4,
)
LINEAR = TEXT | dict(use_linear_projection=True, attention_head_dim=(2, 4), layers_per_block=2)
WIDE = TEXT | dict(block_out_channels=(32, 256))  # wide enough for the shortened convolutions
PLAIN = dict(
    in_channels=3,
    out_channels=3,
    sample_size=8,
    block_out_channels=(32, 32, 64),
    mid_block_type=None,
    layers_per_block=1,
    down_block_types=("DownBlock2D",) * 3,
    up_block_types=("UpBlock2D",) * 3,
    norm_num_groups=8,
)
SHAPES = {"classes": CLASSES, "text": TEXT, "linear": LINEAR, "wide": WIDE, "plain": PLAIN}


def built(name: str, **more) -> UNet:
    """A UNet with random weights; norms and biases too, which start at 1 and 0."""
    torch.manual_seed(1)
    net = UNet(**SHAPES[name], **more).eval()
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 1:
                p.add_(0.3 * torch.randn_like(p))
    return net.requires_grad_(False)


def inputs(net: UNet, n: int = 3, h: int = 12, w: int = 8, seed: int = 0) -> dict[str, Tensor | None]:
    """Arguments of one call; h and w differ, and their halves are odd for some."""
    g, c = torch.Generator().manual_seed(seed), net.config
    text = any(b.startswith("Cross") for b in c.down_block_types)
    return {
        "x": torch.randn(n, c.in_channels, h, w, generator=g) * 2 + 0.5,
        "t": torch.rand(n, generator=g) * 999,
        "context": torch.randn(n, 5, c.cross_attention_dim, generator=g) if text else None,
        "labels": torch.arange(n) % c.num_class_embeds if c.num_class_embeds else None,
    }
