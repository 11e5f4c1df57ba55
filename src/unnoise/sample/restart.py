"""Paths that go back up: Restart (Xu et al. 2023) and RePaint's resampling (Lugmayr et al. 2022). Any sampler
runs them.

An upward move adds noise by the forward process, so the marginals stay right, and the way down again
contracts the error made so far; what it cannot mend is a denoiser that is wrong within the interval. Levels
are compared by sigma / alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from unnoise.base.errors import BadInput
from unnoise.process.level import Level, level
from unnoise.process.noise import Noise
from unnoise.sample.ddim import heun
from unnoise.sample.ladder import Path, bounded, detour, shared, whole


def restart_path(
    path: Path, low: float, high: float, times: int = 2, steps: int = 2, rho: float = 7.0
) -> Path:
    """The path with `times` restarts put in at its level nearest to `low`: up to `high`, and back in `steps`
    moves.

    low, high: sigma / alpha of the interval; the way back is even in the rho-th root, as Karras et al. space
    it (Xu et al. 2023, alg. 1 and 2, whose n points are steps + 1). Each restart costs a sampler `steps`
    moves. A path that does not come down from `high` or above into the interval is left as it is; several
    intervals are put in one after the other. Errors: BadInput.
    """
    bounded("low", low, 0)
    bounded("rho", rho, 1e-3)
    whole("times", times, 0)
    whole("steps", steps, 1)
    if not low < high:
        raise BadInput(f"a restart goes from low up to high: low must be below high, given {low} and {high}")
    path = shared(path, "a restart")
    r = [l.ratio.item() for l in path]
    inside = [i for i, v in enumerate(r) if 0 < v < high <= max(r[: i + 1])]
    if not inside:
        return path
    i = min(inside, key=lambda i: abs(math.log(r[i] / max(low, 1e-12))))
    top, end = high ** (1 / rho), r[i] ** (1 / rho)
    down = [_at(path, (top + w * (end - top)) ** rho) for w in np.arange(steps) / steps]
    return (*path[: i + 1], *(l for _ in range(times) for l in (*down, path[i])), *path[i + 1 :])


def _at(path: Sequence[Level], ratio: float) -> Level:
    """The level of a ratio sigma / alpha, at the scale of the path's neighbours (alpha is interpolated, log
    over log).
    """
    known = sorted((l.ratio.log().item(), l.alpha.log().item()) for l in path if l.sigma > 0 and l.alpha > 0)
    ratios, alphas = zip(*known)
    alpha = math.exp(np.interp(math.log(ratio), ratios, alphas))
    return level(alpha, alpha * ratio)


def rewind(path: Path, times: int, jump: int) -> Path:
    """The path that, after every `jump` moves, goes back up those `jump` and does them over, `times` times in
    all.

    RePaint's schedule (Lugmayr et al. 2022, alg. 1) with `times` = r and `jump` = j. The last move is never
    gone back on. Errors: BadInput on times or jump below 1.
    """
    path = tuple(path)
    whole("times", times, 1)
    whole("jump", jump, 1)
    out = list(path[: jump + 1])
    for i in range(jump, len(path) - 1, jump):
        out += (times - 1) * list(path[i - jump : i + 1]) + list(path[i + 1 : i + jump + 1])
    return tuple(out)


@detour(heun)
def restart(
    path: Path,
    noise: Noise,
    low: float = 0.14,
    high: float = 0.3,
    times: int = 2,
    steps: int = 2,
    s_noise: float = 1.0,
):
    """Restart: Heun's method, gone back up from `low` to `high` some times (Xu et al. 2023, alg. 2).

    See `restart_path`; the defaults are the paper's for EDM on CIFAR-10, sigma / alpha of data with standard
    deviation 1/2 (its s_noise is 1.003). Order 2 between restarts. Calls: Heun's and 2 * steps a restart.
    """
    bounded("s_noise", s_noise, 0)
    return restart_path(path, low, high, times, steps), lambda like, a, b: s_noise * noise(like, a, b)
