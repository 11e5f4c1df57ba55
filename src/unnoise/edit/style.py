"""A picture in the style of another, from that one picture.

    style(pipe, "reference.png", "a car")

    aligned  (unless another is named) shared attention (StyleAligned; Hertz et al. 2024): the reference comes
             down beside the pictures, from its DDIM inversion, and in every self-attention they take its keys
             and values beside their own: softmax([q k_ref^T + log share, q k^T]) [v_ref, v], where q and k
             first get the reference's mean and spread over places (AdaIN), by head and channel
    loss     the Gram matrices of a recogniser's first layers (Gatys et al. 2016) as guidance, as `guides`
             "style=…": where sigma / alpha <= guides.FORMED, as above that level what is drawn is still being
             decided
    adapter  an image prompt (IP-Adapter; Ye et al. 2023): a small network that was trained for it, see
             `adapter`; recipes/style.py trains one

In `aligned` the reference's row is set anew at each call, alpha x0 + sigma eps with the eps that inversion
found at that level, so that it is on its own way whatever the sampler does. Prompts and negative prompts
share with the reference under its own prompt and under none. The paper's shared group norms are not built:
hooks see attention alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.codec import of_pictures
from unnoise.denoiser import Denoiser
from unnoise.edit.hooks import hooked, maps, mixed
from unnoise.edit.picture import Given, Picture, shown
from unnoise.edit.run import SIZES, Run, Wrap, begin, models_size
from unnoise.guide import losses
from unnoise.guide.steer import steer
from unnoise.nets.layers import attention
from unnoise.nets.unet import Hook, Place
from unnoise.pipeline import Count, Pipeline, Request, Result, guides
from unnoise.process.level import Level, spread
from unnoise.sample import inversion

METHODS = {
    "aligned": 2.0,
    "loss": 1.0,
    "adapter": 1.0,
}  # their amounts; log 2 is what StyleAligned's authors use for a real picture


def style(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    method: str = "aligned",
    amount: float | None = None,
    reference_prompt: str = "",
    adapter: str | os.PathLike | None = None,
    **how: Any,
) -> Result:
    """Pictures of the prompt in the style of `image`, at the model's own size (or height x width).

    method: "aligned", "loss" or "adapter". amount: of "aligned", how many times its own weight the reference
    gets in the attention (2; 0 is off); of "loss", the guide's weight (1); of "adapter", the scale of its
    attention (1). reference_prompt: what the reference shows, which tells "aligned" what in it is not style.
    adapter: the file of a trained one. how: what `edit.run.begin` takes. nfe counts the calls an image; those
    of the inversion, one a step for all, are not in it. Errors: BadInput.
    """
    method = arguments.choice("style method", method, METHODS)
    amount = arguments.number("amount", METHODS[method] if amount is None else amount, 0)
    of_pictures(pipe.codec, pipe.name, "it has no style")
    pipe.check_prompt(arguments.string("reference_prompt", reference_prompt))
    if adapter is not None and not isinstance(adapter, str | os.PathLike):
        raise BadInput(f"adapter must name a file, given {short(adapter)}")
    options = {"method": method, "amount": amount, "reference_prompt": reference_prompt}
    options |= {k: how.get(k) for k in SIZES} | {"adapter": str(adapter) if adapter else None}
    run = begin(pipe, "style", image, prompt, options, how, models_size)
    x, nfe = _drawn(run, method, amount, reference_prompt, adapter)
    return run.result(shown(pipe, x), nfe)


def _drawn(
    run: Run, method: str, amount: float, prompt: str, adapter: str | os.PathLike | None
) -> tuple[Tensor, int]:
    """(x (n, …), network calls an image) by a method."""
    if not amount:
        return run.drawn()
    if method == "loss":
        return run.drawn(wrap=_by_loss(run, amount))
    return _adapted(run, amount, adapter) if method == "adapter" else _aligned(run, prompt, amount)


# --- by a loss ----------------------------------------------------------------------------------------------


def _by_loss(run: Run, weight: float) -> Wrap:
    pipe, r = run.pipe, run.request
    wish, decode = gram_to(run.picture, pipe.runner.device), guides.pictures(pipe)
    h, w = run.size or run.picture.size
    chunk, until = max(1, guides.TOGETHER // (h * w)), guides.formed(pipe, r)

    def wrap(denoise: Denoiser, places: Sequence[int]) -> Denoiser:
        steered = steer(denoise, [(lambda images, l: wish(images), weight)], decode, chunk=chunk)
        return lambda x, l: (steered if float(l.ratio.max()) <= until else denoise)(x, l)

    return wrap


def gram_to(picture: Picture, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """Images (n, 3, h, w) in [0, 1] -> (n,) relative squared distances of the judge's Gram matrices to a
    picture's.
    """
    features = guides.trunk(guides.judge(device))
    x = picture.tensor()
    with torch.no_grad():
        wanted = [losses.gram(f) for f in features(x)]
    return lambda images: losses.style(images, wanted, features)


# --- by an image prompt -------------------------------------------------------------------------------------


def _adapted(run: Run, scale: float, file: str | os.PathLike | None) -> tuple[Tensor, int]:
    from unnoise.edit import adapter

    if file is None:
        raise BadInput(
            "style method 'adapter' needs a trained adapter: name its file (recipes/style.py trains one)"
        )
    net = adapter.load(file, run.pipe)
    f = adapter.vector(run.picture.tensor()).to(run.pipe.runner.device)

    def draw(places: list[int], count: Count) -> Tensor:
        return run.finish(places, count, net=hooked(run.pipe, net.hook(f.expand(len(places), -1), scale)))

    return run.batched(draw)


# --- by shared attention ------------------------------------------------------------------------------------


def _aligned(run: Run, prompt: str, share: float) -> tuple[Tensor, int]:
    """Each batch is drawn with the reference as its first row, which is left out at the end."""
    reference = way(run.pipe, run.request, run.encoded(), prompt)
    wrap = lambda denoise: _beside(denoise, reference)

    def draw(places: list[int], count: Count) -> Tensor:
        r = run.request.only(places)
        r = replace(
            r, prompts=(prompt, *r.prompts), negatives=("", *r.negatives), seeds=(r.seeds[0], *r.seeds)
        )
        net = hooked(run.pipe, sharing(len(r.seeds), share))
        return run.finish(places, count, r, wrap=wrap, net=net)[1:]

    return run.batched(draw)


def _beside(denoise: Denoiser, reference: Callable[[Level], Tensor]) -> Denoiser:
    return lambda x, l: denoise(torch.cat([reference(l).to(x), x[1:]]), l)


def way(pipe: Pipeline, request: Request, x0: Tensor, prompt: str) -> Callable[[Level], Tensor]:
    """Level -> x (1, …) of a picture x0 on its DDIM inversion, unguided: on the request's levels exactly;
    between them eps is interpolated.
    """
    denoise = pipe.denoiser([prompt], clip_skip=request.clip_skip)
    states = [s for s in inversion(denoise, x0, pipe.path(request)[::-1]) if not s.level.clean]
    times = [float(pipe.schedule.time(s.level)) for s in states]
    eps = [(s.x - spread(s.level.alpha, s.x) * x0) / spread(s.level.sigma, s.x) for s in states]

    def at(l: Level) -> Tensor:
        alpha, sigma = (float(v.reshape(-1)[0]) for v in l)
        u = float(pipe.schedule.time(Level(*(v.reshape(-1)[0] for v in l))))
        k = min(max(int(np.searchsorted(times, u)), 1), len(times) - 1) if len(times) > 1 else 0
        if not k:
            return alpha * x0 + sigma * eps[0]
        w = min(max((u - times[k - 1]) / (times[k] - times[k - 1]), 0.0), 1.0)
        return alpha * x0 + sigma * torch.lerp(eps[k - 1], eps[k], w)

    return at


def sharing(rows: int, share: float) -> Hook:
    """The hook of shared self-attention. rows: of one group, the reference first; a batch is one such group
    or several (prompts, negatives).
    """

    def hook(q: Tensor, k: Tensor, v: Tensor, place: Place) -> Tensor:
        if place.kind != "self":
            return attention(q, k, v)
        first = lambda u: (
            u.reshape(-1, rows, *u.shape[1:])[:, :1].expand(-1, rows, *u.shape[1:]).reshape(u.shape)
        )
        q, k = adain(q, first(q)), adain(k, first(k))
        if share == 1:
            return attention(q, torch.cat([first(k), k], 2), torch.cat([first(v), v], 2))
        return mixed(
            weighed(maps(q, torch.cat([first(k), k], 2)), k.shape[2], share), torch.cat([first(v), v], 2)
        )

    return hook


def weighed(weights: Tensor, tokens: int, share: float) -> Tensor:
    """Attention weights (…, t) with the first `tokens` times `share`, to sum 1 again: log share added to
    their scores.
    """
    w = torch.cat([share * weights[..., :tokens], weights[..., tokens:]], -1)
    return w / w.sum(-1, keepdim=True)


def adain(x: Tensor, like: Tensor, least: float = 1e-5) -> Tensor:
    """x (…, places, d) with the mean and standard deviation over places of `like`, by channel (Huang &
    Belongie 2017).
    """
    stats = lambda u: (u.mean(-2, keepdim=True), (u.var(-2, keepdim=True, correction=0) + least).sqrt())
    (m, s), (mean, std) = stats(x), stats(like)
    return (x - m) / s * std + mean
