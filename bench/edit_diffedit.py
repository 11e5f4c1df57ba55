"""DiffEdit on composed scenes of two objects, one of which is to change its colour or become another thing:
ours, image-to-image, diffusers.

    python -m bench.edit_diffedit [--json] [--quick] [--scenes 40] [--steps 20] [--guidance 7.5] [--strength
    0.8] [--sheet PATH]
        [--model runs/emoji-pairs/model --concepts 10]

The scenes are those of the data's grammar ("a red apple left of a car"), so that it is known where the object
is and what it must become.
    iou        of the mask with the object's own pixels (beside it the best that whole cells could do)
    outside    largest difference of a byte outside the mask
    edited     the judge sees the target at the object's place (beside it: at real pictures of the target
               scene, its ceiling)
    other      the judge names the other object as it does in the source, once no more than that object's own
               pixels are the edit's
    in all     the same in the whole edited picture (beside it: in the real picture of the target scene, its
               ceiling: the judge wavers)
    kept       share of the other object's bytes that did not change
Image-to-image has our very strength, steps, guidance and noise seed; diffusers'
StableDiffusionDiffEditPipeline the same weights and settings.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import unnoise
from bench import common
from unnoise import hub
from unnoise.base.colour import GROUNDS
from unnoise.data.nouns import article
from unnoise.edit import diffedit, image_to_image
from unnoise.show import sheet
from unnoise.worlds.emoji.scenes import Attributes, Scenes
from unnoise.worlds.judge import SCENES, Judge
from unnoise.worlds.judge import load as load_judge

SEED = 0
SIDE = 64


@dataclass(frozen=True)
class Task:
    """A scene, the scene that it shall become, both prompts, and which question tells whether it did
    ("colour_a" … "noun_b").
    """

    before: Attributes
    after: Attributes
    source: str
    prompt: str
    picture: np.ndarray
    wanted: np.ndarray
    inside: np.ndarray  # (64, 64) bool: the object's own pixels
    other: np.ndarray
    question: str
    answer: str


def tasks(scenes: Scenes, kind: str, n: int) -> list[Task]:
    """n scenes whose first object is to change its colour, or to become a thing of another scene that is in
    neither place.
    """
    pairs = [scenes.attributes(1, i) for i in range(3 * n)]
    others = lambda a, i: next(b for b in pairs[n + i :] if not set(b.nouns) <= set(a.nouns))
    return [_task(scenes, kind, pairs[i], others(pairs[i], i), i) for i in range(n)]


def _task(scenes: Scenes, kind: str, a: Attributes, b: Attributes, i: int) -> Task:
    colours = ("red", "blue", "green", "yellow", "purple")
    here, there = colours[i % 5], colours[(i + 1 + i // 5 % 4) % 5]
    before = replace(a, colours=(here if kind == "colour" else "", ""), background="white")
    after = replace(before, colours=(there, "")) if kind == "colour" else _swapped(before, b)
    picture, wanted = scenes.render(before, SIDE), scenes.render(after, SIDE)
    place = "ab"[_second(before)]
    question = (f"colour_{place}", there) if kind == "colour" else (f"noun_{place}", after.concepts[0])
    one, two = (_pixels(picture, box) for box in before.boxes)
    return Task(before, after, said(before), said(after), picture, wanted, one, two, *question)


def _swapped(a: Attributes, b: Attributes) -> Attributes:
    k = 0 if b.nouns[0] not in a.nouns else 1
    return replace(
        a,
        nouns=(b.nouns[k], a.nouns[1]),
        concepts=(b.concepts[k], a.concepts[1]),
        images=(b.images[k], a.images[1]),
    )


def _second(a: Attributes) -> int:
    """0 where the first object is the upper or left one of the two, else 1."""
    axis = 1 if a.relation in ("above", "below") else 0
    return int(a.boxes[0][axis] > a.boxes[1][axis])


def said(a: Attributes) -> str:
    """The scene in words."""
    first, second = (
        article(" ".join(w for w in (colour, noun) if w)) for colour, noun in zip(a.colours, a.nouns)
    )
    return f"{first} {a.relation} {second}"


def _pixels(picture: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """The pixels of a box that are not the ground."""
    x0, y0, x1, y1 = (round(v * SIDE) for v in box)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[y0:y1, x0:x1] = (picture[y0:y1, x0:x1] != GROUNDS["white"]).any(-1)
    return inside


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Of two sets of pixels."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def best_cells(inside: np.ndarray, cell: int = 8) -> float:
    """The best IoU of a union of whole cells with a set of pixels: cells by the share of them that is inside,
    the best number of them.
    """
    share = inside.reshape(SIDE // cell, cell, SIDE // cell, cell).mean((1, 3))
    return max(
        iou(np.kron(share >= t, np.ones((cell, cell), bool)), inside) for t in np.unique(share[share > 0])
    )


Edit = Callable[[Task], tuple[np.ndarray, np.ndarray | None]]  # -> (edited picture, mask (64, 64) bool)


def row(
    name: str, kind: str, edit: Edit, todo: list[Task], judge: Judge
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The figures of one way of editing."""
    made = [edit(t) for t in todo]
    pictures = np.stack([m[0] for m in made])
    own = [np.where(t.other[..., None], m, t.picture) for m, t in zip(pictures, todo)]
    then, now, real, apart = (
        judge.look(np.stack(x)).answers
        for x in ([t.picture for t in todo], pictures, [t.wanted for t in todo], own)
    )
    sees = lambda answers, i, q: judge.heads[q][int(answers[q][i].argmax())]
    edited = [sees(now, i, t.question) == t.answer for i, t in enumerate(todo)]
    ceiling = [sees(real, i, t.question) == t.answer for i, t in enumerate(todo)]
    others = [f"noun_{'ba'['ab'.index(t.question[-1])]}" for t in todo]
    as_before = lambda answers: float(
        np.mean([sees(answers, i, q) == sees(then, i, q) for i, q in enumerate(others)])
    )
    kept = [float((m[t.other] == t.picture[t.other]).all(-1).mean()) for m, t in zip(pictures, todo)]
    masks = [m[1] for m in made]
    out: dict[str, Any] = {
        "edit": kind,
        "by": name,
        "n": len(todo),
        "edited": float(np.mean(edited)),
        "ceiling": float(np.mean(ceiling)),
        "relative": float(np.mean(edited) / max(np.mean(ceiling), 1e-9)),
        "other": as_before(apart),
        "in_all": as_before(now),
        "in_all_ceiling": as_before(real),
        "kept": float(np.mean(kept)),
    }
    if masks[0] is not None:
        out |= {
            "iou": float(np.mean([iou(m, t.inside) for m, t in zip(masks, todo)])),
            "best_iou_of_cells": float(np.mean([best_cells(t.inside) for t in todo])),
            "outside": max(
                int(np.abs(p[~m].astype(int) - t.picture[~m]).max(initial=0))
                for p, m, t in zip(pictures, masks, todo)
            ),
        }
    return out, list(pictures)


def ours(pipe: unnoise.Pipeline, a: argparse.Namespace) -> Edit:
    """Our DiffEdit, with the mask's defaults."""

    def edit(t: Task):
        r = diffedit(
            pipe,
            t.picture,
            t.prompt,
            source=t.source,
            strength=a.strength,
            num_inference_steps=a.steps,
            guidance_scale=a.guidance,
        )
        return r.arrays[0], r.mask > 0

    return edit


def whole(pipe: unnoise.Pipeline, a: argparse.Namespace) -> Edit:
    """Image-to-image at the same strength."""
    return lambda t: (
        image_to_image(
            pipe,
            t.picture,
            t.prompt,
            strength=a.strength,
            seed=SEED,
            num_inference_steps=a.steps,
            guidance_scale=a.guidance,
            sampler="ddim",
        ).arrays[0],
        None,
    )


def theirs(folder: Path, a: argparse.Namespace) -> Edit:
    """diffusers' pipeline; steps grow by 1 / strength so that as many are run as ours, as nearly as its
    rounding allows.
    """
    from diffusers import DDIMInverseScheduler, DDIMScheduler, StableDiffusionDiffEditPipeline

    pipe = StableDiffusionDiffEditPipeline.from_pretrained(
        folder,
        safety_checker=None,
        feature_extractor=None,
        low_cpu_mem_usage=False,
        torch_dtype=torch.float32,
        requires_safety_checker=False,
    )
    config = {**pipe.scheduler.config, "clip_sample": False, "set_alpha_to_one": True}
    pipe.scheduler, pipe.inverse_scheduler = (
        DDIMScheduler.from_config(config),
        DDIMInverseScheduler.from_config(config),
    )
    pipe.set_progress_bar_config(disable=True)
    steps = round(a.steps / a.strength)
    g = lambda: torch.Generator().manual_seed(SEED)

    def edit(t: Task):
        image = Image.fromarray(t.picture)
        mask = pipe.generate_mask(
            image,
            t.prompt,
            source_prompt=t.source,
            num_inference_steps=steps,
            guidance_scale=a.guidance,
            generator=g(),
        )
        latents = pipe.invert(
            "",
            image=image,
            num_inference_steps=steps,
            inpaint_strength=a.strength,
            guidance_scale=1.0,
            generator=g(),
        ).latents
        out = pipe(
            t.prompt,
            mask_image=mask,
            image_latents=latents,
            num_inference_steps=steps,
            inpaint_strength=a.strength,
            guidance_scale=a.guidance,
            generator=g(),
            output_type="np",
        ).images[0]
        side = SIDE // mask.shape[-1]
        return (out * 255).round().astype(np.uint8), np.kron(mask[0] > 0, np.ones((side, side), bool))

    return edit


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--model", default="emoji")
    p.add_argument(
        "--concepts",
        type=int,
        default=0,
        help="of a narrower world that the model was trained on (0: the judge's)",
    )
    p.add_argument("--scenes", type=int, default=40, help="of each kind of edit")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--guidance", type=float, default=7.5)
    p.add_argument("--strength", type=float, default=0.8)
    p.add_argument("--sheet", type=Path, help="write a sheet of the first pictures")
    p.add_argument("--quick", action="store_true", help="4 scenes, 6 steps")
    p.add_argument("--json", action="store_true")
    a = p.parse_args(argv)
    if a.quick:
        a.scenes, a.steps = 4, 6
    warnings.filterwarnings("ignore")
    common.ready(0)
    judge, pipe = load_judge(form=SCENES), unnoise.load(a.model, device="cpu", dtype="fp32")
    scenes = Scenes("emoji", "test", {"pair": 1.0}, a.concepts or len(judge.heads["noun"]))
    ways = {
        "diffedit": ours(pipe, a),
        "image-to-image": whole(pipe, a),
        "diffusers": theirs(hub.find(a.model), a),
    }
    rows, shown = [], []
    for kind in ("colour", "noun"):
        todo = tasks(scenes, kind, a.scenes)
        made = {name: row(name, kind, edit, todo, judge) for name, edit in ways.items()}
        rows += [r for r, _ in made.values()]
        for i in range(min(4, a.scenes)):
            mask = ours(pipe, a)(todo[i])[1]
            assert mask is not None
            picture = lambda x: Image.fromarray(np.asarray(x, np.uint8))
            shown.append(
                [
                    picture(todo[i].picture),
                    picture(mask * 255).convert("RGB"),
                    *(picture(v[i]) for _, v in made.values()),
                    picture(todo[i].wanted),
                ]
            )
    if a.sheet:
        names = ["source", "mask", *ways, "real target"]
        sheet(shown, names, [""] * len(shown), "one object of two changed", "", least=64).quantize(128).save(
            a.sheet, optimize=True
        )
    common.report(
        "edit_diffedit",
        rows,
        a.json,
        model=pipe.name,
        steps=a.steps,
        guidance=a.guidance,
        strength=a.strength,
    )


if __name__ == "__main__":
    main()
