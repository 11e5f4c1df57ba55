"""What the small files of a model folder may hold: one model for each, by which it is checked where it is
read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.nets.table import TABLE

PARTS = (*TABLE, "codec", "tokenizer", "words", "scheduler", "image_encoder")
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=1000)]


def _below(name: str) -> str:
    if (
        not 0 < len(name) <= 500
        or name.startswith("/")
        or "\\" in name
        or any(p in ("", ".", "..") for p in name.split("/"))
    ):
        raise ValueError(f"{short(name)} must be the name of a file below the folder")
    return name


Place = Annotated[str, AfterValidator(_below)]
Setting = (
    Annotated[bool, Field(strict=True)]
    | Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | Name
)
Settings = dict[Name, Setting | list[Setting]]
Steps = Annotated[int, Field(ge=1, le=100_000)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _File(BaseModel):
    """Keys that are not named here are for other programs."""

    model_config = ConfigDict(strict=True, extra="allow", populate_by_name=True)


class Upscale(_File):
    """How a model that enlarges pictures was trained."""

    model_config = ConfigDict(strict=True, extra="forbid")

    factor: Annotated[int, Field(ge=1, le=64)]
    noise: Annotated[float, Field(ge=0, le=1)]


class Grid(_File):
    """A grid that was tuned for a number of calls."""

    u: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=2, max_length=100_001)]
    sampler: Name
    options: Settings = {}


class Defaults(_File):
    """What is done with a model unless something else is asked for."""

    sampler: Name | None = None
    spacing: Name | None = None
    spacing_options: Settings | None = None
    options: Settings | None = None
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    num_inference_steps: Steps | None = None
    guidance_scale: Number | None = None
    upscale: Upscale | None = None
    masked: Literal["cells"] | None = None
    tuned: dict[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}$")], Grid] | None = None

    @model_validator(mode="after")
    def _not_null(self) -> Defaults:
        for k in self.model_fields_set:
            if getattr(self, k) is None:
                raise ValueError(f"{k} is null: leave it out")
        return self


class Index(_File):
    """model_index.json. Parts are pairs of a library and a class; both null where a model has none."""

    family: Name | None = Field(default=None, alias="_class_name")
    version: Name | None = Field(default=None, alias="_unnoise_version")
    name: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(default=None, alias="_name")
    hashes: dict[Place, Digest] = Field(default={}, alias="_sha256")
    defaults: Defaults = Field(default=Defaults(), alias="_defaults")
    clip: Literal["clip"] | None = Field(default=None, alias="_clip")

    @model_validator(mode="after")
    def _pairs(self) -> Index:
        for key, value in (self.model_extra or {}).items():
            pair = (
                isinstance(value, list)
                and len(value) == 2
                and all(v is None or isinstance(v, str) for v in value)
            )
            if key in PARTS and not pair:
                raise ValueError(f"{key} must be a pair of a library and a class, given {short(value)}")
        return self


class Shards(_File):
    """*.safetensors.index.json: the file that each tensor is in."""

    weight_map: Annotated[
        dict[str, Annotated[str, Field(pattern=r"^[^/\\]{1,250}\.safetensors$")]], Field(min_length=1)
    ]


class Entry(_File):
    """A file of a fetched model."""

    size: Annotated[int, Field(ge=0)]
    sha256: Digest


class Manifest(_File):
    """unnoise.json of a fetched folder. installing: its files are being put in their places, it is not whole
    yet.
    """

    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    commit: Name
    revision: Name
    variant: Name | None
    files: dict[Place, Entry]
    installing: bool = False


def read_index(folder: Path) -> dict[str, Any]:
    """The checked index of a model folder, without the parts that it says it has not. BadInput: there is
    none, or it is broken.
    """
    path = folder / "model_index.json"
    if not os.path.lexists(path):
        raise BadInput(f"{path} is missing: {_what(folder)}")
    d = read.object_file(path, "model index")
    read.fit(Index, d, str(path))
    return {k: v for k, v in d.items() if not (k in PARTS and not v[1])}


def _what(folder: Path) -> str:
    if os.path.isfile(folder / "config.json"):
        return f"{folder} is one part of a model, give the model's own folder"
    return f"{folder} is no model folder in the published layout"
