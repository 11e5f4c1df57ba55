import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from tests.support import grid, normal
from unnoise.denoiser import Gaussian
from unnoise.errors import BadInput
from unnoise.guide import cfg, guide, keep, threshold
from unnoise.process.level import clean, move, vp

DATA = Gaussian(0.3, 0.5)
KNOWN, MASK = normal(1, 4, 4, seed=1), normal(1, 4, 4, seed=2) > 0


def run(denoise, x):
    path = [*grid("vp", 30), clean()]
    for a, b in itertools.pairwise(path):
        x = move(x, denoise(x, a), a, b)
    return x


@pytest.mark.parametrize(
    "mask", [MASK, MASK.double(), MASK.float(), MASK.long()], ids=["bool", "double", "float", "int"]
)
def test_known_pixels_come_out_exactly_and_the_rest_is_as_without(mask):
    x = normal(3, 1, 4, 4)
    out, free = run(keep(DATA, KNOWN, mask), x), run(DATA, x)
    assert torch.equal(out[:, MASK], KNOWN[MASK].expand(3, -1))
    assert torch.equal(out[:, ~MASK], free[:, ~MASK])  # pixels of this prior are independent


def test_soft_mask_blends_and_is_exact_at_its_ends():
    w = torch.linspace(0, 1, 16, dtype=torch.float64).reshape(1, 4, 4)
    x, l = normal(3, 1, 4, 4), vp(0.0)
    out, free = keep(DATA, KNOWN, w)(x, l), DATA(x, l)
    assert_close(out, w * KNOWN + (1 - w) * free)
    assert torch.equal(out[:, 0, 0, 0], free[:, 0, 0, 0]) and torch.equal(
        out[:, 0, 3, 3], KNOWN[0, 3, 3].expand(3)
    )


@pytest.mark.parametrize("soft", [False, True])
def test_unknown_pixels_may_be_nan(soft):
    known = torch.where(MASK, KNOWN, math.nan)
    mask = MASK.double() if soft else MASK
    assert torch.equal(
        keep(DATA, known, mask)(normal(2, 1, 4, 4), vp(0.0)),
        keep(DATA, KNOWN, mask)(normal(2, 1, 4, 4), vp(0.0)),
    )


def test_broadcasts_over_channels_and_keeps_the_states_dtype():
    x = normal(2, 3, 4, 4).float()
    out = keep(DATA, KNOWN, MASK)(x, vp(0.0))
    assert out.shape == x.shape and out.dtype == torch.float32
    one_each = keep(DATA, normal(2, 3, 4, 4, seed=5), MASK)(x, vp(0.0))
    assert torch.equal(one_each[:, :, MASK[0]], normal(2, 3, 4, 4, seed=5).float()[:, :, MASK[0]])
    assert keep(DATA, KNOWN, MASK.double())(x, vp(0.0)).shape == x.shape


def test_outermost_it_holds_whatever_is_inside():
    inner = threshold(guide(cfg(DATA, Gaussian(0.0, 1.0), 7.5), lambda x0: (x0 - 0.6) ** 2, 0.1))
    with torch.no_grad():
        out = run(keep(inner, KNOWN, MASK), normal(3, 1, 4, 4))
    assert torch.equal(out[:, MASK], KNOWN[MASK].expand(3, -1)) and out.isfinite().all()


def test_a_full_mask_inside_a_gradient_guide():
    everything = keep(DATA, KNOWN, torch.ones(1, 4, 4, dtype=torch.bool))
    out = guide(everything, lambda x0: x0.square())(normal(2, 1, 4, 4), vp(0.0))
    assert torch.equal(out, KNOWN.expand(2, 1, 4, 4))  # nothing depends on x, so nothing is added
    blunt = guide(everything, lambda x0: x0.square(), 0.1, through=False)(normal(2, 1, 4, 4), vp(0.0))
    assert_close(blunt, KNOWN.expand(2, 1, 4, 4) * 0.8)
    constant = lambda x, l: KNOWN.expand(2, 1, 4, 4)  # not even connected to x
    nested = guide(guide(constant, lambda x0: x0.square(), 0.1, through=False), lambda x0: x0.square())
    assert_close(nested(normal(2, 1, 4, 4), vp(0.0)), KNOWN.expand(2, 1, 4, 4) * 0.8)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keep(DATA, KNOWN, 2 * MASK.double()),
        lambda: keep(DATA, KNOWN, MASK.double() - 1),
        lambda: keep(DATA, KNOWN, MASK.double() * math.nan),
        lambda: keep(DATA, KNOWN, torch.ones(1, 3, 3)),
    ],
)
def test_bad_masks_are_refused(make):
    with pytest.raises(BadInput) as e:
        make()
    assert "\n" not in str(e.value)
