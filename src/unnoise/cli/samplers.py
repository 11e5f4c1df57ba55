"""`unnoise samplers`: the samplers and grids, the grid that would be used, and tuning one for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from unnoise import DEFAULT_MODEL
from unnoise.base.errors import BadInput
from unnoise.cli.common import emit, progress

if TYPE_CHECKING:
    from unnoise.pipeline import Pipeline
    from unnoise.process.level import Level


def samplers(
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the grid that would be used: t, sigma, SNR of each step.")
    ] = False,
    tune: Annotated[
        str | None,
        typer.Option("--tune", metavar="MODEL", help="Tune the grid of this model for --calls calls."),
    ] = None,
    calls: Annotated[int | None, typer.Option("--calls", help="Network calls to tune for.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", help="With --tune: the model folder to write (default: MODEL itself)."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="With --explain: whose schedule and defaults.")
    ] = DEFAULT_MODEL,
    steps: Annotated[int | None, typer.Option("--steps", help="With --explain: sampling steps.")] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="With --explain: a sampler.")] = None,
    spacing: Annotated[str | None, typer.Option("--spacing", help="With --explain: a grid.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """List samplers and grids; --explain a grid; --tune one for a model."""
    if tune is not None:
        return _tune(tune, calls, output, as_json)
    if calls is not None:
        raise BadInput("--calls goes with --tune MODEL")
    if explain:
        return _explain(model, steps, sampler, spacing, as_json)
    _list(as_json)


def _list(as_json: bool) -> None:
    from inspect import getdoc

    from unnoise.process.schedule import GRIDS
    from unnoise.sample import SAMPLERS

    keys = ("name", "order", "stochastic", "options", "summary")
    rows = [{k: getattr(s, k) for k in keys} for s in SAMPLERS.values()]
    first = lambda doc: " ".join((doc or "").split("\n\n")[0].split())
    grids = [{"name": k, "summary": first(getdoc(grid))} for k, grid in GRIDS.items()]
    kinds = {True: "stochastic   ", False: "deterministic"}
    lines = [f"{r['name']:20} order {r['order']}  {kinds[r['stochastic']]}  {r['summary']}" for r in rows]
    lines += ["", "grids:", *(f"{g['name']:20} {g['summary']}" for g in grids)]
    emit({"samplers": rows, "spacings": grids}, as_json, "\n".join(lines))


def _explain(model: str, steps: int | None, sampler: str | None, spacing: str | None, as_json: bool) -> None:
    from unnoise.pipeline import load
    from unnoise.sample import SAMPLERS

    pipe = load(model)
    r = pipe.request(num_inference_steps=steps, sampler=sampler, spacing=spacing)
    path = pipe.path(r)
    rows = [_level(pipe, i, l) for i, l in enumerate(path)]
    out = {
        "model": pipe.name,
        "schedule": pipe.schedule.name,
        "sampler": r.sampler,
        "spacing": r.spacing,
        "steps": r.steps,
        "nfe": SAMPLERS[r.sampler].calls(path, **r.options),
        "grid": rows,
    }
    head = f"{r.sampler} on {r.spacing}, {r.steps} steps, {out['nfe']} calls; schedule {pipe.schedule.name}"
    names = f"{'step':>4} {'t':>10} {'alpha':>12} {'sigma':>12} {'SNR':>12}"
    emit(out, as_json, "\n".join([head, names, *map(_line, rows)]))


def _level(pipe: Pipeline, i: int, l: Level) -> dict[str, Any]:
    return {
        "step": i,
        "t": round(float(pipe.schedule.timestep(l)), 4),
        "alpha": float(l.alpha),
        "sigma": float(l.sigma),
        "snr": float((l.alpha / l.sigma) ** 2) if float(l.sigma) else None,
    }


def _line(row: dict[str, Any]) -> str:
    snr = "inf" if row["snr"] is None else f"{row['snr']:.6g}"
    return f"{row['step']:>4} {row['t']:>10.3f} {row['alpha']:>12.6g} {row['sigma']:>12.6g} {snr:>12}"


def _tune(model: str, calls: int | None, output: str | None, as_json: bool) -> None:
    if calls is None:
        raise BadInput("--tune needs --calls N: how many network calls to tune for")
    if calls < 1:
        raise BadInput(f"--calls must be at least 1, given {calls}")
    from unnoise.pipeline import load
    from unnoise.tune import tune_model

    with progress("tuning", None, "round") as advance:
        out = tune_model(load(model), calls, output, advance)
    emit(out, as_json)
