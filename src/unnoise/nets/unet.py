"""The conditional UNet of Stable Diffusion 1.x and 2.x, with the parameter names of the published
checkpoints.

One class covers those and small pixel-space nets by configuration: blocks with text cross-attention
("CrossAttnDownBlock2D"), with self-attention only ("AttnDownBlock2D") or without ("DownBlock2D"); class
conditioning (`num_class_embeds`); no time input (`time = false`, ours). The config keys and their defaults
are those of diffusers' UNet2DConditionModel, so that a folder opens in both; an option of theirs that would
change the maths and that is not built here is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.base.read import fit
from unnoise.base.text import short
from unnoise.nets import layers
from unnoise.nets.bounds import Classes, Depth, Flag, Fraction, Kinds, Small, Width, Widths, other_channels


class UNetConfig(BaseModel):
    """The shape of a UNet; what else a published file holds is checked by `config_from`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_size: Width | tuple[Width, Width] | None = None
    in_channels: Width = 4
    out_channels: Width = 4
    block_out_channels: Widths = (320, 640, 1280, 1280)
    layers_per_block: Depth = 2
    down_block_types: Kinds = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: Kinds = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    attention_head_dim: Width | Widths = (
        8  # the number of heads in cross-attention blocks (published misnomer), their width in others
    )
    cross_attention_dim: Width = 1280
    use_linear_projection: Flag = False
    norm_num_groups: Width = 32
    norm_eps: Small = 1e-5
    num_class_embeds: Classes | None = None
    flip_sin_to_cos: Flag = True
    freq_shift: Annotated[int, Field(strict=True, ge=0, le=1)] = 0
    dropout: Fraction = 0.0
    time: Flag = True

    @property
    def context_width(self) -> int | None:
        """The width of the prompt that it attends to, or None."""
        kinds = (*self.down_block_types, self.mid_block_type or "")
        return self.cross_attention_dim if any("CrossAttn" in k for k in kinds) else None

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """What is wrong with samples of that shape, in words, or None."""
        size = self.sample_size
        sides = (size, size) if isinstance(size, int) else size
        wrong = other_channels(shape, self.out_channels)
        if wrong or sides is None or tuple(shape[1:]) == tuple(sides):
            return wrong
        return f"pictures of {shape[1]} x {shape[2]} for the network, its sample_size is {short(size)}"


# What diffusers writes beside those keys, and the only value that is built here (the published SD 1.x / 2.x
# one).
FIXED: dict[str, tuple] = {
    "act_fn": ("silu",),
    "center_input_sample": (False,),
    "downsample_padding": (1,),
    "mid_block_scale_factor": (1, 1.0),
    "only_cross_attention": (False, None),
    "transformer_layers_per_block": (1,),
    "dual_cross_attention": (False,),
    "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1, 1.0),
    "time_embedding_type": ("positional",),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "attention_type": ("default",),
    "class_embeddings_concat": (False,),
    "addition_embed_type_num_heads": (64,),
    "upcast_attention": (False, True, None),
}
_NONE = (
    "class_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_attention_heads",
    "addition_embed_type",
    "addition_time_embed_dim",
    "time_embedding_dim",
    "time_embedding_act_fn",
    "timestep_post_act",
    "time_cond_proj_dim",
    "projection_class_embeddings_input_dim",
    "cross_attention_norm",
    "reverse_transformer_layers_per_block",
    "mid_block_only_cross_attention",
)
FIXED |= dict.fromkeys(_NONE, (None,))


def config_from(d: dict) -> UNetConfig:
    """A UNetConfig from a published `config.json`: BadInput names a key whose value asks for maths that is
    not built here.
    """
    own, rest = {}, {}
    for k, v in d.items():
        (own if k in UNetConfig.model_fields else rest)[k] = v
    for k, v in rest.items():
        if k.startswith("_"):
            continue
        if k not in FIXED:
            raise BadInput(
                f"UNet config key {short(k)} is not known (accepted: {', '.join(UNetConfig.model_fields)})"
            )
        if v not in FIXED[k]:
            raise BadInput(f"UNet config {k} = {short(v)} is not supported (accepted: {FIXED[k][0]!r})")
    return fit(UNetConfig, own, "UNet config")


def sinusoid(t: Tensor, dim: int, flip: bool = True, shift: int = 0) -> Tensor:
    """(n,) times -> (n, dim) sines and cosines at frequencies 10000^(-i / (dim/2 - shift)); cosines first
    where `flip` (SD).
    """
    half = dim // 2
    freq = torch.exp(
        -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / (half - shift)
    )
    arg = t.float()[:, None] * freq
    emb = torch.cat([arg.cos(), arg.sin()] if flip else [arg.sin(), arg.cos()], dim=-1)
    return F.pad(emb, (0, dim % 2))


class TimestepEmbedding(nn.Module):
    """Two linear layers with a SiLU between."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(dim, out), nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x.to(self.linear_1.weight.dtype))))


def embed(u: Any, c: UNetConfig, t: Tensor | None, n: int, labels: Tensor | None) -> Tensor | None:
    """silu of the time (and class) embedding by u's parts: (n, 4 block_out_channels[0]), or (1, …) where all
    rows would be equal.
    """
    emb = None
    if c.time:
        if t is None:
            raise BadInput("this UNet needs a time t, given None")
        emb = u.time_embedding(
            sinusoid(t.reshape(-1), c.block_out_channels[0], c.flip_sin_to_cos, c.freq_shift)
        )
        if len(emb) not in (1, n):
            raise BadInput(f"times for {len(emb)} samples given with a batch of {n}")
    if c.num_class_embeds:
        if labels is None:
            raise BadInput(f"this UNet needs labels in 0 … {c.num_class_embeds - 1}, given None")
        label = u.class_embedding(labels)
        emb = label if emb is None else emb + label
    return None if emb is None else F.silu(emb)


class ResnetBlock2D(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + time)))."""

    def __init__(self, cin: int, cout: int, temb: int | None, c: UNetConfig):
        super().__init__()
        self.norm1 = nn.GroupNorm(c.norm_num_groups, cin, c.norm_eps)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        if temb is not None:
            self.time_emb_proj = nn.Linear(temb, cout)
        self.norm2 = nn.GroupNorm(c.norm_num_groups, cout, c.norm_eps)
        self.dropout = nn.Dropout(c.dropout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else None

    def forward(self, x: Tensor, temb: Tensor | None) -> Tensor:
        h = layers.conv(self.conv1, layers.norm(self.norm1, x))
        h = layers.norm(self.norm2, h, None if temb is None else self.time_emb_proj(temb))
        h = layers.conv(self.conv2, self.dropout(h))
        return (x if self.conv_shortcut is None else layers.conv(self.conv_shortcut, x)) + h


def _heads(x: Tensor, n: int) -> Tensor:
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


def _flat(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class Place(NamedTuple):
    """Where in the network an attention is: the layer's name ("up_blocks.0.attentions.1"), "self" or "cross",
    and (height, width).
    """

    layer: str
    kind: str
    size: tuple[int, int]


Hook = Callable[[Tensor, Tensor, Tensor, Place], Tensor]


@dataclass(frozen=True)
class Hooked:
    """A prompt (n, tokens, width), and what to call in place of softmax(q k^T / sqrt(d)) v in every attention
    of the network.

    hook(q (n, heads, s, d), k and v (n, heads, t, d), place) -> (n, heads, s, d); `layers.attention(q, k, v)`
    is what it stands for. A network takes it wherever it takes the prompt itself. Prompt-to-prompt, shared
    attention and word maps are hooks.
    """

    context: Tensor | None
    hook: Hook


class Attention(nn.Module):
    """Self- or cross-attention over tokens, as in the transformer blocks of Stable Diffusion (no bias on q,
    k, v).
    """

    def __init__(self, dim: int, heads: int, context: int | None = None):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k, self.to_v = (nn.Linear(context or dim, dim, bias=False) for _ in "kv")
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def forward(
        self, x: Tensor, context: Tensor | None = None, hook: Callable[..., Tensor] | None = None
    ) -> Tensor:
        """hook(q, k, v), heads apart, in place of the attention itself."""
        c = x if context is None else context
        q, k, v = (_heads(m(u), self.heads) for m, u in ((self.to_q, x), (self.to_k, c), (self.to_v, c)))
        return self.to_out[0](_flat((hook or layers.attention)(q, k, v)))


class SelfAttention2D(nn.Module):
    """x + attention over pixels, normalised inside: the attention of "Attn…Block2D" (biases on q, k, v)."""

    def __init__(self, dim: int, head_dim: int, c: UNetConfig):
        super().__init__()
        self.heads, self.place = dim // head_dim, ""
        self.group_norm = nn.GroupNorm(c.norm_num_groups, dim, c.norm_eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in "qkv")
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def forward(self, x: Tensor, context: Tensor | Hooked | None = None) -> Tensor:
        q, k, v = (
            _heads(u, self.heads)
            for u in layers.pixel(layers.norm(self.group_norm, x, act=False), self.to_q, self.to_k, self.to_v)
        )
        attention = _at(context, self.place, "self", x) or layers.attention
        h = layers.image(_flat(attention(q, k, v)), x)
        return x + layers.image(layers.pixel(h, self.to_out[0])[0], x)


class GEGLU(nn.Module):
    def __init__(self, dim: int, out: int):
        super().__init__()
        self.proj = nn.Linear(dim, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        h, gate = self.proj(x).chunk(2, dim=-1)
        return h * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.net = nn.ModuleList(
            [GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)]
        )  # net.1 is dropout in the checkpoints

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention to the prompt, feed-forward; each after a LayerNorm, each added."""

    def __init__(self, dim: int, heads: int, context: int):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in "123")
        self.attn1, self.attn2 = Attention(dim, heads), Attention(dim, heads, context)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, context: Tensor, hooks: Sequence[Any] = (None, None)) -> Tensor:
        """hooks: of self- and of cross-attention."""
        x = x + self.attn1(self.norm1(x), None, hooks[0])
        x = x + self.attn2(self.norm2(x), context, hooks[1])
        return x + self.ff(self.norm3(x))


def _at(context: Any, layer: str, kind: str, x: Tensor) -> Callable[..., Tensor] | None:
    """The hook of a `Hooked` context for one attention over the pixels of x (n, c, h, w); None without
    one.
    """
    if not isinstance(context, Hooked):
        return None
    place = Place(layer, kind, (x.shape[2], x.shape[3]))
    return lambda q, k, v: context.hook(q, k, v, place)


def attended(context: Tensor | None, width: int) -> Tensor:
    """The prompt itself. BadInput when there is none, or one of another shape than (n, tokens, width)."""
    if context is None:
        raise BadInput(f"this UNet attends to a prompt: context (n, tokens, {width}) is needed, given None")
    if context.ndim == 3 and context.shape[2] == width and 0 not in context.shape:
        return context
    raise BadInput(f"context must be (n, tokens, {width}), given {tuple(context.shape)}")


class Transformer2DModel(nn.Module):
    """Pixels as tokens through transformer blocks; projections by 1x1 convolution (SD 1.x) or linear layers
    (2.x).
    """

    def __init__(self, dim: int, heads: int, c: UNetConfig):
        super().__init__()
        self.linear, self.width, self.place = c.use_linear_projection, c.cross_attention_dim, ""
        self.norm = nn.GroupNorm(c.norm_num_groups, dim, 1e-6)
        self.proj_in, self.proj_out = (
            nn.Linear(dim, dim) if self.linear else nn.Conv2d(dim, dim, 1) for _ in "io"
        )
        self.transformer_blocks = nn.ModuleList([BasicTransformerBlock(dim, heads, c.cross_attention_dim)])

    def forward(self, x: Tensor, context: Tensor | Hooked | None) -> Tensor:
        hooks = [_at(context, self.place, kind, x) for kind in ("self", "cross")]
        context = attended(context.context if isinstance(context, Hooked) else context, self.width)
        h = self.norm(x)
        h = (
            self.proj_in(h.flatten(2).transpose(1, 2))
            if self.linear
            else self.proj_in(h).flatten(2).transpose(1, 2)
        )
        for block in self.transformer_blocks:
            h = block(h, context, hooks)
        if self.linear:
            return x + self.proj_out(h).transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(h.transpose(1, 2).reshape(x.shape))


class _Conv(nn.Module):
    """The published names put the resampling convolution one level down (`downsamplers.0.conv`)."""

    def __init__(self, c: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, stride=stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return layers.conv(self.conv, x)


class _UpConv(_Conv):
    """Every pixel repeated 2 x 2, then the convolution.

    size: (height, width) of the output, each twice that of x or one less. An odd side was rounded up on the
    way down: there the last pixel is not repeated, and the convolution's border of zeros begins right after
    it.
    """

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        h, w = x.shape[2:]
        if size is None or tuple(size) == (2 * h, 2 * w):
            return layers.up(self.conv, x)
        return layers.conv(self.conv, doubled(x)[:, :, : size[0], : size[1]])


def doubled(x: Tensor) -> Tensor:
    """Every pixel repeated 2 x 2."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _attention(kind: str, dim: int, head: int, c: UNetConfig) -> nn.Module | None:
    if kind.startswith("CrossAttn"):
        return Transformer2DModel(dim, head, c)
    if kind.startswith("Attn"):
        return SelfAttention2D(dim, head, c)
    return None


class Block(nn.Module):
    """One resolution, on the way down or up: resnets, each followed by attention where its type has it, then
    resampling.
    """

    def __init__(
        self,
        kind: str,
        channels: Sequence[tuple[int, int]],
        head: int,
        temb: int | None,
        c: UNetConfig,
        resample: str,
    ):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(cin, cout, temb, c) for cin, cout in channels)
        out = channels[0][1]
        layers = [a for a in (_attention(kind, out, head, c) for _ in channels) if a is not None]
        if layers:
            self.attentions = nn.ModuleList(layers)
        if resample == "down":
            self.downsamplers = nn.ModuleList([_Conv(out, 2)])
        if resample == "up":
            self.upsamplers = nn.ModuleList([_UpConv(out, 1)])


DOWN = ("DownBlock2D", "AttnDownBlock2D", "CrossAttnDownBlock2D")
UP = ("UpBlock2D", "AttnUpBlock2D", "CrossAttnUpBlock2D")
MID = ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D")


@dataclass(frozen=True)
class Prepared:
    """A prompt (n, tokens, width), and what the attention layers of one fast form (`engine.fuse`) made of it;
    `[rows]` picks samples.

    A network takes it wherever it takes the prompt itself; one that did not make it looks at `context` only.
    """

    context: Tensor
    layers: tuple[tuple[Tensor, ...], ...] = ()
    owner: Any = None

    def __getitem__(self, rows: slice) -> Prepared:
        if len(self.context) == 1:
            return self
        return replace(
            self,
            context=self.context[rows],
            layers=tuple(tuple(u[rows] for u in made) for made in self.layers),
        )


class UNet(nn.Module):
    """(x, t) -> prediction of x's shape (with out_channels channels); the meaning of the prediction is the
    caller's.
    """

    # the published layout, part by part in its order
    def __init__(self, config: UNetConfig | None = None, **options):  # noqa: C901
        super().__init__()
        self.config = c = config or config_from(options)
        _check(c)
        ch, n = c.block_out_channels, len(c.block_out_channels)
        head = (c.attention_head_dim,) * n if isinstance(c.attention_head_dim, int) else c.attention_head_dim
        temb = 4 * ch[0] if c.time or c.num_class_embeds else None
        self.conv_in = nn.Conv2d(c.in_channels, ch[0], 3, padding=1)
        if c.time:
            self.time_embedding = TimestepEmbedding(ch[0], 4 * ch[0])
        if c.num_class_embeds:
            self.class_embedding = nn.Embedding(c.num_class_embeds, 4 * ch[0])

        skips = [ch[0]]
        self.down_blocks = nn.ModuleList()
        for i, (kind, cout) in enumerate(zip(c.down_block_types, ch)):
            cin, final = ch[max(i - 1, 0)], i == n - 1
            pairs = [(cin if j == 0 else cout, cout) for j in range(c.layers_per_block)]
            self.down_blocks.append(Block(kind, pairs, head[i], temb, c, "" if final else "down"))
            skips += [cout] * (c.layers_per_block + (not final))

        if c.mid_block_type is not None:
            cross = c.mid_block_type == "UNetMidBlock2DCrossAttn"
            self.mid_block = Block("Mid", [(ch[-1], ch[-1])] * (2 if cross else 1), head[-1], temb, c, "")
            if cross:
                self.mid_block.attentions = nn.ModuleList([Transformer2DModel(ch[-1], head[-1], c)])

        self.up_blocks = nn.ModuleList()
        prev = ch[-1]
        for i, kind in enumerate(c.up_block_types):
            cout, final = ch[n - 1 - i], i == n - 1
            pairs = [((prev if j == 0 else cout) + skips.pop(), cout) for j in range(c.layers_per_block + 1)]
            self.up_blocks.append(Block(kind, pairs, head[n - 1 - i], temb, c, "" if final else "up"))
            prev = cout
        self.conv_norm_out = nn.GroupNorm(c.norm_num_groups, ch[0], c.norm_eps)
        self.conv_out = nn.Conv2d(ch[0], c.out_channels, 3, padding=1)
        for name, m in self.named_modules():
            if isinstance(m, (Transformer2DModel, SelfAttention2D)):
                m.place = name

    def check_input(self, x: Tensor) -> None:
        """BadInput when x has a shape that the network cannot take."""
        if x.ndim != 4 or x.shape[1] != self.config.in_channels or 0 in x.shape[2:]:
            raise BadInput(f"UNet input must be (n, {self.config.in_channels}, h, w), given {tuple(x.shape)}")

    def forward(
        self,
        x: Tensor,
        t: Tensor | None = None,
        context: Tensor | Prepared | Hooked | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """x (n, in_channels, h, w); t (), (1,) or (n,) in the units it was trained with; context (n, tokens,
        cross_attention_dim); labels (n,) int64. Returns (n, out_channels, h, w). h and w need not be even at
        any block: see `_UpConv`.
        """
        self.check_input(x)
        if isinstance(context, Prepared):
            context = context.context
        return walk(self, x, embed(self, self.config, t, len(x), labels), context)

    def finish(self, x: Tensor) -> Tensor:
        """From the last block's channels to the prediction."""
        return layers.conv(self.conv_out, layers.norm(self.conv_norm_out, x))


# the whole way on one page, as figures of a UNet show it
def walk(u: Any, x: Tensor, temb: Any, context: Any) -> Tensor:  # noqa: C901
    """The way down, across and up again, through the parts of `u`: a UNet's modules, or what `engine.fuse`
    makes of them.
    """
    x = u.conv_in(x)
    skips = [x]
    for block in u.down_blocks:
        for resnet, attention in _layers(block):
            x = resnet(x, temb)
            if attention is not None:
                x = attention(x, context)
            skips.append(x)
        if hasattr(block, "downsamplers"):
            x = block.downsamplers[0](x)
            skips.append(x)
    if hasattr(u, "mid_block"):
        x = u.mid_block.resnets[0](x, temb)
        if hasattr(u.mid_block, "attentions"):
            x = u.mid_block.resnets[1](u.mid_block.attentions[0](x, context), temb)
    for block in u.up_blocks:
        for resnet, attention in _layers(block):
            x = resnet(torch.cat([x, skips.pop()], dim=1), temb)
            if attention is not None:
                x = attention(x, context)
        if hasattr(block, "upsamplers"):
            x = block.upsamplers[0](x, skips[-1].shape[2:])
    return u.finish(x)


def _layers(block):
    """(resnet, attention or None), in order."""
    return zip(block.resnets, getattr(block, "attentions", None) or [None] * len(block.resnets))


# a branch a thing that may not fit
def _check(c: UNetConfig) -> None:  # noqa: C901
    n = len(c.block_out_channels)
    for key, accepted in (("down_block_types", DOWN), ("up_block_types", UP)):
        given = getattr(c, key)
        if len(given) != n:
            raise BadInput(f"UNet {key} has {len(given)} entries for {n} block_out_channels")
        for kind in given:
            if kind not in accepted:
                raise BadInput(f"UNet block type {kind!r} is not supported (accepted: {', '.join(accepted)})")
    if c.mid_block_type not in (*MID, None):
        raise BadInput(
            f"UNet mid_block_type {c.mid_block_type!r} is not supported (accepted: {', '.join(MID)}, null)"
        )
    for width in c.block_out_channels:
        if width % c.norm_num_groups:
            raise BadInput(f"UNet width {width} is not divisible by norm_num_groups = {c.norm_num_groups}")
    if not isinstance(c.attention_head_dim, int) and len(c.attention_head_dim) != n:
        raise BadInput(
            f"UNet attention_head_dim has {len(c.attention_head_dim)} entries for {n} block_out_channels"
        )
    if c.time and c.block_out_channels[0] // 2 <= c.freq_shift:
        raise BadInput(
            f"UNet block_out_channels begins with {c.block_out_channels[0]}, too few for a time's sines"
        )
    _check_heads(c)


def _check_heads(c: UNetConfig) -> None:
    """BadInput where a block's width cannot be shared among its heads."""
    n, ch = len(c.block_out_channels), c.block_out_channels
    head = (c.attention_head_dim,) * n if isinstance(c.attention_head_dim, int) else c.attention_head_dim
    mid = ["CrossAttn"] if c.mid_block_type == "UNetMidBlock2DCrossAttn" else []
    places = [
        *zip(c.down_block_types, ch, head),
        *zip(c.up_block_types, ch[::-1], head[::-1]),
        *((k, ch[-1], head[-1]) for k in mid),
    ]
    for kind, width, size in places:
        heads = size if kind.startswith("CrossAttn") else width // size if kind.startswith("Attn") else 1
        if not heads or width % heads:
            raise BadInput(f"UNet attention_head_dim {size} does not fit a {kind} of width {width}")
