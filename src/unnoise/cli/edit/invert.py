"""`unnoise edit invert`, `prompt-to-prompt` and `diffedit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unnoise.base.errors import BadInput
from unnoise.cli.edit import common as c

_ONE_WAY = "Steps up, and down again."
Method = Annotated[
    str, typer.Option("--method", help="plain, fixed-point, or coupled (exact at any guidance).")
]
Anchor = Annotated[
    str, typer.Option("--anchor", help="What holds it under guidance: none, negative-prompt or null-text.")
]
Iterations = Annotated[int, typer.Option("--iterations", help="Of the fixed point, at each step.")]
Shows = Annotated[str, typer.Argument(help="What the picture shows.")]


@c.command(
    without=("n", "negative", "seed", "sampler", "option", "clip_skip", "batch_size"),
    steps=50,
    guidance=1.0,
    helps={"steps": _ONE_WAY, "guidance": "Guidance on the way down (coupled: both ways); 1 is off."},
)
def invert(
    image: c.Image,
    prompt: Shows = "",
    method: Method = "fixed-point",
    anchor: Anchor = "none",
    iterations: Iterations = 3,
    *,
    common: c.Common,
) -> None:
    """Take a picture up to noise and down again; prints the round trip's error, writes what came back."""

    def run(pipe, advance, **how):
        from unnoise.edit import invert as edit

        return edit(
            pipe, image, prompt, method=method, anchor=anchor, iterations=iterations, progress=advance, **how
        )

    def said(drawn, recipes) -> dict[str, Any]:
        if not drawn:
            return {}
        r = drawn[0]
        return {
            "round_trip_error": r.error,
            "psnr": _finite(r.psnr),
            "autoencoder_psnr": _finite(r.autoencoder),
        }

    c.edit(common, image, run, more=said, seeded=False)


Source = Annotated[str, typer.Option("--source", help="What the picture shows now; left out: any picture.")]
Mask = Annotated[
    Path | None,
    typer.Option("--mask", help="A mask of the picture's size (white changes) in place of the computed one."),
]
ShowMask = Annotated[
    Path | None, typer.Option("--show-mask", metavar="PATH", help="Write the mask that was used (.png).")
]
Strength = Annotated[float, typer.Option("--strength", help="How far up the encoding goes, 0 to 1.")]
Noises = Annotated[int | None, typer.Option("--noises", help="Noises that the mask averages over (10).")]
NoiseLevel = Annotated[
    float | None, typer.Option("--noise-level", help="How noisy the picture is for the mask, 0 to 1.")
]
Extremes = Annotated[
    float | None,
    typer.Option("--extremes", help="The share of cells clipped at either end of the differences."),
]
Threshold = Annotated[
    float | None, typer.Option("--threshold", help="Where the scaled differences count as changed (0.5).")
]
Space = Annotated[
    str,
    typer.Option(
        "--space", help="Where differences are taken: pixels, or cells of the latents as in the paper."
    ),
]
Room = Annotated[
    int,
    typer.Option(
        "--room",
        help="Cells around a computed mask into which a new thing may reach where the picture is plain.",
    ),
]
Grow = Annotated[
    int, typer.Option("--grow", help="Cells beyond the mask that the decoder may use; pixels outside stay.")
]
Encoding = Annotated[str, typer.Option("--method", help="Of the encoding: plain or fixed-point.")]


@c.command(
    without=("n", "seed", "sampler", "option", "clip_skip"),
    helps={"batch_size": "The mask's noises at once; changes nothing else."},
)
def diffedit(
    image: c.Image,
    prompt: c.Prompt,
    source: Source = "",
    mask: Mask = None,
    show_mask: ShowMask = None,
    strength: Strength = 0.8,
    noises: Noises = None,
    noise_level: NoiseLevel = None,
    extremes: Extremes = None,
    threshold: Threshold = None,
    space: Space = "pixels",
    room: Room = 1,
    grow: Grow = 0,
    method: Encoding = "plain",
    *,
    common: c.Common,
) -> None:
    """Change what distinguishes two prompts, where they differ, and nothing else."""
    masks = [mask] if mask else []
    _writable(show_mask, common.overwrite, image, *masks)
    finding = {"noises": noises, "noise_level": noise_level, "extremes": extremes, "threshold": threshold}
    options = c.given(mask=mask, **finding, batch_size=common.batch_size)
    options |= {
        "source": source,
        "strength": strength,
        "space": space,
        "room": room,
        "grow": grow,
        "method": method,
    }

    def run(pipe, advance, **how):
        from unnoise.edit import diffedit as edit

        return edit(pipe, image, prompt, progress=advance, **options, **how)

    def said(drawn, recipes) -> dict[str, Any]:
        if not drawn:
            return {}
        found = drawn[0].mask
        shown = {"mask": str(_write(found, show_mask, common.overwrite))} if show_mask else {}
        return {"changed": round(float((found > 0).mean()), 4), **shown}

    c.edit(common, image, run, masks, said, seeded=False)


Either = Annotated[
    Path, typer.Argument(help='The picture to edit (it is not changed), or "none": both are drawn.')
]
First = Annotated[str, typer.Option("--source", help="The first prompt: what the picture shows.")]
Cross = Annotated[
    float, typer.Option("--cross", help="The share of steps whose cross-attention is the source's.")
]
Self = Annotated[
    float, typer.Option("--self", help="The share of steps whose self-attention is the source's.")
]
Weight = Annotated[
    list[str] | None,
    typer.Option("--weight", metavar="WORD=FACTOR", help="More or less of a word; may be repeated."),
]
Local = Annotated[
    list[str] | None,
    typer.Option("--local", metavar="WORD", help="Change only where this word looks; may be repeated."),
]
Holds = Annotated[
    str, typer.Option("--anchor", help="What holds a picture: direct, none, negative-prompt or null-text.")
]
Way = Annotated[str, typer.Option("--method", help="Of a picture's inversion: plain or fixed-point.")]
ShowSource = Annotated[
    Path | None,
    typer.Option("--show-source", metavar="PATH", help="Write what the source's run gave (.png)."),
]


@c.command(helps={"sampler": 'Of "none" (see `unnoise samplers`); a picture comes down by ddim.'})
def prompt_to_prompt(
    image: Either,
    prompt: c.Prompt,
    source: First = "",
    cross: Cross = 0.8,
    self_: Self = 0.4,
    weight: Weight = None,
    local: Local = None,
    anchor: Holds = "direct",
    method: Way = "fixed-point",
    show_source: ShowSource = None,
    *,
    common: c.Common,
) -> None:
    """Draw or change a picture under another prompt with the layout of the first."""
    picture = None if str(image) == "none" else image
    _writable(show_source, common.overwrite, image)
    options = {"source": source, "cross": cross, "self_": self_, "local": local or (), "anchor": anchor}
    options |= {"weights": dict(_weight(w) for w in weight or ()), "method": method}

    def run(pipe, advance, **how):
        from unnoise.edit import prompt_to_prompt as edit

        return edit(pipe, picture, prompt, progress=advance, **options, **how)

    def said(drawn, recipes) -> dict[str, Any]:
        if not show_source or not drawn:
            return {}
        return {"source": str(_write(_sheet([r.source for r in drawn]), show_source, common.overwrite))}

    c.edit(common, image, run, more=said)


def _finite(db: float) -> float | str:
    """Two decimals; "inf" where nothing was lost (JSON has no infinity)."""
    return round(db, 2) if db < float("inf") else "inf"


def _weight(given: str) -> tuple[str, float]:
    word, _, factor = given.rpartition("=")
    try:
        weight = float(factor)
    except ValueError:
        weight = None
    if weight is None or not word.strip():
        raise BadInput(f"--weight takes WORD=FACTOR, as in 'red=2', given {given!r}")
    return word.strip(), weight


def _writable(path: Path | None, overwrite: bool, *originals: Path) -> None:
    if path is None:
        return
    if path.suffix.lower() != ".png":
        raise BadInput(f"cannot write {path}: name a .png file")
    c.output_for(originals[0], path, overwrite, originals[1:])


def _write(pixels, path: Path, overwrite: bool) -> Path:
    import io

    from unnoise.media.files import put
    from unnoise.media.pictures import picture

    out = io.BytesIO()
    picture(pixels).save(out, format="PNG")
    return put(path, out.getvalue(), overwrite)


def _sheet(pictures):
    import numpy as np

    from unnoise.base.sheet import tile

    return tile(np.concatenate(pictures), None)
