"""A recipe: everything that determines a training run, as TOML. Two runs of one recipe on one machine give
equal weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from unnoise.base.read import fit, toml_file
from unnoise.base.section import Section
from unnoise.process.section import ProcessSection


class DataSection(Section):
    """What to train on: `name` is a set of `unnoise data list` or a path; `validation` a split of it.

    The name of a world (`worlds.WORLDS`) means its endless items. Those of "emoji-scenes" and
    "emoji-starter-scenes" are scenes of these sets, `size` pixels wide, of the `concepts` commonest concepts
    (0: all), in the given `mixture` of kinds; `world` 1 is that of `worlds.emoji.scenes`, 2 that of
    `worlds.emoji.everything`. What else they need is made before:
    `tokenizer`, a folder; `autoencoder` and `text`, model folders whose latents and encodings the network
    sees; `cached` scenes' latents are made once.
    """

    name: str
    split: str = "train"
    validation: str = "test"
    shift: int = Field(default=0, ge=0, le=8)  # random translation by up to so many pixels (classifiers)
    mirror: float = Field(default=0.0, ge=0, le=1)  # the chance of a left-right flip
    size: Literal[32, 64, 128] = 64
    world: Literal[1, 2] = 1
    concepts: int = Field(default=0, ge=0)
    mixture: dict[str, float] = {}
    captions: Literal["grammar", "plain"] = (
        "grammar"  # plain: the nouns alone, as captions found beside pictures are
    )
    tokenizer: str = ""
    autoencoder: str = ""
    text: str = ""
    cached: int = Field(default=0, ge=0)
    without: tuple[str, ...] = Field(default=(), strict=False)  # classes (their words) that are left out
    low: Literal[0, 2, 4] = (
        0  # the network is shown the picture so many times smaller (see train.upscale); 0: it is not
    )
    low_noise: float = Field(
        default=0.5, ge=0, le=0.9
    )  # the most noise that the smaller one bears, pictures running from -1 to 1
    tint: float = Field(
        default=0.0, ge=0, le=0.5
    )  # how far half of a judge's pictures are moved in each colour, of the range
    masked: bool = (
        False  # the network is shown the picture with a part taken away, and which (see train.inpaint)
    )
    options: dict[str, Any] = {}  # what else the world of that name can be told (see its Options)

    def values(self) -> dict[str, Any]:
        """The values by name, without options where there are none."""
        return self.model_dump(exclude=None if self.options else {"options"})


def _known_task(name: Any) -> Any:
    from unnoise.train.tasks import TASKS

    if not isinstance(name, str) or name not in TASKS:
        *most, last = map(repr, TASKS)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(most)} or {last}"})
    return name


Beta = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[float, Field(gt=0, lt=0.28)]


class TrainSection(Section):
    """The optimiser and its budget. A step takes `batch` samples, in `accumulate` parts; learning rate counts
    steps.
    """

    steps: int = Field(ge=1)
    batch: int = Field(default=64, ge=1)
    accumulate: int = Field(default=1, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    lr_end: float = Field(default=0.0, ge=0)
    warmup: int = Field(default=200, ge=0)
    betas: tuple[Beta, Beta] = Field(default=(0.9, 0.99), strict=False)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["no", "bf16", "fp16"] = "no"
    initial: Literal["torch", "near_linear"] = "torch"  # the weights to begin with (UNets; see train.initial)
    ema: tuple[Width, Width] = Field(
        default=(0.05, 0.10), strict=False
    )  # widths, relative to the run (EDM2's sigma_rel)
    export: Literal["raw", "ema0", "ema1"] = "ema0"
    start: str = ""  # a bundled model or a model folder whose network's weights to begin with
    # the text encoder learns too, from where it is: that of `start` where it has one, else that of data.text
    text: bool = False
    tokens: float = Field(
        default=1.0, gt=0
    )  # the learning rate of the token rows of a text encoder that learns, times lr
    workers: int = Field(
        default=0, ge=0
    )  # processes that draw scenes and noise ahead of the steps; changes nothing but the time
    compile: bool = (
        False  # the network by torch.compile, for GPUs: other roundings, and a minute before the first step
    )
    bad_steps: int = Field(default=5, ge=1)  # so many non-finite steps in a row roll the run back

    @model_validator(mode="after")
    def _divides(self) -> TrainSection:
        if self.batch % self.accumulate:
            raise ValueError(
                f"batch must be a multiple of accumulate, given {self.batch} and {self.accumulate}"
            )
        return self


class LogSection(Section):
    every: int = Field(default=50, ge=1)
    save: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)
    validate_every: int = Field(default=1000, ge=1)
    validation_samples: int = Field(default=256, ge=1)
    sample: int = Field(default=0, ge=0)  # a grid of samples every so many steps; 0 = only at the end
    tensorboard: bool = True


class Recipe(Section):
    """The whole file. `net` has a `kind` (see `nets.table`) and that network's keys; sizes
    that follow from the data are filled in.

    `objective` holds what the loss of a task can be told (see `train.tasks`): its defaults are the task's
    own.
    """

    name: str = Field(min_length=1)
    task: Annotated[str, BeforeValidator(_known_task)] = "denoise"  # one of train.tasks.TASKS
    seed: int = Field(default=0, ge=0, lt=2**32)
    data: DataSection
    patch: int = Field(default=1, ge=1)
    net: dict[str, Any]
    process: ProcessSection = ProcessSection()
    objective: dict[str, int | float | str] = {}
    train: TrainSection
    log: LogSection = LogSection()


def load(path: str | Path, steps: int | None = None) -> Recipe:
    """The recipe of a TOML file, with `steps` in place of its own where given.

    BadInput, one line: no such file, broken TOML, unknown key (with the nearest), bad value.
    """
    d = toml_file(path, "recipe")
    if steps is not None and isinstance(d.get("train"), dict):
        d["train"]["steps"] = steps
    return parse(d, str(path))


def parse(d: dict, where: str = "recipe") -> Recipe:
    """The recipe of a dictionary, checked."""
    return fit(Recipe, d, where)
