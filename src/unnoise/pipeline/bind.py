"""From prompts to a denoiser: each is encoded as the model takes it and bound to the network, and guidance is
mixed from the two answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unnoise.denoiser import Denoiser
from unnoise.guide.cfg import cfg_batched
from unnoise.guide.scale import Scale
from unnoise.process.level import Level
from unnoise.process.schedule import Path

if TYPE_CHECKING:
    from unnoise.pipeline.pipeline import Pipeline

Pair = tuple[Tensor, Tensor]  # the prompts' conditions and the negatives', each (n, …)


def denoiser(
    pipe: Pipeline,
    prompts: Sequence[str],
    negatives: Sequence[str] | None = None,
    guidance: Scale = 1.0,
    rescale: float = 0.0,
    net: Callable[..., Tensor] | None = None,
    path: Path | None = None,
    clip_skip: int = 0,
    within: Callable[[Denoiser], Denoiser] | None = None,
) -> Denoiser:
    """E[x0 | x, prompt] of a batch, guided away from `negatives` (default: no condition): a Denoiser for any
    sampler.

    path: the levels of the run, for prompts that change by step. within: the denoiser of the network itself,
    of the prompts' rows and then the negatives' where there is guidance -> the one whose answers guidance
    mixes.
    """
    net, negatives = net or pipe.fast, negatives or [""] * len(prompts)
    within = within or (lambda denoise: denoise)
    if pipe.words is None and pipe.text is None:
        return within(pipe.process.denoiser(net))
    key = "context" if pipe.text is not None else "labels"

    def bind(condition: Tensor) -> Denoiser:
        ready = pipe.runner.prepared(condition)
        return within(pipe.process.denoiser(lambda x, t: net(x, t, **{key: ready()})))

    def guided(cond: Tensor, uncond: Tensor) -> Denoiser:
        if isinstance(guidance, (int, float)) and guidance == 1:
            return bind(cond)
        return cfg_batched(bind, cond, uncond, guidance, rescale)

    pairs = conditions(pipe, prompts, negatives, path, clip_skip)
    bound = {id(p): guided(*p) for p in pairs}  # steps with one prompt share its keys and values
    return by_step([bound[id(p)] for p in pairs], path)


def conditions(
    pipe: Pipeline, prompts: Sequence[str], negatives: Sequence[str], path: Path | None, clip_skip: int
) -> list[Pair]:
    """The prompts' and negatives' labels (n,) or encodings (n, tokens, width): one pair, or one a step where
    a prompt changes by step.
    """
    if pipe.text is not None:
        return _encodings(pipe, prompts, negatives, path, clip_skip)
    assert pipe.words is not None
    label = pipe.words.label
    return [(torch.tensor([label(p) for p in prompts]), torch.tensor([label(p) for p in negatives]))]


def _encodings(
    pipe: Pipeline, prompts: Sequence[str], negatives: Sequence[str], path: Path | None, clip_skip: int
) -> list[Pair]:
    """Steps at which all prompts read the same share one pair."""
    from unnoise.text import prompts as prompting

    encoder, n = pipe.runner.encoder(clip_skip), len(prompts)
    parsed = [prompting.parse(p) for p in (*prompts, *negatives)]
    chunks, changing = max(map(encoder.chunks, parsed)), any(p.by_step for p in parsed)
    steps = len(path) - 1 if path and changing else 1
    read = [tuple(p.at(i, steps) for p in parsed) for i in range(steps)]
    pairs: dict[tuple, Pair] = {}
    with torch.no_grad():
        for i, key in enumerate(read):
            if key not in pairs:
                e = encoder.encode(parsed, step=i, steps=steps, chunks=chunks)
                pairs[key] = (e[:n], e[n:])
    pipe.runner.release_text()
    return [pairs[key] for key in read]


def by_step(parts: Sequence[Denoiser], path: Path | None) -> Denoiser:
    """A Denoiser that is parts[i] from level i of the path to just above level i + 1; a single part is for
    all levels.
    """
    if path is None or len(parts) == 1:
        return parts[0]
    floors = [float(l.ratio) for l in path[1:-1]]

    def denoise(x: Tensor, l: Level) -> Tensor:
        r = float(l.ratio.max())
        return parts[sum(r <= f * (1 + 1e-9) for f in floors)](x, l)

    return denoise
