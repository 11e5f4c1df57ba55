"""`unnoise evaluate`: how good a model is, with everything that the numbers depend on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from unnoise import DEFAULT_MODEL
from unnoise.base.errors import BadInput
from unnoise.cli.common import emit, progress

Report = dict[str, Any]


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundled model, or a model folder.")] = DEFAULT_MODEL,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--num-images",
            help="Images to judge by: 2000; 1000 prompts at each guidance for text models.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Sampling steps.")] = None,
    guidance: Annotated[
        str | None,
        typer.Option("--guidance", help="Guidance scale, 1 is off; of text models several: 1,2,3,5,8."),
    ] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="Its name.")] = None,
    spacing: Annotated[str | None, typer.Option("--spacing", help="The grid of levels.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The first image's seed.")] = 0,
    judge: Annotated[
        str | None, typer.Option("--judge", help="digits-judge or emoji-judge by kind of model, or a folder.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="The real images: mnist+fashion, or emoji for text models.")
    ] = None,
    negatives: Annotated[
        int,
        typer.Option(
            "--negatives",
            min=0,
            help="Text models: pairs without and with a negative prompt; 0 leaves them out.",
        ),
    ] = 300,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images made at once; kept after each batch.")
    ] = 100,
    work: Annotated[Path | None, typer.Option("--work", help="Where they are kept.")] = None,
    inception: Annotated[
        bool,
        typer.Option("--inception", help="FID and KID of the standard Inception features; slow on a CPU."),
    ] = False,
    against: Annotated[Path | None, typer.Option("--against", help="A JSON report.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Measure a model beside what real images score. Models of classes: accuracy, FID, KID, precision,
    recall. Text models of the emoji world: do pictures show what was asked, by guidance; FID, KID,
    near-copies, negative prompts. Continues when interrupted.
    """
    began = time.perf_counter()
    scales = _numbers(guidance)
    if n is not None and n < 2:
        raise BadInput(f"-n must be at least 2 images, given {n}")
    from unnoise import evaluate as room
    from unnoise.base import read
    from unnoise.pipeline import load

    pipe = load(model)
    if pipe.text is not None:
        from unnoise.evaluate import scenes

        if against:
            raise BadInput(
                "--against compares models of classes; for text models give --json and compare the files"
            )
        count, scales = n or 1000, scales or scenes.GUIDANCES
        with (
            progress(
                "generating",
                count * len(scales) + 2 * (negatives + scenes.contradictions(negatives)),
                "image",
            ) as bar,
            _resumable(bar) as advance,
        ):
            report: Report = scenes.evaluate_scenes(
                pipe,
                count,
                guidances=scales,
                num_inference_steps=steps,
                sampler=sampler,
                spacing=spacing,
                seed=seed,
                judge=judge or "emoji-judge",
                emoji=data or "emoji",
                batch_size=batch_size,
                work=work,
                negatives=negatives,
                progress=advance,
                inception=inception,
            )
        report["seconds"] = round(time.perf_counter() - began, 3)
        emit(report, as_json, None if as_json else scene_table(report))
        return
    if len(scales) > 1:
        raise BadInput(f"--guidance takes one number for models of classes, given {guidance}")
    earlier, count = read.object_file(against, "report") if against else None, n or 2000
    with progress("generating", count, "image") as bar, _resumable(bar) as advance:
        report = room.evaluate(
            pipe,
            count,
            num_inference_steps=steps,
            guidance_scale=scales[0] if scales else None,
            sampler=sampler,
            spacing=spacing,
            seed=seed,
            judge=judge or "digits-judge",
            data=data or "mnist+fashion",
            batch_size=batch_size,
            work=work,
            progress=advance,
            inception=inception,
        )
    if earlier is not None:
        report["against"] = {"file": str(against), **room.compare(earlier, report)}
    report["seconds"] = round(time.perf_counter() - began, 3)
    emit(report, as_json, None if as_json else table(report))


def _numbers(text: str | None) -> tuple[float, ...]:
    """ "1,2,5" as numbers; none when it is not given."""
    if text is None:
        return ()
    try:
        return tuple(float(v) for v in text.split(","))
    except ValueError:
        raise BadInput(f"--guidance must be numbers with commas between them, given {text!r}") from None


def scene_table(r: Report) -> str:
    """The report of a text model: a row for what is asked, a column for each guidance; shares in percent of
    the judge's own ceiling.
    """
    scales, s = list(r["rows"]), r["settings"]
    cell = lambda v: (
        "-"
        if v["value"] is None
        else f"{100 * v['value']:.1f}" + ("" if v["relative"] is None else f" ({100 * v['relative']:.0f})")
    )
    first = r["rows"][scales[0]]
    rows = [("right, % (% of ceiling)", *(f"guidance {g}" for g in scales), "ceiling", "n")]
    top = lambda v: "-" if v.get("ceiling") is None else f"{100 * v['ceiling']:.1f}"
    rows += [(name, *(cell(r["rows"][g][name]) for g in scales), top(v), v["n"]) for name, v in first.items()]
    far = [("", *(f"guidance {g}" for g in scales), "floor (real)", "n")]
    far += [
        (k.upper(), *(f"{r['distances'][g][k]:.4f}" for g in scales), f"{r['floor'][k]:.4f}", r["floor"]["n"])
        for k in ("fid", "kid")
    ]
    far.append(
        (
            "near-copies, %",
            *(f"{100 * r['near_copies'][g]['value']:.1f}" for g in scales),
            "1.0",
            r["near_copies"][scales[0]]["n"],
        )
    )
    lines = [
        (
            f"model      {r['model']['name']} ({r['model']['sha256'][:12]}): {s['sampler']}, {s['steps']}"
            f" steps, {s['spacing']} grid"
        ),
        f"judge      {r['judge']['name']} ({r['judge']['sha256'][:12]})",
        "",
        *_columns(rows),
        "",
        *_columns(far),
    ]
    if n := r["negative"]:
        share = lambda v: f"{100 * v['value']:.1f} ± {100 * v['se']:.1f}"
        lines += [
            "",
            *_columns(
                [
                    ("named attribute seen, %", *n["before"]),
                    *(
                        (f"{when} the negative prompt", *(share(v) for v in n[key].values()))
                        for when, key in (("without", "before"), ("with", "after"))
                    ),
                ]
            ),
        ]
    return "\n".join(lines)


@contextmanager
def _resumable(advance: Callable[[int], object]) -> Iterator[Callable[[int], None]]:
    """Yields what counts images and moves the bar; a signal then says how many are kept, and how to go on."""
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        advance(n)

    try:
        yield count
    except KeyboardInterrupt as e:
        raise type(e)(f"{done} images are made and kept; the same command continues") from None


def table(r: Report) -> str:
    """A report as lines for people."""
    return "\n".join(
        [*_head(r), "", *_columns(_distance_rows(r)), "", *_columns(_accuracy_rows(r)), *_against(r)]
    )


def _head(r: Report) -> list[str]:
    s, c = r["settings"], r["conditions"]
    return [
        (
            f"model      {s['model']} ({s['model_sha256'][:12]}): {s['sampler']}, {s['steps']} steps,"
            f" {s['spacing']} grid, {r['nfe']} calls, guidance {s['guidance']:g}, seeds {s['seed']} to"
            f" {s['seed'] + r['n'] - 1}"
        ),
        (
            f"judge      {c['judge']} ({c['judge_sha256'][:12]}): its {c['features']} features, unlike any"
            " other's"
        ),
        f"reference  {c['data']}, {c['split']} split, {c['n_matched']} images; floor of {r['floor']['of']}",
    ]


def _distance_rows(r: Report) -> list[tuple]:
    n, sides = r["n_matched"], (r, r["floor"])
    share = lambda v: "-" if v is None else f"{v:.4f}"
    error = lambda d: "" if d["kid_se"] is None else f" ± {d['kid_se']:.5f}"
    kid = lambda d: "-" if d["kid"] is None else f"{d['kid']:.5f}{error(d)}"
    return [
        ("", "generated", "floor (real)", "n"),
        ("FID", *(f"{d['fid']:.3f}" for d in sides), n),
        ("KID", *map(kid, sides), n),
        *((k, *(share(d[k]) for d in sides), n) for k in ("precision", "recall")),
    ]


def _accuracy_rows(r: Report) -> list[tuple]:
    a, top = r["accuracy"], r["ceiling"]
    head = ("accuracy", "generated", "ceiling (real)", "n")
    if a is None:
        return [head, ("all", "- (a model without words)", f"{top['all']['value']:.4f}", top["all"]["n"])]
    line = lambda name, x, y: (
        name,
        f"{x['value']:.4f} ± {x['se']:.4f}",
        f"{y['value']:.4f}" if y else "-",
        x["n"],
    )
    parts = [(k, v, top[part].get(k)) for part in ("groups", "classes") for k, v in a[part].items()]
    return [head, line("all", a["all"], top["all"]), *(line(*p) for p in parts)]


def _against(r: Report) -> list[str]:
    if "against" not in r:
        return []
    changes = ", ".join(f"{k} {v:+.5f}" for k, v in r["against"].items() if isinstance(v, float))
    return ["", f"against {r['against']['file']}: {changes}"]


def _columns(rows: list[tuple]) -> list[str]:
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    return [
        f"{row[0]:<{widths[0]}}  " + "  ".join(f"{v!s:>{w}}" for v, w in zip(row[1:], widths[1:]))
        for row in rows
    ]
