"""How good a model is, each number with its n, its floor or ceiling, and its judge: one `evaluate`, an exam
for each kind of model.
"""

from unnoise.evaluate.classes import compare
from unnoise.evaluate.exam import Exam, Order, check_count
from unnoise.evaluate.kept import Drawer, Generator
from unnoise.evaluate.metrics import fid, floor, frechet, kid, precision_recall
from unnoise.evaluate.run import EXAMS, evaluate, exam_for
from unnoise.worlds.judge import Judge, Seen
from unnoise.worlds.judge import load as load_judge

__all__ = [
    "EXAMS",
    "Drawer",
    "Exam",
    "Generator",
    "Judge",
    "Order",
    "Seen",
    "check_count",
    "compare",
    "evaluate",
    "exam_for",
    "fid",
    "floor",
    "frechet",
    "kid",
    "load_judge",
    "precision_recall",
]
