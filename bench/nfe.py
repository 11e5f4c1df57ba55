"""How exact is a sampler at N network calls? RMS endpoint error against the fine probability-flow solution.

    python -m bench.nfe [--json] [--mixture FILE] [--nfe 5,8,10,15,20] [--tune] [--noises 512] [--seed 0]
    [--ours-only]

The data are a Gaussian mixture, whose denoiser E[x0 | x] is exact, so that what is measured is the solver
alone. Everybody starts from the same x_T ~ N(0, I) at the last level of Stable Diffusion's schedule
(scaled_linear, sigma / alpha = 14.615) and
should arrive where the flow does at sigma = 0. All is float64. A row is one sampler with its options on one
grid:

    {"who", "sampler", "grid", "nfe", "calls", "rms", "default"}

`nfe` is the budget, `calls` <= nfe the calls really counted, `default` the row that a Pipeline uses when
nothing is asked for.
Peers are run as installed. Each is told the level that it itself believes to be at (not its rounded time
input), is given all
of its grids, and starts from x_T exactly (not from sigma_max * x_T, as some pipelines scale it): each of
these favours it.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

from unnoise.denoiser.oracle import Mixture
from unnoise.errors import BadInput
from unnoise.process import noise, schedule
from unnoise.process.level import ve
from unnoise.sample import SAMPLERS, last
from unnoise.sample.default import DEFAULT
from unnoise.tune import tune

SD = schedule.scaled_linear()
TOP = float(SD.sigmas[-1] / SD.alphas[-1])  # sigma / alpha at the start
END = float(SD.sigmas[0] / SD.alphas[0])  # and at the schedule's last level
COUNTS = (5, 8, 10, 15, 20)


class Exact:
    """The exact denoiser in the coordinates alpha = 1, x_ve = x / alpha, that counts its calls."""

    def __init__(self, mixture: Mixture):
        self.mixture, self.calls = mixture, 0

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """E[x0 | x_ve = x]."""
        self.calls += 1
        return self.mixture(x, ve(float(sigma)))

    def eps(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """(x - E[x0 | x]) / sigma."""
        return (x - self(x, sigma)) / float(sigma)


class Entry(NamedTuple):
    """A solver to measure: run(exact, x_ve at sigma = TOP, steps) -> x at sigma = 0; cost(steps) bounds the
    calls it makes."""

    who: str
    sampler: str
    grid: str
    run: Callable[[Exact, Tensor, int], Tensor]
    cost: Callable[[int], int] = lambda n: n
    default: bool = False


def start(mixture: Mixture, n: int, seed: int = 0) -> Tensor:
    """n draws of x_T ~ N(0, I), one a seed."""
    return noise.seeded(range(seed, seed + n), "bench")(torch.zeros(n, *mixture.shape, dtype=torch.float64))


def flow(mixture: Mixture, x: Tensor, steps: int = 1500, scale: float = 0.005) -> Tensor:
    """Where the probability flow takes x, from the schedule's last level to sigma = 0: classical Runge-Kutta
    of order 4.

    dx/dsigma = -sigma score (alpha = 1), with sigma = scale sinh(w) and w in equal steps: even in log sigma
    above `scale`, in
    sigma below it, so that the end needs no special case. Doubling the steps moves the ring's answer by less
    than 1e-9.
    """

    def slope(x: Tensor, w: float) -> Tensor:
        sigma = scale * math.sinh(w)
        return -sigma * scale * math.cosh(w) * mixture.score(x, ve(sigma))

    x, top = x * math.hypot(1, TOP), math.asinh(TOP / scale)
    h = -top / steps
    for i in range(steps):
        w = top + i * h
        end = w + h if i < steps - 1 else 0.0
        k1 = slope(x, w)
        k2 = slope(x + h / 2 * k1, w + h / 2)
        k3 = slope(x + h / 2 * k2, w + h / 2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(x + h * k3, end))
    return x


def rms(x: Tensor, y: Tensor) -> float:
    """The root mean square difference of two batches, over samples and coordinates."""
    return float((x - y).square().mean().sqrt())


# --- ours ---------------------------------------------------------------------------------------------------

VARIANTS: dict[str, list[dict]] = {
    "unipc": [{"order": p, "b_h": b} for p in (2, 3) for b in ("bh2", "bh1")],
    "ab": [{"order": p, "variable": v} for p in (2, 3) for v in ("logsnr", "sigma")],
    "gradient_estimation": [{}, {"gamma": 2.0}],
}


def ours() -> Iterator[Entry]:
    """Every deterministic sampler on every grid; the default pair is marked."""
    for (name, sampler), grid in itertools.product(SAMPLERS.items(), schedule.GRIDS):
        if sampler.stochastic:
            continue
        for options in VARIANTS.get(name, [{}]):
            if {**sampler.options, **options} == sampler.options:
                options = {}
            yield _own(name, grid, options)


def _own(name: str, grid: str, options: dict) -> Entry:
    sampler = SAMPLERS[name]
    path = lambda n: SD.path(n, grid)

    def run(exact: Exact, x: Tensor, n: int) -> Tensor:
        return last(
            sampler(lambda y, l: exact(y / l.alpha, l.ratio), x * path(1)[0].alpha, path(n), **options)
        )

    return Entry(
        "unnoise",
        _label(name, options),
        grid,
        run,
        lambda n: sampler.calls(path(n), **options),
        (name, grid) == DEFAULT and not options,
    )


def _label(name: str, options: dict) -> str:
    return name + (f"({', '.join(f'{k}={v}' for k, v in options.items())})" if options else "")


# --- diffusers ----------------------------------------------------------------------------------------------

_SD = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
_SPACED = {s: {"timestep_spacing": s} for s in ("trailing", "linspace", "leading")}
_SIGMAS = {s: {f"use_{s}_sigmas": True} for s in ("karras", "exponential", "beta")}
_GRIDS = _SPACED | _SIGMAS


def _choices(**options) -> Iterator[dict]:
    return (dict(zip(options, values)) for values in itertools.product(*options.values()))


def diffusers() -> Iterator[Entry]:
    """Its schedulers for discrete models, with the choices that change the result.

    Left out: its stochastic ones; Flow-match Euler and Heun, EDM Euler (Euler again); DPM-Solver with noise
    prediction, which
    it refuses to take to sigma = 0; IPNDM, whose noise schedule is fixed.
    """
    import diffusers as d

    d.utils.logging.set_verbosity_error()
    lu = _GRIDS | {"lu": {"use_lu_lambdas": True}}
    order = [{"solver_order": 2}, {"solver_order": 2, "solver_type": "heun"}, {"solver_order": 3}]
    for o, end in itertools.product(order, _choices(lower_order_final=(True, False))):
        yield from _vp(d.DPMSolverMultistepScheduler, lu, o | end)
    yield from _vp(d.DPMSolverMultistepScheduler, lu, {"solver_order": 2, "euler_at_final": True})
    for o in _choices(
        solver_order=(2, 3),
        solver_type=("bh2", "bh1"),
        predict_x0=(True, False),
        lower_order_final=(True, False),
    ):
        yield from _vp(d.UniPCMultistepScheduler, _GRIDS, o)
    for o in order:
        yield from _vp(d.DPMSolverSinglestepScheduler, {"": {}} | _SIGMAS, o)
    for o in _choices(solver_order=(2, 3), lower_order_final=(True, False)):
        yield from _vp(d.DEISMultistepScheduler, _GRIDS, o)
    for o in _choices(
        predictor_order=(2, 3), corrector_order=(2, 3)
    ):  # without noise: an Adams predictor and corrector
        yield from _vp(d.SASolverScheduler, _GRIDS, o, tau_func=lambda t: 0)
    for grid, o in _SPACED.items():
        yield _discrete(d.DDIMScheduler, grid, o | {"clip_sample": False})
        yield _discrete(
            d.PNDMScheduler, grid, o | {"skip_prk_steps": True, "set_alpha_to_one": True}, lambda n: n + 1
        )
    for grid, o in _GRIDS.items():
        yield _exploding(d.EulerDiscreteScheduler, grid, o)
        yield _exploding(d.HeunDiscreteScheduler, grid, o, lambda n: 2 * n - 1)
        yield _exploding(d.KDPM2DiscreteScheduler, grid, o, lambda n: 2 * n - 1)
        for p in (2, 3, 4):
            yield _exploding(d.LMSDiscreteScheduler, grid, o, order=p)
    for o, grid, low in itertools.product(order, ("karras", "exponential"), (END, 0.1)):
        yield _edm(
            d.EDMDPMSolverMultistepScheduler,
            f"{grid}, sigma_min={low:.2g}",
            o | {"sigma_schedule": grid, "sigma_min": low},
        )


def _name(cls: type, options: dict) -> str:
    shown = {
        k: v
        for k, v in options.items()
        if k
        not in (
            "timestep_spacing",
            "clip_sample",
            "sigma_min",
            "sigma_schedule",
            "skip_prk_steps",
            "set_alpha_to_one",
        )
        and not k.startswith("use_")
    }
    return _label(cls.__name__.removesuffix("Scheduler"), shown)


def _vp(cls: type, grids: dict[str, dict], options: dict, **private) -> Iterator[Entry]:
    """Schedulers whose sample preserves variance and that keep sigma / alpha of each step in `sigmas`."""
    for grid, o in grids.items():

        def run(exact: Exact, x: Tensor, n: int, o: dict = o) -> Tensor:
            s = cls(**_SD, **o, **options, **private)
            s.set_timesteps(n)
            x = x / math.hypot(1, TOP)
            for t in s.timesteps:
                sigma = float(s.sigmas[s.step_index or 0])
                x = s.step(exact.eps(x * math.hypot(1, sigma), sigma), t, x).prev_sample
            return x / 1.0 if s.sigmas[-1] == 0 else x * math.hypot(1, float(s.sigmas[-1]))

        yield Entry("diffusers", _name(cls, options), grid, run)


def _discrete(cls: type, grid: str, options: dict, cost: Callable[[int], int] = lambda n: n) -> Entry:
    """Schedulers that know only the table of discrete times."""

    def run(exact: Exact, x: Tensor, n: int) -> Tensor:
        s = cls(**_SD, **options)
        s.set_timesteps(n)
        x = x / math.hypot(1, TOP)
        for t in s.timesteps:
            a = float(s.alphas_cumprod[t]) ** 0.5
            x = s.step(exact.eps(x / a, math.sqrt(1 / a**2 - 1)), t, x).prev_sample
        return x

    return Entry("diffusers", _name(cls, options), grid, run, cost)


def _exploding(
    cls: type, grid: str, options: dict, cost: Callable[[int], int] = lambda n: n, **step
) -> Entry:
    """Schedulers in the coordinates alpha = 1."""

    def run(exact: Exact, x: Tensor, n: int) -> Tensor:
        s = cls(**_SD, **options)
        s.set_timesteps(n)
        for t in s.timesteps:
            i = s.step_index or 0
            s.scale_model_input(x, t)
            half = getattr(s, "state_in_first_order", True)
            sigma = s.sigmas[i] if half or not hasattr(s, "sigmas_interpol") else s.sigmas_interpol[i]
            x = s.step(exact.eps(x, sigma), t, x, **step).prev_sample
        return x

    return Entry("diffusers", _name(cls, options | step), grid, run, cost)


def _edm(cls: type, grid: str, options: dict) -> Entry:
    """EDM's frame: the network's output is F in x0 = c_skip x + c_out F."""

    def run(exact: Exact, x: Tensor, n: int) -> Tensor:
        s = cls(sigma_max=TOP, **options)
        s.set_timesteps(n)
        for t in s.timesteps:
            sigma = float(s.sigmas[s.step_index or 0])
            s.scale_model_input(x, t)
            skip, out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / math.sqrt(sigma**2 + 0.25)
            x = s.step((exact(x, sigma) - skip * x) / out, t, x).prev_sample
        return x

    return Entry("diffusers", _name(cls, options), grid, run)


# --- azula --------------------------------------------------------------------------------------------------


def azula() -> Iterator[Entry]:
    """Its deterministic samplers along its schedules, brought to start at this one's first level, and along
    this one.

    Its grid is even in the schedule's time. It stops at the schedule's cleanest level: sigma_min, or 0 where
    the sampler can.
    """
    from azula import noise as az
    from azula import sample

    class Here(az.Schedule):
        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            l = SD.level(t.detach().numpy())
            return l.alpha, l.sigma

    low = 1 / TOP
    curves = {"scaled_linear": Here()}
    for s in (1e-2, 1e-3):
        curves |= {
            f"VE {s:g}": az.VESchedule(s, TOP),
            f"VP {s:g}": az.VPSchedule(low, s),
            f"cosine {s:g}": az.CosineSchedule(low, s),
            f"rectified {s:g}": az.RectifiedSchedule(low, s),
        }
    plain = [(sample.EulerSampler, {}), (sample.HeunSampler, {})]
    orders = [
        (c, {"order": p})
        for p in (2, 3, 4)
        for c in (
            sample.zABSampler,
            sample.vABSampler,
            sample.zEABSampler,
            sample.xEABSampler,
            sample.REABSampler,
        )
    ]
    for (cls, o), (grid, curve) in itertools.product(plain + orders, curves.items()):

        def run(exact: Exact, x: Tensor, n: int, cls=cls, o=o, curve=curve) -> Tensor:
            denoise = lambda y, t: SimpleNamespace(mean=_at(exact, y, *curve(t)))
            denoise.schedule = curve
            alpha, sigma = (float(v) for v in curve(torch.ones((), dtype=torch.float64)))
            s = cls(denoise, steps=n, silent=True, dtype=torch.float64, **o)
            return s(x * alpha * (sigma / alpha / TOP)) / curve(torch.zeros((), dtype=torch.float64))[0]

        yield Entry(
            "azula",
            _label(cls.__name__.removesuffix("Sampler"), o),
            grid,
            run,
            (lambda n: 2 * n) if cls is sample.HeunSampler else (lambda n: n),
        )


def _at(exact: Exact, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return exact(x / alpha, sigma / alpha) if sigma > 0 else x / alpha


# --- smalldiffusion -----------------------------------------------------------------------------------------


def smalldiffusion() -> Iterator[Entry]:
    """Its `samples` (DDIM at gamma 1, gradient estimation above) on its schedules, as they are and with a
    last sigma of 0."""
    spec = importlib.util.find_spec("smalldiffusion")
    # The package's __init__ imports its networks, and they torchvision, which this needs not have:
    # diffusion.py stands
    # alone.
    file = Path(spec.submodule_search_locations[0]) / "diffusion.py"
    module = importlib.util.module_from_spec(
        own := importlib.util.spec_from_file_location("smalldiffusion_diffusion", file)
    )
    own.loader.exec_module(module)
    curves = {
        "LDM": module.ScheduleLDM(),
        **{f"log-linear {s:g}": module.ScheduleLogLinear(1000, s, TOP) for s in (0.02, 0.1)},
    }
    for (grid, curve), gamma, end in itertools.product(curves.items(), (1.0, 1.5, 2.0), ("", " to 0")):

        def run(exact: Exact, x: Tensor, n: int, curve=curve, gamma=gamma, end=end) -> Tensor:
            model = SimpleNamespace(
                eval=lambda: None,
                predict_eps_cfg=lambda y, s, cond, scale: exact.eps(y, s),
                rand_input=lambda n: 0 * x,
            )
            sigmas = curve.sample_sigmas(n).double()
            if end:
                sigmas[-1] = 0
            states = module.samples(model, sigmas, gam=gamma, xt=x, accelerator=SimpleNamespace(device="cpu"))
            return deque(states, maxlen=1)[0]

        yield Entry("smalldiffusion", _label("samples", {"gam": gamma}), grid + end, run)


PEERS = {"diffusers": diffusers, "azula": azula, "smalldiffusion": smalldiffusion}


# --- the table ----------------------------------------------------------------------------------------------


def measure(entry: Entry, mixture: Mixture, x: Tensor, truth: Tensor, nfe: int) -> dict | None:
    """The row of an entry at a budget of calls, from x_T = x; None where it cannot run (too few steps, or not
    finite).
    """
    n = max((n for n in range(1, nfe + 1) if entry.cost(n) <= nfe), default=0)
    if not n:
        return None
    exact = Exact(mixture)
    try:
        y = entry.run(exact, x * math.hypot(1, TOP), n)
    except BadInput:
        raise
    except (
        Exception
    ) as e:  # a peer's own refusal (singular weights, too few steps): no row, and the reason on stderr
        print(
            f"{entry.who} {entry.sampler} on {entry.grid}, {nfe} calls: {type(e).__name__}: {str(e)[:80]}",
            file=sys.stderr,
        )
        return None
    error = rms(y, truth)
    if not math.isfinite(error) or exact.calls > nfe:
        return None
    return {
        "who": entry.who,
        "sampler": entry.sampler,
        "grid": entry.grid,
        "nfe": nfe,
        "calls": exact.calls,
        "rms": error,
        "default": entry.default,
    }


def table(
    mixture: Mixture,
    counts: tuple[int, ...] = COUNTS,
    n: int = 512,
    seed: int = 0,
    peers: bool = True,
    tuned: bool = False,
    only: Callable[[Entry], bool] = lambda e: True,
) -> dict:
    """All rows on a mixture, and a summary for each budget: the best peer, our default, and their ratio
    (below 1: ours is better)."""
    x, began = start(mixture, n, seed), time.time()
    truth = flow(mixture, x)
    entries = [e for family in (ours, *(PEERS.values() if peers else ())) for e in family() if only(e)]
    rows = [r for nfe in counts for e in entries if (r := measure(e, mixture, x, truth, nfe))]
    if tuned:
        rows += [tuned_row(mixture, nfe, x, truth) for nfe in counts]
    best = lambda nfe, keep: min(
        (r for r in rows if r["nfe"] == nfe and keep(r)), key=lambda r: r["rms"], default=None
    )
    found = {
        kind: {str(nfe): best(nfe, keep) for nfe in counts}
        for kind, keep in {
            "best_peer": lambda r: not r["who"].startswith("unnoise"),
            "ours_default": lambda r: r["default"],
            "ours_tuned": lambda r: r["who"] == TUNED,
            "ours_best": lambda r: r["who"] == "unnoise",
        }.items()
    }
    rate = lambda kind: {
        k: r["rms"] / p["rms"] if (r := found[kind][k]) and (p := found["best_peer"][k]) else None
        for k in found[kind]
    }
    return {
        "mixture": {"modes": mixture.k, "dimensions": mixture.means.shape[1]},
        "noises": n,
        "seconds": time.time() - began,
        **found,
        "ratio": rate("ours_default"),
        "ratio_tuned": rate("ours_tuned"),
        "rows": rows,
    }


TUNED = "unnoise (tuned)"


def tuned_row(mixture: Mixture, nfe: int, x: Tensor, truth: Tensor) -> dict:
    """The row of a grid tuned on other noises (256 of them) than it is measured on."""
    fit, judge = (start(mixture, 256, seed) for seed in (10**6, 2 * 10**6))
    exact = Exact(mixture)
    denoise = lambda y, l: exact(y / l.alpha, l.ratio)
    found = tune(denoise, SD, nfe, fit, judge, truth=flow(mixture, fit), fresh_truth=flow(mixture, judge))
    exact.calls = 0
    y = last(SAMPLERS[found.sampler](denoise, x, found.path(SD), **found.options))
    shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in found.options.items()}
    return {
        "who": TUNED,
        "sampler": _label(found.sampler, shown),
        "grid": "tuned",
        "nfe": nfe,
        "calls": exact.calls,
        "rms": rms(y, truth),
        "default": False,
    }


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"--nfe must be whole numbers as in 5,8,10, given {text!r}") from None
    if not all(2 <= n <= 200 for n in counts):
        raise BadInput(f"--nfe must be from 2 to 200, given {text!r}")
    return tuple(dict.fromkeys(counts))


def _print(out: dict) -> None:
    for nfe in out["best_peer"]:
        ratios = (("default:", out["ratio"][nfe]), ("tuned:", out["ratio_tuned"][nfe]))
        print(f"\n{nfe} calls", *(f"{k} {v:.3f} of the best peer" for k, v in ratios if v), sep="   ")
        for r in sorted((r for r in out["rows"] if str(r["nfe"]) == nfe), key=lambda r: r["rms"]):
            mark = "  <- default" if r["default"] else ""
            print(f"  {r['rms']:.6f}  {r['who']:16}  {r['sampler']:70}  {r['grid']:28} {r['calls']:>3}{mark}")
    modes, dimensions = out["mixture"].values()
    print(f"\n{modes} modes in {dimensions} dimensions, {out['noises']} noises, {out['seconds']:.0f} s")


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.nfe", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument(
        "--mixture",
        metavar="FILE",
        help='JSON: {"means": [[..]], "std": s, "weights": [..]}; default: the ring',
    )
    parser.add_argument(
        "--nfe", default=",".join(map(str, COUNTS)), metavar="N,N,…", help="budgets of network calls"
    )
    parser.add_argument("--tune", action="store_true", help="add a row with a grid tuned on other noises")
    parser.add_argument("--noises", type=int, default=512, help="how many x_T")
    parser.add_argument("--seed", type=int, default=0, help="of the first x_T")
    parser.add_argument("--ours-only", action="store_true", help="leave the peers out")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    try:
        if not 1 <= args.noises <= 10**6:
            raise BadInput(f"--noises must be from 1 to 1000000, given {args.noises}")
        mixture = Mixture.from_json(args.mixture) if args.mixture else Mixture.ring()
        out = table(mixture, _counts(args.nfe), args.noises, args.seed, not args.ours_only, args.tune)
    except BadInput as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"data": args.mixture or "ring", **out}))
    else:
        _print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
