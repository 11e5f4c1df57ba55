"""The classifier: with and without the time of its input."""

import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from unnoise import hub
from unnoise.errors import BadInput
from unnoise.nets.classifier import Classifier, ClassifierConfig
from unnoise.nets.recogniser import Recogniser, RecogniserConfig

SMALL = dict(channels=1, classes=3, widths=(4, 8), features=8)
X = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def net(**more):
    torch.manual_seed(0)
    return Classifier(ClassifierConfig(**SMALL, **more)).eval()


def test_one_time_for_all_is_that_time_for_each_and_each_its_own():
    timed, t = net(time=True), torch.tensor([3.0, 100.0, 999.0, 0.5, 40.0])
    assert_close(timed(X, torch.tensor(7.0)), timed(X, torch.full((5,), 7.0)))
    rows = torch.cat([timed(X[i : i + 1], t[i]) for i in range(5)])
    assert_close(timed(X, t), rows, rtol=1e-5, atol=1e-6)
    assert (timed(X, t) - timed(X, t.flip(0)))[[0, 1, 3, 4]].abs().amax(1).min() > 1e-4  # measured: 7e-4


def test_without_time_it_is_the_network_that_was_published():
    judge = hub.load("digits-judge").net
    assert isinstance(judge, Classifier)
    assert not judge.config.time and not any("time" in k for k in judge.state_dict())
    assert not any(
        "time" in k for k in Recogniser(RecogniserConfig(heads={"a": ("b", "c")}, widths=(4, 4))).state_dict()
    )


def test_a_time_without_need_and_a_need_without_time():
    with pytest.raises(BadInput, match="needs the time"):
        net(time=True)(X)
    with pytest.raises(BadInput, match="takes clean images and no time"):
        net()(X, torch.tensor(1.0))
    with pytest.raises(ValidationError):
        ClassifierConfig(time="yes")  # pyright: ignore[reportArgumentType]
