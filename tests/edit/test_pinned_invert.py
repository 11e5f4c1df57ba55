"""Null-text inversion by its formula: how far an embedding moves at each step, from where, and when it is
good enough.
"""

import sys
from itertools import pairwise

import pytest
import torch

import unnoise
from tests.support import normal
from tests.support.painter import painter
from unnoise.edit.invert import contexts, inverted, landing, null_text
from unnoise.process.level import move, vp

N = 3
room = sys.modules["unnoise.edit.invert"]  # whose name in `unnoise.edit` is the function's


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return unnoise.load(painter(tmp_path_factory.mktemp("models") / "painter"), device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def found(pipe):
    return inverted(pipe, normal(1, 4, 8, 8).float(), "a red apple", N, "plain")


def test_the_rate_falls_from_the_first_step_on(pipe, found):
    """Adam's first move is its rate in every entry: rate (1 - i / 2N) at step i, from the embedding of the
    step before.
    """
    nulls = null_text(pipe, found, 7.5, iterations=1, rate=0.02, tolerance=0.0)
    before = contexts(pipe, [""])
    moves = [float((b - a).abs().max()) for a, b in zip([before, *nulls], nulls)]
    assert moves == pytest.approx([0.02, 0.02 * 5 / 6, 0.02 * 4 / 6], rel=1e-3)


def walked(pipe, found, null) -> tuple[list[float], torch.Tensor]:
    """The mean square errors of the guided run with one embedding at every step, against the way up; and
    where it comes to lie.
    """
    bind = lambda c: pipe.process.denoiser(lambda x, t: pipe.net(x, t, c))
    cond, x, errors = contexts(pipe, [found.prompt]), found.xs[0], []
    for (a, b), to in zip(pairwise(found.path), found.xs[1:]):
        with torch.no_grad():
            c, u = bind(cond)(x, a), bind(null)(x, a)
        x = move(x, u + 7.5 * (c - u), a, b)
        errors.append(float((x - to).square().mean()))
    return errors, x


def test_without_iterations_nothing_is_moved_and_with_some_it_is_downhill(pipe, found):
    heard: list[int] = []
    nulls = null_text(pipe, found, 7.5, iterations=0, progress=heard.append)
    assert len(heard) == N
    assert all(torch.equal(v, contexts(pipe, [""])) for v in nulls)
    nulls = null_text(pipe, found, 7.5, iterations=6, tolerance=0.0, progress=heard.append)
    assert len(heard) == N + 7 * N
    assert walked(pipe, found, nulls[0])[0][0] < 0.95 * walked(pipe, found, contexts(pipe, [""]))[0][0]


def test_good_enough_grows_with_the_steps(pipe, found):
    """tolerance (1 + 2 i) at step i: those of a larger error cost one call more, where one iteration is
    allowed (of a rate that moves nothing).
    """
    errors, _ = walked(pipe, found, contexts(pipe, [""]))
    for i, error in enumerate(errors):
        for near in (0.99, 1.01):
            tolerance, heard = near * error / (1 + 2 * i), []
            null_text(pipe, found, 7.5, iterations=1, tolerance=tolerance, rate=1e-12, progress=heard.append)
            assert len(heard) == N + sum(e >= tolerance * (1 + 2 * k) for k, e in enumerate(errors)), (
                i,
                near,
            )


def test_landing_by_hand():
    """From alpha .6, sigma .8 to alpha .8, sigma .6: r = .75, so x0 = (to - .75 x) / (.8 - .45)."""
    a, b = (
        vp(torch.log(torch.tensor(0.36 / 0.64, dtype=torch.float64))),
        vp(torch.log(torch.tensor(0.64 / 0.36, dtype=torch.float64))),
    )
    out = landing(
        torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[2.0]], dtype=torch.float64), a, b
    )
    assert float(out) == pytest.approx(1.25 / 0.35)


def test_defaults():
    assert (room.STEPS, room.ITERATIONS, room.BELOW) == (50, 3, 0.999)
