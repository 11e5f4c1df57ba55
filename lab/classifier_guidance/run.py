"""Must the classifier that guides know the noise? One network, trained on noisy and on clean pictures, guides
one and the same denoiser.

    python lab/classifier_guidance/run.py [--out runs/classifier_guidance] [--seeds 3] [--steps 200] [--images
    40] [--quick] [--json]

    E[x0 | x, y] = E[x0 | x] + gamma (sigma^2 / alpha) grad_x log p(y | x)

Needs `unnoise data fetch mnist fashion-mnist`. The denoiser is the bundled "digits", asked for nothing (20
classes: 10 digits, 10 garments); the judge is the bundled "digits-judge", which neither classifier has met.

    noisy      recipes/digits-noisy-classifier.toml: sees samples at every level of the process, and the level
    clean      the same recipe without the level: sees clean pictures

Before that, where everything is exact, the whole family gamma grad log p(y | x) + grad log p(x) on a mixture
of two Gaussians on a line: gamma 0, 1, 2, 4.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import tomllib
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unnoise import pipeline, show
from unnoise.base import write
from unnoise.data import load
from unnoise.denoiser import Denoiser, Mixture
from unnoise.evaluate import metrics
from unnoise.guide import classifier, interval
from unnoise.process import noise
from unnoise.process.level import Level, clean, corrupt, ve
from unnoise.sample import SAMPLERS, last
from unnoise.sample.mcmc import mala
from unnoise.train import fit, objective
from unnoise.train.recipe import parse
from unnoise.worlds import judge

ROOT = Path(__file__).parents[2]
GAMMAS, SCALES = (0.0, 1.0, 2.0, 4.0), (1.0, 4.0)
WORLD, WANTED = Mixture([-1.5, 1.5], 0.8, weights=[0.6, 0.4]), 1
LEVELS = tuple((i + 0.5) / 8 for i in range(8))
LogClasses = Callable[[Tensor, Level], Tensor]


# --- the family, exactly ------------------------------------------------------------------------------------


def log_tilted(x: Tensor, gamma: float) -> Tensor:
    """log p(x) + gamma log p(y | x) of clean x, (n,): what the formula seems to promise samples of, not
    normalised.
    """
    return WORLD.logp(x, clean()) + gamma * WORLD.log_classes(x, clean())[:, WANTED]


def guided(gamma: float) -> Denoiser:
    """The exact denoiser, guided by the exact classifier."""
    return classifier(WORLD, lambda x, l: WORLD.log_classes(x, l)[:, WANTED], gamma)


def flow(x: Tensor, gamma: float, steps: int) -> Tensor:
    """x, normal of deviation 1, taken down the guided probability flow from sigma = 100."""
    path = [*(ve(s) for s in torch.logspace(2, -2.5, steps, dtype=torch.float64)), clean()]
    return last(SAMPLERS["heun"](guided(gamma), 100 * x, path))


def family(gamma: float, seeds: int, n: int) -> dict:
    """Mean and deviation of what gamma gives: tilted and flow by quadrature, and both sampled, one pair a
    seed.
    """
    grid = torch.linspace(-12, 12, 20001, dtype=torch.float64)[:, None]
    w = log_tilted(grid, gamma).softmax(0)
    mean = float(w @ grid[:, 0])
    quantiles = torch.special.ndtri((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)[:, None]
    pair = lambda x: (float(x.mean()), float(x.std()))
    sampled = {"mala": [], "flow": []}
    for seed in range(seeds):
        x = flow(noise.draw(seed, "family", 0, (n, 1)), gamma, 40)
        sampled["flow"].append(pair(x))
        rng = torch.Generator().manual_seed(seed)
        chain = mala(
            lambda x: log_tilted(x, gamma),
            x,
            100,
            0.5,
            lambda x, rng=rng: torch.randn(x.shape, generator=rng, dtype=x.dtype),
        )
        sampled["mala"].append(pair(deque(chain, maxlen=1)[0].x))
    return {
        "tilted": (mean, math.sqrt(float(w @ (grid[:, 0] - mean) ** 2))),
        "flow": pair(flow(quantiles, gamma, 120)),
        "sampled": sampled,
    }


# --- pictures -----------------------------------------------------------------------------------------------


def trained(noisy: bool, seed: int, steps: int) -> LogClasses:
    """(x, level) -> log p(class | x) of the recipe's classifier; a clean one takes x as it comes and is told
    nothing.
    """
    d = tomllib.loads((ROOT / "recipes" / "digits-noisy-classifier.toml").read_text(encoding="utf-8"))
    d["seed"], d["net"]["time"] = seed, noisy
    d["train"] |= {"steps": steps, "batch": 64, "warmup": min(50, steps // 2), "precision": "bf16"}
    run = fit.prepare(parse(d))
    for s in fit.fit(run):
        if s.step % 100 == 0:
            print(f"  step {s.step} of {steps}, loss {s.loss:.3f}", file=sys.stderr)
    run.net.load_state_dict(run.ema[0].weights)
    run.net.eval().requires_grad_(False)
    if noisy:
        return objective.resolve(run.recipe.process).classes(run.net)
    return lambda x, l: run.net(x).log_softmax(1)


def wanted(log_classes: LogClasses, y: Tensor) -> LogClasses:
    """log p(y_i | x_i), (n,)."""
    return lambda x, l: log_classes(x, l).gather(1, y[:, None])[:, 0]


@torch.no_grad()
def by_level(
    log_classes: LogClasses, pipe: pipeline.Pipeline, real: np.ndarray, labels: np.ndarray
) -> list[float]:
    """Accuracy on noisy test pictures at LEVELS of the schedule."""
    x0, y, out = pipe.codec.encode(real), torch.from_numpy(labels), []
    for u in LEVELS:
        l = pipe.schedule.level(u)
        x = corrupt(x0, noise.seeded(range(len(x0)), f"by_level/{u}")(x0), l)
        out.append(float((log_classes(x, l).argmax(1) == y).double().mean()))
    return out


def draw(pipe: pipeline.Pipeline, denoise: Denoiser, n: int, seed: int, calls: int) -> np.ndarray:
    """n pictures, uint8: DDIM, `calls` steps, picture i from the same noise whatever guides it."""
    x = noise.seeded(range(1000 * seed, 1000 * seed + n), "init")(torch.zeros(pipe.codec.shape(n)))
    return pipe.decode(last(SAMPLERS["ddim"](denoise, x, pipe.schedule.path(calls))))


def arms(
    pipe: pipeline.Pipeline, noisy: LogClasses, blind: LogClasses, y: Tensor, scales: tuple[float, ...]
) -> dict[str, Denoiser]:
    """The denoiser guided in every way, by name."""
    plain = pipe.denoiser([""] * len(y))
    given = {"noisy": wanted(noisy, y), "clean": wanted(blind, y)}
    out: dict[str, Denoiser] = {"unguided": plain}
    # Not where sigma / alpha > 10: an exact gradient is as small there as sigma^2 / alpha is large, a learned
    # one is not.
    for name, log_prob in given.items():
        out |= {
            f"{name} {s:g}": classifier(plain, log_prob, interval(s, 0.0, 10.0, outside=0.0)) for s in scales
        }
    return out


def pictures(
    seeds: int, steps: int, n: int, calls: int, scales: tuple[float, ...], real_n: int
) -> tuple[dict, dict[str, np.ndarray]]:
    """The report on all arms, and the pictures of the first seed."""
    pipe, see = pipeline.load("digits", device="cpu"), judge.load()
    test = load("mnist+fashion", "test")
    assert test.labels is not None
    chosen = np.concatenate([np.flatnonzero(test.labels == k)[: real_n // 20] for k in range(20)])
    real, labels = test.x[chosen], test.labels[chosen]
    features = see.look(real).features
    y = torch.arange(n) % 20
    found: dict[str, list] = {}
    shown, accuracy = {}, {"noisy": [], "clean": []}
    for seed in range(seeds):
        nets = {}
        for name in accuracy:
            print(f"seed {seed}, {name} classifier", file=sys.stderr)
            nets[name] = trained(name == "noisy", seed, steps)
            accuracy[name].append(
                by_level(
                    nets[name], pipe, real[:: max(len(real) // 400, 1)], labels[:: max(len(real) // 400, 1)]
                )
            )
        for name, denoise in arms(pipe, nets["noisy"], nets["clean"], y, scales).items():
            images = draw(pipe, denoise, n, seed, calls)
            found.setdefault(name, []).append(see.look(images))
            print(f"  {name}: {(found[name][-1].said() == y.numpy()).mean():.0%} as wanted", file=sys.stderr)
            if seed == 0:
                shown[name] = images
    floor = metrics.floor(features, min(n * seeds, len(features) // 2))
    return {
        "accuracy": accuracy,
        "floor": floor,
        "n": n,
        "arms": {k: scored(v, y.numpy(), features, labels) for k, v in found.items()},
    }, shown


def scored(seen: list[judge.Seen], y: np.ndarray, features: np.ndarray, labels: np.ndarray) -> dict:
    """Share of the wanted class and KID, one a seed; FD over all seeds. What is guided has as many of each
    class as the real ones have.
    """
    right = [float((s.said() == y).mean()) for s in seen]
    return {
        "right": right,
        "kid": [metrics.kid(features, s.features, labels, y)[0] for s in seen],
        "fd": metrics.fid(features, np.concatenate([s.features for s in seen])),
    }


# --- the command --------------------------------------------------------------------------------------------


def table(r: dict) -> str:
    """Markdown: the family, what the classifiers read, what they make."""
    both = lambda v: f"{v[0]:.3f} / {v[1]:.3f}"
    out = [
        (
            "| gamma: mean / deviation | p(x) p(y\\|x)^gamma, exact | by MALA | flow, exact | by Heun, 40"
            " steps |"
        ),
        "|---|---|---|---|---|",
    ]
    for k, v in r["family"].items():
        means = {name: [(np.mean(c), np.std(c)) for c in zip(*pairs)] for name, pairs in v["sampled"].items()}
        cell = lambda name, m=means: " / ".join(f"{a:.3f} ± {b:.3f}" for a, b in m[name])
        out.append(f"| {k} | {both(v['tilted'])} | {cell('mala')} | {both(v['flow'])} | {cell('flow')} |")
    if "arms" not in r:
        return "\n".join(out)
    spread = lambda v, f: f"{np.mean(v):{f}} ± {np.std(v):{f}}"
    out += [
        "",
        "| classifier: % right at noise u = | " + " | ".join(f"{u:.2f}" for u in LEVELS) + " |",
        "|---|" + "---|" * len(LEVELS),
    ]
    for k, v in r["accuracy"].items():
        out.append(f"| {k} | " + " | ".join(spread(100 * np.array(c), ".0f") for c in zip(*v)) + " |")
    out += [
        "",
        f"| guided by, scale | wanted class, % | KID | FD of all seeds (floor {r['floor']:.1f}) |",
        "|---|---|---|---|",
    ]
    for k, v in r["arms"].items():
        out.append(
            f"| {k} | {spread(100 * np.array(v['right']), '.0f')} | {spread(v['kid'], '.2f')} |"
            f" {v['fd']:.1f} |"
        )
    return "\n".join(out)


def plotted(shown: dict[str, np.ndarray]):
    """One row an arm: a picture of each class."""
    names = [k for k in ("unguided", "noisy 1", "noisy 4", "clean 1", "clean 4") if k in shown]
    rows = [[pipeline.picture(image) for image in shown[k][:20]] for k in names]
    columns = [str(i % 10) if i < 10 else "" for i in range(len(rows[0]))]
    return show.sheet(rows, columns, names, "asked for 0 ... 9, then the ten garments", least=28)


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--out", type=Path)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--steps", type=int, default=200, help="training steps of a classifier")
    p.add_argument("--images", type=int, default=40, help="pictures an arm and seed, of 20 classes in turn")
    p.add_argument("--quick", action="store_true", help="one seed, a few steps: does it run?")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if a.seeds < 1 or a.steps < 2 or a.images < 40:
        p.error("--seeds, --steps and --images must be at least 1, 2 and 40 (KID needs two of each class)")
    torch.set_num_threads(1)
    scales, calls, real_n = SCALES, 8, 2000
    if a.quick:
        a.seeds, a.steps, a.images, scales, calls, real_n = 1, 8, 40, (1.0,), 2, 200
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    report: dict = {"family": {f"{g:g}": family(g, a.seeds, 500 if a.quick else 2000) for g in GAMMAS}}
    more, shown = pictures(a.seeds, a.steps, a.images, calls, scales, real_n)
    report |= {"seeds": a.seeds, "steps": a.steps, **more, "seconds": round(time.perf_counter() - began, 1)}
    if a.out:
        show.write_picture(plotted(shown), a.out / "shown.png")
        write.put(a.out / "report.json", json.dumps(report, indent=1).encode())
    print(json.dumps(report) if a.json else table(report))


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
