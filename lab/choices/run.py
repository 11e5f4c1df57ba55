"""Which network for the default model? Each arm trains for the same number of seconds on one thread, from the
same cached latents.

    python lab/choices/run.py [--seconds 150] [--arms A,B] [--out runs/choices.json] [--quick] [--json]

Compared is the loss on held-out scenes (the averaged weights, fixed noise at 8 levels), which arms of one
parameterisation and weight share. The learning rate is constant after its warm-up, so that no arm profits
from knowing where its time ends.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from unnoise.train import fit
from unnoise.train import recipe as recipes
from unnoise.train.validation import Validation

CROSS = lambda n: {
    "down_block_types": ["CrossAttnDownBlock2D"] * n,
    "up_block_types": ["CrossAttnUpBlock2D"] * n,
}
OUTER = {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
}
ARMS = {
    "128-256": (
        {"block_out_channels": [128, 256], "attention_head_dim": [4, 8], **CROSS(2)},
        {"initial": "torch"},
    ),
    "128-256 near-linear": (
        {"block_out_channels": [128, 256], "attention_head_dim": [4, 8], **CROSS(2)},
        {"initial": "near_linear"},
    ),
    "96-192 near-linear": (
        {"block_out_channels": [96, 192], "attention_head_dim": [3, 6], **CROSS(2)},
        {"initial": "near_linear"},
    ),
    "96-320 attention inside": (
        {"block_out_channels": [96, 320], "attention_head_dim": [3, 10], **OUTER},
        {"initial": "near_linear"},
    ),
}


def arm(base: Path, net: dict, train: dict, seconds: float) -> dict:
    import tomllib

    d = tomllib.loads(base.read_text())
    d["net"] |= net
    d["train"] |= {**train, "steps": 10**6}
    d["log"] |= {"validation_samples": 512}
    run = fit.prepare(recipes.parse(d))
    began, loss = time.perf_counter(), []
    for s in fit.fit(run):
        loss.append(s.loss)
        if s.step % 50 == 0:
            print(f"  step {s.step}, loss {sum(loss[-50:]) / 50:.4f}", file=sys.stderr)
        if time.perf_counter() - began > seconds:
            break
    values = Validation(run)(run)
    return {
        "parameters": sum(p.numel() for p in run.net.parameters()),
        "steps": run.step,
        "samples": run.step * run.recipe.train.batch,
        "samples_per_second": round(run.step * run.recipe.train.batch / (time.perf_counter() - began), 1),
        "validation": values["loss"],
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--recipe", type=Path, default=Path(__file__).parents[2] / "recipes" / "emoji.toml")
    p.add_argument("--seconds", type=float, default=150)
    p.add_argument("--arms", default=",".join(ARMS))
    p.add_argument("--out", type=Path)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if wrong := [arm for arm in a.arms.split(",") if arm not in ARMS]:
        p.error(f"unknown arm {wrong[0]!r} (accepted: {', '.join(ARMS)})")
    torch.set_num_threads(1)
    report = json.loads(a.out.read_text()) if a.out and a.out.exists() else {}
    for name in a.arms.split(","):
        print(name, file=sys.stderr)
        report[name] = arm(a.recipe, *ARMS[name], 5 if a.quick else a.seconds)
        if a.out:
            a.out.write_text(
                json.dumps(
                    {**(json.loads(a.out.read_text()) if a.out.exists() else {}), name: report[name]},
                    indent=1,
                )
            )
    print(json.dumps(report) if a.json else table(report))


def table(r: dict) -> str:
    """Markdown."""
    rows = ["| network | parameters | samples/s | samples | held-out loss |", "|---|---|---|---|---|"]
    cells = lambda v: (
        f"{v['parameters'] / 1e6:.1f} M | {v['samples_per_second']} | {v['samples']} | {v['validation']:.4f}"
    )
    return "\n".join(rows + [f"| {k} | {cells(v)} |" for k, v in r.items()])


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
