"""A network's optimum, written in its own frame, target and clock, is the oracle again: at any level of any
schedule.
"""

import pytest
import torch
from torch.testing import assert_close

from tests.support import normal
from unnoise.denoiser import Gaussian, Mixture, adapt
from unnoise.process import predict, schedule
from unnoise.process.level import Level, clean, flow, level, ve, vp

DATA = Mixture(normal(3, 2), 0.4, [1, 2, 3])
LEVELS = {
    "vp": vp(1.3),
    "ve": ve(4.0),
    "flow": flow(0.3),
    "per-sample": level([0.9, 0.5, 0.1, 1.0, 0.3], [0.1, 0.5, 0.9, 3.0, 0.2]),
}
FRAMES = {**adapt.FRAMES, "whiten": adapt.whiten(0.5)}


def optimum(frame, kind):
    """The best network: it takes the frame's log(sigma / alpha), and knows nothing else of the level."""

    def net(x, time):
        r = time.exp() if time.ndim == 0 else time.exp().reshape(-1, 1)
        raw = Level(1 / (1 + r), r / (1 + r))  # some level with this ratio; the frame fixes its scale
        f = frame(raw)
        l = Level(raw.alpha / f, raw.sigma / f)
        x0 = DATA(x, l)
        return predict.target(kind, x0, (x - l.alpha * x0) / l.sigma, l)

    return net


@pytest.mark.parametrize("at", LEVELS)
@pytest.mark.parametrize("kind", predict.KINDS)
@pytest.mark.parametrize("frame", FRAMES)
def test_one_denoiser_whatever_the_network_was_trained_as(frame, kind, at):
    x, l, kind = normal(5, 2), LEVELS[at], predict.KINDS[kind]
    denoise = adapt.adapt(optimum(FRAMES[frame], kind), FRAMES[frame], kind, lambda l: l.ratio.log())
    assert_close(denoise(x, l), DATA(x, l), rtol=1e-9, atol=1e-10)
    assert_close(
        denoise(x, l.like(x)), DATA(x, l), rtol=1e-9, atol=1e-10
    )  # levels that a sampler has broadcast
    assert denoise(x.float(), l).dtype == torch.float32


@pytest.mark.parametrize("kind", ["v", "velocity", "edm", "x0"])
def test_finite_at_pure_noise(kind):
    kind, mean = predict.KINDS[kind], Gaussian(0.5, 1.0)
    top = level(0.0, 1.0)
    net = lambda x, time: predict.target(kind, mean(x, top), x, top)
    assert_close(
        adapt.adapt(net, adapt.unit, kind, adapt.no_clock)(normal(5, 2), top),
        torch.full((5, 2), 0.5).double(),
    )


def test_the_network_sees_its_own_input_scale_and_clock():
    seen = {}

    def net(x, time):
        seen.update(x=x, time=time)
        return 0 * x

    s, x = schedule.scaled_linear(), normal(2, 3)
    adapt.adapt(net, adapt.unit, predict.eps, adapt.table(s))(x, ve(s.sigmas[500] / s.alphas[500]))
    assert_close(seen["x"], x * s.alphas[500])
    assert float(seen["time"]) == pytest.approx(500)
    adapt.adapt(net, adapt.whiten(0.5), predict.edm(0.5), adapt.c_noise)(x, vp(-2.0))
    assert float(seen["time"]) == pytest.approx(0.25)
    assert_close(seen["x"], x / (0.25 * vp(-2.0).alpha ** 2 + vp(-2.0).sigma ** 2).sqrt())
    adapt.adapt(net, adapt.convex, predict.velocity, adapt.table(schedule.flow()))(
        x, level([1.0, 0.0], [3.0, 2.0])
    )
    assert_close(seen["time"], torch.tensor([749.0, 999.0]).double())
    assert_close(seen["x"], x / torch.tensor([[4.0], [2.0]]).double())
    adapt.adapt(net, adapt.clean_scale, predict.x0, adapt.no_clock)(x, ve(1.0))
    assert seen["time"] is None


def test_clean_data_comes_back_as_they_are():
    x = normal(4, 2)
    for kind in ("eps", "v", "velocity", "edm"):
        net = lambda x, time, kind=kind: predict.target(predict.KINDS[kind], x, 0 * x, clean())
        assert_close(
            adapt.adapt(net, adapt.unit, predict.KINDS[kind], adapt.no_clock)(x, clean()),
            x,
            rtol=0,
            atol=1e-12,
        )
