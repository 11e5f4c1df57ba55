"""Where fetched and remembered files lie."""

from __future__ import annotations

import os
from pathlib import Path

from unnoise.base.errors import BadInput


def cache() -> Path:
    """The folder under which fetched data lies: $UNNOISE_CACHE, else ~/.cache/unnoise. Not created here."""
    if given := os.environ.get("UNNOISE_CACHE"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "unnoise"
    except RuntimeError:  # a process whose user has neither name nor home, as in some containers
        raise BadInput(
            "there is no home folder to keep fetched files in: set UNNOISE_CACHE to a folder"
        ) from None
