"""`unnoise edit imagic`."""
from __future__ import annotations

from typing import Annotated, Optional

import typer

from unnoise.cli.edit import common as c
from unnoise.errors import BadInput


def imagic(
    image: c.Image,
    prompt: c.Prompt = "",
    eta: Annotated[str, typer.Option("--eta", metavar="A,B,…", help="Where to draw between the picture (0) and the prompt (1).")] = ".2,.4,.6,.8",
    embedding_steps: Annotated[int, typer.Option("--embedding-steps", help="Training steps of the prompt's embedding (Stable Diffusion: 1000).")] = 100,
    embedding_rate: Annotated[float, typer.Option("--embedding-rate", help="Their step size (Stable Diffusion: 2e-3).")] = 5e-3,
    tuning_steps: Annotated[int, typer.Option("--tuning-steps", help="Training steps of the network's copy (Stable Diffusion: 1500).")] = 100,
    tuning_rate: Annotated[float, typer.Option("--tuning-rate", help="Their step size (Stable Diffusion: 5e-7).")] = 1e-4,
    work: Annotated[Optional[c.Path], typer.Option("--work", metavar="DIR", help="Where the training's states are kept (default: in the cache).")] = None,  # noqa: UP045
    output: c.Output = None, overwrite: c.Overwrite = False, n: c.Number = 1, model: c.Model = c.DEFAULT, steps: c.Steps = None,
    guidance: c.Guidance = None, negative: c.Negative = "", seed: c.Seed = None, sampler: c.Sampler = None, height: c.Height = None,
    width: c.Width = None, batch_size: c.BatchSize = None, as_json: c.Json = False,
) -> None:
    """Change the pose, colour or shape of the very thing in a picture: train on it, then draw between it and a prompt, at every eta.

    A run that is broken off goes on where it was when it is started again; other etas of the same picture and prompt cost drawing alone.
    """
    etas = _numbers(eta)
    how = c.given(negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, seed=seed, sampler=sampler, height=height, width=width)

    def run(pipe, advance):
        from unnoise.edit.imagic import imagic as edit

        return edit(pipe, image, prompt, eta=etas, embedding_steps=embedding_steps, embedding_rate=embedding_rate, tuning_steps=tuning_steps,
                    tuning_rate=tuning_rate, work=work, num_images=n, batch_size=batch_size, progress=advance,
                    stage=lambda name, done, of: advance(0, f"{name} {done}/{of}"), **how)
    c.edit(model, image, output, overwrite, as_json, run, more=lambda made, out: {"eta": list(made.etas)})  # type: ignore[attr-defined]


def _numbers(text: str) -> list[float]:
    try: return [float(v) for v in text.split(",")]
    except ValueError: raise BadInput(f"--eta must be numbers with commas between them, as in .2,.4,.6, given {text!r}") from None
