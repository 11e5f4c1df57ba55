"""Make a bundled model from a finished run: fp16 weights and a card in src/unnoise/models/NAME.

    python recipes/bundle.py RUN_FOLDER [--with RUN …] [--clip RUN] [--metrics evaluate.json] [--notes
    notes.md] [--guidance 2.0 --steps 20 …]

The card states what is measured: data and its licence, recipe, steps, seconds and machine, validation (also
of the runs named by --with, on which this one builds), then the metrics that `unnoise evaluate --json`
printed, then the notes (known failures), which a person writes. --clip: the run whose image encoder goes
along with a text-to-image model. A run made on another machine says so in its file `machine`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import torch

from unnoise import hub
from unnoise.codec import Latents
from unnoise.data import load as load_data
from unnoise.data.emoji import load_emoji
from unnoise.data.prepare import attribution
from unnoise.hub import parts
from unnoise.text import known
from unnoise.train.recipe import Recipe, parse
from unnoise.worlds import WORLDS


def read(run: Path) -> tuple[Recipe, list[dict]]:
    return parse(json.loads((run / "recipe.json").read_text())), [
        json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()
    ]


def facts(run: Path) -> str:
    """One run's table: what it was made of and what it came to."""
    recipe, log = read(run)
    train, final = [e for e in log if e["event"] == "train"], [e for e in log if e["event"] == "final"][-1]
    seconds = sum(recipe.log.every * recipe.train.batch / e["images_per_s"] for e in train)
    samples = final["step"] * recipe.train.batch
    drawn = recipe.data.name in WORLDS
    if drawn:
        from unnoise.data.sources import SOURCES

        name = recipe.data.name.removesuffix("-scenes")
        d, licence = (
            recipe.data,
            SOURCES[name].licence.replace("; the unseen split CC-BY-SA-4.0", " (no share-alike artwork)"),
        )
        which = f"{d.concepts} commonest concepts" if d.concepts else "all concepts"
        data = f"scenes of {name}, {which}, {d.size} px" + (
            f", {d.cached} made once" if d.cached else ", each drawn once"
        )
    else:
        d = load_data(recipe.data.name, recipe.data.split)
        licence, data = d.licence, f"{d.name} ({len(d)} items, sha256 {d.sha256[:16]}…)"
    where = run.resolve().relative_to(Path("runs").resolve()) if drawn else Path(recipe.name)
    here = f"{os.cpu_count()} CPU threads ({platform.machine()}), torch {torch.__version__}"
    machine = (run / "machine").read_text().strip() if (run / "machine").is_file() else here
    rows = {
        "recipe": f"`recipes/{where}.toml`, seed {recipe.seed}",
        "data": data,
        "licence of the data": licence,
        "licence of the weights": "MIT",
        "steps": f"{final['step']} of {recipe.train.batch} samples ({samples:,} in all)",
        "time": f"{seconds:.0f} s of training steps",
        "machine": machine,
        "weights": (
            f"float16 of `{recipe.train.export}` (training ran in"
            f" {'float32' if recipe.train.precision == 'no' else recipe.train.precision})"
        ),
    }
    values = {k: v for k, v in final.items() if isinstance(v, float)}
    return (
        f"| | |\n|---|---|\n{table(rows)}\n\nValidation (held-out data, fixed noise):\n\n| |"
        f" |\n|---|---|\n{table(values)}\n"
    )


def artwork() -> str:
    """Who drew what the model learnt from, under which terms: Markdown."""
    lines = [line for line in attribution(load_emoji("emoji")).splitlines() if "evaluation only" not in line]
    lines[2] = (
        "The pictures that this model was trained on, recoloured, turned, scaled and combined into scenes;"
        " none of them is part of it."
    )
    return "\n".join(lines) + "\n"


def table(rows: dict) -> str:
    return "\n".join(f"| {k} | {_show(v)} |" for k, v in rows.items())


def _show(v) -> str:
    return f"{v:.5g}" if isinstance(v, float) else json.dumps(v) if isinstance(v, (dict, list)) else str(v)


def card(run: Path, others: list[Path], metrics: dict | None, notes: str) -> str:
    """The model's README.md."""
    text = f"# {read(run)[0].name}\n\n{facts(run)}"
    for other in others:
        text += f"\n## Made before: {read(other)[0].name}\n\n{facts(other)}"
    if metrics and "rows" in metrics:
        from unnoise.evaluate.scenes import SceneExam

        text += f"\n## Measured\n\n```\n{SceneExam.table(metrics)}\n```\n"
    elif metrics:
        text += "\n## Measured\n\n" + "\n".join(f"- {k}: {_show(v)}" for k, v in metrics.items()) + "\n"
    return text + (f"\n{notes.strip()}\n" if notes else "")


def _conditioned(f: hub.Folder) -> bool:
    """Whether words mean anything to the network: one without class embeddings takes none, whatever its data
    are called.
    """
    return bool(getattr(getattr(f.net, "config", None), "num_class_embeds", True))


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("run", type=Path)
    p.add_argument("--with", dest="others", type=Path, nargs="*", default=[])
    p.add_argument("--clip", type=Path)
    p.add_argument("--metrics", type=Path)
    p.add_argument("--notes", type=Path)
    p.add_argument("--guidance", type=float)
    p.add_argument("--steps", type=int)
    p.add_argument("--sampler")
    p.add_argument("--spacing")
    p.add_argument("--out", type=Path, default=hub.BUNDLED)
    a = p.parse_args()
    recipe = read(a.run)[0]
    f = hub.load(a.run / "model")
    defaults = {
        "upscale": f.defaults.get("upscale"),
        "guidance_scale": a.guidance,
        "num_inference_steps": a.steps,
        "sampler": a.sampler,
        "spacing": a.spacing,
    }
    codec = parts.centred(f.codec) if isinstance(f.codec, Latents) and f.codec.shift else f.codec
    metrics = json.loads(a.metrics.read_text()) if a.metrics else None
    notes = a.notes.read_text() if a.notes else ""
    out = hub.save(
        a.out / recipe.name,
        name=recipe.name,
        kind=f.kind,
        net=f.net,
        weights=None,
        codec=codec,
        words=f.words if _conditioned(f) else None,
        process=f.process,
        defaults={k: v for k, v in defaults.items() if v is not None},
        card=card(a.run, a.others, metrics, notes),
        dtype=torch.float16,
        text=f.text,
        known=known.load(a.run / "model"),
        clip=parts.load_clip(a.clip / "model").net if a.clip else None,
    )
    if recipe.data.name in WORLDS or recipe.data.name == "emoji":
        (out / "ATTRIBUTION.md").write_text(artwork())
    print(out, sum(x.stat().st_size for x in out.rglob("*") if x.is_file()), "bytes")


if __name__ == "__main__":
    main()
