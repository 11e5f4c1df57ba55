"""Guides that ask a network what a picture shows: CLIP how near it is to a text, the judge for an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.guide import losses
from unnoise.guide.steer import Wish
from unnoise.process.level import Level

if TYPE_CHECKING:
    from unnoise.hub.parts import Clip
    from unnoise.pipeline.pipeline import Pipeline
    from unnoise.worlds.judge import Judge

LogProb = Callable[[Tensor], Tensor]  # images (n, 3, h, w) in [0, 1] -> (n,)


# --- CLIP ---------------------------------------------------------------------------------------------------


def clip(pipe: Pipeline, value: str, noised: bool = False) -> Wish:
    """CLIP's cosine to a text, over crops; noised: of the estimate at the level of the moment."""
    from unnoise.nets.clip import prepare

    both = clip_for(pipe)
    text, size = both.texts([value]).clone(), both.net.vision_model.config.image_size
    encode = lambda images: both.net.encode_image(prepare(images * 2 - 1, size))

    def loss(images: Tensor, l: Level) -> Tensor:
        return losses.similarity(at_level(images, l) if noised else images, text, encode)

    return loss


def clip_noised(pipe: Pipeline, value: str) -> Wish:
    """The same of the noised estimate (Nichol et al. 2022, GLIDE)."""
    return clip(pipe, value, noised=True)


def at_level(images: Tensor, l: Level) -> Tensor:
    """Images in [0, 1] noised to a level, (alpha v + sigma eps) / sqrt(alpha^2 + sigma^2) of v in [-1, 1]:
    one eps for all, the same every time.
    """
    own = l.like(images)
    eps = torch.randn(1, *images.shape[1:], generator=torch.Generator().manual_seed(0)).to(images)
    return (own.alpha * (2 * images - 1) + own.sigma * eps) / (own.alpha**2 + own.sigma**2).sqrt() / 2 + 0.5


def clip_for(pipe: Pipeline) -> Clip:
    """The CLIP of a model's own folder; of a model without one, the bundled emoji CLIP, which knows that
    world alone.
    """
    path = pipe.folder.path
    return _clip_at(str(path) if path and (path / "clip").is_dir() else "emoji", pipe.runner.device)


@cache
def _clip_at(path: str, device: torch.device) -> Clip:
    from unnoise.hub.parts import load_clip

    both = load_clip(path)
    both.net.eval().requires_grad_(False).to(device)
    return both


# --- the judges ---------------------------------------------------------------------------------------------


def judged(pipe: Pipeline, value: str) -> Wish:
    """The judge's probability of an answer: that of scenes, or for grey models that of digits and clothes."""
    grey = pipe.codec.shape(1)[1] == 1 or getattr(pipe.codec, "channels", 3) == 1
    log_prob = _class(pipe, value) if grey else _answer(pipe, value)
    return lambda images, l: losses.improbability(images, log_prob)


def _answer(pipe: Pipeline, value: str) -> LogProb:
    """log p of a noun, a colour, a count or an orientation by the judge of scenes."""
    from unnoise.data.nouns import phrase

    by = judge(pipe.runner.device)
    heads = [h for h in ("orientation", "count", "colour", "noun") if h in by.heads]
    known = {a: (head, i) for head in heads for i, a in enumerate(by.heads[head])}
    known |= {phrase(a): ("noun", i) for i, a in enumerate(by.heads["noun"])}
    if value not in known:
        raise _not_known(value, known)
    head, i = known[value]
    size = by.codec.height, by.codec.width
    return lambda images: by.net(fitted(images, size) * 2 - 1)[head].log_softmax(1)[:, i]


def _class(pipe: Pipeline, value: str) -> LogProb:
    """log p of a class by the judge of digits and clothes."""
    from unnoise.text.words import Words
    from unnoise.worlds.judge import load

    by = load()
    i = Words(by.words).label(value)
    size, net = (by.codec.height, by.codec.width), by.net.to(pipe.runner.device)
    patch = by.codec.patch  # type: ignore[attr-defined]  # this judge's are pixels

    def log_prob(images: Tensor) -> Tensor:
        x = F.pixel_unshuffle(fitted(images[:, :1], size) * 2 - 1, patch)
        return net(x).log_softmax(1)[:, i]

    return log_prob


def _not_known(value: str, known: Iterable[str]) -> BadInput:
    answers = list(known)
    near = get_close_matches(value.lower(), answers, n=3, cutoff=0.5)
    if near:
        return BadInput(f"the judge knows no {value!r}; did you mean {' or '.join(map(repr, near))}?")
    return BadInput(f"the judge knows no {value!r} (it knows {len(answers)} answers)")


def judge(device: torch.device | str = "cpu") -> Judge:
    """The bundled judge of scenes, with its network on a device."""
    return _judge_on(torch.device(device))


@cache
def _judge_on(device: torch.device) -> Judge:
    from unnoise.worlds.judge import SCENES, load

    by = load(form=SCENES)
    by.net.to(device)
    return by


def fitted(images: Tensor, size: Sequence[int]) -> Tensor:
    """(n, 3, h, w) at another (height, width), bilinear with antialiasing; itself where that is its own."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, tuple(size), mode="bilinear", antialias=True, align_corners=False)
