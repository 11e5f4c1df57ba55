"""`unnoise edit upscale`, `denoise` and `anomaly`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from unnoise.cli.common import emit
from unnoise.cli.edit import common as c

UPSCALER = "emoji-upscale"
_OTHER = "Only with a --model that draws from prompts, as emoji does"
Prompt = Annotated[
    str,
    typer.Argument(
        help=(
            f"{_OTHER}: what the picture shows. The bundled emoji-upscale is shown the picture and takes"
            " none."
        )
    ),
]
Shown = Annotated[str, typer.Argument(help=f"{_OTHER}: what it shows. The bundled emoji-upscale takes none.")]
Scale = Annotated[int, typer.Option("--scale", help="2 or 4 times as large.")]
Noise = Annotated[
    str, typer.Option("--noise", help="The noise that the picture bears (black is -1, white 1), or estimate.")
]
Augment = Annotated[
    float, typer.Option("--augment", help="So much noise is added before the network is shown the picture.")
]
Held = Annotated[
    str | None,
    typer.Option("--consistency", help="range: averaged down, it is the picture again, to the byte; none."),
]
Strength = Annotated[float | None, typer.Option("--strength", help=f"{_OTHER}: how much it may invent.")]
_SIGMA = "The noise's standard deviation, 0 to 10 (black is -1, white 1); estimated when left out."
Sigma = Annotated[float | None, typer.Option("--sigma", help=_SIGMA)]
Sample = Annotated[
    bool, typer.Option("--sample", help="A sample in place of the mean: sharper, and further off.")
]
Hides = Annotated[
    float, typer.Option("--strength", help="How much noise hides the picture, from above 0 to 1.")
]
Noises = Annotated[int, typer.Option("--noises", help="How many noises are averaged.")]
Steps = Annotated[
    int, typer.Option("--steps", help="1: the mean of what may have been there; more: what may have been.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of the first noise.")]
_PROMPTED = {
    "guidance": f"{_OTHER}: guidance scale; 1 is off.",
    "negative": f"{_OTHER}: what to steer away from.",
}


@c.command(without=("height", "width"), helps=_PROMPTED, model=UPSCALER)
def upscale(
    image: c.Image,
    prompt: Prompt = "",
    scale: Scale = 2,
    noise: Noise = "0",
    augment: Augment = 0.0,
    consistency: Held = None,
    strength: Strength = None,
    *,
    common: c.Common,
) -> None:
    """Make a picture twice or four times as large."""

    def run(pipe, advance, **how):
        from unnoise.edit import upscale as edit

        return edit(
            pipe,
            image,
            prompt or None,
            scale=scale,
            noise=_number(noise),
            augment=augment,
            consistency=consistency,
            strength=strength,
            progress=advance,
            **how,
        )

    c.edit(common, image, run)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@c.command(without=("height", "width"), helps=_PROMPTED, model=UPSCALER)
def denoise(
    image: c.Image, prompt: Shown = "", sigma: Sigma = None, sample: Sample = False, *, common: c.Common
) -> None:
    """Take the noise out of a picture."""

    def run(pipe, advance, **how):
        from unnoise.edit import denoise as edit

        return edit(pipe, image, prompt or None, sigma=sigma, sample=sample, progress=advance, **how)

    c.edit(common, image, run, more=_sigma)


def _sigma(drawn, recipes) -> dict[str, float]:
    """The noise that was taken out."""
    return {"sigma": recipes[0]["edit"]["options"]["sigma"]}


@c.command(
    without=(
        "n",
        "steps",
        "guidance",
        "negative",
        "seed",
        "sampler",
        "spacing",
        "option",
        "clip_skip",
        "height",
        "width",
    ),
    helps={"model": "A model of what is normal.", "batch_size": "Noises at once; changes nothing else."},
)
def anomaly(
    image: c.Image,
    prompt: c.Prompt = "",
    strength: Hides = 0.7,
    noises: Noises = 8,
    steps: Steps = 1,
    seed: Seed = 0,
    *,
    common: c.Common,
) -> None:
    """Score how far a picture is from what a model takes for normal, and write where as a heat map."""
    from unnoise.edit import anomaly as edit
    from unnoise.media.files import named

    began, out = time.perf_counter(), c.output_for(image, common.output, common.rules.overwrite)
    options = {"strength": strength, "noises": noises, "steps": steps, "seed": seed}
    options |= {"batch_size": common.batch_size}
    run = lambda pipe, advance, **how: edit(pipe, image, prompt or None, progress=advance, **options, **how)
    out = named(out, (str(seed),), overwrite=True).files[0]
    pipe, found, file = c.one_file(common, out, run, _heat, ("noises", noises), label="looking")
    report = {"files": [str(file)], "score": found.score, "relative": found.relative}
    report |= {"top": float(found.map.max()), "nfe": found.nfe}
    report |= {"seconds": round(time.perf_counter() - began, 3), "model": pipe.name}
    text = f"{file}\nscore: {found.score:.6g}\nrelative to the picture's detail: {found.relative:.6g}"
    emit(report, common.as_json, text)


def _heat(found) -> bytes:
    """The heat map as a PNG."""
    from unnoise.media.pictures import picture, png

    return png(picture(found.heat()), "{}")
