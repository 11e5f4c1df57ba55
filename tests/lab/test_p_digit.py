"""lab/p_digit: the identity that makes a classifier a denoiser, what the networks are asked for, how pictures
are changed, and a quick run.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from lab.p_digit import run
from unnoise.data.sets import cached
from unnoise.denoiser import Empirical, Gaussian
from unnoise.guide import classifier
from unnoise.process import noise
from unnoise.process.level import Level, corrupt

HERE = Path(run.__file__).parent
DIGITS = torch.tanh(noise.draw(0, "digits", 0, (30, 1, 14, 14)))


@pytest.mark.parametrize("u", [0.1, 0.5, 0.9])
def test_the_denoiser_of_pure_noise_guided_by_an_exact_digit_or_noise_classifier_is_the_denoiser_of_digits(u):
    l = run.CURVE.level(u)
    x = corrupt(DIGITS[:4], noise.draw(0, "eps", 0, (4, 1, 14, 14)), l)
    assert_close(
        classifier(Gaussian(0.0, 1.0), run.exact(DIGITS))(x, l), Empirical(DIGITS)(x, l), rtol=1e-8, atol=1e-8
    )


def test_the_exact_classifier_draws_its_digits():
    x = run.sampled(run.exact(DIGITS), noise.draw(0, "x", 0, (3, 1, 14, 14)), 0.99, 20)
    assert torch.cdist(x.flatten(1), DIGITS.flatten(1)).amin(1).max() / 14 < 0.02  # measured: 3e-4


def test_the_slope_asked_for_is_that_of_the_exact_logit_on_average_and_scaled_to_v():
    # Of one digit, posterior and sample agree: the pull must be the exact gradient itself.
    one, rng = DIGITS[:1].repeat(5, 1, 1, 1), torch.Generator().manual_seed(0)
    b = run.slope(one, one, rng)
    assert b.l is not None and b.pull is not None
    l = Level(b.l.alpha[:5], b.l.sigma[:5])
    assert_close(run.gradient(lambda x: run.exact(DIGITS[:1])(x, l))(b.x[:5]), b.pull, rtol=1e-6, atol=1e-6)
    own = l.like(b.x)
    eps = (b.x[:5] - own.alpha * one) / own.sigma
    assert_close(b.pull / b.unit, -(own.alpha * eps - own.sigma * one))


def test_labels_say_how_much_digit_is_left():
    rng = torch.Generator().manual_seed(0)
    b = run.amount(DIGITS.float(), DIGITS.float(), rng)
    assert b.l is None and (b.label[30:] == 0).all() and b.label[:30].min() < 0.3 and b.label[:30].max() > 0.9
    dark = -torch.ones(4, 1, 14, 14)
    assert_close(run.blurred(dark, torch.tensor([0.0, 0.5, 1.0, 1.5])), dark)
    point = dark.clone()
    point[:, 0, 7, 7] = 1.0
    y = run.blurred(point, torch.tensor([0.0, 0.5, 1.0, 1.5])) + 1
    assert_close(y.sum((1, 2, 3)), torch.full((4,), 2.0))
    assert_close(y[0], point[0] + 1)
    spread = (y[2, 0].sum(0) / 2 * (torch.arange(14) - 7.0) ** 2).sum()
    assert float(spread) == pytest.approx(1.0, abs=0.01)  # the variance of a Gaussian of deviation 1


def test_the_loss_with_a_slope_trains_the_gradient():
    torch.manual_seed(0)
    net = run.Score(True)
    b = run.slope(DIGITS.float(), DIGITS.float(), torch.Generator().manual_seed(0))
    before = run.loss_of(net, b)
    grads = torch.autograd.grad(before, [p for p in net.parameters() if p is not net.bias])
    with torch.no_grad():
        for p, g in zip([p for p in net.parameters() if p is not net.bias], grads):
            p -= 1e-3 * g
    assert run.loss_of(net, b) < before
    x, own = b.x.detach().requires_grad_(), b
    logit = net(x, own.l)
    (g,) = torch.autograd.grad(logit.sum(), x)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logit, b.label)
    assert b.pull is not None
    assert_close(run.loss_of(net, b), 0.1 * bce + ((g[:30] - b.pull) / b.unit).square().mean())


def test_climbing_goes_up_by_steps_of_one_length_and_rests_where_it_is_sure():
    way = torch.randn(1, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    line = lambda x: (x * way).flatten(1).sum(1) / 14
    x = torch.zeros(2, 1, 14, 14)
    out = run.climbed(line, x, steps=5, step=0.1)
    assert_close((out - x).square().mean((1, 2, 3)).sqrt(), torch.full((2,), 0.5), rtol=1e-4, atol=1e-5)
    assert (line(out) > line(x)).all()
    rested = run.climbed(line, x, steps=500, step=0.01, until=0.9)
    assert 0.9 <= float(line(rested)[0].sigmoid()) < 0.92


def test_alignment_of_the_exact_way_and_of_its_opposite():
    l0 = run.CURVE.level(0.5)
    toward = lambda x, l: -(x - l.like(x).alpha * DIGITS[: len(x)]).square().flatten(1).sum(1)
    # its gradient is -2 (x - alpha x0); the way is x0 - alpha x: alike where little noise is, not the same
    assert all(c > 0.3 for c in run.alignment(toward, DIGITS, True)[:1])
    exact = run.alignment(run.exact(DIGITS), DIGITS, True)
    assert exact[0] == pytest.approx(1.0, abs=1e-6) and all(c > 0.9 for c in exact) and float(l0.alpha) > 0.5


@pytest.mark.slow
@pytest.mark.skipif(not (cached("mnist") and cached("fashion-mnist")), reason="needs mnist and fashion-mnist")
def test_a_quick_run(tmp_path):
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), "--quick", "--json", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    for arm in run.ARMS:
        assert len(report[arm]["align"][0]) == len(run.LOOKED)
        assert all(math.isfinite(v) for start in run.STARTS for v in report[arm][start][0].values())
    assert report["real"]["confidence"] > 0.8 and report["noise"]["digit"] < 0.2
    with Image.open(tmp_path / "shown.png") as picture:
        picture.verify()


def test_bad_options_are_told():
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), "--seeds", "0"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "--seeds" in done.stderr and not done.stdout
