"""Is a sampler an optimiser? Momentum, Adam, heavy ball and extrapolated gradients in the place of Euler's,
step-size schedules in that of noise schedules.

    python lab/optimisers/run.py [--out runs/optimisers] [--seeds 3] [--starts 256] [--images 60] [--quick]
    [--json]

With alpha = 1 and eps = (x - E[x0 | x]) / sigma, Euler's step x - (sigma_a - sigma_b) eps = x - (1 - sigma_b
/ sigma_a) (x - E[x0 | x]) is gradient descent on half the squared distance to the data, at the learning rate
1 - sigma_b / sigma_a. The rules of `sample.optimise` move along a memory of eps; a spacing is a schedule of
learning rates. All are compared at equal calls of the denoiser:

    mixtures  where E[x0 | x] is exact, and where a fixed field of `ROUGH` is added to eps (a stand-in for a
              network's error): the median distance of a sample to the end of its exact flow (a mean would be
              owed to the few that end in another component), and the sliced Wasserstein-2 distance of all to
              all those ends, which are samples of the data
    mnist     by the bundled model "digits": FID and KID of the features of "digits-judge", and the distance
              to the model's own 50-call solution; needs `unnoise data fetch mnist`
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unnoise import data, pipeline, show
from unnoise.data.transforms import permutation
from unnoise.denoiser import Denoiser, Mixture
from unnoise.evaluate import metrics
from unnoise.process import noise, schedule
from unnoise.process.level import Level
from unnoise.sample import SAMPLERS, last
from unnoise.worlds import judge

CURVE = schedule.edm(sigma_min=0.02, sigma_max=80.0)
CALLS = (5, 10, 20, 50)
SPACINGS = ("karras", "trailing", "logsnr", "beta", "few")
GAMMAS = (1.25, 1.5, 1.75, 2.0, 2.5)
ROUGH, D, K = 0.1, 8, 10
METHODS: dict[str, tuple[str, dict]] = {
    "euler": ("euler", {}),
    "momentum": ("momentum", {}),
    "adam": ("adam", {}),
    "heavy ball (GHVB 1.8)": ("ghvb", {}),
    **{f"gradient estimation {g:g}": ("gradient_estimation", {"gamma": g}) for g in GAMMAS},
    "dpmpp_2m": ("dpmpp_2m", {}),
}
IMAGES = tuple(k for k in METHODS if not k.endswith(("1.25", "1.75")))
LONG = (
    "euler",
    "gradient estimation 1.5",
    "gradient estimation 2",
    "dpmpp_2m",
)  # what is drawn with 50 calls
BEST = (  # with the most calls: the model's own solution, from which its pictures' distance is measured
    "dpmpp_2m"
)


def mixture(seed: int) -> Mixture:
    """K round components in D dimensions, of standard deviations .1 to .3 and unequal weights, near unit
    scale.
    """
    u = noise.uniform(seed, "lab/optimisers", 0, (2, K))
    return Mixture(noise.draw(seed, "lab/optimisers", 1, (K, D)), 0.1 + 0.2 * u[0], 0.5 + u[1])


def rough(denoise: Denoiser, seed: int, size: float) -> Denoiser:
    """`denoise` with a fixed smooth field of root mean square `size` added to eps: E[x0 | x] less sigma /
    alpha times it.
    """
    w, b = noise.draw(seed, "lab/rough", 0, (D, D)), 2 * math.pi * noise.uniform(seed, "lab/rough", 1, (D,))

    def wrong(x: Tensor, l: Level) -> Tensor:
        own = l.like(x)
        field = (x / (own.alpha**2 + own.sigma**2).sqrt() @ w + own.ratio.log() + b).sin() * size * 2**0.5
        return denoise(x, l) - own.ratio * field

    return wrong


def drawn(method: str, denoise: Denoiser, x: Tensor, path: schedule.Path) -> Tensor:
    name, options = METHODS[method]
    return last(SAMPLERS[name](denoise, x, path, **options))


def exact(m: Mixture, x: Tensor, steps: int = 1000) -> Tensor:
    """The end of the exact flow from x: far below the last level of CURVE, from which a step to 0 would be
    seen at 50 calls.
    """
    return last(
        SAMPLERS["dpmpp_3m"](m, x, schedule.edm(sigma_min=1e-4, sigma_max=80.0).path(steps, "logsnr"))
    )


def sliced(a: Tensor, b: Tensor, directions: int = 128) -> float:
    """The sliced Wasserstein-2 distance of two sets of points of one size (n, d)."""
    v = noise.draw(0, "lab/directions", 0, (a.shape[1], directions))
    return float(
        ((a @ (v := v / v.norm(dim=0))).sort(0).values - (b @ v).sort(0).values).square().mean().sqrt()
    )


def on_mixtures(seed: int, starts: int) -> dict:
    """{"exact" or "rough": {method: {spacing: {calls: (median distance / sqrt(D), sw2)}}}, "floor": sw2 of
    the ends to as many fresh samples}.
    """
    m = mixture(seed)
    x = noise.seeded(range(starts), f"lab/{seed}")(torch.zeros(starts, D, dtype=torch.float64)) * float(
        CURVE.sigmas[-1]
    )
    end = exact(m, x)
    measure = lambda y: (float((y - end).square().mean(1).sqrt().median()), sliced(y, end))
    run = lambda d: {
        k: {s: {str(n): measure(drawn(k, d, x, CURVE.path(n, s))) for n in CALLS} for s in SPACINGS}
        for k in METHODS
    }
    return {
        "exact": run(m),
        "rough": run(rough(m, seed, ROUGH)),
        "floor": sliced(end, m.sample(starts, seed)),
    }


@torch.no_grad()
def on_images(seed: int, count: int, calls: tuple[int, ...]) -> dict:
    """{"methods": {method: {calls: {"kid", "fid", "rms"}}}}; one spacing, the same starts for all."""
    pipe, eye = pipeline.load("digits", device="cpu"), judge.load()
    labels = np.arange(count) % 10
    denoise = pipe.denoiser([pipe.words.words[i] for i in labels])
    x = noise.seeded(range(1000 * seed, 1000 * seed + count), "init")(
        torch.zeros(pipe.codec.shape(count))
    ) * float(CURVE.sigmas[-1])
    seen = eye.look(data.load("mnist", "test").x[:2000]).features
    near = lambda images, classes: _near(eye.look(images).features, classes, seen)
    ends: dict[tuple[str, int], Tensor] = {}
    for k in IMAGES:
        for n in calls:
            if n == max(CALLS) and k not in LONG:
                continue
            ends[k, n] = drawn(k, denoise, x, CURVE.path(n, "few"))
            print(f"  seed {seed}, {k}, {n} calls", file=sys.stderr)
    best, out = ends[BEST, max(calls)], {}
    for (k, n), y in ends.items():
        out.setdefault(k, {})[str(n)] = {
            **near(pipe.codec.decode(y), labels),
            "rms": float((y - best).square().mean().sqrt()),
        }
    return {"methods": out}


def floor(seed: int, count: int) -> dict[str, float]:
    """The same of as many real images of the same classes."""
    other, eye, real = data.load("mnist", "train"), judge.load(), data.load("mnist", "test").x[:2000]
    assert other.labels is not None
    order, labels = permutation(len(other.x), seed, 0), np.arange(count) % 10
    some = np.empty(count, dtype=np.int64)
    for c in range(10):
        some[labels == c] = order[other.labels[order] == c][: (labels == c).sum()]
    return _near(eye.look(other.x[some]).features, labels, eye.look(real).features)


def _near(features: np.ndarray, classes: np.ndarray, real: np.ndarray) -> dict[str, float]:
    kid, _ = metrics.kid(features, real, classes)
    return {"fid": metrics.fid(features, real), "kid": kid}


def kept(folder: Path | None, name: str, make: Callable[[], dict]) -> dict:
    """What `make` gives, from folder/name.json where it lies there, and put there otherwise."""
    file = folder / f"{name}.json" if folder else None
    if file and file.exists():
        return json.loads(file.read_text())
    found = make()
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found))
    return json.loads(json.dumps(found))


# --- telling ------------------------------------------------------------------------------------------------


def spread(values: list[float], scale: float = 1.0) -> str:
    """Mean and, in brackets, the least and the greatest."""
    v = [scale * x for x in values]
    return f"{np.mean(v):.3g} ({min(v):.3g}, {max(v):.3g})"


def tables(runs: list[dict], calls: tuple[int, ...]) -> str:
    head = lambda first: [
        f"| {first} | " + " | ".join(f"{n} calls" for n in calls) + " |",
        "|---|" + "---|" * len(calls),
    ]
    out = []
    for kind in ("exact", "rough"):
        for i, what in enumerate(("median distance to the exact flow", "SW2 to the exact flow's ends")):
            at = lambda k, s, n, kind=kind, i=i: [r["mixtures"][kind][k][s][str(n)][i] for r in runs]
            floor = (
                f"; of two samples of the data: {spread([r['mixtures']['floor'] for r in runs])}" if i else ""
            )
            out += ["", f"Mixtures, {kind} denoiser, {what}, spacing `few`{floor}:", "", *head("method")]
            out += [f"| {k} | " + " | ".join(spread(at(k, "few", n)) for n in calls) + " |" for k in METHODS]
    out += [
        "",
        (
            "Mixtures, exact denoiser: median distance by schedule of learning rates, euler / gradient"
            " estimation 1.5:"
        ),
        "",
        *head("spacing"),
    ]
    at = lambda k, s, n: float(np.mean([r["mixtures"]["exact"][k][s][str(n)][0] for r in runs]))
    out += [
        f"| {s} | "
        + " | ".join(f"{at('euler', s, n):.3g} / {at('gradient estimation 1.5', s, n):.3g}" for n in calls)
        + " |"
        for s in SPACINGS
    ]
    out += [
        "",
        "The gamma of least error, seed by seed (mixtures: median distance, `few`):",
        "",
        *head("denoiser"),
    ]
    for kind in ("exact", "rough"):
        out.append(
            f"| {kind} | "
            + " | ".join(", ".join(best_gamma(r["mixtures"][kind], n) for r in runs) for n in calls)
            + " |"
        )
    if "images" in runs[0]:
        out += _image_tables(runs, calls, head)
    return "\n".join(out[1:])


def best_gamma(found: dict, calls: int) -> str:
    by = {1.0: found["euler"], **{g: found[f"gradient estimation {g:g}"] for g in GAMMAS}}
    return f"{min(by, key=lambda g: by[g]['few'][str(calls)][0]):g}"


def _image_tables(runs: list[dict], calls: tuple[int, ...], head: Callable[[str], list[str]]) -> list[str]:
    out, dash = [], lambda k, n: any(str(n) not in r["images"]["methods"][k] for r in runs)
    for q, what in (
        ("kid", "KID x 1000"),
        ("fid", "FID"),
        ("rms", f"RMS distance to {BEST} with {calls[-1]} calls"),
    ):
        scale = 1000 if q == "kid" else 1
        floor = (
            ""
            if q == "rms"
            else f"; as many real images: {spread([r['images']['floor'][q] for r in runs], scale)}"
        )
        out += ["", f"MNIST by `digits`, {what}, spacing `few`{floor}:", "", *head("method")]
        cell = lambda k, n, q=q, scale=scale: (
            "" if dash(k, n) else spread([r["images"]["methods"][k][str(n)][q] for r in runs], scale)
        )
        out += [f"| {k} | " + " | ".join(cell(k, n) for n in calls) + " |" for k in IMAGES]
    return out


def picture(runs: list[dict]):
    """Error against gamma at 5, 10, 20 and 50 calls, exact and rough, relative to Euler's."""
    from PIL import Image

    colours = [(38, 84, 160), (190, 60, 50), (70, 140, 70), (140, 100, 160)]
    panels = []
    for kind in ("exact", "rough"):
        curves = []
        for n, colour in zip(CALLS, colours):
            error = lambda k, n=n, kind=kind: np.mean(
                [r["mixtures"][kind][k]["few"][str(n)][0] for r in runs]
            )
            ys = [1.0, *(error(f"gradient estimation {g:g}") / error("euler") for g in GAMMAS)]
            curves.append(show.Curve([1.0, *GAMMAS], ys, colour, f"{n}"))
        panels.append(show.plot(f"{kind}: distance / Euler's", "gamma", curves))
    image = Image.new("RGB", (sum(p.width for p in panels), panels[0].height), "white")
    for i, p in enumerate(panels):
        image.paste(p, (i * p.width, 0))
    return image


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument(
        "--out",
        type=Path,
        help="a folder for each seed's figures and the plot; what it holds is not measured again",
    )
    p.add_argument("--quick", action="store_true", help="one seed, few samples: does it run?")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--starts", type=int, default=256)
    p.add_argument("--images", type=int, default=60, help="an arm; 0: mixtures only")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    calls = CALLS
    if a.quick:
        a.seeds, a.starts, a.images, calls = 1, 64, min(a.images, 20), (5,)
    torch.set_num_threads(1)
    began, runs = time.perf_counter(), []
    for seed in range(a.seeds):
        runs.append(
            {"mixtures": kept(a.out, f"mixtures-{seed}", lambda seed=seed: on_mixtures(seed, a.starts))}
        )
        if a.images:
            runs[-1]["images"] = kept(
                a.out, f"images-{seed}", lambda seed=seed: on_images(seed, a.images, calls)
            )
        if a.images:
            runs[-1]["images"]["floor"] = kept(
                a.out, f"floor-{seed}", lambda seed=seed: floor(seed, a.images)
            )
    if a.out:
        picture(runs).save(a.out / "gamma.png", optimize=True)
    if a.json:
        print(json.dumps({"seeds": a.seeds, "seconds": round(time.perf_counter() - began, 1), "runs": runs}))
    else:
        print(tables(runs, calls if a.quick else CALLS))


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
