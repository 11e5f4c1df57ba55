"""Does the network need the time? Denoisers that are not told the level, exact and trained, and samplers that
have no schedule.

    python lab/no_time/run.py --out runs/no-time [--quick] [--parts level,exact,digits] [--seeds 3] [--steps
    300] [--json]

level   how well x tells its level, against 1 / sqrt(2d): exactly on mixtures of 2 to 1,024 numbers, by
        estimators and networks on digits
exact   the very best networks without time, by quadrature over the posterior of the level, on the same
        mixtures: no training, no error but theirs
digits  small UNets on MNIST with and without time, four targets, two samplers, and steps driven by an
        estimate of the level

The best network without time answers f(x) = E[p x0 + q eps | x] over all levels that may have made x, where
one with time knows the level (Sun et al. 2025). How it is read as an estimate of x0 depends on the target: x0
itself is taken as it is; from eps it is (x - sigma eps) / alpha.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unnoise.data import load
from unnoise.data.transforms import permutation
from unnoise.denoiser import Denoiser, Mixture, adapt
from unnoise.evaluate import fid, load_judge
from unnoise.evaluate.noise_level import METHODS, TAPS, estimate_sigma
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.nets.unet import UNet, config_from
from unnoise.process import Level, noise, predict, schedule
from unnoise.process.level import corrupt, move, spread, ve, vp
from unnoise.sample import SAMPLERS, last
from unnoise.train import fit, objective
from unnoise.train.recipe import parse

SIZES = (2, 8, 64, 256, 1024)
TARGETS = {"eps": "ddpm", "x0": "ddpm", "v": "ddpm", "velocity": "flow"}
FRAMES = {"ddpm": "unit", "flow": "convex"}
RULES = ("ddim", "ddpm")
STD, MODES, CALLS, NODES = 0.1, 4, 50, 400

N = TypeVar("N", bound=nn.Module)

# --- exact: mixtures ----------------------------------------------------------------------------------------


def mixture(d: int) -> Mixture:
    """Four corners of the cube [-1, 1]^d, each with a cloud of standard deviation 0.1."""
    signs = (
        torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
        if d == 2
        else noise.draw(0, f"corners/{d}", 0, (MODES, d)).sign()
    )
    return Mixture(signs.double(), STD)


class Blind:
    """What x (n, d) of a mixture of round Gaussians tells when its level is not told: any of `levels`, with
    prior weights (L,).

    p(l, k | x) is proportional to p(l) w_k N(x; alpha m_k, S), S = alpha^2 s^2 + sigma^2, and given both E[x0
    | x] = m_k + g (x - alpha m_k), g = alpha s^2 / S. All of it depends on x through |x|^2 and x . m_k, so
    that f(x) costs no more in many dimensions than in few.
    """

    def __init__(self, mix: Mixture, levels: Level, prior: Tensor):
        self.mix, self.l, self.prior = mix, levels, prior.double() / prior.sum()

    def joint(self, x: Tensor) -> Tensor:
        """p(level, component | x), (n, L, k)."""
        m, (a, s), var = self.mix.means, self.l, self.mix.var[:, 0]
        a, total = a[:, None], (a**2)[:, None] * var + (s**2)[:, None]
        x = x.double()
        square = (x**2).sum(1)[:, None, None] - 2 * a * (x @ m.T)[:, None] + a**2 * (m**2).sum(1)
        logit = (
            self.prior.log()[:, None]
            + self.mix.weights.log()
            - square / (2 * total)
            - m.shape[1] / 2 * total.log()
        )
        return logit.flatten(1).softmax(1).reshape(logit.shape)

    def network(self, kind: predict.Kind) -> Callable[..., Tensor]:
        """(x, time ignored) -> E[p x0 + q eps | x]: the least squared error that a network without time can
        have.
        """
        (a, s), (p, q), var = self.l, kind(self.l), self.mix.var[:, 0]
        own, part = (q / s)[:, None], (p - q * a / s)[:, None]  # p x0 + q eps = own x + part x0
        a = a[:, None]
        g = a * var / (a**2 * var + (s**2)[:, None])

        def net(x: Tensor, time: Tensor | None = None) -> Tensor:
            joint = self.joint(x)
            return (joint * (own + part * g)).sum((1, 2))[:, None] * x + (joint * part * (1 - g * a)).sum(
                1
            ).to(x) @ self.mix.means.to(x)

        return net

    def ratio(self, x: Tensor) -> Tensor:
        """exp(E[ln(sigma / alpha) | x]), (n,)."""
        return (self.joint(x).sum(2) * self.l.ratio.log()).sum(1).exp()


def nodes(
    curve: schedule.Schedule, n: int = NODES, low: float = 5e-3, high: float = 300.0
) -> tuple[Level, Tensor]:
    """n levels of a schedule evenly spaced in ln(sigma / alpha), and their weights if time is drawn evenly,
    as in training.
    """
    u = np.unique(
        curve.time(ve(torch.logspace(math.log10(low), math.log10(high), n, dtype=torch.float64))).numpy()
    )
    u = u[(u > 0) & (u < 1)]
    return curve.level(u), torch.from_numpy(np.gradient(u))


def at_once(d: int, n: int, seed: int) -> dict:
    """One size: {target: {rule: {"time", "none"}}}, the spread of samples about the nearest corner over its
    true value, 1 where all is well.
    """
    mix, out = mixture(d), {}
    x = noise.draw(seed, "start", 0, (n, d))
    for name, by in TARGETS.items():
        curve, kind = schedule.named(by), predict.kind(name)
        blind = Blind(mix, *nodes(curve)).network(kind)
        none = adapt.adapt(blind, adapt.FRAMES[FRAMES[by]], kind, adapt.no_clock)  # pyright: ignore[reportArgumentType]
        path = curve.path(CALLS)
        run = lambda denoise, rule, path=path: last(
            SAMPLERS[rule](denoise, x * path[0].sigma, path, noise.seeded(range(seed * n, seed * n + n)))
        )
        out[name] = {r: {"time": width(mix, run(mix, r)), "none": width(mix, run(none, r))} for r in RULES}
    return out


def width(mix: Mixture, x: Tensor) -> float:
    """The rms distance to the nearest corner, over that of the mixture itself."""
    near = torch.cdist(x.double().nan_to_num(1e6).clamp(-1e6, 1e6), mix.means).amin(1)
    return float((near**2).mean().sqrt() / (STD * math.sqrt(x.shape[1])))


def scheduleless(d: int, n: int, seed: int) -> dict:
    """One size: samplers without a schedule on the exact denoisers, alpha = 1: their width and calls."""
    mix, s = mixture(d), torch.logspace(-3, 1.5, NODES, dtype=torch.float64)
    blind = Blind(mix, ve(s), torch.ones(NODES))
    none = adapt.adapt(blind.network(predict.x0), adapt.clean_scale, predict.x0, adapt.no_clock)  # pyright: ignore[reportArgumentType]
    start, z = 10 * noise.draw(seed, "start", 0, (n, d)), noise.seeded(range(seed * n, seed * n + n))
    runs = {
        "ascent": ascent(none, start, 10.0, z),
        "ascent, no noise": ascent(none, start, 10.0, z, beta=1.0),
        "estimate": driven(mix, blind.ratio, start, ve),
    }
    return {k: {"width": width(mix, x), "calls": calls} for k, (x, calls) in runs.items()}


# --- samplers without a schedule ----------------------------------------------------------------------------


@torch.no_grad()
def ascent(
    denoise: Denoiser,
    x: Tensor,
    sigma: float,
    z: noise.Noise,
    h: float = 0.1,
    beta: float = 0.5,
    end: float = 0.02,
    most: int = 1000,
) -> tuple[Tensor, int]:
    """(sample, calls): stochastic ascent of an implied density, alpha = 1 (Kadkhodaie & Simoncelli 2021, alg.
    1, with h constant).

    f = D(x) - x, s = |f| / sqrt(d), x <- x + h f + g z with g^2 = ((1 - beta h)^2 - (1 - h)^2) s^2, so that
    the noise falls by 1 - beta h a step; beta = 1 adds none. A sample stops where s <= end, or after `most`
    calls; its last move is onto D.
    """
    s = torch.full((len(x),), sigma, dtype=torch.float64)
    gain = math.sqrt((1 - beta * h) ** 2 - (1 - h) ** 2)
    x0, calls = x, 0
    while calls < most:
        x0, calls = denoise(x, ve(s)), calls + 1
        s = (x - x0).double().flatten(1).square().mean(1).sqrt()
        going = s > end
        if not going.any():
            break
        x = torch.where(_each(going, x), x + h * (x0 - x) + spread(gain * s, x) * z(x), x)
    return x0, calls


@torch.no_grad()
def driven(
    denoise: Denoiser,
    ratio: Callable[[Tensor], Tensor],
    x: Tensor,
    level: Callable[[Tensor], Level],
    keep: float = 0.9,
    end: float = 0.02,
    most: int = 300,
) -> tuple[Tensor, int]:
    """(sample, calls): Euler's step to `keep` times the noise that `ratio` (sigma / alpha of each sample)
    finds in x, until that is `end`.
    """
    x0, calls = x, 0
    while calls < most:
        r = ratio(x).double().clamp(1e-3, 1e3)
        a, calls = level(r), calls + 1
        x0, going = denoise(x, a), r > end
        if not going.any():
            break
        x = torch.where(_each(going, x), move(x, x0, a, level(keep * r)), x)
    return x0, calls


def _each(one: Tensor, x: Tensor) -> Tensor:
    return one.reshape(-1, *[1] * (x.ndim - 1))


def unit(r: Tensor) -> Level:
    """The level of ratio r with alpha^2 + sigma^2 = 1."""
    return vp(-2 * r.log())


# --- how well x tells its level -----------------------------------------------------------------------------


def told(d: int, n: int, seed: int, sigma: float = 0.5) -> float:
    """rms error of E[ln sigma | x] in units of 1 / sqrt(2d), of n samples of the mixture at this sigma (alpha
    = 1).
    """
    s = torch.logspace(-2, 1, NODES, dtype=torch.float64)
    x = mixture(d).sample(n, seed) + sigma * noise.draw(seed, "level", 0, (n, d))
    e = (Blind(mixture(d), ve(s), torch.ones(len(s))).ratio(x) / sigma).log()
    return float(e.square().mean().sqrt() * math.sqrt(2 * d))


class Sorted(nn.Module):
    """A network for ln(sigma / alpha) of digits: quantiles of the pixels, and of what wavelets of three
    directions leave, through an MLP.
    """

    def __init__(self, width: int = 128):
        super().__init__()
        low = TAPS.flip(0) * torch.tensor([1.0, -1.0, 1.0, -1.0])
        self.kernels = torch.stack([TAPS.outer(TAPS), TAPS.outer(low), low.outer(TAPS)]).float()[:, None]
        self.at = (torch.arange(24) + 0.5) / 24
        self.mlp = MLP(MLPConfig(size=24 * 4, width=width, layers=2, time=False))
        self.out = nn.Linear(24 * 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, h, w) -> (n,)."""
        w = F.conv2d(x, self.kernels).flatten(2).abs()
        far = w.quantile(self.at, dim=2).permute(1, 2, 0).clamp(min=1e-5).log() / 2
        features = torch.cat([far.flatten(1), x.flatten(1).quantile(self.at, dim=1).T], 1)
        return self.out(self.mlp(features))[:, 0]


def pixels(split: str) -> Tensor:
    """MNIST, (n, 1, 28, 28) in [-1, 1]."""
    return torch.from_numpy(load("mnist", split).x.copy()).movedim(-1, 1).float() / 127.5 - 1


def learned(
    net: N, loss: Callable[[N, Tensor, Tensor, Level], Tensor], seed: int, steps: int, batch: int = 128
) -> N:
    """Adam with a cosine to 0 on digits at levels drawn evenly in ln(sigma / alpha) from .02 to 20; loss(net,
    x0, eps, level).
    """
    x, opt = pixels("train"), torch.optim.AdamW(net.parameters(), 2e-3)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
    for k in range(steps):
        pick = (noise.uniform(seed, "pick", k, (batch,)) * len(x)).long()
        l = unit((math.log(0.02) + math.log(1000) * noise.uniform(seed, "level", k, (batch,))).exp())
        value = loss(net, x[pick], noise.draw(seed, "noise", k, (batch, 1, 28, 28)).float(), l)
        opt.zero_grad()
        value.backward()
        opt.step()
        fall.step()
    return net.eval().requires_grad_(False)


def regress(net: nn.Module, x0: Tensor, eps: Tensor, l: Level) -> Tensor:
    return (net(corrupt(x0, eps, l)) - l.ratio.log().float()).square().mean()


class Head(nn.Module):
    """A UNet for v without time, with one channel more, whose mean is ln(sigma / alpha)."""

    def __init__(self):
        super().__init__()
        self.unet = UNet(
            config_from(SMALL | {"in_channels": 4, "out_channels": 5, "sample_size": 14, "time": False})
        )

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (n, 1, 28, 28) -> v in x's shape, ln(sigma / alpha) (n,)."""
        out = self.unet(F.pixel_unshuffle(x, 2))
        return F.pixel_shuffle(out[:, :4], 2), out[:, 4].mean((1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)[1]


def together(net: Head, x0: Tensor, eps: Tensor, l: Level) -> Tensor:
    v, log = net.both(corrupt(x0, eps, l))
    return (v - predict.target(predict.v, x0, eps, l)).square().mean() + (
        log - l.ratio.log().float()
    ).square().mean()


def estimators(seed: int, steps: int, n: int) -> tuple[dict, nn.Module, Head]:
    """{name: {sigma: rms error of ln sigma in units of 1 / sqrt(2d)}} on held-out digits, and the two
    networks.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        separate, head = Sorted(), Head()
    learned(separate, regress, seed, 4 * steps)
    learned(head, together, seed, steps, 64)
    x0, out = pixels("test")[permutation(10_000, seed, 1)[:n].tolist()], {}
    for r in (0.05, 0.2, 0.5):
        l = unit(torch.full((n,), r).double())
        x = corrupt(x0, noise.draw(seed, f"test/{r}", 0, x0.shape).float(), l)
        found = {m: estimate_sigma(x, m) / l.alpha for m in METHODS} | {
            "separate": separate(x).double().exp(),
            "head": head(x).double().exp(),
        }
        for k, v in found.items():
            out.setdefault(k, {})[str(r)] = float((v / r).log().square().mean().sqrt() * math.sqrt(2 * 784))
    return out, separate, head


# --- digits -------------------------------------------------------------------------------------------------

SMALL = {
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D"] * 2,
    "up_block_types": ["UpBlock2D"] * 2,
    "mid_block_type": "UNetMidBlock2D",
    "norm_num_groups": 8,
}


def recipe(target: str, time: bool, seed: int, steps: int) -> dict:
    """Two blocks over 8 x 8 positions of 4 x 4 pixels; the squared error of the network's own output (of
    velocity, up to a factor 1 to 2).
    """
    by = TARGETS[target]
    weight = {"eps": "snr", "x0": "uniform", "v": "v", "velocity": "v"}[target]
    net = SMALL | {"kind": "unet", "block_out_channels": [32, 64], "num_class_embeds": 0}
    process = {
        "schedule": by,
        "frame": FRAMES[by],
        "predict": target,
        "weight": weight,
        "clock": "table" if time else "none",
    }
    return {
        "name": "no-time",
        "seed": seed,
        "patch": 4,
        "data": {"name": "mnist"},
        "net": net,
        "process": process,
        "train": {"steps": steps, "batch": 64, "lr": 2e-3, "warmup": min(50, steps), "ema": [0.1, 0.2]},
    }


def trained(target: str, time: bool, seed: int, steps: int) -> tuple[fit.Run, Denoiser]:
    """A trained run, and its network with averaged weights as a Denoiser."""
    run = fit.prepare(parse(recipe(target, time, seed, steps)))
    for _ in fit.fit(run):
        pass
    run.net.load_state_dict(run.ema[0].weights)
    return run, objective.resolve(run.recipe.process).denoiser(run.net.eval().requires_grad_(False))


def digits(seed: int, steps: int, n: int, calls: int) -> dict:
    """{target: {"time" | "none": {rule: FID}}} and {sampler without a schedule: FID, calls} of one seed."""
    judge, out, free = load_judge(), {}, {}
    real = load("mnist", "test").x[permutation(10_000, 0, 0)[:n]]
    reference = judge.look(real).features
    far = lambda x, decode: fid(judge.look(decode(x.nan_to_num().clamp(-1, 1))).features, reference)
    told, separate, head = estimators(seed, steps, n)
    seeds = range(1000 * seed, 1000 * seed + n)
    for target, by in TARGETS.items():
        for time in (True, False):
            run, denoise = trained(target, time, seed, steps)
            shape, path, codec = run.source.codec.shape(n), schedule.named(by).path(calls), run.source.codec
            start = noise.seeded(seeds, "init")(torch.zeros(shape))
            go = lambda r, denoise=denoise, path=path, start=start: last(
                SAMPLERS[r](denoise, start * float(path[0].sigma), path, noise.seeded(seeds))
            )
            out.setdefault(target, {})["time" if time else "none"] = {
                r: far(go(r), codec.decode) for r in RULES
            }
            whole = lambda x, f: f(F.pixel_shuffle(x, 4)[:, :, :28, :28]).exp()
            if target == "v" and time:
                free["separate network"] = (
                    driven(denoise, partial(whole, f=separate), start, unit, end=0.05),
                    codec.decode,
                )
            if target == "x0" and not time:
                free["ascent"] = (
                    ascent(denoise, 10 * start, 10.0, noise.seeded(seeds), end=0.1, most=200),
                    codec.decode,
                )
    own = adapt.adapt(lambda x, t: head.both(x)[0], adapt.unit, predict.v, adapt.no_clock)  # pyright: ignore[reportArgumentType]
    start = noise.seeded(seeds, "init")(torch.zeros(n, 1, 28, 28))
    flat = lambda x: ((x.movedim(1, -1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    free["auxiliary head"] = driven(own, lambda x: head(x).exp(), start, unit, end=0.05), flat
    others = load("mnist", "train").x[permutation(60_000, 0, 0)[:n]]
    return {
        "told": told,
        "targets": out,
        "free": {k: {"fid": far(x, decode), "calls": calls} for k, ((x, calls), decode) in free.items()},
        "floor": fid(judge.look(others).features, reference),
    }


# --- the page -----------------------------------------------------------------------------------------------


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    p.add_argument(
        "--out", type=Path, help="a folder for each seed's numbers; what it holds is not made again"
    )
    p.add_argument("--quick", action="store_true", help="one seed, two sizes, a few steps: does it run?")
    p.add_argument("--parts", default="level,exact,digits")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--samples", type=int, default=100)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if wrong := [k for k in a.parts.split(",") if k not in PARTS]:
        p.error(f"unknown part {wrong[0]!r} (accepted: {', '.join(PARTS)})")
    if a.quick:
        a.seeds, a.steps, a.samples = 1, 2, 16
    torch.set_num_threads(1)
    report: dict = {"steps": a.steps, "samples": a.samples, "seeds": a.seeds}
    for part in a.parts.split(","):
        for seed in range(a.seeds):
            file = a.out / f"{part}-{seed}.json" if a.out else None
            if file and file.exists():
                found = json.loads(file.read_text())
            else:
                print(f"{part}, seed {seed}", file=sys.stderr)
                found = PARTS[part](seed, a)
                if file:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps(found))
            report.setdefault(part, []).append(found)
    if a.out:
        (a.out / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report) if a.json else table(report))


def _sizes(a: argparse.Namespace) -> tuple[int, ...]:
    return SIZES[:2] if a.quick else SIZES


PARTS: dict[str, Callable] = {
    "level": lambda seed, a: {str(d): told(d, 5 * a.samples, seed) for d in _sizes(a)},
    "exact": lambda seed, a: {
        str(d): at_once(d, a.samples, seed) | {"free": scheduleless(d, a.samples, seed)} for d in _sizes(a)
    },
    "digits": lambda seed, a: digits(seed, a.steps, a.samples, 8 if a.quick else 30),
}


def table(r: dict) -> str:
    """Markdown, a table a part: means, and every seed's value."""
    return "\n\n".join(
        make(r[part])
        for part, make in (("level", _level), ("exact", _exact), ("digits", _digits))
        if part in r
    )


def _cell(values: list[float], digits: int = 2) -> str:
    show = lambda v: f"{v:.{digits}f}" if abs(v) < 100 else f"{v:.0f}" if abs(v) < 1e4 else f"{v:.0e}"
    return f"{show(float(np.mean(values)))} ({', '.join(map(show, values))})"


def _rows(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _level(runs: list[dict]) -> str:
    return _rows(
        ["d", "rms error of ln sigma, in 1 / sqrt(2d)"], [[d, _cell([s[d] for s in runs])] for d in runs[0]]
    )


def _exact(runs: list[dict]) -> str:
    head = ["d", *(f"{t}, {r}" for t in TARGETS for r in RULES)]
    rows = []
    for time in ("time", "none"):
        for d in runs[0]:
            rows.append(
                [f"{d}, {time}", *(_cell([s[d][t][r][time] for s in runs]) for t in TARGETS for r in RULES)]
            )
    free = list(next(iter(runs[0].values()))["free"])
    told = lambda d, k: (
        f"{_cell([s[d]['free'][k]['width'] for s in runs])} in"
        f" {np.mean([s[d]['free'][k]['calls'] for s in runs]):.0f}"
    )
    return (
        _rows(head, rows)
        + "\n\n"
        + _rows(["d, width in calls", *free], [[d, *(told(d, k) for k in free)] for d in runs[0]])
    )


def _digits(runs: list[dict]) -> str:
    head = ["FID", *(f"{when}, {r}" for r in RULES for when in ("time", "none"))]
    rows = [
        [t, *(_cell([s["targets"][t][w][r] for s in runs], 1) for r in RULES for w in ("time", "none"))]
        for t in TARGETS
    ]
    free = [
        [
            k,
            _cell([s["free"][k]["fid"] for s in runs], 1),
            f"{np.mean([s['free'][k]['calls'] for s in runs]):.0f}",
        ]
        for k in runs[0]["free"]
    ]
    levels = list(next(iter(runs[0]["told"].values())))
    told = [[k, *(_cell([s["told"][k][l] for s in runs], 1) for l in levels)] for k in runs[0]["told"]]
    best = _rows(["error of ln sigma, in 1 / sqrt(2d)", *(f"sigma = {l} alpha" for l in levels)], told)
    free.append(["real digits", _cell([s["floor"] for s in runs], 1), ""])
    return "\n\n".join([best, _rows(head, rows), _rows(["no schedule", "FID", "calls"], free)])


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
