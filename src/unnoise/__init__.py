"""unnoise: diffusion models, the whole subject in one house.

`import unnoise` is light: torch and everything that needs it load at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from unnoise.base.version import DEFAULT_MODEL, VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from unnoise.base.errors import BadInput
    from unnoise.pipeline import Pipeline, Result, load

_LAZY = {
    "load": "unnoise.pipeline",
    "Pipeline": "unnoise.pipeline",
    "Result": "unnoise.pipeline",
    "BadInput": "unnoise.base.errors",
}
_ROOMS = (
    "base",
    "process",
    "denoiser",
    "guide",
    "sample",
    "nets",
    "media",
    "codec",
    "text",
    "data",
    "engine",
    "worlds",
    "train",
    "evaluate",
    "pipeline",
    "hub",
    "edit",
    "show",
    "tune",
    "errors",
)
__all__ = ["DEFAULT_MODEL", "BadInput", "Pipeline", "Result", "__version__", "load"]


def __dir__() -> list[str]:
    """The public names and the rooms, without loading any."""
    return sorted({*globals(), *__all__, *_ROOMS})


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _ROOMS:
        return import_module(f"unnoise.{name}")
    raise AttributeError(f"module 'unnoise' has no attribute {name!r}")
