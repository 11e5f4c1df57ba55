"""`unnoise generate`: images from a prompt."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from unnoise.cli.common import emit, progress
from unnoise.errors import BadInput


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw; empty for anything the model knows.")] = "",
    n: Annotated[int, typer.Option("-n", "--num-images", help="How many images, with seeds SEED, SEED + 1, …")] = 1,
    output: Annotated[Optional[Path], typer.Option("-o", "--output", help="A .png file (several images: also the grid), or a folder.")] = None,  # noqa: UP045
    model: Annotated[str, typer.Option("--model", help="A bundled model, or a model folder.")] = "digits",
    steps: Annotated[Optional[int], typer.Option("--steps", help="Sampling steps.")] = None,  # noqa: UP045
    guidance: Annotated[Optional[float], typer.Option("--guidance", help="Guidance scale; 1 is off.")] = None,  # noqa: UP045
    negative: Annotated[str, typer.Option("--negative", help="What to steer away from.")] = "",
    seed: Annotated[Optional[int], typer.Option("--seed", help="The first image's seed; drawn and reported when left out.")] = None,  # noqa: UP045
    sampler: Annotated[Optional[str], typer.Option("--sampler", help="See `unnoise samplers`.")] = None,  # noqa: UP045
    spacing: Annotated[Optional[str], typer.Option("--spacing", help="The grid of noise levels, see `unnoise samplers`.")] = None,  # noqa: UP045
    noise: Annotated[str, typer.Option("--noise", help="seeded, or brownian (one path a seed for SDE samplers at any number of steps).")] = "seeded",
    rescale: Annotated[float, typer.Option("--guidance-rescale", help="Restore the spread that guidance changes; 0 is off.")] = 0.0,
    option: Annotated[Optional[list[str]], typer.Option("--option", help="An option of the sampler, as in eta=0.5; may be repeated.")] = None,  # noqa: UP045
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images made at once.")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Draw images from a prompt and write them as PNG files that carry their own recipe."""
    began = time.perf_counter()
    output = output or Path(_slug(prompt) + ".png")
    _writable(output)
    from unnoise.pipeline import load

    pipe = load(model)
    request: dict[str, Any] = {"negative_prompt": negative, "num_inference_steps": steps, "guidance_scale": guidance, "seed": seed,
                               "num_images": n, "sampler": sampler, "spacing": spacing, "noise": noise, "guidance_rescale": rescale,
                               **_options(option or [])}
    with progress("drawing", None, "call") as advance:
        result = pipe(prompt, batch_size=batch_size, progress=advance, **request)
    files = result.save(output)
    out: dict[str, Any] = {"files": [str(f) for f in files], "seeds": list(result.seeds), "nfe": result.nfe,
                           "seconds": round(time.perf_counter() - began, 3), "model": pipe.name}
    if len(files) > 1 and output.suffix: out["grid"] = str(output)
    shown = [str(output)] if "grid" in out else out["files"]
    emit(out, as_json, "\n".join(shown))


def _options(pairs: list[str]) -> dict[str, Any]:
    """Sampler options from "name=value" texts: numbers and true/false where they read as such."""
    out: dict[str, Any] = {}
    for pair in pairs:
        name, eq, text = pair.partition("=")
        if not eq or not name.isidentifier(): raise BadInput(f"--option must be name=value, given {pair!r}")
        out[name] = _value(text)
    return out


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"): return text.lower() == "true"
    for kind in (int, float):
        try: return kind(text)
        except ValueError: continue
    return text


def _slug(prompt: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in prompt.lower()).split())[:60] or "unnoise"


def _writable(path: Path) -> None:
    """Refuse before the work what could not be written after it."""
    import os

    parent = path if path.is_dir() else path.parent
    if not parent.is_dir() and path.suffix: raise BadInput(f"cannot write {path}: there is no folder {parent}")
    if parent.is_dir() and not os.access(parent, os.W_OK): raise BadInput(f"cannot write {path}: no permission to write in {parent}")
    if path.suffix and path.suffix.lower() != ".png" and not path.is_dir():
        raise BadInput(f"cannot write {path}: pictures are written as .png, which carries the recipe (given {path.suffix})")
