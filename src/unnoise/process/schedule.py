"""Schedules: curves of Levels from clean (u = 0) to noise (u = 1), and the grids that pick a path from one.

Every schedule has a discrete view, T levels indexed by t = 0 … T-1 as published networks number them, and a
continuous one, u in [0, 1], which passes through them: level(u = (t + 1) / T) is level t. `time` inverts both
by the ratio sigma / alpha alone, so a level from any other schedule finds its place. A path is a tuple of
Levels, noisy to clean, ending at sigma = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.process.level import Level, clean

Path = tuple[Level, ...]


@dataclass(frozen=True)
class Schedule:
    """A curve of Levels. `alphas`, `sigmas`: its T discrete levels (float64, clean to noisy); `curve`,
    `inverse`: closed forms u -> (alpha, sigma) and sigma/alpha -> u where they exist, else the table is
    interpolated (linearly in log-SNR).
    """

    name: str
    alphas: np.ndarray
    sigmas: np.ndarray
    curve: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None
    inverse: Callable[[np.ndarray], np.ndarray] | None = None
    discrete: bool = (
        True  # whether trailing, leading and linspace grids are rounded to whole t, as the published ones are
    )

    @property
    def T(self) -> int:
        """The number of discrete levels."""
        return len(self.alphas)

    def at(self, t) -> Level:
        """The discrete level(s) t = 0 … T-1; a fractional t lies between its neighbours."""
        return self.level((np.asarray(t, dtype=np.float64) + 1) / self.T)

    def level(self, u) -> Level:
        """The Level(s) at u in [0, 1] (a number, array or tensor of any shape), float64; u = 0 is clean, 1
        the noisiest.
        """
        u = np.asarray(u, dtype=np.float64)
        if not ((u >= 0) & (u <= 1)).all():
            raise BadInput(f"u must lie in [0, 1], given {u.min():g} to {u.max():g}")
        alpha, sigma = self.curve(u) if self.curve else self._interpolate(u)
        return Level(torch.as_tensor(alpha, dtype=torch.float64), torch.as_tensor(sigma, dtype=torch.float64))

    def time(self, l: Level) -> Tensor:
        """u of a level of any schedule with the same sigma/alpha, float64, held to [0, 1]; the exact inverse
        of `level`.
        """
        with np.errstate(divide="ignore"):
            r = np.divide(*(v.detach().double().cpu().numpy() for v in (l.sigma, l.alpha)))
            u = self.inverse(r) if self.inverse else self._invert(r)
        return torch.as_tensor(np.clip(u, 0.0, 1.0), dtype=torch.float64)

    def timestep(self, l: Level) -> Tensor:
        """The discrete time t of a level, fractional between two of them: the time input of published
        networks.
        """
        return self.time(l) * self.T - 1

    # Between two discrete levels the log-SNR is linear in u. Below the first the ratio sigma / alpha goes
    # linearly to 0, and
    # where the last one has no signal (zero terminal SNR) alpha / sigma does: log-SNR is infinite at those
    # ends.
    def _interpolate(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        knots, ratio = self._knots
        k = u * self.T - 1
        r = np.exp(np.interp(k, np.arange(len(knots)), knots))
        r = np.where(k < 0, ratio[0] * (k + 1), r)
        if not np.isfinite(ratio[-1]):
            with np.errstate(divide="ignore"):
                r = np.where(k > self.T - 2, ratio[-2] / (self.T - 1 - k), r)
        scale = np.interp(k, np.arange(-1, self.T), np.r_[1.0, self._scale])
        with np.errstate(invalid="ignore"):
            alpha = 1 / np.sqrt(1 + r * r)
            sigma = np.where(np.isinf(r), 1.0, r * alpha)
        return scale * alpha, scale * sigma

    def _invert(self, r: np.ndarray) -> np.ndarray:
        knots, ratio = self._knots
        with np.errstate(divide="ignore"):
            k = np.interp(np.log(r), knots, np.arange(len(knots)))
        k = np.where(r < ratio[0], r / ratio[0] - 1, k)
        if not np.isfinite(ratio[-1]):
            with np.errstate(divide="ignore"):
                k = np.where(r > ratio[-2], self.T - 1 - ratio[-2] / r, k)
        return (k + 1) / self.T

    @property
    def _knots(self) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(divide="ignore"):
            ratio = self.sigmas / self.alphas
        return np.log(ratio[np.isfinite(ratio)]), ratio

    @property
    def _scale(self) -> np.ndarray:
        return np.hypot(self.alphas, self.sigmas)

    def zero_terminal_snr(self) -> Schedule:
        """The schedule with sqrt(alpha-bar) shifted and scaled so that the last level has no signal and the
        first is kept (Lin et al. 2024, algorithm 1). Needs a v, velocity or x0 network: eps says nothing
        about x0 there."""
        if not np.allclose(self._scale, 1):
            raise BadInput(f"zero terminal SNR is for variance-preserving schedules, not {self.name}")
        a = self.alphas
        a = (a - a[-1]) * a[0] / (a[0] - a[-1])
        return replace(
            self, name=f"{self.name}-zsnr", alphas=a, sigmas=np.sqrt(1 - a * a), curve=None, inverse=None
        )

    def path(self, steps: int, spacing: str = "trailing", last: Level | None = None, **options) -> Path:
        """`steps` + 1 Levels from the schedule's noisiest to clean data: a sampler with one call a step makes
        `steps` calls.

        spacing: one of GRIDS; options are the grid's own (karras: rho; beta: a, b; leading: offset). Errors:
        BadInput on an unknown spacing or option and on steps < 1.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise BadInput(f"steps must be a whole number of at least 1, given {steps!r}")
        if spacing not in GRIDS:
            raise unknown("spacing", spacing, GRIDS)
        grid = GRIDS[spacing]
        accepted = grid.__code__.co_varnames[2 : grid.__code__.co_argcount]
        for name in options:
            if name not in accepted:
                raise unknown(f"option of spacing {spacing!r}", name, accepted or ["none"])
        u = grid(self, steps, **options)
        return (*map(Level, *(v.unbind() for v in self.level(u))), last or clean())

    def limits(self) -> tuple[float, float]:
        """log(sigma / alpha) of the cleanest level with noise and the noisiest with signal, where ratio-based
        grids end.
        """
        knots, _ = self._knots
        low = knots[0]
        if (
            self.curve
        ):  # a continuous curve may go on below its first discrete level: to sigma_min, for ve and edm
            alpha, sigma = self.curve(np.zeros(()))
            low = np.log(sigma / alpha) if sigma > 0 else low
        # DPM-Solver++'s clip, for curves that end (almost) without signal.
        top = min(knots[-1], 5.1) if self.alphas[-1] < 1e-3 else knots[-1]
        return float(low), float(top)


# --- grids: (schedule, steps) -> u of each step, decreasing, the first always 1 unless the grid is "leading"


def _round(s: Schedule, t: np.ndarray) -> np.ndarray:
    """u of the times t, rounded to whole ones where the schedule is discrete and that leaves them
    distinct.
    """
    whole = np.round(t)
    return ((whole if s.discrete and (np.diff(whole) < 0).all() else t) + 1) / s.T


def trailing(s: Schedule, steps: int) -> np.ndarray:
    """t = T - 1, T - 1 - T/n, …: starts at the noisiest level (Lin et al. 2024, table 2)."""
    t = np.arange(s.T, 0, -s.T / steps)[:steps]
    return (np.round(t) if s.discrete and steps <= s.T else t) / s.T


def leading(s: Schedule, steps: int, offset: int = 1, extra: int = 0) -> np.ndarray:
    """t = offset + k floor(T/n): the original DDIM and Stable Diffusion grid, which never visits the noisiest
    level.

    The offset is less where the grid would otherwise leave the schedule (n = T). extra: take the noisiest n
    of so many more times; diffusers' DPM-Solver, UniPC and DEIS do so with one.
    """
    if steps + extra > s.T:
        raise BadInput(f"leading spacing has at most {s.T - int(extra)} steps, given {steps}")
    if offset != int(offset) or offset < 0:
        raise BadInput(f"offset must be a whole number, not negative, given {offset}")
    if extra != int(extra) or extra < 0:
        raise BadInput(f"extra must be a whole number, not negative, given {extra}")
    t = (np.arange(steps)[::-1] + extra) * (s.T // (steps + extra))
    return (t + min(int(offset), s.T - 1 - t[0]) + 1) / s.T


def linspace(s: Schedule, steps: int) -> np.ndarray:
    """n times from T - 1 down to 0, both included."""
    return _round(s, np.linspace(s.T - 1, 0, steps))


def _by_ratio(s: Schedule, steps: int, f: Callable[[np.ndarray, float, float], np.ndarray]) -> np.ndarray:
    """u of ratios f(w, log r_max, log r_min), w = 0 … 1; the first is the noisiest level, even if without
    signal.
    """
    lo, hi = s.limits()
    r = f(np.linspace(0, 1, steps), hi, lo)
    u = s.time(Level(torch.ones(steps, dtype=torch.float64), torch.from_numpy(np.asarray(r)))).numpy().copy()
    u[0] = 1.0
    return u


def karras(s: Schedule, steps: int, rho: float = 7.0) -> np.ndarray:
    """sigma/alpha evenly spaced in its rho-th root, from the schedule's largest to its least (Karras et al.
    2022, eq. 5).
    """
    if not 0 < rho < math.inf:
        raise BadInput(f"rho must be a positive number, given {rho}")
    return _by_ratio(
        s,
        steps,
        lambda w, hi, lo: (math.exp(hi / rho) + w * (math.exp(lo / rho) - math.exp(hi / rho))) ** rho,
    )


def logsnr(s: Schedule, steps: int) -> np.ndarray:
    """Evenly spaced in log-SNR (DPM-Solver's uniform-lambda grid; k-diffusion's exponential)."""
    return _by_ratio(s, steps, lambda w, hi, lo: np.exp(hi + w * (lo - hi)))


def beta(s: Schedule, steps: int, a: float = 0.6, b: float = 0.6) -> np.ndarray:
    """t at the quantiles of Beta(a, b), denser at both ends (Lee et al. 2024, "Beta sampling is all you
    need").
    """
    if not (a >= 0.5 and b >= 0.5):
        raise BadInput(f"beta spacing needs a and b of at least 0.5, given {a} and {b}")
    w = np.linspace(1, 0, steps) if steps > 1 else np.ones(1)
    return _round(s, _beta_quantile(w, a, b) * (s.T - 1))


def few(
    s: Schedule,
    steps: int,
    high: float = 5.0,
    fall: float = 0.85,
    low: float | None = None,
    rise: float = 1.1,
) -> np.ndarray:
    """For 5 to 20 steps: quantiles of the density 1 / ((1 + (r / high)^fall) (1 + (low / r)^rise)) over log
    r.

    r = sigma / alpha. Even in log r between `low` and `high`, where trajectories choose what they become,
    thinner on both sides. The last of n levels is the quantile 1 - 1/n: it falls as n grows, at most to the
    schedule's lowest level. low None: 0.05, 0.07 and 0.055 at 5, 10 and 20 steps, between these in between
    (measured on mixtures: python -m bench.nfe).
    """
    if low is None:
        low = float(np.interp(steps, (5, 10, 20), (0.05, 0.07, 0.055)))
    for name, value in (("high", high), ("fall", fall), ("low", low), ("rise", rise)):
        if not 0 < value < math.inf:
            raise BadInput(f"{name} must be a positive number, given {value}")
    floor = s.limits()[0]

    def f(w: np.ndarray, hi: float, lo: float) -> np.ndarray:
        x = np.linspace(hi, min(floor, math.log(low)) - 12 / rise, 8001)
        density = 1 / ((1 + np.exp((x - math.log(high)) * fall)) * (1 + np.exp((math.log(low) - x) * rise)))
        cdf = np.r_[0, np.cumsum(density[1:] + density[:-1])]
        last = min(1 - 1 / max(len(w), 2), np.interp(-floor, -x, cdf / cdf[-1]))
        return np.exp(np.interp(w * last * cdf[-1], cdf, x))

    return _by_ratio(s, steps, f)


GRIDS: dict[str, Callable[..., np.ndarray]] = {
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
    "karras": karras,
    "logsnr": logsnr,
    "beta": beta,
    "few": few,
}


def _beta_quantile(w: np.ndarray, a: float, b: float) -> np.ndarray:
    """Quantiles of Beta(a, b). With x = sin^2 the density is smooth for a, b >= 1/2, so a sum on a fine grid
    is enough.
    """
    theta = np.linspace(0, math.pi / 2, 20001)
    mid = (theta[1:] + theta[:-1]) / 2
    cdf = np.r_[0, np.cumsum(np.sin(mid) ** (2 * a - 1) * np.cos(mid) ** (2 * b - 1))]
    return np.sin(np.interp(w * cdf[-1], cdf, theta)) ** 2


def path_of(levels: Sequence[Level]) -> Path:
    """Any decreasing list of Levels as a path; the clean level is appended when the last one still holds
    noise.
    """
    levels = tuple(levels)
    if not levels:
        raise BadInput("a path needs at least one level")
    for i, (a, b) in enumerate(pairwise(levels)):
        if not bool((b.sigma * a.alpha < a.sigma * b.alpha).all()):
            raise BadInput(f"levels must decrease in noise: level {i + 1} is not cleaner than level {i}")
    return levels if levels[-1].clean else (*levels, clean())


# --- the published curves -----------------------------------------------------------------------------------


def from_betas(name: str, betas: np.ndarray) -> Schedule:
    """The variance-preserving schedule whose t-th forward step adds variance betas[t] (DDPM, eq. 2 and 4)."""
    betas = np.asarray(betas, dtype=np.float64)
    if len(betas) < 2:
        raise BadInput(f"a schedule needs at least 2 levels, given {len(betas)}")
    if not ((betas > 0) & (betas < 1)).all():
        raise BadInput(f"betas must lie in (0, 1), given {betas.min():g} to {betas.max():g}")
    abar = np.cumprod(1.0 - betas)
    return Schedule(name, np.sqrt(abar), np.sqrt(1 - abar))


def ddpm(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Schedule:
    """Linear betas (Ho et al. 2020). sqrt(alpha-bar_T) = 0.006353, sigma/alpha from 0.0100 to 157.41."""
    return from_betas("ddpm", np.linspace(start, end, T))


def scaled_linear(T: int = 1000, start: float = 0.00085, end: float = 0.012) -> Schedule:
    """Betas linear in their square root (latent diffusion, Stable Diffusion). sigma/alpha from 0.02917 to
    14.615.
    """
    return from_betas("scaled_linear", np.linspace(start**0.5, end**0.5, T) ** 2)


def cosine(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """alpha-bar = cos^2((u + s) / (1 + s) pi/2), betas clipped (Nichol & Dhariwal 2021, eq. 17)."""
    return _from_abar("cosine", lambda u: np.cos((u + s) / (1 + s) * np.pi / 2) ** 2, T, max_beta)


def sigmoid(
    T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, max_beta: float = 0.999
) -> Schedule:
    """alpha-bar a rescaled sigmoid of u (Jabri et al. 2022; Chen 2023, algorithm 1)."""
    at = lambda u: 1 / (1 + np.exp((u * (end - start) + start) / tau))
    return _from_abar("sigmoid", lambda u: (at(u) - at(1.0)) / (at(0.0) - at(1.0)), T, max_beta)


def _from_abar(name: str, abar: Callable, T: int, max_beta: float) -> Schedule:
    u = np.r_[0.0, _discrete(T)]
    return from_betas(name, np.minimum(1 - abar(u[1:]) / abar(u[:-1]), max_beta))


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0, T: int = 1000) -> Schedule:
    """sigma geometric from sigma_min to sigma_max, alpha = 1 (Song et al. 2021, VE SDE)."""
    _check_sigmas(sigma_min, sigma_max)
    span = math.log(sigma_max / sigma_min)
    return _exploding("ve", lambda u: sigma_min * np.exp(u * span), lambda r: np.log(r / sigma_min) / span, T)


def edm(sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0, T: int = 1000) -> Schedule:
    """alpha = 1, sigma evenly spaced in its rho-th root (Karras et al. 2022, table 1)."""
    _check_sigmas(sigma_min, sigma_max)
    if not 0 < rho < math.inf:
        raise BadInput(f"rho must be a positive number, given {rho}")
    lo, hi = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _exploding(
        "edm", lambda u: (lo + u * (hi - lo)) ** rho, lambda r: (r ** (1 / rho) - lo) / (hi - lo), T
    )


def _check_sigmas(lo: float, hi: float) -> None:
    if not 0 < lo < hi < math.inf:
        raise BadInput(f"a schedule needs 0 < sigma_min < sigma_max, given {lo} and {hi}")


def _discrete(T: int) -> np.ndarray:
    """u of the T discrete levels."""
    if T < 2:
        raise BadInput(f"a schedule needs at least 2 levels, given {T}")
    return (np.arange(T) + 1) / T


def _exploding(name: str, sigma: Callable, inverse: Callable, T: int) -> Schedule:
    s = sigma(_discrete(T))
    return Schedule(name, np.ones(T), s, lambda u: (np.ones_like(u), sigma(u)), inverse, discrete=False)


def flow(shift: float = 1.0, T: int = 1000) -> Schedule:
    """alpha = 1 - t, sigma = t (rectified flow; Lipman et al. 2023), t = shift u / (1 + (shift - 1) u) (SD3,
    eq. 23).
    """

    def curve(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        t = shift * u / (1 + (shift - 1) * u)
        return 1 - t, t

    def inverse(r: np.ndarray) -> np.ndarray:
        t = np.where(np.isinf(r), 1.0, r / (1 + np.where(np.isinf(r), 0.0, r)))
        return t / (shift - (shift - 1) * t)

    if not 0 < shift < math.inf:
        raise BadInput(f"shift must be a positive number, given {shift}")
    return Schedule("flow", *curve(_discrete(T)), curve, inverse, discrete=False)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "ddpm": ddpm,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
    "ve": ve,
    "edm": edm,
    "flow": flow,
}


def named(name: str, **options) -> Schedule:
    """The schedule called `name` (one of SCHEDULES), with its own options; "-zsnr" appended: with zero
    terminal SNR.
    """
    base, zero, rest = name.partition("-zsnr")
    if base not in SCHEDULES or rest:
        raise unknown("schedule", name, SCHEDULES)
    try:
        made = SCHEDULES[base](**options)
    except BadInput:
        raise
    except (TypeError, ValueError) as e:
        raise BadInput(f"schedule {name!r}: {e}") from e
    return made.zero_terminal_snr() if zero else made
