"""Model folders in and out, from files, from single-file checkpoints and from a hub."""

from unnoise.hub.catalog import BUNDLED, bundled, check_family, find
from unnoise.hub.folder import Folder
from unnoise.hub.loading import load
from unnoise.hub.saving import save
from unnoise.hub.store import write_folder
from unnoise.hub.stored import WEIGHTS, read_json, weight_files

__all__ = [
    "BUNDLED",
    "WEIGHTS",
    "Folder",
    "bundled",
    "check_family",
    "find",
    "load",
    "read_json",
    "save",
    "weight_files",
    "write_folder",
]
