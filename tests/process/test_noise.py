import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from unnoise.errors import BadInput
from unnoise.process import noise
from unnoise.process.level import clean, flow, level, ve, vp

X = torch.empty(3, 2, 4, dtype=torch.float64)
GOLDEN = {
    "draw": [1.1993636572247586, 0.8145297158334813, -0.42106379782792097],
    "init": [1.975566734374507, 0.8835403616922516, -0.23581735617443883],
    "uniform": [0.2361591117226487, 0.9812593123466634, 0.4388860991069814],
    "brownian": [0.028067823036405915, 0.6056039869065778],
}


def test_the_first_numbers_never_change():
    # Images name REVISION: if these have to change, it has to too.
    assert noise.REVISION == 1
    assert noise.draw(0, "sampler", 0, (3,)).tolist() == GOLDEN["draw"]
    assert noise.draw(7, "init", 2, (3,)).tolist() == GOLDEN["init"]
    assert noise.uniform(0, "levels", 0, (3,)).tolist() == GOLDEN["uniform"]
    assert (
        noise.brownian([0])(torch.empty(1, 2).double(), flow(1.0), flow(0.5)).flatten().tolist()
        == GOLDEN["brownian"]
    )


@pytest.mark.parametrize("make", [noise.seeded, noise.brownian])
def test_sample_i_depends_on_its_seed_alone(make):
    steps = [(flow(1.0), flow(0.6)), (flow(0.6), flow(0.5)), (flow(0.5), clean())]
    run = lambda seeds: [f(X[: len(seeds)], a, b) for f in [make(seeds)] for a, b in steps]
    for full, other, alone in zip(run([7, 8, 9]), run([9, 7, 8]), run([8])):
        assert torch.equal(full[1:2], alone)
        assert torch.equal(full, other[[1, 2, 0]])
    assert not torch.equal(*run([7])[:2])


def test_streams_and_draws_are_independent():
    base = noise.draw(1, "sampler", 0, (4000,))
    for other in (
        noise.draw(1, "init", 0, (4000,)),
        noise.draw(1, "sampler", 1, (4000,)),
        noise.draw(2, "sampler", 0, (4000,)),
        noise.draw(1 << 32, "sampler", 0, (4000,)),
    ):
        assert abs(float(torch.corrcoef(torch.stack([base, other]))[0, 1])) < 0.06


def test_one_stream_is_untouched_by_how_much_another_drew():
    a, b = noise.seeded([1, 2]), noise.seeded([1, 2])
    other = noise.seeded([1, 2], stream="cutouts")
    other(X[:2])
    first = a(X[:2])
    other(X[:2])
    assert torch.equal(first, b(X[:2])) and torch.equal(a(X[:2]), b(X[:2]))


def test_draws_are_unit_normal_and_uniform():
    assert stats.kstest(noise.draw(3, "sampler", 5, (20_000,)).numpy(), "norm").pvalue > 1e-3
    u = noise.uniform(3, "levels", 5, (20_000,)).numpy()
    assert stats.kstest(u, "uniform").pvalue > 1e-3 and u.min() >= 0 and u.max() < 1
    pairs = np.array(
        [noise.draw(s, "sampler", 0, (1,)).item() for s in range(4000)]
    )  # neighbouring seeds too
    assert stats.kstest(pairs, "norm").pvalue > 1e-3 and abs(np.corrcoef(pairs[1:], pairs[:-1])[0, 1]) < 0.06


def test_large_and_negative_seeds_are_taken():
    assert not torch.equal(noise.draw(-1, "s", 0, (3,)), noise.draw(1, "s", 0, (3,)))
    assert not torch.equal(noise.draw(2**63, "s", 0, (3,)), noise.draw(2**63 + 1, "s", 0, (3,)))


def test_noise_comes_in_the_dtype_of_the_state_from_the_same_numbers():
    half = noise.seeded([5])(torch.empty(1, 6, dtype=torch.float16))
    assert half.dtype == torch.float16
    assert torch.equal(half, noise.seeded([5])(torch.empty(1, 6, dtype=torch.float64)).half())


def test_global_generators_are_left_alone():
    state, np_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    noise.seeded([1])(X[:1])
    assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == np_state).all()


def test_wrong_number_of_seeds_is_refused():
    for make in (noise.seeded, noise.brownian):
        with pytest.raises(BadInput, match="2 seeds for a batch of 3"):
            make([1, 2])(X, flow(1.0), flow(0.5))


def length(a, b):
    return (
        2
        / math.pi
        * abs(math.atan2(float(b.alpha), float(b.sigma)) - math.atan2(float(a.alpha), float(a.sigma)))
    )


@pytest.mark.parametrize(
    "levels",
    [
        (level(0.0, 1.0), flow(0.5), clean()),
        (ve(80.0), ve(1.0), ve(0.002)),
        (vp(-5.0), vp(0.1), vp(6.0)),
        (flow(0.7), vp(0.0), ve(0.3)),
    ],
    ids=["ends", "ve", "vp", "mixed"],
)
def test_brownian_increments_add_up(levels):
    a, b, c = levels
    w = noise.brownian([1, 2, 3])
    step = lambda s, t: w(X, s, t) * math.sqrt(length(s, t))
    assert_close(
        step(a, b) + step(b, c), step(a, c), rtol=0, atol=2e-3
    )  # times are rounded to the tree's grid
    assert torch.equal(w(X, a, b), w(X, b, a))  # it always points from noise to data


def test_brownian_increments_are_unit_normal_and_independent():
    a, b, c = flow(0.9), flow(0.55), flow(0.5)
    w, x = noise.brownian(range(6)), torch.empty(6, 4000, dtype=torch.float64)
    one, two = w(x, a, b), w(x, b, c)
    for v in (one, two):
        assert stats.kstest(v.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(float((one * two).mean())) < 0.03


def test_brownian_does_not_depend_on_what_was_asked_before():
    fresh, used = noise.brownian([4]), noise.brownian([4])
    used(X[:1], flow(0.9), flow(0.1))
    used(X[:1], flow(0.3), flow(0.2))
    assert torch.equal(fresh(X[:1], flow(0.8), flow(0.4)), used(X[:1], flow(0.8), flow(0.4)))


def test_brownian_needs_an_interval():
    with pytest.raises(BadInput):
        noise.brownian([1])(X[:1])
    with pytest.raises(BadInput):
        noise.brownian([1])(X[:1], flow(0.5), flow(0.5))


def test_zeros():
    assert torch.equal(noise.zeros(X), torch.zeros_like(X))
