"""An upscaler of random weights, as `data.low` makes one: what does not depend on what was learnt can be
tested with it.
"""

from __future__ import annotations

import torch

from unnoise import hub
from unnoise.codec import Pixels
from unnoise.nets.unet import UNet
from unnoise.train.recipe import ProcessSection


def upscaler(folder, size=16, noise=0.5):
    torch.manual_seed(0)
    net = UNet(
        in_channels=25,
        out_channels=12,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        mid_block_type="UNetMidBlock2D",
        norm_num_groups=4,
        sample_size=size // 2,
    ).eval()
    return hub.save(
        folder,
        name="tiny-upscale",
        kind="unet",
        net=net,
        weights=None,
        codec=Pixels(size, size, 3, 2, 2),
        words=None,
        process=ProcessSection(),
        defaults={"upscale": {"factor": 2, "noise": noise}},
    )
