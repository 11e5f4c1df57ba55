"""Fingerprints: (sampler, seed) gives the same image for ever, or `unnoise.sample.REVISION` says that it no
longer does.

golden.json holds the first sample of a run of every sampler, at default options. After a change that was
meant to move one, raise REVISION in src/unnoise/sample/__init__.py and run `python
tests/sample/test_golden.py`, which writes the file anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from unnoise import sample
from unnoise.denoiser.oracle import Mixture
from unnoise.process import level
from unnoise.process.noise import draw, seeded
from unnoise.sample import SAMPLERS, last, rewind

FILE = Path(__file__).with_name("golden.json")
WORLD = Mixture([[-1.0, 0.5], [0.75, -0.25]], [0.25, 0.5], [0.375, 0.625])
SEEDS = (11, 12)


def fingerprint(name: str) -> list[float]:
    p = [level.vp(k / 2) for k in range(-10, 11, 2)] + [level.clean()]
    out = []
    for levels in (p, rewind(p, 2, 4)):
        x = levels[0].sigma * torch.stack([draw(s, "start", 0, (2,)) for s in SEEDS])
        out.append(last(SAMPLERS[name](WORLD, x, levels, seeded(SEEDS))))
    return [float(f"{v:.12g}") for v in torch.cat(out).flatten()]


def moved(golden: dict) -> list[str]:
    """The samplers whose fingerprint is not the one kept."""
    close = lambda a, b: len(a) == len(b) and all(abs(u - v) <= 1e-9 * max(1, abs(u)) for u, v in zip(a, b))
    return [n for n in SAMPLERS if n in golden["samples"] and not close(golden["samples"][n], fingerprint(n))]


def test_fingerprints_move_only_with_the_revision():
    golden = json.loads(FILE.read_text())
    changed = moved(golden)
    assert golden["revision"] == sample.REVISION, (
        f"golden.json is of another revision: run {Path(__file__).name}"
    )
    assert not changed, (
        f"{changed} give other images for the same seed: undo that, or raise REVISION and run this file"
    )


def test_every_sampler_has_a_fingerprint():
    assert json.loads(FILE.read_text())["samples"].keys() == SAMPLERS.keys(), f"run {Path(__file__).name}"


if __name__ == "__main__":
    old = json.loads(FILE.read_text()) if FILE.exists() else {"revision": sample.REVISION, "samples": {}}
    if (names := moved(old)) and old["revision"] == sample.REVISION:
        raise SystemExit(f"{names} moved: raise REVISION first")
    new = {"revision": sample.REVISION, "samples": {n: fingerprint(n) for n in SAMPLERS}}
    FILE.write_text(json.dumps(new, indent=1) + "\n")
