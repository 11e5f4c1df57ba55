"""Losses as guidance on the default model: is the wish granted, and what does it cost the thing asked for?

    python -m bench.edit_guides [--model emoji] [--n 40] [--first 4] [--seed 3000] [--json] [--quick] [--only
    mean:1] [--sheet docs/edit/guides.png]

n nouns are drawn, unguided and under each guide, from the same seeds, one picture each (so that the standard
error of a share is near 8 points at n = 40). noun: how often the judge names the thing. far: of a mean
colour, the largest of the three differences to the target, the mean over pictures, and the share of pictures
where it is under .05; of `colour`, the share that the judge sees in it; of CLIP, the cosine to its text.

The target of the mean colour is, for each picture, its own unguided mean moved by .1 towards green. A tint
alone may put the judge off, so three things stand beside its answer. "shifted back": its answer once each
picture has its unguided mean again, so that what it sees is the thing and not the tint. The row "tint" is the
unguided pictures, each moved by one colour after the drawing. The row "real, tint" is that of real pictures:
what the tint alone costs the judge.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import unnoise
from bench import common
from unnoise.data.nouns import phrase
from unnoise.errors import BadInput
from unnoise.pipeline import Pipeline, guides

MOVE = (-0.1, 0.05, -0.1)  # of the mean colour
TEXT = "a happy face"
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("mean", "1", {}),
    ("mean", "2", {}),
    ("mean", "2", {"guide_through": True}),
    ("mean", "2", {"guide_linear": True}),
    ("colour=green", "1", {}),
    ("colour=green", "1", {"guide_through": True}),
    (f"clip={TEXT}", "1", {}),
    (f"clip-noised={TEXT}", "1", {}),
    (f"clip={TEXT}", "1", {"guide_through": True}),
)


def measured(
    pipe: Pipeline, nouns: Sequence[str], steps: int, batch: int, seed: int, only: str = ""
) -> tuple[list[dict], list[list[Any]]]:
    """A row a case, and the first pictures of each."""
    judge = guides.judge()
    how: dict[str, Any] = {"seed": [seed + i for i in range(len(nouns))], "num_inference_steps": steps}
    prompts = [phrase(n) for n in nouns]
    plain = pipe(prompts, batch_size=batch, **how)
    few = {**how, "seed": how["seed"][:2]}
    off = pipe(prompts[:2], guide=["colour=green:0", "clip=a car:0"], guide_through=True, **few).arrays
    same = bool(np.array_equal(off, pipe(prompts[:2], **few).arrays))
    means = plain.arrays.mean((1, 2)) / 255
    wanted = (means + MOVE).clip(0, 1)
    rows, shown = [], []
    for what, weight, options in (
        ("none", "", {}),
        ("tint", "", {}),
        *(c for c in CASES if f"{c[0]}:{c[1]}".startswith(only)),
    ):
        began = time.perf_counter()
        if what == "none":
            made = plain.arrays
        elif what == "tint":
            made = moved(plain.arrays, wanted)
        elif what == "mean":
            made = _towards(pipe, prompts, wanted, float(weight), {**how, **options})
        else:
            made = pipe(prompts, guide=[f"{what}:{weight}"], batch_size=batch, **how, **options).arrays
        seconds = (time.perf_counter() - began) / len(nouns)
        by = (
            "through the network"
            if options.get("guide_through")
            else "linear map"
            if options.get("guide_linear")
            else "estimate"
        )
        extra = (
            {"zero weight bit-equal": same}
            if what == "none"
            else {}
            if what == "tint"
            else {"seconds a picture": seconds}
        )
        rows.append(
            {
                "guide": what,
                "weight": weight,
                "gradient": by if weight else "",
                "noun": right(made, nouns),
                "shifted back": right(moved(made, means), nouns),
                **_wish(pipe, made, wanted, judge.look(made).answers, judge),
                **extra,
            }
        )
        shown.append(list(made[:6]))
    return [*rows, *_real(len(nouns))], shown


def right(made: np.ndarray, nouns: Sequence[str]) -> float:
    """How often the judge names the thing."""
    said = guides.judge().heads["noun"]
    return float(
        np.mean([said[k] == n for k, n in zip(guides.judge().look(made).answers["noun"].argmax(1), nouns)])
    )


def moved(made: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Pictures (n, h, w, 3), each moved by one colour to a mean in [0, 1], (n, 3), and cut off at black and
    white.
    """
    x = made / 255 + (means - made.mean((1, 2)) / 255)[:, None, None]
    return np.rint(x.clip(0, 1) * 255).astype(np.uint8)


def _real(n: int, emoji: str = "emoji") -> list[dict]:
    """Held-out real pictures under the same tint, where the data is at hand."""
    from unnoise.worlds.emoji.scenes import Scenes

    try:
        scenes = Scenes(emoji, "test", {"plain": 1.0}, 300)
    except BadInput:
        return []
    about = [scenes.attributes(0, k) for k in range(3 * n)]
    pictures, nouns = np.stack([scenes.render(a) for a in about]), [a.concepts[0] for a in about]
    tinted = moved(pictures, (pictures.mean((1, 2)) / 255 + MOVE).clip(0, 1))
    return [
        {"guide": what, "weight": "", "gradient": "", "noun": right(x, nouns)}
        for what, x in (("real", pictures), ("real, tint", tinted))
    ]


def _towards(
    pipe: Pipeline, prompts: Sequence[str], wanted: np.ndarray, weight: float, how: dict
) -> np.ndarray:
    """Pictures, each under a mean colour of its own, in [0, 1]."""
    colours = ["#" + bytes(np.rint(w * 255).astype(np.uint8)).hex() for w in wanted]
    return np.concatenate(
        [
            pipe(p, guide=[f"mean={c}:{weight:g}"], **{**how, "seed": s}).arrays
            for p, c, s in zip(prompts, colours, how["seed"])
        ]
    )


def _wish(pipe: Pipeline, made: np.ndarray, wanted: np.ndarray, seen: dict, judge) -> dict[str, Any]:
    far = np.abs(made.mean((1, 2)) / 255 - wanted).max(1)
    both = guides.clip_for(pipe)
    with torch.no_grad():
        cosine = float((both.images(made) @ both.texts([TEXT]).T).mean())
    green = (
        float(np.mean(seen["colour"].argmax(1) == judge.heads["colour"].index("green")))
        if "green" in judge.heads["colour"]
        else None
    )
    return {
        "far": float(far.mean()),
        "within .05": float((far < 0.05).mean()),
        "seen green": green,
        "clip cosine": cosine,
    }


def main(argv: list[str] | None = None) -> None:
    p = common.of_nouns(__doc__)
    p.add_argument("--only", default="", help="the cases whose NAME=VALUE:WEIGHT begins so")
    a = p.parse_args(argv)
    pipe, nouns = unnoise.load(a.model), common.nouns(a)
    rows, shown = measured(pipe, nouns, a.steps, a.batch, a.seed, a.only)
    if a.sheet:
        labels = [
            (
                f"{r['guide']}, {r['gradient']}"
                if r["weight"]
                else "unguided"
                if r["guide"] == "none"
                else r["guide"]
            )
            for r in rows[: len(shown)]
        ]
        common.of_pictures(shown, labels, nouns, a.sheet)
    common.report("edit_guides", rows, a.json, n=a.n, steps=a.steps, model=pipe.sha256[:12])


if __name__ == "__main__":
    main()
