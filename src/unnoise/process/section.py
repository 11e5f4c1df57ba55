"""How a network was trained to see noise, as recipes and model folders say it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unnoise.base.section import Section


class ProcessSection(Section):
    """What corruption is, what the net predicts of it, and how levels are drawn and weighted."""

    schedule: str = "cosine"
    schedule_options: dict[str, int | float] = {}
    predict: str = "v"
    frame: Literal["unit", "convex", "clean_scale", "whiten"] = "unit"
    clock: Literal["table", "c_noise", "none"] = "table"
    weight: str = "v"
    weight_options: dict[str, float] = {}
    density: Literal["schedule", "discrete", "lognormal", "logit_normal"] = "schedule"
    density_options: dict[str, float] = {}
    stratified: bool = True
    drop_label: float = Field(
        default=0.1, ge=0, le=1
    )  # how often null replaces the condition, for classifier-free guidance
