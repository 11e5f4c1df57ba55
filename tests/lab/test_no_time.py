"""lab/no_time: the exact networks without time against a sum over levels, the predictions, the samplers
without a schedule.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from lab.no_time import run
from unnoise.data.sets import cached
from unnoise.denoiser import Mixture, adapt
from unnoise.process import Level, noise, predict, schedule
from unnoise.process.level import ve

HERE = Path(run.__file__).parent


@pytest.mark.parametrize("target", run.TARGETS)
@pytest.mark.parametrize("d", [2, 5])
def test_the_network_without_time_is_the_mean_over_the_posterior_of_the_level(target, d):
    """Summed level by level with the oracle's own density and estimate, which share no code with it."""
    mix, kind = Mixture(2 * noise.draw(1, "m", 0, (3, d)), 0.3, [0.5, 0.2, 0.3]), predict.kind(target)
    levels, prior = run.nodes(schedule.named(run.TARGETS[target]), 40)
    x = noise.draw(2, "x", 0, (6, d))
    logp, out = [], []
    for a, s, w in zip(*levels, prior):
        l = Level(a, s)
        x0 = mix(x, l)
        p, q = kind(l)
        logp.append(mix.logp(x, l) + w.log())
        out.append(p * x0 + q * (x - a * x0) / s)
    share = torch.stack(logp, 1).softmax(1)
    want = (share[..., None] * torch.stack(out, 1)).sum(1)
    blind = run.Blind(mix, levels, prior)
    assert_close(blind.network(kind)(x), want, rtol=1e-8, atol=1e-9)
    assert_close(blind.joint(x).sum(2), share, rtol=1e-8, atol=1e-10)
    assert_close(blind.ratio(x).log(), (share * levels.ratio.log()).sum(1), rtol=1e-8, atol=1e-9)


def test_one_level_alone_is_the_denoiser_that_knows_it():
    mix, l = run.mixture(8), ve(torch.tensor([0.7], dtype=torch.float64))
    net = run.Blind(mix, l, torch.ones(1)).network(predict.x0)
    x = noise.draw(3, "x", 0, (5, 8))
    assert_close(net(x), mix(x, ve(0.7)), rtol=1e-9, atol=1e-12)


def test_more_nodes_change_nothing():
    d, x = 1024, run.mixture(1024).sample(4) + 0.3 * noise.draw(4, "x", 0, (4, 1024))
    few, many = (
        run.Blind(run.mixture(d), ve(torch.logspace(-2, 1, n, dtype=torch.float64)), torch.ones(n)).ratio(x)
        for n in (run.NODES, 2000)
    )
    assert_close(few, many, rtol=1e-6, atol=0)


def test_x_tells_its_level_to_one_part_in_the_root_of_2d():
    found = {d: run.told(d, 400, 0) for d in (2, 8, 64, 1024)}  # 1.71, 1.02, 1.00, .97 of 1 / sqrt(2d)
    assert found[2] > 1.3 and all(0.85 < found[d] < 1.3 for d in (8, 64, 1024))


def test_the_predictions_on_exact_networks():
    small, large = (run.at_once(d, 60, 0) for d in (2, 256))
    for one in (small, large):
        for t in run.TARGETS:
            assert all(0.6 < one[t][r]["time"] < 1.1 for r in run.RULES)  # .68 to .95, short of 1 by 50 steps
    assert all(small[t]["ddim"]["none"] > 1.8 for t in run.TARGETS)  # 2 numbers do not tell the level
    assert large["eps"]["ddim"]["none"] > 3  # eps is still lost, measured 3.7
    assert large["x0"]["ddim"]["none"] < 1.1 and large["velocity"]["ddim"]["none"] < 1.2  # .84, 1.06
    assert large["v"]["ddpm"]["none"] < 1 < large["v"]["ddim"]["none"]  # fresh noise saves v: .81 and 1.44


@pytest.mark.parametrize("d", [8, 64])
def test_samplers_without_a_schedule_arrive(d):
    found = run.scheduleless(d, 40, 1)
    for k in ("ascent", "ascent, no noise"):
        assert 0.8 < found[k]["width"] < 1.25 and found[k]["calls"] < 300


def test_driven_by_the_truth_is_euler():
    mix, x = run.mixture(2), 5 * noise.draw(5, "x", 0, (6, 2))
    levels = iter(5 * 0.9 ** torch.arange(100.0).double())
    out, calls = run.driven(mix, lambda x: torch.full((len(x),), next(levels).item()), x, ve, end=1.0)
    want = run.last(run.SAMPLERS["euler"](mix, x, [ve(5 * 0.9**k) for k in range(calls)]))
    assert calls == 1 + math.ceil(math.log(5) / -math.log(0.9))
    assert_close(out, mix(want, ve(5 * 0.9 ** (calls - 1))), rtol=1e-9, atol=1e-9)


def test_the_head_and_the_separate_network_have_the_right_shapes():
    x = torch.zeros(3, 1, 28, 28)
    v, log = run.Head().both(x)
    assert v.shape == x.shape and log.shape == (3,) and run.Sorted()(x).shape == (3,)
    own = adapt.adapt(lambda x, t: run.Head().both(x)[0], adapt.unit, predict.v, adapt.no_clock)  # pyright: ignore[reportArgumentType]
    assert own(x, run.unit(torch.full((3,), 0.5).double())).shape == x.shape


@pytest.mark.slow
@pytest.mark.skipif(not cached("mnist"), reason="mnist is not fetched")
def test_it_runs_and_keeps_what_it_has_made(tmp_path):
    command = [sys.executable, str(HERE / "run.py"), "--quick", "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["digits"][0]["targets"]) == set(run.TARGETS) and {
        "level-0.json",
        "exact-0.json",
        "digits-0.json",
    } <= {f.name for f in tmp_path.iterdir()}
    assert run.table(report).count("|---") == 0 and run.table(report).count("| --- |") >= 6


def test_unknown_parts_are_named():
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), "--parts", "exakt"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "level, exact, digits" in done.stderr
