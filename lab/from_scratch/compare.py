"""The matrix product timed at each stage, in lists and in torch (where it is installed): the same loops, over
other numbers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from random import Random

from lab.from_scratch.diffusion import normal
from lab.from_scratch.matmul import STAGES


def torch_stages() -> dict[str, Callable]:
    """What `matmul.STAGES` does, on torch's tensors, and torch's own product. Errors: ImportError where torch
    is missing.
    """
    import torch

    def loops(a, b):
        out = torch.zeros(len(a), b.shape[1], dtype=a.dtype)
        for i in range(len(a)):
            for j in range(b.shape[1]):
                for k in range(len(b)):
                    out[i, j] += a[i, k] * b[k, j]
        return out

    def dots(a, b):
        return torch.stack([torch.stack([(row * column).sum() for column in b.T]) for row in a])

    def broadcasting(a, b):
        return torch.stack([(row[:, None] * b).sum(0) for row in a])

    return {
        "three loops": loops,
        "row times column": dots,
        "broadcasting": broadcasting,
        "einsum": lambda a, b: torch.einsum("ik,kj->ij", a, b),
        "@": lambda a, b: a @ b,
    }


def timings(n: int, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every stage, {"lists": {stage: [median, least, most]}, "torch": …}; without torch an empty
    dict there.

    Both factors are n x n, float64; torch uses one thread. The stages take turns, so that a disturbance meets
    all alike.
    """
    a, b = normal((n, n), Random(0)), normal((n, n), Random(1))
    sides = {("lists", name): lambda f=f: f(a, b) for name, f in STAGES.items()}
    try:
        import torch
    except ImportError:
        return _spread(_turns(sides, repeats))
    u, v = (torch.tensor(t.data, dtype=torch.float64).reshape(n, n) for t in (a, b))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sides |= {("torch", name): lambda f=f: f(u, v) for name, f in torch_stages().items()}
    try:
        return _spread(_turns(sides, repeats))
    finally:
        torch.set_num_threads(threads)


def _turns(sides: dict, repeats: int) -> dict:
    times = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            times[name].append(_seconds(run))
    return times


def _seconds(run: Callable, least: float = 0.02) -> float:
    """Seconds of the processor a call: of one, or the mean of as many as take `least`. What else the machine
    does is left out.
    """
    count, began = 0, time.process_time()
    while not count or time.process_time() - began < least:
        run()
        count += 1
    return (time.process_time() - began) / count


def _spread(times: dict) -> dict[str, dict[str, list[float]]]:
    out: dict[str, dict[str, list[float]]] = {"lists": {}, "torch": {}}
    for (side, name), t in times.items():
        out[side][name] = [statistics.median(t), min(t), max(t)]
    return out
