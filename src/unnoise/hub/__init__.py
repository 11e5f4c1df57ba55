"""Model folders in and out, from files, from single-file checkpoints and from a hub."""
from unnoise.hub.folder import BUNDLED, WEIGHTS, Folder, bundled, find, load, read_json, save, save_run, scheduler_config, write_folder
from unnoise.hub.folder import _check_bytes as check_bytes
from unnoise.hub.folder import read_weights

__all__ = ["BUNDLED", "WEIGHTS", "Folder", "bundled", "check_bytes", "find", "load", "read_json", "read_weights", "save", "save_run",
           "scheduler_config", "write_folder"]
