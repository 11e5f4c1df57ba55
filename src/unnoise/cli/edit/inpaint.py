"""`unnoise edit inpaint`, `outpaint` and `zoom-out`."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from unnoise.base.errors import BadInput
from unnoise.cli import kept
from unnoise.cli.common import emit
from unnoise.cli.edit import common as c

_METHOD = (
    "repaint, replace, dps, pigdm, covariance or model. Default: model where the model takes a mask, else"
    " repaint."
)
Method = Annotated[str | None, typer.Option("--method", help=_METHOD)]
Soft = Annotated[int, typer.Option("--soft", help="Pixels over which the new fades in, inside the mask.")]
Times = Annotated[int | None, typer.Option("--times", help="Of repaint: how often each move is made.")]
Jump = Annotated[int | None, typer.Option("--jump", help="Of repaint: how many moves it goes back.")]
Mask = Annotated[
    Path,
    typer.Option("--mask", help="A picture of the same size: white is drawn anew, black stays as it is."),
]
Strength = Annotated[
    float, typer.Option("--strength", help="How much of what the mask covers is forgotten: 1 all, 0 nothing.")
]
Overlap = Annotated[
    float, typer.Option("--overlap", help="The least share of each window that is already drawn.")
]
Left = Annotated[int, typer.Option("--left", help="Pixels to add at the left.")]
Right = Annotated[int, typer.Option("--right", help="Pixels to add at the right.")]
Top = Annotated[int, typer.Option("--top", help="Pixels to add at the top.")]
Bottom = Annotated[int, typer.Option("--bottom", help="Pixels to add at the bottom.")]
Passes = Annotated[int, typer.Option("--passes", help="How often the picture shrinks.")]
Factor = Annotated[float, typer.Option("--factor", help="By how much it shrinks each time.")]
Frames = Annotated[int, typer.Option("--frames", help="Frames a pass.")]
Fps = Annotated[
    int,
    typer.Option(
        "--fps",
        help="Frames a second, on the average: a .gif counts hundredths of a second and shows at most 50.",
    ),
]


@c.command()
def inpaint(
    image: c.Image,
    prompt: c.Prompt = "",
    mask: Mask = ...,  # type: ignore[assignment]
    method: Method = None,
    strength: Strength = 1.0,
    soft: Soft = 2,
    times: Times = None,
    jump: Jump = None,
    *,
    common: c.Common,
) -> None:
    """Draw part of a picture anew; the rest stays, to the byte."""

    def run(pipe, advance, **how):
        from unnoise.edit import inpaint as edit

        return edit(
            pipe,
            image,
            mask,
            prompt,
            method=method,
            strength=strength,
            soft=soft,
            times=times,
            jump=jump,
            progress=advance,
            **how,
        )

    c.edit(common, image, run, others=(mask,))


@c.command(without=("height", "width"))
def outpaint(
    image: c.Image,
    prompt: c.Prompt = "",
    left: Left = 0,
    right: Right = 0,
    top: Top = 0,
    bottom: Bottom = 0,
    overlap: Overlap = 0.5,
    method: Method = None,
    soft: Soft = 2,
    times: Times = None,
    jump: Jump = None,
    *,
    common: c.Common,
) -> None:
    """Let a picture go on beyond its sides; the picture itself stays, to the byte."""

    def run(pipe, advance, **how):
        from unnoise.edit import outpaint as edit

        return edit(
            pipe,
            image,
            prompt,
            left=left,
            right=right,
            top=top,
            bottom=bottom,
            overlap=overlap,
            method=method,
            soft=soft,
            times=times,
            jump=jump,
            progress=advance,
            **how,
        )

    c.edit(common, image, run)


@c.command(
    without=("n", "height", "width", "batch_size"),
    helps={"output": "An animated .gif, .png or .webp, or an .mp4. Default: IMAGE-zoom.gif."},
)
def zoom_out(
    image: c.Image,
    prompt: c.Prompt = "",
    passes: Passes = 4,
    factor: Factor = 1.5,
    frames: Frames = 12,
    fps: Fps = 15,
    method: Method = None,
    soft: Soft = 2,
    times: Times = None,
    jump: Jump = None,
    *,
    common: c.Common,
) -> None:
    """Zoom out of a picture, again and again, into an animation."""
    from unnoise.edit import zoom_out as edit

    began, out = time.perf_counter(), common.output or Path(f"{image.stem}-zoom.gif")
    _check_film(out, image, frames, fps, common.rules)
    options = {
        "passes": passes,
        "factor": factor,
        "method": method,
        "soft": soft,
        "times": times,
        "jump": jump,
    }
    seed = secrets.randbelow(2**31) if common.seed is None else common.seed
    run = lambda pipe, advance, **how: edit(
        pipe, image, prompt, progress=advance, seed=seed, **options, **common.how(), **how
    )
    film = lambda zoom: _film(zoom, out, frames, fps)
    said = seed if common.seed is None else None
    pipe, zoom, file = c.one_file(common, out, run, film, ("passes", passes), said, "zooming out")
    report = {"files": [str(file)], "seeds": [zoom.seed], "nfe": zoom.nfe, "frames": passes * frames + 1}
    report |= {"seconds": round(time.perf_counter() - began, 3), "model": pipe.name}
    emit(report, common.as_json, f"{file}  seed {zoom.seed}")


def _film(zoom, out: Path, frames: int, fps: int) -> bytes:
    """The animation as a file of that name holds it."""
    with TemporaryDirectory() as folder:
        return zoom.save(Path(folder) / out.name, frames, fps).read_bytes()


def _check_film(out: Path, image: Path, frames: int, fps: int, rules: kept.Rules) -> None:
    """BadInput where no animation can be written there."""
    from unnoise.base import arguments
    from unnoise.edit.outpaint import check_format

    check_format(out)
    for name, v in (("--frames", frames), ("--fps", fps)):
        arguments.integer(name, v, 1, 100)
    if not out.parent.is_dir():
        raise BadInput(f"cannot write {out}: no folder {out.parent}")
    c.spare(out, (image,), rules.overwrite)
