"""The recipe that a picture's file carries: what is stored, and the one place where it is read again.

`written` is everything that a picture depends on: the model by its digest, which covers weights, scheduler
and defaults; the request; the number type; and the machine, since sums are rounded in its order.

A recipe is foreign text: any PNG may hold one. `media.read_record` and `checked` answer with checked values
or one BadInput, whatever lies in the file; nothing of a file is opened as anything but a picture, and every
number, text and list has a bound. Keys that this version does not know are kept and named (`unknown_keys`),
so that a newer file is refused or questioned, never misread.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.version import VERSION
from unnoise.engine import device as devices
from unnoise.process import noise as noises
from unnoise.sample import REVISION

if TYPE_CHECKING:
    from unnoise.pipeline.pipeline import Pipeline
    from unnoise.pipeline.request import Request

MOST_PICTURES = 100_000  # on one sheet
EACH = (
    "prompt",
    "negative_prompt",
    "seed",
)  # what may differ between the pictures of one sheet; the machine may, too

Text = Annotated[str, Field(max_length=100_000)]
Name = Annotated[str, Field(max_length=1000)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Level = Annotated[float, Field(ge=0, allow_inf_nan=True)]  # sigma / alpha, which may be infinite
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Side = Annotated[int, Field(ge=1, le=8192)]
Scalar = bool | Whole | Finite | Name
Options = Annotated[dict[Name, Scalar], Field(max_length=100)]


class _Strict(BaseModel):
    """No value is turned into one of another type: "7" is no seed."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class Source(_Strict):
    """A picture that an edit was made from."""

    path: Annotated[str, Field(max_length=4096)] | None = None
    sha256: Annotated[str, Field(max_length=64)] = ""


class Edit(_Strict):
    """Which edit, of which pictures, with which options."""

    kind: Name
    inputs: Annotated[dict[Name, Source], Field(max_length=20)] = {}
    options: Annotated[dict[Name, Any], Field(max_length=100)] = {}


class Machine(_Strict):
    """What rounding depends on: the same recipe on another machine may differ in the last bit of a value."""

    device: Name = "cpu"
    engine: Name = ""
    cpu: Name = ""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    torch: Name = ""


class Recipe(_Strict):
    """Everything that determines one picture."""

    model: Name
    model_sha256: Name = ""
    prompt: Text
    negative_prompt: Text = ""
    seed: Whole
    sampler: Name
    spacing: Name
    steps: Annotated[int, Field(ge=1, le=10_000)]
    guidance: Finite
    options: Options = {}
    noise: Name = "seeded"
    guidance_rescale: Annotated[float, Field(ge=0, le=1)] = 0.0
    guidance_interval: Annotated[list[Level], Field(min_length=2, max_length=2)] | None = None
    timesteps: Annotated[list[Finite], Field(min_length=1, max_length=10_000)] | None = None
    height: Side | None = None
    width: Side | None = None
    clip_skip: Annotated[int, Field(ge=0, le=1000)] = 0
    guide: Annotated[list[Text], Field(min_length=1, max_length=100)] | None = None
    guide_through: bool = False
    guide_linear: bool = False
    dtype: Name | None = None
    clip: Annotated[float, Field(gt=0, le=1e9)] | None = None
    spacing_options: Options = {}
    weights_sha256: Name = ""
    machine: Machine | None = None
    version: Name = ""
    sampler_revision: Whole | None = None
    noise_revision: Whole | None = None
    edit: Edit | None = None

    def shared(self) -> dict[str, Any]:
        """What all pictures of one sheet have in common."""
        return self.model_dump(exclude={*EACH, "machine"})


class Sheet(_Strict):
    """The recipe of a sheet: those of its pictures, row by row."""

    grid: Annotated[list[Recipe], Field(min_length=1, max_length=MOST_PICTURES)]

    @model_validator(mode="after")
    def _alike(self) -> Sheet:
        first = self.grid[0].shared()
        for r in self.grid:
            if r.shared() != first:
                raise ValueError("its pictures were made with different settings")
        return self


class Together(_Strict):
    """The recipe of samples that lie in one file: all that they share, and the seed of each."""

    seeds: Annotated[list[Whole], Field(min_length=1, max_length=MOST_PICTURES)]

    def each(self) -> list[dict[str, Any]]:
        """A recipe a sample."""
        return [{**(self.model_extra or {}), "seed": seed} for seed in self.seeds]


def together(recipes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What one file of several samples tells of them all: each seed, and the rest once where it is the
    same.
    """
    first, *others = ({k: v for k, v in r.items() if k != "seed"} for r in recipes)
    if any(r != first for r in others):
        return {"grid": list(recipes)}
    return {**first, "seeds": [r["seed"] for r in recipes]}


# --- written ------------------------------------------------------------------------------------------------


def written(r: Request, pipe: Any, i: int) -> dict[str, Any]:
    """The recipe of a request's image i as its file stores it: `Recipe` reads it again.

    pipe: a `Pipeline`, or what draws in its place and has a name and a sha256 only.
    """
    facts = getattr(pipe, "facts", None)
    return {
        "model": pipe.name,
        "model_sha256": pipe.sha256,
        "prompt": r.prompts[i],
        "negative_prompt": r.negatives[i],
        "seed": r.seeds[i],
        "sampler": r.sampler,
        "spacing": r.spacing,
        "steps": r.steps,
        "guidance": r.guidance,
        **{k: v for k, v in _settings(r).items() if v},
        **_guides(r),
        **(facts(r) if facts else {}),
        **revisions(),
    }


def _settings(r: Request) -> dict[str, Any]:
    """What is stored where it is not nothing."""
    height, width = r.size or (None, None)
    return {
        "options": r.options,
        "noise": r.noise if r.noise != "seeded" else None,
        "guidance_rescale": r.rescale,
        "guidance_interval": r.interval and list(r.interval),
        "height": height,
        "width": width,
        "clip_skip": r.clip_skip,
        "timesteps": r.timesteps and list(r.timesteps),
    }


def _guides(r: Request) -> dict[str, Any]:
    if not r.guide:
        return {}
    texts = [g.text for g in r.guide]
    return {"guide": texts, "guide_through": r.guide_through, "guide_linear": r.guide_linear}


def shared(r: Request, pipe: Any) -> dict[str, Any]:
    """What the recipes of a request's images have in common: all but the prompts and the seed."""
    return {k: v for k, v in written(r, pipe, 0).items() if k not in EACH}


def key(recorded: Mapping[str, Any]) -> str:
    """The hex sha256 of what was recorded, under which what was drawn may be kept: the same where every
    number is the same to the last bit, whatever the order of the entries. BadInput for a guide that is a
    function in Python, as nothing tells one function from another.
    """
    for guide in recorded.get("guide", ()):
        if guide.startswith("python="):
            raise BadInput(f"pictures under a guide that is a function ({guide}) cannot be kept by a key")
    return hashlib.sha256(json.dumps(recorded, sort_keys=True).encode()).hexdigest()


def facts(pipe: Pipeline, r: Request) -> dict[str, Any]:
    """What a picture depends on beside the request: number type, the folder's defaults that bear on it, the
    weights where they were written to since they were loaded, the machine.
    """
    from unnoise.pipeline.request import spacing_options

    found: dict[str, Any] = {"dtype": devices.name_of(pipe.runner.dtype)}
    if c := pipe.defaults.get("clip"):
        found["clip"] = c
    if options := spacing_options(pipe, r):
        found["spacing_options"] = options
    if changed := pipe.runner.weights_sha256():
        found["weights_sha256"] = changed
    return found | {"machine": pipe.runner.facts()}


def revisions() -> dict[str, Any]:
    """What, beside the request, a picture depends on: versions of this library, its samplers and its
    noise.
    """
    return {"version": VERSION, "sampler_revision": REVISION, "noise_revision": noises.REVISION}


# --- read again ---------------------------------------------------------------------------------------------


def checked(given: Any, where: str) -> tuple[Recipe, ...]:
    """The recipes of a picture (one) or a sheet (several), from what its text held. BadInput, naming
    `where`.
    """
    if not isinstance(given, dict):
        raise BadInput(f"{where}: its recipe is damaged: a JSON object is expected")
    if "sweep" in given:
        raise BadInput(
            f"{where} is the sheet of a sweep: replay the pictures of its cells, which lie beside it"
        )
    about = f"{where}: its recipe is damaged or of another version"
    if "seeds" in given:
        given = {"grid": read.fit(Together, given, about).each()}
    if "grid" in given:
        return tuple(read.fit(Sheet, given, about).grid)
    return (read.fit(Recipe, given, about),)


def several(given: Sequence[Any], where: str) -> tuple[Recipe, ...]:
    """The recipes of pictures that were made together. BadInput where they were not."""
    return checked({"grid": list(given)}, where)


def unknown_keys(r: Recipe) -> list[str]:
    """The keys of a recipe that this version knows nothing of."""
    inner = [(f"{name}.", part) for name in ("edit", "machine") if (part := getattr(r, name)) is not None]
    return [before + key for before, part in [("", r), *inner] for key in part.model_extra or {}]


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two recipes ask for the same picture, whatever version and machine wrote them."""
    plain = lambda r: json.loads(json.dumps({k: v for k, v in r.items() if k not in ("version", "machine")}))
    return plain(a) == plain(b)
