"""Distances between two sets of features (n, d), in float64.

    FID        |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)            (Heusel et al. 2017)
    KID        E k(x,x') + E k(y,y') - 2 E k(x,y),  k(x,y) = (x.y / d + 1)^3     (Bińkowski et al. 2018)
    precision  the share of fakes inside the real manifold; recall the reverse   (Kynkäänniemi et al. 2019)

FID from n samples is biased upwards: two n-sample sets of one N(0, I_d) are about d(d+1)/(2n) + 2d/n apart,
so a value means nothing without n and the floor beside it. KID is unbiased, and can therefore be negative.
Every function is pure: same inputs, same number. Values depend on which features are used; compare them only
for equal features and equal n.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from unnoise.base.errors import BadInput
from unnoise.data.transforms import permutation

REVISION = 1  # counts up whenever a change here changes a number
BLOCK = 1024  # rows of a kernel or distance matrix held at once


def frechet(mu1: np.ndarray, cov1: np.ndarray, mu2: np.ndarray, cov2: np.ndarray) -> float:
    """The squared 2-Wasserstein distance of two Gaussians with means (d,) and covariances (d, d), singular
    ones included.
    """
    w, v = np.linalg.eigh(cov1)
    root = v * np.sqrt(np.maximum(w, 0)) @ v.T
    cross = np.sqrt(
        np.maximum(np.linalg.eigvalsh(root @ cov2 @ root), 0)
    ).sum()  # rounding leaves some at -1e-16
    return max(0.0, float(((mu1 - mu2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * cross))


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of the Gaussians fitted to two feature sets (n, d), (m, d); covariances divide by
    n - 1.

    BadInput: fewer than 2 rows, different widths, non-finite values.
    """
    a, b = _checked(a, b)
    return frechet(a.mean(0), _covariance(a), b.mean(0), _covariance(b))


def kid(
    a: np.ndarray, b: np.ndarray, classes_a: np.ndarray | None = None, classes_b: np.ndarray | None = None
) -> tuple[float, float | None]:
    """(value, standard error) of the squared MMD of two feature sets (n, d), (m, d) with the cubic kernel.

    The value is the U-statistic over all pairs: unbiased, and of smaller variance than the customary mean
    over random subsets, which needs a seed besides. A set with a fixed number of samples of each class must
    say so by `classes_*` (n,): two different samples of it are of one class less often than two independent
    ones would be, which pairs of one class must make up for (else KID comes out too low, by 7 standard errors
    for 100 images of each of 20 kinds). The standard error is the jackknife's over single rows within a
    class, which errs on the large side (Efron & Stein 1981); None when a class has 2 rows. BadInput: as for
    `fid`, and a class of a single row.
    """
    a, b = _checked(a, b)
    (x, spread_x), (y, spread_y) = _side(a, b, classes_a), _side(b, a, classes_b)
    return x + y, None if np.isnan(spread_x + spread_y) else float(np.sqrt(spread_x + spread_y))


def _side(a: np.ndarray, b: np.ndarray, classes: np.ndarray | None) -> tuple[float, float]:
    """(E k(x,x') - E k(x,y), the part of its variance that is owed to x), x from a, y from b."""
    n, m = len(a), len(b)
    if classes is not None and len(classes) != n:
        raise BadInput(f"{len(classes)} classes given for {n} samples")
    _, index, sizes = np.unique(
        np.zeros(n) if classes is None else classes, return_inverse=True, return_counts=True
    )
    if sizes.min() < 2:
        raise BadInput(f"KID needs at least 2 samples of every class, given {sizes.min()}")
    rows, c = [np.flatnonzero(index == k) for k in range(len(sizes))], sizes[index]
    alike = np.empty(n)
    for r in rows:
        alike[r] = _row_sums(a[r], a[r])
    others, alike, cross = _row_sums(a, a) - alike, alike - _diagonal(a), _row_sums(a, b)
    value = (others + alike * c / (c - 1)).sum() / n**2 - cross.sum() / (n * m)
    if sizes.min() < 3:
        return float(value), np.nan
    # how far leaving out row i moves the whole statistic (both sides), up to what is equal for its class
    moved = 2 * c / (c - 1) * (others / n**2 - cross / (n * m))
    moved = moved + 2 * (c / n) ** 2 * alike / ((c - 1) * (c - 2))
    return float(value), float(sum((len(r) - 1) * moved[r].var() for r in rows))


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """(precision, recall) in [0, 1]: the share of fakes within reach of a real, and of reals within reach of
    a fake.

    A point reaches as far as its k-th nearest neighbour in its own set (n, d). BadInput: sets of unequal size
    (the reach, and so the result, depends on n), n <= k, and as for `fid`.
    """
    real, fake = _checked(real, fake)
    if len(real) != len(fake):
        raise BadInput(
            f"precision and recall need sets of equal size, given {len(real)} real and {len(fake)} fake"
        )
    if not 1 <= k < len(real):
        raise BadInput(f"precision and recall need 1 <= k < n, given k = {k}, n = {len(real)}")
    return _covered(fake, real, k), _covered(real, fake, k)


def floor(real: np.ndarray, n: int, seed: int = 0) -> float:
    """FID between two disjoint random sets of n real features each: what a perfect generator would score at
    this n.
    """
    if n < 2 or 2 * n > len(real):
        raise BadInput(
            f"the floor needs two disjoint sets of n >= 2 real samples, given n = {n} of {len(real)}"
        )
    chosen = permutation(len(real), seed, 0)
    return fid(real[chosen[:n]], real[chosen[n : 2 * n]])


def _checked(*sets: np.ndarray) -> list[np.ndarray]:
    out = [np.ascontiguousarray(s, dtype=np.float64) for s in sets]
    for s in out:
        if s.ndim != 2 or len(s) < 2:
            raise BadInput(f"features must be (n, d) with n >= 2, given shape {s.shape}")
        if s.shape[1] != out[0].shape[1]:
            raise BadInput(f"features must have one width, given {out[0].shape[1]} and {s.shape[1]}")
        if not np.isfinite(s).all():
            raise BadInput("features must be finite numbers")
    return out


def _covariance(a: np.ndarray) -> np.ndarray:
    a = a - a.mean(0)
    return a.T @ a / (len(a) - 1)


def _row_sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,): the sums over b of k(a_i, b_j)."""
    return np.concatenate([((rows @ b.T / a.shape[1] + 1) ** 3).sum(1) for rows in _blocks(a)])


def _diagonal(a: np.ndarray) -> np.ndarray:
    return ((a**2).sum(1) / a.shape[1] + 1) ** 3


def _covered(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    """The share of points that lie in at least one centre's ball, its radius the distance to its k-th
    neighbour centre.
    """
    inside = np.zeros(len(points), dtype=bool)
    for rows in _blocks(centres):
        radius = np.partition(_distances(rows, centres), k, axis=1)[:, k]  # place 0 is the centre itself
        inside |= (_distances(rows, points) <= radius[:, None]).any(0)
    return float(inside.mean())


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Summed from differences: through |a|^2 + |b|^2 - 2ab a point would not lie at distance 0 from
    itself.
    """
    return torch.cdist(
        torch.from_numpy(a), torch.from_numpy(b), compute_mode="donot_use_mm_for_euclid_dist"
    ).numpy()


def _blocks(a: np.ndarray) -> Iterator[np.ndarray]:
    return (a[i : i + BLOCK] for i in range(0, len(a), BLOCK))
