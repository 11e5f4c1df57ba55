"""Runs cases in short-lived forks of one process that has imported everything.

`python -m tests.fuzz.nursery -n 20000 -p 2`:

    -n N       cases in all, spread over the kinds     -p P    processes at once     --seed S
    --kind K   that kind alone (may be repeated)       --log FILE   finished parts: the same command goes on
    --one KIND/NUMBER   one case, told in full         --serve      answers requests of a test, one a line

Prints one JSON object: counts by kind, and the faults with the numbers of their cases; exit 1 with any.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

PART = 50  # cases of one fork
STUCK = 150  # seconds without a word after which a fork is ended: it does not come back from C
Part = tuple[str, int, int]  # kind, first, last + 1


def prepare() -> Path:
    """Import what the cases need, and make what they are made of; returns its folder."""
    root = Path(tempfile.mkdtemp(prefix="unnoise-fuzz-"))
    for name in ("XDG_CACHE_HOME", "HF_HOME", "UNNOISE_CACHE", "UNNOISE_DATA"):
        os.environ[name] = str(root / "cache")
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "100"}
    (root / "cache").mkdir()
    import torch

    torch.set_num_threads(1)
    import typer

    typer.main.get_command = cache(
        typer.main.get_command
    )  # the tree of commands is made anew for each command line: 0.1 s
    from tests.fuzz import nest

    said = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        nest.build(root / "nest")
    finally:
        sys.stdout.flush()
        os.dup2(said, 1)
    return root


# --- a fork ---------------------------------------------------------------------------------------------


class Fork:
    """A process that works through a part; a line of JSON tells when a case begins, and what came of it."""

    def __init__(self, root: Path, part: Part, seed: int):
        self.part, self.begun, self.told, self.buffer = part, part[1] - 1, time.monotonic(), b""
        self.read, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.read)
            _work(root, part, seed, write)
        os.close(write)

    def lines(self) -> list[dict[str, Any]]:
        """What has been told since; an empty list at the end."""
        raw = os.read(self.read, 2**16)
        self.buffer, self.told = self.buffer + raw, time.monotonic()
        if not raw:
            return []
        *whole, self.buffer = self.buffer.split(b"\n")
        return [json.loads(line) for line in whole] or [{}]

    def end(self, kill: bool = False) -> int:
        if kill:
            os.kill(self.pid, 9)
        os.close(self.read)
        return os.waitpid(self.pid, 0)[1]


def _work(root: Path, part: Part, seed: int, write: int) -> None:
    """The fork's own life. It never returns."""
    last = [part[1]]

    def tell(d: dict[str, Any]) -> None:
        last[0] = d.get("begun", last[0])
        os.write(write, json.dumps(d).encode() + b"\n")

    try:
        _cases(root, part, seed, tell)
    except BaseException as e:
        with suppress(OSError):  # nobody listens any more
            tell(_untold(last[0], "harness", f"harness: {e!r} {traceback.format_exc()[-600:]}"))
    finally:
        os._exit(0)


def _cases(root: Path, part: Part, seed: int, tell: Callable[[dict[str, Any]], None]) -> None:
    from tests.fuzz import case, kinds
    from unnoise.cli.main import main

    kind, first, last = part
    home = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=root))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    case.watch(root / "cache")
    for i in range(first, last):
        tell({"begun": i})
        place = home / str(i)
        (place / "tmp").mkdir(parents=True)
        tempfile.tempdir = os.environ["TMPDIR"] = str(place / "tmp")
        argv, kept = kinds.make(kind, i, seed, root / "nest", place)
        found = case.run(main, argv, place, kept)
        short = {"argv": [a[:500] for a in argv], "out": found["out"][:2000], "err": found["err"][:2000]}
        tell({"case": i, **found, **short})
        os.chdir(root)
        shutil.rmtree(place, ignore_errors=True)


def _untold(number: int, code: str, fault: str) -> dict[str, Any]:
    """What is told of a case that cannot tell it itself."""
    return {"case": number, "argv": [], "code": code, "faults": [fault], "seconds": 0, "grown": 0, "err": ""}


def results(
    root: Path, parts: Iterable[Part], seed: int, processes: int = 1
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, what came of a case) of all cases of the parts.

    A case that ends its process is told as one that died, and the rest goes on.
    After the last case of a part comes (kind, {"part": it}).
    """
    waiting, forks = list(parts)[::-1], {}
    while waiting or forks:
        while waiting and len(forks) < processes:
            fork = Fork(root, waiting.pop(), seed)
            forks[fork.read] = fork
        for fd in select.select(list(forks), [], [], 1)[0]:
            fork = forks[fd]
            lines = fork.lines()
            for d in lines:
                fork.begun = d.get("begun", fork.begun)
                if "case" in d:
                    yield fork.part[0], d
            if lines and not any(d.get("code") == "harness" for d in lines):
                continue
            yield from _over(forks.pop(fd), waiting, False)
        for fd, fork in list(forks.items()):
            if time.monotonic() - fork.told > STUCK:
                yield from _over(forks.pop(fd), waiting, True)


def _over(fork: Fork, waiting: list[Part], stuck: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """A fork that has ended, or has to: what is left of its part waits again."""
    status, (kind, _, last) = fork.end(kill=stuck), fork.part
    if status or stuck:
        what = f"hang of {STUCK} s in one call" if stuck else f"the process died: status {status}"
        yield kind, _untold(fork.begun, "died", what)
    if fork.begun + 1 < last:
        waiting.append((kind, fork.begun + 1, last))
    else:
        yield kind, {"part": (kind, last)}


# --- counting -------------------------------------------------------------------------------------------


class Counts:
    """Numbers of cases by kind and outcome, the slowest and largest, and the faults."""

    def __init__(self):
        self.kinds: dict[str, Counter] = {}
        self.most: dict[str, dict[str, float]] = {}
        self.faults: list[dict[str, Any]] = []

    def add(self, kind: str, d: dict[str, Any]) -> None:
        n = self.kinds.setdefault(kind, Counter())
        n.update({"cases": 1, f"exit {d['code']}": 1, "with faults": int(bool(d["faults"]))})
        most = self.most.setdefault(kind, {"seconds": 0.0, "MiB": 0.0})
        most["seconds"], most["MiB"] = (
            max(most["seconds"], d["seconds"]),
            max(most["MiB"], round(d["grown"] / 2**20, 1)),
        )
        if d["faults"]:
            self.faults.append(
                {
                    "case": f"{kind}/{d['case']}",
                    "faults": d["faults"],
                    "argv": [a[:80] for a in d["argv"]],
                    "err": d["err"][:300],
                }
            )

    def told(self) -> dict[str, Any]:
        return {
            "kinds": {k: {**n, "most": self.most[k]} for k, n in self.kinds.items()},
            "cases": sum(n["cases"] for n in self.kinds.values()),
            "with faults": len(self.faults),
        }


def spread(n: int, kinds: list[str]) -> list[Part]:
    """n cases over the kinds, in parts that take turns."""
    each = -(-n // len(kinds))
    return [(k, i, min(i + PART, each)) for i in range(0, each, PART) for k in kinds]


def survey(root: Path, parts: list[Part], seed: int, processes: int, log: Log) -> Counts:
    """The counts of parts; those that stand in the log are not run again."""
    counts = Counts()
    for kind, d in log.results():
        counts.add(kind, d)
    begun, before = time.monotonic(), sum(n["cases"] for n in counts.kinds.values())
    try:
        for kind, d in results(root, [p for p in parts if p[:2] not in log.done], seed, processes):
            if log.keep(kind, d):
                continue
            counts.add(kind, d)
            n = sum(c["cases"] for c in counts.kinds.values())
            if n % 500 == 0:
                rate = (n - before) / (time.monotonic() - begun)
                _say(f"{n} cases, {len(counts.faults)} with faults, {rate:.1f} a second")
    except KeyboardInterrupt:
        _say("interrupted: what is finished is counted" + ("; the same command goes on" if log.path else ""))
    return counts


class Log:
    """The finished parts, a line of JSON each, so that the same command goes on where it was stopped."""

    def __init__(self, path: Path | None, seed: int):
        self.path, self.seed, self.open = path, seed, {}
        lines = path.read_text().splitlines() if path and path.exists() else []
        self.lines = [d for d in map(json.loads, lines) if d["seed"] == seed]
        self.done = {(d["kind"], d["first"]) for d in self.lines}

    def results(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What came of the cases that were run before."""
        for d in self.lines:
            yield from ((d["kind"], r) for r in d["results"])

    def keep(self, kind: str, d: dict[str, Any]) -> bool:
        """Remember what came of a case; write the part once it is over (then True: d is no case)."""
        if "part" not in d:
            slim = {k: d[k] for k in ("case", "code", "faults", "seconds", "grown")}
            slim |= {"argv": d["argv"], "err": d["err"][:1000]} if d["faults"] else {"argv": [], "err": ""}
            self.open.setdefault((kind, d["case"] // PART), []).append(slim)
            return False
        place = (d["part"][1] - 1) // PART
        line = {"seed": self.seed, "kind": kind, "first": place * PART}
        line["results"] = self.open.pop((kind, place), [])
        if self.path:
            with self.path.open("a") as f:
                f.write(json.dumps(line) + "\n")
        return True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- from outside ---------------------------------------------------------------------------------------


def serve(root: Path) -> None:
    """For each line {kind, count, seed} on stdin, one line with the counts and faults on stdout.

    {kind, number, seed}: that case as a process of its own.
    """
    print("ready", flush=True)
    for line in sys.stdin:
        d = json.loads(line)
        if "number" in d:
            print(json.dumps(_process(root, d["kind"], d["number"], d["seed"])), flush=True)
            continue
        counts = Counts()
        for kind, r in results(
            root, [(d["kind"], i, min(i + PART, d["count"])) for i in range(0, d["count"], PART)], d["seed"]
        ):
            if "part" not in r:
                counts.add(kind, r)
        print(json.dumps({**counts.told(), "faults": counts.faults}), flush=True)


def _process(root: Path, kind: str, number: int, seed: int) -> dict[str, Any]:
    """A case as a process of its own, as a shell starts it: {argv, code, out, err}."""
    from tests.fuzz import kinds

    place = Path(tempfile.mkdtemp(prefix="process-", dir=root))
    argv, _ = kinds.make(kind, number, seed, root / "nest", place)
    command = [sys.executable, "-m", "unnoise.cli.main", *argv]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    p = subprocess.run(
        command, cwd=place / "out", env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120
    )
    text = lambda raw: raw.decode("utf-8", "surrogateescape")
    return {"argv": argv, "code": p.returncode, "out": text(p.stdout), "err": text(p.stderr)}


def main() -> int:
    from tests.fuzz.kinds import KINDS

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-n", type=int, default=2000)
    p.add_argument("-p", type=int, default=1)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--kind", action="append", choices=list(KINDS))
    p.add_argument("--log", type=Path)
    p.add_argument("--one")
    p.add_argument("--serve", action="store_true")
    given = p.parse_args()
    root = prepare()
    try:
        if given.serve:
            return serve(root) or 0
        if given.one:
            kind, _, number = given.one.partition("/")
            parts = [(kind, int(number), int(number) + 1)]
            for _, d in results(root, parts, given.seed):
                print(json.dumps(d, indent=1))
            return 0
        parts = spread(given.n, given.kind or list(KINDS))
        counts = survey(root, parts, given.seed, given.p, Log(given.log, given.seed))
        print(json.dumps({**counts.told(), "faults": counts.faults}, indent=1))
        return int(bool(counts.faults))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
