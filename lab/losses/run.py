"""What does another loss than the squared error buy? Huber, min-SNR, perceptual and self-perceptual losses at
equal steps, judged by independent features.

    python lab/losses/run.py [--out runs/losses] [--seeds 3] [--steps 200] [--outlier-steps 300] [--quick]
    [--json]

Real 8 x 8 digits (scikit-learn's; a conditional UNet of 0.14 M parameters). Arms differ in [objective] and
[process] of one recipe, nothing else:

    mse              the squared error of v
    huber            2 c (sqrt(d^2 + c^2) - c) of its entries, c = 0.1
    min_snr          the squared error of x0 weighed by min(SNR, 5) in place of SNR + 1
    perceptual       mse + 0.1 x the distance of x0's estimate and x0 in a small classifier's stages
    self_perceptual  mse + 0.1 x the distance in the middle of the frozen network of the arm `mse`
    combined         huber, min_snr and perceptual

Judged by the Fréchet distance to the held-out digits, classes as there: in a classifier of other widths,
patches and seed than the loss's, in plain pixels (no network at all), and, to show how it flatters, in the
loss's own classifier. Then the claim for Huber: a tenth of the training pictures is replaced by noise, and an
MLP trained by each loss on these and on the clean ones is held against the clean digits.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unnoise import data, hub, pipeline
from unnoise.base.sheet import tile
from unnoise.evaluate import metrics
from unnoise.process import noise
from unnoise.sample import SAMPLERS, last
from unnoise.train import run
from unnoise.train.recipe import parse

UNET = {
    "kind": "unet",
    "block_out_channels": [32],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "norm_num_groups": 8,
}  # on 2 x 2 pixels folded into channels
MLP = {"kind": "mlp", "width": 128, "layers": 3}
SHARE, C, STEPS = 0.1, 0.1, 16  # of the features, Huber's, of the sampler
ARMS: dict[str, dict] = {
    "mse": {},
    "huber": {"objective": {"loss": "huber", "c": C}},
    "min_snr": {"process": {"weight": "min_snr"}},
    "perceptual": {"objective": {"features": "{judge}", "share": SHARE}},
    "self_perceptual": {"objective": {"features": "{mse}", "share": SHARE}},
    "combined": {
        "objective": {"loss": "huber", "c": C, "features": "{judge}", "share": SHARE},
        "process": {"weight": "min_snr"},
    },
}
OUTLIERS = {"mse": {}, "huber": {"loss": "huber", "c": C}, "huber_norm": {"loss": "huber_norm", "c": C}}
SHARE_OF_OUTLIERS = 0.1
LOG = {"every": 50, "save": 10**6, "validate_every": 10**6, "validation_samples": 64, "tensorboard": False}


def trained(folder: Path, name: str, net: dict, seed: int, steps: int, **sections: Any) -> tuple[Path, float]:
    """(the model's folder, CPU seconds a step) of one recipe."""
    d = {"name": name, "seed": seed, "data": {"name": "digits8"}, "net": net, "log": LOG, **sections}
    d["train"] = {
        "steps": steps,
        "batch": 64,
        "lr": 2e-3,
        "warmup": 50,
        "ema": [0.1, 0.2],
        **d.get("train", {}),
    }
    clock: list[float] = []
    done = run.train(parse(d), folder / name, report=lambda s, n: clock.append(time.process_time()))
    return Path(done["folder"]), (clock[-1] - clock[0]) / max(len(clock) - 1, 1)


def classifier(folder: Path, name: str, widths: list[int], patch: int, seed: int, steps: int) -> Path:
    net = {"kind": "classifier", "widths": widths, "features": 32, "dropout": 0.1}
    return trained(
        folder, name, net, seed, steps, task="classify", patch=patch, data={"name": "digits8", "shift": 1}
    )[0]


def filled(arm: dict, places: dict[str, str]) -> dict:
    """The arm with the folders of the models that it names."""
    return {
        k: {q: v.format(**places) if isinstance(v, str) else v for q, v in section.items()}
        for k, section in arm.items()
    }


@torch.no_grad()
def pictures(folder: Path, labels: np.ndarray, seed: int) -> np.ndarray:
    """uint8 (n, 8, 8, 1) of these classes."""
    pipe = pipeline.Pipeline(hub.load(folder))
    assert pipe.words is not None
    denoise = pipe.denoiser([pipe.words.words[i] for i in labels])
    path = pipe.schedule.path(STEPS, "trailing")
    x = noise.seeded(range(10_000 * seed, 10_000 * seed + len(labels)), "init")(
        torch.zeros(pipe.codec.shape(len(labels)))
    ) * float(path[0].sigma)
    return pipe.codec.decode(last(SAMPLERS["dpmpp_2m"](denoise, x, path)))


@torch.no_grad()
def features(folder: Path, x: np.ndarray) -> np.ndarray:
    """(n, width) of a classifier's folder."""
    f: Any = hub.load(folder)
    return f.net.eval().embed(f.codec.encode(x)).double().numpy()


def distances(x: np.ndarray, real: np.ndarray, judges: dict[str, Path]) -> dict[str, float]:
    """Fréchet distances of two sets of pictures: by each judge's features, and by pixels in [0, 1]."""
    flat = lambda a: a.reshape(len(a), -1) / 255.0
    return {
        **{k: metrics.fid(features(j, x), features(j, real)) for k, j in judges.items()},
        "pixels": metrics.fid(flat(x), flat(real)),
    }


def losses(folder: Path, seed: int, steps: int, judges: dict[str, Path]) -> dict:
    """{arm: distances and seconds a step}, of one seed."""
    real, places, out = data.load("digits8", "test"), {"judge": str(judges["own"])}, {}
    for name, arm in ARMS.items():
        print(f"seed {seed}, {name}", file=sys.stderr)
        model, seconds = trained(folder, f"{name}-{seed}", UNET, seed, steps, patch=2, **filled(arm, places))
        places[name] = str(model)
        out[name] = {**distances(pictures(model, real.labels, seed), real.x, judges), "seconds": seconds}
    return out


def corrupted(folder: Path, seed: int) -> Path:
    """A file of the training digits of which a tenth, drawn by seed, is uniform noise, beside the clean
    held-out ones.
    """
    train, test = (data.load("digits8", s) for s in ("train", "test"))
    u = noise.uniform(seed, "lab/outliers", 0, (len(train.x),)).numpy() < SHARE_OF_OUTLIERS
    x = train.x.copy()
    x[u] = (noise.uniform(seed, "lab/outliers", 1, x[u].shape).numpy() * 256).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / f"corrupted-{seed}.npz",
        x_train=x,
        labels_train=train.labels,
        x_test=test.x,
        labels_test=test.labels,
        words=np.array(train.words),
    )
    return folder / f"corrupted-{seed}.npz"


def outliers(folder: Path, seed: int, steps: int, judges: dict[str, Path]) -> dict:
    """{loss: {"clean", "corrupted": distances to the clean held-out digits}}, of one seed."""
    real, out = data.load("digits8", "test"), {}
    for name, objective in OUTLIERS.items():
        for kind, source in (("clean", "digits8"), ("corrupted", str(corrupted(folder, seed)))):
            print(f"seed {seed}, {name} on {kind} digits", file=sys.stderr)
            model, _ = trained(
                folder,
                f"{kind}-{name}-{seed}",
                MLP,
                seed,
                steps,
                objective=objective,
                data={"name": source},
                train={"batch": 128},
            )
            out.setdefault(name, {})[kind] = distances(
                pictures(model, real.labels, seed), real.x, {"other": judges["other"]}
            )
    return out


# --- telling ------------------------------------------------------------------------------------------------


def spread(values: list[float], scale: float = 1.0) -> str:
    """Mean and, in brackets, the least and the greatest."""
    v = [scale * x for x in values]
    return f"{np.mean(v):.3g} ({min(v):.3g}, {max(v):.3g})"


COLUMNS = {
    "other": "FD, independent classifier",
    "pixels": "FD, pixels",
    "own": "FD, the loss's own classifier",
    "seconds": "CPU ms a step",
}


def table(r: dict) -> str:
    """Markdown."""
    rows = ["| loss | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---|" * len(COLUMNS)]
    cell = lambda name, q: spread([s[name][q] for s in r["losses"]], 1000 if q == "seconds" else 1)
    rows += [f"| {name} | " + " | ".join(cell(name, q) for q in COLUMNS) + " |" for name in ARMS]
    rows += [
        "| real training digits | "
        + " | ".join(f"{r['floor'][q]:.3g}" if q in r["floor"] else "" for q in COLUMNS)
        + " |"
    ]
    rows += [
        "",
        "| loss | trained on clean | a tenth noise | by how much worse | pixels: clean | a tenth noise |",
        "|---|---|---|---|---|---|",
    ]
    for name in OUTLIERS:
        at = lambda kind, q, name=name: [s[name][kind][q] for s in r["outliers"]]
        worse = [b / a for a, b in zip(at("clean", "other"), at("corrupted", "other"))]
        rows.append(
            f"| {name} | {spread(at('clean', 'other'))} | {spread(at('corrupted', 'other'))} | x"
            f" {spread(worse)} | {spread(at('clean', 'pixels'))} | {spread(at('corrupted', 'pixels'))} |"
        )
    return "\n".join(rows)


def picture(folder: Path, seed: int):
    """Two rows of digits, 0 to 9 twice, by each arm; the last pair is real."""
    from PIL import Image

    real, labels = data.load("digits8", "test"), np.tile(np.arange(10), 2)
    assert real.labels is not None
    rows = [pictures(folder / f"{name}-{seed}" / "model", labels, seed + 50) for name in ARMS]
    rows.append(np.stack([real.x[real.labels == k][i] for i in range(2) for k in range(10)]))
    return Image.fromarray(tile(np.concatenate(rows), 20)).resize(
        (20 * 32, len(rows) * 32), Image.Resampling.NEAREST
    )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument(
        "--out",
        type=Path,
        help=(
            "an empty or missing folder for the models, the report and the picture; what it holds whole is"
            " not trained again"
        ),
    )
    p.add_argument("--quick", action="store_true", help="one seed, a few steps: does it run?")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--outlier-steps", type=int, default=300)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    judging = 400
    if a.quick:
        a.seeds, a.steps, a.outlier_steps, judging = 1, 4, 4, 4
    torch.set_num_threads(1)
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as scratch:
        folder, began = a.out or Path(scratch), time.perf_counter()
        judges = {"own": folder / "judge-own" / "model", "other": folder / "judge-other" / "model"}
        for k, widths, patch, seed in (("own", [32, 64], 2, 100), ("other", [24, 48], 1, 200)):
            if not judges[k].exists():
                classifier(folder, f"judge-{k}", widths, patch, seed, judging)
        real, other = data.load("digits8", "test"), data.load("digits8", "train")
        r: dict = {
            "steps": a.steps,
            "seeds": a.seeds,
            "floor": distances(other.x[: len(real.x)], real.x, judges),
        }
        for key, make, steps in (("losses", losses, a.steps), ("outliers", outliers, a.outlier_steps)):
            r[key] = [
                _kept(
                    folder / f"{key}-{s}.json",
                    lambda s=s, make=make, steps=steps: make(folder, s, steps, judges),
                )
                for s in range(a.seeds)
            ]
        r["seconds"] = round(time.perf_counter() - began, 1)
        if a.out:
            (folder / "report.json").write_text(json.dumps(r, indent=1))
            picture(folder, 0).save(folder / "losses.png", optimize=True)
    print(json.dumps(r) if a.json else table(r))


def _kept(file: Path, make) -> dict:
    """What `make` gives, from the file where it exists, and put there otherwise."""
    if not file.exists():
        file.write_text(json.dumps(make()))
    return json.loads(file.read_text())


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
