"""Training as a generator: `fit` yields after the optimiser and the averages have moved.

A step is a pure function of (recipe, step, weights): data order, augmentation, levels and noise come from the
seed and the position in the data stream. Resuming therefore needs no random state, and one process with a
batch of 8 draws what two processes, or two accumulated parts, of 4 draw.

That equality of results (not of draws) ends where a layer looks across the batch or draws by itself: batch
norm normalises each part by its own statistics (and with several processes keeps those of the first), dropout
draws anew for each part. Such nets train as well in parts, not to the same weights. Resuming is exact for
them too.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.data import positions
from unnoise.train import objective, tasks
from unnoise.train.ahead import Ahead
from unnoise.train.build import check, network, source
from unnoise.train.checkpoint import first_nonfinite
from unnoise.train.ema import EMA
from unnoise.train.networks import CHANNELS_LAST
from unnoise.train.recipe import Recipe, TrainSection
from unnoise.train.sources import Source, fetch


@dataclass(frozen=True)
class Step:
    """What one optimiser step did. `step` counts from 1; `bad` names the first non-finite tensor: then
    nothing moved.
    """

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
    accelerator: Any  # an accelerate.Accelerator
    loss: objective.Loss
    wrapped: nn.Module  # the net as accelerate wraps it (DDP); the same object as `net` on one process
    step: int = 0
    rollbacks: int = 0
    names: list[str] = field(default_factory=list)
    ahead: Ahead | None = None

    @cached_property
    def task(self) -> tasks.Task:
        return tasks.of(self.recipe)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """Everything to be saved, as named tensors on the CPU."""
        opt = {}
        for name, p in zip(self.names, self.net.parameters()):
            for key, v in self.optimizer.state.get(p, {}).items():
                opt[f"{name}/{key}"] = v
        tracks = {
            "raw": self.net.state_dict(),
            **{f"ema{i}": e.weights for i, e in enumerate(self.ema)},
            "optimizer": opt,
        }
        return {k: {n: t.detach().cpu() for n, t in part.items()} for k, part in tracks.items()}

    def restore(self, parts: dict[str, dict[str, Tensor]], state: dict) -> None:
        """Take the state of a checkpoint. BadInput: it is of a run on other data."""
        if (state.get("data") or self.source.data.sha256) != self.source.data.sha256:
            raise BadInput(
                f"{self.recipe.data.name} is not the data that this run began with: it cannot be continued"
            )
        self._check_fits(parts)
        self.net.load_state_dict(parts["raw"])
        for i, e in enumerate(self.ema):
            for k, v in parts[f"ema{i}"].items():
                e.weights[k].copy_(v)
        self.optimizer.state.clear()
        params = dict(self.net.named_parameters())
        for k, v in parts["optimizer"].items():
            name, _, key = k.rpartition("/")
            p = params[name]
            self.optimizer.state[p][key] = v.to(p.device, copy=True) if key == "step" else _like(p, v)
        self.step, self.rollbacks = state["step"], state.get("rollbacks", 0)

    def _check_fits(self, parts: dict[str, dict[str, Tensor]]) -> None:
        """BadInput where a checkpoint's tensors are not those of this network: nothing is taken of it
        then.
        """
        ours = {k: v.shape for k, v in self.net.state_dict().items()}
        for track in ("raw", *(f"ema{i}" for i in range(len(self.ema)))):
            theirs = {k: v.shape for k, v in parts.get(track, {}).items()}
            other = next((k for k in {**ours, **theirs} if ours.get(k) != theirs.get(k)), None)
            if other:
                raise BadInput(f"the checkpoint is of another network: {track}/{other} differs or is missing")
        for k, v in parts.get("optimizer", {}).items():
            name, _, key = k.rpartition("/")
            fits = name in self.names and (v.shape == ours[name] or (key == "step" and v.numel() == 1))
            if not fits:
                raise BadInput(f"the checkpoint is of another network: optimizer/{k} does not fit")

    def state(self) -> dict:
        """What a checkpoint holds beside tensors."""
        return {
            "step": self.step,
            "rollbacks": self.rollbacks,
            "recipe": self.recipe.model_dump(),
            "data": self.source.data.sha256,
        }


def _like(p: Tensor, v: Tensor) -> Tensor:
    """A copy of `v` in p's memory layout: the fused optimiser walks both by address, and a file keeps no
    strides.
    """
    return torch.empty_like(p, dtype=v.dtype).copy_(v)


def processes():
    """This process's accelerate.Accelerator: alone, or one of those that torchrun or accelerate launched
    (gloo on CPUs).
    """
    from accelerate import Accelerator

    # accelerate joins CPU processes only when told to use the CPU; the recipe's own precision is
    # `_autocast`'s.
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != world:
        raise BadInput(
            f"{world} processes were started here, accelerate joins {accelerator.num_processes} of them"
        )
    return accelerator


def prepare(recipe: Recipe, accelerator=None) -> Run:
    """A run at step 0. `accelerator`: an accelerate.Accelerator; one is made for this process when None.

    BadInput: the recipe does not fit its data, its network, or the number of processes.
    """
    check(recipe)
    accelerator = accelerator or processes()
    t, world = recipe.train, accelerator.num_processes
    positions(0, t.batch, 0, world, 0, t.accumulate)  # refuses a batch that cannot be shared out
    src = source(recipe).on(accelerator.device)
    net = _network(recipe, src, accelerator.device)
    loss = tasks.of(recipe).loss(src)
    names = [n for n, _ in net.named_parameters()]
    averages = [EMA(net, s) for s in t.ema]
    run = Run(recipe, src, net, averages, _optimizer(net, t), accelerator, loss, net, names=names)
    _try_out(run)
    _speed_up(run)
    return run


def _speed_up(run: Run) -> None:
    """Share the run out over its processes: those that draw ahead, and those that train."""
    t, drawer = run.recipe.train, run.source.ahead()
    if t.workers and drawer:
        run.ahead = Ahead(t.workers, drawer, run.task, run.net, run.source)
    run.wrapped = run.accelerator.prepare_model(run.net)
    if t.compile:
        run.wrapped = torch.compile(run.wrapped)  # pyright: ignore[reportAttributeAccessIssue]


def _network(recipe: Recipe, src: Source, device: torch.device) -> nn.Module:
    net = network(recipe, src).to(device)
    if recipe.net["kind"] in CHANNELS_LAST:
        net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return net


def _optimizer(net: nn.Module, t: TrainSection) -> torch.optim.Optimizer:
    groups = _groups(net, t)
    return torch.optim.AdamW(groups, lr=t.lr, betas=t.betas, weight_decay=t.weight_decay, fused=True)


TOKENS = "token_embedding.weight"


def _groups(net: nn.Module, t: TrainSection) -> list[dict]:
    """The parameters with what their rate is multiplied by. Token rows at a rate of their own do not decay:
    most words are not in a batch.
    """
    if t.tokens == 1:
        return [{"params": list(net.parameters())}]
    rows = [p for n, p in net.named_parameters() if n.endswith(TOKENS)]
    if not rows:
        raise BadInput("train.tokens is for token rows that learn: a task with a text encoder, or train.text")
    chosen = {id(p) for p in rows}
    return [
        {"params": [p for p in net.parameters() if id(p) not in chosen]},
        {"params": rows, "times": t.tokens, "weight_decay": 0.0},
    ]


@torch.no_grad()
def _try_out(run: Run) -> None:
    """One sample through the network, changing nothing: sizes that do not fit are told before a folder is
    taken.
    """
    run.net.eval()
    b = _batch(run, 0, 1, 0)
    one = objective.Batch(
        b.x0[:1],
        None if b.labels is None else b.labels[:1],
        b.positions[:1],
        0,
        b.total,
        {k: v[:1] for k, v in b.more.items()},
    )
    try:
        run.loss(run.net, one, 0)
    except BadInput as e:
        raise BadInput(f"the network does not fit the data: {e}") from None
    except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError) as e:
        raise BadInput(f"the network does not fit the data: {' '.join(str(e).split())}") from e
    run.net.train()


def learning_rate(t: TrainSection, step: int) -> float:
    """The rate of optimiser step `step` (from 0): linear warm-up, then a cosine to lr_end at the last
    step.
    """
    if step < t.warmup:
        return t.lr * (step + 1) / t.warmup
    done = (step - t.warmup) / max(t.steps - 1 - t.warmup, 1)
    return t.lr_end + (t.lr - t.lr_end) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def fit(run: Run) -> Iterator[Step]:
    """Train from where `run` is to the recipe's last step, one Step after another. `run` may be restored
    between two.
    """
    t = run.recipe.train
    while run.step < t.steps:
        began = time.perf_counter()
        run.net.train()
        buffers = [b.clone() for b in run.net.buffers()]  # a forward pass moves batch norm's statistics
        loss = _backward(run)
        norm, bad = _gradient(run, loss)
        lr = learning_rate(t, run.step)
        if bad is None:
            _move(run, lr)
        else:
            _put_back(run, buffers)
        run.optimizer.zero_grad(set_to_none=True)
        run.step += 1
        yield Step(run.step, loss, lr, norm, bad, time.perf_counter() - began, t.batch)


def _put_back(run: Run, buffers: list[Tensor]) -> None:
    for b, before in zip(run.net.buffers(), buffers):
        b.copy_(before)


def _move(run: Run, lr: float) -> None:
    for group in run.optimizer.param_groups:
        group["lr"] = lr * group.get("times", 1.0)
    run.optimizer.step()
    run.task.settle(run.net)
    for e in run.ema:
        e.update(run.net, run.step + 1)


def _backward(run: Run) -> float:
    """Accumulate the gradient of the whole step's mean loss; returns that loss."""
    acc, t, total = run.accelerator, run.recipe.train, 0.0
    with _own_generator(run):
        for micro in range(t.accumulate):
            batch = _batch(run, acc.process_index, acc.num_processes, micro)
            _seed_dropout(run, batch)
            with nullcontext() if micro == t.accumulate - 1 else acc.no_sync(run.wrapped):
                with _autocast(run):
                    loss = run.loss(run.wrapped, batch, run.rollbacks)
                (
                    loss * acc.num_processes * _scale(t)
                ).backward()  # DDP averages over processes; each holds its share of one sum
            total += float(acc.reduce(loss.detach(), reduction="sum"))
    return total


def _own_generator(run: Run):
    """Inside, torch's global generators are the run's; the caller's numbers go on as if nothing had been
    drawn.
    """
    cuda = run.accelerator.device.type == "cuda"
    return torch.random.fork_rng(devices=[run.accelerator.device] if cuda else [])


def _batch(run: Run, rank: int, world: int, micro: int) -> objective.Batch:
    r, t = run.recipe, run.recipe.train
    where = (run.step, t.batch, rank, world, micro, t.accumulate)
    if run.ahead:
        items = run.ahead.fetch(run.source, r, run.rollbacks, where)
    else:
        items = fetch(run.source, r, run.rollbacks, where)
    items = items.to(run.accelerator.device)
    return objective.Batch(items.x, items.labels, positions(*where), run.step, t.batch, items.more)


def _seed_dropout(run: Run, batch: objective.Batch) -> None:
    """torch's own generator, used by dropout alone, is set from the step and the first position: no state to
    save.
    """
    torch.manual_seed(run.recipe.seed * 1_000_003 + int(batch.positions[0]) + 7_919 * run.rollbacks)


def _autocast(run: Run):
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    precision = run.recipe.train.precision
    return (
        torch.autocast(run.accelerator.device.type, kinds[precision]) if precision in kinds else nullcontext()
    )


def _scale(t: TrainSection) -> float:
    """What the loss is multiplied by so that gradients do not underflow in fp16. Fixed: there is no state to
    resume.
    """
    return 4096.0 if t.precision == "fp16" else 1.0


def _gradient(run: Run, loss: float) -> tuple[float, str | None]:
    """Clip; returns the norm before clipping and the name of the first non-finite tensor (loss or gradient),
    if any.
    """
    if not math.isfinite(loss):
        return math.nan, "loss"
    scale = _scale(run.recipe.train)
    if scale != 1:
        for p in run.net.parameters():
            if p.grad is not None:
                p.grad.div_(scale)
    grads = {n: p.grad for n, p in run.net.named_parameters() if p.grad is not None}
    norm = torch.nn.utils.get_total_norm(grads.values())
    if not torch.isfinite(norm):  # looked at before clipping, which would spread a nan to every gradient
        return float(norm), f"gradient of {first_nonfinite(grads) or 'all parameters (their norm overflows)'}"
    torch.nn.utils.clip_grads_with_norm_(run.net.parameters(), run.recipe.train.clip, norm)
    return float(norm), None
