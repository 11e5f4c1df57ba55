"""Columns of a table as vectors: near unit scale, and back what was seen."""

import numpy as np
import pytest
import torch

from unnoise.codec import from_config
from unnoise.codec.columns import CUT, Columns, Numbers, Words
from unnoise.errors import BadInput
from unnoise.media.table import Column

G = np.random.default_rng(0)
N = 5000
TABLE = np.stack(
    [
        G.lognormal(0, 2, N),
        G.choice([1.0, 2.0, 10.0], N, p=[0.5, 0.3, 0.2]),
        G.choice(3, N, p=[0.9, 0.08, 0.02]),
    ],
    1,
)
COLUMNS = (Column("price"), Column("doors"), Column("kind", ("car", "van", "bus")))
CODEC = Columns.of(TABLE, COLUMNS)


def test_shapes_and_scale():
    z = CODEC.encode(TABLE)
    assert z.shape == CODEC.shape(N) == (N, 5) and z.dtype == torch.float32
    torch.testing.assert_close(z.mean(0), torch.zeros(5), atol=0.05, rtol=0)
    torch.testing.assert_close(z[:, [0, 2, 3, 4]].std(0), torch.ones(4), atol=0.05, rtol=0)
    assert float(z[:, 0].abs().max()) <= CUT


def test_a_number_is_the_normal_of_its_place():
    """Pinned: the median is 0, the quantile of Phi(1) is 1."""
    v = np.quantile(TABLE[:, 0], [0.5, 0.8413447460685429])
    np.testing.assert_allclose(CODEC.columns[0].encode(v)[:, 0], [0, 1], atol=2e-3)


def test_back_again():
    back = CODEC.decode(CODEC.encode(TABLE))
    np.testing.assert_array_equal(back[:, 1:], TABLE[:, 1:])
    np.testing.assert_allclose(back[10:, 0], TABLE[10:, 0], rtol=0.05, atol=1e-3)


def test_few_values_are_kept_and_others_never_come():
    z = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0)) * 3
    back = CODEC.decode(z)
    assert set(back[:, 1]) == {1.0, 2.0, 10.0} and set(back[:, 2]) <= {0.0, 1.0, 2.0}
    assert back[:, 0].min() >= TABLE[:, 0].min() and back[:, 0].max() <= TABLE[:, 0].max()


def test_its_file_gives_the_same_codec():
    again = from_config(CODEC.config())
    assert isinstance(again, Columns) and again.medium == CODEC.medium
    assert torch.equal(again.encode(TABLE), CODEC.encode(TABLE))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ([{"name": "a", "quantiles": [1.0, 0.0]}], "fall"),
        ([{"name": "a", "words": ["x", "y"], "shares": [0.5, 0.3, 0.2]}], "3 shares"),
        ([{"name": "a", "quantiles": [0.0, 1.0]}] * 2, "twice"),
        ([{"name": "a", "quantiles": [0.0, float("inf")]}], "finite"),
        ([], "at least 1"),
    ],
)
def test_files_that_do_not_hold(columns, told):
    with pytest.raises(BadInput, match=told):
        from_config({"kind": "columns", "columns": columns})


def test_data_that_do_not_fit():
    with pytest.raises(BadInput, match="one value alone"):
        Numbers.of("a", np.ones(9))
    with pytest.raises(BadInput, match="not finite"):
        Numbers.of("a", np.array([1.0, np.nan]))
    with pytest.raises(BadInput, match="at least 2"):
        Words.of("a", np.zeros(3), ("x",))
    with pytest.raises(BadInput, match=r"\(n, 3\)"):
        CODEC.encode(TABLE[:, :2])
    with pytest.raises(BadInput, match="no size"):
        CODEC.shape(2, (8, 8))
    with pytest.raises(BadInput, match="non-finite"):
        CODEC.decode(torch.full((1, 5), torch.nan))


def test_cells_are_the_entries_of_a_column():
    assert CODEC.cells(np.array([0, 1, 1]), torch.zeros(2, 5)).tolist() == [[0, 1, 1, 1, 1]]
