"""`unnoise edit inpaint`, `outpaint` and `zoom-out`."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from unnoise.cli.common import emit, progress
from unnoise.cli.edit import common as c

Method = Annotated[Optional[str], typer.Option(  # noqa: UP045
    "--method", help="repaint, replace, dps, pigdm, covariance or model. Default: model where the model takes a mask, else repaint.")]
Soft = Annotated[int, typer.Option("--soft", help="Pixels over which the new fades in, inside the mask.")]
Times = Annotated[Optional[int], typer.Option("--times", help="Of repaint: how often each move is made.")]  # noqa: UP045
Jump = Annotated[Optional[int], typer.Option("--jump", help="Of repaint: how many moves it goes back.")]  # noqa: UP045


def inpaint(
    image: c.Image,
    prompt: c.Prompt = "",
    mask: Annotated[Path, typer.Option("--mask", help="A picture of the same size: white is drawn anew, black stays as it is.")] = ...,  # type: ignore[assignment]
    method: Method = None,
    strength: Annotated[float, typer.Option("--strength", help="How much of what the mask covers is forgotten: 1 all, 0 nothing.")] = 1.0,
    soft: Soft = 2, times: Times = None, jump: Jump = None, output: c.Output = None, overwrite: c.Overwrite = False, n: c.Number = 1,
    model: c.Model = c.DEFAULT, steps: c.Steps = None, guidance: c.Guidance = None, negative: c.Negative = "", seed: c.Seed = None,
    sampler: c.Sampler = None, height: c.Height = None, width: c.Width = None, batch_size: c.BatchSize = None, as_json: c.Json = False,
) -> None:
    """Draw part of a picture anew; the rest stays, to the byte."""
    how = c.given(negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, seed=seed, sampler=sampler, height=height, width=width)

    def run(pipe, advance):
        from unnoise.edit import inpaint as edit

        return edit(pipe, image, mask, prompt, method=method, strength=strength, soft=soft, times=times, jump=jump, num_images=n,
                    batch_size=batch_size, progress=advance, **how)
    c.edit(model, image, output, overwrite, as_json, run, others=(mask,))


def _side(name: str):
    return Annotated[int, typer.Option(f"--{name}", help=f"Pixels to add at the {name}.")]


def outpaint(
    image: c.Image,
    prompt: c.Prompt = "",
    left: _side("left") = 0, right: _side("right") = 0, top: _side("top") = 0, bottom: _side("bottom") = 0,  # type: ignore[valid-type]
    overlap: Annotated[float, typer.Option("--overlap", help="The least share of each window that is already drawn.")] = 0.5,
    method: Method = None, soft: Soft = 2, times: Times = None, jump: Jump = None, output: c.Output = None, overwrite: c.Overwrite = False,
    n: c.Number = 1, model: c.Model = c.DEFAULT, steps: c.Steps = None, guidance: c.Guidance = None, negative: c.Negative = "",
    seed: c.Seed = None, sampler: c.Sampler = None, batch_size: c.BatchSize = None, as_json: c.Json = False,
) -> None:
    """Let a picture go on beyond its sides; the picture itself stays, to the byte."""
    how = c.given(negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, seed=seed, sampler=sampler)

    def run(pipe, advance):
        from unnoise.edit import outpaint as edit

        return edit(pipe, image, prompt, left=left, right=right, top=top, bottom=bottom, overlap=overlap, method=method, soft=soft, times=times,
                    jump=jump, num_images=n, batch_size=batch_size, progress=advance, **how)
    c.edit(model, image, output, overwrite, as_json, run)


def zoom_out(
    image: c.Image,
    prompt: c.Prompt = "",
    passes: Annotated[int, typer.Option("--passes", help="How often the picture shrinks.")] = 4,
    factor: Annotated[float, typer.Option("--factor", help="By how much it shrinks each time.")] = 1.5,
    frames: Annotated[int, typer.Option("--frames", help="Frames a pass.")] = 12,
    fps: Annotated[int, typer.Option("--fps", help="Frames a second.")] = 15,
    method: Method = None, soft: Soft = 2, times: Times = None, jump: Jump = None,
    output: Annotated[Optional[Path], typer.Option("-o", "--output", help="An animated .gif, .png or .webp, or an .mp4. Default: IMAGE-zoom.gif.")] = None,  # noqa: UP045
    overwrite: c.Overwrite = False, model: c.Model = c.DEFAULT, steps: c.Steps = None, guidance: c.Guidance = None, negative: c.Negative = "",
    seed: c.Seed = None, sampler: c.Sampler = None, as_json: c.Json = False,
) -> None:
    """Zoom out of a picture, again and again, into an animation."""
    from unnoise.edit.outpaint import check_format
    from unnoise.errors import BadInput

    began, out = time.perf_counter(), output or Path(f"{image.stem}-zoom.gif")
    check_format(out)
    if not out.parent.is_dir(): raise BadInput(f"cannot write {out}: no folder {out.parent}")
    c.spare(out, (image,), overwrite)
    from unnoise.edit import zoom_out as edit
    from unnoise.pipeline import load

    how = c.given(negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, seed=seed, sampler=sampler)
    pipe = load(model)
    with progress("zooming out", None, "call") as advance:
        made = edit(pipe, image, prompt, passes=passes, factor=factor, method=method, soft=soft, times=times, jump=jump, progress=advance, **how)
    made.save(out, frames, fps)
    report = {"files": [str(out)], "seeds": [made.seed], "nfe": made.nfe, "frames": passes * frames + 1,
              "seconds": round(time.perf_counter() - began, 3), "model": pipe.name}
    emit(report, as_json, str(out))
