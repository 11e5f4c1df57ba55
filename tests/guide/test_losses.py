"""Losses of pictures: gradients against finite differences, zero where the wish is granted, closed forms; and
the step of `steer`.
"""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck
from torch.testing import assert_close

from tests.support import normal
from unnoise.base.colour import NAMED
from unnoise.base.colour import oklab as reference
from unnoise.denoiser import Gaussian
from unnoise.errors import BadInput
from unnoise.guide import losses
from unnoise.guide.steer import REACH, steer
from unnoise.process.level import level, ve, vp

WEIGHTS = normal(5, 3, 3, 3, seed=5)
SKETCH = normal(1, 3, 9, 10, seed=2).sigmoid()
TEXT = F.normalize(normal(1, 6, seed=3), dim=1)


def features(images):
    return [F.conv2d(images, WEIGHTS), F.conv2d(images, WEIGHTS, stride=2).tanh()]


def encode(images):
    return F.normalize(F.adaptive_avg_pool2d(images, (2, 1)).flatten(1).tanh(), dim=1)


WISHES = {
    "mean": lambda x: losses.mean_colour(x, (0.2, 0.5, 0.9)),
    "brightness": lambda x: losses.brightness(x, 0.6),
    "target": lambda x: losses.target(x, SKETCH),
    "edges": lambda x: losses.edges(x, SKETCH),
    "variation": losses.variation,
    "style": lambda x: losses.style(x, [losses.gram(f) for f in features(SKETCH)], features),
    "similarity": lambda x: losses.similarity(x, TEXT, encode),
    "improbability": lambda x: losses.improbability(x, lambda v: encode(v)[:, 0].sigmoid().log()),
}


@pytest.mark.parametrize("name", WISHES)
def test_gradients_against_finite_differences_and_each_sample_for_itself(name):
    x = normal(2, 3, 9, 10, seed=1).sigmoid().requires_grad_()
    assert gradcheck(WISHES[name], (x,), fast_mode=True)
    value = WISHES[name](x)
    assert value.shape == (2,) and (value >= 0).all()
    assert_close(value[1:], WISHES[name](x[1:]))


def test_the_gradient_of_an_objects_colour_holds_the_object_fixed():
    x, c = normal(2, 3, 9, 10, seed=1).sigmoid().requires_grad_(), (0.2, 0.6, 0.3)
    own = losses.foreground(losses.oklab(x)).detach()

    def written_out(v):
        d = losses.oklab(v) - losses.oklab(torch.tensor(c, dtype=v.dtype).view(1, 3, 1, 1))
        return (own * (d[:, 1] ** 2 + d[:, 2] ** 2 + 0.1 * d[:, 0] ** 2)).sum((1, 2)) / (
            own.sum((1, 2)) + 0.09
        )

    assert gradcheck(written_out, (x,), fast_mode=True)
    g = [torch.autograd.grad(f(x).sum(), x)[0] for f in (written_out, lambda v: losses.object_colour(v, c))]
    assert_close(*g)


def test_granted_wishes_cost_nothing():
    grey = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)
    assert_close(losses.mean_colour(grey, (0.5, 0.5, 0.5)), torch.zeros(1, dtype=torch.float64))
    assert_close(losses.brightness(grey, 0.5), torch.zeros(1, dtype=torch.float64))
    for name in ("target", "edges", "style"):
        assert float(WISHES[name](SKETCH)[0]) == pytest.approx(0, abs=1e-12)
    assert float(losses.variation(grey)[0]) == 0
    assert float(losses.brightness(grey, 0.7)[0]) == pytest.approx(0.04) and float(
        losses.mean_colour(grey, (0.5, 0.5, 0.2))[0]
    ) == pytest.approx(0.03)


def test_oklab_is_that_of_the_data():
    rgb = torch.tensor(list(NAMED.values()))
    ours = losses.oklab(rgb.T.reshape(1, 3, 1, -1).double() / 255)[0, :, 0].T
    assert_close(
        ours, torch.from_numpy(reference(rgb.byte().numpy())), atol=0.05, rtol=0
    )  # the slope at black is held finite
    a, b = losses.oklab(torch.zeros(1, 3, 1, 1)), reference(torch.zeros(3, dtype=torch.uint8).numpy())
    assert_close(a.flatten().double(), torch.from_numpy(b))


def test_an_object_in_the_wanted_colour_on_any_ground():
    images = torch.ones(2, 3, 16, 16, dtype=torch.float64) * torch.tensor([1.0, 0.3])[:, None, None, None]
    green = torch.tensor(NAMED["green"]) / 255
    images[:, :, 4:12, 4:12] = green[:, None, None]
    assert (losses.object_colour(images, green.tolist()) < 1e-4).all() and (
        losses.object_colour(images, (1.0, 0.0, 0.0)) > 0.05
    ).all()


def test_crops_stay_inside_and_differ():
    x = torch.arange(20.0 * 30).reshape(1, 1, 20, 30)
    crops = [losses.crop(x, k) for k in range(8)]
    assert (
        all(14 <= c.shape[2] <= 20 and 21 <= c.shape[3] <= 30 for c in crops)
        and len({float(c[0, 0, 0, 0]) for c in crops}) > 4
    )


# --- the step -----------------------------------------------------------------------------------------------

PRIOR = Gaussian([0.0, 0.0], torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64))
X = normal(4, 2)


def linear(x0, l):
    return (x0[:, 0] - 1.5).abs()


def test_a_distance_that_falls_evenly_is_gone_in_one_step():
    near = vp(-1.0)
    x0 = PRIOR(X, near)
    wanted = x0[:, 0] + 0.05 * torch.tensor([1.0, -1.0, 2.0, 0.5])
    out = steer(PRIOR, [(lambda v, l: (v[:, 0] - wanted).abs(), 1.0)])(X, near)
    assert_close(out, torch.stack([wanted, x0[:, 1]], 1))
    halved = steer(PRIOR, [(lambda v, l: (v[:, 0] - wanted) ** 2, 1.0)])(X, near)
    assert_close(halved[:, 0] - wanted, (x0[:, 0] - wanted) / 2)


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_step_knows_neither_the_losss_scale_nor_the_schedule(through, scale):
    at = lambda l, c: steer(PRIOR, [(lambda v, _: c * (v[:, 0] - 0.1) ** 2, 1.0)], through=through)(
        X * float((l.alpha**2 + l.sigma**2).sqrt()), l
    )
    same = [
        vp(0.3),
        ve(float(vp(0.3).ratio)),
        level(1 / (1 + float(vp(0.3).ratio)), float(vp(0.3).ratio) / (1 + float(vp(0.3).ratio))),
    ]
    for l in same:
        assert_close(at(l, scale), at(same[0], 1.0), rtol=1e-6, atol=1e-9)


def test_through_the_network_what_goes_together_moves_together():
    """The second number follows the first, at the slope of the posterior covariance; through the estimate
    alone it stays.
    """
    l = vp(-1.0)
    x0, cov = PRIOR(X, l), PRIOR.posterior_cov(X, l)[0]
    alone, both = (
        steer(PRIOR, [(lambda v, _: (v[:, 0] - x0[:, 0] - 0.05).abs(), 0.5)], through=t)(X, l) - x0
        for t in (False, True)
    )
    assert_close(alone[:, 1], torch.zeros(4, dtype=torch.float64))
    assert_close(both[:, 1] / both[:, 0], (cov[1, 0] / cov[0, 0]).expand(4))
    assert_close(both[:, 0], alone[:, 0])  # the same wish, the same way


def test_no_estimate_moves_further_than_its_uncertainty_allows():
    for l in (vp(4.0), ve(0.01), ve(100.0), level(0.0, 1.0)):
        moved = steer(PRIOR, [(lambda v, _: 1e3 + v[:, 0] * 0.01, 1.0)])(X, l) - PRIOR(X, l)
        far = REACH * float(l.sigma / (l.alpha**2 + l.sigma**2).sqrt())
        assert_close(moved.square().mean(1).sqrt(), torch.full((4,), far, dtype=torch.float64))


def test_off_flat_and_several():
    l = vp(0.0)
    assert steer(PRIOR, [(linear, 0.0)]) is PRIOR and steer(PRIOR, []) is PRIOR
    assert_close(steer(PRIOR, [(lambda v, _: torch.ones(len(v)), 1.0)])(X, l), PRIOR(X, l))
    one, two = (lambda v, _: (v[:, 0] - 1) ** 2), (lambda v, _: (v[:, 1] + 1) ** 2)
    moved = [
        steer(PRIOR, w)(X, l) - PRIOR(X, l) for w in ([(one, 0.3)], [(two, 0.4)], [(one, 0.3), (two, 0.4)])
    ]
    assert_close(moved[0] + moved[1], moved[2])
    each = torch.cat([steer(PRIOR, [(one, 1.0)], through=True)(X[i : i + 1], l) for i in range(4)])
    assert_close(steer(PRIOR, [(one, 1.0)], through=True, chunk=3)(X, l), each)
    with pytest.raises(BadInput, match="guide weight"):
        steer(PRIOR, [(one, float("nan"))])
