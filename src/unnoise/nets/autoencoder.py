"""The autoencoder of Stable Diffusion (AutoencoderKL), with the parameter names of the published checkpoints.

    x (n, 3, h, w) in [-1, 1]  --encoder, quant_conv-->  mean, log variance (n, latent_channels, h / f, w / f)
    z (n, latent_channels, h / f, w / f)  --post_quant_conv, decoder-->  (n, 3, h, w),    f = 2^(number of
    blocks - 1)

Latents here are the network's own; what a diffusion model sees is (z - shift) * scale, which is
`codec.latents`' work. `walk_encoder` and `walk_decoder` go through the parts of a network: its modules, or
what is made of them for speed. What is at the latents' own resolution (with the attention) costs little
memory and is never tiled; the other resolutions are tiled one by one (`nets.tiles`), so that only what is
between two of them is whole. The config keys and defaults are those of diffusers' AutoencoderKL, so that a
folder opens in both. Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion Models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.base.read import fit
from unnoise.base.text import short
from unnoise.nets import layers
from unnoise.nets.bounds import Depth, Flag, Kinds, Width, Widths
from unnoise.nets.tiles import tiled
from unnoise.nets.unet import ResnetBlock2D, SelfAttention2D, UNetConfig, _UpConv

Layer = Callable[[Tensor], Tensor]


class AutoencoderConfig(BaseModel):
    """The shape of an autoencoder, and the scale and shift between its latents and those of a diffusion
    model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_channels: Width = 3
    out_channels: Width = 3
    down_block_types: Kinds = ("DownEncoderBlock2D",)
    up_block_types: Kinds = ("UpDecoderBlock2D",)
    block_out_channels: Widths = (64,)
    layers_per_block: Depth = 1
    latent_channels: Width = 4
    norm_num_groups: Width = 32
    sample_size: Width | tuple[Width, Width] = 32
    scaling_factor: Annotated[float, Field(strict=True, gt=0, le=1e6)] = 0.18215
    shift_factor: Annotated[float, Field(strict=True, ge=-1e6, le=1e6)] | None = None
    use_quant_conv: Flag = True
    use_post_quant_conv: Flag = True
    mid_block_add_attention: Flag = True
    force_upcast: Flag = True  # a note on fp16; here every decoder output is checked

    @property
    def factor(self) -> int:
        """Pixels of an image along the side of one latent cell."""
        return 2 ** (len(self.block_out_channels) - 1)


FIXED: dict[str, tuple] = {"act_fn": ("silu",), "latents_mean": (None,), "latents_std": (None,)}


def autoencoder_config_from(d: dict) -> AutoencoderConfig:
    """An AutoencoderConfig from a published `config.json`: BadInput names a key whose value asks for what is
    not built here.
    """
    own = {k: v for k, v in d.items() if k in AutoencoderConfig.model_fields}
    nothing = {"scaling_factor", "sample_size"} & {
        k for k, v in own.items() if v is None
    }  # null: as if it were not there
    for k, v in d.items():
        if k in own or k.startswith("_"):
            continue
        if k not in FIXED:
            raise BadInput(
                f"autoencoder config key {short(k)} is not known (accepted:"
                f" {', '.join(AutoencoderConfig.model_fields)})"
            )
        if v not in FIXED[k]:
            raise BadInput(
                f"autoencoder config {k} = {short(v)} is not supported (accepted: {FIXED[k][0]!r})"
            )
    return fit(AutoencoderConfig, {k: v for k, v in own.items() if k not in nothing}, "autoencoder config")


@dataclass(frozen=True)
class Posterior:
    """q(z | x) = N(mean, exp(logvar)), each (n, c, h, w); logvar is kept within [-30, 20]."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        """The likeliest latents: the mean."""
        return self.mean

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """mean + exp(logvar / 2) noise. noise: unit normals of the mean's shape; None draws them from
        PyTorch's own generator.
        """
        return self.mean + (self.logvar / 2).exp() * (torch.randn_like(self.mean) if noise is None else noise)

    def kl(self) -> Tensor:
        """KL(q || N(0, 1)) in nats, summed over all but the batch: (n,)."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1 - self.logvar).flatten(1).sum(1)


# --- parts --------------------------------------------------------------------------------------------------


class Resnet(ResnetBlock2D):
    """The UNet's, without time. Where nothing is differentiated, what is dead is overwritten: less memory at
    the peak.
    """

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(x, None)
        h = self.conv2(_act(self.norm2, self.conv1(_act(self.norm1, x))))
        return h.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


def _act(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """silu(norm(x)); x is left as it is."""
    return layers.norm(norm, x) if torch.is_grad_enabled() else F.silu(norm(x), inplace=True)


class Down(nn.Module):
    """Every other pixel, by a convolution whose padding is on the right and below only."""

    def __init__(self, c: int):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return layers.conv(self.conv, F.pad(x, (0, 1, 0, 1)))


class Stage(nn.Module):
    """The layers of one resolution: resnets, then attention ("attention") or resampling ("down", "up")."""

    def __init__(self, cin: int, cout: int, count: int, c: UNetConfig, kind: str):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(cin if j == 0 else cout, cout, None, c) for j in range(count))
        if kind == "attention":
            self.attentions = nn.ModuleList([SelfAttention2D(cout, cout, c)])
        if kind == "down":
            self.downsamplers = nn.ModuleList([Down(cout)])
        if kind == "up":
            self.upsamplers = nn.ModuleList([_UpConv(cout, 1)])


class Half(nn.Module):
    """What the encoder and the decoder have alike."""

    conv_norm_out: nn.GroupNorm
    conv_out: nn.Conv2d

    def finish(self, x: Tensor) -> Tensor:
        """From the last block's channels to the output."""
        return layers.conv(self.conv_out, _act(self.conv_norm_out, x))


class Encoder(Half):
    """Images (n, in_channels, h, w) -> moments (n, 2 latent_channels, h / f, w / f)."""

    def __init__(self, c: AutoencoderConfig):
        super().__init__()
        ch, n, like = c.block_out_channels, len(c.block_out_channels), _like(c)
        self.conv_in = nn.Conv2d(c.in_channels, ch[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Stage(ch[max(i - 1, 0)], ch[i], c.layers_per_block, like, "down" if i < n - 1 else "")
            for i in range(n)
        )
        self.mid_block = Stage(ch[-1], ch[-1], 2, like, "attention" if c.mid_block_add_attention else "")
        self.conv_norm_out = nn.GroupNorm(c.norm_num_groups, ch[-1], 1e-6)
        self.conv_out = nn.Conv2d(ch[-1], 2 * c.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return walk_encoder(self, x)


class Decoder(Half):
    """Latents (n, latent_channels, h, w) -> images (n, out_channels, f h, f w)."""

    def __init__(self, c: AutoencoderConfig):
        super().__init__()
        ch, n, like = c.block_out_channels[::-1], len(c.block_out_channels), _like(c)
        self.conv_in = nn.Conv2d(c.latent_channels, ch[0], 3, padding=1)
        self.mid_block = Stage(ch[0], ch[0], 2, like, "attention" if c.mid_block_add_attention else "")
        self.up_blocks = nn.ModuleList(
            Stage(ch[max(i - 1, 0)], ch[i], c.layers_per_block + 1, like, "up" if i < n - 1 else "")
            for i in range(n)
        )
        self.conv_norm_out = nn.GroupNorm(c.norm_num_groups, ch[-1], 1e-6)
        self.conv_out = nn.Conv2d(ch[-1], c.out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        return walk_decoder(self, z)


def _like(c: AutoencoderConfig) -> UNetConfig:
    """What the UNet's layers read of a config."""
    return UNetConfig(norm_num_groups=c.norm_num_groups, norm_eps=1e-6)


# --- the walks ----------------------------------------------------------------------------------------------


def walk_encoder(e: Any, x: Tensor) -> Tensor:
    """Moments of x through `e`: conv_in, down_blocks[i].{resnets, downsamplers}, mid_block.{resnets,
    attentions}, finish.

    Each of them is called with x alone; downsamplers pad for themselves.
    """
    return through(
        [*(f for i in range(len(e.down_blocks)) for f in encoder_layers(e, i)), *mid_layers(e), e.finish], x
    )


def walk_decoder(d: Any, z: Tensor) -> Tensor:
    """The image of z through `d`: conv_in, mid_block.{resnets, attentions}, up_blocks[i].{resnets,
    upsamplers}, finish.

    Each of them is called with x alone.
    """
    return through(
        [d.conv_in, *mid_layers(d), *(f for i in range(len(d.up_blocks)) for f in decoder_layers(d, i))], z
    )


def encoder_layers(e: Any, i: int) -> list[Layer]:
    """One resolution on the way down, from x as the one before leaves it."""
    return [
        *([] if i else [e.conv_in]),
        *e.down_blocks[i].resnets,
        *getattr(e.down_blocks[i], "downsamplers", []),
    ]


def decoder_layers(d: Any, i: int) -> list[Layer]:
    """One resolution on the way up, from x as the one before leaves it."""
    return [
        *(d.up_blocks[i - 1].upsamplers if i else []),
        *d.up_blocks[i].resnets,
        *([] if d.up_blocks[i + 1 :] else [d.finish]),
    ]


def mid_layers(u: Any) -> list[Layer]:
    first, second = u.mid_block.resnets
    return [first, *getattr(u.mid_block, "attentions", []), second]


def through(layers: list[Layer], x: Tensor) -> Tensor:
    """One after the other. `x` is the only name of what is on its way: nothing is kept longer than it is
    needed.
    """
    for layer in layers:
        x = layer(x)
    return x


# --- the whole ----------------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """Images <-> latents, neither scaled nor shifted."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = c = config
        _check(c)
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        if c.use_quant_conv:
            self.quant_conv = nn.Conv2d(2 * c.latent_channels, 2 * c.latent_channels, 1)
        if c.use_post_quant_conv:
            self.post_quant_conv = nn.Conv2d(c.latent_channels, c.latent_channels, 1)

    def encode(self, x: Tensor) -> Posterior:
        """Images (n, in_channels, h, w) in [-1, 1], h and w divisible by f -> the distribution of their
        latents. BadInput else.
        """
        self.check_images(x)
        return self.posterior(walk_encoder(self.encoder, x))

    def decode(self, z: Tensor) -> Tensor:
        """Latents (n, latent_channels, h, w) -> images (n, out_channels, f h, f w), about [-1, 1], not
        clipped. BadInput else.
        """
        return walk_decoder(self.decoder, self.before(z))

    forward = decode

    def posterior(self, moments: Tensor) -> Posterior:
        """The encoder's output as a distribution."""
        mean, logvar = (self.quant_conv(moments) if self.config.use_quant_conv else moments).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(-30, 20))

    def before(self, z: Tensor) -> Tensor:
        """What the decoder is given for latents z. BadInput for another shape."""
        c = self.config.latent_channels
        if z.ndim != 4 or z.shape[1] != c or 0 in z.shape[2:]:
            raise BadInput(f"latents must be (n, {c}, h, w), given {tuple(z.shape)}")
        return self.post_quant_conv(z) if self.config.use_post_quant_conv else z

    def check_images(self, x: Tensor) -> None:
        """BadInput when x has a shape that the encoder cannot take."""
        c, f = self.config.in_channels, self.config.factor
        if x.ndim != 4 or x.shape[1] != c or 0 in x.shape[2:] or x.shape[2] % f or x.shape[3] % f:
            raise BadInput(
                f"images must be (n, {c}, h, w) with h, w divisible by {f}, given {tuple(x.shape)}"
            )

    @torch.no_grad()
    def tiled_encode(self, x: Tensor, tile: int = 64, overlap: int = 16, exact: bool = True) -> Posterior:
        """`encode` by overlapping tiles, without gradients and in less memory; tile and overlap as in
        `tiled_decode`.
        """
        self.check_images(x)
        e, n, convs = self.encoder, len(self.encoder.down_blocks), 2 * self.config.layers_per_block
        for i in range(n - 1):
            units = 2 ** (n - 1 - i), 2 ** (n - 2 - i)
            reach = math.ceil(
                (convs + 2 + (i == 0)) / units[0]
            )  # two convolutions a resnet, one that halves, one at the start
            x = tiled(partial(through, encoder_layers(e, i)), x, units, tile, overlap, reach, exact)
        return self.posterior(through([*encoder_layers(e, n - 1), *mid_layers(e), e.finish], x))

    @torch.no_grad()
    def tiled_decode(
        self, z: Tensor, tile: int = 64, overlap: int = 16, exact: bool = True, parts: Any = None
    ) -> Tensor:
        """`decode` by overlapping tiles, without gradients and in less memory: kept whole is what is between
        two resolutions.

        tile, overlap: latent cells along a side (f pixels each). A tile as large as the image: bit for bit
        what `decode` gives. Else equal to rounding, for 4 to 5 times the work, where the overlap is 16 or
        more; not `exact`: in one go, each tile normalised by itself, which shifts tones. parts: what
        `walk_decoder` would walk through instead of the decoder's modules.
        """
        d = self.decoder if parts is None else parts
        n, convs = len(d.up_blocks), 2 * self.config.layers_per_block + 2
        x = through(
            [d.conv_in, *mid_layers(d), *decoder_layers(d, 0)], self.before(z)
        )  # at the latents' own resolution
        for i in range(1, n):
            units = 2 ** (i - 1), 2**i
            reach = math.ceil(
                (convs + 1 + (i == n - 1)) / units[1]
            )  # two convolutions a resnet, one that doubles, one at the end
            x = tiled(partial(through, decoder_layers(d, i)), x, units, tile, overlap, reach, exact)
        return x


def _check(c: AutoencoderConfig) -> None:
    n = len(c.block_out_channels)
    for key, accepted in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        given = getattr(c, key)
        if len(given) != n:
            raise BadInput(f"autoencoder {key} has {len(given)} entries for {n} block_out_channels")
        for kind in given:
            if kind != accepted:
                raise BadInput(f"autoencoder block type {kind!r} is not supported (accepted: {accepted})")
    for width in c.block_out_channels:
        if width % c.norm_num_groups:
            raise BadInput(
                f"autoencoder width {width} is not divisible by norm_num_groups = {c.norm_num_groups}"
            )


OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def legacy_keys(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under today's names of the attention (query -> to_q, …), its 1x1 convolutions (c, c,
    1, 1) as matrices.
    """
    out = {}
    for name, w in weights.items():
        head, _, layer = name.partition(".attentions.")
        if layer:
            i, part, *rest = layer.split(".")
            name = ".".join([f"{head}.attentions.{i}", OLD.get(part, part), *rest])
            if w.ndim == 4 and w.shape[2:] == (1, 1):
                w = w.flatten(1)
        out[name] = w
    return out
