"""Power-function averages: the constants of EDM2, and the recursion against the sum that it stands for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from unnoise.train.ema import EMA, gamma


@pytest.mark.parametrize("sigma_rel, expected", [(0.05, 16.97), (0.10, 6.94)])
def test_gamma_of_the_paper(sigma_rel, expected):
    assert gamma(sigma_rel) == pytest.approx(expected, abs=5e-3)  # EDM2, table and eq. 126


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.15, 0.25])
def test_gamma_gives_the_relative_width_that_was_asked_for(sigma_rel):
    g = gamma(sigma_rel)  # density (g+1) t^g on [0, 1]: its standard deviation in closed form
    mean, square = (g + 1) / (g + 2), (g + 1) / (g + 3)
    assert math.sqrt(square - mean**2) == pytest.approx(sigma_rel, rel=1e-6)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.10, 0.20])
def test_the_recursion_is_the_weighted_sum(sigma_rel):
    """Step i weighs w_i prod_{j>i} (1 - w_j), w_j = 1 - (1 - 1/j)^(g+1): that telescopes to a difference of
    (i/k)^(g+1).
    """
    net = nn.Linear(3, 2).double()
    ema, k, g = EMA(net, sigma_rel), 40, gamma(sigma_rel)
    seen = []
    for step in range(1, k + 1):
        draw = torch.randn(2, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        with torch.no_grad():
            net.weight.copy_(draw)
        ema.update(net, step)
        seen.append(net.weight.detach().clone())
    direct = sum(((i / k) ** (g + 1) - ((i - 1) / k) ** (g + 1)) * w for i, w in enumerate(seen, start=1))
    torch.testing.assert_close(ema.weights["weight"], direct, rtol=1e-12, atol=1e-12)


def test_integer_buffers_are_copied_and_the_net_is_left_alone():
    net = nn.BatchNorm1d(2)
    ema = EMA(net, 0.1)
    net(torch.randn(4, 2))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    ema.update(net, 5)
    assert ema.weights["num_batches_tracked"] == 1
    for k, v in net.state_dict().items():
        torch.testing.assert_close(v, before[k], rtol=0, atol=0)
    assert 0 < float((ema.weights["running_mean"] / net.running_mean)[0]) < 1
