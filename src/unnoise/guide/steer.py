"""Guidance by any losses of the decoded picture, with a step whose size does not depend on the schedule or on
the loss's scale.

With x0 = E[x0 | x], g = dL(decode(x0)) / dx0, r = sigma / sqrt(alpha^2 + sigma^2), d the number of entries, a
loss of weight w moves
    x0 by -w min(L / s, REACH r sqrt(d)) u,   u = p / |p|,   s = max(<g, u>, |g| / 10)
p is where to: g itself (through = False: only through the estimate) or (dx0/dx)^T g (through = True: also
through the network). By Tweedie the latter is alpha / sigma^2 times Cov[x0 | x] g: the gradient along what
the model thinks possible.

L / s is the step that would bring L to 0 if it went on as steeply (Polyak 1969): for a square it halves what
is missing, so w = 1 nears its wish by halves, 2 lands on it, beyond 4 it overshoots. Scaling L changes
nothing. r is how little x says about x0, the standard deviation that unit Gaussian data would have given x:
at every level of every schedule the estimate moves at most REACH of it (a root mean square over entries). No
sigma^2 / alpha stands here: that factor grows without bound towards noise, and differently in every schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unnoise.denoiser.adapt import Denoiser
from unnoise.guide.scale import number
from unnoise.process.level import Level

REACH = 0.5
Wish = Callable[[Tensor, Level], Tensor]  # images and their level -> (n,)


def steer(
    denoise: Denoiser,
    wishes: Sequence[tuple[Wish, float]],
    decode: Callable[[Tensor], Tensor] = lambda x0: x0,
    through: bool = False,
    chunk: int = 64,
) -> Denoiser:
    """The denoiser that moves its estimate by the sum of the wishes' steps, each of (loss, weight), weight 0
    is off.

    loss(images, level) -> (n,), each of its own sample, 0 where all is well (below 0 the step is as long as
    it may be); images are decode(x0). through: differentiate the network too. chunk: how many samples to
    decode at once. Where all weights are 0 the denoiser itself is returned. A gradient taken around this one
    sees the steps as constants. Errors: BadInput on a weight that is not finite.
    """
    wishes = [(loss, number("guide weight", w)) for loss, w in wishes]
    wishes = [(loss, w) for loss, w in wishes if w]
    if not wishes:
        return denoise

    def steered(x: Tensor, l: Level) -> Tensor:
        x0, back = _estimate(denoise, x, l, through)
        own = l.like(x)
        far = REACH * own.sigma / (own.alpha**2 + own.sigma**2).sqrt() * x[0].numel() ** 0.5
        step = torch.zeros_like(x0)
        for k, (loss, w) in enumerate(wishes):
            value, g = _slope(loss, x0.detach(), l, decode, chunk)
            step += w * _step(value, g, back(g, k + 1 < len(wishes)), far)
        return x0 - step

    return steered


def _estimate(
    denoise: Denoiser, x: Tensor, l: Level, through: bool
) -> tuple[Tensor, Callable[[Tensor, bool], Tensor]]:
    """The estimate, and g -> the direction p of a step, which may be asked again (`more`)."""
    outer = torch.is_grad_enabled() and x.requires_grad
    says = l.alpha != 0  # at pure noise x says nothing of x0: the network's slope is chance
    if not through or not says.any():
        x0 = denoise(x, l)
        return x0, lambda g, more: g
    with torch.enable_grad():
        y = x if outer else x.detach().requires_grad_()
        x0 = denoise(y, l)

    def back(g: Tensor, more: bool) -> Tensor:
        p = torch.autograd.grad(x0, y, g, retain_graph=more or outer)[0]
        return p if says.all() else torch.where(says.to(g.device).reshape(-1, *[1] * (g.ndim - 1)), p, g)

    return x0 if outer else x0.detach(), back if not outer else lambda g, more: back(g, True)


def _slope(
    loss: Wish, x0: Tensor, l: Level, decode: Callable[[Tensor], Tensor], chunk: int
) -> tuple[Tensor, Tensor]:
    """L (n,) and dL/dx0 (n, …), of at most `chunk` samples at a time."""
    values, slopes = [], []
    for i in range(0, len(x0), chunk):
        part = Level(*(v[i : i + chunk] if v.ndim and len(v) > 1 else v for v in l))
        with torch.enable_grad():
            y = x0[i : i + chunk].detach().requires_grad_()
            value = loss(decode(y), part)
            g = torch.autograd.grad(value.sum(), y, allow_unused=True)[0] if value.requires_grad else None
        values.append(value.detach().to(y))
        slopes.append(torch.zeros_like(y) if g is None else g)
    return torch.cat(values), torch.cat(slopes)


def _step(value: Tensor, g: Tensor, p: Tensor, far: Tensor) -> Tensor:
    """min(L / s, far) p / |p|, and 0 where there is no slope or it is not finite."""
    size = lambda v: v.flatten(1).norm(dim=1)
    each = lambda v: v.reshape(-1, *[1] * (g.ndim - 1))
    u = p / each(size(p).clamp(min=1e-30))
    s = torch.maximum((g * u).flatten(1).sum(1), size(g) / 10)
    ok = (s > 0) & s.isfinite() & (size(p) > 0) & value.isfinite()
    length = torch.minimum(each(value.to(g) / torch.where(ok, s, 1.0)), far)
    length = torch.where(each(value) < 0, far, length)  # what the least value may be is not known there
    return torch.where(each(ok), length * u, 0.0)
