"""Training as a generator: `fit` yields after the optimiser and the averages have moved.

A step is a pure function of (recipe, step, weights): data order, augmentation, levels and noise come from the seed and the
position in the data stream. Resuming therefore needs no random state, and one process with a batch of 8 draws what two
processes, or two accumulated parts, of 4 draw.
"""
from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unnoise.data import batch_indices, positions
from unnoise.train import objective
from unnoise.train.build import Source, network, source
from unnoise.train.checkpoint import first_nonfinite
from unnoise.train.ema import EMA
from unnoise.train.recipe import Recipe, TrainSection


@dataclass(frozen=True)
class Step:
    """What one optimiser step did. `step` counts from 1; `bad` names the first non-finite tensor, in which case nothing moved."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    bad: str | None
    seconds: float
    images: int


@dataclass
class Run:
    """The state of a run: all that a checkpoint holds, and the fixed parts it is made with."""

    recipe: Recipe
    source: Source
    net: nn.Module
    ema: list[EMA]
    optimizer: torch.optim.Optimizer
    accelerator: object
    loss: objective.Loss
    wrapped: nn.Module  # the net as accelerate wraps it (DDP); the same object as `net` on one process
    step: int = 0
    rollbacks: int = 0
    names: list[str] = field(default_factory=list)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """Everything to be saved, as named tensors on the CPU."""
        opt = {}
        for name, p in zip(self.names, self.net.parameters()):
            for key, v in self.optimizer.state.get(p, {}).items(): opt[f"{name}/{key}"] = v
        return {k: {n: t.detach().cpu() for n, t in part.items()} for k, part in
                {"raw": self.net.state_dict(), **{f"ema{i}": e.weights for i, e in enumerate(self.ema)}, "optimizer": opt}.items()}

    def restore(self, parts: dict[str, dict[str, Tensor]], state: dict) -> None:
        """Take the state of a checkpoint."""
        self.net.load_state_dict(parts["raw"])
        for i, e in enumerate(self.ema):
            for k, v in parts[f"ema{i}"].items(): e.weights[k].copy_(v)
        self.optimizer.state.clear()
        for name, p in zip(self.names, self.net.parameters()):
            found = {k.removeprefix(f"{name}/"): v for k, v in parts["optimizer"].items() if k.rpartition("/")[0] == name}
            if found: self.optimizer.state[p] = {k: v.clone() if k == "step" else v.to(p, copy=True) for k, v in found.items()}
        self.step, self.rollbacks = state["step"], state["rollbacks"]


def prepare(recipe: Recipe, accelerator=None) -> Run:
    """A run at step 0. `accelerator`: an accelerate.Accelerator; one is made for this process when None."""
    from accelerate import Accelerator

    accelerator = accelerator or Accelerator(mixed_precision=recipe.train.precision)
    src = source(recipe)
    net = network(recipe, src).to(accelerator.device)
    if recipe.net["kind"] == "unet": net = net.to(memory_format=torch.channels_last)
    null = len(src.words) if src.labels is not None else None
    loss = objective.denoising(recipe, null) if recipe.task == "denoise" else objective.classifying(recipe)
    t = recipe.train
    optimizer = torch.optim.AdamW(net.parameters(), lr=t.lr, betas=t.betas, weight_decay=t.weight_decay, fused=True)
    wrapped = accelerator.prepare_model(net)
    names = [n for n, _ in net.named_parameters()]
    return Run(recipe, src, net, [EMA(net, s) for s in t.ema], optimizer, accelerator, loss, wrapped, names=names)


def learning_rate(t: TrainSection, step: int) -> float:
    """The rate of optimiser step `step` (from 0): linear warm-up, then a cosine to lr_end at the last step."""
    if step < t.warmup: return t.lr * (step + 1) / t.warmup
    done = (step - t.warmup) / max(t.steps - 1 - t.warmup, 1)
    return t.lr_end + (t.lr - t.lr_end) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def fit(run: Run) -> Iterator[Step]:
    """Train from where `run` is to the recipe's last step, one Step after another. `run` may be restored between two steps."""
    t = run.recipe.train
    while run.step < t.steps:
        began = time.perf_counter()
        run.net.train()
        loss = _backward(run)
        norm, bad = _gradient(run, loss)
        lr = learning_rate(t, run.step)
        if bad is None:
            for group in run.optimizer.param_groups: group["lr"] = lr
            run.optimizer.step()
            for e in run.ema: e.update(run.net, run.step + 1)
        run.optimizer.zero_grad(set_to_none=True)
        run.step += 1
        yield Step(run.step, loss, lr, norm, bad, time.perf_counter() - began, t.batch)


def _backward(run: Run) -> float:
    """Accumulate the gradient of the whole step's mean loss; returns that loss."""
    acc, t, total = run.accelerator, run.recipe.train, 0.0
    world, rank = acc.num_processes, acc.process_index
    for micro in range(t.accumulate):
        batch = _batch(run, rank, world, micro)
        last = micro == t.accumulate - 1
        with nullcontext() if last else acc.no_sync(run.wrapped), _dropout_seed(run, batch), acc.autocast():
            loss = run.loss(run.wrapped, batch, run.rollbacks)
            acc.backward(loss * world)  # DDP averages over processes; each holds its own share of one sum
        total += float(acc.reduce(loss.detach(), reduction="sum"))
    return total


def _batch(run: Run, rank: int, world: int, micro: int) -> objective.Batch:
    r, t, n = run.recipe, run.recipe.train, len(run.source.data)
    where = (run.step, t.batch, rank, world, micro, t.accumulate)
    index, place = batch_indices(n, r.seed + run.rollbacks, *where), positions(*where)
    x = run.source.encode(index, r.seed, place, r.data.shift, r.data.mirror).to(run.accelerator.device)
    labels = run.source.label(index)
    return objective.Batch(x, None if labels is None else labels.to(x.device), place, run.step, t.batch)


def _dropout_seed(run: Run, batch: objective.Batch):
    """torch's own generator, used by dropout alone, is set from the step and the first position: no state to save."""
    torch.manual_seed(run.recipe.seed * 1_000_003 + int(batch.positions[0]) + 7_919 * run.rollbacks)
    return nullcontext()


def _gradient(run: Run, loss: float) -> tuple[float, str | None]:
    """Clip; returns the norm before clipping and the name of the first non-finite tensor (the loss, or a gradient), if any."""
    if not math.isfinite(loss): return math.nan, "loss"
    norm = float(torch.nn.utils.clip_grad_norm_(run.net.parameters(), run.recipe.train.clip))
    if math.isfinite(norm): return norm, None
    grads = ((n, p.grad) for n, p in run.net.named_parameters() if p.grad is not None)
    return norm, f"gradient of {first_nonfinite(grads) or 'all parameters (their norm overflows)'}"
