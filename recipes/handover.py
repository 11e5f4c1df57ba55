"""Hand weights over, from one machine, recipe or world to the next: a run, or a model and another text
encoder, to a model folder.

    python recipes/handover.py --run runs/default/world --out runs/default/start/model [--weights ema1]
    [--half] python recipes/handover.py --run runs/default/words --weights raw --out
    runs/default/words-now/model python recipes/handover.py --model emoji --text runs/default/words/model
    --out runs/default/start/model

The first two take the newest whole checkpoint of a run that goes on meanwhile; --half writes float16, for a
snapshot that is committed. Another recipe begins with the folder (train.start). A checkpoint that fits no
longer, a world that is not fetched, a full disk: one line, exit 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from unnoise import hub
from unnoise.errors import BadInput
from unnoise.hub import parts
from unnoise.text import known
from unnoise.train import checkpoint, fit
from unnoise.train.recipe import parse


def from_run(run: Path, out: Path, which: str, half: bool) -> Path:
    """The model of a run's newest checkpoint: "raw", "ema0" or "ema1"."""
    try:
        recipe = parse(json.loads((run / "recipe.json").read_bytes()), str(run / "recipe.json"))
    except (OSError, ValueError) as e:
        raise BadInput(f"{run} is no training run: {getattr(e, 'strerror', None) or e}") from e
    found = checkpoint.newest(run / "checkpoints")
    if found is None:
        raise BadInput(f"{run} has no whole checkpoint")
    if which not in found[0]:
        raise BadInput(
            f"{run} keeps no {which!r} (it keeps {', '.join(k for k in found[0] if k != 'optimizer')})"
        )
    made = fit.prepare(
        recipe.model_copy(update={"train": recipe.train.model_copy(update={"start": "", "workers": 0})})
    )
    weights = found[0][which]
    fit_or_say(made.net, weights, run)
    made.net.load_state_dict(weights)
    folder = made.task.save(made.net, made.source, recipe.name, out)
    if half and recipe.task in ("denoise", "classify"):
        folder = halved(folder)
    print(f"step {found[1]['step']} ({found[1]['step'] * recipe.train.batch:,} samples)", file=sys.stderr)
    return folder


def fit_or_say(net: torch.nn.Module, weights: dict[str, torch.Tensor], where: Path) -> None:
    """BadInput names the first tensor that is not there or has another shape."""
    for name, own in net.state_dict().items():
        if name not in weights or weights[name].shape != own.shape:
            there = f"has shape {tuple(weights[name].shape)} there" if name in weights else "is not there"
            raise BadInput(f"{where}: {name} {there}, its recipe asks for {tuple(own.shape)}")


def with_text(model: str, text: str, out: Path) -> Path:
    """A model that reads by another text encoder, of the same shape and with the same tokenizer."""
    f, other = hub.load(model), parts.load_text(text)
    if f.text is None or f.text.tokenizer.vocab != other.tokenizer.vocab:
        raise BadInput(f"{text} has another tokenizer than {model}")
    fit_or_say(f.text.net, other.net.state_dict(), Path(text))
    return hub.save(
        out,
        name=f.name,
        kind=f.kind,
        net=f.net,
        weights=None,
        codec=f.codec,
        words=None,
        process=f.process,
        defaults=f.defaults,
        text=other,
        known=known.load(f.path) if f.path else None,
    )


def halved(folder: Path) -> Path:
    f = hub.load(folder)
    return hub.save(
        folder,
        name=f.name,
        kind=f.kind,
        net=f.net,
        weights=None,
        codec=f.codec,
        words=f.words,
        process=f.process,
        defaults=f.defaults,
        text=f.text,
        dtype=torch.float16,
        known=known.load(folder),
    )


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", type=Path)
    p.add_argument("--weights", default="ema0", choices=("raw", "ema0", "ema1"))
    p.add_argument("--half", action="store_true")
    p.add_argument("--model")
    p.add_argument("--text")
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args(argv)
    try:
        if (a.run is None) == (a.model is None) or (a.model is None) != (a.text is None):
            raise BadInput("give --run, or --model and --text")
        print(from_run(a.run, a.out, a.weights, a.half) if a.run else with_text(a.model, a.text, a.out))
    except BadInput as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
