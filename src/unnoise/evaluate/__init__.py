"""How good a model is: accuracy, FID, KID, precision and recall, each with its n, its floor or ceiling, and
its judge.
"""

from unnoise.evaluate.metrics import fid, floor, frechet, kid, precision_recall
from unnoise.evaluate.run import Generator, compare, evaluate
from unnoise.worlds.judge import Judge, Seen
from unnoise.worlds.judge import load as load_judge

__all__ = [
    "Generator",
    "Judge",
    "Seen",
    "compare",
    "evaluate",
    "fid",
    "floor",
    "frechet",
    "kid",
    "load_judge",
    "precision_recall",
]
