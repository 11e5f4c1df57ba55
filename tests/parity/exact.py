"""Schedulers on a Gaussian, exactly: no samples are drawn, the mean and deviation of what comes out are
computed.

With data N(mean, std^2) the perfect network is linear in x, and so is every scheduler; what comes out is then
Gaussian too. A batch holds x = 0 with no noise anywhere, x = the start alone, and each later draw of noise
alone: the first is the mean of what comes out, the differences of the others from it are what the deviation
is made of.

    python -m tests.parity.test_gaussian       prints the table in docs/parity.md
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from tests.parity import peer
from unnoise.denoiser.oracle import Gaussian
from unnoise.process import predict, schedule
from unnoise.process.level import clean
from unnoise.process.schedule import Schedule
from unnoise.sample import SAMPLERS, last

SD = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "clip_sample": False,
}


@dataclass(frozen=True)
class End:
    """The distribution that comes out."""

    mean: float
    std: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.std:.3f}"


@dataclass(frozen=True)
class Case:
    """A scheduler with its options, and what we do in its place, on data N(0.5, std^2)."""

    kind: str
    steps: int
    options: dict[str, Any] = field(default_factory=dict)
    sampler: str = "ddim"
    spacing: str = "trailing"
    std: float = 0.5
    call: dict[str, Any] = field(default_factory=dict)  # options of its step

    @property
    def curve(self) -> Schedule:
        return (
            schedule.scaled_linear().zero_terminal_snr()
            if self.options.get("rescale_betas_zero_snr")
            else schedule.scaled_linear()
        )

    @property
    def world(self) -> Gaussian:
        return Gaussian(0.5, self.std**2)

    def theirs(self) -> End:
        """What diffusers makes of a perfect network. It is told a time and sees x at unit variance, and knows
        no more.
        """
        s = peer.scheduler(self.kind, SD, **self.options)
        s.set_timesteps(self.steps)
        kind = predict.kind({"epsilon": "eps", "v_prediction": "v", "sample": "x0"}[s.config.prediction_type])

        def network(x: Tensor, t) -> Tensor:
            l = self.curve.at(
                max(float(t), 0.0)
            )  # a time below 0 is no level: the cleanest is the best that a network can make of it
            x0 = self.world(x, l)
            own = l.like(x)
            return predict.target(kind, x0, (x - own.alpha * x0) / own.sigma, own)

        def run(x: Tensor) -> Tensor:
            x = x * float(s.init_noise_sigma)
            for t in s.timesteps:
                x = s.step(network(s.scale_model_input(x, t), t), t, x, **self.call).prev_sample
            return x

        with patch.object(
            importlib.import_module(type(s).__module__), "randn_tensor", _impulses(), create=True
        ):
            return _end(run)

    def ours(self, sampler: str | None = None) -> End:
        """What our sampler makes of the exact denoiser, on our grid."""
        path = self.curve.path(self.steps, self.spacing)
        return _end(
            lambda x: last(
                SAMPLERS[sampler or self.sampler](self.world, x * float(path[0].sigma), path, _impulses())
            )
        )

    def flow(self) -> End:
        """Where the probability flow itself leads from noise: not quite to the data where the schedule ends
        with some signal.
        """
        top = self.curve.at(999)
        return _end(lambda x: self.world.flow(x * float(top.sigma), top, clean()))


DRAWS = 64


def _impulses() -> Callable[..., Tensor]:
    """Noise whose k-th draw is 1 in row 2 + k and 0 elsewhere."""
    k = 0

    def draw(like, *_, dtype: torch.dtype = torch.float64, **__) -> Tensor:
        nonlocal k
        out = torch.zeros(tuple(getattr(like, "shape", like)), dtype=dtype)
        if 2 + k < len(out):
            out[2 + k] = 1.0
        k += 1
        return out

    return draw


def _end(run: Callable[[Tensor], Tensor]) -> End:
    x = torch.zeros(2 + DRAWS, 1, dtype=torch.float64)
    x[1] = 1.0
    y = run(x).double().flatten()
    return End(float(y[0]), float((y[1:] - y[0]).norm()))
