"""Published `scheduler_config.json` files <-> our process (schedule, prediction), sampler and grid.

A published scheduler is four things in one class: the betas it was trained with, what the network predicts, a
one-step rule and a grid of timesteps. `read` takes them apart: the first two are facts about the network
(`ProcessSection`), the others are only what to do unless asked otherwise (`defaults`, in the names of a
pipeline's call). `write` puts them together again.

What a class does with a key that the file leaves out is its own default, so the defaults stand here by class
(`KEYS`). Keys that a class does not have are ignored, as diffusers ignores them. A value that would change
the result and is not done here is refused; where ours is only the nearest, a note says what differs.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from unnoise.base.errors import BadInput, unknown
from unnoise.base.read import fit
from unnoise.base.text import short
from unnoise.hub.index import Defaults
from unnoise.process import schedule
from unnoise.process.schedule import GRIDS, SCHEDULES
from unnoise.process.section import ProcessSection
from unnoise.sample import SAMPLERS

OURS = "UnnoiseSchedule"  # the class named in the file of a process that no published scheduler has
VERSION = "0.35.0"  # of diffusers, whose keys are written


@dataclass(frozen=True)
class Sampling:
    """What a scheduler file says. process: schedule, prediction, frame and clock. defaults: `sampler`,
    `spacing`, and only where they differ from ours `spacing_options`, `options` (the sampler's) and `clip`
    (x0 is held to [-clip, clip]: guide.shaping). notes: in which ways diffusers, given the same file, would
    do something else; one line each."""

    process: ProcessSection
    defaults: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


# --- the published classes: the keys that change what they do, with the class's own defaults ----------------

_BETAS = dict(
    num_train_timesteps=1000,
    beta_start=1e-4,
    beta_end=0.02,
    beta_schedule="linear",
    trained_betas=None,
    prediction_type="epsilon",
)
_SD = _BETAS | dict(beta_start=0.00085, beta_end=0.012)
_LEADING = dict(timestep_spacing="leading", steps_offset=0)
_LINSPACE = dict(timestep_spacing="linspace", steps_offset=0)
_SIGMAS = dict(use_karras_sigmas=False, use_exponential_sigmas=False, use_beta_sigmas=False)
_ZERO = dict(rescale_betas_zero_snr=False)
_CLIP = dict(clip_sample=True, clip_sample_range=1.0)
_SOLVER = dict(solver_order=2, thresholding=False, use_flow_sigmas=False, use_dynamic_shifting=False)
_DPM = _SOLVER | dict(
    algorithm_type="dpmsolver++",
    solver_type="midpoint",
    final_sigmas_type="zero",
    lambda_min_clipped=-math.inf,
    variance_type=None,
)
_EDM = dict(
    sigma_min=0.002,
    sigma_max=80.0,
    sigma_data=0.5,
    sigma_schedule="karras",
    num_train_timesteps=1000,
    prediction_type="epsilon",
    rho=7.0,
    final_sigmas_type="zero",
)

KEYS: dict[str, dict[str, Any]] = {
    "DDIM": _BETAS | _LEADING | _ZERO | _CLIP | dict(set_alpha_to_one=True, thresholding=False),
    "DDPM": _BETAS | _LEADING | _ZERO | _CLIP | dict(variance_type="fixed_small", thresholding=False),
    "PNDM": _BETAS | _LEADING | dict(set_alpha_to_one=False, skip_prk_steps=False),
    "LMSDiscrete": _BETAS | _LINSPACE | _SIGMAS,
    "EulerDiscrete": (
        _BETAS
        | _LINSPACE
        | _SIGMAS
        | _ZERO
        | dict(
            interpolation_type="linear",
            timestep_type="discrete",
            sigma_min=None,
            sigma_max=None,
            final_sigmas_type="zero",
        )
    ),
    "EulerAncestralDiscrete": _BETAS | _LINSPACE | _ZERO,
    "HeunDiscrete": _SD | _LINSPACE | _SIGMAS | _CLIP | dict(clip_sample=False),
    "KDPM2Discrete": _SD | _LINSPACE | _SIGMAS,
    "KDPM2AncestralDiscrete": _SD | _LINSPACE | _SIGMAS,
    "DPMSolverMultistep": _BETAS | _LINSPACE | _SIGMAS | _ZERO | _DPM | dict(use_lu_lambdas=False),
    "DPMSolverSinglestep": _BETAS | _SIGMAS | _DPM,
    "DPMSolverSDE": _SD | _LINSPACE | _SIGMAS,
    "UniPCMultistep": (
        _BETAS
        | _LINSPACE
        | _SIGMAS
        | _ZERO
        | _SOLVER
        | dict(
            solver_type="bh2",
            predict_x0=True,
            disable_corrector=[],
            solver_p=None,
            final_sigmas_type="zero",
            sigma_min=None,
            sigma_max=None,
            shift_terminal=None,
        )
    ),
    "DEISMultistep": _BETAS | _LINSPACE | _SIGMAS | _SOLVER | dict(algorithm_type="deis"),
    "LCM": (
        _SD
        | _ZERO
        | _CLIP
        | dict(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=True, thresholding=False)
    ),
    "EDMEuler": _EDM,
    "EDMDPMSolverMultistep": (
        _EDM | dict(solver_order=2, thresholding=False, algorithm_type="dpmsolver++", solver_type="midpoint")
    ),
}
_TWICE = {"DDIMParallel": "DDIM", "DDPMParallel": "DDPM"}  # the same under another name

# The values of a key that are done here; any other asks for something else. (EDM's classes have sigma_min as
# a number.)
_DONE: dict[str, tuple] = {
    "thresholding": (False, None),
    "use_flow_sigmas": (False, None),
    "use_dynamic_shifting": (False, None),
    "predict_x0": (True,),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "sigma_min": (None,),
    "sigma_max": (None,),
    "solver_p": (None,),
    "shift_terminal": (None,),
    "disable_corrector": ([], None),
    "final_sigmas_type": ("zero", "sigma_min"),
}
_PREDICT = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_CURVES = {"linear": "ddpm", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
_WARPS = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "logsnr",
    "use_lu_lambdas": "logsnr",
    "use_beta_sigmas": "beta",
}
_SPACED = ("leading", "trailing", "linspace")
_ONE_MORE = (
    "DPMSolverMultistep",
    "DPMSolverSinglestep",
    "UniPCMultistep",
    "DEISMultistep",
)  # n + 1 timesteps, the last left out
_OF_SIGMA = (
    "LMSDiscrete",
    "EulerDiscrete",
    "HeunDiscrete",
    "KDPM2Discrete",
    "KDPM2AncestralDiscrete",
    "DPMSolverSDE",
)

# One rule, whatever the other keys say, and what of it is only near to the published class.
_PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "DDIM": ("ddim", {}),
    "LMSDiscrete": ("lms", {}),
    "EulerDiscrete": ("euler", {}),
    "EulerAncestralDiscrete": ("euler_ancestral", {}),
    "HeunDiscrete": ("heun", {}),
    "DPMSolverSDE": ("dpmpp_sde", {}),
    "LCM": ("consistency", {}),
    "EDMEuler": ("euler", {}),
    "PNDM": ("plms", {}),
    "KDPM2Discrete": ("dpmpp_2s", {}),
    "KDPM2AncestralDiscrete": ("dpmpp_2s", {"eta": 1.0}),
}
_NEAR = {
    "KDPM2Discrete": (
        "KDPM2 takes its middle estimate for the noise, dpmpp_2s for the clean sample: the nearest"
    ),
    "KDPM2AncestralDiscrete": (
        "KDPM2 takes its middle estimate for the noise, dpmpp_2s for the clean sample: the nearest, at"
        " eta = 1"
    ),
    "DPMSolverSinglestep": (
        "the single-step solver shares its n calls among steps of one and two; dpmpp_2s makes two in each"
        " of n"
    ),
    "DPMSolverSDE": (
        "theirs combines the noises of its two half-steps otherwise: the same in distribution only"
    ),
    "LCM": "theirs picks timesteps from the 50 of its distillation: the same where n divides 50",
}


class SchedulerFile(BaseModel):
    """The types of those keys that are only asked whether they are set; the others are each looked at where
    they are used.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    trained_betas: Annotated[list[float], Field(max_length=1_000_000)] | None = None
    use_karras_sigmas: bool | None = None
    use_exponential_sigmas: bool | None = None
    use_beta_sigmas: bool | None = None
    use_lu_lambdas: bool | None = None
    rescale_betas_zero_snr: bool | None = None
    clip_sample: bool | None = None
    set_alpha_to_one: bool | None = None
    skip_prk_steps: bool | None = None
    lambda_min_clipped: float | None = None


# --- reading ------------------------------------------------------------------------------------------------


def read(config: dict, latents: bool = False) -> Sampling:
    """The process, sampler and grid of a `scheduler_config.json`, published or ours.

    latents: read as diffusers' Stable Diffusion pipelines do, which clip no latents and take steps_offset = 1
    whatever the file says. Ours are read from their own section, unless another program has changed the
    published keys beside it. BadInput: an unknown class, a value of the wrong type, or one that asks for what
    is not done here (it says which is).
    """
    fit(SchedulerFile, config, "scheduler")
    section = config.get(
        "_unnoise", config.get("unnoise")
    )  # diffusers warns of keys that it does not know, but for "_" ones
    if section is None:
        return _published(config, latents)
    own = Sampling(_section(section), checked(config.get("_unnoise_defaults", {})))
    if config.get("_class_name") == OURS:
        return own
    theirs = _published(config, latents)
    return own if theirs == _published(write(own.process, own.defaults), latents) else theirs


def unsaid(config: dict) -> str | None:
    """A line on a scheduler file of a latent model that names no beta_schedule, else None: diffusers' default
    is not Stable Diffusion's.
    """
    kind = str(config.get("_class_name")).removesuffix("Scheduler")
    known = KEYS.get(_TWICE.get(kind, kind), {})
    if (
        "beta_schedule" not in known
        or config.get("beta_schedule")
        or config.get("trained_betas")
        or {"_unnoise", "unnoise"} & set(config)
    ):
        return None
    return (
        f"beta_schedule is not given: {kind}'s default {known['beta_schedule']!r} is taken, where Stable"
        " Diffusion was trained with 'scaled_linear' from 0.00085 to 0.012"
    )


def _section(section: Any) -> ProcessSection:
    if not isinstance(section, dict):
        raise BadInput(f"scheduler: the section 'unnoise' must be an object, given {short(section)}")
    own = fit(ProcessSection, section, "scheduler", "unnoise.")
    for name, value in own.schedule_options.items():
        if not -1e6 <= value <= 1e6:
            raise BadInput(
                f"scheduler: unnoise.schedule_options.{name} must be at most a million, given {short(value)}"
            )
    return own


def checked(defaults: Any, beside: dict[str, Any] | None = None) -> dict[str, Any]:
    """`defaults` as given, or BadInput when a value is of another type, or a sampler, grid or option that it
    names does not exist.

    beside: the defaults that hold where these say nothing.
    """
    fit(Defaults, defaults, "scheduler: defaults")
    whole = {**(beside or {}), **defaults}
    sampler, spacing = whole.get("sampler", "ddim"), whole.get("spacing", "trailing")
    if sampler not in SAMPLERS:
        raise unknown("sampler", sampler, SAMPLERS)
    if spacing not in GRIDS:
        raise unknown("spacing", spacing, GRIDS)
    if "options" in defaults:
        _check_options(defaults["options"], SAMPLERS[sampler].options, f"sampler {sampler!r}")
    if "spacing_options" in defaults:
        own = list(inspect.signature(GRIDS[spacing]).parameters.values())[2:]
        _check_options(defaults["spacing_options"], {p.name: p.default for p in own}, f"spacing {spacing!r}")
    return defaults


def _check_options(given: dict[str, Any], own: dict[str, Any], what: str) -> None:
    """BadInput on an option that is not there, or of another type than its default."""
    for name, value in given.items():
        if name not in own:
            raise unknown(f"option of {what}", name, own or ["none"])
        default, number = own[name], (int, float)
        if isinstance(default, bool | str):
            right = isinstance(value, type(default))
        elif isinstance(default, number):
            right = isinstance(value, number) and not isinstance(value, bool)
        else:
            right = True
        if not right:
            raise BadInput(f"option {name} of {what} is {short(value)}: a value like {default!r} is accepted")


# a branch a class of their schedulers
def _published(config: dict, latents: bool) -> Sampling:  # noqa: C901
    kind, c = _keys(config)
    notes = [_NEAR[kind]] if kind in _NEAR else []
    if kind.startswith("EDM"):
        process, defaults = _edm(c)
    else:
        if latents:
            c |= {k: v for k, v in (("clip_sample", False), ("steps_offset", 1)) if k in c}
        process, defaults = _process(c), _grid(kind, c, notes)
    name, options = _PLAIN[kind] if kind in _PLAIN else _solver(kind, c, notes)
    if options:
        defaults["options"] = options
    if kind == "PNDM" and not c["skip_prk_steps"]:
        notes.append(
            "theirs starts with three steps of Runge-Kutta, of four calls each; ours with one of two"
        )
    if kind == "PNDM" and c["prediction_type"] == "v_prediction":
        notes.append("theirs averages v of different times, ours the noise")
    if c.get("clip_sample"):
        defaults["clip"] = _number(c, "clip_sample_range", 0, math.inf)
        if kind == "DDIM":
            notes.append(
                "theirs moves with the clipped sample and the noise of the unclipped one, ours with the two"
                " that go together"
            )
    if (
        not c.get("set_alpha_to_one", True)
        or c.get("final_sigmas_type") == "sigma_min"
        or kind == "DEISMultistep"
    ):
        notes.append("theirs ends on the cleanest level and leaves its noise in; ours goes on to clean data")
    if c.get("lambda_min_clipped", -math.inf) > -math.inf:
        notes.append("lambda_min_clipped is not used: the grid starts at the noisiest level")
    return Sampling(process, checked({"sampler": name, **defaults}), tuple(notes))


def _keys(config: dict) -> tuple[str, dict[str, Any]]:
    """The class (without "Scheduler") and the values of all of its keys, the fixed ones checked."""
    given = config.get("_class_name")
    kind = str(given).removesuffix("Scheduler")
    kind = _TWICE.get(kind, kind)
    accepted = [f"{k}Scheduler" for k in KEYS]
    if given is None:
        raise BadInput(f"scheduler: '_class_name' is missing (accepted: {', '.join(accepted)})")
    if kind.startswith("FlowM"):
        raise BadInput(
            f"scheduler {given} is that of SD3, Flux and other flow models, which are not supported"
            f" (accepted: {', '.join(accepted)})"
        )
    if kind not in KEYS:
        raise unknown("scheduler class", given, accepted)
    c = {k: config.get(k, default) for k, default in KEYS[kind].items()}
    for key, done in _DONE.items():
        if key in c and c[key] not in done and not (kind.startswith("EDM") and key.startswith("sigma_m")):
            raise BadInput(
                f"scheduler {given}: {key} = {c[key]!r} is not supported (accepted:"
                f" {', '.join(map(repr, done[:2]))})"
            )
    return kind, c


def _number(c: dict, key: str, low: float, high: float) -> float:
    """A number strictly between low and high."""
    if not isinstance(c[key], (int, float)) or isinstance(c[key], bool) or not low < c[key] < high:
        raise BadInput(f"scheduler: {key} must be a number between {low} and {high}, given {c[key]!r}")
    return float(c[key])


def _whole(c: dict, key: str, low: int, high: int) -> int:
    if not isinstance(c[key], int) or isinstance(c[key], bool) or not low <= c[key] <= high:
        raise BadInput(f"scheduler: {key} must be a whole number from {low} to {high}, given {c[key]!r}")
    return c[key]


def _choice(c: dict, key: str, accepted: dict[str, Any]) -> Any:
    if not isinstance(c[key], str) or c[key] not in accepted:
        raise unknown(f"{key} in a scheduler", c[key], accepted)
    return accepted[c[key]]


def _process(c: dict) -> ProcessSection:
    """The curve of levels, and what the network predicts; its input is the variance-preserving sample and the
    timestep.
    """
    if c["beta_schedule"] == "sigmoid":
        raise BadInput(
            "scheduler: beta_schedule 'sigmoid' has betas along a sigmoid, ours has alpha-bar: not supported "
            f"(accepted: {', '.join(_CURVES)})"
        )
    name, options = _trained(c) if c["trained_betas"] is not None else _curve(c)
    predict = _choice(c, "prediction_type", _PREDICT)
    if c.get("rescale_betas_zero_snr"):
        if predict == "eps":
            raise BadInput(
                "scheduler: rescale_betas_zero_snr needs prediction_type v_prediction or sample, given"
                " epsilon: noise predicted where there is no signal says nothing of the image"
            )
        name += "-zsnr"
    schedule.named(name, **options)  # says what is wrong with the numbers
    return ProcessSection(schedule=name, schedule_options=options, predict=predict)


def _curve(c: dict) -> tuple[str, dict[str, float]]:
    """Our name of a beta schedule, and the options that differ from ours."""
    name = _choice(c, "beta_schedule", _CURVES)
    options: dict[str, float] = {"T": _whole(c, "num_train_timesteps", 2, 1_000_000)}
    if name != "cosine":
        options |= {"start": _number(c, "beta_start", 0, 1), "end": _number(c, "beta_end", 0, 1)}
    return name, _unlike(name, options)


def _unlike(name: str, options: dict[str, float]) -> dict[str, float]:
    ours = inspect.signature(SCHEDULES[name]).parameters
    return {k: v for k, v in options.items() if not math.isclose(v, ours[k].default, rel_tol=1e-6)}


def _trained(c: dict) -> tuple[str, dict[str, float]]:
    """The named schedule that a list of betas is, to float32's precision."""
    try:
        betas = np.asarray(c["trained_betas"], dtype=np.float64)
    except (TypeError, ValueError):
        betas = np.zeros(0)
    if betas.ndim != 1 or len(betas) < 2:
        raise BadInput("scheduler: trained_betas must be a list of at least 2 numbers")
    for name in _CURVES.values() if ((betas > 0) & (betas < 1)).all() else ():
        options: dict[str, float] = {"T": len(betas)}
        if name != "cosine":
            options |= {"start": float(betas[0]), "end": float(betas[-1])}
        options = _unlike(name, options)
        kept = schedule.named(name, **options).alphas ** 2
        if np.allclose(1 - kept / np.r_[1.0, kept[:-1]], betas, rtol=1e-5, atol=0):
            return name, options
    raise BadInput(
        f"scheduler: these trained_betas are none of the schedules that are supported ({', '.join(_CURVES)})"
    )


def _edm(c: dict) -> tuple[ProcessSection, dict[str, Any]]:
    """EDM's process; its grid is even in the rho-th root or in the logarithm of sigma."""
    if c["prediction_type"] != "epsilon":
        raise BadInput(
            f"scheduler: an EDM class with prediction_type {c['prediction_type']!r} is not supported"
            " (accepted: 'epsilon')"
        )
    sd, low = _number(c, "sigma_data", 0, math.inf), _number(c, "sigma_min", 0, math.inf)
    curve = dict(
        sigma_min=low, sigma_max=_number(c, "sigma_max", low, math.inf), rho=_number(c, "rho", 0, math.inf)
    )
    options = _unlike("edm", {**curve, "T": _whole(c, "num_train_timesteps", 2, 1_000_000)})
    spacing = _choice(c, "sigma_schedule", {"karras": "karras", "exponential": "logsnr"})
    defaults: dict[str, Any] = {"spacing": spacing}
    if spacing == "karras" and curve["rho"] != 7:
        defaults["spacing_options"] = {"rho": curve["rho"]}
    return (
        ProcessSection(
            schedule="edm",
            schedule_options=options,
            predict=f"edm:{sd:g}",
            frame="whiten",
            clock="c_noise",
            weight="edm",
            weight_options={"sigma_data": sd},
        ),
        defaults,
    )


# a branch a key of their grids
def _grid(kind: str, c: dict, notes: list[str]) -> dict[str, Any]:  # noqa: C901
    """`spacing`, and `spacing_options` where they differ from ours; adds to the notes."""
    warps = [key for key in _WARPS if c.get(key)]
    if len(warps) > 1:
        raise BadInput(f"scheduler: only one of {', '.join(warps)} can be set")
    named = _choice(c, "timestep_spacing", {s: s for s in _SPACED}) if "timestep_spacing" in c else None
    if warps:
        if warps == ["use_beta_sigmas"]:
            notes.append("theirs has Beta quantiles of sigma, ours of the timestep, as in the paper")
        if kind in _OF_SIGMA and named != "linspace":
            notes.append(
                f"theirs runs between the ends of its {named} timesteps, ours over the whole schedule"
            )
        if _endless(c):
            notes.append(
                "theirs begins at a sigma that stands for no signal at all (thousands), ours at exp(5.1)"
                " after its first level"
            )
        return {"spacing": _WARPS[warps[0]]}
    if kind == "LCM":
        return {"spacing": "trailing"}
    if kind in _ONE_MORE and named in (None, "linspace"):
        return {"spacing": "trailing"}  # T-1 to (T-1)/n: within one of trailing's
    if kind not in ("DDIM", "DDPM", "PNDM") and named == "linspace":
        notes.append("theirs has fractions in its linspace timesteps, ours whole ones")
    options = (
        {}
        if named != "leading" or (offset := _whole(c, "steps_offset", 0, 1_000_000)) == 1
        else {"offset": offset}
    )
    if kind in _ONE_MORE and named == "leading":
        options["extra"] = 1  # of n + 1 times they leave the last out
    return {"spacing": named} | ({"spacing_options": options} if options else {})


def _endless(c: dict) -> bool:
    """Whether the curve ends (almost) without signal, so that sigma / alpha does not."""
    return c["beta_schedule"] == "squaredcos_cap_v2" or bool(c.get("rescale_betas_zero_snr"))


def _solver(kind: str, c: dict, notes: list[str]) -> tuple[str, dict[str, Any]]:
    """The sampler of the classes in which further keys choose it, and its options."""
    if kind == "DDPM":
        # fixed_large_log is nan there, and the learned ones need twice the channels.
        sizes = {"fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large"}
        size = _choice(c, "variance_type", sizes)
        return "ddpm", {} if size == "small" else {"variance": size}
    order = _whole(c, "solver_order", 1, 3)
    if order == 3 and kind in ("UniPCMultistep", "DEISMultistep"):
        notes.append("theirs takes the step before the last at order 2, ours at order 3")
    if kind == "UniPCMultistep":
        b_h = _choice(
            c, "solver_type", {"bh1": "bh1", **dict.fromkeys(("bh2", "midpoint", "heun", "logrho"), "bh2")}
        )
        return "unipc", {
            k: v for k, v in (("order", order), ("b_h", b_h)) if v != SAMPLERS["unipc"].options[k]
        }
    if kind == "DEISMultistep":
        return "ab", {} if order == 2 else {"order": order}
    if c.get("variance_type") is not None:
        raise BadInput(f"scheduler: variance_type {c['variance_type']!r} is not supported (accepted: null)")
    types = ("dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver")
    return _dpm(
        kind,
        order,
        _choice(c, "algorithm_type", dict(zip(types, types)) | {"deis": "dpmsolver++"}),
        c["solver_type"],
        notes,
    )


# a branch a member of the family
def _dpm(  # noqa: C901
    kind: str, order: int, algorithm: str, solver: str, notes: list[str]
) -> tuple[str, dict[str, Any]]:
    """DPM-Solver's family: multistep or single step, of the SDE or the ODE, on the clean sample (++) or on
    the noise.
    """
    sde, plus, single = algorithm.startswith("sde"), algorithm.endswith("++"), kind == "DPMSolverSinglestep"
    if order == 1:
        return "ddim", {"eta": 1.0} if sde else {}  # all of them are DDIM then
    if solver == "heun":
        notes.append("solver_type 'heun' weighs the past otherwise; ours is 'midpoint'")
    if single:
        if order == 3 or not plus:
            notes.append(
                f"{algorithm} of order {order} is not built for single steps: dpmpp_2s is the nearest"
            )
        return "dpmpp_2s", {"eta": 1.0} if sde else {}
    if sde:
        if order == 3 or not plus:
            notes.append(f"{algorithm} of order {order} is not built: dpmpp_2m_sde is the nearest")
        return "dpmpp_2m_sde", {}
    if not plus:
        notes.append(
            "dpmsolver extrapolates the noise to the middle of a step, ab integrates it exactly: the nearest"
        )
        return "ab", {} if order == 2 else {"order": order}
    if order == 3:
        notes.append("dpmpp_3m solves for its weights, theirs takes half of the second difference")
    return ("dpmpp_2m" if order == 2 else "dpmpp_3m"), {}


# --- writing ------------------------------------------------------------------------------------------------

_KEPT = ("sampler", "spacing", "spacing_options", "options", "clip", "num_inference_steps")
_NO_SAMPLE = (
    "EulerAncestralDiscrete",
    "HeunDiscrete",
    "LMSDiscrete",
)  # which take no network that predicts x0
_WRITTEN = {
    name: kind for kind, (name, _) in _PLAIN.items() if kind not in _NEAR and not kind.startswith("EDM")
} | {
    "consistency": "LCM",
    "ddpm": "DDPM",
    "unipc": "UniPCMultistep",
    "ab": "DEISMultistep",
    "dpmpp_2m": "DPMSolverMultistep",
    "dpmpp_3m": "DPMSolverMultistep",
    "dpmpp_2m_sde": "DPMSolverMultistep",
    "dpmpp_2s": "DPMSolverSinglestep",
}


def write(process: ProcessSection, defaults: dict | None = None) -> dict:
    """A `scheduler_config.json`: diffusers' keys where a published class has this process, and ours whole
    under "_unnoise" (which diffusers passes over).

    The class is that of the default sampler where there is one and it takes this process, else DDIM with
    trailing timesteps. Nothing is clipped unless `defaults` has `clip`.
    """
    defaults = checked({k: v for k, v in (defaults or {}).items() if k in _KEPT})
    curve = _betas(process)
    d = _class(process, defaults, curve) if curve else _edm_class(process, defaults) or {"_class_name": OURS}
    return d | {"_unnoise": process.model_dump()} | ({"_unnoise_defaults": defaults} if defaults else {})


def _betas(p: ProcessSection) -> dict[str, Any] | None:
    """The published keys of a schedule and prediction, None where there are none."""
    base, zero, _ = p.schedule.partition("-zsnr")
    name = {ours: theirs for theirs, ours in _CURVES.items()}.get(base)
    predict = {ours: theirs for theirs, ours in _PREDICT.items()}.get(p.predict)
    if (
        name is None
        or predict is None
        or (p.frame, p.clock) != ("unit", "table")
        or (zero and p.predict == "eps")
    ):
        return None
    o = {k: v.default for k, v in inspect.signature(SCHEDULES[base]).parameters.items()} | p.schedule_options
    if base == "cosine" and (o["s"], o["max_beta"]) != (0.008, 0.999):
        return None
    return {
        "num_train_timesteps": int(o["T"]),
        "beta_start": o.get("start", 1e-4),
        "beta_end": o.get("end", 0.02),
        "beta_schedule": name,
        "trained_betas": None,
        "prediction_type": predict,
        "rescale_betas_zero_snr": bool(zero),
    }


def _class(p: ProcessSection, defaults: dict, curve: dict[str, Any]) -> dict[str, Any]:
    kind, extra = _twin(defaults)
    if (
        (curve["rescale_betas_zero_snr"] and "rescale_betas_zero_snr" not in KEYS[kind])
        or (p.predict == "x0" and kind in _NO_SAMPLE)
        or (kind == "PNDM" and p.predict != "eps")
    ):
        kind, extra = "DDIM", {}
    clip = defaults.get("clip")
    d = (
        curve
        | extra
        | {
            "set_alpha_to_one": True,
            "final_sigmas_type": "zero",
            "clip_sample": clip is not None,
            **_spacing(kind, defaults, curve),
        }
    )
    if extra.get("solver_type") == "bh1":
        d["final_sigmas_type"] = "sigma_min"  # theirs is nan on the way to sigma = 0
    if clip is not None:
        d["clip_sample_range"] = clip
    own = {k: v for k, v in d.items() if k in KEYS[kind]}
    return {"_class_name": f"{kind}Scheduler", "_diffusers_version": VERSION, **own}


def _twin(defaults: dict) -> tuple[str, dict[str, Any]]:
    """The published class of the default sampler, and the keys that make it so."""
    name = defaults.get("sampler", "ddim")
    o = {**SAMPLERS[name].options, **defaults.get("options", {})}
    if name == "plms":
        return "PNDM", {"skip_prk_steps": True}
    if name == "ddpm":
        return "DDPM", {"variance_type": f"fixed_{o['variance']}"}
    if name == "unipc" and o["order"] <= 3:
        return "UniPCMultistep", {"solver_order": o["order"], "solver_type": o["b_h"]}
    if name == "ab" and o["order"] <= 3 and o["variable"] == "logsnr":
        return "DEISMultistep", {"solver_order": o["order"]}
    if (
        name in ("unipc", "ab")
        or (name == "dpmpp_2s" and o["eta"])
        or (name in ("dpmpp_2m_sde", "euler_ancestral") and o["eta"] != 1)
    ):
        return "DDIM", {}
    algorithm = "sde-dpmsolver++" if name == "dpmpp_2m_sde" else "dpmsolver++"
    return _WRITTEN.get(name, "DDIM"), {
        "solver_order": 3 if name == "dpmpp_3m" else 2,
        "algorithm_type": algorithm,
    }


def _spacing(kind: str, defaults: dict, curve: dict[str, Any]) -> dict[str, Any]:
    name, keys = defaults.get("spacing", "trailing"), KEYS[kind]
    offset = {"steps_offset": defaults.get("spacing_options", {}).get("offset", 1)}
    if name in _SPACED:
        return {"timestep_spacing": name, **offset}
    warp = {"karras": "use_karras_sigmas", "logsnr": "use_exponential_sigmas"}.get(name)
    if warp in keys and not _endless(curve):
        return {"timestep_spacing": "linspace", warp: True, **offset}
    return {"timestep_spacing": "trailing", **offset}


def _edm_class(p: ProcessSection, defaults: dict) -> dict[str, Any] | None:
    """EDM's published classes, for networks preconditioned as there."""
    kind, _, sd = p.predict.partition(":")
    sd = float(sd or 0.5)
    if (p.schedule, kind, p.frame, p.clock) != ("edm", "edm", "whiten", "c_noise") or p.weight_options.get(
        "sigma_data", 0.5
    ) != sd:
        return None
    o = {k: v.default for k, v in inspect.signature(SCHEDULES["edm"]).parameters.items()} | p.schedule_options
    solver = defaults.get("sampler", "dpmpp_2m") == "dpmpp_2m"
    d = {
        "sigma_min": o["sigma_min"],
        "sigma_max": o["sigma_max"],
        "sigma_data": sd,
        "num_train_timesteps": int(o["T"]),
        "rho": o["rho"],
        "sigma_schedule": "exponential" if defaults.get("spacing") == "logsnr" else "karras",
        "prediction_type": "epsilon",
        "final_sigmas_type": "zero",
    }
    return {
        "_class_name": f"{'EDMDPMSolverMultistep' if solver else 'EDMEuler'}Scheduler",
        "_diffusers_version": VERSION,
        **d,
    }
