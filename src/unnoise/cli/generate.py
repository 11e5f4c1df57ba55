"""`unnoise generate`: images from a prompt."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unnoise import DEFAULT_MODEL
from unnoise.base import names
from unnoise.base.errors import BadInput
from unnoise.cli import common, kept
from unnoise.cli import sweep as sweeps
from unnoise.cli.common import emit, note, progress, warn
from unnoise.cli.options import grouped

if TYPE_CHECKING:
    from unnoise.cli.kept import Batches
    from unnoise.cli.terminal import Screen
    from unnoise.pipeline import Pipeline, Request
    from unnoise.show import Preview, Stages


Number = Annotated[
    int | None,
    typer.Option(
        "-n", "--num-images", help="How many, with seeds SEED, SEED + 1, …; 4 of the default model, else 1."
    ),
]
Prompt = Annotated[str, typer.Argument(help="What to draw; empty for anything the model knows.")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="A .png file (several images: also the grid), or a folder."),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", help="A bundled model, a folder, a .safetensors checkpoint, or owner/model once fetched."
    ),
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", help="Images made at once; changes none of them.")
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="NAME=A,B,…",
        help=(
            "One labelled grid over guidance, steps, sampler, seed, negative, spacing, eta, …; a second"
            " --sweep makes the first one the rows."
        ),
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--stages", metavar="DIR", help="Write what the first image passes through, by step."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a prompt with words that the model was never taught.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@dataclass(frozen=True)
class Drawing:
    """What determines the images beside the prompt and their number: arguments of a call."""

    steps: Annotated[int | None, typer.Option("--steps", help="Sampling steps.")] = None
    guidance: Annotated[float | None, typer.Option("--guidance", help="Guidance scale; 1 is off.")] = None
    negative: Annotated[str, typer.Option("--negative", help="What to steer away from.")] = ""
    seed: Annotated[
        int | None, typer.Option("--seed", help="The first image's seed; drawn and reported when left out.")
    ] = None
    sampler: Annotated[str | None, typer.Option("--sampler", help="See `unnoise samplers`.")] = None
    spacing: Annotated[
        str | None, typer.Option("--spacing", help="The grid of noise levels, see `unnoise samplers`.")
    ] = None
    noise: Annotated[
        str,
        typer.Option(
            "--noise", help="seeded, or brownian (one path a seed for SDE samplers at any number of steps)."
        ),
    ] = "seeded"
    rescale: Annotated[
        float, typer.Option("--guidance-rescale", help="Restore the spread that guidance changes; 0 is off.")
    ] = 0.0
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="An option of the sampler, as in eta=0.5; may be repeated."),
    ] = None
    guide: common.Guide = None
    guide_through: common.Through = False
    guide_linear: common.Linear = False
    width: Annotated[
        int | None, typer.Option("--width", help="Width in pixels, for models of latents (a multiple of 8).")
    ] = None
    height: Annotated[int | None, typer.Option("--height", help="Height in pixels, likewise.")] = None
    clip_skip: Annotated[
        int | None, typer.Option("--clip-skip", help="How many last layers of the text encoder to leave out.")
    ] = None

    def how(self) -> dict[str, Any]:
        """The keywords of a call, of what was not left out."""
        return {
            **_options(self.option or []),
            **_given(
                negative_prompt=self.negative or None,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                seed=self.seed,
                sampler=self.sampler,
                spacing=self.spacing,
                noise=self.noise if self.noise != "seeded" else None,
                guidance_rescale=self.rescale or None,
                width=self.width,
                height=self.height,
                clip_skip=self.clip_skip,
                guide=self.guide or None,
                guide_through=self.guide_through or None,
                guide_linear=self.guide_linear or None,
            ),
        }


@dataclass(frozen=True)
class Loading:
    """How a model is loaded and run: arguments of `load`."""

    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, …; chosen when left out.")] = None
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="fp32, fp16 or bf16; chosen when left out.")
    ] = None
    memory_budget: Annotated[
        str | None, typer.Option("--memory-budget", help="What the process may take, as in 2GB.")
    ] = None
    variant: Annotated[
        str | None, typer.Option("--variant", help="Of the model's weight files, as in fp16.")
    ] = None
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", metavar="DIR", help="For single-file checkpoints, which have none."),
    ] = None
    vae: Annotated[
        Path | None, typer.Option("--vae", metavar="DIR|FILE", help="Another autoencoder than the model's.")
    ] = None
    prediction: Annotated[
        str | None, typer.Option("--prediction", help="What a single file predicts: epsilon or v_prediction.")
    ] = None
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Compile the network first: slow to begin, faster for many images."),
    ] = False

    def load(self, model: str, once: bool) -> Pipeline:
        """The model; once: for a single call."""
        from unnoise.pipeline import load

        how = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "compiled"}
        return load(model, **_given(**how, compile=self.compiled or None, once=once or None))


@dataclass(frozen=True)
class Previews:
    """What is seen of an image as it forms."""

    preview: Annotated[
        bool,
        typer.Option("--preview", help="Show the image in the terminal as it forms, within 2 % of the time."),
    ] = False
    preview_every: Annotated[
        int | None, typer.Option("--preview-every", metavar="K", help="Show it at every K-th step.")
    ] = None
    preview_decoder: Annotated[
        bool, typer.Option("--preview-decoder", help="Show latents by their decoder: slower and sharper.")
    ] = False

    @property
    def wanted(self) -> bool:
        return bool(self.preview or self.preview_every or self.preview_decoder)


@dataclass(frozen=True)
class Writing:
    """How files that lie there are met."""

    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace files that lie there; by default new numbers are taken."),
    ] = False
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help=(
                "Go on with a run that was broken off: pictures that lie there with the same recipe are kept."
            ),
        ),
    ] = False


@grouped
def generate(
    prompt: Prompt = "",
    n: Number = None,
    output: Output = None,
    model: Model = DEFAULT_MODEL,
    *,
    drawing: Drawing,
    batch_size: BatchSize = None,
    loading: Loading,
    sweep: Sweep = None,
    stages: Folder = None,
    previews: Previews,
    writing: Writing,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Draw images from a prompt and write them as PNG files that carry their own recipe, each as it is
    finished.
    """
    began = time.perf_counter()
    if n is None:
        n = 4 if model == DEFAULT_MODEL and not (sweep or stages or previews.wanted) else 1
    named, output = output, output or Path(_slug(prompt) + ".png")
    rules = kept.Rules(writing.overwrite, writing.resume)
    _check(rules, output, sweep, stages, previews)
    request = {"prompt": prompt, "num_images": n, **drawing.how()}
    axes = sweeps.axes(sweep or [], {k: v for k, v in request.items() if (k, v) != ("prompt", "")}, _value)
    with kept.telling(lambda: "nothing is drawn yet"):
        pipe = loading.load(model, once=not axes)
        if named is None and pipe.codec.medium.suffixes:
            output = output.with_suffix(pipe.codec.medium.suffixes[0])
        swept = [v for a in axes if a.keyword in ("prompt", "negative_prompt") for v in a.values]
        unknown = _unknown(pipe, [prompt, drawing.negative, *swept], strict)
        draw = partial(_draw, pipe, batch_size, _viewer(pipe, previews) if previews.wanted else None)
        if axes:
            out, lines = sweeps.run(pipe, axes, request, output, draw, rules)
        else:
            out, lines = _one(pipe, request, output, stages, draw, rules)
    out |= {"unknown": unknown, "seconds": round(time.perf_counter() - began, 3), "model": pipe.name}
    emit(out, as_json, "\n".join(lines))


def _check(
    rules: kept.Rules, output: Path, sweep: list[str] | None, stages: Path | None, previews: Previews
) -> None:
    """BadInput for options that exclude each other, and for what could not be written."""
    rules.check()
    writable(output)
    if sweep and stages:
        raise BadInput("--stages looks into one run: leave out --sweep")
    if rules.resume and stages:
        raise BadInput("--stages looks into a run as it is made: leave out --resume")
    if previews.preview_every is not None and previews.preview_every < 1:
        raise BadInput(f"--preview-every must be at least 1, given {previews.preview_every}")


def _unknown(pipe: Pipeline, texts: list[str], strict: bool) -> list[str]:
    """The words of prompts that the model was never taught, told in one line. BadInput where that is not
    allowed.
    """
    found = pipe.unknown([t for t in texts if t] or [""])
    if not found:
        return []
    told = ", ".join(f"{w!r} (nearest: {', '.join(near)})" if near else repr(w) for w, near in found)
    line = f"model {pipe.name!r} was never taught {told}"
    where = f"`unnoise models {pipe.name} --words` lists what it was taught"
    if strict:
        raise BadInput(f"{line}: {where}")
    warn(f"{line}, and draws something else there; {where}")
    return [w for w, _ in found]


def _one(
    pipe: Pipeline,
    request: dict[str, Any],
    output: Path,
    stages: Path | None,
    draw: Callable[..., Batches],
    rules: kept.Rules,
) -> tuple[dict[str, Any], list[str]]:
    """Draw the images of a request and write them; stages: the folder that takes what the first one passes
    through.
    """
    r = _resolved(pipe, request, output, rules)  # everything is checked before a file is touched
    files = kept.Files.of(pipe, r, output, rules)
    look = _stages(pipe, stages, rules) if stages is not None else None
    with kept.telling(
        lambda: kept.how_far(len(files.done), len(files.files), _go_on(request, files, output))
    ):
        try:
            nfe = files.draw(r, lambda some: draw(some, look))
        finally:
            if look:
                look.write_numbers()
        files.close()
    out, lines = files.report() | {"nfe": nfe}, files.lines()
    if look:
        look.close()
        out["stages"] = str(look.folder)
        lines.append(f"{look.folder}  what the first passes through")
    return out, lines


def _resolved(pipe: Pipeline, request: dict[str, Any], output: Path, rules: kept.Rules) -> Request:
    """The request, checked. A run that is resumed without a seed has that of the pictures that lie there."""
    r = pipe.request(**request)
    if not rules.resume or "seed" in request:
        return r
    seed = kept.first_seed(pipe, r, output)
    return r if seed is None else pipe.request(**request, seed=seed)


def _stages(pipe: Pipeline, folder: Path, rules: kept.Rules) -> Stages:
    from unnoise.show import Stages

    look = Stages(pipe, folder, overwrite=rules.overwrite)
    if look.folder != folder:
        note(f"{folder} holds the stages of another run: writing {look.folder} (--overwrite replaces them)")
    return look


def _go_on(request: dict[str, Any], files: kept.Files, output: Path) -> str:
    """What to add to a command that was broken off."""
    named = f"-o {files.grid or files.files[0]} " if files.moved and not output.is_dir() else ""
    seed = "" if "seed" in request else f"--seed {files.seeds[0]} "
    return f"{named}{seed}--resume"


def _draw(
    pipe: Pipeline,
    batch_size: int | None,
    viewer: tuple[Preview, Screen] | None,
    r: Request,
    look: Stages | None = None,
) -> Batches:
    """The pictures of a request as they are finished, drawn under a preview or else a progress bar."""
    from unnoise.media.pictures import picture

    listeners = [*([viewer[0]] if viewer else []), *([look] if look else [])]

    def on_state(i, state):
        for listener in listeners:
            listener(i, state)

    with nullcontext() if viewer else progress("drawing", pipe.calls(r, batch_size), "call") as advance:
        for places, arrays, n in pipe.pictures(r, batch_size, advance, on_state if listeners else None):
            if viewer and 0 in places:
                viewer[1].show(picture(arrays[places.index(0)]), f"seed {r.seeds[0]}, {n} calls")
            yield places, arrays, n


def _viewer(pipe: Pipeline, previews: Previews) -> tuple[Preview, Screen] | None:
    """What previews a run on this terminal. None, with a word on stderr, where it cannot show pictures: the
    run is worth more.
    """
    from unnoise.cli.terminal import Screen, ability
    from unnoise.show import Preview

    how = ability(sys.stderr)
    screen = Screen(sys.stderr, how or "blocks")
    preview = Preview(
        pipe,
        lambda image, state, k: screen.show(image, f"step {k}, sigma/alpha {float(state.level.ratio):.3g}"),
        previews.preview_every,
        previews.preview_decoder,
    )
    if how:
        return preview, screen
    common.note("no preview: stderr is no terminal that shows colours")
    return None


def _given(**values: Any) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}


def _options(pairs: list[str]) -> dict[str, Any]:
    """Sampler options from "name=value" texts: numbers and true/false where they read as such."""
    out: dict[str, Any] = {}
    for pair in pairs:
        name, eq, text = pair.partition("=")
        if not eq or not name.isidentifier():
            raise BadInput(f"--option must be name=value, given {pair!r}")
        if name not in names.SAMPLER_OPTIONS:
            raise common.no_sampler_option(name)
        out[name] = _value(text)
    return out


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _slug(prompt: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in prompt.lower()).split())[:60] or "unnoise"


def writable(path: Path) -> None:
    """Refuse before the work what could not be written after it."""
    import os

    from unnoise.media import of_file

    parent = path if path.is_dir() else path.parent
    if not parent.is_dir() and path.suffix:
        raise BadInput(f"cannot write {path}: there is no folder {parent}")
    if parent.is_dir() and not os.access(parent, os.W_OK):
        raise BadInput(f"cannot write {path}: no permission to write in {parent}")
    if path.suffix and not path.is_dir() and path.suffix.lower() not in of_file(path).suffixes:
        raise BadInput(
            f"cannot write {path}: pictures are written as .png, which carries the recipe (given"
            f" {path.suffix})"
        )
