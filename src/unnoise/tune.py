"""Grid tuning: the levels of a path, and the options of its solver, made for one model and one number of
calls.

The target is the model's own probability flow, solved finely from a batch of noises: no data are needed. What
is minimised is
    sum over the batch of |x(theta) - x_fine|^2,    theta = (log gaps of log(sigma / alpha), log of each
                                                    option),
by Levenberg and Marquardt's method with forward differences: the first level stays the schedule's noisiest,
gaps are positive by construction, and a step is only taken when it lowers the sum. A tuned grid belongs to
the model that it was tuned on (on another it may well do harm), so it is stored in that model's folder and
used there when exactly that many calls are asked. The result is judged on noises that were not fitted, and is
the default's own if that was better there.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unnoise import hub
from unnoise.base import arguments, write
from unnoise.base.errors import BadInput
from unnoise.denoiser import Denoiser
from unnoise.process import noise
from unnoise.process.level import ve
from unnoise.process.schedule import Path as Levels
from unnoise.process.schedule import Schedule, path_of
from unnoise.sample import SAMPLERS, last
from unnoise.sample.default import DEFAULT

if TYPE_CHECKING:
    from unnoise.pipeline import Pipeline

FREE = {
    "adams": ("scale", "knee"),
    "gradient_estimation": ("gamma",),
}  # options that are fitted along with the levels
CANDIDATES: tuple[tuple[str, dict], ...] = (
    ("adams", {"order": 3}),
    ("adams", {"order": 4}),
    ("adams", {"order": 2}),
)
SHIFT = 0.02  # of theta, in forward differences: well above the rounding of a float32 network
FINE = 120  # steps of the fine solution


@dataclass(frozen=True)
class Tuned:
    """A tuned sampler: u of each level (clean data left out), the solver, and RMS errors on noises that were
    not fitted.
    """

    calls: int
    u: list[float]
    sampler: str
    options: dict
    rms_default: float
    rms: float

    @property
    def ratio(self) -> float:
        """rms / rms_default: 1 where nothing better than the default was found."""
        return self.rms / self.rms_default

    def path(self, schedule: Schedule) -> Levels:
        """The levels to run SAMPLERS[sampler] down, with `options`."""
        return path_of([schedule.level(u) for u in self.u])


def fine(denoise: Denoiser, schedule: Schedule, x: Tensor, steps: int = FINE) -> Tensor:
    """Where the model's probability flow takes x (at the schedule's noisiest level): the default sampler in
    many steps.
    """
    return last(SAMPLERS[DEFAULT[0]](denoise, x, schedule.path(steps, DEFAULT[1])))


def tune(
    denoise: Denoiser,
    schedule: Schedule,
    calls: int,
    x: Tensor,
    fresh: Tensor,
    *,
    truth: Tensor | None = None,
    fresh_truth: Tensor | None = None,
    fresh_denoise: Denoiser | None = None,
    rounds: int = 12,
    advance: Callable[[int], None] | None = None,
) -> Tuned:
    """The best path and solver found for `calls` calls, fitted on x and judged on `fresh`.

    x, fresh: (n, …) samples at the schedule's noisiest level (sigma times unit noise). truth, fresh_truth:
    where the flow takes them, by default `fine`. fresh_denoise: the denoiser of the second batch where it is
    bound to its samples (prompts).
    advance(1) is called after each of the rounds. Errors: BadInput on calls below 2, and on a model whose
    flow is not finite.
    """
    calls = arguments.integer("calls to tune for", calls, 2, 100)
    judge = fresh_denoise or denoise
    truth = fine(denoise, schedule, x) if truth is None else truth
    fresh_truth = fine(judge, schedule, fresh) if fresh_truth is None else fresh_truth
    if not truth.isfinite().all():
        raise BadInput("the model's own flow is not finite: it cannot be tuned")
    fits = [
        _fit(_Problem(denoise, schedule, calls, x, truth, name, options), rounds, advance)
        for name, options in CANDIDATES
    ]
    _, problem, theta = min(fits, key=lambda f: f[0])
    u, options = problem.read(theta)
    error = lambda name, path, **o: _rms(last(SAMPLERS[name](judge, fresh, path, **o)), fresh_truth)
    start = schedule.path(calls, DEFAULT[1])
    before, after = error(DEFAULT[0], start), error(problem.name, problem.path(theta), **options)
    if after < before:
        return Tuned(calls, u, problem.name, options, before, after)
    return Tuned(calls, [float(schedule.time(l)) for l in start[:-1]], DEFAULT[0], {}, before, before)


class _Problem:
    """theta -> the residual x(theta) - truth. theta: log gaps between levels, then the log of each free
    option.
    """

    def __init__(
        self,
        denoise: Denoiser,
        schedule: Schedule,
        calls: int,
        x: Tensor,
        truth: Tensor,
        name: str,
        options: dict,
    ):
        self.denoise, self.schedule, self.x, self.truth = denoise, schedule, x, truth
        self.name, self.fixed, self.free = name, options, FREE.get(name, ())
        place = [float(l.ratio.log()) for l in schedule.path(calls, DEFAULT[1])[:-1]]
        place[0] = self.top = schedule.limits()[1]
        self.bottom = float(schedule.level(min(0.2 / schedule.T, 1)).ratio.log())
        known = SAMPLERS[name].options
        self.start = np.array(
            [math.log(a - b) for a, b in pairwise(place)] + [math.log(known[k]) for k in self.free]
        )

    def read(self, theta: np.ndarray) -> tuple[list[float], dict]:
        """u of each level, and the options."""
        n = len(theta) - len(self.free)
        gaps = np.exp(np.clip(theta[:n], -6, 2))
        place = self.top - np.cumsum(gaps) * min(1.0, (self.top - self.bottom) / gaps.sum())
        u = self.schedule.time(ve(torch.from_numpy(np.exp(place)))).tolist()
        values = np.exp(np.clip(theta[n:], -7, 3)).tolist()
        return [1.0, *u], {**self.fixed, **dict(zip(self.free, values))}

    def path(self, theta: np.ndarray) -> Levels:
        return path_of([self.schedule.level(u) for u in self.read(theta)[0]])

    def residual(self, theta: np.ndarray) -> np.ndarray:
        x = last(SAMPLERS[self.name](self.denoise, self.x, self.path(theta), **self.read(theta)[1]))
        return (x - self.truth).flatten().cpu().double().nan_to_num(1e3, 1e3, -1e3).numpy() / math.sqrt(
            x.numel()
        )


def _fit(
    problem: _Problem, rounds: int, advance: Callable[[int], None] | None
) -> tuple[float, _Problem, np.ndarray]:
    """(rms, problem, theta) after some rounds of Levenberg-Marquardt from the default grid."""
    theta, damp = problem.start, 0.1
    r = problem.residual(theta)
    for _ in range(rounds):
        J = np.stack([(problem.residual(theta + SHIFT * e) - r) / SHIFT for e in np.eye(len(theta))], 1)
        A, g = J.T @ J, J.T @ r
        for _ in range(5):
            step = np.linalg.solve(
                A + damp * (np.diag(np.diag(A)) + 1e-6 * np.trace(A) * np.eye(len(g))), -g
            ).clip(-1, 1)
            new = problem.residual(theta + step)
            if new @ new < r @ r:
                break
            damp *= 4
        else:
            break
        done = new @ new > 0.9999 * (r @ r)
        theta, r, damp = theta + step, new, damp / 5
        if advance:
            advance(1)
        if done:
            break
    return float(math.sqrt(r @ r)), problem, theta


def _rms(x: Tensor, y: Tensor) -> float:
    return float((x - y).cpu().double().square().mean().sqrt())


# --- models -------------------------------------------------------------------------------------------------


def tune_model(
    pipe: Pipeline,
    calls: int,
    output: str | os.PathLike | None = None,
    advance: Callable[[int], None] | None = None,
    *,
    batch: int = 32,
    guidance: float | None = None,
    rounds: int = 6,
) -> dict:
    """Tune a pipeline's grid for `calls` network calls, and store it in its folder, or in a copy at `output`.

    Prompts go through the model's words in turn, at its default guidance unless one is given. Returns calls,
    sampler, options, levels (u), rms_before, rms, ratio (on noises that were not fitted), folder. Errors:
    BadInput on calls, and on a folder that cannot be written.
    """
    calls = arguments.integer("calls to tune for", calls, 2, 100)
    batch = arguments.integer("batch", batch, 1, 4096)
    folder = _target(pipe, output)
    words = pipe.words.words if pipe.words else ("",)
    prompts = [words[i % len(words)] for i in range(batch)]
    scale = pipe.defaults["guidance_scale"] if guidance is None else guidance
    denoise = pipe.denoiser(prompts, None, scale if pipe.words else 1.0)
    x, fresh = (_noises(pipe, range(i, i + batch)) for i in (0, batch))
    found = tune(denoise, pipe.schedule, calls, x, fresh, rounds=rounds, advance=advance)
    _store(pipe, folder, found)
    return {
        "calls": calls,
        "sampler": found.sampler,
        "options": found.options,
        "levels": found.u,
        "rms_before": found.rms_default,
        "rms": found.rms,
        "ratio": found.ratio,
        "folder": str(folder),
    }


def _noises(pipe: Pipeline, seeds: range) -> Tensor:
    """Samples (n, …) at the schedule's noisiest level."""
    like = torch.zeros(pipe.codec.shape(len(seeds)), device=pipe.runner.device)
    return noise.seeded(seeds, "tune")(like) * pipe.schedule.level(1.0).sigma.float()


def _target(pipe: Pipeline, output: str | os.PathLike | None) -> Path:
    """The folder to write to, checked before the work begins."""
    chosen = output or pipe.folder.path
    if chosen is None:
        raise BadInput(f"model {pipe.name!r} has no known folder: give -o FOLDER")
    folder = Path(chosen)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: give a folder to write the tuned model to")
    index = folder / "model_index.json"
    if index.exists() and hub.load(folder).sha256 != pipe.sha256:
        raise BadInput(f"{folder} holds another model: it is left as it is, give another folder")
    near = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not os.access(near, os.W_OK):
        raise BadInput(f"cannot write to {folder}: give -o FOLDER for a copy of the model with its grid")
    return folder


def _store(pipe: Pipeline, folder: Path, found: Tuned) -> None:
    """Put what was found under `_defaults.tuned` of the folder's index, whole or not at all; elsewhere save
    the model first."""
    if not (folder / "model_index.json").exists():
        pipe.save_pretrained(folder)
    path = folder / "model_index.json"
    index = hub.read_json(path)
    defaults = {**pipe.folder.defaults, **index.get("_defaults", {})}
    entry = {k: v for k, v in asdict(found).items() if k in ("u", "sampler", "options", "rms", "rms_default")}
    index["_defaults"] = {**defaults, "tuned": {**defaults.get("tuned", {}), str(found.calls): entry}}
    try:
        write.put(path, json.dumps(index, indent=2).encode() + b"\n")
    except BadInput as e:
        raise BadInput(f"{e}; give -o FOLDER for a copy of the model") from e
