"""Can a plain MLP predict the noise of a digit, or does it take a UNet? Equal work a sample, equal samples;
only the network differs.

    python lab/noise_predictor/run.py --out runs/noise-predictor [--quick] [--seeds 3] [--steps 1500] [--json]

Needs the data (`unnoise data fetch mnist`) and the bundled model "digits-judge".

    mlp    784 noisy pixels, a time and a digit in, 784 noise values out: 4 residual layers 728 wide
    unet   the same of 14 x 14 pixels of 4 values (2 x 2 folded), 16 and 32 channels at two sizes, no
           attention

Both predict eps on DDPM's linear schedule (1,000 levels), see as many digits, and are sampled alike: DDPM's
rule, estimates kept in [-1, 1], by the label alone (scale 1) and guided away from no label. The judge reads
the digits; FID and KID are in its features, against as many real ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from unnoise.base.sheet import tile
from unnoise.data import load
from unnoise.data.transforms import permutation
from unnoise.evaluate import Judge, fid, kid, load_judge
from unnoise.guide import cfg_batched, clip
from unnoise.process import noise
from unnoise.sample import SAMPLERS, last
from unnoise.train import fit, objective
from unnoise.train.recipe import parse
from unnoise.train.validation import Validation

CALLS, DIGITS = 20, 10
ARMS = {
    "mlp": {"kind": "mlp", "width": 728, "layers": 4},
    "unet": {
        "kind": "unet",
        "block_out_channels": [16, 32],
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
        "mid_block_type": "UNetMidBlock2D",
        "attention_head_dim": 32,
        "norm_num_groups": 8,
    },
}


def recipe(net: dict, seed: int, steps: int) -> dict:
    """The recipe of one model."""
    return {
        "name": "noise-predictor",
        "seed": seed,
        "patch": 2,
        "data": {"name": "mnist"},
        "net": net,
        "process": {"schedule": "ddpm", "predict": "eps", "weight": "snr", "drop_label": 0.1},
        "train": {"steps": steps, "batch": 64, "lr": 2e-3, "warmup": min(50, steps), "ema": [0.1, 0.2]},
        "log": {"validation_samples": 256},
    }


def trained(net: dict, seed: int, steps: int) -> tuple[fit.Run, float]:
    """The run at its end, and the seconds of one processor that it took."""
    run, began = fit.prepare(parse(recipe(net, seed, steps))), time.process_time()
    for s in fit.fit(run):
        if s.step % 100 == 0:
            print(f"  step {s.step} of {steps}, loss {s.loss:.4f}", file=sys.stderr)
    return run, time.process_time() - began


def work(run: fit.Run) -> float:
    """Floating-point operations of one sample's forward pass."""
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        run.net(
            torch.zeros(run.source.codec.shape(1)), torch.zeros(1), labels=torch.zeros(1, dtype=torch.long)
        )
    return counted.get_total_flops()


@torch.no_grad()
def draw(run: fit.Run, n: int, seed: int, scale: float) -> np.ndarray:
    """n digits 0, 1, …, 9, 0, …, by the averaged weights."""
    process, net = objective.resolve(run.recipe.process), run.net.eval()
    net.load_state_dict(run.ema[0].weights)
    bind = lambda labels: process.denoiser(lambda x, t: net(x, t, labels=labels))
    asked = torch.arange(n) % DIGITS
    denoise = clip(cfg_batched(bind, asked, torch.full((n,), DIGITS), scale), -1, 1)
    seeds, path = range(seed, seed + n), process.curve.path(CALLS)
    x = noise.seeded(seeds, "init")(torch.zeros(run.source.codec.shape(n))) * float(path[0].sigma)
    return run.source.codec.decode(last(SAMPLERS["ddpm"](denoise, x, path, noise.seeded(seeds))))


def real(split: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n real digits, as many of each, and which they are."""
    d = load("mnist", split)
    assert d.labels is not None
    order = permutation(len(d), 0, 0)
    pick = np.concatenate([order[d.labels[order] == k][: n // DIGITS] for k in range(DIGITS)])
    return d.x[pick], d.labels[pick]


def judged(judge: Judge, images: np.ndarray, asked: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """The share that the judge reads as asked, and the distances of its features from the reference's."""
    seen, classes = judge.look(images), np.sort(asked)
    return {
        "right": float((seen.said() == asked).mean()),
        "fid": fid(seen.features, reference),
        "kid": kid(seen.features, reference, asked, classes)[0],
    }


def one(
    net: dict, seed: int, a: argparse.Namespace, judge: Judge, reference: np.ndarray
) -> tuple[dict, np.ndarray]:
    """What is measured of one model, and its guided digits."""
    run, seconds = trained(net, seed, a.steps)
    asked, out = np.arange(a.images) % DIGITS, {}
    for name, scale in (("plain", 1.0), ("guided", a.guidance)):
        images = draw(run, a.images, 10_000 * seed, scale)
        out[name] = judged(judge, images, asked, reference)
    return {
        "parameters": sum(p.numel() for p in run.net.parameters()),
        "mflop": work(run) / 1e6,
        "seconds": round(seconds, 1),
        "loss": Validation(run)(run)["loss"],
        **out,
    }, images


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    p.add_argument(
        "--out", type=Path, help="a folder for models' numbers and digits; what it holds is not made again"
    )
    p.add_argument("--quick", action="store_true", help="one seed, a few steps: does it run?")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--steps", type=int, default=1500)
    p.add_argument("--images", type=int, default=400)
    p.add_argument("--guidance", type=float, default=2.0)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if a.quick:
        a.seeds, a.steps, a.images = 1, 4, 20
    if a.images < 20 or a.images % DIGITS:
        p.error(f"--images must be a multiple of {DIGITS} of at least 20, given {a.images}")
    torch.set_num_threads(1)
    judge, (test, labels), (train, others) = load_judge(), real("test", a.images), real("train", a.images)
    look = judge.look(test)
    report = {
        "steps": a.steps,
        "images": a.images,
        "guidance": a.guidance,
        "calls": CALLS,
        "results": {},
        "real": {
            "right": float((look.said() == labels).mean()),
            **{k: v for k, v in judged(judge, train, others, look.features).items() if k != "right"},
        },
    }
    shown = {}
    for seed in range(a.seeds):
        for name, net in ARMS.items():
            file = a.out / f"{name}-{seed}.json" if a.out else None
            if file and file.exists():
                told = json.loads(file.read_text())
            else:
                print(f"seed {seed}, {name}", file=sys.stderr)
                told, shown[name] = one(net, seed, a, judge, look.features)
                if file:
                    keep(file, told, shown[name])
            report["results"].setdefault(name, []).append(told)
    if a.out:
        (a.out / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report) if a.json else table(report))


def keep(file: Path, told: dict, images: np.ndarray) -> None:
    """Write the digits, twice each, and then the numbers."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tile(images[:20], 10)).save(file.with_suffix(".png"))
    file.write_text(json.dumps(told))


def table(r: dict) -> str:
    """Markdown: the mean, and every seed's value."""

    def cell(name: str, key: str, by: str = "", scale: float = 1, digits: int = 0) -> str:
        v = [scale * (t[by] if by else t)[key] for t in r["results"][name]]
        return f"{np.mean(v):.{digits}f} ({', '.join(f'{u:.{digits}f}' for u in v)})"

    head = (
        "| | parameters | MFLOP a sample | seconds | held-out loss | % right by label | % right at guidance"
        f" {r['guidance']:g} | FID | KID |"
    )
    rows = [head, "|---|" + "---|" * 8]
    for name, runs in r["results"].items():
        size = (
            f"{runs[0]['parameters'] / 1e6:.2f} M | {runs[0]['mflop']:.1f} | {cell(name, 'seconds')} |"
            f" {cell(name, 'loss', digits=3)}"
        )
        rows.append(
            f"| {name} | {size} | {cell(name, 'right', 'plain', 100)} | {cell(name, 'right', 'guided', 100)}"
            f" | {cell(name, 'fid', 'guided', digits=1)} | {cell(name, 'kid', 'guided', digits=2)} |"
        )
    real = r["real"]
    return "\n".join(
        [
            *rows,
            (
                f"| real digits | | | | | {100 * real['right']:.0f} | {100 * real['right']:.0f} |"
                f" {real['fid']:.1f} | {real['kid']:.2f} |"
            ),
        ]
    )


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
