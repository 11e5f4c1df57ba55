"""A part of a file that people write: every key known, every value of its own type."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    # strict: `steps = "10"` or `batch = true` is a slip of the pen, not a number (TOML's lists are our
    # tuples: not strict).
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
