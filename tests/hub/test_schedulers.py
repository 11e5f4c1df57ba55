"""Published scheduler files: the same levels, grids and steps as the other library on what a file says, and
every way to be refused.
"""

import ast
import importlib
import inspect
import json
import logging
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from unnoise.errors import BadInput
from unnoise.hub import schedulers
from unnoise.hub.schedulers import KEYS, OURS, read, write
from unnoise.process import predict, schedule
from unnoise.process.schedule import named
from unnoise.process.section import ProcessSection
from unnoise.sample import SAMPLERS
from unnoise.train.objective import resolve

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STEPS = (1, 2, 3, 7, 10, 15, 30, 50, 60, 99, 333, 1000)
logging.getLogger("diffusers").setLevel(logging.ERROR)


def theirs(kind, **config):
    return getattr(diffusers, f"{kind}Scheduler").from_config(config)


def ours(kind, **config):
    return read({"_class_name": f"{kind}Scheduler", **config})


def curve(process):
    # a recipe keeps its numbers as floats, and T counts
    return named(
        process.schedule, **{k: int(v) if k == "T" else v for k, v in process.schedule_options.items()}
    )


# --- the table of keys --------------------------------------------------------------------------------------

# Keys that do not change what a run of ours does: those of thresholding and flow schedules, which are refused
# themselves; the order
# of the last steps (ours always ends with one of first order, as theirs does when it goes down to sigma = 0);
# what a note says.
SILENT = {
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "flow_shift",
    "time_shift_type",
    "lower_order_final",
    "euler_at_final",
    "noise_sampler_seed",
    "skip_prk_steps",
    "original_inference_steps",
    "timestep_scaling",
}
# Keys that a class has and that it does not use for what we take from it.
UNUSED = {
    ("LCM", "timestep_spacing"),
    ("LCM", "steps_offset"),
    ("DPMSolverSinglestep", "use_lu_lambdas"),
    ("DEISMultistep", "solver_type"),
}


def signature(kind):
    """The keys of a class and their defaults; read from the source where the class cannot be imported."""
    if kind != "DPMSolverSDE":
        return {
            k: p.default
            for k, p in inspect.signature(getattr(diffusers, f"{kind}Scheduler").__init__).parameters.items()
            if k != "self"
        }
    source = (Path(diffusers.__file__).parent / "schedulers" / "scheduling_dpmsolver_sde.py").read_text()
    cls = next(
        c for c in ast.parse(source).body if isinstance(c, ast.ClassDef) and c.name == "DPMSolverSDEScheduler"
    )
    init = next(f for f in cls.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
    return dict(
        zip([a.arg for a in init.args.args[1:]], map(ast.literal_eval, init.args.defaults), strict=True)
    )


@pytest.mark.parametrize("kind", KEYS)
def test_every_key_of_a_class_is_known_with_its_own_default(kind):
    known = signature(kind)
    for key, default in known.items():
        if key in SILENT or (kind, key) in UNUSED:
            continue
        assert key in KEYS[kind], f"{key} of {kind} is not thought of"
        assert KEYS[kind][key] == default, key
    assert set(KEYS[kind]) <= set(known)


# --- levels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {},
        SD,
        {**SD, "beta_end": 0.01201},
        {"beta_schedule": "scaled_linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {**SD, "num_train_timesteps": 137},
        {"beta_end": 0.015, "beta_start": 2e-4, "num_train_timesteps": 500},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 64},
        {**SD, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    ],
)
def test_levels_equal_those_of_the_other_library(config):
    s, mine = theirs("DDIM", **config), curve(ours("DDIM", **config).process)
    assert len(s.betas) == mine.T
    abar, betas = s.alphas_cumprod.double().numpy(), s.betas.double().numpy()
    if config.get("rescale_betas_zero_snr"):  # theirs are differences of single precision
        np.testing.assert_allclose(mine.alphas, abar**0.5, rtol=0, atol=1e-6)
        assert mine.alphas[-1] == 0 == abar[-1]
        return
    # 1e-6, and where a beta is near 1 what rounding it to single precision does to 1 - beta
    bound = 1e-6 + np.cumsum(2.0**-25 * betas / (1 - betas))
    assert (abs(mine.alphas**2 / abar - 1) <= bound).all()
    assert bound[: mine.T // 2].max() < 1.1e-6


def test_only_what_differs_from_ours_is_an_option():
    assert ours("DDIM").process == ProcessSection(schedule="ddpm", predict="eps")
    assert ours("DDIM", **SD).process == ProcessSection(schedule="scaled_linear", predict="eps")
    assert ours("Heun" + "Discrete").process.schedule_options == {
        "start": 0.00085,
        "end": 0.012,
    }  # its own defaults
    assert ours("LCM").process.schedule == "scaled_linear"


@pytest.mark.parametrize(("theirs_", "mine"), [("epsilon", "eps"), ("v_prediction", "v"), ("sample", "x0")])
def test_predictions(theirs_, mine):
    assert ours("DDIM", prediction_type=theirs_).process.predict == mine


def test_trained_betas_that_are_a_known_schedule_are_that_schedule():
    betas = theirs("DDIM", **SD).betas.tolist()
    assert ours("DDIM", trained_betas=betas).process == ProcessSection(
        schedule="scaled_linear", predict="eps"
    )
    cosine = theirs("DDIM", beta_schedule="squaredcos_cap_v2", num_train_timesteps=50).betas.tolist()
    assert ours("DDIM", trained_betas=cosine).process.schedule_options == {"T": 50}
    betas[500] *= 1.01
    with pytest.raises(BadInput, match="trained_betas"):
        ours("DDIM", trained_betas=betas)


@pytest.mark.parametrize("kind", ["EDMEuler", "EDMDPMSolverMultistep"])
def test_edm_preconditioning_and_grid(kind):
    config = {"sigma_data": 0.7, "sigma_max": 20.0, "rho": 5.0, "sigma_min": 0.01}
    s, got = theirs(kind, **config), ours(kind, **config)
    p = resolve(got.process)
    s.set_timesteps(9)
    path = p.curve.path(9, got.defaults["spacing"], **got.defaults["spacing_options"])
    np.testing.assert_allclose([float(l.ratio) for l in path[:-1]], s.sigmas[:-1].numpy(), rtol=2e-6)
    for i in (0, 4, 8):  # the network sees the same input and time, and the estimate is the same
        x, out, sigma = (
            torch.randn(2, 3, dtype=torch.float64),
            torch.randn(2, 3, dtype=torch.float64),
            s.sigmas[i].double(),
        )
        seen = []
        estimate = p.denoiser(lambda y, t, seen=seen, out=out: seen.extend((y, t)) or out)(x, path[i])
        torch.testing.assert_close(seen[0], s.precondition_inputs(x, sigma), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(seen[1].float().reshape(()), s.timesteps[i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(estimate, s.precondition_outputs(x, out, sigma), atol=1e-5, rtol=1e-5)
    assert (
        read({"_class_name": f"{kind}Scheduler", "sigma_schedule": "exponential"}).defaults["spacing"]
        == "logsnr"
    )


# --- grids --------------------------------------------------------------------------------------------------


def grid(got, n):
    c, d = curve(got.process), got.defaults
    path = c.path(n, d["spacing"], **d.get("spacing_options", {}))
    return np.array([float(c.timestep(l)) for l in path[:-1]]), np.array([float(l.ratio) for l in path[:-1]])


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("kind", ["DDIM", "DDPM", "EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_timesteps_equal_those_of_the_other_library(kind, spacing, offset):
    config = {**SD, "timestep_spacing": spacing, "steps_offset": offset}
    s, got = theirs(kind, **config), ours(kind, **config)
    for n in STEPS:
        if spacing == "linspace" and n == 1:
            continue  # theirs is t = 0: no noise to take away
        if spacing == "leading" and n == 1000 and offset:
            continue  # theirs runs off the end of the schedule
        if n == 1000 and kind == "LMSDiscrete":
            continue  # slow
        s.set_timesteps(n)
        t = s.timesteps.double().numpy()
        atol = (
            1e-6 if spacing != "linspace" or kind in ("DDIM", "DDPM") else 0.5001
        )  # sigma schedulers keep the fractions
        np.testing.assert_allclose(grid(got, n)[0], t, atol=atol, rtol=0, err_msg=f"n = {n}")


@pytest.mark.parametrize(
    "kind", ["DPMSolverMultistep", "UniPCMultistep", "DEISMultistep", "DPMSolverSinglestep"]
)
def test_the_linspace_of_solvers_is_our_trailing_grid(kind):
    s, got = theirs(kind, **SD), ours(kind, **SD)
    for n in STEPS[:-1]:
        if kind == "DPMSolverSinglestep" and n == 1:
            continue
        s.set_timesteps(n)
        assert abs(grid(got, n)[0] - s.timesteps.double().numpy()).max() < 1.001


@pytest.mark.parametrize("kind", ["DPMSolverMultistep", "UniPCMultistep", "DEISMultistep"])
def test_trailing_timesteps_of_solvers(kind):
    s, got = theirs(kind, **SD, timestep_spacing="trailing"), ours(kind, **SD, timestep_spacing="trailing")
    for n in STEPS:
        s.set_timesteps(n)
        np.testing.assert_allclose(grid(got, n)[0], s.timesteps.double().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("EulerDiscrete", "use_karras_sigmas"),
        ("LMSDiscrete", "use_karras_sigmas"),
        ("DPMSolverMultistep", "use_karras_sigmas"),
        ("DPMSolverMultistep", "use_lu_lambdas"),
        ("DPMSolverMultistep", "use_exponential_sigmas"),
        ("UniPCMultistep", "use_karras_sigmas"),
        ("DEISMultistep", "use_exponential_sigmas"),
        ("DPMSolverSinglestep", "use_karras_sigmas"),
        ("EulerDiscrete", "use_exponential_sigmas"),
    ],
)
@pytest.mark.parametrize("n", [2, 7, 20])
def test_sigmas_of_warped_grids(kind, key, n):
    s, got = theirs(kind, **SD, **{key: True}), ours(kind, **SD, **{key: True})
    s.set_timesteps(n)
    np.testing.assert_allclose(grid(got, n)[1], s.sigmas[:n].double().numpy(), rtol=3e-5)


def test_lcm_timesteps_where_n_divides_its_50():
    s, got = theirs("LCM"), ours("LCM")
    for n in (1, 2, 5, 10, 25, 50):
        s.set_timesteps(n)
        np.testing.assert_allclose(grid(got, n)[0], s.timesteps.double().numpy(), atol=1e-6)


def test_offset_and_clip_as_given_and_as_in_latent_pipelines():
    config = {"_class_name": "DDIMScheduler", **SD}
    assert read(config).defaults == {
        "sampler": "ddim",
        "spacing": "leading",
        "spacing_options": {"offset": 0},
        "clip": 1.0,
    }
    assert read(config, latents=True).defaults == {"sampler": "ddim", "spacing": "leading"}
    assert read({**config, "clip_sample": True, "clip_sample_range": 2.5}).defaults["clip"] == 2.5


# --- one whole run: the rule and its options are those of the class -----------------------------------------

MEANS, SPREAD = torch.tensor([-1.0, 0.4, 1.2], dtype=torch.float64), 0.3


def exact(x, l):
    """E[x0 | x] of a mixture of three Gaussians, float64."""
    var = (l.alpha * SPREAD) ** 2 + l.sigma**2
    off = x[..., None] - l.alpha * MEANS
    each = MEANS + l.alpha * SPREAD**2 / var * off
    return (torch.softmax(-(off**2) / (2 * var), -1) * each).sum(-1)


RUNS = {
    "ddim": ("DDIM", {"clip_sample": False, "timestep_spacing": "trailing"}, 1e-6),
    "ddim v": (
        "DDIM",
        {"clip_sample": False, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
        1e-6,
    ),
    "ddim x0": (
        "DDIM",
        {"clip_sample": False, "timestep_spacing": "trailing", "prediction_type": "sample"},
        1e-6,
    ),
    "ddim zsnr": (
        "DDIM",
        {
            "clip_sample": False,
            "timestep_spacing": "trailing",
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
        },
        1e-5,
    ),
    "ddpm": ("DDPM", {"clip_sample": False, "timestep_spacing": "trailing"}, 1e-5),
    "ddpm large": (
        "DDPM",
        {"clip_sample": False, "variance_type": "fixed_large"},
        1e-5,
    ),  # the last t is 0: else theirs ends in noise
    "ddpm clip": ("DDPM", {"timestep_spacing": "trailing", "clip_sample_range": 0.7}, 1e-5),
    "euler": ("EulerDiscrete", {"timestep_spacing": "trailing"}, 1e-5),
    "euler karras": ("EulerDiscrete", {"use_karras_sigmas": True}, 1e-4),
    "euler a": ("EulerAncestralDiscrete", {"timestep_spacing": "trailing"}, 1e-5),
    "heun": ("HeunDiscrete", {"timestep_spacing": "trailing"}, 1e-4),
    "lms": ("LMSDiscrete", {"timestep_spacing": "trailing"}, 1e-3),
    "pndm": (
        "PNDM",
        {"timestep_spacing": "trailing", "skip_prk_steps": True, "set_alpha_to_one": True},
        1e-5,
    ),
    "2m": ("DPMSolverMultistep", {"timestep_spacing": "trailing"}, 1e-5),
    "2m, first order": ("DPMSolverMultistep", {"timestep_spacing": "trailing", "solver_order": 1}, 1e-5),
    "2m sde": (
        "DPMSolverMultistep",
        {"timestep_spacing": "trailing", "algorithm_type": "sde-dpmsolver++"},
        1e-5,
    ),
    "sde, first order": (
        "DPMSolverMultistep",
        {"timestep_spacing": "trailing", "algorithm_type": "sde-dpmsolver++", "solver_order": 1},
        1e-5,
    ),
    "unipc": ("UniPCMultistep", {"timestep_spacing": "trailing"}, 1e-5),
    "unipc 3": (
        "UniPCMultistep",
        {"timestep_spacing": "trailing", "solver_order": 3, "lower_order_final": False},
        1e-5,
    ),
    "unipc 3 bh1": (
        "UniPCMultistep",
        {"timestep_spacing": "trailing", "solver_order": 3, "solver_type": "bh1", "lower_order_final": False},
        1e-5,
    ),
    "deis": ("DEISMultistep", {"timestep_spacing": "trailing"}, 1e-5),
    "deis 3": (
        "DEISMultistep",
        {"timestep_spacing": "trailing", "solver_order": 3, "lower_order_final": False},
        1e-5,
    ),
    "lcm": ("LCM", {}, 1e-5),
}


BUT_LAST = (
    "unipc 3",
    "unipc 3 bh1",
    "deis",
    "deis 3",
)  # theirs goes to sigma = 0 at order 4, into nan, or not at all


@pytest.mark.parametrize("name", RUNS)
def test_a_run_equals_the_other_librarys(name, monkeypatch):
    kind, config, tolerance = RUNS[name]
    config, n = {**SD, **config}, 10
    s, got = theirs(kind, **config), ours(kind, **config)
    p, d = resolve(got.process), got.defaults
    path = p.curve.path(n, d["spacing"], **d.get("spacing_options", {}))
    noises = [
        torch.randn(64, 1, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        for i in range(n + 1)
    ]
    clip = (lambda x0: x0.clamp(-d["clip"], d["clip"])) if "clip" in d else (lambda x0: x0)
    draws = iter(noises[1:])
    run = SAMPLERS[d["sampler"]](
        lambda x, l: clip(exact(x, l)),
        noises[0] * path[0].sigma,
        path,
        lambda *_: next(draws),
        **d.get("options", {}),
    )
    states = [state.x for state in run]

    drawn = iter(noises[1:])
    monkeypatch.setattr(
        importlib.import_module(type(s).__module__),
        "randn_tensor",
        lambda *a, **k: next(drawn),
        raising=False,
    )
    s.set_timesteps(n)
    x, of_sigma = noises[0] * path[0].sigma, kind.endswith("Discrete")
    if of_sigma:
        x = x / path[0].alpha
    levels = iter(np.asarray(s.sigmas)) if of_sigma else None
    for t in s.timesteps[: n - 1 if name in BUT_LAST else None]:
        l = p.curve.at(float(t)) if levels is None else of_ratio(next(levels))
        y = s.scale_model_input(x, t).double()
        x0 = exact(y, l)
        x = s.step(predict.target(p.kind, x0, (y - l.alpha * x0) / l.sigma, l), t, x).prev_sample.double()
    if of_sigma and name in BUT_LAST:
        x = x * path[-2].alpha
    torch.testing.assert_close(states[-2 if name in BUT_LAST else -1], x, atol=tolerance, rtol=0)


def of_ratio(r):
    r = torch.as_tensor(float(r), dtype=torch.float64)
    return schedule.Level(1 / (1 + r * r).sqrt(), r / (1 + r * r).sqrt())


# --- what else a file can say -------------------------------------------------------------------------------


def test_nearest_samplers_say_so():
    for kind, sampler in (
        ("PNDM", "plms"),
        ("KDPM2Discrete", "dpmpp_2s"),
        ("KDPM2AncestralDiscrete", "dpmpp_2s"),
        ("DPMSolverSinglestep", "dpmpp_2s"),
        ("DPMSolverSDE", "dpmpp_sde"),
    ):
        got = ours(kind)
        assert got.defaults["sampler"] == sampler
        assert any(sampler in n or "theirs" in n for n in got.notes)
    assert ours("DDIM", clip_sample=False).notes == () == ours("DPMSolverMultistep").notes
    assert len(ours("DPMSolverMultistep", solver_order=3).notes) == 1
    assert "cleanest" in ours("DDIM", set_alpha_to_one=False, clip_sample=False).notes[0]
    assert (
        "cleanest"
        in ours("EulerDiscrete", final_sigmas_type="sigma_min", timestep_spacing="trailing").notes[0]
    )
    assert ours("KDPM2AncestralDiscrete").defaults["options"] == {"eta": 1.0}
    assert ours(
        "DPMSolverMultistep", algorithm_type="dpmsolver", final_sigmas_type="sigma_min", solver_order=3
    ).defaults["options"] == {"order": 3}


def test_keys_of_other_classes_are_ignored_as_there():
    # the file of Stable Diffusion 2.1: DDIM with keys of PNDM
    config = {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.8.0",
        **SD,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    }
    got = read(config)
    assert got.process == ProcessSection(schedule="scaled_linear", predict="v")
    assert got.defaults == {"sampler": "ddim", "spacing": "leading"}
    assert (
        ours("DDIM", solver_order=9, clip_sample=False, use_karras_sigmas=True).defaults["sampler"] == "ddim"
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "_class_name.*missing"),
        ({"_class_name": "EulerDiscretScheduler"}, "did you mean 'EulerDiscreteScheduler'"),
        ({"_class_name": ["DDIM"]}, "unknown scheduler class"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "SD3, Flux"),
        ({"thresholding": True}, "thresholding = True"),
        ({"beta_schedule": "sigmoid"}, "sigmoid"),
        ({"beta_schedule": "laplace"}, "unknown beta_schedule"),
        ({"beta_schedule": ["linear"]}, "unknown beta_schedule"),
        ({"beta_start": "0.1"}, "beta_start must be a number"),
        ({"beta_start": -0.1, **{k: SD[k] for k in ("beta_schedule",)}}, "beta_start must be"),
        ({"beta_end": float("nan")}, "beta_end must be"),
        ({"num_train_timesteps": 1e3}, "num_train_timesteps must be a whole"),
        ({"num_train_timesteps": 10**12}, "num_train_timesteps must be a whole"),
        ({"num_train_timesteps": True}, "num_train_timesteps must be a whole"),
        ({"prediction_type": "flow_prediction"}, "unknown prediction_type"),
        ({"rescale_betas_zero_snr": True}, "v_prediction"),
        ({"timestep_spacing": "even"}, "unknown timestep_spacing"),
        ({"steps_offset": -1}, "steps_offset"),
        ({"clip_sample_range": "1"}, "clip_sample_range"),
        ({"trained_betas": "linear"}, "trained_betas"),
        ({"trained_betas": [0.1, 2.0]}, "trained_betas"),
        ({"_class_name": "DDPMScheduler", "variance_type": "learned_range"}, "unknown variance_type"),
        ({"_class_name": "DDPMScheduler", "variance_type": "fixed_large_log"}, "unknown variance_type"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas"),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 4}, "solver_order"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "magic"}, "unknown algorithm_type"),
        ({"_class_name": "DPMSolverMultistepScheduler", "variance_type": "learned"}, "variance_type"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True, "use_lu_lambdas": True},
            "only one of",
        ),
        ({"_class_name": "DPMSolverMultistepScheduler", "final_sigmas_type": "one"}, "final_sigmas_type"),
        ({"_class_name": "UniPCMultistepScheduler", "predict_x0": False}, "predict_x0"),
        ({"_class_name": "UniPCMultistepScheduler", "disable_corrector": [0]}, "disable_corrector"),
        ({"_class_name": "EulerDiscreteScheduler", "interpolation_type": "log_linear"}, "interpolation_type"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type"),
        ({"_class_name": "EulerDiscreteScheduler", "sigma_max": 700.0}, "sigma_max"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}, "v_prediction"),
        ({"_class_name": "EDMEulerScheduler", "sigma_min": 90.0}, "sigma_max"),
        ({"_unnoise": 3}, "must be an object"),
        ({"_unnoise": {"schedul": "ddpm"}}, "unnoise.schedule"),
        ({"_unnoise": {}, "_unnoise_defaults": {"sampler": "eulr"}}, "did you mean 'euler'"),
        (
            {"_unnoise": {}, "_unnoise_defaults": {"sampler": ["euler"]}},
            "sampler: input should be a valid string",
        ),
        (
            {"_unnoise": {}, "_unnoise_defaults": {"sampler": "euler", "options": {"eta": 1}}},
            "unknown option",
        ),
        (
            {"_unnoise": {}, "_unnoise_defaults": {"spacing": "karras", "spacing_options": {"offset": 1}}},
            "unknown option",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(config, said):
    with pytest.raises(BadInput, match=said) as e:
        read({"_class_name": "DDIMScheduler", "clip_sample": True, **config} if config else {})
    assert "\n" not in str(e.value)


# --- writing ------------------------------------------------------------------------------------------------

PROCESSES = [
    ProcessSection(),
    ProcessSection(schedule="scaled_linear", predict="eps"),
    ProcessSection(schedule="scaled_linear-zsnr", predict="v"),
    ProcessSection(
        schedule="ddpm",
        predict="x0",
        schedule_options={"T": 200, "start": 2e-4, "end": 0.03},
        weight="min_snr",
    ),
    ProcessSection(schedule="cosine", predict="v", schedule_options={"T": 64}, drop_label=0.3),
]
DEFAULTS = [
    {},
    {"sampler": "adams", "spacing": "few"},
    {"sampler": "dpmpp_2m", "spacing": "karras"},
    {"sampler": "euler", "spacing": "logsnr"},
    {"sampler": "ddpm", "options": {"variance": "large"}, "clip": 1.5},
    {"sampler": "unipc", "options": {"order": 3, "b_h": "bh1"}},
    {"sampler": "euler_ancestral", "spacing": "leading", "spacing_options": {"offset": 0}},
    {"sampler": "ab", "options": {"order": 3}},
    {"sampler": "heun", "spacing": "linspace"},
    {"sampler": "dpmpp_2m_sde"},
    {"sampler": "dpmpp_3m"},
    {"sampler": "lms"},
    {"sampler": "dpmpp_2s"},
    {"sampler": "consistency"},
    {"sampler": "dpmpp_sde"},
    {"sampler": "ddim", "options": {"eta": 0.5}},
]


@pytest.mark.parametrize("defaults", DEFAULTS, ids=lambda d: d.get("sampler", "none"))
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.schedule + p.predict)
def test_what_is_written_reads_back_and_opens_in_the_other_library(process, defaults):
    config = json.loads(json.dumps(write(process, defaults)))
    got = read(config)
    assert (got.process, got.defaults) == (process, defaults)
    s = getattr(diffusers, config["_class_name"]).from_config(config)
    np.testing.assert_allclose(
        curve(process).alphas ** 2, s.alphas_cumprod.double().numpy(), rtol=2e-5, atol=1e-7
    )
    assert {k: s.config[k] for k in config if k in KEYS[config["_class_name"].removesuffix("Scheduler")]} == {
        k: v for k, v in config.items() if k in s.config and not k.startswith("_")
    }
    assert s.config.get("clip_sample", False) is ("clip" in defaults and "clip_sample" in s.config)
    s.set_timesteps(5)
    x = torch.randn(2, 1, 4, 4)
    for t in s.timesteps:
        out = s.step(s.scale_model_input(x, t), t, x)
        x = getattr(out, "prev_sample", x)
    assert torch.isfinite(x).all()


def test_the_class_written_is_that_of_the_default_sampler():
    p = ProcessSection(schedule="scaled_linear", predict="eps")
    for sampler, kind in (
        ("ddim", "DDIM"),
        ("ddpm", "DDPM"),
        ("euler", "EulerDiscrete"),
        ("euler_ancestral", "EulerAncestralDiscrete"),
        ("heun", "HeunDiscrete"),
        ("lms", "LMSDiscrete"),
        ("plms", "PNDM"),
        ("dpmpp_2m", "DPMSolverMultistep"),
        ("unipc", "UniPCMultistep"),
        ("ab", "DEISMultistep"),
        ("dpmpp_2s", "DPMSolverSinglestep"),
        ("consistency", "LCM"),
        ("adams", "DDIM"),
        ("adam", "DDIM"),
    ):
        config = write(p, {"sampler": sampler})
        assert config["_class_name"] == f"{kind}Scheduler"
        del config["_unnoise"], config["_unnoise_defaults"]
        if kind != "DDIM":
            assert read(config).defaults["sampler"] == sampler
    assert write(p, {"sampler": "dpmpp_2m", "spacing": "karras"})["use_karras_sigmas"] is True


def test_a_published_file_that_another_program_changed_is_believed():
    p = ProcessSection(schedule="scaled_linear", predict="eps", weight="min_snr")
    config = write(p, {"sampler": "adams", "spacing": "few"})
    assert read(config).process == p
    assert read({**config, "prediction_type": "v_prediction"}).process == ProcessSection(
        schedule="scaled_linear", predict="v"
    )
    swapped = diffusers.EulerDiscreteScheduler.from_config(diffusers.DDIMScheduler.from_config(config).config)
    again = json.loads(swapped.to_json_string())
    assert "_unnoise" in again  # it carries our section along without knowing what it says
    assert read(again).defaults["sampler"] == "euler"


@pytest.mark.parametrize(
    "process",
    [
        ProcessSection(schedule="flow", predict="velocity", frame="convex"),
        ProcessSection(schedule="sigmoid"),
        ProcessSection(schedule="cosine", schedule_options={"s": 0.1}),
        ProcessSection(clock="none"),
        ProcessSection(schedule="edm", predict="edm", frame="clean_scale"),
        ProcessSection(schedule="scaled_linear-zsnr", predict="eps"),
    ],
)
def test_what_has_no_published_class_is_ours_alone(process):
    config = write(process, {"sampler": "adams", "spacing": "few"})
    assert config["_class_name"] == OURS
    assert read(config).process == process
    assert read(config).defaults == {"sampler": "adams", "spacing": "few"}


def test_edm_is_written_as_its_classes():
    p = ProcessSection(
        schedule="edm",
        predict="edm:0.7",
        frame="whiten",
        clock="c_noise",
        weight="edm",
        weight_options={"sigma_data": 0.7},
        schedule_options={"sigma_max": 30.0},
    )
    for sampler, kind in (("dpmpp_2m", "EDMDPMSolverMultistep"), ("euler", "EDMEuler")):
        config = write(p, {"sampler": sampler, "spacing": "karras"})
        assert config["_class_name"] == f"{kind}Scheduler"
        s = getattr(diffusers, f"{kind}Scheduler").from_config(config)
        assert (s.config.sigma_data, s.config.sigma_max, s.config.sigma_min) == (0.7, 30.0, 0.002)
        del config["_unnoise"], config["_unnoise_defaults"]
        assert read(config).process == p


def test_files_written_before_defaults_were_kept_still_read(tiny):
    config = json.loads((tiny / "scheduler" / "scheduler_config.json").read_text())
    assert read(config).process == ProcessSection(**config["_unnoise"])


def test_names_exist():
    assert set(schedulers._PLAIN) | {
        "DDPM",
        "DPMSolverMultistep",
        "DPMSolverSinglestep",
        "UniPCMultistep",
        "DEISMultistep",
        "EDMDPMSolverMultistep",
    } == set(KEYS)
    for name, options in schedulers._PLAIN.values():
        assert set(options) <= set(SAMPLERS[name].options)
