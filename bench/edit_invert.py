"""Inversion round trips on real pictures: ours beside diffusers' DDIMInverseScheduler and DDIMScheduler, the
same weights.

    python -m bench.edit_invert [--json] [--quick] [--pictures 4] [--steps 50] [--iterations 1 3]

dB of the pixels that come back, against what the autoencoder alone makes of the picture (its own loss is the
row "autoencoder"); rms in the model's space. Unguided rows go up and down under the picture's caption; guided
ones come down at 7.5, up without guidance, but for "coupled", which has it both ways.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import unnoise
from bench import common
from unnoise.edit.invert import inverted, reconstruct, rms
from unnoise.edit.run import psnr
from unnoise.worlds.emoji.scenes import Scenes

GUIDANCE = 7.5


Trip = Callable[[Tensor, str], tuple[Tensor, int]]


def ours(
    pipe: unnoise.Pipeline,
    method: str,
    steps: int,
    guidance: float = 1.0,
    anchor: str = "none",
    iterations: int = 3,
) -> Trip:
    """(x0, caption) -> (what comes back, network calls)."""

    def trip(x0: Tensor, caption: str) -> tuple[Tensor, int]:
        found = inverted(
            pipe,
            x0,
            caption,
            steps,
            method,
            guidance=guidance if method == "coupled" else 1.0,
            iterations=iterations,
        )
        x, calls = reconstruct(pipe, found, guidance, anchor)
        return x, found.nfe + calls

    return trip


def theirs(pipe: unnoise.Pipeline, steps: int) -> Trip:
    """Their two schedulers, with the network of the same weights, at their best settings here: trailing, from
    and to clean data.
    """
    from diffusers import DDIMInverseScheduler, DDIMScheduler

    net = common.twin(pipe.net)
    config = {
        "num_train_timesteps": 1000,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "timestep_spacing": "trailing",
    }

    @torch.no_grad()
    def trip(x0: Tensor, caption: str) -> tuple[Tensor, int]:
        from unnoise.edit.invert import contexts

        context, x, calls = contexts(pipe, [caption]), x0, 0
        for scheduler in (DDIMInverseScheduler(**config), DDIMScheduler(**config)):
            scheduler.set_timesteps(steps)
            for t in scheduler.timesteps:
                x = scheduler.step(net(x, t, encoder_hidden_states=context).sample, int(t), x).prev_sample
                calls += 1
        return x, calls

    return trip


def row(
    name: str, trip: Trip, pipe: unnoise.Pipeline, x0: list[Tensor], captions: list[str]
) -> dict[str, Any]:
    """The figures of one way, a picture at a time."""
    backs = [trip(x, c) for x, c in zip(x0, captions)]
    db = [psnr(pipe.decode(b)[0], pipe.decode(x)[0]) for (b, _), x in zip(backs, x0)]
    worst = max(float((b - x).abs().max()) for (b, _), x in zip(backs, x0))
    return {
        "by": name,
        "calls": backs[0][1],
        "db": _told(np.mean(db)),
        "least_db": _told(np.min(db)),
        "rms": float(np.mean([rms(b, x) for (b, _), x in zip(backs, x0)])),
        "max": worst,
    }


def _told(db: float) -> float | str:
    """JSON has no infinity: "inf" where every pixel came back."""
    return float(db) if np.isfinite(db) else "inf"


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--model", default="emoji")
    p.add_argument("--pictures", type=int, default=4)
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--iterations", type=int, nargs="+", default=[1, 3])
    p.add_argument("--quick", action="store_true", help="1 picture, 6 steps")
    p.add_argument("--json", action="store_true")
    a = p.parse_args(argv)
    if a.quick:
        a.pictures, a.steps = 1, 6
    warnings.filterwarnings("ignore")
    common.ready(0)
    pipe = unnoise.load(a.model, device="cpu", dtype="fp32")
    scenes = Scenes("emoji", "test", {"plain": 0.5, "pair": 0.5}, 300)
    seen = [scenes.scene(0, i)[:2] for i in range(a.pictures)]
    x0, captions = [pipe.codec.encode(s[None]) for s, _ in seen], [c for _, c in seen]
    ways = {
        "plain": ours(pipe, "plain", a.steps),
        **{f"fixed-point, {k}": ours(pipe, "fixed-point", a.steps, iterations=k) for k in a.iterations},
        "coupled": ours(pipe, "coupled", a.steps),
        "diffusers": theirs(pipe, a.steps),
        f"coupled at {GUIDANCE}": ours(pipe, "coupled", a.steps, GUIDANCE),
        **{
            f"fixed-point, down at {GUIDANCE}, {k}": ours(pipe, "fixed-point", a.steps, GUIDANCE, k)
            for k in ("none", "negative-prompt", "null-text")
        },
    }
    rows = [row(name, trip, pipe, x0, captions) for name, trip in ways.items()]
    rows.append(
        {
            "by": "autoencoder",
            "db": float(np.mean([psnr(pipe.decode(x)[0], s) for x, (s, _) in zip(x0, seen)])),
        }
    )
    common.report("edit_invert", rows, a.json, model=pipe.name, steps=a.steps, pictures=a.pictures)


if __name__ == "__main__":
    main()
