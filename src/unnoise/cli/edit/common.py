"""What the edit commands share: their options, in one place, and how pictures are written as they are
finished, without touching an original.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from unnoise import DEFAULT_MODEL
from unnoise.base.errors import BadInput
from unnoise.cli import kept
from unnoise.cli.common import emit, note, progress

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
    hints = get_type_hints(Common, include_extras=True)
    fields = {k: f.default for k, f in Common.__dataclass_fields__.items() if k not in without}
    unknown = {*without, *defaults, *(helps or {})} - set(Common.__dataclass_fields__)
    assert not unknown, unknown

    def wrap(f: Callable[..., None]) -> Callable[..., None]:
        own_hints = get_type_hints(f, include_extras=True)
        own = [
            p.replace(annotation=own_hints[p.name])
            for p in inspect.signature(f).parameters.values()
            if p.name != "common"
        ]
        shared = [
            inspect.Parameter(
                k,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(k, v),
                annotation=_hint(hints[k], (helps or {}).get(k)),
            )
            for k, v in fields.items()
        ]

        def called(**values: Any) -> None:
            common = Common(**{p.name: values.pop(p.name) for p in shared})
            f(**values, common=common)

        called.__name__, called.__doc__ = f.__name__, f.__doc__
        called.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}
        return called

    return wrap


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


def swept(common: Common, image: Path, run: Run, more: Callable[[Any], dict[str, Any]]) -> None:
    """Run an edit whose Result names its own files, and write it."""
    began, rules = time.perf_counter(), common.rules
    out = output_for(image, common.output, rules.overwrite)
    with kept.telling(lambda: "no picture is written; the same command goes on where the training was"):
        pipe, how = common.load(), given(num_images=common.n, seed=common.seed, batch_size=common.batch_size)
        with progress("editing", None, "call") as advance:
            made = run(pipe, advance, **how, **common.how())
        names = made.names(out, rules.overwrite)
        if names.moved:
            note(f"{names.moved} exists: writing {names.grid or names.files[0]} (--overwrite replaces it)")
        files = made.save(out, rules.overwrite)
    report: dict[str, Any] = {"files": [str(f) for f in files], "seeds": list(made.seeds), "nfe": made.nfe}
    if names.grid:
        report["grid"] = str(names.grid)
    report |= more(made) | {"seconds": round(time.perf_counter() - began, 3), "model": pipe.name}
    grid = [f"{names.grid}  all of them"] if names.grid else []
    emit(report, common.as_json, "\n".join([*(f"{f}  seed {s}" for f, s in zip(files, made.seeds)), *grid]))


def edit(
    common: Common,
    image: Path,
    run: Run,
    others: Iterable[Path] = (),
    more: Callable[[list[Any]], dict[str, Any]] | None = None,
    seeded: bool = True,
) -> None:
    """Run an edit and write its pictures, each batch as it is finished.

    run(pipe, progress, **how) -> Result; more(results) -> further entries of the report. seeded: whether the
    edit draws one picture a seed; otherwise it is run once, as it is.
    """
    began, rules = time.perf_counter(), common.rules
    out = output_for(image, common.output, common.overwrite, others)
    with kept.telling(lambda: "nothing is drawn yet"):
        pipe = common.load()
    work = Writing(out, rules, *(_seeds(pipe, common, out) if seeded else ((), 0)))
    with kept.telling(lambda: work.so_far(common)), progress("editing", None, "call") as advance:
        for places in work.parts():
            how = {"seed": [work.seeds[i] for i in places], "num_images": len(places)} if seeded else {}
            work.add(places, run(pipe, advance, **how, **common.how()))
        work.close()
    report = (
        work.report()
        | (more(work.made) if more else {})
        | {"seconds": round(time.perf_counter() - began, 3), "model": pipe.name}
    )
    emit(
        report,
        common.as_json,
        "\n".join([*work.lines(), *(f"{k}: {v}" for k, v in report.items() if k not in _QUIET)]),
    )


_QUIET = ("files", "seeds", "nfe", "grid", "seconds", "model", "kept")


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


@dataclass
class Writing:
    """The files of an edit's pictures, a batch at a time. Of a resumed run those are kept that were made as
    the new ones are.
    """

    out: Path
    rules: kept.Rules
    seeds: tuple[int, ...]
    size: int
    made: list[Result] = field(default_factory=list)
    files: dict[int, Path] = field(default_factory=dict)
    arrays: dict[int, Any] = field(default_factory=dict)
    recipes: dict[int, dict] = field(default_factory=dict)
    kept: int = 0
    grid: Path | None = None

    def __post_init__(self):
        if self.seeds:
            self._name(self.seeds)

    def _name(self, seeds: Sequence[int]) -> None:
        from unnoise.media import files as outputs

        self.seeds = tuple(seeds)
        self.names = outputs.named(
            self.out, outputs.labels_of(self.seeds), self.rules.overwrite or self.rules.resume
        )
        if self.names.moved:
            note(
                f"{self.names.moved} exists: writing {self.names.grid or self.names.files[0]} (--overwrite"
                " replaces it)"
            )

    def parts(self) -> Iterable[list[int]]:
        """The places to draw, a batch at a time. What lies there is kept once a new picture has told how they
        are made now: the first that is missing, or the last one again."""
        if not self.seeds:
            yield []
            return
        left = list(range(len(self.seeds)))
        if self.rules.resume:
            probe = next((i for i in left if not os.path.lexists(self.names.files[i])), left[-1])
            yield [probe]
            left = [i for i in left if i != probe and not self._keeps(i)]
        for i in range(0, len(left), self.size):
            yield left[i : i + self.size]

    def _keeps(self, i: int) -> bool:
        """Whether the picture of a place lies there, made as the newest one was."""
        newest = self.recipes[next(reversed(self.recipes))]
        there = kept.found(self.names.files[i], {**newest, "seed": self.seeds[i]})
        if there is None:
            return False
        self.files[i], self.arrays[i], self.recipes[i] = (
            there,
            kept.pixels(there),
            {**newest, "seed": self.seeds[i]},
        )
        self.kept += 1
        return True

    def add(self, places: Sequence[int], made: Result) -> None:
        """Write the pictures of some places."""
        import json

        from unnoise.media.files import put
        from unnoise.media.pictures import png

        if not self.seeds:
            self._name(made.seeds)
            places = range(len(made.seeds))
        self.made.append(made)
        for i, image, a, recipe in zip(places, made.images, made.arrays, made.recipes, strict=True):
            there = kept.found(self.names.files[i], recipe) if self.rules.resume else None
            self.files[i] = there or put(
                self.names.files[i], png(image, json.dumps(recipe)), self.rules.overwrite
            )
            self.recipes[i] = recipe
            if self.names.grid:
                self.arrays[i] = a

    def close(self) -> None:
        """Write the grid, where there is one."""
        import json

        import numpy as np

        from unnoise.media.files import put
        from unnoise.media.pictures import png
        from unnoise.pipeline.result import Result

        if not self.names.grid:
            return
        order = range(len(self.seeds))
        sheet = Result(
            np.stack([self.arrays[i] for i in order]), self.seeds, 0, tuple(self.recipes[i] for i in order)
        )
        recipe = {"grid": list(sheet.recipes)}
        self.grid = kept.found(self.names.grid, recipe) if self.rules.resume else None
        self.grid = self.grid or put(
            self.names.grid, png(sheet.grid(), json.dumps(recipe)), self.rules.overwrite
        )

    def so_far(self, common: Common) -> str:
        """The last line of a run that was broken off."""
        if not self.seeds:
            return "nothing is written"
        moved = (
            f"-o {self.names.grid or self.names.files[0]} " if self.names.moved and self.out.suffix else ""
        )
        seed = "" if common.seed is not None else f"--seed {self.seeds[0]} "
        return kept.how_far(len(self.files), len(self.seeds), f"{moved}{seed}--resume")

    def report(self) -> dict[str, Any]:
        """What `--json` prints of the files."""
        files = [str(self.files[i]) for i in range(len(self.seeds))]
        out: dict[str, Any] = {"files": files, "seeds": list(self.seeds), "nfe": self.made[0].nfe}
        if self.grid:
            out["grid"] = str(self.grid)
        if self.rules.resume:
            out["kept"] = self.kept
        return out

    def lines(self) -> list[str]:
        """The same for people: a file a line, with its seed."""
        told = [f"{self.files[i]}  seed {s}" for i, s in enumerate(self.seeds)]
        return [*told, f"{self.grid}  all of them"] if self.grid else told
