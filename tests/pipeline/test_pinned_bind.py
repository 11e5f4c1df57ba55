"""Which step reads which prompt, to the step: prompts that change on the way, and what notes the step of a
run.
"""

from itertools import pairwise

import pytest
import torch

import unnoise
from tests.support import normal
from tests.support.painter import painter
from unnoise.edit.invert import Steps
from unnoise.process.level import Level


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return unnoise.load(painter(tmp_path_factory.mktemp("models") / "painter"), device="cpu", dtype="fp32")


def between(a: Level, b: Level, share: float = 0.5) -> Level:
    """A level on the way from a to b, as samplers of higher order ask for."""
    return Level(a.alpha + share * (b.alpha - a.alpha), a.sigma + share * (b.sigma - a.sigma))


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("[a red apple:two blue cars:2]", ["a red apple", "a red apple", "two blue cars", "two blue cars"]),
        ("[a red apple:two blue cars:0.75]", ["a red apple"] * 3 + ["two blue cars"]),
        ("[a red apple|two blue cars]", ["a red apple", "two blue cars"] * 2),
    ],
)
def test_a_prompt_changes_exactly_at_its_step(pipe, prompt, said):
    path, x = pipe.schedule.path(4), normal(1, 4, 8, 8).float()
    alone = {p: pipe.denoiser([p]) for p in said}
    denoise = pipe.denoiser([prompt], path=path)
    assert not torch.allclose(alone["a red apple"](x, path[1]), alone["two blue cars"](x, path[1]), atol=1e-3)
    for i, p in enumerate(said):
        levels = [path[i], between(path[i], path[i + 1]), between(path[i], path[i + 1], 0.999)]
        for l in levels:
            torch.testing.assert_close(denoise(x, l), alone[p](x, l), atol=1e-5, rtol=1e-5)


def test_a_step_begins_at_its_own_level(pipe):
    path = pipe.schedule.path(5)
    steps = Steps(path)
    assert [steps.at(l) for l in path[:-1]] == [0, 1, 2, 3, 4]
    assert steps.n == 5
    assert [steps.at(between(a, b, 0.999)) for a, b in pairwise(path[:-1])] == [0, 1, 2, 3]


def test_watching_notes_the_step_before_the_call(pipe):
    path, noted = pipe.schedule.path(3), []
    steps = Steps(path)
    watched = steps.watch(lambda x, l: noted.append(steps.now) or x)
    for l in path[:-1]:
        watched(torch.zeros(1), l)
    assert noted == [0, 1, 2]
