"""What the edit commands share: their options, in one place, and how pictures are written as they are
finished, without touching an original.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from unnoise import DEFAULT_MODEL
from unnoise.base.errors import BadInput
from unnoise.cli import kept
from unnoise.cli.common import emit, progress

if TYPE_CHECKING:
    from unnoise.pipeline import Pipeline
    from unnoise.pipeline.result import Result

_OUTPUT = "A .png file (several pictures: also the grid), or a folder. Default: IMAGE-edit.png."
_OVERWRITE = (
    "Replace files that lie there, even the picture that is edited; by default new numbers are taken."
)
_RESUME = "Go on with a run that was broken off: pictures that lie there and were made the same way are kept."
Image = Annotated[Path, typer.Argument(help="The picture to edit; it is not changed.")]
Prompt = Annotated[str, typer.Argument(help="What it shall show.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help=_OUTPUT)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help=_OVERWRITE)]
Resume = Annotated[bool, typer.Option("--resume", help=_RESUME)]
Number = Annotated[int, typer.Option("-n", "--num-images", help="How many, with seeds SEED, SEED + 1, …")]
Model = Annotated[
    str,
    typer.Option(
        "--model", help="A bundled model, a folder, a .safetensors checkpoint, or owner/model once fetched."
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", help="Sampling steps, all of which are run.")]
Guidance = Annotated[float | None, typer.Option("--guidance", help="Guidance scale; 1 is off.")]
Negative = Annotated[str, typer.Option("--negative", help="What to steer away from.")]
Seed = Annotated[
    int | None, typer.Option("--seed", help="The first picture's seed; drawn and reported when left out.")
]
Sampler = Annotated[str | None, typer.Option("--sampler", help="See `unnoise samplers`.")]
Spacing = Annotated[
    str | None, typer.Option("--spacing", help="The grid of noise levels, see `unnoise samplers`.")
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", help="An option of the sampler, as in eta=0.5; may be repeated."),
]
ClipSkip = Annotated[
    int | None, typer.Option("--clip-skip", help="How many last layers of the text encoder to leave out.")
]
Height = Annotated[
    int | None, typer.Option("--height", help="Height in pixels at which the model works (a multiple of 8).")
]
Width = Annotated[int | None, typer.Option("--width", help="Width in pixels, likewise.")]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", help="Pictures made at once; changes none of them.")
]
Vae = Annotated[
    Path | None, typer.Option("--vae", metavar="DIR|FILE", help="Another autoencoder than the model's.")
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, …; chosen when left out.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="fp32, fp16 or bf16; chosen when left out.")]
Budget = Annotated[str | None, typer.Option("--memory-budget", help="What the process may take, as in 2GB.")]
Compiled = Annotated[
    bool, typer.Option("--compile", help="Compile the network first: slow to begin, faster for many images.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@dataclass(frozen=True)
class Common:
    """The options that every edit command takes, as `command` adds them to each (but for those that a command
    leaves out).
    """

    output: Output = None
    overwrite: Overwrite = False
    resume: Resume = False
    n: Number = 1
    model: Model = DEFAULT_MODEL
    steps: Steps = None
    guidance: Guidance = None
    negative: Negative = ""
    seed: Seed = None
    sampler: Sampler = None
    spacing: Spacing = None
    option: Option = None
    clip_skip: ClipSkip = None
    height: Height = None
    width: Width = None
    batch_size: BatchSize = None
    vae: Vae = None
    device: Device = None
    dtype: Dtype = None
    memory_budget: Budget = None
    compiled: Compiled = False
    as_json: Json = False

    def how(self) -> dict[str, Any]:
        """What of them `Pipeline.request` and the edits take; seeds and batches are `edit`'s."""
        from unnoise.cli.generate import _options

        return {
            **_options(self.option or []),
            **given(
                negative_prompt=self.negative,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                sampler=self.sampler,
                spacing=self.spacing,
                clip_skip=self.clip_skip,
                height=self.height,
                width=self.width,
            ),
        }

    def load(self) -> Pipeline:
        """The model, on the device and in the number type asked for."""
        from unnoise.pipeline import load

        return load(
            self.model,
            **given(
                vae=self.vae,
                device=self.device,
                dtype=self.dtype,
                memory_budget=self.memory_budget,
                compile=self.compiled or None,
            ),
        )

    @property
    def rules(self) -> kept.Rules:
        return kept.Rules(self.overwrite, self.resume).check()


def command(
    without: Sequence[str] = (), helps: dict[str, str] | None = None, **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command of a function (its own arguments, common: Common): the fields of Common become its options
    too.

    without: names of fields that make no sense for it. helps: other words for some. defaults: other values
    where they are left out.
    """
    unknown = {*without, *defaults, *(helps or {})} - set(Common.__dataclass_fields__)
    assert not unknown, unknown
    shared = _shared(without, helps or {}, defaults)

    def wrap(f: Callable[..., None]) -> Callable[..., None]:
        def called(**values: Any) -> None:
            common = Common(**{p.name: values.pop(p.name) for p in shared})
            f(**values, common=common)

        everything = [*_own(f), *shared]
        called.__name__, called.__doc__ = f.__name__, f.__doc__
        called.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in everything}
        return called

    return wrap


def _shared(
    without: Sequence[str], helps: dict[str, str], defaults: dict[str, Any]
) -> list[inspect.Parameter]:
    """The fields of Common as parameters of a command."""
    hints = get_type_hints(Common, include_extras=True)
    return [
        inspect.Parameter(
            k,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(k, f.default),
            annotation=_hint(hints[k], helps.get(k)),
        )
        for k, f in Common.__dataclass_fields__.items()
        if k not in without
    ]


def _own(f: Callable[..., None]) -> list[inspect.Parameter]:
    """The parameters of a command's function, but for the common ones."""
    hints = get_type_hints(f, include_extras=True)
    parameters = inspect.signature(f).parameters.values()
    return [p.replace(annotation=hints[p.name]) for p in parameters if p.name != "common"]


def _hint(hint: Any, text: str | None) -> Any:
    """An option's annotation, with another help."""
    if text is None:
        return hint
    option = copy(hint.__metadata__[0])
    option.help = text
    return Annotated[hint.__origin__, option]


def given(**values: Any) -> dict[str, Any]:
    """The values that are there: neither None nor empty."""
    return {k: v for k, v in values.items() if v is not None and v != ""}


def output_for(image: Path, output: Path | None, overwrite: bool, others: Iterable[Path] = ()) -> Path:
    """Where to write, checked before the work: by default beside nothing else, in the present folder, as
    IMAGE-edit.png.

    BadInput where it is the picture itself (or the mask, a reference, …) and that was not allowed, or cannot
    be written.
    """
    from unnoise.cli.generate import writable

    out = output or Path(f"{image.stem}-edit.png")
    writable(out)
    spare(out, (image, *others), overwrite)
    return out


def spare(out: Path, originals: Iterable[Path], overwrite: bool) -> None:
    """BadInput where writing `out` would lose an original, and that was not allowed."""
    from unnoise.base.read import resolved

    for original in originals:
        if out.exists() and original.exists() and resolved(out) == resolved(original) and not overwrite:
            raise BadInput(f"{out} is an original: name another output, or say --overwrite")


# --- running and writing ------------------------------------------------------------------------------------

Run = Callable[..., Any]  # (pipe, progress, **how) -> Result
_QUIET = ("files", "seeds", "nfe", "grid", "seconds", "model", "kept", "eta")


def edit(
    common: Common,
    image: Path,
    run: Run,
    others: Iterable[Path] = (),
    more: Callable[[list[Any], list[dict]], dict[str, Any]] | None = None,
    seeded: bool = True,
    form: Callable[..., Result] | None = None,
    varied: Callable[[dict[str, Any]], dict[str, Any]] = lambda recipe: {},
    before: str = "",
) -> None:
    """Run an edit and write its pictures, each batch as it is finished.

    run(pipe, progress, **how) -> Result; more(results, recipes) -> further entries of the report, of what was
    drawn and of all. seeded: whether the edit draws one picture a seed; otherwise it is run once, as it is.
    form: see `kept.Files`. varied(recipe) -> the arguments in which pictures differ beside their seeds.
    before: the last line of a run that was broken off before its first picture.
    """
    began, rules = time.perf_counter(), common.rules
    out = output_for(image, common.output, rules.overwrite, others)
    with kept.telling(lambda: "nothing is drawn yet"):
        pipe = common.load()
        seeds, size = _seeds(pipe, common, out) if seeded else ((), 1)
        how = common.how() | ({"seed": seeds, "num_images": len(seeds)} if seeded else {})
        files = kept.Files(planned(run, pipe, **how), out, rules, form)
    so_far = lambda: (before if not files.done else "") or _so_far(files, common, out, seeded)
    with kept.telling(so_far), progress("editing", None, "call") as advance:
        drawn = _draw(files, size, lambda **some: run(pipe, advance, **how | some), varied, seeded)
        files.close()
    report = _report(files, drawn) | (more(drawn, files.recipes) if more else {})
    report |= {"seconds": round(time.perf_counter() - began, 3), "model": pipe.name}
    extra = [f"{k}: {v}" for k, v in report.items() if k not in _QUIET]
    emit(report, common.as_json, "\n".join([*files.lines(), *extra]))


def one_file(
    common: Common,
    out: Path,
    run: Run,
    contents: Callable[[Any], bytes],
    parts: tuple[str, int],
    seed: int | None = None,
    label: str = "editing",
) -> tuple[Pipeline, Any, Path]:
    """Run an edit whose outcome is one file without a recipe: (pipe, what it found, the file).

    run(pipe, progress, **how); contents: what it found as the file's bytes; parts: what finished parts of the
    work are called, and how many there are; seed: to be said to who goes on, where none was asked for; label:
    of the progress.
    """
    with kept.telling(lambda: "nothing is drawn yet"):
        pipe = common.load()
        recipes = planned(run, pipe)
    with _working(common, recipes, parts, seed) as work:
        with progress(label, None, "call") as advance:
            found = run(pipe, advance, work=work)
        file = kept.written(out, contents(found), common.rules)
    return pipe, found, file


@contextmanager
def _working(
    common: Common, recipes: Sequence[dict[str, Any]], parts: tuple[str, int], seed: int | None
) -> Iterator[Path | None]:
    """A folder for the finished parts of a run whose outcome is one file: by its recipes, in the cache, and
    removed once all is done. Broken off, the last line says how many parts there are.

    None where the cache cannot be written. Without --resume, what a run before left is removed first.
    """
    folder = _work_folder(recipes)
    if folder is not None and not common.resume:
        shutil.rmtree(folder, ignore_errors=True)
    what, of = parts
    done = lambda: 0 if folder is None else len([*folder.glob("*.safetensors")])
    again = "--resume" if seed is None else f"--seed {seed} --resume"
    with kept.telling(lambda: kept.how_far(done(), of, again, what)):
        yield folder
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _work_folder(recipes: Sequence[dict[str, Any]]) -> Path | None:
    from unnoise.base.cache import cache
    from unnoise.base.write import make_folder

    plain = [{k: v for k, v in r.items() if k not in ("version", "machine")} for r in recipes]
    text = json.dumps(plain, sort_keys=True)
    try:
        folder = cache() / "edits" / hashlib.sha256(text.encode()).hexdigest()[:16]
        make_folder(folder)
    except BadInput:
        return None
    return folder


class _Planned(Exception):
    """Stops an edit that has said what it will make."""


def planned(run: Run, pipe: Pipeline, **how: Any) -> tuple[dict[str, Any], ...]:
    """The recipes of the pictures that an edit would draw; nothing is drawn."""
    found: list[tuple[dict[str, Any], ...]] = []

    def stop(recipes: tuple[dict[str, Any], ...]) -> None:
        found.append(recipes)
        raise _Planned

    with suppress(_Planned):
        run(pipe, lambda *told: None, on_begin=stop, **how)
    return found[0]


def _draw(
    files: kept.Files, size: int, run: Run, varied: Callable[[dict[str, Any]], dict[str, Any]], seeded: bool
) -> list[Any]:
    """Draw what is missing, so many at once, and write it; returns the Results."""
    drawn = []
    for key, group in groupby(files.missing(), lambda i: varied(files.recipes[i])):
        left = list(group)
        for some in (left[i : i + size] for i in range(0, len(left), size)):
            seeds = [files.seeds[i] for i in some]
            found = run(**key, **({"seed": seeds, "num_images": len(seeds)} if seeded else {}))
            for i, a in zip(some, found.arrays, strict=True):
                files.write(i, a)
            drawn.append(found)
    return drawn


def _report(files: kept.Files, drawn: Sequence[Result]) -> dict[str, Any]:
    """What `--json` prints of the files."""
    rest = files.report()
    first = {k: rest.pop(k) for k in ("files", "seeds")}
    return {**first, "nfe": drawn[0].nfe if drawn else 0, **rest}


def _so_far(files: kept.Files, common: Common, out: Path, seeded: bool) -> str:
    """The last line of a run that was broken off."""
    moved = f"-o {files.grid or files.files[0]} " if files.moved and out.suffix else ""
    seed = "" if common.seed is not None or not seeded else f"--seed {files.seeds[0]} "
    return kept.how_far(len(files.done), len(files.files), f"{moved}{seed}--resume")


def _seeds(pipe: Pipeline, common: Common, out: Path) -> tuple[tuple[int, ...], int]:
    """The pictures' seeds, and how many are made at once. A run that is resumed without a seed has that of
    the pictures that lie there.
    """
    import secrets

    from unnoise.base import arguments

    n, first = arguments.integer("num_images", common.n, 1, 1_000_000), common.seed
    if first is None and common.resume:
        first = _first_seed(out)
    first = (
        secrets.randbelow(2**31)
        if first is None
        else arguments.integer("seed", first, -(2**63), 2**63 - 1 - n)
    )
    if common.batch_size is not None:
        return tuple(range(first, first + n)), arguments.integer("batch_size", common.batch_size, 1)
    return tuple(range(first, first + n)), pipe.runner.batch(pipe.codec.shape(1))


def _first_seed(out: Path) -> int | None:
    """The lowest seed of the edited pictures that lie at `out`."""
    from unnoise.media import read_record
    from unnoise.media.files import is_folder

    folder = is_folder(out)
    files = (out if folder else out.parent).glob("*.png")
    seeds = []
    for file in files:
        if not folder and not file.name.startswith(out.stem):
            continue
        try:
            recipe = read_record(file)
        except BadInput:
            continue
        if "edit" in recipe and isinstance(recipe.get("seed"), int):
            seeds.append(recipe["seed"])
    return min(seeds, default=None)
