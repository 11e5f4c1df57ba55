"""Around the steps, by hand: at which levels validation looks, what it counts, the dropout of a step."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.tiny import MLP, recipe
from unnoise.base.sheet import tile
from unnoise.process import noise
from unnoise.process.weight import stratified
from unnoise.train import fit, objective, perceptual, tasks
from unnoise.train.items import Items
from unnoise.train.objective import Batch


def test_validation_looks_at_the_middles_of_equal_parts_of_the_time():
    """Of 8 levels at 1/16, 3/16 … 15/16, each with noise of its own, by the sample's number."""
    r = recipe(MLP)
    process = objective.resolve(r.process)
    made = list(objective.validated(r, process, torch.zeros(3, 2), 5))
    assert [u for u, _, _ in made] == [(2 * j + 1) / 16 for j in range(8)]
    for j, (u, eps, l) in enumerate(made):
        torch.testing.assert_close(eps, noise.draws(0, f"validation/{j}", [5, 6, 7], (2,)).float())
        torch.testing.assert_close(l.sigma, process.curve.level(np.full(3, u)).sigma)


def test_grids_of_samples_are_near_square():
    x = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((2, 3, 3), np.uint8)
    sheet = tile(x)
    assert sheet.shape == (4, 9, 3)
    assert sheet[::2, ::3, 0].tolist() == [[0, 1, 2], [3, 4, 255]]
    assert tile(x, 5).shape == (2, 15, 3)


def test_an_autoencoders_validation_by_hand():
    """An error of a quarter of the range, 1/2 in units of [-1, 1]: 10 log10(4 / .25) = 12.04 dB."""
    task: Any = tasks.Autoencode.__new__(tasks.Autoencode)
    task.objective = tasks.Autoencode.Objective(square=2.0, edge=0.0, kl=0.5)
    q = SimpleNamespace(mean=torch.zeros(2, 4, 1, 1), kl=lambda: torch.full((2,), 8.0))
    x = torch.zeros(2, 3, 4, 4)
    told = task.validate(lambda x, eps: (x + 0.5, q), Items(x, None, {}), None, 0)
    assert told["psnr"] == pytest.approx(12.0412, abs=1e-3)
    assert told["loss"] == pytest.approx(0.5 + 2 * 0.25 + 0.5 * 8 / 4)  # the divergence is a number of z's
    assert told["kl"] == pytest.approx(8.0)


def test_features_are_compared_at_levels_drawn_anew():
    """Not at those at which the network was shown its noise."""
    b = Batch(torch.zeros(4, 2), None, np.arange(4) + 8, 2, 4)
    r = recipe(MLP, objective={"features": "digits", "share": 0.5})
    seen = []

    def features(x0, eps, l, labels):
        seen.append(l)
        return [x0]

    loss: Any = objective.denoising(r, None, features=features)
    loss(lambda x, t: x, b, 1)
    process = objective.resolve(r.process)
    own = process.density(stratified(noise.uniform(0, "train/1/features", 2, (4,)))[b.places])
    torch.testing.assert_close(seen[0].sigma, own.sigma)
    assert perceptual.keys(r).share == 0.5


def test_dropout_is_drawn_anew_at_every_step_place_and_roll_back():
    def seed(rollbacks: int, first: int) -> int:
        run: Any = SimpleNamespace(recipe=SimpleNamespace(seed=3), rollbacks=rollbacks)
        b = Batch(torch.zeros(1), None, np.array([first]), 0, 1)
        with torch.random.fork_rng(devices=[]):
            fit._seed_dropout(run, b)
            return torch.initial_seed()

    assert seed(0, 5) == 3 * 1_000_003 + 5
    assert seed(2, 5) == 3 * 1_000_003 + 5 + 2 * 7_919
