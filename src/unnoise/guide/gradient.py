"""Guidance by a gradient: the estimate moves by sigma^2 / alpha times the gradient of a log-likelihood.

Tweedie: E[x0 | x, y] = E[x0 | x] + (sigma^2 / alpha) grad_x log p(y | x). Exact if the likelihood is
(Dhariwal & Nichol 2021, with a classifier that knows the level; tests: a Gaussian likelihood gives the exact
posterior). A weight of 0 is off: no gradient is taken.

At alpha = 0, where x says nothing about x0, the factor is infinite and the gradient 0; no guidance is added
there. The first step of a zero-terminal-SNR or flow path is therefore unguided. Sampling runs without
autograd; these guides turn it on for themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unnoise.denoiser.adapt import Denoiser
from unnoise.guide.scale import Scale, at, checked
from unnoise.process.level import Level


def guide(
    denoise: Denoiser, loss: Callable[[Tensor], Tensor], weight: Scale = 1.0, through: bool = True
) -> Denoiser:
    """E[x0 | x] - weight (sigma^2 / alpha) d loss(E[x0 | x]) / dx: DPS, CLIP, style, colour, any
    differentiable wish.

    loss: estimate (n, *shape) -> one number a sample, (n,) or more, summed here; a norm over the whole batch
    would couple the samples. through: differentiate the network too (universal guidance), or hold its eps
    fixed, so that dx0/dx = 1 / alpha and the factor is weight (sigma / alpha)^2 on the gradient in x0:
    cheaper, and blunt near pure noise. weight: a number or a function of the level. Errors: BadInput on a
    weight that is not finite.
    """
    weight = checked("guidance weight", weight)

    def guided(x: Tensor, l: Level) -> Tensor:
        w = at(weight, x, l)
        if (w == 0).all():
            return denoise(x, l)
        keep = torch.is_grad_enabled() and x.requires_grad  # a guide around this one differentiates it
        with torch.enable_grad():
            y = _leaf(x, keep) if through else x
            x0 = denoise(y, l) if through or keep else _without_grad(denoise, x, l)
            if not through:
                y = x0 = _leaf(x0, keep)
            g = _gradient(loss(x0), y, keep)
            return _push(x0 if keep else x0.detach(), -w * g, l.like(x), 1 if through else 2)

    return guided


def classifier(
    denoise: Denoiser, log_prob: Callable[[Tensor, Level], Tensor], scale: Scale = 1.0
) -> Denoiser:
    """E[x0 | x] + scale (sigma^2 / alpha) grad_x log p(y | x) (Dhariwal & Nichol 2021).

    log_prob(x, level) -> (n,): of the wanted class given the noisy x, from a classifier trained on noisy
    samples. scale 1 is exact for an exact classifier, 0 is off. Errors: BadInput on a scale that is not
    finite.
    """
    scale = checked("classifier scale", scale)

    def guided(x: Tensor, l: Level) -> Tensor:
        s = at(scale, x, l)
        if (s == 0).all():
            return denoise(x, l)
        keep = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            y = _leaf(x, keep)
            g = _gradient(log_prob(y, l), y, keep)
        return _push(denoise(x, l), s * g, l.like(x), 1)

    return guided


def _leaf(x: Tensor, keep: bool) -> Tensor:
    return x if keep and x.requires_grad else x.detach().requires_grad_()


def _without_grad(denoise: Denoiser, x: Tensor, l: Level) -> Tensor:
    with torch.no_grad():
        return denoise(x, l)


def _gradient(value: Tensor, y: Tensor, keep: bool) -> Tensor:
    """d sum(value) / dy, 0 where the value does not depend on y."""
    if not value.requires_grad:
        return torch.zeros_like(y)
    return torch.autograd.grad(value.sum(), y, create_graph=keep, allow_unused=True, materialize_grads=True)[
        0
    ]


def _push(x0: Tensor, g: Tensor, l: Level, power: int) -> Tensor:
    """x0 + sigma^2 / alpha^power g, and x0 itself at alpha = 0."""
    signal = l.alpha > 0
    return x0 + torch.where(signal, l.sigma**2 / torch.where(signal, l.alpha, 1.0) ** power * g, 0.0)
