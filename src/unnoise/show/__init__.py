"""What a run looks like from inside: stages, previews; and what figures are made of: sheets, plots.

stages = Stages(pipe, "stages/")                              every step of one image, written to a folder
pipe("a red apple", seed=7, on_state=stages)
stages.close()
preview = Preview(pipe, lambda image, state, k: …)            the x0 estimate as it forms
sheet([[picture, …], …], columns, names)                      pictures under labels
plot("title", "x", [Curve(xs, ys, BLUE)])                     curves over axes
"""

from unnoise.show.plots import Curve, plot, plot_schedule, ticks
from unnoise.show.previews import Preview
from unnoise.show.sheets import sheet, write_picture
from unnoise.show.stages import Stages, channels, need_pictures

__all__ = [
    "Curve",
    "Preview",
    "Stages",
    "channels",
    "need_pictures",
    "plot",
    "plot_schedule",
    "sheet",
    "ticks",
    "write_picture",
]
