"""The data room: real sets by name, a user's own by path, and the order in which training sees them."""

from unnoise.data.dataset import Data
from unnoise.data.loading import describe, load, splits
from unnoise.data.sets import fetch
from unnoise.data.sources import NAMES, SOURCES
from unnoise.data.transforms import batch_indices, crop, flip, order, positions

__all__ = [
    "NAMES",
    "SOURCES",
    "Data",
    "batch_indices",
    "crop",
    "describe",
    "fetch",
    "flip",
    "load",
    "order",
    "positions",
    "splits",
]
