import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta as scipy_beta
from torch.testing import assert_close

from unnoise.errors import BadInput
from unnoise.process import schedule as S
from unnoise.process.level import Level, clean, level, ve

ALL = {
    **{name: make() for name, make in S.SCHEDULES.items()},
    **{f"{name}-zsnr": S.named(f"{name}-zsnr") for name in ("ddpm", "scaled_linear", "cosine")},
    "short": S.ddpm(T=50),
    "shifted": S.flow(shift=3.0),
}
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
DIFFUSERS = {
    "ddpm": {"beta_schedule": "linear", "num_train_timesteps": 1000},
    "scaled_linear": SD,
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 1000},
}


def times(s: S.Schedule, path: S.Path) -> list[float]:
    return [float(s.timestep(l)) for l in path[:-1]]


# --- the curves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, last_alpha, low, high",
    [
        ("ddpm", 0.006353, 0.0100, 157.41),
        ("scaled_linear", 0.068265, 0.02917, 14.615),
        ("cosine", 4.928e-5, 0.00643, None),
    ],
)
def test_published_constants(name, last_alpha, low, high):
    s = ALL[name]
    ratio = s.sigmas / s.alphas
    assert s.alphas[-1] == pytest.approx(last_alpha, rel=1e-4)
    assert ratio[0] == pytest.approx(low, abs=6e-6 if low < 0.02 else 5e-6)
    if high:
        assert ratio[-1] == pytest.approx(high, rel=4e-5)
    if name == "scaled_linear":
        assert (s.alphas[-1] / s.sigmas[-1]) ** 2 == pytest.approx(4.68e-3, rel=1e-3)


@pytest.mark.parametrize("name", DIFFUSERS)
@pytest.mark.parametrize("zero", [False, True])
def test_alphas_cumprod_are_those_of_diffusers(name, zero):
    theirs = DDIMScheduler(**DIFFUSERS[name], rescale_betas_zero_snr=zero).alphas_cumprod.double().numpy()
    ours = S.named(name + "-zsnr" * zero)
    np.testing.assert_allclose(ours.alphas**2, theirs, rtol=2e-4, atol=2e-7)  # theirs are float32 products


def test_sigmoid_is_jabri_et_al():
    g = lambda t: 1 / (1 + math.exp(t * 6 - 3))
    want = (g(0.3) - g(1.0)) / (g(0.0) - g(1.0))
    assert ALL["sigmoid"].alphas[299] ** 2 == pytest.approx(want, rel=1e-9)


def test_ve_and_edm_end_at_their_limits():
    for s, lo, hi in ((ALL["ve"], 0.01, 50.0), (ALL["edm"], 0.002, 80.0)):
        assert_close(s.level([0.0, 1.0]).sigma, torch.tensor([lo, hi], dtype=torch.float64))
    assert float(ALL["ve"].level(0.5).sigma) == pytest.approx(math.sqrt(0.5))
    root = (0.002 ** (1 / 7) + 80 ** (1 / 7)) / 2
    assert float(ALL["edm"].level(0.5).sigma) == pytest.approx(root**7)


def test_flow_shift_is_that_of_diffusers():
    theirs = FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas.double().flip(0)
    assert_close(torch.from_numpy(ALL["shifted"].sigmas), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_curve_is_monotone_from_clean_to_noise(name):
    s, u = ALL[name], np.linspace(0, 1, 5003)
    l = s.level(u)
    angle = np.arctan2(l.sigma.numpy(), l.alpha.numpy())
    assert (np.diff(angle) > 0).all() and l.alpha.isfinite().all() and l.sigma.isfinite().all()
    if name not in ("ve", "edm"):
        assert l.sigma[0] == 0 and l.alpha[0] == 1
    if name not in ("ve", "edm", "flow", "shifted"):
        assert_close(l.alpha**2 + l.sigma**2, torch.ones(5003).double())


@pytest.mark.parametrize("name", ALL)
def test_continuous_curve_passes_through_the_discrete_levels(name):
    s = ALL[name]
    l = s.at(np.arange(s.T))
    np.testing.assert_allclose(l.alpha.numpy(), s.alphas, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(l.sigma.numpy(), s.sigmas, rtol=1e-9, atol=1e-14)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(ALL)), u=st.floats(0, 1), scale=st.floats(0.1, 10))
def test_time_inverts_level_by_the_ratio_alone(name, u, scale):
    l = ALL[name].level(u)
    assert_close(float(ALL[name].time(Level(l.alpha * scale, l.sigma * scale))), u, rtol=0, atol=2e-9)


@pytest.mark.parametrize("name", ALL)
def test_time_is_held_to_the_curve(name):
    s = ALL[name]
    out = s.time(level([1.0, 1.0, 0.0, 1e-9], [0.0, 1e-12, 1.0, 1e9]))
    assert ((out >= 0) & (out <= 1)).all() and out[0] == 0 and out[2] == 1


def test_a_level_of_another_schedule_finds_its_place():
    s = ALL["scaled_linear"]
    assert float(s.timestep(ve(14.6146))) == pytest.approx(999, abs=0.01)
    assert float(s.timestep(ve(s.sigmas[500] / s.alphas[500]))) == pytest.approx(500, abs=1e-9)


def test_level_takes_any_shape_and_refuses_what_is_outside():
    s = ALL["cosine"]
    assert s.level(torch.rand(2, 3)).alpha.shape == (2, 3)
    for u in (-0.1, 1.1, math.nan, [0.5, 2.0]):
        with pytest.raises(BadInput):
            s.level(u)


# --- zero terminal SNR (Lin et al.) -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddpm", "scaled_linear", "cosine"])
def test_zero_terminal_snr_keeps_the_first_level_and_has_none_at_the_last(name):
    s, z = ALL[name], ALL[f"{name}-zsnr"]
    assert z.alphas[0] == pytest.approx(s.alphas[0], rel=1e-15) and z.alphas[-1] == 0 and z.sigmas[-1] == 1
    betas = 1 - (z.alphas[1:] / z.alphas[:-1]) ** 2
    assert betas[-1] == 1 and (betas > 0).all()
    assert z.level(1.0).alpha == 0 and float(z.timestep(level(0.0, 1.0))) == z.T - 1


@pytest.mark.parametrize("name", ["ve", "edm", "flow"])
def test_zero_terminal_snr_is_for_variance_preserving_curves(name):
    with pytest.raises(BadInput):
        S.named(f"{name}-zsnr")


# --- paths --------------------------------------------------------------------------------------------------


def decreasing(path: S.Path) -> bool:
    alpha, sigma = (torch.stack([*v]) for v in zip(*path))
    return bool((sigma[:-1] * alpha[1:] > sigma[1:] * alpha[:-1]).all())


@pytest.mark.parametrize("name", ["ddpm", "scaled_linear-zsnr", "flow", "short"])
def test_trailing_for_every_number_of_steps(name):
    s = ALL[name]
    for n in range(1, 1001):
        path = s.path(n)
        assert len(path) == n + 1 and path[-1].clean and decreasing(path)
        assert_close(path[0], s.level(1.0), rtol=1e-14, atol=0)


@pytest.mark.parametrize("spacing", S.GRIDS)
@pytest.mark.parametrize("name", ALL)
def test_every_grid_decreases_ends_clean_and_has_its_length(name, spacing):
    s = ALL[name]
    for n in (1, 2, 3, 4, 7, 10, 25, 49, 50, 333, 999, 1000, 1500):
        if spacing == "leading" and n > s.T:
            continue
        path = s.path(n, spacing)
        assert len(path) == n + 1 and path[-1] == clean() and decreasing(path), n
        if spacing != "leading":
            assert_close(path[0], s.level(1.0), rtol=1e-14, atol=0)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 15, 16, 20, 30, 48, 50, 60, 80, 125, 250, 400, 999])
def test_times_are_those_of_diffusers(spacing, n):
    theirs = DDIMScheduler(**SD, timestep_spacing=spacing, steps_offset=1 if spacing == "leading" else 0)
    theirs.set_timesteps(n)
    s = ALL["scaled_linear"]
    # Their linspace takes its one step from t = 0, the clean end.
    want = [999] if spacing == "linspace" and n == 1 else theirs.timesteps.tolist()
    np.testing.assert_allclose(times(s, s.path(n, spacing)), want, rtol=0, atol=1e-8)


def test_leading_never_visits_the_noisiest_level_and_takes_an_offset():
    s = ALL["scaled_linear"]
    assert [round(t) for t in times(s, s.path(50, "leading"))][::49] == [981, 1]
    assert [round(t) for t in times(s, s.path(50, "leading", offset=0))][::49] == [980, 0]
    theirs = DDPMScheduler(**SD)
    theirs.set_timesteps(50)
    np.testing.assert_allclose(times(s, s.path(50, "leading", offset=0)), theirs.timesteps, atol=1e-8)


@pytest.mark.parametrize("n", [2, 5, 20, 50])
@pytest.mark.parametrize("kind, spacing", [("karras", "karras"), ("exponential", "logsnr")])
def test_sigma_grids_are_those_of_diffusers(n, kind, spacing):
    theirs = EulerDiscreteScheduler(**SD, timestep_spacing="linspace", **{f"use_{kind}_sigmas": True})
    theirs.set_timesteps(n)
    ours = [float(l.ratio) for l in ALL["scaled_linear"].path(n, spacing)]
    np.testing.assert_allclose(ours, theirs.sigmas.numpy(), rtol=3e-4, atol=1e-7)


@pytest.mark.parametrize("n", [2, 18, 40])
def test_karras_grid_of_edm_is_the_published_one(n):
    lo, hi, i = 0.002 ** (1 / 7), 80 ** (1 / 7), np.arange(n)
    want = [*(hi + i / (n - 1) * (lo - hi)) ** 7, 0.0]
    np.testing.assert_allclose([float(l.sigma) for l in ALL["edm"].path(n, "karras")], want, rtol=1e-9)


def test_karras_takes_rho():
    one, seven = (ALL["edm"].path(9, "karras", rho=r) for r in (1.0, 7.0))
    assert float(one[4].sigma) == pytest.approx((80 + 0.002) / 2) and float(seven[4].sigma) < 5


def test_logsnr_grid_is_even():
    steps = np.diff([float(l.logsnr) for l in ALL["scaled_linear"].path(20, "logsnr")[:-1]])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)


def test_grids_by_ratio_start_at_pure_noise_where_the_schedule_does():
    for name in ("scaled_linear-zsnr", "flow", "cosine-zsnr"):
        path = ALL[name].path(10, "karras")
        assert path[0].alpha == 0 and float(path[1].ratio) < 170 and float(path[1].ratio) > 1


def test_beta_quantiles_are_scipys():
    w = np.linspace(0, 1, 41)
    for a, b in ((0.6, 0.6), (0.5, 0.9), (1.0, 1.0), (2.0, 3.0)):
        np.testing.assert_allclose(S._beta_quantile(w, a, b), scipy_beta.ppf(w, a, b), atol=2e-5)


def test_few_crowds_where_images_take_shape():
    r = [float(l.ratio) for l in ALL["scaled_linear"].path(8, "few")[:-1]]
    log = np.diff(np.log(r))
    assert np.argmin(-log) in range(2, 6) and r[0] == pytest.approx(14.6146, rel=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.path(0),
        lambda s: s.path(-3),
        lambda s: s.path(2.5),
        lambda s: s.path(True),
        lambda s: s.path("10"),
        lambda s: s.path(10, "karas"),
        lambda s: s.path(10, "karras", roh=7.0),
        lambda s: s.path(10, "trailing", rho=7.0),
        lambda s: s.path(1001, "leading"),
        lambda s: s.path(10, "karras", rho=0.0),
        lambda s: s.path(10, "leading", offset=-1),
        lambda s: s.path(10, "beta", a=0.0),
        lambda s: s.path(10, "karras", rho=math.nan),
    ],
)
def test_bad_paths_are_refused_in_one_line(call):
    with pytest.raises(BadInput) as e:
        call(ALL["scaled_linear"])
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: S.named("cosin"),
        lambda: S.named("ddpm", S=3),
        lambda: S.named("ddpm-zsnrx"),
        lambda: S.named("flow", shift=0.0),
        lambda: S.named("flow", shift=-1.0),
        lambda: S.named("edm", sigma_min=0.0),
        lambda: S.named("ve", sigma_min=2, sigma_max=1),
        lambda: S.named("ddpm", T=0),
        lambda: S.named("ddpm", start=0.5, end=2.0),
        lambda: S.named("ddpm", start=math.nan),
    ],
)
def test_bad_schedules_are_refused_in_one_line(make):
    with pytest.raises(BadInput) as e:
        make()
    assert "\n" not in str(e.value)


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'cosine'"):
        S.named("cosin")
    with pytest.raises(BadInput, match="did you mean 'karras'"):
        ALL["ddpm"].path(10, "karas")


def test_a_last_level_other_than_clean():
    assert ALL["edm"].path(5, "karras", last=ve(0.001))[-1] == ve(0.001)


def test_path_of():
    a, b = ve(2.0), ve(1.0)
    assert S.path_of([a, b]) == (a, b, clean()) and S.path_of([a, clean()]) == (a, clean())
    for bad in ([], [b, a], [a, a]):
        with pytest.raises(BadInput):
            S.path_of(bad)
