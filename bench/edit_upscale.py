"""Super-resolution and denoising on held-out emoji: PSNR and a distance of features, beside bicubic and plain
filters.

    python -m bench.edit_upscale [--json] [--quick] [--n 48] [--model emoji-upscale] [--plain
    runs/emoji-upscale-plain/model] [--sheet PNG]

Pictures of the test split (64 px), their 2 x 2 averages upscaled. features: as LPIPS, the squared distance of
unit channel vectors, the mean over places and over the stages of a network that had no part in it,
"emoji-judge" (0 for equal pictures). corrupted: noise of .2 on the small picture; --plain is the network
trained without noise on what it is shown, and as long: what each loses is compared. Denoising: the noise of
the pictures is known, or estimated; filters are given the width that is best for each strength on the very
pictures, which is more than they could know.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import unnoise
from bench import common
from unnoise.data import load as load_data
from unnoise.edit import denoise, upscale
from unnoise.edit.run import psnr
from unnoise.evaluate.noise_level import estimate_sigma
from unnoise.worlds.judge import SCENES, Judge
from unnoise.worlds.judge import load as load_judge

NOISE = 0.2


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__ or "")
    p.add_argument("--n", type=int, default=48)
    p.add_argument("--model", default="emoji-upscale")
    p.add_argument("--plain")
    p.add_argument("--latent", default="emoji", help="a model of latents, which was not trained for either")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--sheet", type=Path)
    a = p.parse_args(argv)
    if a.threads:
        torch.set_num_threads(a.threads)
    n = 4 if a.quick else a.n
    x = load_data("emoji", "test").x
    x = x[np.random.default_rng(0).permutation(len(x))[:n]]
    judge, pipe, latent = load_judge(form=SCENES), unnoise.load(a.model), unnoise.load(a.latent)
    shown: dict[str, np.ndarray] = {}
    rows = (
        larger(x, pipe, latent, judge, shown)
        + corrupted(x, pipe, a.plain, judge)
        + denoised(x, pipe, latent, judge, shown)
    )
    if a.sheet:
        sheet(x, shown, a.sheet)
    common.report("edit_upscale", rows, a.json, n=n)


def halved(x: np.ndarray) -> np.ndarray:
    """uint8 (n, h, w, 3): averages of 2 x 2, rounded."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4)).round().astype(np.uint8)


def noised(x: np.ndarray, sigma: float) -> np.ndarray:
    eps = np.random.default_rng(1).standard_normal(x.shape)
    return (x + 127.5 * sigma * eps).round().clip(0, 255).astype(np.uint8)


def bicubic(x: np.ndarray) -> np.ndarray:
    return np.stack(
        [
            np.asarray(Image.fromarray(v).resize((2 * v.shape[1], 2 * v.shape[0]), Image.Resampling.BICUBIC))
            for v in x
        ]
    )


@torch.inference_mode()
def stages(judge: Judge, x: np.ndarray) -> list[Tensor]:
    """Unit channel vectors (n, c, h, w) after the stem and each stage."""
    h, out = F.relu(judge.net.stem(judge.codec.encode(x))), []
    for stage in (lambda v: v, *judge.net.stages):
        h = stage(h)
        out.append(F.normalize(h, dim=1))
    return out


def row(what: str, made: np.ndarray, x: np.ndarray, judge: Judge, **more) -> dict:
    """Means over the pictures, and the standard error of the PSNR."""
    each = np.array([psnr(m, t) for m, t in zip(made, x)])
    far = torch.stack(
        [(p - q).square().sum(1).mean((1, 2)) for p, q in zip(stages(judge, made), stages(judge, x))]
    ).mean(0)
    return {
        "what": what,
        **more,
        "psnr": float(each.mean()),
        "psnr_se": float(each.std() / len(each) ** 0.5),
        "features": float(far.mean()),
    }


def larger(x: np.ndarray, pipe, latent, judge: Judge, shown: dict) -> list[dict]:
    y = halved(x)
    ways = {
        "bicubic": lambda v: bicubic(v[None])[0],
        "network, 10 steps": lambda v: upscale(pipe, v, seed=0, num_inference_steps=10).arrays[0],
        "network, 10 steps, no consistency": (
            lambda v: upscale(pipe, v, seed=0, num_inference_steps=10, consistency="none").arrays[0]
        ),
        "network, 1 step (mean)": lambda v: upscale(pipe, v, seed=0, num_inference_steps=1).arrays[0],
        f"{latent.name}, not trained for it": (
            lambda v: upscale(latent, v, seed=0, num_inference_steps=20).arrays[0]
        ),
    }
    for k, way in ways.items():
        shown[k] = np.stack([way(v) for v in y])
    return [row(f"x 2, {k}", made, x, judge) for k, made in shown.items()]


def corrupted(x: np.ndarray, pipe, plain: str | None, judge: Judge) -> list[dict]:
    y, out = halved(x), []
    bad, how = noised(y, NOISE), {"seed": 0, "num_inference_steps": 10, "consistency": "none"}
    arms = {
        "bicubic": (None, [{}]),
        "with augmentation": (
            pipe,
            [{"noise": 0.0}, {"noise": 0.1}, {"noise": NOISE}, {"noise": 0.3}, {"noise": "estimate"}],
        ),
    }
    if plain:
        arms["without augmentation"] = (unnoise.load(plain), [{}])
    for name, (model, tellings) in arms.items():
        make = (
            (lambda v, t, model=model: upscale(model, v, **how, **t).arrays[0])
            if model
            else (lambda v, t: bicubic(v[None])[0])
        )
        fine = row("", np.stack([make(v, {}) for v in y]), x, judge)["psnr"]
        for told in tellings:
            r = row(
                f"x 2 of noise {NOISE}, {name}",
                np.stack([make(v, told) for v in bad]),
                x,
                judge,
                told=told.get("noise", "nothing"),
            )
            out.append({**r, "loses": fine - r["psnr"]})
    return out


def denoised(x: np.ndarray, pipe, latent, judge: Judge, shown: dict) -> list[dict]:
    out = []
    for sigma in (0.1, 0.3):
        y = noised(x, sigma)
        shown[f"noise {sigma}"] = y
        out.append(row(f"noise {sigma}, as it is", y, x, judge, estimated=float(estimate_sigma(y).mean())))
        filters = {
            "Gaussian filter": [(s, gaussian(y, s)) for s in (0.4, 0.6, 0.8, 1.0, 1.3)],
            "bilateral filter": [
                ((s, r), bilateral(y, s, r)) for s in (0.8, 1.5) for r in (1.5 * sigma, 3 * sigma, 5 * sigma)
            ],
        }
        for k, made in filters.items():
            width, best = max(made, key=lambda v: row("", v[1], x, judge)["psnr"])
            out.append(row(f"noise {sigma}, {k}, the best", best, x, judge, width=str(width)))
        ways = {
            "mean, known": (pipe, {"sigma": sigma}),
            "mean, estimated": (pipe, {}),
            "sample, known": (pipe, {"sigma": sigma, "sample": True, "num_inference_steps": 10}),
            f"{latent.name} (latents), mean, known": (latent, {"sigma": sigma}),
        }
        for k, (model, how) in ways.items():
            shown[f"{sigma} {k}"] = np.stack([denoise(model, v, seed=0, **how).arrays[0] for v in y])
            out.append(row(f"noise {sigma}, {k}", shown[f"{sigma} {k}"], x, judge))
    return out


def gaussian(y: np.ndarray, width: float) -> np.ndarray:
    return _filtered(y, width, None)


def bilateral(y: np.ndarray, width: float, reach: float) -> np.ndarray:
    """reach: the difference in colour, pictures running from -1 to 1, beyond which a neighbour counts little
    (Tomasi & Manduchi 1998).
    """
    return _filtered(y, width, reach)


def _filtered(y: np.ndarray, width: float, reach: float | None) -> np.ndarray:
    x, k = torch.from_numpy(y).movedim(-1, 1).double() / 127.5 - 1, max(2, round(2.5 * width))
    wide, h, w = F.pad(x, (k,) * 4, mode="replicate"), *x.shape[2:]
    total, weight = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for dy in range(-k, k + 1):
        for dx in range(-k, k + 1):
            part = wide[:, :, k + dy : k + dy + h, k + dx : k + dx + w]
            share = np.exp(-(dy * dy + dx * dx) / (2 * width**2)) * torch.ones_like(weight)
            if reach is not None:
                share = share * torch.exp(-(part - x).square().mean(1, keepdim=True) / (2 * reach**2))
            total, weight = total + share * part, weight + share
    return (((total / weight).movedim(1, -1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def sheet(x: np.ndarray, shown: dict[str, np.ndarray], file: Path, columns: int = 8) -> None:
    """A row for each way, the truth first; names on the left."""
    from PIL import ImageDraw

    rows = {"the picture": x, **shown}
    im = Image.new("RGB", (230 + 66 * columns, 66 * len(rows)), "white")
    for j, (name, made) in enumerate(rows.items()):
        ImageDraw.Draw(im).text((4, 66 * j + 26), name, fill="black")
        for i, m in enumerate(made[:columns]):
            im.paste(Image.fromarray(m), (230 + 66 * i, 66 * j + 1))
    im.quantize(128).save(file, optimize=True)


if __name__ == "__main__":
    main()
