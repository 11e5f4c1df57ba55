"""The one loop that every sampler runs: down a path of Levels by a one-step rule, up by the forward process.

A rule is `rule(x, x0, a, b) -> x at level b`, given x at level a and x0 = denoise(x, a); it may call denoise
again. A family of rules is a function `step(denoise, noise, **options) -> rule`: history and moments are its
locals, made anew for every run and after every upward move, so a sampler is pure and a restart forgets the
past. In x0 space most rules are one formula,
    x_b = move(x, estimate, a, b),
with `estimate` an average of E[x0 | x] over the step; it is finite from alpha = 0 and lands on the estimate
at sigma = 0. Levels reach rules and denoisers as float64 on the CPU, () or (n,): asking "is this the last
step?" never waits for a device.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.denoiser.adapt import Denoiser
from unnoise.process import schedule
from unnoise.process.level import Level, move, noisier, renoise, spread
from unnoise.process.noise import Noise, seeded

Rule = Callable[[Tensor, Tensor, Level, Level], Tensor]
Path = Sequence[Level]


class State(NamedTuple):
    """What a sampler yields before each denoising move: x (n, …) at `level`, and the estimate x0 made there.

    The last State of a run holds the result twice: State(x, last level, x).
    """

    x: Tensor
    level: Level
    x0: Tensor


def last(states: Iterable[State]) -> Tensor:
    """The result of a run: x of its last State. Runs the sampler to its end."""
    tail = deque(states, maxlen=1)
    if not tail:
        raise BadInput("the run has already been used up: call the sampler again")
    return tail[0].x


@dataclass(frozen=True, eq=False)
class Sampler:
    """A named one-step rule, callable as sampler(denoise, x, path, noise=None, **options) -> Iterator[State].

    order: of convergence in the number of steps on the probability flow, with default options and their noise
    left out; 0 where a rule does not follow the flow. stochastic: whether the rule draws noise with its
    default options (any sampler draws it for the upward moves of a path). options: name -> default. summary:
    one line.
    """

    name: str
    summary: str
    order: int
    stochastic: bool
    options: dict[str, Any]
    step: Callable[..., Rule]
    start: (
        int  # calls that the first move of a run, if over a finite change of log-SNR, makes beside its cost
    )
    cost: Callable[..., int]  # (a, b, **options) -> network calls of one move, the first included
    detour: (
        Callable[..., tuple[Path, Noise]] | None
    )  # (path, noise, **options) -> the path really run, and its noise

    def __call__(
        self, denoise: Denoiser, x: Tensor, path: Path, noise: Noise | None = None, **options
    ) -> Iterator[State]:
        """The States of a run from x (n, …) at path[0] to the last level; everything is checked now, nothing
        computed yet.

        noise None stands for noise.seeded(range(n)). Errors: BadInput on a path, an x or an option that
        cannot be used.
        """
        if not isinstance(x, Tensor) or not x.ndim or not x.is_floating_point():
            raise BadInput("x must be a tensor of floating type with a batch axis first")
        path, draw = self.plan(path, seeded(range(len(x))) if noise is None else noise, len(x), **options)
        assert draw is not None  # a plan answers a noise with a noise
        own = {} if self.detour else options
        return _run(
            denoise, x, path, draw, lambda: self.step(denoise, draw, **own), self.step(denoise, draw, **own)
        )

    def plan(
        self, path: Path, noise: Noise | None = None, n: int = 1, **options
    ) -> tuple[Path, Noise | None]:
        """The checked path that is really run (with churn or restarts put in), and the noise for it."""
        for name in options:
            if name not in self.options:
                raise unknown(f"option of sampler {self.name!r}", name, self.options or ["none"])
        path = checked(path, n)
        if not self.detour:
            return path, noise
        path, noise = self.detour(path, noise, **options)
        return checked(path, n), noise

    def calls(self, path: Path | int, **options) -> int:
        """The number of network calls of a run down `path`; for a whole number of steps, down EDM's path of
        that many.
        """
        if isinstance(path, int):
            path = schedule.edm().path(path, "karras")
        n = max((l.sigma.numel() for l in path if isinstance(l, Level)), default=1)
        path, _ = self.plan(path, None, n, **options)
        own = {} if self.detour else {**self.options, **options}
        moves = [None if noisier(a, b) else (a, b) for a, b in pairwise(path)]
        starts = sum(1 for before, m in zip([None, *moves], moves) if m and not before and finite(*m))
        return sum(self.cost(*m, **own) for m in moves if m) + self.start * starts


@overload
def ladder(
    step: Callable[..., Rule],
    *,
    order: int = ...,
    calls: int | Callable[..., int] = ...,
    stochastic: bool = ...,
    start: int = ...,
) -> Sampler: ...
@overload
def ladder(
    step: None = None,
    *,
    order: int = ...,
    calls: int | Callable[..., int] = ...,
    stochastic: bool = ...,
    start: int = ...,
) -> Callable[[Callable[..., Rule]], Sampler]: ...
def ladder(
    step: Callable[..., Rule] | None = None,
    *,
    order: int = 1,
    calls: int | Callable[..., int] = 1,
    stochastic: bool = False,
    start: int = 0,
) -> Any:
    """The Sampler of a one-step rule: a decorator, used bare or with what is known of the rule.

    calls: network calls of one move, the first included: a function (a, b, **options), or a number for the
    moves over a finite change of log-SNR (the others, from alpha = 0 and into sigma = 0, are first order and
    make one). start: further calls of a run's first move.
    """
    if step is None:
        return lambda step: ladder(step, order=order, calls=calls, stochastic=stochastic, start=start)
    cost = calls if callable(calls) else lambda a, b, **options: calls if finite(a, b) else 1
    options = {k: p.default for k, p in list(inspect.signature(step).parameters.items())[2:]}
    return Sampler(step.__name__, _summary(step), order, stochastic, options, step, start, cost, None)


def detour(base: Sampler) -> Callable[[Callable[..., tuple[Path, Noise]]], Sampler]:
    """A decorator: the Sampler that runs `base` down another path: f(path, noise, **options) -> (path,
    noise).
    """

    def make(f: Callable[..., tuple[Path, Noise]]) -> Sampler:
        options = {k: p.default for k, p in list(inspect.signature(f).parameters.items())[2:]}
        return Sampler(
            f.__name__, _summary(f), base.order, True, options, base.step, base.start, base.cost, f
        )

    return make


@torch.no_grad()  # holds while the generator runs, not in its consumer between two States
def _run(
    denoise: Denoiser, x: Tensor, path: Path, noise: Noise, make: Callable[[], Rule], rule: Rule
) -> Iterator[State]:
    for a, b in pairwise(path):
        if noisier(a, b):
            x, rule = renoise(x, a, b, noise(x, a, b)), make()
        else:
            x0 = denoise(x, a)
            if x0.shape != x.shape:
                raise BadInput(f"the denoiser gave shape {tuple(x0.shape)} for x of {tuple(x.shape)}")
            yield State(x, a, x0)
            x = rule(x, x0, a, b)
    yield State(x, path[-1], x)


def checked(path: Path, n: int = 1) -> Path:
    """The path as a tuple of float64 CPU Levels, () or (n,), one that repeats its predecessor left out.

    Errors: BadInput when it is not a sequence of two or more different Levels, when one of them is no level
    at all or has the wrong length, and when a move leads neither to a cleaner level nor to a noisier one for
    all n samples alike.
    """
    try:
        levels = [_level(l, i, n) for i, l in enumerate(path)]
    except TypeError as e:
        raise BadInput(f"a path must be a sequence of Levels, given {type(path).__name__}") from e
    kept = [
        b
        for i, b in enumerate(levels)
        if not i or not all(torch.equal(u, v) for u, v in zip(levels[i - 1], b))
    ]
    if len(kept) < 2:
        raise BadInput(f"a path needs at least two different levels, given {len(kept)}")
    for i, (a, b) in enumerate(pairwise(kept)):
        rise = b.sigma * a.alpha - a.sigma * b.alpha
        if not ((rise < 0).all() or (rise > 0).all()):
            raise BadInput(
                f"level {i + 1} of the path must be cleaner than level {i} for each sample, or noisier for"
                " each"
            )
    return tuple(kept)


def _level(l: Level, i: int, n: int) -> Level:
    if not isinstance(l, tuple) or len(l) != 2:
        raise BadInput(f"level {i} of the path must be a Level, given {l!r}")
    l = Level(*(torch.as_tensor(v).detach().double().cpu() for v in l))
    if l.alpha.ndim:
        l = Level(*(v.reshape(-1) for v in l))
    if l.alpha.shape != l.sigma.shape or l.alpha.numel() not in ({n} if l.alpha.ndim else {1}):
        raise BadInput(
            f"level {i} of the path must hold one pair, or one a sample ({n}): given {tuple(l.alpha.shape)}"
        )
    if not all((v.isfinite() & (v >= 0)).all() for v in l) or not (l.alpha + l.sigma > 0).all():
        raise BadInput(
            f"level {i} of the path must have finite alpha, sigma >= 0, not both 0: given {l.alpha},"
            f" {l.sigma}"
        )
    return l


def shared(path: Path, what: str) -> Path:
    """The checked path, if its levels hold for the whole batch: where noise is added must not depend on the
    company kept.
    """
    path = checked(path, max((l.sigma.numel() for l in path if isinstance(l, Level)), default=1))
    if any(l.sigma.ndim for l in path):
        raise BadInput(f"{what} needs one level for the whole batch, given one a sample")
    return path


def bounded(name: str, value: float, low: float, high: float = float("inf")) -> float:
    """The value of an option, or BadInput when it is not a number from low to high."""
    if isinstance(value, (int, float)) and low <= value <= high:
        return value
    raise BadInput(f"{name} must be a number {_span(low, high)}, given {value!r}")


def whole(name: str, value: int, low: int, high: float = float("inf")) -> int:
    """The value of an option that counts something, or BadInput."""
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise BadInput(f"{name} must be a whole number {_span(low, high)}, given {value!r}")


def _span(low: float, high: float) -> str:
    return f"of at least {low}" if high == float("inf") else f"from {low} to {high}"


def _summary(f: Callable) -> str:
    return " ".join((inspect.getdoc(f) or "").partition("\n\n")[0].split())


# --- what rules are written in: the coefficients below are flat, () or (n,), and float64 ---


def lam(l: Level) -> Tensor:
    """log(alpha / sigma), half the log-SNR: -inf at pure noise, +inf at clean data. h is its change."""
    return l.alpha.log() - l.sigma.log()


def finite(a: Level, b: Level) -> bool:
    """Whether the log-SNR of both is finite: no pure noise at a, no clean data at b (nor pure noise at b)."""
    return bool((a.alpha > 0).all() and (b.alpha > 0).all() and (b.sigma > 0).all())


def shrink(a: Level, b: Level) -> Tensor:
    """exp(-(lam_b - lam_a)): what is left of sigma / alpha after the move; 0 from pure noise and into clean
    data.
    """
    return (b.sigma * a.alpha) / (a.sigma * b.alpha)


def between(a: Level, b: Level, w: float = 0.5) -> Level:
    """The level a fraction w of the way from a to b in log-SNR (both finite): the geometric mean of alpha and
    of sigma.
    """
    return Level(*(u ** (1 - w) * v**w for u, v in zip(a, b)))


def eps_of(x: Tensor, x0: Tensor, l: Level) -> Tensor:
    """The noise (x - alpha x0) / sigma that goes with an estimate."""
    return spread(1 / l.sigma, x) * x - spread(l.alpha / l.sigma, x) * x0


def noised(x: Tensor, x0: Tensor, a: Level, b: Level, up: Tensor, noise: Noise) -> Tensor:
    """The move to level b with part of the noise drawn anew: down to sqrt(sigma_b^2 - up^2), then up z; no
    draw at 0.
    """
    up = torch.minimum(up, b.sigma)
    x = move(x, x0, a, Level(b.alpha, (b.sigma**2 - up**2).sqrt()))
    return x + spread(up, x) * noise(x, a, b) if (up > 0).any() else x
