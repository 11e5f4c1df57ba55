"""`unnoise edit upscale`, `denoise` and `anomaly`."""
from __future__ import annotations

import time
from typing import Annotated, Optional

import typer

from unnoise.cli.common import emit, progress
from unnoise.cli.edit import common as c

UPSCALER = "emoji-upscale"


def upscale(
    image: c.Image,
    prompt: c.Prompt = "",
    scale: Annotated[int, typer.Option("--scale", help="2 or 4 times as large.")] = 2,
    noise: Annotated[str, typer.Option("--noise", help="The noise that the picture bears (black is -1, white 1), or estimate.")] = "0",
    augment: Annotated[float, typer.Option("--augment", help="So much noise is added before the network is shown the picture.")] = 0.0,
    consistency: Annotated[Optional[str], typer.Option("--consistency", help="range: averaged down, it is the picture again, to the byte; none.")] = None,  # noqa: UP045
    strength: Annotated[Optional[float], typer.Option("--strength", help="Of a model that was not trained for it: how much it may invent.")] = None,  # noqa: UP045
    output: c.Output = None, overwrite: c.Overwrite = False, n: c.Number = 1, model: c.Model = UPSCALER, steps: c.Steps = None,
    guidance: c.Guidance = None, negative: c.Negative = "", seed: c.Seed = None, sampler: c.Sampler = None, batch_size: c.BatchSize = None,
    as_json: c.Json = False,
) -> None:
    """Make a picture twice or four times as large."""
    how = c.given(negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, seed=seed, sampler=sampler)

    def run(pipe, advance):
        from unnoise.edit import upscale as edit

        return edit(pipe, image, prompt or None, scale=scale, noise=_number(noise), augment=augment, consistency=consistency, strength=strength, num_images=n,
                    batch_size=batch_size, progress=advance, **how)
    c.edit(model, image, output, overwrite, as_json, run)


def _number(text: str) -> float | str:
    try: return float(text)
    except ValueError: return text


def denoise(
    image: c.Image,
    prompt: c.Prompt = "",
    sigma: Annotated[Optional[float], typer.Option("--sigma", help="The noise's standard deviation (black is -1, white 1); estimated when left out.")] = None,  # noqa: UP045
    sample: Annotated[bool, typer.Option("--sample", help="A sample in place of the mean: sharper, and further off.")] = False,
    output: c.Output = None, overwrite: c.Overwrite = False, n: c.Number = 1, model: c.Model = UPSCALER, steps: c.Steps = None,
    guidance: c.Guidance = None, negative: c.Negative = "", seed: c.Seed = None, sampler: c.Sampler = None, as_json: c.Json = False,
) -> None:
    """Take the noise out of a picture."""
    how = c.given(negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, seed=seed, sampler=sampler)

    def run(pipe, advance):
        from unnoise.edit import denoise as edit

        return edit(pipe, image, prompt or None, sigma=sigma, sample=sample, num_images=n, progress=advance, **how)
    c.edit(model, image, output, overwrite, as_json, run, more=lambda made, out: {"sigma": made.recipes[0]["edit"]["options"]["sigma"]})


def anomaly(
    image: c.Image,
    prompt: c.Prompt = "",
    model: Annotated[str, typer.Option("--model", help="A model of what is normal.")] = c.DEFAULT,
    strength: Annotated[float, typer.Option("--strength", help="How much noise hides the picture, from above 0 to 1.")] = 0.7,
    noises: Annotated[int, typer.Option("--noises", help="How many noises are averaged.")] = 8,
    steps: Annotated[int, typer.Option("--steps", help="1: the mean of what may have been there; more: what may have been.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Of the first noise.")] = 0,
    output: c.Output = None, overwrite: c.Overwrite = False, as_json: c.Json = False,
) -> None:
    """Score how far a picture is from what a model takes for normal, and write where as a heat map."""
    from unnoise.edit import anomaly as edit
    from unnoise.edit.picture import read
    from unnoise.pipeline import load, picture, write_png

    began, out = time.perf_counter(), c.output_for(image, output, overwrite)
    given, pipe = read(image), load(model)
    with progress("looking", None, "call") as advance:
        found = edit(pipe, given, prompt or None, strength=strength, noises=noises, steps=steps, seed=seed, progress=advance)
    file = write_png(picture(found.heat()), out, "{}")
    report = {"files": [str(file)], "score": found.score, "relative": found.relative, "top": float(found.map.max()), "nfe": found.nfe,
              "seconds": round(time.perf_counter() - began, 3), "model": pipe.name}
    emit(report, as_json, f"{file}\nscore: {found.score:.6g}\nrelative to the picture's detail: {found.relative:.6g}")
