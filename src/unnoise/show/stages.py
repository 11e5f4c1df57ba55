"""What a run passes through, step by step, as pictures and numbers in a folder.

Listeners read States and change nothing: a picture is the same to the bit with and without them. x is shown
divided by sqrt(alpha^2 + sigma^2), which gives it unit scale in every family (for a variance-preserving one
that is x itself).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unnoise.base import write
from unnoise.base.errors import BadInput
from unnoise.base.picture import opened
from unnoise.codec import is_of_pictures
from unnoise.media.files import free_stem
from unnoise.media.pictures import picture
from unnoise.pipeline import Pipeline, make_folder
from unnoise.sample import State
from unnoise.show.plots import plot_schedule
from unnoise.show.sheets import fitted, sheet, stacked, write_picture

SHOWN = 24  # steps on the contact sheet, at most: evenly chosen, the first and the last among them
_OURS = re.compile(r"step-\d{3,}-(x|x0|channels)\.png|stages\.png|schedule\.png|stages\.json")


def need_pictures(pipe: Pipeline, what: str) -> None:
    """BadInput when a model makes numbers, not pictures, and `what` shows pictures."""
    if not is_of_pictures(pipe.codec):
        raise BadInput(
            f"{what} needs a model of pictures: {pipe.name!r} makes {pipe.codec.medium.plural} of shape"
            f" {pipe.codec.shape(1)[1:]}"
        )


class Stages:
    """A listener that writes what the first image of a run passes through into a folder, step by step.

    Per step k: `step-k-x.png`, `step-k-x0.png` (decoded) and `step-k-channels.png` (the tensors themselves).
    `close` adds `stages.png` (all on one sheet), `schedule.png` and the numbers in `stages.json`. Other files
    of the folder are left alone; where an earlier run lies there, `folder` becomes the first free one of
    `name-2`, `name-3`, …, unless `overwrite` lets it be removed. Files appear whole. BadInput on a model of
    vectors or a folder that cannot be written.
    """

    def __init__(self, pipe: Pipeline, folder: str | os.PathLike, overwrite: bool = False):
        need_pictures(pipe, "looking at stages")
        self.pipe, self.folder = pipe, Path(folder)
        if not overwrite:
            self.folder = free_stem(self.folder, lambda f: (f / "stages.json",))
        make_folder(self.folder)
        if not (self.folder / "stages.json").exists() and self._files():
            raise BadInput(
                f"{self.folder} holds a {self._files()[0].name} that is none of ours: name another folder"
            )
        self._begin()

    def _files(self) -> list[Path]:
        return sorted(f for f in self.folder.iterdir() if _OURS.fullmatch(f.name))

    def _begin(self) -> None:
        """Away with an earlier run; from now on stages.json marks the folder's pictures as ours, even if this
        run is broken off.
        """
        self.rows: list[dict[str, Any]] = []
        for f in self._files():
            f.unlink()
        self.write_numbers()
        self._before: tuple[Tensor, Tensor] | None = None

    def __call__(self, i: int, state: State) -> None:
        """Take in a State of the part of the batch that begins with image i."""
        if i:
            return
        if self.rows and self.rows[-1]["sigma"] == 0:
            self._begin()  # the run is made again, in a wider type
        x, x0, k = _first(state.x), _first(state.x0), len(self.rows)
        alpha, sigma = (float(v.flatten()[0]) for v in state.level)
        pair = decode(self.pipe, x / math.hypot(alpha, sigma)), decode(self.pipe, x0)
        for what, image in ("x", pair[0]), ("x0", pair[1]), ("channels", channels({"x": x, "x0": x0})):
            write_picture(image, self._file(k, what))
        t = float(self.pipe.schedule.timestep(state.level).flatten()[0])
        self.rows.append({"step": k, "t": t, **_numbers(alpha, sigma), **_spread(x, x0, self._before)})
        self._before = x.cpu(), x0.cpu()

    def _file(self, k: int, what: str) -> Path:
        return self.folder / f"step-{k:03}-{what}.png"

    def pair(self, k: int) -> tuple[Image.Image, Image.Image]:
        """x and the x0 estimate of step k, as they were written; at most 256 pixels a side."""
        x, x0 = (fitted(opened(self._file(k, what)), 1, 256) for what in ("x", "x0"))
        return x, x0

    def close(self) -> list[Path]:
        """Write the sheet, the plots and the numbers; returns the files of the run, by name. BadInput when it
        never began.
        """
        if not self.rows:
            raise BadInput("there is nothing to show: the run made no step")
        write_picture(self.sheet(), self.folder / "stages.png")
        t, logsnr = ([r[k] for r in self.rows] for k in ("t", "logsnr"))
        write_picture(plot_schedule(self.pipe.schedule, t, logsnr), self.folder / "schedule.png")
        self.write_numbers()
        return self._files()

    def write_numbers(self) -> None:
        """Write stages.json: of a run that is broken off, the steps so far."""
        about = {"model": self.pipe.name, "schedule": self.pipe.schedule.name, "T": self.pipe.schedule.T}
        text = json.dumps({**about, "steps": self.rows}, indent=1)
        write.put(self.folder / "stages.json", text.encode())

    def sheet(self) -> Image.Image:
        """x over its x0 estimate, by step, each under its step, t and sigma/alpha."""
        n = len(self.rows)
        shown = sorted({round(k) for k in np.linspace(0, n - 1, min(n, SHOWN))})
        in_a_row = math.ceil(len(shown) / math.ceil(len(shown) / 8))  # 8 at most, rows alike
        return stacked([self._strip(shown[k : k + in_a_row]) for k in range(0, len(shown), in_a_row)])

    def _strip(self, steps: Sequence[int]) -> Image.Image:
        """x over x0 of some steps."""
        pairs, labels = [self.pair(k) for k in steps], [_label(self.rows[k]) for k in steps]
        return sheet([[p[j] for p in pairs] for j in (0, 1)], labels, ["x", "x0"], most=160)


def _first(x: Tensor) -> Tensor:
    return x[:1].detach().float()


def _numbers(alpha: float, sigma: float) -> dict[str, float | None]:
    """A level's numbers; None stands for infinity, which JSON does not have."""
    ends = not (alpha and sigma)
    return {
        "alpha": alpha,
        "sigma": sigma,
        "ratio": sigma / alpha if alpha else None,
        "snr": (alpha / sigma) ** 2 if sigma else None,
        "logsnr": None if ends else 2 * math.log(alpha / sigma),
    }


def _spread(x: Tensor, x0: Tensor, before: tuple[Tensor, Tensor] | None) -> dict[str, float | None]:
    """Mean and standard deviation of x and x0, and the Euclidean norm of their change since the step
    before.
    """
    d: dict[str, float | None] = {}
    for name, now, old in zip(("x", "x0"), (x, x0), before or (None, None)):
        std, mean = torch.std_mean(now, correction=0)
        d |= {
            f"{name}_mean": float(mean),
            f"{name}_std": float(std),
            f"{name}_change": None if old is None else float((now.cpu() - old).norm()),
        }
    return {k: v if v is not None and math.isfinite(v) else None for k, v in d.items()}


def _label(row: dict[str, Any]) -> str:
    ratio = "inf" if row["ratio"] is None else f"{row['ratio']:.3g}"
    t = f"t {row['t']:.4g}" if row["t"] > -1 + 1e-6 else "clean"
    return f"step {row['step']}\n{t}\nsigma/alpha {ratio}"


def decode(pipe: Pipeline, x: Tensor) -> Image.Image:
    """The first sample of a tensor of a model's space as a picture; one that is not finite is shown as zeros
    (a run may recover from it).
    """
    x = x[:1].detach()
    return picture(pipe.decode(x if torch.isfinite(x).all() else torch.zeros_like(x))[0])


def channels(tensors: dict[str, Tensor]) -> Image.Image:
    """The channels of (1, c, h, w) tensors in grey, one row a tensor; each spans its own least … largest
    value, which stand above it.
    """
    return stacked([_planes(name, x[0].float().cpu().numpy()) for name, x in tensors.items()])


def _planes(name: str, planes: np.ndarray) -> Image.Image:
    ends = [(float(p.min()), float(p.max())) for p in planes]
    greys = [_grey(p, lo, hi) for p, (lo, hi) in zip(planes, ends)]
    labels = [f"channel {k}\n{lo:.2f} to {hi:.2f}" for k, (lo, hi) in enumerate(ends)]
    return sheet([greys], labels, [name], margin=20)


def _grey(plane: np.ndarray, lo: float, hi: float) -> Image.Image:
    varies = 0 < hi - lo < math.inf  # false for NaN too
    level = (plane - lo) / (hi - lo) if varies else np.full_like(plane, 0.5)
    return Image.fromarray((level * 255).round().astype(np.uint8))
