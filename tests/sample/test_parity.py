"""The same levels as diffusers' schedulers, the same exact denoiser: the same result.

The scheduler runs as it is, but for its tables and arithmetic, which are raised from float32 to float64 while
it does; the levels that it really uses are read off it and given to our sampler as the path.
"""

from __future__ import annotations

import diffusers
import pytest
import torch

from unnoise.denoiser.oracle import Mixture
from unnoise.process import level
from unnoise.process.level import Level
from unnoise.sample import SAMPLERS, last

WORLD = Mixture([[-0.5, 0.3], [0.6, 0.9], [0.1, -0.7]], [0.2, 0.3, 0.1], [0.5, 0.3, 0.2])
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
SPACED = [{}, {"use_karras_sigmas": True}, {"timestep_spacing": "trailing"}]
X = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def double(monkeypatch):
    """Where a scheduler asks for float32, it gets float64."""
    monkeypatch.setattr(torch, "float32", torch.float64)


def run(scheduler, levels, x, steps=None):
    """The scheduler's own loop: eps of the exact denoiser at the level that it holds x to be at."""
    for l, t in list(zip(levels, scheduler.timesteps, strict=False))[:steps]:
        x = scheduler.step((x - l.alpha * WORLD(x, l)) / l.sigma, t, x).prev_sample
    return x


def ve(s):
    return level.ve(s.double())


def vp(s):
    r = (s.double() ** 2 + 1).sqrt()
    return Level(1 / r, s.double() / r)


def agree(name, p, x, want, **options):
    assert want.isfinite().all()
    torch.testing.assert_close(last(SAMPLERS[name](WORLD, x, p, **options)), want, atol=1e-8, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 10, 20])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_ddim(double, steps, spacing):
    s = diffusers.DDIMScheduler(**SD, timestep_spacing=spacing, set_alpha_to_one=True, clip_sample=False)
    s.alphas_cumprod = s.alphas_cumprod.double()
    # Whole strides: only there is its t - T // N the next of its list.
    s.set_timesteps(steps)
    p = [Level(v.sqrt(), (1 - v).sqrt()) for v in s.alphas_cumprod[s.timesteps]]
    agree("ddim", [*p, level.clean()], X, run(s, p, X))


@pytest.mark.parametrize("steps", [1, 2, 10, 25])
@pytest.mark.parametrize("options", SPACED)
def test_euler(double, steps, options):
    s = diffusers.EulerDiscreteScheduler(**SD, **options)
    s.set_timesteps(steps)
    s.sigmas = s.sigmas.double()
    p = [ve(v) for v in s.sigmas]
    agree("euler", p, X * p[0].sigma, run(s, p, X * p[0].sigma))


@pytest.mark.parametrize(
    "steps", [1, 8, 10, 25]
)  # with 2 steps sigma falls 500-fold, where ours is another rule
@pytest.mark.parametrize("options", SPACED)
def test_heun(double, steps, options):
    s = diffusers.HeunDiscreteScheduler(**SD, **options)
    s.set_timesteps(steps)
    s.sigmas = s.sigmas.double()
    assert len(s.timesteps) == SAMPLERS["heun"].calls(steps)
    p = [ve(v) for v in s.sigmas]
    agree("heun", p, X * p[0].sigma, run(s, p, X * p[0].sigma))  # it lists each inner level twice


@pytest.mark.parametrize("steps", [1, 2, 10, 25])
@pytest.mark.parametrize("options", SPACED)
def test_dpmpp_2m(double, steps, options):
    s = diffusers.DPMSolverMultistepScheduler(**SD, **options, solver_order=2, final_sigmas_type="zero")
    assert s.config.algorithm_type == "dpmsolver++" and s.config.solver_type == "midpoint"
    s.set_timesteps(steps)
    s.sigmas = s.sigmas.double()
    p = [vp(v) for v in s.sigmas]
    agree("dpmpp_2m", p, X, run(s, p, X))


@pytest.mark.slow
def test_the_published_third_order_solver_is_of_second_order(double):
    # Why dpmpp_3m is not held to diffusers': it takes half of the second difference.
    errors = {}
    for n in (100, 200):
        s = diffusers.DPMSolverMultistepScheduler(
            **SD, solver_order=3, use_lu_lambdas=True, final_sigmas_type="sigma_min"
        )
        s.set_timesteps(n)
        s.sigmas = s.sigmas.double()
        p = [vp(v) for v in s.sigmas][:-1]
        fine = [
            vp(v)
            for v in torch.logspace(
                *(l.ratio.log10().item() for l in (p[0], p[-1])), 3001, dtype=torch.float64
            )
        ]
        exact = last(SAMPLERS["unipc"](WORLD, X, fine, order=3))
        theirs, ours = run(s, p, X, n - 1), last(SAMPLERS["dpmpp_3m"](WORLD, X, p))
        errors[n] = [(y - exact).abs().max().item() for y in (theirs, ours)]
    assert 3.3 < errors[100][0] / errors[200][0] < 5 and errors[100][1] / errors[200][1] > 6.5, errors


@pytest.mark.parametrize("steps", [1, 2, 10, 25])
@pytest.mark.parametrize("options", SPACED)
@pytest.mark.parametrize("b_h", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc(double, steps, options, b_h, order):
    # It is NaN into sigma = 0 with bh1, and of lower order before the end with order 3: there, down to the
    # last noisy level.
    short = b_h == "bh1" or order == 3
    s = diffusers.UniPCMultistepScheduler(
        **SD,
        **options,
        solver_order=order,
        solver_type=b_h,
        final_sigmas_type="zero",
        lower_order_final=order < 3,
    )
    s.set_timesteps(steps)
    s.sigmas = s.sigmas.double()
    p = [vp(v) for v in s.sigmas][: len(s.sigmas) - short]
    if len(p) > 1:
        agree("unipc", p, X, run(s, p, X, len(p) - 1), order=order, b_h=b_h)


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_flow_match_euler(double, steps):
    s = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    s.set_timesteps(steps)
    s.sigmas = s.sigmas.double()
    p, x = [level.flow(v) for v in s.sigmas], X
    for l, t in zip(p, s.timesteps, strict=False):
        x = s.step((x - WORLD(x, l)) / l.sigma, t, x).prev_sample
    agree("euler", p, X, x)
