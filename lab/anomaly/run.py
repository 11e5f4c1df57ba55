"""Does a denoiser notice a class that it never saw? Fashion-MNIST with one class left out, noised part-way
and restored.

    python lab/anomaly/run.py [--out runs/anomaly] [--leave 3] [--steps 800] [--images 500] [--noises 4]
    [--quick] [--json]

Needs `unnoise data fetch fashion-mnist`. For each of the first --leave classes of LEFT a small network is
trained on the other nine (the recipe recipes/fashion-normal.toml, --steps steps); --images test pictures of
the nine and as many of the one that was left out are noised to each level u of STRENGTHS, restored in one
call, and scored by the mean squared difference, and by it relative to the picture's detail (`edit.anomaly`).
AUROC: the chance that a picture of the unseen class scores higher. plain: the baseline without any network,
the squared distance to the mean of the training pictures. The best level is read off the very pictures that
are scored, so its AUROC is a little flattered; the column u = 0.7 is the command's default and is not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from unnoise import pipeline
from unnoise.data import Data
from unnoise.data import load as load_data
from unnoise.edit.anomaly import STRENGTH, anomaly, auroc, detail, scores
from unnoise.train import recipe as recipes
from unnoise.train.run import train

RECIPE = Path(__file__).parents[2] / "recipes" / "fashion-normal.toml"
LEFT = ("a bag", "a sandal", "an ankle boot", "a pair of trousers")
STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def model(word: str, steps: int, seed: int, out: Path) -> pipeline.Pipeline:
    """The network that never saw `word`, trained or gone on with."""
    r = recipes.load(RECIPE, steps)
    r = r.model_copy(
        update={
            "name": f"fashion-without-{word.split()[-1]}",
            "seed": seed,
            "data": r.data.model_copy(update={"without": (word,)}),
        }
    )
    folder = out / f"{r.name}-{steps}"
    if not (folder / "model").exists():
        train(r, folder, resume=True)
    return pipeline.load(folder / "model")


def chosen(test: Data, word: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n test pictures of the other classes and n of `word`."""
    assert test.labels is not None
    k, rng = test.words.index(word), np.random.default_rng(0)
    return tuple(test.x[rng.permutation(np.flatnonzero(m))[:n]] for m in (test.labels != k, test.labels == k))  # type: ignore[return-value]


def swept(
    pipe: pipeline.Pipeline, normal: Tensor, other: Tensor, noises: int
) -> dict[str, dict[float, float]]:
    """{"score" | "relative": {u: AUROC}}."""
    model = pipe.process.denoiser(pipe.fast)  # it knows no classes
    found = {u: [scores(model, x, pipe.schedule, u, noises) for x in (normal, other)] for u in STRENGTHS}
    return {
        "score": {u: auroc(*v) for u, v in found.items()},
        "relative": {
            u: auroc(*(s / detail(x) for s, x in zip(v, (normal, other)))) for u, v in found.items()
        },
    }


def baseline(pipe: pipeline.Pipeline, word: str, normal: Tensor, other: Tensor) -> float:
    data = load_data("fashion-mnist", "train")
    assert data.labels is not None
    mean = pipe.codec.encode(data.x[data.labels != data.words.index(word)][:10_000]).mean(0)  # type: ignore[arg-type]
    return auroc(*((x - mean).square().flatten(1).mean(1) for x in (normal, other)))


def picture(
    pipes: dict[str, pipeline.Pipeline], test: Data, sweeps: dict[str, dict[float, float]], file: Path
) -> None:
    """A normal and an unseen picture of each network with what came back and the heat map; the sweep beside
    them.
    """
    im = Image.new("RGB", (3 * 2 * 66 + 330, max(70 * len(pipes) + 20, 230)), "white")
    draw = ImageDraw.Draw(im)
    for j, (word, pipe) in enumerate(pipes.items()):
        pairs = chosen(test, word, 1)
        found = [anomaly(pipe, p[0]) for p in pairs]
        top = max(float(f.map.max()) for f in found)
        draw.text((4, 70 * j), f"without {word}", fill="black")
        for i, (p, f) in enumerate(zip(pairs, found)):
            for k, a in enumerate((p[0].repeat(3, 2), f.restored, f.heat(top))):
                im.paste(
                    Image.fromarray(a).resize((56, 56), Image.Resampling.NEAREST),
                    (4 + 198 * i + 62 * k, 70 * j + 12),
                )
    plot(draw, (3 * 2 * 66 + 40, 20, 3 * 2 * 66 + 310, 190), sweeps)
    im.save(file, optimize=True)


def plot(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], sweeps: dict[str, dict[float, float]]
) -> None:
    """AUROC from .4 to 1 over u."""
    x0, y0, x1, y1 = box
    at = lambda u, v: (x0 + u * (x1 - x0), y1 - (v - 0.4) / 0.6 * (y1 - y0))
    for v in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        draw.line([at(0, v), at(1, v)], fill=(225, 225, 225))
        draw.text((x0 - 24, at(0, v)[1] - 5), f"{v:.1f}", fill="black")
    for k, (word, sweep) in enumerate(sweeps.items()):
        colour = ((0, 94, 162), (196, 78, 0), (0, 130, 60), (130, 0, 130))[k]
        draw.line([at(u, max(v, 0.4)) for u, v in sweep.items()], fill=colour, width=2)
        draw.text((x0, y1 + 4 + 11 * k), f"{word} left out", fill=colour)
    draw.text((x1 - 90, y1 + 4), "noise level u ->", fill="black")
    draw.text((x0 - 24, y0 - 16), f"AUROC of the relative score (default u = {STRENGTH})", fill="black")


def table(rows: list[dict]) -> str:
    columns = ["left out", "by", "plain", *(f"u = {u}" for u in STRENGTHS), "best"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    line = lambda name, by, v, best: "| " + " | ".join([name, by, *v, best]) + " |"
    lines += [
        line(
            r["left out"],
            r["by"],
            [f"{v:.3f}" for v in (r["plain"], *r["sweep"].values())],
            f"u = {r['best']}",
        )
        for r in rows
    ]
    for by in ("score", "relative"):
        all_ = np.array([[r["plain"], *r["sweep"].values()] for r in rows if r["by"] == by])
        lines.append(
            line(
                "mean ± deviation", by, [f"{m:.3f} ± {s:.3f}" for m, s in zip(all_.mean(0), all_.std(0))], ""
            )
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--out", type=Path, default=Path("runs/anomaly"))
    p.add_argument("--leave", type=int, default=3, choices=range(1, 5))
    p.add_argument("--steps", type=int, default=800)
    p.add_argument("--images", type=int, default=500)
    p.add_argument("--noises", type=int, default=4)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--quick", action="store_true", help="does it run?")
    p.add_argument("--json", action="store_true")
    a = p.parse_args(argv)
    if a.quick:
        a.leave, a.steps, a.images, a.noises = 1, 3, 8, 1
    began, test = time.perf_counter(), load_data("fashion-mnist", "test")
    a.out.mkdir(parents=True, exist_ok=True)
    pipes, rows = {}, []
    for word in LEFT[: a.leave]:
        pipes[word] = pipe = model(word, a.steps, a.seed, a.out)
        normal, other = (pipe.codec.encode(v) for v in chosen(test, word, a.images))
        sweep = swept(pipe, normal, other, a.noises)
        plain = baseline(pipe, word, normal, other)
        rows += [
            {"left out": word, "by": by, "plain": plain, "sweep": v, "best": max(v, key=v.__getitem__)}
            for by, v in sweep.items()
        ]
        print(f"{word}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    picture(
        pipes, test, {r["left out"]: r["sweep"] for r in rows if r["by"] == "relative"}, a.out / "anomaly.png"
    )
    done = {
        "lab": "anomaly",
        "steps": a.steps,
        "images": a.images,
        "noises": a.noises,
        "seconds": round(time.perf_counter() - began, 1),
        "rows": rows,
    }
    print(json.dumps(done) if a.json else table(rows))
    return 0


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
