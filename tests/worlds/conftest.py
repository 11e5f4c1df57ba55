"""The judge of small digits, as evaluations have it."""

from tests.evaluate.conftest import judge, judge_folder, model_folder

__all__ = ["judge", "judge_folder", "model_folder"]
