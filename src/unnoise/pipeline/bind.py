"""From prompts to a denoiser: each is encoded as the model takes it and bound to the network, and guidance is
mixed from the two answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from unnoise.denoiser import Denoiser
from unnoise.guide.cfg import cfg_batched
from unnoise.guide.scale import Scale
from unnoise.process.level import Level
from unnoise.process.schedule import Path

if TYPE_CHECKING:
    from unnoise.pipeline.pipeline import Pipeline


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
    call, condition = net or pipe.fast, pipe.condition
    around: Callable[[Denoiser], Denoiser] = within or (lambda denoise: denoise)
    if condition is None:
        return around(pipe.process.denoiser(call))
    name = condition.argument

    def bind(encoded: Tensor) -> Denoiser:
        ready = pipe.runner.prepared(encoded)
        return around(pipe.process.denoiser(lambda x, t: call(x, t, **{name: ready()})))

    def guided(encoded: Tensor) -> Denoiser:
        cond, uncond = encoded[: len(prompts)], encoded[len(prompts) :]
        if isinstance(guidance, (int, float)) and guidance == 1:
            return bind(cond)
        return cfg_batched(bind, cond, uncond, guidance, rescale)

    everything = [*prompts, *(negatives or [condition.empty] * len(prompts))]
    steps = condition.encode(everything, len(path) - 1 if path else 1, clip_skip)
    bound = {id(e): guided(e) for e in steps}  # steps with one prompt share its keys and values
    return by_step([bound[id(e)] for e in steps], path)


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
