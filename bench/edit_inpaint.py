"""Inpainting on the default model: bytes outside the mask, and how well each method completes real pictures.

    python -m bench.edit_inpaint [--model emoji] [--masks 200] [--n 48] [--steps 20] [--json] [--quick]
    [--sheet docs/edit/inpaint.png]

bytes: through the command, `masks` pictures of random sizes (some with alpha), each with a random mask; then
one picture ten times over. methods: n held-out pictures of one thing; the right half of each is drawn anew
under its name. noun: how often the judge names the thing; "none" is with grey there, "picture" the untouched
one. seam: the mean step from a pixel outside to its neighbour inside the mask, over that of the untouched
pictures. change: root mean square of what was drawn against what had been there, of 255 (many completions are
right). inside: the squared error of v within random masks (those of training, but none of the whole picture),
of held-out scenes under their captions.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import unnoise
from bench import common
from unnoise.cli.main import main as cli
from unnoise.data.nouns import phrase
from unnoise.edit.inpaint import METHODS, Filling, fill, takes_mask
from unnoise.edit.picture import Picture, encoded, read
from unnoise.edit.run import Run, asked
from unnoise.pipeline import Pipeline, picture
from unnoise.process import noise
from unnoise.process.level import corrupt
from unnoise.show import sheet
from unnoise.train import inpaint as training
from unnoise.train.upscale import seeing
from unnoise.worlds.emoji.scenes import Scenes
from unnoise.worlds.judge import SCENES, load

HOW: Any = {
    "guidance_scale": 5.0,
    "sampler": "dpmpp_2m",
    "spacing": "trailing",
}  # the default model's own, for every model


def command(*argv: object) -> None:
    """The command in this process; an error ends the bench."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            code = cli([str(a) for a in argv])
        except SystemExit as e:
            code = e.code
    if code:
        raise RuntimeError(said.getvalue())


def random_mask(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """A rectangle, an ellipse, dots, or grey values, never empty."""
    y, x = np.mgrid[:h, :w]
    cy, cx, ry, rx = (
        rng.random() * h,
        rng.random() * w,
        (0.1 + rng.random() / 2) * h,
        (0.1 + rng.random() / 2) * w,
    )
    kinds = (
        (abs(y - cy) < ry) & (abs(x - cx) < rx),
        ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1,
        rng.random((h, w)) < 0.2,
        rng.random((h, w)) < 0.5,
    )
    k = rng.integers(4)
    m = kinds[k] * (rng.integers(1, 256, (h, w)) if k == 3 else 255)
    m[int(cy), int(cx)] = 255
    return m.astype(np.uint8)


def bytes_outside(model: str, masks: int, passes: int = 10, steps: int = 2) -> dict:
    """Bytes changed outside the mask, over `masks` commands and after `passes` over one picture."""
    rng, changed, inside, looked = np.random.default_rng(0), 0, 0, 0
    with tempfile.TemporaryDirectory() as tmp:
        source, mask, out = Path(tmp, "a.png"), Path(tmp, "m.png"), Path(tmp, "o.png")
        for k in range(masks):
            h, w = rng.integers(9, 130, 2)
            a, m = rng.integers(0, 256, (h, w, 4 if k % 4 == 0 else 3), np.uint8), random_mask(rng, h, w)
            for array, file in ((a, source), (m, mask)):
                Image.fromarray(array).save(file)
            command(
                "edit",
                "inpaint",
                source,
                "an apple",
                "--mask",
                mask,
                "--model",
                model,
                "--steps",
                steps,
                "--seed",
                k,
                "-o",
                out,
            )
            want, got = read(a).whole(), np.asarray(Image.open(out))
            changed, looked, inside = (
                changed + int((got != want)[m == 0].sum()),
                looked + int(want[m == 0].size),
                inside + int((got != want)[m > 0].sum()),
            )
        a, covered = rng.integers(0, 256, (67, 90, 3), np.uint8), np.zeros((67, 90), bool)
        Image.fromarray(a).save(source)
        for k in range(passes):
            m = np.zeros((67, 90), np.uint8)
            y, x = rng.integers(0, 50, 2)
            m[y : y + 15, x : x + 20] = 255
            covered |= m > 0
            Image.fromarray(m).save(mask)
            command(
                "edit",
                "inpaint",
                source,
                "an apple",
                "--mask",
                mask,
                "--model",
                model,
                "--steps",
                steps,
                "--seed",
                k,
                "-o",
                source,
                "--overwrite",
            )
        after = int((np.asarray(Image.open(source)) != a)[~covered].sum())
    return {
        "what": "bytes",
        "commands": masks,
        "bytes outside": looked,
        "changed outside": changed,
        "changed inside": inside,
        "passes": passes,
        "changed outside after them": after,
    }


def step(made: np.ndarray, edge: int) -> float:
    return float(np.abs(made[:, :, edge].astype(float) - made[:, :, edge - 1]).mean())


def methods(pipe: Pipeline, n: int, steps: int) -> tuple[list[dict], list[list]]:
    """A row a method, and the rows of a sheet."""
    scenes, judge = Scenes("emoji", "test", {"plain": 1.0}, 300), load(form=SCENES)
    told = [scenes.attributes(0, i) for i in range(n)]
    real = np.stack([scenes.render(a) for a in told])
    h, w = real.shape[1:3]
    mask = np.zeros((h, w))
    mask[:, w // 2 :] = 1
    truth = [judge.heads["noun"].index(a.concepts[0]) for a in told]

    def row(method: str, made: np.ndarray, **more: object) -> dict:
        right = float(np.mean(judge.look(made).answers["noun"].argmax(1) == truth))
        change = float(np.sqrt(np.mean((made[:, :, w // 2 :].astype(float) - real[:, :, w // 2 :]) ** 2)))
        return {
            "what": "method",
            "method": method,
            "n": n,
            "noun": right,
            "seam": step(made, w // 2) / step(real, w // 2),
            "change": change,
            **more,
        }

    grey = real.copy()
    grey[:, :, w // 2 :] = 128
    rows, shown = [row("picture", real), row("none", grey)], [list(real[:8]), list(grey[:8])]
    request = asked(
        pipe, (h, w), [phrase(a.concepts[0]) for a in told], num_inference_steps=steps, seed=0, **HOW
    )
    for method in ("model",) if takes_mask(pipe) else METHODS[:-1]:
        for soft in (0, 2) if method in ("repaint", "model") else (2,):
            began = time.perf_counter()
            filling = Filling.of(pipe, method, 1.0, soft, None, None)
            made, nfe = fill(Run(pipe, request, size=(h, w)), [Picture(p) for p in real], mask, filling)
            rows.append(
                row(method, np.stack(made), soft=soft, nfe=nfe, seconds=(time.perf_counter() - began) / n)
            )
        shown.append(made[:8])
    return rows, shown


@torch.no_grad()
def inside(pipe: Pipeline, n: int, levels: int = 8) -> dict:
    """The loss within masks, at levels evenly spaced in the schedule's time, of a network that takes the mask
    or of one that does not.
    """
    scenes, total = Scenes("emoji", "test", concepts=300), torch.zeros(levels)
    x0 = torch.cat([encoded(pipe, scenes.render(scenes.attributes(0, i))) for i in range(n)])
    masks = [m for m in training.masks(0, "bench", range(3 * n), *x0.shape[2:]) if not m.all()]
    m, captions = torch.stack(masks[:n]), [scenes.caption(0, i) for i in range(n)]
    for part in torch.arange(n).split(32):
        known, beside = x0[part], training.condition(x0[part], m[part])
        net = seeing(pipe.fast, beside) if takes_mask(pipe) else None
        denoise = pipe.denoiser([captions[i] for i in part], net=net)
        for j in range(levels):
            l = pipe.schedule.level(torch.full((len(part),), (j + 0.5) / levels))
            eps = torch.stack([noise.draw(0, f"bench/{j}", int(i), known.shape[1:]) for i in part]).to(known)
            own = l.like(known)
            off = m[part] * (denoise(corrupt(known, eps, own), l) - known) / own.sigma
            total[j] += (off**2).sum()
    each = (total / (m.sum() * x0.shape[1])).tolist()
    return {"what": "inside", "n": n, "loss": sum(each) / levels, "by level": [round(v, 4) for v in each]}


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    p.add_argument("--model", default="emoji")
    p.add_argument("--masks", type=int, default=200)
    p.add_argument("--n", type=int, default=48)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--json", action="store_true")
    p.add_argument(
        "--quick", action="store_true", help="few pictures and steps: whether it runs, not figures"
    )
    p.add_argument("--sheet", type=Path, help="where to write a sheet of the first eight pictures")
    a = p.parse_args(argv)
    if a.quick:
        a.masks, a.n, a.steps = 6, 8, 3
    rows = [bytes_outside(a.model, a.masks)] if a.masks else []
    if a.n:
        pipe = unnoise.load(a.model)
        more, shown = methods(pipe, a.n, a.steps)
        rows += [*more, inside(pipe, a.n * 8)]
        if a.sheet:
            labels = ["", "hidden", *dict.fromkeys(r["method"] for r in more[2:])]
            image = sheet(
                [[picture(v) for v in vs] for vs in shown],
                [""] * len(shown[0]),
                labels,
                "the right half drawn anew",
                "",
                least=64,
            )
            image.quantize(128).save(a.sheet, optimize=True)
    common.report("edit_inpaint", rows, a.json)


if __name__ == "__main__":
    main()
