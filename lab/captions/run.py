"""Can a model draw what its captions never said? One world, one network, one amount of computing; only what
the captions say differs.

    python lab/captions/run.py --out runs/captions [--quick] [--seeds 3] [--steps 600] [--json]

Needs the data (`unnoise data fetch emoji`) and the bundled models "emoji" (autoencoder and text encoder,
frozen) and "emoji-judge".

    plain     captions name the things and nothing else, as captions found beside pictures do ("an apple" for
              an apple upside down)
    grammar   captions say which way up, how many, how many fingers
    data      the remedy for orientation: grammar, and twice as many scenes of turned things
    loss      the remedy for fingers: grammar, errors weighed by 1 on x0, not SNR + 1: noisy levels, where
              layout is decided, count more
    counted   the remedy for counts: the grammar model, guided at every step by the judge's counting head

Each is asked for turned things, numbers of things and raised fingers; the judge says what it sees. Its own
share right on real pictures of the same scenes is the ceiling; guessing is the floor.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from unnoise import hub
from unnoise.data.draw import Draw
from unnoise.guide import cfg, guide
from unnoise.pipeline import Pipeline
from unnoise.process import noise
from unnoise.sample import SAMPLERS, last
from unnoise.train import fit
from unnoise.train.recipe import parse
from unnoise.worlds.emoji.exam import verdict
from unnoise.worlds.emoji.scenes import Scenes, caption
from unnoise.worlds.judge import SCENES, Judge, load

CONCEPTS, GUIDANCE, STEPS = 10, 3.0, 12
MIXTURE = {"objects": 0.7, "hand": 0.3}
FLOOR = {"orientation": 1 / 4, "count": 1 / 5, "fingers": 1 / 6}
ARMS = {
    "plain": {"captions": "plain"},
    "grammar": {},
    "data": {"turned": True},
    "loss": {"weight": "uniform"},
}


def recipe(arm: dict, seed: int, steps: int, cached: int) -> dict:
    """The recipe of one model."""
    data = {
        "name": "emoji-scenes",
        "concepts": CONCEPTS,
        "mixture": MIXTURE,
        "captions": arm.get("captions", "grammar"),
        "autoencoder": "emoji",
        "text": "emoji",
        "cached": cached,
    }
    if arm.get("turned"):
        data["mixture"] = {**MIXTURE, "turned": 0.7}
    net = {
        "kind": "unet",
        "block_out_channels": [64, 128],
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D"] * 2,
        "up_block_types": ["CrossAttnUpBlock2D"] * 2,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "attention_head_dim": [2, 4],
        "norm_num_groups": 32,
        "use_linear_projection": True,
    }
    return {
        "name": "captions",
        "seed": seed,
        "data": data,
        "net": net,
        "process": {"weight": arm.get("weight", "v")},
        "train": {"steps": steps, "batch": 64, "lr": 1e-3, "warmup": 50, "precision": "bf16"},
    }


def trained(arm: dict, seed: int, steps: int, cached: int) -> Pipeline:
    """The model after its training, with averaged weights."""
    run = fit.prepare(parse(recipe(arm, seed, steps, cached)))
    for s in fit.fit(run):
        if s.step % 100 == 0:
            print(f"  step {s.step} of {steps}, loss {s.loss:.4f}", file=sys.stderr)
    run.net.load_state_dict(run.ema[0].weights)
    run.net.eval().requires_grad_(False)
    src = run.source
    usual = {"sampler": "dpmpp_2m", "spacing": "trailing"}
    return Pipeline(
        hub.Folder(
            "captions", run.net, "unet", src.codec, None, run.recipe.process, usual, "", None, src.text
        )
    )


def asked(n: int) -> list[tuple[str, object]]:
    """n prompts with what they ask for: a third each turned things, numbers of things, and fingers. Of
    combinations seen in training.
    """
    scenes = Scenes("emoji", "test", {"objects": 0.7, "hand": 0.3}, CONCEPTS)
    found: dict[str, list] = {"orientation": [], "count": [], "fingers": []}
    i = 0
    while min(map(len, found.values())) < n // 3:
        a = scenes.attributes(0, i)
        kind = (
            "fingers"
            if a.kind == "hand"
            else (
                "count"
                if a.count > 1
                else "orientation"
                if a.orientation in ("on its side", "upside down")
                else ""
            )
        )
        if kind and len(found[kind]) < n // 3:
            a = replace(a, background="white", size="medium", colours=("",))
            if kind == "count":
                a = replace(a, orientation="upright")
            found[kind].append((caption(a, Draw(0, i, 77)), a))
        i += 1
    return [pair for pairs in found.values() for pair in pairs]


def draw(
    pipe: Pipeline, prompts: list[str], seed: int, judge: Judge | None = None, counts: list[int] | None = None
) -> np.ndarray:
    """Pictures of prompts; with a judge and counts, guided at every step by its counting head."""
    out = []
    for start in range(0, len(prompts), 50):
        some, n = prompts[start : start + 50], len(prompts[start : start + 50])
        denoise = cfg(*(pipe.denoiser(ps, net=pipe.net) for ps in (some, [""] * n)), GUIDANCE)
        if judge is not None and counts is not None:
            denoise = guide(
                denoise,
                _miscounts(pipe, judge, torch.tensor(counts[start : start + 50])),
                weight=1.0,
                through=False,
            )
        path = pipe.schedule.path(STEPS, "trailing")
        x = noise.seeded(range(seed + start, seed + start + n), "init")(
            torch.zeros(pipe.codec.shape(n))
        ) * float(path[0].sigma)
        out.append(pipe.codec.decode(last(SAMPLERS["ddim"](denoise, x, path))))
    return np.concatenate(out)


def _miscounts(pipe: Pipeline, judge: Judge, counts: torch.Tensor):
    """- log p(count | decoded estimate) of the judge, one a sample."""

    def loss(z: torch.Tensor) -> torch.Tensor:
        x = pipe.codec.net.decode(pipe.codec.unscale(z)).clamp(-1.2, 1.2)
        return torch.nn.functional.cross_entropy(judge.net(x)["count"], counts - 1, reduction="none")

    return loss


def shares(images: np.ndarray, pairs: list, judge: Judge) -> dict[str, float]:
    """The share right of each question."""
    seen, right = judge.look(images), {k: [] for k in FLOOR}
    for i, (_, a) in enumerate(pairs):
        told = {k: int(v[i].argmax()) for k, v in seen.answers.items()}
        v = verdict(a, told, lambda head, answer: 0.0, judge.heads)
        for k in right:
            if k in v:
                right[k].append(v[k])
    return {k: float(np.mean(v)) for k, v in right.items()}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path)
    p.add_argument("--quick", action="store_true", help="one seed, a few steps: does it run?")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument(
        "--first",
        type=int,
        default=0,
        help="the first seed; what --out holds is not made again, so that processes may share the work out",
    )
    p.add_argument("--arms", default=",".join(ARMS))
    p.add_argument("--steps", type=int, default=600)
    p.add_argument("--prompts", type=int, default=180)
    p.add_argument("--cached", type=int, default=20_480)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if wrong := [arm for arm in a.arms.split(",") if arm not in ARMS]:
        p.error(f"unknown arm {wrong[0]!r} (accepted: {', '.join(ARMS)})")
    if a.quick:
        a.seeds, a.steps, a.prompts, a.cached = 1, 8, 12, 512
    began, judge, pairs = time.perf_counter(), load(form=SCENES), asked(a.prompts)
    scenes = Scenes("emoji", "test", {"objects": 0.7, "hand": 0.3}, CONCEPTS)
    ceiling = shares(np.stack([scenes.render(s) for _, s in pairs]), pairs, judge)
    prompts, counts = [q for q, _ in pairs], [s.count for _, s in pairs]
    results: dict[str, list[dict]] = {}
    for seed in range(a.first, a.first + a.seeds):
        for name, arm in ((k, ARMS[k]) for k in a.arms.split(",")):
            done = a.out / f"{name}-{seed}.json" if a.out else None
            if not done or not done.exists():
                print(f"seed {seed}, {name}", file=sys.stderr)
                pipe = trained(arm, seed, a.steps, a.cached)
                found = {name: draw(pipe, prompts, 1000 * seed)}
                if name == "grammar":
                    found["counted"] = draw(pipe, prompts, 1000 * seed, judge, counts)
                told = {k: shares(images, pairs, judge) for k, images in found.items()}
                if a.out:
                    for k, images in found.items():
                        _keep(a.out / f"{k}-{seed}.png", images, len(pairs))
                    (a.out / f"{name}-{seed}.json").write_text(json.dumps(told))
            else:
                told = json.loads(done.read_text())
            for k, v in told.items():
                results.setdefault(k, []).append(v)
    report = {
        "ceiling": ceiling,
        "floor": FLOOR,
        "seconds": round(time.perf_counter() - began, 1),
        "prompts": len(pairs),
        "steps": a.steps,
        "seeds": a.seeds,
        "results": {
            k: {
                q: {"mean": float(np.mean([s[q] for s in v])), "each": [round(s[q], 3) for s in v]}
                for q in FLOOR
            }
            for k, v in results.items()
        },
    }
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
        (a.out / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report) if a.json else table(report))


def _keep(path: Path, images: np.ndarray, n: int) -> None:
    from PIL import Image

    from unnoise.base.sheet import tile

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tile(images[:: max(n // 48, 1)][:48], 12)).save(path)


def table(r: dict) -> str:
    """Markdown."""
    rows = ["| % right | " + " | ".join(FLOOR) + " |", "|---|" + "---|" * len(FLOOR)]
    cell = lambda v: f"{100 * v['mean']:.0f} ({', '.join(f'{100 * e:.0f}' for e in v['each'])})"
    rows += [
        f"| {name} | " + " | ".join(cell(v[q]) for q in FLOOR) + " |" for name, v in r["results"].items()
    ]
    rows += [
        f"| {name} | " + " | ".join(f"{100 * r[name][q]:.0f}" for q in FLOOR) + " |"
        for name in ("ceiling", "floor")
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
