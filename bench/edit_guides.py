"""Losses as guidance on the default model: is the wish granted, and what does it cost the thing asked for?

    python -m bench.edit_guides [--model emoji] [--n 48] [--steps 20] [--json] [--quick] [--only mean:1] [--sheet docs/edit/guides.png]

n nouns are drawn, unguided and under each guide, from the same seeds. noun: how often the judge names the thing (each noun has one picture, so
its standard error is near 7 points at n = 48). far: of a mean colour, the largest of the three differences to the target, the mean over pictures,
and the share of pictures where it is under .05; of `colour`, the share that the judge sees in it; of CLIP, the cosine to its text. The target
of the mean colour is, for each picture, its own unguided mean moved by .1 towards green, so that it can be reached by every noun.
CLIP's text is "a happy face", of `judge` its noun, told through the estimate or through the network.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import unnoise
from bench import common
from unnoise.edit import guides
from unnoise.evaluate.scenes import name
from unnoise.look import sheet
from unnoise.pipeline import Pipeline

MOVE = (-0.1, 0.05, -0.1)  # of the mean colour
TEXT = "a happy face"
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("mean", "1", {}), ("mean", "2", {}), ("mean", "2", {"guide_through": True}), ("mean", "2", {"guide_linear": True}),
    ("colour=green", "1", {}), ("colour=green", "1", {"guide_through": True}),
    (f"clip={TEXT}", "1", {}), (f"clip-noised={TEXT}", "1", {}), (f"clip={TEXT}", "1", {"guide_through": True}),
)


def measured(pipe: Pipeline, nouns: Sequence[str], steps: int, batch: int, only: str = "") -> tuple[list[dict], list[list[Any]]]:
    """A row a case, and the first pictures of each."""
    judge = guides.judge()
    said = judge.heads["noun"]
    how: dict[str, Any] = {"seed": 0, "num_inference_steps": steps, "batch_size": batch}
    prompts = [name(n) for n in nouns]
    plain = pipe(prompts, **how)
    off = pipe(prompts, guide=["colour=green:0", "clip=a car:0"], guide_through=True, **how)
    means = plain.arrays.mean((1, 2)) / 255
    wanted = (means + MOVE).clip(0, 1)
    rows, shown = [], []
    for what, weight, options in (("none", "", {}), *(c for c in CASES if f"{c[0]}:{c[1]}".startswith(only))):
        began = time.perf_counter()
        if what == "none": made = plain.arrays
        elif what == "mean": made = _towards(pipe, prompts, wanted, float(weight), {**how, **options})
        else: made = pipe(prompts, guide=[f"{what}:{weight}"], **how, **options).arrays
        seconds = (time.perf_counter() - began) / len(nouns)
        seen = judge.look(made).answers
        right = [said[k] == n for k, n in zip(seen["noun"].argmax(1), nouns)]
        by = "through the network" if options.get("guide_through") else "linear map" if options.get("guide_linear") else "estimate"
        extra = {"zero weight bit-equal": bool(np.array_equal(off.arrays, made))} if what == "none" else {"seconds a picture": seconds}
        rows.append({"guide": what, "weight": weight, "gradient": by, "noun": float(np.mean(right)), **_wish(pipe, made, wanted, seen, judge), **extra})
        shown.append(list(made[:6]))
    return rows, shown


def _towards(pipe: Pipeline, prompts: Sequence[str], wanted: np.ndarray, weight: float, how: dict) -> np.ndarray:
    """Each picture under a function of its own: its mean colour, in [0, 1]."""
    from unnoise.guide.losses import mean_colour

    each = [partial(mean_colour, rgb=w.tolist()) for w in wanted]
    return np.concatenate([pipe(p, guide=[(f, weight)], **{**how, "seed": i}).arrays for i, (p, f) in enumerate(zip(prompts, each))])


def _wish(pipe: Pipeline, made: np.ndarray, wanted: np.ndarray, seen: dict, judge) -> dict[str, Any]:
    far = np.abs(made.mean((1, 2)) / 255 - wanted).max(1)
    both = guides.clip_for(pipe)
    with torch.no_grad(): cosine = float((both.images(made) @ both.texts([TEXT]).T).mean())
    green = float(np.mean(seen["colour"].argmax(1) == judge.heads["colour"].index("green"))) if "green" in judge.heads["colour"] else None
    return {"far": float(far.mean()), "within .05": float((far < 0.05).mean()), "seen green": green, "clip cosine": cosine}


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="emoji")
    p.add_argument("--n", type=int, default=48, help="nouns, one picture each")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--batch", type=int, default=12)
    p.add_argument("--quick", action="store_true", help="4 nouns, 4 steps")
    p.add_argument("--only", default="", help="the cases whose NAME=VALUE:WEIGHT begins so")
    p.add_argument("--json", action="store_true")
    p.add_argument("--sheet", type=Path, help="write the first pictures of every case")
    a = p.parse_args(argv)
    n, steps = (4, 4) if a.quick else (a.n, a.steps)
    pipe = unnoise.load(a.model)
    every = guides.judge().heads["noun"]
    nouns = [every[i * len(every) // n] for i in range(n)]
    rows, shown = measured(pipe, nouns, steps, a.batch, a.only)
    if a.sheet:
        from unnoise.pipeline import picture

        labels = [f"{r['guide']}, {r['gradient']}" if r["guide"] != "none" else "unguided" for r in rows]
        sheet([[picture(x) for x in row] for row in shown], [name(x) for x in nouns[:6]], labels, "", "", least=64).quantize(96).save(a.sheet, optimize=True)
    common.report("edit_guides", rows, a.json, n=n, steps=steps, model=pipe.sha256[:12])


if __name__ == "__main__":
    main()
