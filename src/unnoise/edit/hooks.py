"""Attention hooks for whole runs: the model's network with a function in place of every attention (see
`nets.unet.Hooked`).

    net = hooked(pipe, hook);  drawn(pipe, request, net=net, …)

A hook sees the rows of a batch as the guidance lays them out: the n samples under their prompts, then (with
guidance) the same n under their negative prompts. `maps` computes what an attention would weigh; `mixed` is
the attention by given weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.nets.unet import Hook, Hooked, Prepared, UNet
from unnoise.pipeline import Pipeline


def hooked(pipe: Pipeline, hook: Hook) -> Callable[..., Tensor]:
    """The pipeline's network, (x, t, context=…, labels=…) -> prediction, with `hook` in place of every
    attention.

    The plain network runs, in the parameters' own number type: differentiable where autograd is on. BadInput
    for a network without attention.
    """
    net = pipe.net
    if not isinstance(net, UNet) or not any(getattr(m, "place", "") for m in net.modules()):
        raise BadInput(f"model {pipe.name!r} has no attention to hook: this needs a UNet with attention")
    at = next(net.parameters())

    def call(
        x: Tensor, t: Tensor | None, context: Tensor | Prepared | None = None, labels: Tensor | None = None
    ) -> Tensor:
        context = context.context if isinstance(context, Prepared) else context
        given = Hooked(None if context is None else context.to(at.dtype), hook)
        return net(x.to(at.dtype), t, given, labels).to(x.dtype)

    return call


def maps(q: Tensor, k: Tensor) -> Tensor:
    """What an attention weighs: softmax(q k^T / sqrt(d)), q (n, heads, s, d) and k (n, heads, t, d) -> (n,
    heads, s, t); sums to 1 over t.
    """
    return torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)).softmax(-1)


def mixed(weights: Tensor, v: Tensor) -> Tensor:
    """The attention by given weights (n, heads, s, t) of values v (n, heads, t, d): (n, heads, s, d)."""
    return torch.matmul(weights, v)
