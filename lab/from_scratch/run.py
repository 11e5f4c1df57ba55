"""What is a diffusion model made of without any library, and what do the libraries buy?

    python lab/from_scratch/run.py [--quick] [--seeds N] [--out DIR] [--json]

Times the matrix product at each stage, trains on a ring, on two moons and on 8x8 digits, and scores what is
drawn. Writes points.png, digits.png and result.json to DIR, and the tables into its README.md where there is
one. Nothing but the standard library is needed; torch, where it is installed, is timed beside.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.from_scratch import compare, data, diffusion, measure, nn, png, report
from lab.from_scratch.tensor import BadInput, Tensor

ETAS = {"DDIM": 0.0, "DDPM": 1.0}
SHOWN = 5  # levels of a run in points.png


class Settings(NamedTuple):
    """How much is done. `each`: digits drawn of each label."""

    size: int = 64
    repeats: int = 3
    steps_points: int = 500
    points: int = 500
    steps_digits: int = 400
    each: int = 25
    sampling: int = 20
    seeds: int = 3


QUICK = Settings(size=16, steps_points=40, points=100, steps_digits=30, each=3, seeds=1)


def note(text: str, end: str = "\n") -> None:
    """A line on stderr."""
    print(text, end=end, file=sys.stderr, flush=True)


def trained(name: str, sizes: list[int], draw: Callable, steps: int, batch: int, rng: Random) -> nn.Params:
    """The parameters after `steps` steps; on a terminal with their rate and the time left."""
    params, began = nn.init(sizes, rng), time.perf_counter()
    for k, loss in enumerate(diffusion.train(params, draw, steps, batch, rng), 1):
        rate = k / (time.perf_counter() - began)
        if sys.stderr.isatty():
            note(
                f"\r{name}: step {k} of {steps}, loss {loss:.3f}, {rate:.1f} steps/s,"
                f" {(steps - k) / rate:.0f} s left ",
                "",
            )
    note(f"{name}: {steps} steps in {time.perf_counter() - began:.0f} s")
    return params


def drawn(params: nn.Params, known: list, width: int, steps: int, eta: float, rng: Random) -> list[Tensor]:
    """The States of one run: x at every level of the path."""
    x = diffusion.normal((len(known), width), rng)
    return list(diffusion.sample(diffusion.network(params, known), x, diffusion.path(steps), rng, eta))


def points(name: str, s: Settings, seed: int) -> tuple[dict, list]:
    """The scores of one curve and seed, {who: {measure: value}}, and a row of pictures: DDIM's way down, and
    data.
    """
    curve, rng = data.CURVES[name], Random(f"{name} {seed}")
    params = trained(
        f"{name}, seed {seed}",
        [2 + 2 * diffusion.WAVES, 32, 32, 32, 32, 2],
        data.points_of(curve),
        s.steps_points,
        64,
        rng,
    )
    fresh, other = curve.points(s.points, rng), curve.points(s.points, rng)
    runs = {who: drawn(params, [[]] * s.points, 2, s.sampling, eta, rng) for who, eta in ETAS.items()}
    sets = {
        **{who: run[-1].rows() for who, run in runs.items()},
        "fresh data": other,
        "columns shuffled": measure.shuffled(other, rng),
    }
    scores = {
        who: {
            "off": measure.off(curve, rows),
            "uneven": measure.uneven(curve, rows),
            "energy": measure.energy(rows, fresh),
        }
        for who, rows in sets.items()
    }
    shown = [runs["DDIM"][i * s.sampling // (SHOWN - 1)].rows() for i in range(SHOWN)]
    return scores, [*map(png.scatter, shown), png.scatter(fresh)]


def digits(s: Settings, seed: int) -> tuple[dict, list]:
    """The scores of one seed, {who: {measure: value}}, and rows of pictures: digits drawn beside digits held
    out.
    """
    learnt, held = data.digits()
    rng, labels = Random(f"digits {seed}"), [i % 10 for i in range(10 * s.each)]
    params = trained(
        f"digits, seed {seed}",
        [64 + 2 * diffusion.WAVES + 10, 128, 64],
        data.digits_of(learnt),
        s.steps_digits,
        32,
        rng,
    )
    sets = {
        who: data.Digits(
            held_in(drawn(params, [*map(data.hot, labels)], 64, s.sampling, eta, rng)[-1]), labels
        )
        for who, eta in ETAS.items()
    }
    real = data.pick(learnt, s.each)
    sets |= {"digits learnt from": real, "columns shuffled": measure.shuffled_digits(real, rng)}
    return {who: scored(them, learnt, held) for who, them in sets.items()}, sheet(sets["DDPM"], held)


def held_in(x: Tensor) -> list[list[float]]:
    """Rows held to [-1, 1], what a pixel can be."""
    return x.map(lambda v: min(max(v, -1.0), 1.0)).rows()


def scored(them: data.Digits, learnt: data.Digits, held: data.Digits) -> dict:
    """The measures of one set of digits."""
    return {
        "far": measure.far(them.pixels, held.pixels),
        "missed": measure.far(held.pixels, them.pixels),
        "read": measure.read_as(them, held),
        "copied": measure.copied(them.pixels, learnt.pixels, held.pixels),
    }


def sheet(them: data.Digits, held: data.Digits, rows: int = 6) -> list:
    """Rows of pictures: 0 … 9 of the one, a gap, 0 … 9 of the other."""
    a, b = (
        [*map(png.digit, data.pick(part, min(rows, len(them.labels) // 10)).pixels)] for part in (them, held)
    )
    gap = png.digit([-1.0] * 64)
    return [[*a[i : i + 10], gap, *b[i : i + 10]] for i in range(0, len(a), 10)]


def study(s: Settings, out: Path) -> dict:
    """The whole result; its pictures are written to `out`. `seconds`: of the processor."""
    began = time.process_time()
    result: dict = {
        "python": platform.python_version(),
        "settings": s._asdict(),
        "matmul": compare.timings(s.size, s.repeats),
    }
    if not result["matmul"]["torch"]:
        note("torch is not installed: only the standard library is timed")
    rows = []
    for name in data.CURVES:
        runs = [points(name, s, seed) for seed in range(s.seeds)]
        result[name], rows = [scores for scores, _ in runs], [*rows, runs[0][1]]
    png.save(out / "points.png", png.encode(png.grid(rows)))
    runs = [digits(s, seed) for seed in range(s.seeds)]
    png.save(out / "digits.png", png.encode(png.grid(runs[0][1])))
    return {**result, "digits": [scores for scores, _ in runs], "seconds": round(time.process_time() - began)}


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """One line instead of the usage."""
        raise BadInput(f"{message} (accepted: --quick, --seeds N, --out DIR, --json)")


def options(given: list[str] | None) -> argparse.Namespace:
    """The command line. Errors: BadInput."""
    p = Parser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    p.add_argument(
        "--quick",
        action="store_true",
        help="a small version of everything, under a minute: do not read the scores",
    )
    p.add_argument("--seeds", type=int, help="how often each model is trained (3; 1 with --quick)")
    p.add_argument(
        "--out",
        type=Path,
        default=Path("out/from_scratch"),
        help="where pictures and result.json go (out/from_scratch)",
    )
    p.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    args = p.parse_args(given)
    if args.seeds is not None and args.seeds < 1:
        raise BadInput(f"--seeds must be at least 1, given {args.seeds}")
    return args


def main(given: list[str] | None = None) -> int:
    """The exit code: 0 done, 2 bad input, 130 interrupted."""
    try:
        args = options(given)
        s = QUICK if args.quick else Settings()
        args.out.mkdir(parents=True, exist_ok=True)
        result = study(s._replace(seeds=args.seeds or s.seeds), args.out)
        png.save(args.out / "result.json", (json.dumps(result, indent=1) + "\n").encode())
        if not args.quick:
            report.insert(args.out / "README.md", report.tables(result))
    except BadInput as e:
        note(f"error: {e}")
        return 2
    except OSError as e:
        note(f"error: {e.filename or '--out'} cannot be written: {e.strerror}")
        return 2
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    print(json.dumps(result) if args.json else report.tables(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
