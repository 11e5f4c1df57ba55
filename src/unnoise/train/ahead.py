"""Items of the next steps, made by other processes while this one trains."""

from __future__ import annotations

import signal
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from unnoise.data import positions
from unnoise.process import noise
from unnoise.train.items import Items
from unnoise.train.recipe import Recipe
from unnoise.train.sources import Drawer, Source, Where
from unnoise.train.tasks import Task

Made = tuple[Items | None, dict[str, Tensor]]  # see `Drawer.draw`; the noise among the tensors


class Ahead:
    """What `train.workers` processes make ahead of the steps: what a source draws as it is needed, and noise.

    What a step takes is a function of its number, so it is the same items, in the same order, as without
    workers.
    """

    def __init__(self, workers: int, drawer: Drawer, task: Task, net: nn.Module, src: Source):
        self.depth = 2 * workers
        self.waiting: dict[tuple[int, Where], Future[Made]] = {}
        work = (drawer, task, task.noise_shape(net, src))
        self.pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, work)

    def fetch(self, src: Source, recipe: Recipe, rollbacks: int, where: Where) -> Items:
        """The items at the places `where`; those of the next steps are asked for."""
        for w in self._next(where):
            if w[0] < recipe.train.steps and (rollbacks, w) not in self.waiting:
                self.waiting[rollbacks, w] = self.pool.submit(_work, rollbacks, w)
        items, tensors = self.waiting.pop((rollbacks, where)).result()
        for old in [k for k in self.waiting if k[0] != rollbacks or k[1][0] < where[0]]:
            self.waiting.pop(old).cancel()
        items = items or src.fetch(src.indices(recipe.seed + rollbacks, where))
        return replace(items, more={**items.more, **tensors})

    def _next(self, where: Where) -> list[Where]:
        """These places, and those that follow."""
        step, batch, rank, world, micro, parts = where
        after = range(micro, micro + self.depth)
        return [(step + k // parts, batch, rank, world, k % parts, parts) for k in after]

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)


_WORKER: list = []


def _begin(drawer: Drawer, task: Task, shape: tuple[int, ...] | None) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides when to stop
    _WORKER[:] = [drawer, task, shape]


def _work(rollbacks: int, where: Where) -> Made:
    drawer, task, shape = _WORKER
    items, tensors = drawer.draw(task.recipe, rollbacks, where)
    if shape is not None:
        eps = noise.draws(task.recipe.seed, task.noise_stream(rollbacks), positions(*where), shape)
        tensors = {**tensors, "noise": eps.float()}
    return items, tensors
