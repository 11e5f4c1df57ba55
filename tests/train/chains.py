"""Chains of resumed trainings, killed again and again: `python -m tests.train.chains [KILLS [CHAINS]]` (60
kills over 8 chains).

Each chain is a recipe of its own kind. Kills are SIGKILL, SIGTERM and SIGINT in turn, at a moment after the
log grew, before a call that makes a write durable, or between two micro batches. At the end the weights, the
validation and every line of the log (times apart) must be those of the run that was left in peace. Prints one
JSON object with the counts.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.train import nursery
from tests.train.tiny import JUDGE, MLP, UNET, toml
from unnoise.train import build
from unnoise.train.recipe import parse

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WHERE = ("time", "write", "micro")
KEYS = ("steps", "rollbacks", "raw_sha256", "ema0_sha256", "ema1_sha256", "validation")
STEPS = 24
LOG = {"save": 1, "every": 1, "validate_every": 7}
CHAINS = (
    toml(MLP, train={"steps": STEPS, "accumulate": 2, "bad_steps": 2}, log=LOG),
    toml(
        {**UNET, "dropout": 0.1},
        train={"steps": STEPS, "accumulate": 2, "bad_steps": 2},
        log={**LOG, "sample": 9},
    ),
    toml(MLP, train={"steps": STEPS, "accumulate": 2, "bad_steps": 3}, log={**LOG, "save": 5, "keep": 1}),
    toml(JUDGE, train={"steps": STEPS, "accumulate": 2, "bad_steps": 2}, log={**LOG, "save": 2}),
    toml(MLP, train={"steps": STEPS, "accumulate": 4, "bad_steps": 2}, log={**LOG, "save": 3, "every": 3}),
    toml(
        UNET,
        train={"steps": STEPS, "accumulate": 2, "bad_steps": 1},
        log={**LOG, "validate_every": 2, "keep": 3},
    ),
    toml(
        MLP,
        train={"steps": STEPS, "accumulate": 2, "bad_steps": 2, "precision": "bf16"},
        log={**LOG, "save": 4},
    ),
    toml(
        MLP,
        train={"steps": STEPS, "accumulate": 2, "bad_steps": 2, "export": "ema1"},
        log={**LOG, "save": 7, "sample": 1},
    ),
)


def log(folder: Path) -> list[dict]:
    """The lines of a run's log, without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_bytes().split(b"\n") if line]
    return [{k: v for k, v in line.items() if k != "images_per_s"} for line in lines]


def struck(recipe, place: Path, where: str, sig: int, rng: random.Random) -> bool:
    """One run that goes on in `place` and is stopped by `sig`; False where it had ended by itself before."""
    fault = ("none",) if where == "time" else (where, rng.randrange(1, 6 if where == "micro" else 28), sig)
    pid = nursery.child(recipe, place, fault)
    if where == "time":
        start, until = nursery.lines(place), time.monotonic() + 300
        while nursery.lines(place) <= start and time.monotonic() < until:
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                return False
            time.sleep(0.001)
        time.sleep(rng.random() * 0.03)
        os.kill(pid, sig)
    status = os.waitpid(pid, 0)[1]
    if sig == signal.SIGKILL:
        return os.WIFSIGNALED(status)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 128 + sig


def chain(d: dict, place: Path, kills: int, rng: random.Random, first: int = 0) -> dict:
    """What came of one chain: kills by signal, and what differs at the end (nothing should)."""
    recipe, result, counts = parse(d), place / "result.json", dict.fromkeys((s.name for s in SIGNALS), 0)
    build.source(recipe)  # what is imported late is imported here, once
    assert os.waitpid(nursery.child(recipe, place / "whole", ("none",), result), 0)[1] == 0
    whole, done = json.loads(result.read_text()), 0
    for attempt in range(10 * kills):
        if done == kills:
            break
        sig, where = SIGNALS[(first + done) % 3], WHERE[(first + attempt) // 3 % 3]
        if struck(recipe, place / "cut", where, sig, rng):
            counts[sig.name] += 1
            done += 1
        elif nursery.lines(place / "cut") and log(place / "cut")[-1]["event"] == "final":
            (place / "cut" / "checkpoints").rename(
                place / f"ended-{attempt}"
            )  # it was faster than the kill: from the start again
    assert os.waitpid(nursery.child(recipe, place / "cut", ("none",), result), 0)[1] == 0
    end = json.loads(result.read_text())
    differs = [k for k in KEYS if end[k] != whole[k]]
    mine, theirs = log(place / "cut"), log(place / "whole")
    if mine != theirs:
        differs.append(
            f"log: {[line for line in theirs if line not in mine][:3]} lacking,"
            f" {[line for line in mine if line not in theirs][:3]} too many"
        )
    return {"kills": counts, "lines": len(theirs), "rollbacks": whole["rollbacks"], "differs": differs}


def main(kills: int = 60, chains: int = 8, seed: int = 0) -> dict:
    """All chains; {"kills": by signal, "equal": how many chains, "chains": each one's own}."""
    rng, out, left = random.Random(seed), [], kills
    for i, d in enumerate(CHAINS[:chains]):
        share = left // (chains - i)
        left -= share
        with tempfile.TemporaryDirectory() as place:
            out.append(chain(d, Path(place), share, rng, first=sum(sum(c["kills"].values()) for c in out)))
        print(f"chain {i + 1} of {chains}: {json.dumps(out[-1])}", file=sys.stderr, flush=True)
    total = {s.name: sum(c["kills"][s.name] for c in out) for s in SIGNALS}
    return {"kills": total, "equal": sum(not c["differs"] for c in out), "chains": out}


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
