"""Layers in the form that trains fastest on a CPU in channels-last layout; elsewhere they are the modules
themselves.

norm  silu(group norm(x + t)) in few passes over memory; kept for the backward pass are x and numbers for each
      channel. (PyTorch's kernel takes as long for a group of 2 channels as for one of 6.) With d = x + t -
      mean, r = 1 / sqrt(mean(d^2) + eps),
      z = w r d + b and g = dL/dz, means and r taken over a group, k its channels times pixels:
          dL/dx = r (w g - mean(w g) - r^2 mean(w g d) d),  dL/dw = sum(g d r),  dL/db = sum(g),
          dL/dt = sum(dL/dx) over pixels.
conv  PyTorch's convolution; the bias's gradient is a plain sum over pixels, which oneDNN takes ten times as
      long for.
pixel linear layers of every pixel, as one 1x1 convolution: oneDNN's product is on some CPUs twice as fast as
PyTorch's own.
attention  where a 16-bit type is trained on a CPU, the formula as it stands: PyTorch's fused kernel goes
           backwards there element by element,
      5 to 9 times as slowly as the two matrix products (measured with AMX; in float32 the kernel wins and is
      kept).
up    "repeat 2 x 2, then 3x3 convolution" as four 2x2 convolutions of the small image, 4/9 of the work: the
      repeated pixels of a row are multiplied by sums of taps, (w0, w1 + w2) for the even outputs and (w0 +
      w1, w2) for the odd ones.
Equal to the modules up to rounding, forward and backward. Differentiable once: create_graph=True raises.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

LAST = torch.channels_last


def quick(x: Tensor, *layers: nn.Module) -> bool:
    """Whether these layers, in training, take x by the forms of this file: plain modules only, wrapped ones
    may do more.
    """
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.is_contiguous(memory_format=LAST)
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and all(m.training and type(m) in (nn.GroupNorm, nn.Conv2d, nn.Linear) for m in layers)
    )


def norm(m: nn.GroupNorm, x: Tensor, t: Tensor | None = None, act: bool = True) -> Tensor:
    """silu(m(x + t)), or m(x + t) where not `act`; t (n or 1, c) or None."""
    if quick(x, m):
        return _Norm.apply(x, t, m.weight, m.bias, m.num_groups, m.eps, act)
    y = m(x if t is None else x + t[:, :, None, None])
    return F.silu(y) if act else y


def conv(m: nn.Conv2d, x: Tensor) -> Tensor:
    """m(x)."""
    return _Conv.apply(x, m.weight, m.bias, m.stride, m.padding) if quick(x, m) else m(x)


def pixel(x: Tensor, *layers: Any) -> tuple[Tensor, ...]:
    """Each linear layer's output for every pixel: (n, c, h, w) -> (n, h w, outputs). All have biases, or
    none.
    """
    if not quick(x, *layers):
        return tuple(m(tokens(x)) for m in layers)
    w = torch.cat([m.weight for m in layers])[:, :, None, None]
    b = None if layers[0].bias is None else torch.cat([m.bias for m in layers])
    return tokens(_Conv.apply(x, w, b, (1, 1), (0, 0))).split([len(m.weight) for m in layers], dim=-1)


def up(m: nn.Module, x: Tensor) -> Tensor:
    """m(every pixel of x repeated 2 x 2), m a 3x3 convolution."""
    if not quick(x, m):
        return m(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    taps = x.new_tensor(
        [[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]]
    )  # (output parity, tap on x, tap of m)
    w = torch.einsum("aur,bvs,oirs->abouvi", taps, taps, m.weight).movedim(-1, -3)
    part = lambda a, b: _Conv.apply(F.pad(x, (1 - b, b, 1 - a, a)), w[a, b], m.bias, (1, 1), (0, 0)).permute(
        0, 2, 3, 1
    )
    rows = [torch.stack([part(a, 0), part(a, 1)], dim=3) for a in (0, 1)]  # each (n, h, w, 2, c)
    return torch.stack(rows, dim=2).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over the last two dimensions: q (..., s, d), k and v (..., t, d); causal:
    token i sees 0 ... i only.
    """
    if (
        q.device.type != "cpu"
        or not torch.is_grad_enabled()
        or q.dtype not in (torch.bfloat16, torch.float16)
    ):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    return torch.matmul(scores.softmax(-1, dtype=torch.float32).to(v.dtype), v)


def tokens(x: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, h w, c), a view of a channels-last x."""
    return x.flatten(2).transpose(1, 2)


def image(v: Tensor, like: Tensor) -> Tensor:
    """(n, h w, c) -> (n, c, h, w) with like's h and w, a channels-last view."""
    return v.transpose(1, 2).unflatten(2, like.shape[2:])


def _once() -> None:
    """Raise where the backward pass is to be in a graph. (once_differentiable, with allow_unused=True, would
    give zeros.)
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "a network in training differentiates once on a CPU; call eval() for create_graph=True"
        )


class _Norm(Function):
    @staticmethod
    def forward(ctx, x, t, w, b, groups, eps, act):
        v, y = tokens(x), tokens(torch.empty_like(x))
        add = (x.new_zeros(1, x.shape[1]) if t is None else t)[:, None].expand(len(x), -1, -1)
        saved = []
        for vi, yi, ti in _parts(v, y, add):
            shift = ti - _grouped(vi.mean(1, keepdim=True) + ti, groups)
            d = torch.add(vi, shift, out=yi)  # centred before it is squared: nothing cancels
            r = (_grouped((d * d).mean(1, keepdim=True), groups) + eps).rsqrt()
            torch.addcmul(b, d, w * r, out=d)
            if act:
                F.silu(d, inplace=True)
            saved.append((shift, r))
        ctx.save_for_backward(x, *map(torch.cat, zip(*saved)), w, b)
        ctx.groups, ctx.act, ctx.rows = groups, act, 0 if t is None else len(t)
        return image(y, x)

    @staticmethod
    def backward(ctx, gy):
        _once()
        x, shift, r, w, b = ctx.saved_tensors
        v, gx, sums = tokens(x), tokens(torch.empty_like(x)), []
        for vi, gi, out, si, ri in _parts(v, tokens(gy.contiguous(memory_format=LAST)), gx, shift, r):
            d = torch.add(vi, si, out=out)
            if ctx.act:
                z = torch.addcmul(b, d, w * ri)
                gi = torch.ops.aten.silu_backward.grad_input(gi, z, grad_input=z)
            s, sd = gi.sum(1, keepdim=True), (gi * d).sum(1, keepdim=True)
            mean, slope = (_grouped(w * u, ctx.groups) / v.shape[1] for u in (s, sd))
            torch.addcmul(-ri * mean, d, -(ri**3) * slope, out=d)
            torch.addcmul(d, gi, w * ri, out=d)
            sums.append((s, sd, d.sum(1) if ctx.rows else s[:, 0]))
        s, sd, gt = map(torch.cat, zip(*sums))
        gt = None if not ctx.rows else gt if ctx.rows == len(x) else gt.sum(0, keepdim=True)
        return image(gx, x), gt, (sd * r).sum((0, 1)), s.sum((0, 1)), None, None, None


def _parts(v: Tensor, *more: Tensor):
    """Slices of all by samples, about 2 MB of v each: what is written stays in the cache until it is read
    again.
    """
    return zip(*(u.split(max(2**19 // v[0].numel(), 1)) for u in (v, *more)))


def _grouped(v: Tensor, groups: int) -> Tensor:
    """(n, 1, c) -> the mean of each channel's group, (n, 1, c)."""
    u = v.unflatten(-1, (groups, -1))
    return u.mean(-1, keepdim=True).expand_as(u).flatten(2)


class _Conv(Function):
    @staticmethod
    def forward(ctx, x, w, b, stride, padding):
        ctx.save_for_backward(x, w)
        ctx.where = stride, padding
        return torch.conv2d(x, w, b, stride, padding)

    @staticmethod
    def backward(ctx, g):
        _once()
        (x, w), (stride, padding), (gx, gw, gb) = ctx.saved_tensors, ctx.where, ctx.needs_input_grad[:3]
        g = g.contiguous(memory_format=LAST)
        back = torch.ops.aten.convolution_backward
        dx, dw, _ = back(g, x, w, None, stride, padding, (1, 1), False, (0, 0), 1, (gx, gw, False))
        return dx, dw, g.sum((0, 2, 3)) if gb else None, None, None
