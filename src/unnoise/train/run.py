"""A whole training run in a folder: fit, and around it logs, validation, checkpoints, resuming, roll-back and the final model.

    DIR/recipe.json    what is being trained (a resume with another recipe is refused)
    DIR/log.jsonl      one object every few steps, and one for each validation
    DIR/checkpoints/   step-…/ : raw, ema0, ema1, optimizer, state, manifest
    DIR/samples/       grids of samples
    DIR/model/         the result, in the published folder layout (for a classifier: weights and config)
"""
from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from unnoise.errors import BadInput
from unnoise.process import noise
from unnoise.train import checkpoint, objective
from unnoise.train.build import Source, source
from unnoise.train.fit import Run, Step, fit, prepare
from unnoise.train.recipe import Recipe

MAX_ROLLBACKS = 3
Report = Callable[[Step, int], None]  # called after every step with it and the number of steps in all


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal; the state of the last whole step is saved."""


def train(recipe: Recipe, folder: str | Path, resume: bool = False, report: Report | None = None, accelerator=None) -> dict:
    """Train `recipe` in `folder`; returns steps, loss, validation, raw_sha256, ema_sha256, seconds and folder (of the model).

    resume continues from the newest valid checkpoint (from the start when there is none). BadInput: the folder holds another
    run, cannot be written, or training keeps producing non-finite numbers. Interrupted (a KeyboardInterrupt) on SIGINT and
    SIGTERM, after saving.
    """
    folder = Path(folder)
    _claim(folder, recipe, resume)
    run = prepare(recipe, accelerator)
    main = run.accelerator.is_main_process
    points = folder / "checkpoints"
    found = checkpoint.newest(points) if resume else None
    if found: run.restore(*found)
    log = _Log(folder, run.step, recipe.log.tensorboard, main)
    validation = Validation(recipe) if main else None
    began, bad, saved = time.perf_counter(), 0, run.step
    print_step = report or (lambda step, total: None)
    with _signals() as stop:
        for s in fit(run):
            print_step(s, recipe.train.steps)
            bad = bad + 1 if s.bad else 0
            if s.bad: log.write("skipped", step=s.step, tensor=s.bad)
            if bad >= recipe.train.bad_steps:
                _roll_back(run, points, s)
                log.write("rollback", step=s.step, to=run.step, tensor=s.bad)
                bad, saved = 0, run.step
                continue
            if s.step % recipe.log.every == 0:
                log.write("train", step=s.step, loss=s.loss, lr=s.lr, grad_norm=s.grad_norm, images_per_s=s.images / s.seconds)
            if main and not bad and (s.step % recipe.log.save == 0 or stop or s.step == recipe.train.steps):
                _save(run, points)
                saved = s.step
            if validation and s.step % recipe.log.validate_every == 0: log.write("validation", step=s.step, **validation(run))
            if main and recipe.log.sample and s.step % recipe.log.sample == 0: _grid(run, folder / "samples" / f"{s.step:08d}.png")
            if stop: raise Interrupted(f"stopped after step {s.step} of {recipe.train.steps}; saved; continue with --resume")
    if main and saved != run.step: _save(run, points)
    run.accelerator.wait_for_everyone()
    result = {"steps": run.step, "raw_sha256": checkpoint.weights_hash(run.net.state_dict())}
    for i, e in enumerate(run.ema): result[f"ema{i}_sha256"] = checkpoint.weights_hash(e.weights)
    export = recipe.train.export if recipe.train.export != "raw" else "ema0"
    result["ema_sha256"] = result[f"{export}_sha256"]
    if main:
        values = validation(run)
        log.write("final", step=run.step, **values)
        result |= {"validation": values, "folder": str(_export(run, folder / "model"))}
        if recipe.task == "denoise": _grid(run, folder / "samples" / "final.png")
    log.close()
    return result | {"seconds": round(time.perf_counter() - began, 3), "rollbacks": run.rollbacks}


def _claim(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Make `folder` this recipe's, or refuse: BadInput when it holds another run, or one that was not asked to go on."""
    text = recipe.model_dump_json(indent=1)
    path = folder / "recipe.json"
    try:
        if path.exists():
            if not resume: raise BadInput(f"{folder} already holds a run: give --resume to continue it, or another folder")
            if path.read_text() != text: raise BadInput(f"{folder} holds a run of another recipe: it can only be resumed with its own")
            return
        folder.mkdir(parents=True, exist_ok=True)
        temp = path.with_suffix(".part")
        temp.write_text(text)
        temp.rename(path)
    except OSError as e:
        raise BadInput(f"cannot write to {folder}: {e.strerror or e}") from e


def _save(run: Run, points: Path) -> None:
    state = {"step": run.step, "rollbacks": run.rollbacks, "recipe": run.recipe.model_dump()}
    checkpoint.write(points, run.step, run.parts(), state, run.recipe.log.keep)


def _roll_back(run: Run, points: Path, s: Step) -> None:
    """Return to the newest checkpoint with fresh draws; give up when that has not helped."""
    tries = run.rollbacks + 1
    if tries > MAX_ROLLBACKS:
        raise BadInput(f"training diverged: {s.bad} is not finite at step {s.step}, also after {MAX_ROLLBACKS} roll-backs; "
                       f"lower train.lr (given {run.recipe.train.lr:g}) or check the data")
    found = checkpoint.newest(points)
    if found is None:
        fresh = prepare(run.recipe, run.accelerator)
        found = fresh.parts(), {"step": 0, "rollbacks": 0}
    run.restore(*found)
    run.rollbacks = tries


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM only note themselves here, so that a step is never cut in half."""
    got: list[int] = []
    old = {}
    try:
        for sig in (signal.SIGINT, signal.SIGTERM): old[sig] = signal.signal(sig, lambda n, _: got.append(n))
    except ValueError:
        pass  # not the main thread: its owner handles signals
    try: yield got
    finally:
        for sig, handler in old.items(): signal.signal(sig, handler)


class Validation:
    """The loss on held-out data with fixed noise: the same at every evaluation of the same weights, to the bit.

    Denoising: the weighted loss and the squared error on x0 at 8 levels evenly spaced in the schedule's time. Classification:
    loss and accuracy. Averaged weights (ema0) are judged.
    """

    levels = 8

    def __init__(self, recipe: Recipe):
        self.recipe, self.src = recipe, _held_out(recipe)
        n = min(recipe.log.validation_samples, len(self.src.data))
        self.index = np.random.Generator(np.random.Philox(recipe.seed)).permutation(len(self.src.data))[:n]

    @torch.no_grad()
    def __call__(self, run: Run) -> dict:
        net = lambda *a, **kw: functional_call(run.net, run.ema[0].weights, a, kw)
        run.net.eval()
        device = run.accelerator.device
        totals: dict[str, list[float]] = {}
        for start in range(0, len(self.index), 256):
            index = self.index[start : start + 256]
            x, labels = self.src.encode(index).to(device), self.src.label(index)
            labels = None if labels is None else labels.to(device)
            one = self._denoise if self.recipe.task == "denoise" else self._classify
            for k, v in one(net, x, labels, start).items(): totals.setdefault(k, []).append(v * len(x) / len(self.index))
        run.net.train()
        return {k: round(math.fsum(v), 8) for k, v in totals.items()}

    def _denoise(self, net, x: Tensor, labels: Tensor | None, start: int) -> dict:
        process, out = objective.resolve(self.recipe.process), {}
        call = net if labels is None else lambda *a: net(*a, labels=labels)
        for j in range(self.levels):
            u = (j + 0.5) / self.levels
            eps = torch.stack([noise.draw(self.recipe.seed, f"validation/{j}", start + i, x.shape[1:]) for i in range(len(x))]).to(x)
            l = process.curve.level(np.full(len(x), u))
            out[f"loss_{u:.4f}"] = float(process.errors(call, x, eps, l).mean())
        return {"loss": sum(out.values()) / self.levels, **out}

    def _classify(self, net, x: Tensor, labels: Tensor, start: int) -> dict:
        logits = net(x).float()
        return {"loss": float(torch.nn.functional.cross_entropy(logits, labels)), "accuracy": float((logits.argmax(1) == labels).double().mean())}


def _held_out(recipe: Recipe) -> Source:
    try: return source(recipe, recipe.data.validation)
    except BadInput:
        if recipe.data.validation != "test": raise
        return source(recipe)  # a user's folder without a split: the same fixed noise on training data


def weights(run: Run, which: str) -> dict[str, Tensor]:
    """The raw or one of the averaged state dicts of a run: "raw", "ema0", "ema1"."""
    return run.net.state_dict() if which == "raw" else run.ema[int(which[-1])].weights


def _export(run: Run, folder: Path) -> Path:
    from unnoise import hub

    return hub.save_run(run, weights(run, run.recipe.train.export), folder)


def _grid(run: Run, path: Path) -> None:
    """Samples of every condition with the averaged weights, 12 DDIM steps without guidance; fixed seeds."""
    from PIL import Image

    from unnoise.sample import SAMPLERS, last

    src, recipe = run.source, run.recipe
    if not hasattr(src.codec, "height"): return
    process = objective.resolve(recipe.process)
    n = 2 * min(len(src.words), 32) if src.labels is not None else 16
    labels = torch.arange(n).to(run.accelerator.device) % max(len(src.words), 1) if src.labels is not None else None
    run.net.eval()
    net = lambda x, t: functional_call(run.net, run.ema[0].weights, (x, t), {} if labels is None else {"labels": labels})
    x = noise.seeded(range(n), "init")(torch.zeros(src.codec.shape(n), device=run.accelerator.device))
    out = last(SAMPLERS["ddim"](process.denoiser(net), x, process.curve.path(12)))
    run.net.train()
    images = src.codec.decode(out.nan_to_num())
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tile(images)).save(path)


def tile(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """(n, h, w, c) uint8 -> one image, row by row, (rows h, columns w[, c])."""
    n, h, w, c = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    sheet = np.full((-(-n // columns) * h, columns * w, c), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        sheet[y * h : (y + 1) * h, x * w : (x + 1) * w] = image
    return sheet[..., 0] if c == 1 else sheet


class _Log:
    """log.jsonl, cut back to the step that training resumes from, and TensorBoard where it is installed."""

    def __init__(self, folder: Path, step: int, tensorboard: bool, main: bool):
        self.file = self.board = None
        if not main: return
        path = folder / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step_of(line) <= step]
        self.file = open(path, "w", buffering=1)  # noqa: SIM115 - open as long as the run
        self.file.writelines(line + "\n" for line in kept)
        if tensorboard:
            try: from torch.utils.tensorboard import SummaryWriter
            except ImportError: return
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, event: str, step: int, **values) -> None:
        if self.file is None: return
        self.file.write(json.dumps({"event": event, "step": step, **values}) + "\n")
        if self.board:
            for k, v in values.items():
                if isinstance(v, (int, float)): self.board.add_scalar(f"{event}/{k}", v, step)

    def close(self) -> None:
        if self.file: self.file.close()
        if self.board: self.board.close()


def _step_of(line: str) -> float:
    try: return json.loads(line)["step"]
    except (ValueError, KeyError): return math.inf
