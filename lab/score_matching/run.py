"""What does each objective of score matching learn, what does it cost, and what can be sampled with a score
alone?

    python lab/score_matching/run.py [--out runs/score_matching] [--seeds 3] [--steps 300] [--quick] [--json]

learning   an MLP of a recipe (task "score") with each objective of `train.score`, on 20,000 points of the
           ring of 8 Gaussians: the relative error of its score, root mean square over held-out points,
           against the exact score of the data; of denoising and NCSN (least level the same) also against the
           score of the data under their noise, which is what they aim at
cost       CPU seconds of a step and the bytes that it keeps for its backward pass, against the dimension d of
           the data; batch 32
sampling   on the same ring with weights 1 to 8, from a uniform start, by the exact score: what a sample's
           energy -log p, its distance from its mode and the shares of the modes come to; and by the networks
           learned from the even ring: an energy's score where MALA needs log p, NCSN's for annealing
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unnoise import show
from unnoise.denoiser import Mixture
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.process import noise
from unnoise.process.level import clean, ve
from unnoise.sample import SAMPLERS, last, mcmc
from unnoise.train import fit, score
from unnoise.train.recipe import parse
from unnoise.train.tasks import Score

STD, SIGMA, HIGH = (
    0.1,
    0.1,
    2.0,
)  # of a Gaussian of the ring; of denoising and NCSN's least level; NCSN's greatest, in the network's units
OBJECTIVES = {
    "explicit": {"kind": "explicit"},
    "implicit, exact trace": {"kind": "implicit"},
    "implicit, Hutchinson (= SSM-VR)": {"kind": "sliced_vr"},
    "sliced (SSM)": {"kind": "sliced"},
    "denoising": {"kind": "denoising", "sigma": SIGMA},
    "NCSN": {"kind": "ncsn", "sigma": SIGMA, "high": HIGH},
    "implicit, energy": {"kind": "implicit", "form": "energy"},
}
DIMENSIONS = (2, 8, 32, 128, 512)


def ring(uneven: bool = False) -> Mixture:
    m = Mixture.ring(8, 1.0, STD)
    return Mixture(m.means, STD, torch.arange(1.0, 9.0)) if uneven else m


def learned(folder: Path, objective: dict, seed: int, steps: int) -> fit.Run:
    """The run of a recipe, with its averaged weights."""
    np.save(folder / "ring.npy", ring().sample(20_000, 1).numpy())
    (folder / "ring.json").write_text(json.dumps({"means": ring().means.tolist(), "std": STD}))
    r = fit.prepare(
        parse(
            {
                "name": "score",
                "task": "score",
                "seed": seed,
                "data": {"name": str(folder / "ring.npy")},
                "net": {"kind": "mlp", "width": 64, "layers": 3},
                "objective": {"truth": str(folder / "ring.json"), **objective},
                "train": {"steps": steps, "batch": 128, "lr": 4e-3, "warmup": 20, "ema": [0.1, 0.2]},
            }
        )
    )
    for s in fit.fit(r):
        if s.bad:
            raise SystemExit(f"{s.bad} is not finite at step {s.step}")
    r.net.load_state_dict(r.ema[0].weights)
    r.net.eval()
    return r


def own_units(r: fit.Run) -> Any:
    """The learned score in the units of the data: x -> x's shape, or (x, level) for NCSN."""
    task, (mean, std) = Score(r.recipe), (r.net.mean, r.net.std)
    s, at = task.score(r.net), lambda x: ((x - mean) / std).float()
    if task.sigmas is None:
        return lambda x: s(at(x)).to(x) / std
    return lambda x, l: s(at(x), ve(l.sigma / std)).to(x) / std


def learning(r: fit.Run, seed: int) -> dict[str, float | None]:
    """Relative errors against the data's score and, where there is noise, against that of the noisy data at
    noisy points.
    """
    s, x, m, std = own_units(r), ring().sample(4000, 1000 + seed), ring(), float(r.net.std)
    away = lambda found, true: float(((found - true).square().sum() / true.square().sum()).sqrt())
    noisy = Score(r.recipe).objective.kind in ("denoising", "ncsn")
    l = ve(torch.tensor(SIGMA * std, dtype=torch.float64))
    at = partial(s, l=l) if Score(r.recipe).sigmas is not None else s
    y = x + l.sigma * noise.draw(seed, "lab/score", 0, x.shape)
    with torch.no_grad():
        return {
            "clean": away(at(x), m.score(x, clean())),
            "blurred": away(at(y), m.score(y, l)) if noisy else None,
        }


# --- cost ---------------------------------------------------------------------------------------------------


def step(kind: str, net: MLP, x: Tensor, eps: Tensor) -> Tensor:
    v = score.Projections("gaussian", eps[None])
    return {
        "explicit": lambda: score.explicit(net, x, lambda y: -y),
        "implicit, exact trace": lambda: score.implicit(net, x),
        "implicit, Hutchinson (= SSM-VR)": lambda: score.sliced_vr(net, x, v),
        "sliced (SSM)": lambda: score.sliced(net, x, v),
        "denoising": lambda: score.denoising(net, x, 0.5, eps),
    }[kind]().mean()


def cost(kind: str, d: int, batch: int = 32, width: int = 64, repeats: int = 3) -> tuple[float, int]:
    """(CPU seconds of a step, least of some; bytes of different tensors kept for its backward pass,
    parameters left out).
    """
    torch.manual_seed(0)
    net = MLP(MLPConfig(size=d, width=width, layers=3, time=False))
    x, eps, kept = torch.randn(batch, d), torch.randn(batch, d), {}
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def keep(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in own:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        step(kind, net, x, eps).backward()
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        step(kind, net, x, eps).backward()
        seconds.append(time.process_time() - began)
    return min(seconds), sum(kept.values())


COSTS = ("explicit", "implicit, exact trace", "implicit, Hutchinson (= SSM-VR)", "sliced (SSM)", "denoising")


# --- sampling -----------------------------------------------------------------------------------------------


def chains(seed: int, n: int, moves: int, energy: Any, ncsn: Any) -> dict[str, tuple[Tensor, Mixture]]:
    """The ends of chains from a uniform start, and what they should be samples of. `energy`: a learned score
    with its log p.
    """
    even, m = ring(), ring(uneven=True)
    x = 4 * noise.uniform(seed, "lab/box", 0, (n, 2)) - 2
    z = lambda stream: noise.seeded(range(n * seed, n * (seed + 1)), stream)
    at, logp = lambda y: m.score(y, clean()), lambda y: m.logp(y, clean())
    sigmas = torch.logspace(math.log10(2.0), math.log10(0.05), 10, dtype=torch.float64)
    path, fine = (
        [*map(ve, s.double()), clean()]
        for s in (sigmas, torch.logspace(math.log10(2.0), math.log10(0.02), 50))
    )
    low = torch.logspace(
        math.log10(1.4), math.log10(0.071), 10, dtype=torch.float64
    )  # NCSN's, in the units of the data
    each = max(moves // 10, 2)
    out: dict[str, tuple[Tensor, Mixture]] = {
        "exact samples": (m.sample(n, seed), m),
        "gradient ascent": (last(mcmc.ascent(at, x, moves, 0.002)), m),
        "ULA, e = .001": (last(mcmc.ula(at, x, moves, 0.001, z("a"))), m),
        "ULA, e = .008": (last(mcmc.ula(at, x, moves, 0.008, z("b"))), m),
        "MALA, e = .008": (last(mcmc.mala(logp, x, moves, 0.008, z("c"))), m),
        "annealed Langevin": (last(SAMPLERS["langevin"](m, x, path, z("d"), steps=each - 1)), m),
        "predictor-corrector": (last(SAMPLERS["predictor_corrector"](m, x, fine, z("e"))), m),
        "annealed Langevin, learned (NCSN)": (
            last(mcmc.annealed(ncsn, x, low, z("f"), each, 0.1 * float(low[-1]) ** 2, "code", denoise=True)),
            even,
        ),
        "MALA, e = .008, learned energy": (
            last(mcmc.mala(energy[1], x, moves, 0.008, z("g"), score=energy[0])),
            even,
        ),
    }
    return out


def told(x: Tensor, m: Mixture) -> dict[str, float]:
    """Of samples: mean energy -log p in nats, mean square distance to the nearest mode a coordinate over the
    variance, and half the summed error of shares.
    """
    x = x.double()
    near = torch.cdist(x, m.means).min(1)
    shares = torch.bincount(near.indices, minlength=m.k) / len(x)
    return {
        "energy": float(-m.logp(x, clean()).mean()),
        "spread": float(near.values.square().mean() / 2 / STD**2),
        "shares": float((shares - m.weights).abs().sum() / 2),
    }


def learned_energy(r: fit.Run) -> tuple[Any, Any]:
    """(score, log p up to a constant) of an energy network in the units of the data."""
    at = lambda x: ((x - r.net.mean) / r.net.std).float()

    def logp(x: Tensor) -> Tensor:
        return -(at(x) - r.net(at(x))).flatten(1).square().sum(1).to(x) / 2

    return own_units(r), logp


# --- telling ------------------------------------------------------------------------------------------------


def spread(values: list[float]) -> str:
    """Mean and, in brackets, the least and the greatest."""
    return f"{np.mean(values):.3g} ({min(values):.3g}, {max(values):.3g})"


def tables(r: dict) -> str:
    """Markdown."""
    rows = ["| objective | error to the data's score | error to its own target |", "|---|---|---|"]
    for k in OBJECTIVES:
        blurred = [s[k]["blurred"] for s in r["learning"]]
        rows.append(
            f"| {k} | {spread([s[k]['clean'] for s in r['learning']])} |"
            f" {spread(blurred) if blurred[0] is not None else 'the same'} |"
        )
    rows += [
        "",
        "| ms a step (MB kept) | " + " | ".join(f"d = {d}" for d in r["dimensions"]) + " |",
        "|---|" + "---|" * len(r["dimensions"]),
    ]
    rows += [
        f"| {k} | " + " | ".join(f"{1000 * s:.2g} ({b / 1e6:.2g})" for s, b in r["cost"][k]) + " |"
        for k in COSTS
    ]
    rows += ["", "| sampler | energy, nats | spread in a mode (1) | wrong shares (0) |", "|---|---|---|---|"]
    rows += [
        f"| {k} | "
        + " | ".join(spread([s[k][q] for s in r["sampling"]]) for q in ("energy", "spread", "shares"))
        + " |"
        for k in r["sampling"][0]
    ]
    return "\n".join(rows)


def picture(r: dict):
    """Seconds and bytes against the dimension, both axes logarithmic."""
    from PIL import Image

    colours = dict(
        zip(COSTS, [(140, 140, 140), (190, 60, 50), (38, 84, 160), (70, 140, 70), (140, 100, 160)])
    )
    short = dict(zip(COSTS, ["explicit", "trace", "Hutchinson", "sliced", "denoising"]))
    x, panels = np.log2(r["dimensions"]), []
    for i, (title, unit) in enumerate((("log10 ms", 1000.0), ("log10 MB", 1e-6))):
        curves = [
            show.Curve(x, [math.log10(unit * p[i]) for p in r["cost"][k]], colours[k], short[k])
            for k in COSTS
        ]
        panels.append(show.plot(title, "log2 of the dimension", curves, size=(640, 320)))
    image = Image.new("RGB", (640, 640), "white")
    for i, p in enumerate(panels):
        image.paste(p, (0, 320 * i))
    return image


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path, help="a folder for the report and the plot")
    p.add_argument("--quick", action="store_true", help="one seed, a few steps: does it run?")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    n, moves, dimensions = 400, 300, DIMENSIONS
    if a.quick:
        a.seeds, a.steps, n, moves, dimensions = 1, 5, 50, 20, DIMENSIONS[:3]
    torch.set_num_threads(1)
    r: dict = {"steps": a.steps, "seeds": a.seeds, "dimensions": dimensions, "learning": [], "sampling": []}
    r["cost"] = {k: [cost(k, d) for d in dimensions] for k in COSTS}
    with TemporaryDirectory() as scratch:
        for seed in range(a.seeds):
            runs = {}
            for k, o in OBJECTIVES.items():
                print(f"seed {seed}, {k}", file=sys.stderr)
                runs[k] = learned(Path(scratch), o, seed, a.steps)
            r["learning"].append({k: learning(run, seed) for k, run in runs.items()})
            ends = chains(seed, n, moves, learned_energy(runs["implicit, energy"]), own_units(runs["NCSN"]))
            r["sampling"].append({k: told(x, m) for k, (x, m) in ends.items()})
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
        (a.out / "report.json").write_text(json.dumps(r, indent=1))
        picture(r).save(a.out / "cost.png", optimize=True)
    print(json.dumps(r) if a.json else tables(r))


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
