"""The same UNet for inference on x86 CPUs, with the weights laid out once as oneDNN wants them.

PyTorch's eager convolution reorders its weights on every call, its linear layers go to a library that is slow on some CPUs,
its group norm is slow for few channels a group in channels-last layout. Here every layer becomes a closure over packed weights
(the ops are those that PyTorch's own compiler emits), walked in the same order by `unet.walk`:
  q, k, v are one product, and so are the time projections of all resnets; a 1x1 convolution is a product over pixels;
  "repeat 2 x 2, then 3x3 convolution" is four 2x2 convolutions of the small image, 4/9 of the work: the repeated pixels of a
  row are multiplied by sums of taps, (w0, w1 + w2) for the even outputs and (w0 + w1, w2) for the odd ones.
  wide 3x3 convolutions do 2/3 of their products (`_winograd`).
Equal to the plain network up to rounding. Activations are channels-last throughout: (n, c, h, w) is a view of (n, h, w, c).
"""
from __future__ import annotations

import platform
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unnoise.nets import unet
from unnoise.nets.unet import UNet

Layer = Callable[..., Tensor]
_OPS = ("_reorder_convolution_weight", "_convolution_pointwise", "_reorder_linear_weight", "_linear_pointwise")


class Fused:
    """A UNet's forward pass without gradients, for its weights as they are now: same arguments, same result up to rounding."""

    def __init__(self, net: UNet):
        self.net, self.config, self.stamp = net, net.config, _stamp(net)
        resnets = [m for m in net.modules() if isinstance(m, unet.ResnetBlock2D)]
        timed = [m.time_emb_proj for m in resnets if hasattr(m, "time_emb_proj")]
        self.widths = [m.out_features for m in timed]
        self.times = _linear(*timed) if timed else None
        self.parts = _parts(net, iter(range(len(resnets))))

    def __call__(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None,
                 labels: Tensor | None = None) -> Tensor:
        """As `UNet.forward`. A call that must be differentiated goes to the plain network."""
        if torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in (x, t, context, *self.net.parameters())):
            return self.net(x, t, context, labels)
        with torch.inference_mode(): y = self._run(x, t, context, labels)
        return y if torch.is_inference_mode_enabled() else y.clone()  # an inference tensor could not enter a graph

    def _run(self, x: Tensor, t: Tensor | None, context: Tensor | None, labels: Tensor | None) -> Tensor:
        self.net.check_input(x)
        emb = self.net.embed(t, len(x), labels)
        temb = None if emb is None or self.times is None else self.times(emb).split(self.widths, dim=-1)
        return unet.walk(self.parts, x.contiguous(memory_format=torch.channels_last), temb, context)


def fuse(net: nn.Module, old: Layer | None = None) -> Callable[..., Tensor]:
    """`net` in its fast form; `net` itself where there is none: another class, device, dtype or CPU, or ops not in this PyTorch.

    old: an earlier answer, returned again as long as the weights have not changed since.
    """
    if not isinstance(net, UNet) or net.training or not available(): return net
    if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in net.parameters()): return net
    return old if isinstance(old, Fused) and old.net is net and old.stamp == _stamp(net) else Fused(net)


def available() -> bool:
    """Whether this machine and this PyTorch have what the fast form is made of."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return (x86 and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
            and all(hasattr(torch.ops.mkldnn, op) for op in _OPS))


def _stamp(net: nn.Module) -> tuple:
    """Changes when a weight is replaced or written to."""
    return tuple((p.data_ptr(), p._version) for p in net.parameters())


# --- layers: each function turns modules into a closure ------------------------------------------------------------------

def _pack(w: Tensor, b: Tensor | None, padding: int | tuple[int, int], stride: int, groups: int = 1) -> Layer:
    where = ([padding] * 2 if isinstance(padding, int) else list(padding), [stride] * 2, [1, 1], groups)
    packed = torch.ops.mkldnn._reorder_convolution_weight(w.detach(), *where, [2, groups * w.shape[1], 16, 16])
    bias = None if b is None else b.detach()
    return lambda x: torch.ops.mkldnn._convolution_pointwise(x, packed, bias, *where, "none", [], "")


def _conv(m: nn.Conv2d) -> Layer:
    wide = min(m.in_channels, m.out_channels) >= 256 and m.kernel_size == (3, 3) and m.stride == m.padding == (1, 1)
    return _winograd(m) if wide else _pack(m.weight, m.bias, int(m.padding[0]), m.stride[0])


def _winograd(m: nn.Conv2d) -> Layer:
    """A 3x3 convolution with 2/3 of the products: along rows, two outputs of three taps by four products of sums (Winograd's
    F(2, 3); Lavin & Gray 2016), one group of channels each. Pays for many channels: sums grow with them, products squared."""
    w0, w1, w2 = m.weight.detach().unbind(-1)
    w = torch.stack([w0, (w0 + w1 + w2) / 2, (w0 - w1 + w2) / 2, w2]).flatten(0, 1)[..., None].contiguous()
    # The bias goes to product 1, which is in both outputs with a plus.
    bias = None if m.bias is None else F.pad(m.bias.detach(), (m.out_channels, 2 * m.out_channels))
    conv = _pack(w, bias, (1, 0), 1, groups=4)

    def run(x: Tensor) -> Tensor:
        v = _tokens(x).view(len(x), *x.shape[2:], -1)
        n, h, width, c = v.shape
        half = (width + 1) // 2
        edged = F.pad(v, (0, 0, 1, 1 + width % 2))
        a, b, c_, d = (edged[:, :, k : k + 2 * half - 1 : 2] for k in range(4))
        z = v.new_empty(n, h, half, 4, c)
        for k, (op, p, q) in enumerate(((torch.sub, a, c_), (torch.add, b, c_), (torch.sub, c_, b), (torch.sub, b, d))):
            op(p, q, out=z[..., k, :])
        y = conv(z.flatten(3).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(-1, (4, -1))
        out = y.new_empty(n, h, half, 2, y.shape[-1])
        torch.add(y[..., 1, :], y[..., 2, :], out=out[..., 0, :]).add_(y[..., 0, :])
        torch.sub(y[..., 1, :], y[..., 2, :], out=out[..., 1, :]).sub_(y[..., 3, :])
        return out.flatten(2, 3)[:, :, :width].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return run


def _linear(*layers: Any, rows: slice = slice(None), act: tuple[str, str] = ("none", "")) -> Layer:
    """Linear layers (or 1x1 convolutions) of one input, as one product over the last axis; `rows` picks outputs."""
    w = torch.cat([m.weight.detach().flatten(1) for m in layers])[rows].contiguous()
    b = None if layers[0].bias is None else torch.cat([m.bias.detach() for m in layers])[rows].contiguous()
    packed = torch.ops.mkldnn._reorder_linear_weight(w, 64)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, b, act[0], [], act[1])


def _tokens(x: Tensor) -> Tensor:
    """(n, c, h, w) channels-last -> (n, h w, c), a view."""
    return x.contiguous(memory_format=torch.channels_last).flatten(2).transpose(1, 2)


def _norm(m: nn.GroupNorm, act: bool = True) -> Layer:
    """silu(group norm(x + t)), t (n or 1, c) or None; x is overwritten where t is given."""
    g, w, b, eps = m.num_groups, m.weight.detach(), m.bias.detach(), m.eps
    k = m.num_channels // g
    zero = torch.zeros(1, m.num_channels)

    def run(x: Tensor, t: Tensor | None = None) -> Tensor:
        pixels = x.shape[2] * x.shape[3]
        if pixels <= 1024 and len(x) * pixels * g * (6 - k) > 100_000: return narrow(x, t)
        if t is not None: x.add_(t[:, :, None, None])
        y = F.group_norm(x, g, w, b, eps)
        return F.silu(y, inplace=True) if act else y

    def narrow(x: Tensor, t: Tensor | None) -> Tensor:
        """PyTorch's kernel for few pixels takes as long for a group of 2 channels as for one of 6; this goes by channels."""
        v, t = _tokens(x), (zero if t is None else t).view(-1, g, k)
        n, pixels, c = v.shape
        mean = torch.add(t, v.sum(1).view(n, g, k), alpha=1 / pixels).sum(2, keepdim=True).mul_(1 / k)
        d = v + (t - mean).view(n, 1, c)  # centred before it is squared: nothing cancels
        var = (d * d).sum(1).view(n, g, k).sum(2, keepdim=True).mul_(1 / (k * pixels))
        torch.addcmul(b, d, (w.view(g, k) * var.add_(eps).rsqrt_()).view(n, 1, c), out=d)
        if act: F.silu(d, inplace=True)
        return d.transpose(1, 2).view(x.shape)

    return run


def _resnet(m: unet.ResnetBlock2D, i: int) -> Layer:
    """`i`: the resnet's place among all, and so of its own time projection."""
    norm1, conv1, norm2, conv2 = _norm(m.norm1), _conv(m.conv1), _norm(m.norm2), _conv(m.conv2)
    short = None if m.conv_shortcut is None else _linear(m.conv_shortcut)

    def run(x: Tensor, temb: tuple[Tensor, ...] | None) -> Tensor:
        h = conv2(norm2(conv1(norm1(x)), None if temb is None else temb[i]))
        return h.add_(x if short is None else short(_tokens(x)).transpose(1, 2).view(h.shape))
    return run


def _self_attention(m: unet.SelfAttention2D) -> Layer:
    norm, qkv, out = _norm(m.group_norm, act=False), _linear(m.to_q, m.to_k, m.to_v), _linear(m.to_out[0])

    def run(x: Tensor, context: Tensor | None = None) -> Tensor:
        h = out(unet.attend(*qkv(_tokens(norm(x))).chunk(3, dim=-1), heads=m.heads))
        return h.add_(_tokens(x)).transpose(1, 2).view(x.shape)
    return run


def _transformer(m: unet.Transformer2DModel) -> Layer:
    norm, enter, leave = _norm(m.norm, act=False), _linear(m.proj_in), _linear(m.proj_out)
    blocks = [_block(b) for b in m.transformer_blocks]

    def run(x: Tensor, context: Tensor | None) -> Tensor:
        if context is None: return m(x, context)  # says what is missing
        h = enter(_tokens(norm(x)))
        for block in blocks: h = block(h, context)
        return leave(h).add_(_tokens(x)).transpose(1, 2).view(x.shape)
    return run


def _block(m: Any) -> Layer:
    a, b, up = m.attn1, m.attn2, m.ff.net[0].proj
    qkv, out1 = _linear(a.to_q, a.to_k, a.to_v), _linear(a.to_out[0])
    q, kv, out2 = _linear(b.to_q), _linear(b.to_k, b.to_v), _linear(b.to_out[0])
    half = up.out_features // 2
    value, gate = _linear(up, rows=slice(half)), _linear(up, rows=slice(half, None), act=("gelu", "none"))
    down = _linear(m.ff.net[2])

    def run(x: Tensor, context: Tensor) -> Tensor:
        x = out1(unet.attend(*qkv(m.norm1(x)).chunk(3, dim=-1), heads=a.heads)).add_(x)
        x = out2(unet.attend(q(m.norm2(x)), *kv(context).chunk(2, dim=-1), heads=b.heads)).add_(x)
        h = m.norm3(x)
        return down(value(h).mul_(gate(h))).add_(x)
    return run


def _up(m: nn.Conv2d) -> Layer:
    """conv(repeat 2 x 2(x)) as one 2x2 convolution of x to the four outputs of each pixel."""
    taps = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])  # (output parity, tap on x, tap of m)
    w = torch.einsum("aur,bvs,oirs->aboiuv", taps, taps, m.weight.detach()).flatten(0, 2)
    conv = _pack(w.contiguous(), None if m.bias is None else m.bias.detach().repeat(4), 1, 1)

    def run(x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        y = conv(x).permute(0, 2, 3, 1).view(n, h + 1, w + 1, 2, 2, -1)
        out = y.new_empty(n, h, 2, w, 2, y.shape[-1])
        for a in (0, 1):
            for b in (0, 1): out[:, :, a, :, b] = y[:, a : a + h, b : b + w, a, b]
        return out.view(n, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)
    return run


# --- the whole ------------------------------------------------------------------------------------------------------------

_ATTENTION = {unet.SelfAttention2D: _self_attention, unet.Transformer2DModel: _transformer}


def _parts(net: UNet, count) -> SimpleNamespace:
    """What `unet.walk` walks through. Resnets are numbered as `net.modules()` meets them."""
    def block(m: Any) -> SimpleNamespace:
        parts = SimpleNamespace(resnets=[_resnet(r, next(count)) for r in m.resnets])
        if hasattr(m, "attentions"): parts.attentions = [_ATTENTION[type(a)](a) for a in m.attentions]
        if hasattr(m, "downsamplers"): parts.downsamplers = [_conv(m.downsamplers[0].conv)]
        if hasattr(m, "upsamplers"): parts.upsamplers = [_up(m.upsamplers[0].conv)]
        return parts

    norm, out = _norm(net.conv_norm_out), _conv(net.conv_out)
    u = SimpleNamespace(conv_in=_conv(net.conv_in), finish=lambda x: out(norm(x)))
    for name, child in net.named_children():  # down, mid, up: the order of net.modules()
        if isinstance(child, nn.ModuleList): setattr(u, name, [block(m) for m in child])
        elif name == "mid_block": u.mid_block = block(child)
    return u
