"""Previews within their budget, by a clock that the test turns; sheets, scales and ticks to the number."""
import pytest
import torch
from PIL import Image

import unnoise
from tests.support.painter import painter
from unnoise import look
from unnoise.process.level import clean, ve
from unnoise.sample import State


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return unnoise.load(painter(tmp_path_factory.mktemp("models") / "painter"), device="cpu", dtype="fp32")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self): self.now = 0.0

    def __call__(self) -> float: return self.now


def shown_at(pipe, steps: int, each: float, cost: float, every: int | None = None) -> list[int]:
    """The steps of a run at which a preview is shown: a step takes `each` seconds, a preview `cost`."""
    clock, at = Clock(), []
    def show(image, state, k):
        at.append(k)
        clock.now += cost
    preview = look.Preview(pipe, show, every, clock=clock)
    for _ in range(steps):
        clock.now += each
        preview(0, State(torch.zeros(1, 4, 8, 8), ve(1.0), torch.zeros(1, 4, 8, 8)))
    return at


def test_previews_take_a_fiftieth_of_the_time(pipe):
    """The first may come once .01 s, the guess, is 2 % of what has passed: after .5 s. It took .5 s: so that 1 s is 2 %, the next comes at 50 s."""
    assert shown_at(pipe, 1200, 0.125, 0.5) == [3, 395, 591, 787, 983, 1179]
    assert len(shown_at(pipe, 1000, 0.1, 0.004)) == 510  # of .004 s each: 2 % of 102 s


def test_a_rhythm_that_is_asked_for_is_kept(pipe):
    assert shown_at(pipe, 10, 1.0, 100.0, every=3) == [0, 3, 6, 9]


def test_the_result_is_not_shown_and_the_next_part_begins_anew(pipe):
    seen = []
    preview = look.Preview(pipe, lambda image, state, k: seen.append(k), every=2)
    x = torch.zeros(1, 4, 8, 8)
    for l in [ve(3.0), ve(2.0), ve(1.0), clean()] * 2: preview(0, State(x, l, x))
    assert seen == [0, 2, 0, 2]


def test_round_numbers_on_axes():
    assert look.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0] and look.ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert look.ticks(-12, 12) == [-10, -5, 0, 5, 10] and look.ticks(0, 999) == [0, 200, 400, 600, 800]


def test_small_pictures_are_enlarged_by_whole_factors_and_large_ones_reduced():
    size = lambda w, h: look._fit(Image.new("RGB", (w, h)), 96, 512).size
    assert size(8, 8) == (96, 96) and size(10, 5) == (100, 50) and size(97, 3) == (97, 3) and size(1024, 256) == (512, 128)
