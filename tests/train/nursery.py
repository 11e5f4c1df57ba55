"""Runs trainings in short-lived processes and kills them: `python -m tests.train.nursery SPEC`, SPEC a JSON
object.

The costly imports are done once, each process is a fork; every kill is a real SIGKILL. Kinds of kill, taken
in turn: a moment after the next step was logged; before the n-th call that makes a write durable; between two
micro batches.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import accelerate  # noqa: F401
from PIL import Image  # noqa: F401

import unnoise.hub
import unnoise.sample  # noqa: F401
from tests.train.tiny import poison
from unnoise.base.stop import exit_code
from unnoise.train import build, fit, run
from unnoise.train.recipe import Recipe, parse

PREPARE = fit.prepare


def child(recipe: Recipe, folder: Path, fault: tuple, result: Path | None = None) -> int:
    """A process that trains, or goes on training, in `folder`; `fault` makes it kill itself. Returns its
    id.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        inject(*fault)
        run.prepare = lambda *a: poison(
            PREPARE(*a), lambda step, salt: step in (20, 21) and salt == 0
        )  # a roll-back
        out = run.train(recipe, folder, resume=True)
        if result:
            result.write_text(json.dumps(out))
        os._exit(0)
    except KeyboardInterrupt as e:
        os._exit(exit_code(e))
    except BaseException as e:
        print(f"{type(e).__name__}: {e}", file=sys.stderr, flush=True)
        os._exit(1)


def inject(kind: str, n: int = 0, sig: int = signal.SIGKILL) -> None:
    """Arrange for a signal to this process before its n-th call of a kind: for its death, unless the signal
    is another.
    """
    left = [n]

    def then(f):
        def call(*a, **kw):
            left[0] -= 1
            if left[0] < 0 and (sig == signal.SIGKILL or left[0] == -1):
                os.kill(os.getpid(), sig)
            return f(*a, **kw)

        return call

    if kind == "write":
        os.fsync, os.rename = then(os.fsync), then(os.rename)
    if kind == "micro":
        batch = fit._batch

        def half(run, rank, world, micro):
            if micro == 1:
                then_die()
            return batch(run, rank, world, micro)

        then_die = then(lambda: None)
        fit._batch = half


def lines(folder: Path) -> int:
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def kill(pid: int, folder: Path, delay: float) -> bool:
    """SIGKILL `delay` seconds after the log has grown; False when the process had ended by itself."""
    start, until = lines(folder), time.monotonic() + 300
    while lines(folder) <= start and time.monotonic() < until and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(delay)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return os.waitpid(pid, 0)[1] == signal.SIGKILL


def main(recipe: dict, folder: str, kills: int, seed: int) -> dict:
    r, place, rng, got, torn = parse(recipe), Path(folder), random.Random(seed), [], 0
    build.source(r)  # what is imported late is imported here, once
    result = place.with_suffix(".json")
    assert os.waitpid(child(r, place.with_name("whole"), ("none",), result), 0)[1] == 0
    whole = json.loads(result.read_text())
    while len(got) < kills:
        kind = ("time", "write", "micro")[len(got) % 3]
        fault = {"time": ("none",), "write": (kind, rng.randrange(28)), "micro": (kind, rng.randrange(1, 4))}[
            kind
        ]
        pid = child(r, place, fault)
        dead = (
            kill(pid, place, rng.random() * 0.03)
            if kind == "time"
            else os.waitpid(pid, 0)[1] == signal.SIGKILL
        )
        assert dead, f"the run ended before kill {len(got)} ({fault})"
        torn += any((place / "checkpoints").glob(".tmp-*"))
        got.append(kind)
    assert os.waitpid(child(r, place, ("none",), result), 0)[1] == 0
    return {"whole": whole, "killed": json.loads(result.read_text()), "kinds": got, "torn": torn}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
