"""A part of a file that people write: every key known, every value of its own type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from unnoise.base.errors import BadInput
from unnoise.base.read import explain

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    # strict: `steps = "10"` or `batch = true` is a slip of the pen, not a number (TOML's lists are our
    # tuples: not strict).
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def checked(model: type[Model], keys: Mapping[str, Any], prefix: str) -> Model:
    """`model` of such keys; `prefix` stands before their names in errors.

    BadInput: an unknown one (named with the nearest), or a bad value.
    """
    try:
        return model(**keys)
    except ValidationError as e:
        raise BadInput(explain(e, model, prefix)) from None
