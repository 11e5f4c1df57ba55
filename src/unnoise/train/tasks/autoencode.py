"""Pictures to latents and back.

    |x - y| + square (x - y)^2 + edge |dx - dy| + kl KL(q(z | x), N(0, 1)) / numbers of z

y the decoding of a sample z, d differences of neighbours (the square is what teaches colours early: an
absolute error is as steep for hues as for grain).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from unnoise.base.section import checked
from unnoise.nets.autoencoder import Autoencoder, AutoencoderConfig, Posterior
from unnoise.process import noise
from unnoise.train import networks, objective
from unnoise.train.initial import near_linear
from unnoise.train.items import Items
from unnoise.train.objective import Batch
from unnoise.train.sources import Source
from unnoise.train.tasks import protocol


class Autoencode(protocol.Task):
    """See the file."""

    kinds = ("autoencoder",)

    class Objective(protocol.Objective):
        square: float = Field(default=4.0, ge=0)
        edge: float = Field(default=1.0, ge=0)
        kl: float = Field(default=1e-4, ge=0)

    def net(self, src: Source) -> nn.Module:
        net = networks.seeded(self.recipe, self._net)
        self.start(net)
        return net

    def _net(self) -> nn.Module:
        r = self.recipe
        n = len(r.net.get("block_out_channels", (64,)))
        follows = {
            "down_block_types": ("DownEncoderBlock2D",) * n,
            "up_block_types": ("UpDecoderBlock2D",) * n,
            "sample_size": r.data.size,
        }
        net = Autoencoder(checked(AutoencoderConfig, {**follows, **networks.keys(r)}, "net."))
        near_linear(net)
        return RoundTrip(net)

    def weights(self, net: Any, name: str) -> dict[str, Tensor]:
        from unnoise.hub import parts

        theirs = parts.load_autoencoder(name, net.autoencoder.config.factor).net
        return {f"autoencoder.{k}": v for k, v in theirs.state_dict().items()}

    def loss(self, src: Source) -> objective.Loss:
        return self._loss

    def _loss(self, net: Any, b: Batch, salt: int) -> Tensor:
        eps = b.more.get("noise")
        if eps is None:
            shape = self._latent(net, b.x0.shape[2:])
            eps = noise.draws(self.recipe.seed, self.noise_stream(salt), b.positions, shape)
        return self.errors(b.x0, *net(b.x0, eps.to(b.x0))).sum() / b.total

    def noise_shape(self, net: Any, src: Source) -> tuple[int, ...]:
        return self._latent(net, src.codec.shape(1)[2:])

    def noise_stream(self, salt: int) -> str:
        return "latents"

    def _latent(self, net: Any, size: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the latents of a picture of that size."""
        c = getattr(net, "module", net).autoencoder.config
        return c.latent_channels, *(side // c.factor for side in size)

    def errors(self, x: Tensor, y: Tensor, q: Posterior) -> Tensor:
        """(n,) losses of pictures x, y what came back, and q the posterior of x."""
        o, error = self.objective, (y - x).float()
        far = error.abs().flatten(1).mean(1) + o.square * error.square().flatten(1).mean(1)
        edges = [d.abs().flatten(1).mean(1) for d in (error.diff(dim=2), error.diff(dim=3))]
        return far + o.edge * sum(edges, torch.zeros(())) / 2 + o.kl * q.kl().float() / q.mean[0].numel()

    def validate(self, net: Any, items: Items, src: Source, start: int) -> dict[str, float]:
        y, q = net(items.x, None)
        mse = (y.float().clamp(-1, 1) - items.x).square().flatten(1).mean(1)
        return {
            "loss": float(self.errors(items.x, y, q).mean()),
            "psnr": float((10 * torch.log10(4 / mse.clamp(min=1e-9))).mean()),
            "kl": float(q.kl().mean()),
            "latent_std": float(q.mean.std()),
        }

    def show(self, net: Any, src: Source, held: Callable[[int], Items]) -> Tensor:
        """Pictures and what came back, in turn."""
        x = held(protocol.SHEET).x
        return torch.stack([x, net(x, None)[0].float()], dim=1).flatten(0, 1)

    def save(self, net: Any, src: Source, name: str, folder: Path) -> Path:
        from unnoise.hub import parts

        codec = parts.measured(net.autoencoder, src.fetch(range(256)).x, self.recipe.data.size)
        return parts.save_autoencoder(folder, name, codec)


class RoundTrip(nn.Module):
    """An autoencoder whose `forward` goes there and back, so that DDP sees it: x, and noise or None -> (y,
    posterior of x).
    """

    def __init__(self, autoencoder: Autoencoder):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, x: Tensor, eps: Tensor | None) -> tuple[Tensor, Posterior]:
        q = self.autoencoder.encode(x)
        q = Posterior(q.mean.float(), q.logvar.float())
        return self.autoencoder.decode(q.mean if eps is None else q.sample(eps)), q
