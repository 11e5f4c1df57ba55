"""Can p(image is a digit) draw digits? Classifiers with frozen weights, and the gradient of their answer in
the picture.

    python lab/p_digit/run.py [--out runs/p_digit] [--seeds 3] [--steps 500] [--images 40] [--quick] [--json]

Needs `unnoise data fetch mnist fashion-mnist`. Pictures are 14 x 14 (means of 2 x 2 pixels), in [-1, 1]. The
first four are one network, f(x) = <x, MLP(x)>; the first three train for a third of `--steps`, in which their
cross-entropy has long settled:

    plain     digits against garments
    amount    noised digits, the label how much digit is left (alpha, from 0 to 1), against noised garments,
              label 0; the level is not told
    level     told the level: digits at that level against pure noise. Its exact logit is log p(x) - log N(x;
              0, I), so that Tweedie's
                  E[x0 | x] = alpha x + (sigma^2 / alpha) grad logit
              is the denoiser of pure noise, guided by it: `guide.classifier(Gaussian(0, 1), logit)`, and any
              sampler draws digits
    slope     the same, and trained on what it is used for: its gradient, by the error of that estimate (as
              all denoisers are trained)
    exact     what level and slope would be if they were right about 2,000 training digits: the logit in
              closed form, without a network. Draws those

plain and amount are climbed by fixed steps along the gradient, from noise and from garments; the others are
sampled (DDIM), from noise and from garments with noise added. The judge is "digits-judge", which has met none
of them.

The same strategy on a second task, sharpness: label how sharp a blurred digit is; climbed from blurred
digits; with and without its slope trained.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unnoise import data, pipeline, show
from unnoise.base import write
from unnoise.denoiser import Empirical, Gaussian
from unnoise.evaluate import metrics
from unnoise.guide import classifier
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.process import noise, schedule
from unnoise.process.level import Level, corrupt
from unnoise.sample import SAMPLERS, last
from unnoise.sample.mcmc import ascent, gradient
from unnoise.worlds import judge

CURVE, SIDE = schedule.cosine(), 14
ARMS = ("plain", "amount", "level", "slope", "exact")
STARTS = ("noise", "garments")
LOOKED = (0.25, 0.5, 0.75)  # levels u at which the gradient is compared with the way to the digit
PARTWAY = 0.7  # u of the noise that is put on garments for the arms that know levels
RATE = 3e-3
BLUR = 1.5  # the largest blur, a Gaussian's deviation in pixels


class Score(nn.Module):
    """One number a picture: <x, MLP(x)> + bias, or, told the level, (alpha / sigma) <x, MLP(x, time)>, which
    is 0 in pure noise as the exact logit is.
    """

    def __init__(self, time: bool):
        super().__init__()
        self.mlp = MLP(MLPConfig(size=SIDE**2, width=256, layers=2, time=time))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, l: Level | None = None) -> Tensor:
        if l is None:
            return (x * self.mlp(x)).flatten(1).sum(1) / SIDE + self.bias
        return (l.alpha / l.sigma).to(x) * (x * self.mlp(x, CURVE.timestep(l).to(x))).flatten(1).sum(1)


@dataclass(frozen=True)
class Batch:
    """Pictures, their levels or None, labels in [0, 1]; what the gradient should be at the first pictures,
    and its unit (n, 1, 1, 1).
    """

    x: Tensor
    l: Level | None
    label: Tensor
    pull: Tensor | None = None
    unit: Tensor | float = 1.0


Logit = Callable[..., Tensor]  # (x (n, 1, 14, 14), level or nothing) -> (n,)
Task = Callable[[Tensor, Tensor, torch.Generator], Batch]  # (digits, garments, random) -> Batch


def plain(digits: Tensor, garments: Tensor, rng: torch.Generator) -> Batch:
    return Batch(torch.cat([digits, garments]), None, _ones_then_zeros(len(digits), len(garments)))


def amount(digits: Tensor, garments: Tensor, rng: torch.Generator) -> Batch:
    l, x = noised(torch.cat([digits, garments]), rng)
    return Batch(x, None, l.alpha.float() * _ones_then_zeros(len(digits), len(garments)))


def level(digits: Tensor, garments: Tensor, rng: torch.Generator, slope: bool = False) -> Batch:
    """With the slope: logit's gradient is -(alpha / sigma) v, v = alpha eps - sigma x0 (put x0 = alpha x -
    sigma v into the formula above).
    """
    n = len(digits)
    l, x = noised(digits, rng)
    both = Level(*(torch.cat([v, v]) for v in l))
    own = l.like(digits)
    pull = own.alpha / own.sigma**2 * (digits - own.alpha * x) if slope else None
    return Batch(
        torch.cat([x, torch.randn(x.shape, generator=rng)]),
        both,
        _ones_then_zeros(n, n),
        pull,
        own.alpha / own.sigma,
    )


def slope(digits: Tensor, garments: Tensor, rng: torch.Generator) -> Batch:
    return level(digits, garments, rng, slope=True)


def sharp(digits: Tensor, garments: Tensor, rng: torch.Generator, slope: bool = False) -> Batch:
    s = torch.rand(len(digits), generator=rng) * BLUR
    x = blurred(digits, s)
    return Batch(x, None, 1 - s / BLUR, digits - x if slope else None)


def sharp_slope(digits: Tensor, garments: Tensor, rng: torch.Generator) -> Batch:
    return sharp(digits, garments, rng, slope=True)


def _ones_then_zeros(n: int, m: int) -> Tensor:
    return torch.cat([torch.ones(n), torch.zeros(m)])


def noised(x0: Tensor, rng: torch.Generator) -> tuple[Level, Tensor]:
    l = CURVE.level(0.02 + 0.97 * torch.rand(len(x0), generator=rng, dtype=torch.float64))
    return l, corrupt(x0, torch.randn(x0.shape, generator=rng), l)


def blurred(x: Tensor, s: Tensor) -> Tensor:
    """x (n, 1, h, w) blurred by Gaussians of deviation s (n,), in pixels; beyond its edges a picture is
    dark.
    """
    reach = torch.arange(-4, 5, dtype=x.dtype)
    k = torch.exp(-(reach**2) / (2 * s[:, None].clamp(min=1e-3) ** 2))
    k = k / k.sum(1, keepdim=True)
    y = F.pad(x.transpose(0, 1) + 1, (4, 4, 4, 4))
    y = F.conv2d(y, k[:, None, None, :], groups=len(x))
    return F.conv2d(y, k[:, None, :, None], groups=len(x)).transpose(0, 1) - 1


def trained(task: Task, digits: Tensor, garments: Tensor, seed: int, steps: int, batch: int = 64) -> Score:
    """The network after so many steps of `batch` digits and as many others: cross-entropy, and where the task
    has a pull the error of the gradient.
    """
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    pick = lambda a: a[torch.randint(len(a), (batch,), generator=rng)]
    net = Score(task in (level, slope))
    optimizer = torch.optim.Adam(net.parameters(), RATE, betas=(0.9, 0.99), fused=True)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min((k + 1) / 50, 0.5 * (1 + math.cos(math.pi * k / steps)) + 1e-3)
    )
    for _ in range(steps):
        loss = loss_of(net, task(pick(digits), pick(garments), rng))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        rate.step()
    return net.eval().requires_grad_(False)


def exact(digits: Tensor) -> Logit:
    """log p(x) - log N(x; 0, I) at a level, of the distribution that is these digits and no others."""
    world = Empirical(digits.double())
    return lambda x, l: world.logp(x, l) + (x.double().square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2


def loss_of(net: Score, b: Batch) -> Tensor:
    """Cross-entropy, and the mean square of (gradient - pull) / unit."""
    x = b.x.requires_grad_(b.pull is not None)
    logit = net(x, b.l)
    loss = F.binary_cross_entropy_with_logits(logit, b.label)
    if b.pull is None:
        return loss
    (g,) = torch.autograd.grad(logit.sum(), x, create_graph=True)
    return 0.1 * loss + ((g[: len(b.pull)] - b.pull) / b.unit).square().mean()


# --- changing the picture -----------------------------------------------------------------------------------


def climbed(net: Logit, x: Tensor, steps: int = 50, step: float = 0.06, until: float = 1.0) -> Tensor:
    """Steps along the gradient of the logit, each of root mean square `step` a pixel; a picture rests once
    its own score is `until`.
    """
    slope = gradient(net)

    def direction(x: Tensor) -> Tensor:
        g = slope(x)
        g = g / g.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
        return g * (net(x).sigmoid() < until)[:, None, None, None]

    for visit in ascent(direction, x, steps, step):
        x = visit.x
    return x


def sampled(net: Logit, x: Tensor, u: float, steps: int) -> Tensor:
    """Down from level u to a clean picture by DDIM, the denoiser of pure noise guided by the logit."""
    part = [CURVE.level(v) for v in torch.linspace(u, 0.02, steps, dtype=torch.float64)]
    return last(SAMPLERS["ddim"](classifier(Gaussian(0.0, 1.0), net), x, [*part, CURVE.path(1)[-1]]))


def drawn(name: str, net: Logit, garments: Tensor, seed: int, steps: int) -> dict[str, Tensor]:
    """Pictures by their start, (n, 1, 14, 14)."""
    n = len(garments)
    x = noise.seeded(range(seed * n, (seed + 1) * n), "start")(garments)
    if name in ("plain", "amount"):
        return {"noise": climbed(net, x, steps), "garments": climbed(net, garments, steps)}
    return {
        "noise": sampled(net, x, 0.99, steps),
        "garments": sampled(net, corrupt(garments, x, CURVE.level(PARTWAY)), PARTWAY, steps),
    }


def alignment(net: Logit, digits: Tensor, knows: bool) -> list[float]:
    """Cosine between the gradient and the way from a noised digit to its clean one, x0 - alpha x, mean over
    digits; one number a level of LOOKED.
    """
    out = []
    for u in LOOKED:
        l = Level(*(v.expand(len(digits)) for v in CURVE.level(u)))
        x = corrupt(digits, noise.seeded(range(len(digits)), f"alignment/{u}")(digits), l)
        g = gradient(lambda x, l=l: net(x, l if knows else None))(x).detach()
        out.append(float(F.cosine_similarity(g.flatten(1), (digits - l.like(x).alpha * x).flatten(1)).mean()))
    return out


# --- measuring ----------------------------------------------------------------------------------------------


def small(images: np.ndarray) -> Tensor:
    """uint8 (n, 28, 28, 1) -> (n, 1, 14, 14) in [-1, 1]."""
    return F.avg_pool2d(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 2) / 127.5 - 1


def large(x: Tensor) -> np.ndarray:
    """(n, 1, 14, 14) -> uint8 (n, 28, 28, 1), for the judge."""
    y = F.interpolate(x.clamp(-1, 1), scale_factor=2, mode="bicubic", align_corners=False).clamp(-1, 1)
    return ((y.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()


@torch.no_grad()
def judged(see: judge.Judge, x: Tensor, real: Tensor, features: np.ndarray) -> dict:
    """The share that the judge calls a digit, its mean confidence in the likeliest digit, root mean square to
    the nearest real one, KID to real ones.
    """
    images = large(x)
    p = see.net(see.codec.encode(images)).softmax(1)
    near = torch.cdist(x.clamp(-1, 1).flatten(1), real.flatten(1)).amin(1) / SIDE
    return {
        "digit": float((p.argmax(1) < 10).double().mean()),
        "confidence": float(p[:, :10].amax(1).mean()),
        "nearest": float(near.mean()),
        "kid": metrics.kid(features, see.look(images).features)[0],
    }


def study(seeds: int, steps: int, n: int, moves: int, most: int) -> tuple[dict, dict]:
    """The report, and pictures of the first seed: {(arm, start): (n, 1, 14, 14)}."""
    see = judge.load()
    load = lambda name, split, m: data.load(name, split).x[:m]
    digits, garments = small(load("mnist", "train", most)), small(load("fashion-mnist", "train", most))
    test = data.load("mnist", "test")
    assert test.labels is not None
    held, others = small(test.x[: 20 * n]), small(load("fashion-mnist", "test", seeds * n))
    features = see.look(large(held)).features
    report: dict = {
        a: {"own": {s: [] for s in STARTS}, "align": [], "moved": [], **{s: [] for s in STARTS}} for a in ARMS
    }
    report |= {
        "real": judged(see, small(test.x[-n:]), digits, features),
        "untouched garments": judged(see, others[:n], digits, features),
        "noise": judged(
            see, torch.randn(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), digits, features
        ),
        "sharpness": {k: [] for k in ("blurred", "label", "slope")},
    }
    shown = {}
    for seed in range(seeds):
        some = others[seed * n : (seed + 1) * n]
        for name in ARMS:
            print(f"seed {seed}, {name}", file=sys.stderr)
            net, knows, r = (
                network(name, digits, garments, seed, steps),
                name in ("level", "slope", "exact"),
                report[name],
            )
            r["align"].append(alignment(net, held[:n], knows))
            for start, x in drawn(name, net, some, seed, moves).items():
                r[start].append(judged(see, x, digits, features))
                r["own"][start].append(float(own(net, x, knows).mean()))
                if seed == 0:
                    shown[name, start] = x
                if start == "garments":
                    r["moved"].append(float((x.clamp(-1, 1) - some).square().mean().sqrt()))
        found, pictures = sharpened(
            see,
            digits,
            garments,
            small(test.x[seed * n : (seed + 1) * n]),
            test.labels[seed * n : (seed + 1) * n],
            seed,
            steps,
        )
        for k, v in found.items():
            report["sharpness"][k].append(v)
        if seed == 0:
            shown |= {("garments", "before"): some, **{("sharpness", k): v for k, v in pictures.items()}}
    return report, shown


def network(name: str, digits: Tensor, garments: Tensor, seed: int, steps: int) -> Logit:
    """The classifier of an arm."""
    if name == "exact":
        return exact(digits[2000 * seed : 2000 * (seed + 1)])
    task = {"plain": plain, "amount": amount, "level": level, "slope": slope}[name]
    return trained(task, digits, garments, seed, steps if name == "slope" else max(steps // 3, 1))


@torch.no_grad()
def own(net: Logit, x: Tensor, knows: bool) -> Tensor:
    """p(digit) by the network itself, at the cleanest level that it knows."""
    return net(x, Level(*(v.expand(len(x)) for v in CURVE.level(0.02))) if knows else None).sigmoid()


def sharpened(
    see: judge.Judge,
    digits: Tensor,
    garments: Tensor,
    clean: Tensor,
    labels: np.ndarray,
    seed: int,
    steps: int,
) -> tuple[dict, dict]:
    """Root mean square error a pixel and the judge's accuracy before, after climbing the label alone, and
    after following the trained slope.
    """
    before = blurred(clean, torch.full((len(clean),), 0.7 * BLUR))
    label, slope = (
        trained(sharp, digits, garments, seed, max(steps // 3, 1)),
        trained(sharp_slope, digits, garments, seed, max(steps // 2, 1)),
    )
    after = before
    for visit in ascent(gradient(slope), before, 8, 0.25):
        after = visit.x
    made = {"blurred": before, "label": climbed(label, before, 60, 0.01, until=0.95), "slope": after}
    right = lambda x: float((see.look(large(x)).said() == labels).mean())
    return {
        k: {"error": float((x.clamp(-1, 1) - clean).square().mean().sqrt()), "right": right(x)}
        for k, x in made.items()
    }, {**made, "sharp": clean}


# --- the command --------------------------------------------------------------------------------------------


def table(r: dict) -> str:
    """Markdown: what they draw, where their gradients point, the second task."""
    spread = lambda v, f: f"{np.mean(v):{f}} ± {np.std(v):{f}}"
    out = [
        (
            "| climbed, from | its own p(digit) | called a digit, % | confidence in one | nearest real, RMS |"
            " KID |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for a in ARMS:
        for s in STARTS:
            column = lambda k, f, m=1, a=a, s=s: spread([m * v[k] for v in r[a][s]], f)
            out.append(
                f"| {a}, {s} | {spread(r[a]['own'][s], '.3f')} | {column('digit', '.0f', 100)} |"
                f" {column('confidence', '.2f')} | {column('nearest', '.3f')} | {column('kid', '.2f')} |"
            )
    for k, name in (
        ("noise", "noise as it is"),
        ("untouched garments", "garments as they are"),
        ("real", "test digits"),
    ):
        v = r[k]
        out.append(
            f"| {name} | | {100 * v['digit']:.0f} | {v['confidence']:.2f} | {v['nearest']:.3f} |"
            f" {v['kid']:.2f} |"
        )
    out += [
        "",
        "| cosine of gradient and way to the digit | "
        + " | ".join(f"u = {u:g}" for u in LOOKED)
        + " | garments moved by, RMS |",
        "|---|" + "---|" * (len(LOOKED) + 1),
    ]
    for a in ARMS:
        out.append(
            f"| {a} | "
            + " | ".join(spread(c, ".2f") for c in zip(*r[a]["align"]))
            + f" | {spread(r[a]['moved'], '.2f')} |"
        )
    out += ["", "| sharpness | error, RMS | judge right, % |", "|---|---|---|"]
    for k, v in r["sharpness"].items():
        out.append(
            f"| {k} | {spread([s['error'] for s in v], '.3f')} |"
            f" {spread([100 * s['right'] for s in v], '.0f')} |"
        )
    return "\n".join(out)


def plotted(shown: dict, columns: int = 8):
    """Rows of pictures: every arm from both starts, and the second task."""
    rows = {
        "garments": shown["garments", "before"],
        **{f"{a}, from {s}": shown[a, s] for s in STARTS for a in ARMS},
        **{f"{k}": shown["sharpness", k] for k in ("sharp", "blurred", "label", "slope")},
    }
    names = [f"sharpness: {k}" if k in ("sharp", "blurred", "label", "slope") else k for k in rows]
    sheet = [[pipeline.picture(image) for image in large(x[:columns])] for x in rows.values()]
    return show.sheet(sheet, [""] * columns, names, "what climbing p(digit) makes", least=28)


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--out", type=Path)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--steps", type=int, default=500, help="training steps of the slope")
    p.add_argument("--images", type=int, default=40, help="pictures an arm, start and seed")
    p.add_argument("--quick", action="store_true", help="one seed, a few steps: does it run?")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if a.seeds < 1 or a.steps < 1 or a.images < 10:
        p.error("--seeds, --steps and --images must be at least 1, 1 and 10")
    torch.set_num_threads(1)
    moves, most = 50, 60_000
    if a.quick:
        a.seeds, a.steps, a.images, moves, most = 1, 5, 10, 8, 2000
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    report, shown = study(a.seeds, a.steps, a.images, moves, most)
    report |= {
        "seeds": a.seeds,
        "steps": a.steps,
        "images": a.images,
        "seconds": round(time.perf_counter() - began, 1),
    }
    if a.out:
        show.write_picture(plotted(shown), a.out / "shown.png")
        write.put(a.out / "report.json", json.dumps(report, indent=1).encode())
    print(json.dumps(report) if a.json else table(report))


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
