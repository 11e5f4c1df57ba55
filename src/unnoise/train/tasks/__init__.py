"""What can be trained. A task says

    check     whether a recipe fits, as far as that can be told without data
    source    what its network learns from, and accept: what it is judged by
    net       the network, begun
    loss      of a batch; settle: what is put right after each step
    validate  the figures of held-out items
    show      what a sheet of samples shows
    save      the model's folder

A new task is a file here with a class of these (`protocol.Task`; what it leaves out keeps what stands there),
its keys of [objective] in its `Objective`, the kinds of network in `kinds`, and its line below. The tests in
tests/train/tasks and tests/train/test_devices.py run over all of them: steps that are functions of their
number, exact resuming, saving what was trained.
"""

from unnoise.train.tasks.autoencode import Autoencode
from unnoise.train.tasks.classify import Classify
from unnoise.train.tasks.contrast import Contrast
from unnoise.train.tasks.denoise import Denoise
from unnoise.train.tasks.protocol import Task
from unnoise.train.tasks.recognise import Recognise
from unnoise.train.tasks.score import Score
from unnoise.train.tasks.words import Words

TASKS: dict[str, type[Task]] = {
    "denoise": Denoise,
    "classify": Classify,
    "autoencode": Autoencode,
    "contrast": Contrast,
    "recognise": Recognise,
    "score": Score,
    "words": Words,
}
__all__ = [
    "TASKS",
    "Autoencode",
    "Classify",
    "Contrast",
    "Denoise",
    "Recognise",
    "Score",
    "Task",
    "Words",
    "of",
]


def of(recipe) -> Task:
    """The task of a recipe. BadInput: see `Task`."""
    return TASKS[recipe.task](recipe)
