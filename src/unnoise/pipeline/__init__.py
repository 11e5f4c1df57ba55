"""A model under the names users know: prompt in, images out.

`call` spells the arguments of a call, `request` checks and completes them, `bind` brings prompts to a
denoiser, `run` samples in batches, `record` is what a picture's file says of all this, `result` the pictures.
"""

from unnoise.base.write import make_folder
from unnoise.media import read_record as read_recipe
from unnoise.media.pictures import KEY, picture, write_png
from unnoise.pipeline.pipeline import Pipeline, load
from unnoise.pipeline.record import revisions
from unnoise.pipeline.request import DEFAULTS, NOISES, Request
from unnoise.pipeline.result import Result
from unnoise.pipeline.run import Count

__all__ = [
    "DEFAULTS",
    "KEY",
    "NOISES",
    "Count",
    "Pipeline",
    "Request",
    "Result",
    "load",
    "make_folder",
    "picture",
    "read_recipe",
    "revisions",
    "write_png",
]
