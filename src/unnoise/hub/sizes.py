"""The size of what a model of latents draws, from two configs alone: no network is built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from unnoise.base import read

Side = Annotated[int, Field(strict=True, ge=1, le=65536)]


class _Sizes(BaseModel):
    """A key of the UNet's config, and three of the autoencoder's, which halves its input between its
    blocks.
    """

    sample_size: Side | tuple[Side, Side]
    block_out_channels: list[Side] = Field(min_length=1, max_length=16)
    out_channels: Side = 3
    latent_channels: Side = 4


def drawn(unet: dict[str, Any], vae: dict[str, Any], path: Path) -> dict[str, Any]:
    """{height, width, channels, latent: [channels, height, width]} of a model folder's pictures. BadInput
    names a key that is wrong.
    """
    d = read.fit(
        _Sizes,
        {**vae, "sample_size": unet.get("sample_size")},
        f"{path}: unet/config.json or vae/config.json",
    )
    factor = 2 ** (len(d.block_out_channels) - 1)
    height, width = (d.sample_size, d.sample_size) if isinstance(d.sample_size, int) else d.sample_size
    latent = [d.latent_channels, height, width]
    return {"height": height * factor, "width": width * factor, "channels": d.out_channels, "latent": latent}
