"""Numbers of a report by hand: distances, their errors, shares, matched sets; and sigma as estimated from a
picture.
"""

import numpy as np
import pytest
import torch

from unnoise.evaluate import classes as room
from unnoise.evaluate import metrics, noise_level
from unnoise.evaluate.likelihood import bits, dequantise
from unnoise.evaluate.noise_level import estimate_sigma


def rows(n: int, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def test_kid_and_its_jackknife_by_brute_force():
    """The cubic kernel over all pairs; the error from leaving out one row after the other."""
    a, b = rows(8), rows(7, seed=1) + 0.3
    k = lambda x, y: (x @ y / 3 + 1) ** 3

    def value(x, y):
        pairs = lambda u: np.mean([k(u[i], u[j]) for i in range(len(u)) for j in range(len(u)) if i != j])
        return pairs(x) + pairs(y) - 2 * np.mean([k(u, v) for u in x for v in y])

    def spread(leave, n):
        some = np.array([leave(i) for i in range(n)])
        return (n - 1) / n * ((some - some.mean()) ** 2).sum()

    got, se = metrics.kid(a, b)
    assert got == pytest.approx(value(a, b))
    assert se is not None
    left = spread(lambda i: value(np.delete(a, i, 0), b), 8) + spread(
        lambda i: value(a, np.delete(b, i, 0)), 7
    )
    assert se == pytest.approx(left**0.5, rel=0.2)


def test_fid_by_hand():
    """Equal spreads, means 2 apart in one of three: 4. And of spreads 1 and 3 about means m and 3 m: (3 -
    1)^2 of both.
    """
    a = rows(50)
    assert metrics.fid(a, a + np.array([2, 0, 0])) == pytest.approx(4)
    assert metrics.fid(a, 3 * a) == pytest.approx(4 * np.trace(np.cov(a.T)) + 4 * (a.mean(0) ** 2).sum())


def test_precision_and_recall_by_hand():
    """On a line, reach of the second neighbour: of 0, 1, 2, 3, 10 it is 2, 1, 1, 2, 8; of 20, 21, 22, 1.5,
    30: 2, 1, 2, 19.5, 9.
    """
    real, fake = (np.array(v, float)[:, None] for v in ([0, 1, 2, 3, 10], [20, 21, 22, 1.5, 30]))
    precision, recall = metrics.precision_recall(real, fake, 2)
    inside = lambda points, centres, reach: np.mean(
        [(np.abs(centres[:, 0] - p) <= reach).any() for p in points[:, 0]]
    )
    assert precision == inside(fake, real, [2, 1, 1, 2, 8]) == 0.2
    assert recall == inside(real, fake, [2, 1, 2, 19.5, 9]) == 1.0
    assert room.NEIGHBOURS == 3
    assert metrics.REVISION == 1


def test_shares_have_binomial_errors():
    assert room.share(np.array([True] * 3 + [False])) == {
        "value": 0.75,
        "se": pytest.approx((0.75 * 0.25 / 4) ** 0.5),
        "n": 4,
    }


def test_matched_sets_take_the_first_of_a_fixed_order():
    """counts[c] of every class; unshuffled simply the first; the same ones each time."""
    labels = np.array([1, 0, 1, 1, 0, 2, 1])
    assert room._pick(labels, np.array([1, 2, 0]), shuffled=False).tolist() == [0, 1, 2]
    some = room._pick(labels, np.array([2, 2, 1]))
    assert np.bincount(labels[some]).tolist() == [2, 2, 1]
    assert room._pick(np.arange(40) % 2, np.array([3, 3])).tolist() == [0, 2, 11, 17, 21, 38]
    assert some.tolist() == sorted(some) == room._pick(labels, np.array([2, 2, 1])).tolist()
    wanted, counts = room._counts(np.array([0, 0, 2]), 3, 3, [np.array([0, 2, 2]), np.array([0, 0, 0, 2])])
    assert wanted.tolist() == [0, 2]
    assert counts.tolist() == [1, 0, 1]
    assert room._counts(None, 7, 3, [np.arange(9) % 3])[1].tolist() == [3, 2, 2]


# --- bits ---------------------------------------------------------------------------------------------------


def test_bits_a_dimension():
    """ln 2 nats are one bit; of pixels whose bin is 2 / 255 wide, log2 of that less."""
    nats = torch.tensor([np.log(2.0) * 12])
    assert float(bits(nats, 12)) == pytest.approx(1)
    assert float(bits(nats, 12, 2 / 255)) == pytest.approx(1 - np.log2(2 / 255))


def test_dequantised_pixels_stay_in_their_bins_and_fill_them():
    x = torch.linspace(-1, 1, 256, dtype=torch.float64)[None, :].repeat(40, 1)
    y, width = dequantise(x, range(40))
    assert width == 2 / 255
    assert float((y - x).abs().max()) <= 1 / 255 < 1.001 * float((y - x).abs().max())
    assert float((y - x).mean()) == pytest.approx(0, abs=1e-4)
    assert torch.equal(dequantise(x[3:4], [3])[0], y[3:4])


# --- noise --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy() -> torch.Tensor:
    """Smooth pictures with a few edges, under noise of .1."""
    g = torch.Generator().manual_seed(0)
    x = torch.linspace(-0.5, 0.5, 64)[None, None, None].repeat(4, 3, 64, 1)
    x[:, :, 20:40, 20:40] += 0.4
    return (x + 0.1 * torch.randn(x.shape, generator=g)).double()


def test_each_method_tells_the_noise(noisy):
    for method in noise_level.METHODS:
        assert estimate_sigma(noisy, method).tolist() == pytest.approx([0.1] * 4, rel=0.05), method


def test_sigma_of_white_noise_by_its_definitions():
    """mad: the median of the finest diagonal wavelet over .6745; clipped: the sigma whose own normal law has
    the mean square within two of it.
    """
    x = torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    c = 3**0.5
    taps = np.array([1 - c, -3 + c, 3 + c, -1 - c]) / 32**0.5
    windows = np.lib.stride_tricks.sliding_window_view(x[0, 0].numpy(), (4, 4))
    w = np.einsum("ijkl,k,l->ij", windows, taps, taps).ravel()
    assert (taps**2).sum() == pytest.approx(1)
    assert float(noise_level.mad(x)) == pytest.approx(np.median(np.abs(w)) / 0.6744897501960817)
    s = float(noise_level.clipped(x))
    phi, inside = np.exp(-2) / np.sqrt(2 * np.pi), np.abs(w) <= 2 * s
    assert s**2 == pytest.approx((w[inside] ** 2).mean() / (1 - 4 * phi / 0.9544997361), rel=1e-6)


def test_patches_are_as_large_as_their_number_allows():
    """64 patches for each number in one: of 64 x 64 in colour there are 3721 of side 4, whose 48 numbers want
    3072; of 96 x 96 8281 of side 6.
    """
    side = lambda n, c: round((noise_level._patches(torch.zeros(1, c, n, n)).shape[1] / c) ** 0.5)
    assert [side(n, 3) for n in (64, 96, 128, 200, 256)] == [4, 6, 8, 8, 8]
    assert noise_level.ENOUGH == 64
    assert noise_level.SMALLEST == 8
    assert (
        noise_level._patches(torch.zeros(1, 1, 512, 512)).shape[2] == 253**2
    )  # of large ones every other offset: 2^18 / 2^15 = 8, whose root is 2


def test_sigma_by_the_least_directions_of_patches(noisy):
    """The most eigenvalues whose mean does not exceed their median by more than r / N."""
    patches = noise_level._patches(noisy[:1])[0].numpy()
    r, n = patches.shape
    values = np.sort(np.linalg.eigvalsh(np.cov(patches)))
    means = [(values[:k].mean(), np.median(values[:k])) for k in range(1, r + 1)]
    most = max(k for k, (mean, median) in enumerate(means) if mean <= median * (1 + r / n))
    assert float(noise_level.pca(noisy[:1])) == pytest.approx(means[most][0] ** 0.5, rel=1e-6)
    assert most > max(k for k, (mean, median) in enumerate(means) if mean <= median)
