"""`unnoise edit invert`, `prompt-to-prompt` and `diffedit`."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from unnoise.cli.edit import common as c
from unnoise.errors import BadInput


def invert(
    image: c.Image,
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")] = "",
    method: Annotated[str, typer.Option("--method", help="plain, fixed-point, or coupled (exact at any guidance).")] = "fixed-point",
    anchor: Annotated[str, typer.Option("--anchor", help="What holds it under guidance: none, negative-prompt or null-text.")] = "none",
    iterations: Annotated[int, typer.Option("--iterations", help="Of the fixed point, at each step.")] = 3,
    output: c.Output = None, overwrite: c.Overwrite = False, model: c.Model = c.DEFAULT,
    steps: Annotated[int, typer.Option("--steps", help="Steps up, and down again.")] = 50,
    guidance: Annotated[float, typer.Option("--guidance", help="Guidance on the way down (coupled: both ways); 1 is off.")] = 1.0,
    height: c.Height = None, width: c.Width = None, as_json: c.Json = False,
) -> None:
    """Take a picture up to noise and down again; prints the round trip's error, writes what came back."""
    how = c.given(num_inference_steps=steps, guidance_scale=guidance, height=height, width=width)

    def run(pipe, advance):
        from unnoise.edit import invert as edit

        return edit(pipe, image, prompt, method=method, anchor=anchor, iterations=iterations, progress=advance, **how)
    told = lambda made, out: {"round_trip_error": made.error, "psnr": _finite(made.psnr), "autoencoder_psnr": _finite(made.autoencoder)}
    c.edit(model, image, output, overwrite, as_json, run, more=told)


def diffedit(
    image: c.Image, prompt: c.Prompt,
    source: Annotated[str, typer.Option("--source", help="What the picture shows now; left out: any picture.")] = "",
    mask: Annotated[Optional[Path], typer.Option("--mask", help="A mask of the picture's size (white changes) in place of the computed one.")] = None,  # noqa: UP045
    show_mask: Annotated[Optional[Path], typer.Option("--show-mask", metavar="PATH", help="Write the mask that was used (.png).")] = None,  # noqa: UP045
    strength: Annotated[float, typer.Option("--strength", help="How far up the encoding goes, 0 to 1.")] = 0.8,
    noises: Annotated[Optional[int], typer.Option("--noises", help="Noises that the mask averages over (10).")] = None,  # noqa: UP045
    noise_level: Annotated[Optional[float], typer.Option("--noise-level", help="How noisy the picture is for the mask, 0 to 1.")] = None,  # noqa: UP045
    extremes: Annotated[Optional[float], typer.Option("--extremes", help="The share of cells clipped at either end of the differences.")] = None,  # noqa: UP045
    threshold: Annotated[Optional[float], typer.Option("--threshold", help="Where the scaled differences count as changed (0.5).")] = None,  # noqa: UP045
    space: Annotated[str, typer.Option("--space", help="Where differences are taken: pixels, or cells of the latents as in the paper.")] = "pixels",
    room: Annotated[int, typer.Option("--room", help="Cells around a computed mask into which a new thing may reach where the picture is plain.")] = 1,
    grow: Annotated[int, typer.Option("--grow", help="Cells beyond the mask that the decoder may use; pixels outside stay.")] = 0,
    method: Annotated[str, typer.Option("--method", help="Of the encoding: plain or fixed-point.")] = "plain",
    output: c.Output = None, overwrite: c.Overwrite = False, model: c.Model = c.DEFAULT, steps: c.Steps = None, guidance: c.Guidance = None,
    negative: c.Negative = "", height: c.Height = None, width: c.Width = None, as_json: c.Json = False,
) -> None:
    """Change what distinguishes two prompts, where they differ, and nothing else."""
    how = c.given(negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, height=height, width=width, mask=mask, noises=noises,
                  noise_level=noise_level, extremes=extremes, threshold=threshold)
    _writable(show_mask, image, *([mask] if mask else []))

    def run(pipe, advance):
        from unnoise.edit import diffedit as edit

        return edit(pipe, image, prompt, source=source, strength=strength, space=space, room=room, grow=grow, method=method, progress=advance, **how)

    def told(made, out) -> dict[str, Any]:
        if show_mask: _write(made.mask, show_mask)
        return {"changed": round(float((made.mask > 0).mean()), 4), **({"mask": str(show_mask)} if show_mask else {})}
    c.edit(model, image, output, overwrite, as_json, run, [mask] if mask else [], told)


def prompt_to_prompt(
    image: Annotated[Path, typer.Argument(help='The picture to edit (it is not changed), or "none": both are drawn.')],
    prompt: c.Prompt,
    source: Annotated[str, typer.Option("--source", help="The first prompt: what the picture shows.")] = "",
    cross: Annotated[float, typer.Option("--cross", help="The share of steps whose cross-attention is the source's.")] = 0.8,
    self_: Annotated[float, typer.Option("--self", help="The share of steps whose self-attention is the source's.")] = 0.4,
    weight: Annotated[Optional[list[str]], typer.Option("--weight", metavar="WORD=FACTOR", help="More or less of a word; may be repeated.")] = None,  # noqa: UP045
    local: Annotated[Optional[list[str]], typer.Option("--local", metavar="WORD", help="Change only where this word looks; may be repeated.")] = None,  # noqa: UP045
    anchor: Annotated[str, typer.Option("--anchor", help="What holds a picture: direct, none, negative-prompt or null-text.")] = "direct",
    method: Annotated[str, typer.Option("--method", help="Of a picture's inversion: plain or fixed-point.")] = "fixed-point",
    show_source: Annotated[Optional[Path], typer.Option("--show-source", metavar="PATH", help="Write what the source's run gave (.png).")] = None,  # noqa: UP045
    output: c.Output = None, overwrite: c.Overwrite = False, n: c.Number = 1, model: c.Model = c.DEFAULT, steps: c.Steps = None,
    guidance: c.Guidance = None, negative: c.Negative = "", seed: c.Seed = None, height: c.Height = None, width: c.Width = None,
    batch_size: c.BatchSize = None, as_json: c.Json = False,
) -> None:
    """Draw or change a picture under another prompt with the layout of the first."""
    how = c.given(negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, height=height, width=width, seed=seed)
    picture, weights = None if str(image) == "none" else image, dict(_weight(w) for w in weight or ())
    _writable(show_source, image)

    def run(pipe, advance):
        from unnoise.edit import prompt_to_prompt as edit

        return edit(pipe, picture, prompt, source=source, cross=cross, self_=self_, weights=weights, local=local or (), anchor=anchor, method=method,
                    num_images=n, batch_size=batch_size, progress=advance, **how)

    def told(made, out) -> dict[str, Any]:
        if show_source: _write(_sheet(made.source), show_source)
        return {"source": str(show_source)} if show_source else {}
    c.edit(model, image, output, overwrite, as_json, run, more=told)


def _finite(db: float) -> float | str:
    """Two decimals; "inf" where nothing was lost (JSON has no infinity)."""
    return round(db, 2) if db < float("inf") else "inf"


def _weight(given: str) -> tuple[str, float]:
    word, _, factor = given.rpartition("=")
    try: weight = float(factor)
    except ValueError: weight = None
    if weight is None or not word.strip(): raise BadInput(f"--weight takes WORD=FACTOR, as in 'red=2', given {given!r}")
    return word.strip(), weight


def _writable(path: Path | None, *originals: Path) -> None:
    if path is None: return
    if path.suffix.lower() != ".png": raise BadInput(f"cannot write {path}: name a .png file")
    c.output_for(originals[0], path, False, originals[1:])


def _write(pixels, path: Path) -> None:
    from PIL import Image

    from unnoise.look import write_picture

    write_picture(Image.fromarray(pixels), path)


def _sheet(pictures):
    from unnoise.train.run import tile

    return tile(pictures, None)
