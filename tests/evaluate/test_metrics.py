import itertools

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from unnoise.errors import BadInput
from unnoise.evaluate import fid, floor, frechet, kid, metrics, precision_recall


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def covariance(seed, d):
    a = normal(seed, d, d)
    return a @ a.T / d


def rotation(seed, d):
    return scipy.linalg.qr(normal(seed, d, d))[0]


# --- FID ----------------------------------------------------------------------------------------------------


def test_frechet_of_diagonal_gaussians_is_that_of_their_axes():
    a, b, shift = np.array([1.0, 4.0, 9.0]), np.array([16.0, 0.25, 9.0]), np.array([1.0, -2.0, 0.5])
    q = rotation(0, 3)
    want = (shift**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet(q @ shift, q * a @ q.T, np.zeros(3), q * b @ q.T) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5, 16])
def test_frechet_of_covariances_that_do_not_commute(d):
    s1, s2 = covariance(1, d), covariance(2, d)
    want = np.trace(s1 + s2 - 2 * np.real(scipy.linalg.sqrtm(s1 @ s2)))
    assert frechet(np.zeros(d), s1, np.zeros(d), s2) == pytest.approx(want, rel=1e-9)
    assert frechet(np.zeros(d), s2, np.zeros(d), s1) == pytest.approx(want, rel=1e-9)


def test_frechet_of_singular_covariances():
    u = np.zeros((3, 3))
    u[0, 0] = 4.0
    v = np.zeros((3, 3))
    v[1, 1] = 9.0
    assert frechet(np.zeros(3), u, np.zeros(3), v) == pytest.approx(
        4 + 9
    )  # orthogonal supports: nothing is shared
    assert frechet(np.zeros(3), u, np.zeros(3), np.zeros((3, 3))) == pytest.approx(4)
    assert frechet(np.ones(3), u, np.ones(3), u) == pytest.approx(0, abs=1e-12)


def test_fid_fits_means_and_unbiased_covariances():
    a, b = normal(3, 40, 6) * 2 + 1, normal(4, 25, 6)
    want = frechet(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    assert fid(a, b) == pytest.approx(want, rel=1e-12)
    x, y = np.array([[0.0], [2.0]]), np.array([[5.0], [5.0]])
    assert fid(x, y) == pytest.approx(16 + 2)  # variances 2 and 0, means 1 and 5


def test_fid_of_a_set_with_itself_is_zero():
    a = normal(5, 300, 32) @ normal(6, 32, 32) + 3
    assert fid(a, a[::-1]) < 1e-9 * a.var(0).sum()
    assert fid(a, a.astype(np.float32)) < 1e-6 * a.var(0).sum()


@pytest.mark.parametrize(("d", "n"), [(16, 1000), (64, 1000), (64, 2000)])
def test_floor_of_normals_is_what_theory_says(d, n):
    """d(d+1)/(2n) + 2d/n, to leading order in 1/n: .168, 2.21, 1.10."""
    theory = d * (d + 1) / (2 * n) + 2 * d / n
    measured = np.mean([floor(normal(s, 2 * n, d), n, seed=s) for s in range(8)])
    assert measured == pytest.approx(theory, rel=0.04)


def test_floor_takes_disjoint_sets_by_seed_alone():
    real = normal(7, 100, 4)
    assert floor(real, 50) == floor(real.copy(), 50) != floor(real, 50, seed=1)
    halves = np.repeat(np.eye(4), 2, axis=0) * 9  # with n = 4 of 8, no seed may see all
    assert all(floor(halves + normal(8, 8, 4) * 1e-3, 4, seed=s) > 0 for s in range(20))
    for n in (1, 51):
        with pytest.raises(BadInput, match="two disjoint sets"):
            floor(real, n)


moves = st.tuples(st.integers(0, 10**6), st.floats(-50, 50), st.floats(0.1, 10))


@settings(max_examples=40, deadline=None)
@given(moves)
def test_what_a_common_rotation_translation_and_scale_change(move):
    seed, shift, scale = move
    a, b = normal(seed, 30, 5), normal(seed + 1, 30, 5) * 1.5 + 0.3
    q = rotation(seed, 5)
    moved = lambda x: scale * x @ q + shift
    assert fid(moved(a), moved(b)) == pytest.approx(scale**2 * fid(a, b), rel=1e-7)
    assert precision_recall(moved(a), moved(b)) == precision_recall(a, b)
    assert kid(a @ q, b @ q)[0] == pytest.approx(kid(a, b)[0], rel=1e-9, abs=1e-12)
    assert fid(a, b + shift) == pytest.approx(
        fid(a, b) + 2 * shift * (b.mean(0) - a.mean(0)).sum() + 5 * shift**2, rel=1e-7
    )


# --- KID ----------------------------------------------------------------------------------------------------


def k(x, y):
    return (x @ y / len(x) + 1) ** 3


def slow_kid(a, b, ca, cb, weigh_a=None, weigh_b=None):
    """By definition: the classes' shares (of the whole sets) times the means over pairs of different rows."""
    pairs = lambda x, y: itertools.product(enumerate(x), enumerate(y))
    mean = lambda x, y, same: np.mean([k(p, q) for (i, p), (j, q) in pairs(x, y) if not (same and i == j)])
    share = lambda c, w: w or {v: np.mean(c == v) for v in np.unique(c)}
    wa, wb = share(ca, weigh_a), share(cb, weigh_b)
    part = lambda x, cx, wx, y, cy, wy, own: sum(
        wx[u] * wy[v] * mean(x[cx == u], y[cy == v], own and u == v) for u in wx for v in wy
    )
    return (
        part(a, ca, wa, a, ca, wa, True)
        + part(b, cb, wb, b, cb, wb, True)
        - 2 * part(a, ca, wa, b, cb, wb, False)
    )


@pytest.mark.parametrize("kinds", [1, 3])
def test_kid_and_its_jackknife_by_brute_force(kinds, monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK", 4)
    a, b = normal(10, 12, 3), normal(11, 10, 3) + 0.5
    ca, cb = np.arange(12) % kinds, np.arange(10) % kinds
    shares = [{v: np.mean(c == v) for v in np.unique(c)} for c in (ca, cb)]
    value, se = kid(a, b, ca, cb)
    assert value == pytest.approx(slow_kid(a, b, ca, cb), rel=1e-12)
    variance = 0.0
    for side, c in ((0, ca), (1, cb)):
        for v in np.unique(c):
            rows = np.flatnonzero(c == v)
            left = []
            for i in rows:
                x, y, cx, cy = a, b, ca, cb
                if side == 0:
                    x, cx = np.delete(a, i, 0), np.delete(ca, i)
                else:
                    y, cy = np.delete(b, i, 0), np.delete(cb, i)
                left.append(slow_kid(x, y, cx, cy, *shares))
            variance += (len(rows) - 1) * np.var(left)
    assert se == pytest.approx(np.sqrt(variance), rel=1e-9)
    if kinds == 1:
        assert kid(a, b) == pytest.approx((value, se), rel=1e-12)


def test_kid_is_unbiased_of_the_known_spread_and_its_error_covers_it():
    """d = 64, n = 1000: mean 0, spread .001; the biased V-statistic would be 2 (E k(x,x) - E k(x,y)) / n =
    .014.
    """
    pairs = [kid(normal(2 * s, 1000, 64), normal(2 * s + 1, 1000, 64)) for s in range(24)]
    values, errors = np.array(pairs).T
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(24) and min(values) < 0 < max(values)
    assert values.std() == pytest.approx(0.001, rel=0.4)
    assert values.std() < errors.mean() < 2 * values.std()


def test_kid_of_shifted_normals_is_the_exact_discrepancy():
    """N(0, I) and N(delta, I), s = |delta|^2: 3s/d + 3s^2/d^2 + (s^3 + 6s^2 + 3sd + 6s)/d^3; .0308 at .1 a
    dimension.
    """
    d, s = 64, 0.64
    exact = 3 * s / d + 3 * s**2 / d**2 + (s**3 + 6 * s**2 + 3 * s * d + 6 * s) / d**3
    values, errors = np.array(
        [kid(normal(2 * i, 1000, d), normal(2 * i + 1, 1000, d) + 0.1) for i in range(12)]
    ).T
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(12)
    assert (np.abs(values - exact) < 4 * errors).all() and errors.mean() == pytest.approx(
        values.std(), rel=0.4
    )
    assert values.min() > 15 * 0.001  # many spreads of what no difference gives


def test_kid_of_balanced_classes_must_know_the_classes():
    """8 far apart kinds, 25 of each on both sides: unbiased with the classes, too low by many errors
    without.
    """
    centres, classes = 3 * normal(20, 8, 4), np.repeat(np.arange(8), 25)
    draw = lambda seed: centres[classes] + normal(seed, 200, 4)
    aware = np.array([kid(draw(2 * s), draw(2 * s + 1), classes, classes)[0] for s in range(100)])
    blind = np.array([kid(draw(2 * s), draw(2 * s + 1))[0] for s in range(100)])
    assert abs(aware.mean()) < 4 * aware.std() / np.sqrt(100)
    assert blind.mean() < -10 * blind.std() / np.sqrt(100)


def test_kid_of_few():
    a = normal(30, 2, 3)
    value, se = kid(a, a)
    assert (
        value == pytest.approx(2 * k(a[0], a[1]) - 2 * np.mean([k(p, q) for p in a for q in a]))
        and se is None
    )
    b = normal(31, 3, 3)
    with pytest.raises(BadInput, match="2 samples of every class"):
        kid(b, b, np.array([0, 0, 1]))
    with pytest.raises(BadInput, match="2 classes given for 3"):
        kid(b, b, np.array([0, 0]))


# --- precision and recall -----------------------------------------------------------------------------------


def line(*values):
    return np.array(values, dtype=float)[:, None]


def test_precision_and_recall_on_a_line():
    real = line(*range(10))
    fake = line(0.5, 1.5, 2.5, 3.5, 4.5, 100, 101, 102, 103, 104)
    assert precision_recall(real, fake, k=1) == (
        0.5,
        0.6,
    )  # fakes 0.5 … 4.5; reals 0 … 5 lie within 1 of those
    assert precision_recall(fake, real, k=1) == (0.6, 0.5)


def test_reach_is_the_kth_neighbours_distance_in_its_own_set():
    real = line(*range(10))  # the end points' 3rd neighbours are 3 away, the others' 2
    edge = lambda x: precision_recall(real, line(x, *[50.0 + 0.01 * i for i in range(9)]), k=3)[0]
    assert edge(11.9) == edge(12.0) == 0.1 and edge(12.1) == 0.0
    assert precision_recall(real, real, k=3) == (1.0, 1.0)


def test_collapse_lowers_recall_and_noise_lowers_precision():
    real = normal(40, 400, 8)
    collapsed, noisy = np.repeat(real[:20], 20, axis=0), 6 * normal(41, 400, 8)
    assert precision_recall(real, collapsed)[0] == 1.0 and precision_recall(real, collapsed)[1] == 0.05
    assert precision_recall(real, noisy)[0] < 0.05 and precision_recall(real, noisy)[1] > 0.9
    same = precision_recall(real, normal(42, 400, 8))
    assert min(same) > 0.6


def test_equal_points_are_at_distance_zero():
    """4 of each real point: reach 0, and still each fake that equals one is reached (not so through |a|^2 +
    |b|^2 - 2ab).
    """
    real = np.repeat(normal(45, 25, 8) + 1e3, 4, axis=0)
    assert precision_recall(real, real[::-1]) == (1.0, 1.0)
    assert precision_recall(real, real + 1e-6)[0] == 0.0


def test_blocks_do_not_change_precision(monkeypatch):
    a, b = normal(50, 100, 3), normal(51, 100, 3) + 1
    want = precision_recall(a, b)
    monkeypatch.setattr(metrics, "BLOCK", 7)
    assert precision_recall(a, b) == want and 0 < want[0] < 1 and 0 < want[1] < 1


# --- all ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [fid, kid, precision_recall])
@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), r"\(1, 3\)"),
        (np.zeros(5), np.zeros((5, 1)), r"\(5,\)"),
        (np.zeros((5, 3)), np.zeros((5, 2)), "3 and 2"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "finite"),
    ],
)
def test_bad_features_are_told_in_one_line(metric, a, b, told):
    with pytest.raises(BadInput, match=told) as e:
        metric(a, b)
    assert "\n" not in str(e.value)


def test_unequal_sets_and_too_many_neighbours_are_refused():
    a = np.zeros((5, 2))
    with pytest.raises(BadInput, match="equal size, given 5 real and 4 fake"):
        precision_recall(a, a[:4])
    with pytest.raises(BadInput, match="k = 5, n = 5"):
        precision_recall(a, a, k=5)


def test_metrics_are_pure():
    a, b = normal(60, 50, 4), normal(61, 50, 4)
    kept = a.copy(), b.copy()
    first = fid(a, b), kid(a, b), precision_recall(a, b)
    assert first == (fid(a, b), kid(a, b), precision_recall(a, b))
    assert np.array_equal(a, kept[0]) and np.array_equal(b, kept[1])
