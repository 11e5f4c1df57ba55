"""Noise = callable (like, a, b) -> unit normals in the shape of `like`, for the move from level a to level b.

Sample i of a batch is drawn from seeds[i] alone, on the CPU, by a counter-based generator (Philox) keyed by
(seed, stream): it does not depend on the batch it sits in, the device, or what other streams drew. Draw k of
a stream is a function of (seed, stream, k), so it can be asked for again without replaying what came before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.base.keyed import philox
from unnoise.process.level import Level

Noise = Callable[..., Tensor]
REVISION = 1  # bump when any (seed, stream, draw) gives other numbers: saved images name it


def _generator(seed: int, stream: str, draw: int) -> np.random.Generator:
    # keyed by the seed and the stream's name; the counter's third word is the draw (the lower two count
    # within a draw)
    return np.random.Generator(philox(seed, crc32(stream.encode()), (0, 0, draw, 0)))


def draw(seed: int, stream: str, k: int, shape: Sequence[int]) -> Tensor:
    """Draw k of a stream: float64 unit normals of `shape`, on the CPU; the same for ever for the same
    arguments.
    """
    return torch.from_numpy(_generator(seed, stream, k).standard_normal(tuple(shape)))


def draws(seed: int, stream: str, ks: Iterable[int], shape: Sequence[int]) -> Tensor:
    """Draws ks of a stream, one a sample: (n, *shape)."""
    return torch.stack([draw(seed, stream, int(k), shape) for k in ks])


def uniform(seed: int, stream: str, k: int, shape: Sequence[int]) -> Tensor:
    """Draw k of a stream, as float64 uniforms in [0, 1)."""
    return torch.from_numpy(_generator(seed, stream, k).random(tuple(shape)))


def _check(seeds: Sequence[int], like: Tensor) -> None:
    if len(seeds) != len(like):
        raise BadInput(f"noise has {len(seeds)} seeds for a batch of {len(like)}: give one seed a sample")


def seeded(seeds: Sequence[int], stream: str = "sampler") -> Noise:
    """Per-sample noise: call n returns draw n of (seeds[i], stream) as sample i, in the dtype and device of
    `like`.
    """
    seeds, calls = [int(s) for s in seeds], 0

    def noise(like: Tensor, a: Level | None = None, b: Level | None = None) -> Tensor:
        nonlocal calls
        _check(seeds, like)
        out = torch.stack([draw(s, stream, calls, like.shape[1:]) for s in seeds])
        calls += 1
        return out.to(like)

    return noise


def brownian(seeds: Sequence[int], stream: str = "brownian", depth: int = 22) -> Noise:
    """Interval-consistent noise: the normalised increment of one Brownian path a sample between the times of
    two levels.

    The path's time is log-SNR squashed to (0, 1), so the increments over [a, b] and [b, c] add up to that
    over [a, c] and an SDE sampler draws the same path however many steps it takes. Brownian bridge by
    midpoint bisection (Li et al. 2020), on a grid of 2^-depth; positive from the noisier level to the
    cleaner.
    """
    seeds = [int(s) for s in seeds]
    kept: dict[
        tuple[int, int], Tensor
    ] = {}  # the nodes that the last call needed: the next one begins where it ended

    def node(k: int, n: int, shape: torch.Size, found: dict[tuple[int, int], Tensor]) -> Tensor:
        """W at k / 2^n of every sample, k odd or n = 0; by the bridge between its two parents."""
        if k == 0:
            return torch.zeros(len(seeds), *shape, dtype=torch.float64)
        while n > 0 and k % 2 == 0:
            k, n = k // 2, n - 1
        if (k, n) in found:
            return found[k, n]
        ends = [node(p, n - 1, shape, found) for p in ((k - 1) // 2, (k + 1) // 2)] if n else []
        made = kept.get((k, n))
        if made is None:
            z = torch.stack([draw(s, stream, (1 << n) + k, shape) for s in seeds])
            mid = (ends[0] + ends[1]) / 2 if n else 0
            made = mid + math.sqrt(1.0 if n == 0 else 0.25 * 2.0 ** (1 - n)) * z
        found[k, n] = made
        return made

    def noise(like: Tensor, a: Level | None = None, b: Level | None = None) -> Tensor:
        nonlocal kept
        _check(seeds, like)
        s, t = places(a, b, depth)
        shape, first, found = like.shape[1:], {}, {}
        before = node(s, depth, shape, first)
        kept |= first
        step = node(t, depth, shape, found) - before
        kept = found
        return (step * math.copysign((2**depth / abs(t - s)) ** 0.5, t - s)).to(like)

    return noise


def places(a: Level | None, b: Level | None, depth: int = 22) -> tuple[int, int]:
    """Where two levels lie on a Brownian path's grid of 2^-depth. BadInput: one is missing, or both are the
    same place.
    """
    if a is None or b is None:
        raise BadInput("brownian noise is a function of an interval: it needs both levels")
    s, t = (round(_time(l) * 2**depth) for l in (a, b))
    if s == t:
        raise BadInput(f"brownian noise cannot tell two levels closer than 2^-{depth} of the path apart")
    return s, t


def _time(l: Level) -> float:
    """A level's place on the path's clock: 0 at pure noise, 1 at clean data, smooth and monotone in
    log-SNR.
    """
    times = {(float(a), float(s)) for a, s in zip(l.alpha.flatten(), l.sigma.flatten())}
    if len(times) > 1:
        raise BadInput("brownian noise needs one level for the whole batch, given one a sample")
    a, s = times.pop()
    return 2 / math.pi * math.atan2(a, s)


def zeros(like: Tensor, a: Level | None = None, b: Level | None = None) -> Tensor:
    """No noise at all: turns a stochastic rule into its mean."""
    return torch.zeros_like(like)
