"""The attention of an autoencoder in a single file: 1x1 convolutions become matrices, other shapes stay to be
named.
"""

from __future__ import annotations

import pytest
import torch

from unnoise.hub.original import _flat

KEY = "encoder.mid_block.attentions.0.to_q.weight"


@pytest.mark.parametrize(
    ("shape", "becomes"),
    [
        ((4, 4, 1, 1), (4, 4)),
        ((4, 4, 1), (4, 4)),
        ((4, 4), (4, 4)),
        ((4,), (4,)),
        ((1, 1, 8, 8), (1, 1, 8, 8)),
        ((4, 4, 1, 2), (4, 4, 1, 2)),
        ((2, 2, 0), (2, 2, 0)),
    ],
)
def test_only_what_is_a_matrix_becomes_one(shape, becomes):
    assert _flat({KEY: torch.zeros(shape), "other": torch.zeros(shape)})[KEY].shape == becomes
