"""The result as tables in Markdown: a mean over the seeds, and in brackets the least and the most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.from_scratch import png

START, END = "<!-- from here to the end mark: written by run.py -->\n\n", "\n\n<!-- end -->"
POINTS = {"off": ("off the curve", 3), "uneven": ("uneven", 3), "energy": ("energy distance", 4)}
DIGITS = {
    "far": ("to the nearest held out", 2),
    "missed": ("from those held out", 2),
    "read": ("read as asked", 2),
    "copied": ("copied", 2),
}


def tables(result: dict) -> str:
    """The table of the matrix product and those of what was learnt."""
    s = result["settings"]
    parts = [
        (
            f"Matrix product, {s['size']} x {s['size']} times {s['size']} x {s['size']}, milliseconds of one"
            " core"
        ),
        products(result["matmul"]),
    ]
    for name in ("ring", "moons"):
        parts += [
            f"{name.capitalize()}: {s['points']} points after {s['steps_points']} steps, {_seeds(s)}",
            scores(result[name], POINTS),
        ]
    parts += [
        f"Digits: {10 * s['each']} after {s['steps_digits']} steps, {_seeds(s)}",
        scores(result["digits"], DIGITS),
    ]
    return "\n\n".join(
        [*parts, f"{result['seconds'] / 60:.1f} minutes of one core in all, Python {result['python']}."]
    )


def insert(page: Path, text: str) -> None:
    """Puts the text between the marks of a page; a page that is not there, or has no marks, is left as it
    is.
    """
    if not page.exists():
        return
    before, start, rest = page.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if start and end:
        png.save(page, f"{before}{start}{text}{end}{after}".encode())


def _seeds(s: dict) -> str:
    return f"{s['seeds']} seeds" if s["seeds"] > 1 else "1 seed"


def products(matmul: dict) -> str:
    """A row a stage: median milliseconds (least … most) in lists and in torch; a dash where there is none."""
    stages = list(matmul["torch"] or matmul["lists"])
    rows = [[stage, *(_ms(matmul[side].get(stage)) for side in ("lists", "torch"))] for stage in stages]
    return markdown(["", "lists", "torch"], rows)


def _ms(seconds: Sequence[float] | None) -> str:
    if not seconds:
        return "–"
    middle, least, most = (f"{1000 * t:.3g}" for t in seconds)
    return f"{middle} ({least} … {most})"


def scores(runs: Sequence[dict], measures: dict[str, tuple[str, int]]) -> str:
    """A row for each of what was scored, a column a measure."""
    rows = [
        [who, *(spread([run[who][key] for run in runs], digits) for key, (_, digits) in measures.items())]
        for who in runs[0]
    ]
    return markdown(["", *(title for title, _ in measures.values())], rows)


def spread(values: Sequence[float], digits: int) -> str:
    """mean (least … most), or the one value."""
    mean, least, most = (
        f"{v + 0.0:.{digits}f}" for v in (sum(values) / len(values), min(values), max(values))
    )
    return f"{mean} ({least} … {most})" if len(values) > 1 else mean


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
