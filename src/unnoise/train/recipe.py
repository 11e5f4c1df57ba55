"""A recipe: everything that determines a training run, as TOML. Two runs of one recipe on one machine give equal weights."""
from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unnoise.errors import BadInput


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(_Section):
    """What to train on: `name` is a set of `unnoise data list` or a path; `validation` a split of it."""

    name: str
    split: str = "train"
    validation: str = "test"
    shift: int = Field(0, ge=0, le=8)  # random translation by up to so many pixels (classifiers)
    mirror: float = Field(0.0, ge=0, le=1)  # the chance of a left-right flip


class ProcessSection(_Section):
    """What corruption is, what the net predicts of it, and how levels are drawn and weighted."""

    schedule: str = "cosine"
    schedule_options: dict[str, float] = {}
    predict: str = "v"
    frame: Literal["unit", "convex", "clean_scale", "whiten"] = "unit"
    clock: Literal["table", "c_noise", "none"] = "table"
    weight: str = "v"
    weight_options: dict[str, float] = {}
    density: Literal["schedule", "discrete", "lognormal", "logit_normal"] = "schedule"
    density_options: dict[str, float] = {}
    stratified: bool = True
    drop_label: float = Field(0.1, ge=0, le=1)  # how often the condition is replaced by null, for classifier-free guidance


class TrainSection(_Section):
    """The optimiser and its budget. A step takes `batch` samples, in `accumulate` parts; learning rate counts steps."""

    steps: int = Field(ge=1)
    batch: int = Field(64, ge=1)
    accumulate: int = Field(1, ge=1)
    lr: float = Field(1e-3, gt=0)
    lr_end: float = Field(0.0, ge=0)
    warmup: int = Field(200, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    precision: Literal["no", "bf16", "fp16"] = "no"
    ema: tuple[float, float] = (0.05, 0.10)  # widths relative to the run's length so far (EDM2's sigma_rel)
    export: Literal["raw", "ema0", "ema1"] = "ema0"
    bad_steps: int = Field(5, ge=1)  # so many non-finite steps in a row roll the run back


class LogSection(_Section):
    every: int = Field(50, ge=1)
    save: int = Field(500, ge=1)
    keep: int = Field(2, ge=1)
    validate_every: int = Field(1000, ge=1)
    validation_samples: int = Field(256, ge=1)
    sample: int = Field(0, ge=0)  # a grid of samples every so many steps; 0 = only at the end
    tensorboard: bool = True


class Recipe(_Section):
    """The whole file. `net` has a `kind` (unet, mlp, classifier) and that network's own keys; what follows from the data is filled in."""

    name: str
    task: Literal["denoise", "classify"] = "denoise"
    seed: int = 0
    data: DataSection
    patch: int = Field(1, ge=1)
    net: dict[str, Any]
    process: ProcessSection = ProcessSection()
    train: TrainSection
    log: LogSection = LogSection()


def load(path: str | Path) -> Recipe:
    """The recipe of a TOML file. BadInput, one line: no such file, broken TOML, unknown key (with the nearest), bad value."""
    path = Path(path)
    try: d = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError: raise BadInput(f"no recipe at {path}") from None
    except (OSError, UnicodeDecodeError) as e: raise BadInput(f"cannot read recipe {path}: {e}") from e
    except tomllib.TOMLDecodeError as e: raise BadInput(f"{path} is not valid TOML: {e}") from e
    return parse(d, str(path))


def parse(d: dict, where: str = "recipe") -> Recipe:
    """The recipe of a dictionary, checked."""
    try: return Recipe.model_validate(d)
    except ValidationError as e: raise BadInput(f"{where}: {_explain(e.errors()[0])}") from None


def _explain(error: Any) -> str:
    *parents, key = error["loc"] or ("",)
    name = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden":
        given = "" if error["type"] == "missing" else f", given {error['input']!r}"
        return f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}{given}"
    model: Any = Recipe
    for p in parents: model = model.model_fields[p].annotation
    near = get_close_matches(str(key), model.model_fields, n=1, cutoff=0.4)
    hint = f"; did you mean {'.'.join([*map(str, parents), near[0]])!r}?" if near else ""
    return f"unknown key {name!r}{hint} (accepted: {', '.join(model.model_fields)})"
