"""`unnoise evaluate`: how good a model is, with everything that the numbers depend on."""
from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from unnoise.cli.common import emit, progress
from unnoise.errors import BadInput

Report = dict[str, Any]


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundled model, or a model folder.")] = "digits",
    n: Annotated[int, typer.Option("-n", "--num-images", help="How many images to generate and to judge by.")] = 2000,
    steps: Annotated[Optional[int], typer.Option("--steps", help="Sampling steps.")] = None,  # noqa: UP045
    guidance: Annotated[Optional[float], typer.Option("--guidance", help="Guidance scale; 1 is off.")] = None,  # noqa: UP045
    sampler: Annotated[Optional[str], typer.Option("--sampler", help="Its name.")] = None,  # noqa: UP045
    spacing: Annotated[Optional[str], typer.Option("--spacing", help="The grid of levels.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option("--seed", help="The first image's seed.")] = 0,
    judge: Annotated[str, typer.Option("--judge", help="The classifier: bundled, or a folder.")] = "digits-judge",
    data: Annotated[str, typer.Option("--data", help="The real images: a set with the judge's classes.")] = "mnist+fashion",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images made at once; kept after each batch.")] = 100,
    work: Annotated[Optional[Path], typer.Option("--work", help="Where they are kept.")] = None,  # noqa: UP045
    against: Annotated[Optional[Path], typer.Option("--against", help="A JSON report.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Measure a model: accuracy, FID, KID, precision, recall, beside what real images score. Continues when interrupted."""
    began = time.perf_counter()
    if n < 2: raise BadInput(f"-n must be at least 2 images, given {n}")
    from unnoise import evaluate as room
    from unnoise.hub import read_json

    earlier = read_json(against) if against else None
    with progress("generating", n, "image") as advance, _resumable():
        report: Report = room.evaluate(
            model, n, num_inference_steps=steps, guidance_scale=guidance, sampler=sampler, spacing=spacing, seed=seed,
            judge=judge, data=data, batch_size=batch_size, work=work, progress=advance)
    if earlier is not None: report["against"] = {"file": str(against), **room.compare(earlier, report)}
    report["seconds"] = round(time.perf_counter() - began, 3)
    emit(report, as_json, None if as_json else table(report))


@contextmanager
def _resumable() -> Iterator[None]:
    try: yield
    except KeyboardInterrupt: raise KeyboardInterrupt("what was made so far is kept; the same command continues") from None


def table(r: Report) -> str:
    """A report as lines for people."""
    return "\n".join([*_head(r), "", *_columns(_distance_rows(r)), "", *_columns(_accuracy_rows(r)), *_against(r)])


def _head(r: Report) -> list[str]:
    s, c = r["settings"], r["conditions"]
    return [f"model      {s['model']} ({s['model_sha256'][:12]}): {s['sampler']}, {s['steps']} steps, {s['spacing']} grid, "
            f"{r['nfe']} calls, guidance {s['guidance']:g}, seeds {s['seed']} to {s['seed'] + r['n'] - 1}",
            f"judge      {c['judge']} ({c['judge_sha256'][:12]}): its {c['features']} features, unlike any other's",
            f"reference  {c['data']}, {c['split']} split, {c['n_matched']} images; floor of {r['floor']['of']}"]


def _distance_rows(r: Report) -> list[tuple]:
    n, sides = r["n_matched"], (r, r["floor"])
    share = lambda v: "-" if v is None else f"{v:.4f}"
    error = lambda d: "" if d["kid_se"] is None else f" ± {d['kid_se']:.5f}"
    kid = lambda d: "-" if d["kid"] is None else f"{d['kid']:.5f}{error(d)}"
    return [("", "generated", "floor (real)", "n"), ("FID", *(f"{d['fid']:.3f}" for d in sides), n),
            ("KID", *map(kid, sides), n),
            *((k, *(share(d[k]) for d in sides), n) for k in ("precision", "recall"))]


def _accuracy_rows(r: Report) -> list[tuple]:
    a, top = r["accuracy"], r["ceiling"]
    head = ("accuracy", "generated", "ceiling (real)", "n")
    if a is None: return [head, ("all", "- (a model without words)", f"{top['all']['value']:.4f}", top["all"]["n"])]
    line = lambda name, x, y: (name, f"{x['value']:.4f} ± {x['se']:.4f}", f"{y['value']:.4f}" if y else "-", x["n"])
    parts = [(k, v, top[part].get(k)) for part in ("groups", "classes") for k, v in a[part].items()]
    return [head, line("all", a["all"], top["all"]), *(line(*p) for p in parts)]


def _against(r: Report) -> list[str]:
    if "against" not in r: return []
    changes = ", ".join(f"{k} {v:+.5f}" for k, v in r["against"].items() if isinstance(v, float))
    return ["", f"against {r['against']['file']}: {changes}"]


def _columns(rows: list[tuple]) -> list[str]:
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    return [f"{row[0]:<{widths[0]}}  " + "  ".join(f"{v!s:>{w}}" for v, w in zip(row[1:], widths[1:])) for row in rows]
