"""Model folders in and out, from files, from single-file checkpoints and from a hub."""

from unnoise.hub.folder import (
    BUNDLED,
    NETS,
    WEIGHTS,
    Folder,
    bundled,
    check_family,
    find,
    load,
    read_json,
    save,
    save_run,
    weight_files,
)
from unnoise.hub.store import write_folder

__all__ = [
    "BUNDLED",
    "NETS",
    "WEIGHTS",
    "Folder",
    "bundled",
    "check_family",
    "find",
    "load",
    "read_json",
    "save",
    "save_run",
    "weight_files",
    "write_folder",
]
