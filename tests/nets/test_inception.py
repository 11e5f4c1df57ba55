"""Inception features: what is fed in, what is refused, and the network itself where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unnoise.errors import BadInput
from unnoise.nets import inception
from unnoise.nets.inception import Inception


class Corners(torch.nn.Module):
    """Stands in for the network: the mean of each channel and one pixel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x[:, :, 150, 150]], dim=1)


@pytest.fixture
def net(tmp_path):
    torch.jit.script(Corners()).save(str(tmp_path / "net.pt"))
    return Inception(tmp_path / "net.pt")


def test_pictures_arrive_in_its_range_and_size(net):
    x = np.zeros((3, 8, 8, 3), np.uint8)
    x[1], x[2, ..., 0] = 255, 128
    f = net.features(x, batch=2)
    assert f.shape == (3, 6) and f.dtype == np.float64
    assert (
        f[0].tolist() == [-1.0] * 6
        and f[1] == pytest.approx([127 / 128] * 6)
        and f[2] == pytest.approx([0, -1, -1] * 2, abs=1e-6)
    )
    assert np.array_equal(net.features(x[..., :1]), net.features(np.repeat(x[..., :1], 3, axis=3)))


def test_what_is_refused(net, monkeypatch, tmp_path):
    with pytest.raises(BadInput, match="uint8"):
        net.features(np.zeros((1, 8, 8, 3)))
    monkeypatch.setattr(inception, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install"):
        inception.path()
    (tmp_path / inception.FILE).write_bytes(b"another")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(inception, "find_spec", lambda name: spec)
    with pytest.raises(BadInput, match="not the pinned network"):
        inception.path()


@pytest.mark.skipif(
    inception.find_spec(inception.PACKAGE) is None, reason="the network of 87 MB is not installed"
)
def test_the_network_itself():
    f = Inception().features(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))
    assert f.shape == (2, 2048) and (f >= 0).all() and 0.1 < f.mean() < 1
