"""Make a bundled model from a finished run: fp16 weights and a card in src/unnoise/models/NAME.

    python recipes/bundle.py RUN_FOLDER [--metrics evaluate.json] [--notes notes.md] [--guidance 2.0 --steps 20 …]

The card states what is measured: data and its licence, recipe, steps, seconds and machine, validation, then the metrics that
`unnoise evaluate --json` printed, then the notes (known failures), which a person writes.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import torch

from unnoise import hub
from unnoise.data import load as load_data
from unnoise.train.recipe import parse


def card(run: Path, recipe, metrics: dict | None, notes: str) -> str:
    """The model's README.md."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    train, final = [e for e in log if e["event"] == "train"], [e for e in log if e["event"] == "final"][-1]
    seconds = sum(recipe.log.every * recipe.train.batch / e["images_per_s"] for e in train)
    data = load_data(recipe.data.name, recipe.data.split)
    facts = {"recipe": f"`recipes/{recipe.name}.toml`, seed {recipe.seed}", "data": f"{data.name} ({len(data)} items, sha256 {data.sha256[:16]}…)",
             "licence of the data": data.licence, "licence of the weights": "MIT",
             "steps": f"{final['step']} of {recipe.train.batch} samples ({final['step'] * recipe.train.batch / len(data):.1f} epochs)",
             "time": f"{seconds:.0f} s of training steps", "machine": f"{os.cpu_count()} CPU threads ({platform.machine()}), torch {torch.__version__}",
             "weights": f"float16 of `{recipe.train.export}` (training ran in float32)"}
    rows = "\n".join(f"| {k} | {v} |" for k, v in facts.items())
    values = "\n".join(f"| {k} | {v:.5g} |" for k, v in final.items() if isinstance(v, float))
    text = f"# {recipe.name}\n\n| | |\n|---|---|\n{rows}\n\nValidation (held-out data, fixed noise):\n\n| | |\n|---|---|\n{values}\n"
    if metrics: text += "\n## Measured\n\n" + "\n".join(f"- {k}: {_show(v)}" for k, v in metrics.items()) + "\n"
    return text + (f"\n{notes.strip()}\n" if notes else "")


def _show(v) -> str:
    return f"{v:.5g}" if isinstance(v, float) else json.dumps(v) if isinstance(v, (dict, list)) else str(v)


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("run", type=Path)
    p.add_argument("--metrics", type=Path)
    p.add_argument("--notes", type=Path)
    p.add_argument("--guidance", type=float)
    p.add_argument("--steps", type=int)
    p.add_argument("--sampler")
    p.add_argument("--spacing")
    p.add_argument("--out", type=Path, default=hub.BUNDLED)
    a = p.parse_args()
    recipe = parse(json.loads((a.run / "recipe.json").read_text()))
    f = hub.load(a.run / "model")
    defaults = {"guidance_scale": a.guidance, "num_inference_steps": a.steps, "sampler": a.sampler, "spacing": a.spacing}
    metrics = json.loads(a.metrics.read_text()) if a.metrics else None
    notes = a.notes.read_text() if a.notes else ""
    out = hub.save(a.out / recipe.name, name=recipe.name, kind=f.kind, net=f.net, weights=None, codec=f.codec, words=f.words, process=f.process,
                   defaults={k: v for k, v in defaults.items() if v is not None}, card=card(a.run, recipe, metrics, notes), dtype=torch.float16)
    print(out, sum(x.stat().st_size for x in out.rglob("*") if x.is_file()), "bytes")


if __name__ == "__main__":
    main()
