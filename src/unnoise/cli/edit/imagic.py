"""`unnoise edit imagic`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from unnoise.base.errors import BadInput
from unnoise.cli.edit import common as c

Eta = Annotated[
    str,
    typer.Option("--eta", metavar="A,B,…", help="Where to draw between the picture (0) and the prompt (1)."),
]
EmbeddingSteps = Annotated[
    int,
    typer.Option(
        "--embedding-steps", help="Training steps of the prompt's embedding (Stable Diffusion: 1000)."
    ),
]
EmbeddingRate = Annotated[
    float, typer.Option("--embedding-rate", help="Their step size (Stable Diffusion: 2e-3).")
]
TuningSteps = Annotated[
    int, typer.Option("--tuning-steps", help="Training steps of the network's copy (Stable Diffusion: 1500).")
]
TuningRate = Annotated[float, typer.Option("--tuning-rate", help="Their step size (Stable Diffusion: 5e-7).")]
Work = Annotated[
    c.Path | None,
    typer.Option(
        "--work", metavar="DIR", help="Where the training's states are kept (default: in the cache)."
    ),
]


@c.command()
def imagic(
    image: c.Image,
    prompt: c.Prompt = "",
    eta: Eta = ".2,.4,.6,.8",
    embedding_steps: EmbeddingSteps = 100,
    embedding_rate: EmbeddingRate = 5e-3,
    tuning_steps: TuningSteps = 100,
    tuning_rate: TuningRate = 1e-4,
    work: Work = None,
    *,
    common: c.Common,
) -> None:
    """Change the pose, colour or shape of the very thing in a picture: train on it, then draw between it and
    a prompt, at every eta.

    A run that is broken off goes on where it was when it is started again; other etas of the same picture and
    prompt cost drawing alone.
    """
    from unnoise.edit.imagic import Swept
    from unnoise.edit.imagic import imagic as edit

    etas = _numbers(eta)
    training = {"embedding_steps": embedding_steps, "embedding_rate": embedding_rate}
    training |= {"tuning_steps": tuning_steps, "tuning_rate": tuning_rate, "work": work}

    def run(pipe, advance, eta=etas, **how):
        stage = lambda name, done, of: advance(0, f"{name} {done}/{of}")
        return edit(pipe, image, prompt, eta=eta, progress=advance, stage=stage, **training, **how)

    c.edit(
        common,
        image,
        run,
        more=lambda drawn, recipes: {"eta": etas},
        form=partial(Swept, etas=tuple(etas)),
        varied=lambda recipe: {"eta": recipe["edit"]["options"]["eta"]},
        before="no picture is written; the same command goes on where the training was",
    )


def _numbers(text: str) -> list[float]:
    try:
        return [float(v) for v in text.split(",")]
    except ValueError:
        raise BadInput(
            f"--eta must be numbers with commas between them, as in .2,.4,.6, given {text!r}"
        ) from None
