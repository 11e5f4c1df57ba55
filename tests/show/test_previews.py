"""Previews come in their rhythm, within their part of the time, and change nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unnoise
from unnoise.errors import BadInput
from unnoise.process.level import level
from unnoise.sample import State
from unnoise.show import previews
from unnoise.show.previews import BUDGET

RUN = {"seed": 3, "num_inference_steps": 3, "sampler": "ddim", "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def pipe(tiny):
    return unnoise.load(tiny, device="cpu", dtype="fp32")


def test_previews_come_in_the_rhythm_asked_for_and_change_nothing(pipe):
    shown = []
    preview = previews.Preview(pipe, lambda image, state, k: shown.append((k, np.asarray(image))), every=2)
    run = {**RUN, "num_inference_steps": 5}
    got = pipe("one", num_images=2, batch_size=1, on_state=preview, **run)
    assert (
        np.array_equal(got.arrays, pipe("one", num_images=2, **run).arrays)
        and [k for k, _ in shown] == [0, 2, 4] * 2
    )
    for seed, part in (3, shown[:3]), (4, shown[3:]):
        states = list(pipe.stream("one", **{**run, "seed": seed}))
        for k, image in part:
            assert np.array_equal(image, pipe.decode(states[k].x0)[0, ..., 0])
    with pytest.raises(BadInput, match="at least 1, given 0"):
        previews.Preview(pipe, print, every=0)


@given(st.floats(0.001, 5), st.floats(0.0001, 0.5), st.integers(1, 400))
@settings(max_examples=30, deadline=None)
def test_previews_keep_within_their_part_of_the_time(tiny, seconds_a_step, seconds_a_preview, steps):
    pipe, now, shown = unnoise_pipe(tiny), [0.0], []

    def show(image, state, k):
        now[0] += seconds_a_preview
        shown.append(now[0])

    preview = previews.Preview(pipe, show, clock=lambda: now[0])
    state = State(torch.zeros(1, 1, 8, 8), level(0.5, 0.5), torch.zeros(1, 1, 8, 8))
    for _ in range(steps):
        now[0] += seconds_a_step
        preview(0, state)
    spent = len(shown) * seconds_a_preview
    assert (
        spent <= BUDGET * now[0] + seconds_a_preview
    )  # one more at most: the first, whose cost is not known yet
    if now[0] > 1 and steps > 1:
        assert shown


_PIPES: dict = {}


def unnoise_pipe(folder):
    """One pipeline a folder, as hypothesis calls a test many times."""
    if folder not in _PIPES:
        _PIPES[folder] = unnoise.load(folder, device="cpu", dtype="fp32")
    return _PIPES[folder]
