"""How likely a model finds given data: the variational bound term by term, and the exact likelihood of its
probability flow.

The bound (Ho et al. 2020, eq. 5), in nats, for a denoiser on a path of levels x_T, …, x_1 and clean data x_0:
    L_T     = KL(q(x_T | x0) || N(0, prior^2))
    L_{t-1} = KL(q(x_{t-1} | x_t, x0) || N(mean of q(x_{t-1} | x_t, x0 = E[x0 | x_t]), var)),   x_t ~ q(x_t |
    x0)
    L_0     = -log of N(x0; E[x0 | x_1], var), integrated over the bin of x0 (pixels), or at x0 (continuous
            data)
    E[-log p(x0)] <= E[L_T + sum L_{t-1} + L_0].
The flow (Song et al. 2021, sec. 4.3). Scaled to alpha = cos a, sigma = sin a, every path is a part of one
curve, on which
    dx/da = v = (cos a x - E[x0 | x]) / sin a,      log p(x at the clean end) = log N(x at the noisy end; 0,
                                                    1) + int div v da,
which is finite at alpha = 0. It is the density of the data blurred by the path's last sigma / alpha.

prior: the standard deviation of what is drawn at path[0]; None is sqrt(alpha^2 + sigma^2): DDPM's N(0, I),
where the library's samplers start from path[0].sigma. Bits a dimension are nats / (d log 2), for dequantised
data minus log2 of the bin's width. Denoisers are used as they are: `lambda x, l: denoise(x, l).clamp(-1, 1)`
is the clipping with which DDPM is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.denoiser.adapt import Denoiser
from unnoise.process import noise as noises
from unnoise.process.level import Level, corrupt, level, noisier
from unnoise.process.noise import Noise, seeded
from unnoise.process.posterior import Normal, beta_tilde, kl, marginal, reverse
from unnoise.sample.ddim import forward_std
from unnoise.sample.ladder import Path, bounded, shared, whole
from unnoise.train.score import Projections, divergence, project

Variance = Callable[
    [Tensor, Level, Level, Tensor], Tensor
]  # (x at a, a, b, its value where beta~ = 0) -> the variance at b


class Estimate(NamedTuple):
    """A Monte Carlo mean and its standard error, each in the shape of one value."""

    mean: Tensor
    error: Tensor


def expectation(f: Callable[[Tensor], Tensor], samples: Tensor) -> Estimate:
    """E f(x) over independent samples (n, …) and its standard error, std / sqrt(n); f gives a value (n, …)
    for each sample.

    Samples of one chain are not independent: the error is then too small. Errors: BadInput on fewer than 2
    samples and on values that are not finite or not one a sample.
    """
    values = f(samples).double()
    if not values.ndim or len(values) != len(samples) or len(values) < 2:
        raise BadInput(
            f"an expectation needs 2 or more values, one a sample: given {tuple(values.shape)} for"
            f" {len(samples)} samples"
        )
    if not values.isfinite().all():
        raise BadInput("an expectation needs finite values, given NaN or infinity")
    return Estimate(values.mean(0), values.std(0) / math.sqrt(len(values)))


def bits(nats: Tensor, dim: int, width: float | None = None) -> Tensor:
    """-log p in nats, (n,), as bits a dimension: nats / (dim log 2), minus log2(width) for data dequantised
    in bins of that width.

    That is + 7 for 256 bins in [-1, 1), + 8 in [0, 1), and + 6.994 for `dequantise`, whose outermost bins are
    centred on -1 and 1.
    """
    return nats / (dim * math.log(2)) - (0 if width is None else math.log2(width))


def dequantise(x0: Tensor, seeds: Sequence[int], bins: int = 256) -> tuple[Tensor, float]:
    """(x0 with uniform noise over its bin, the bin's width 2 / (bins - 1)), for x0 (n, …) on the grid of
    `codec.Pixels` in [-1, 1].

    Sample i is a function of seeds[i]. The density of the result is a bound for pixels: E_u[-log p(x0 + u)] -
    d log(width) >= -log P(x0) (Theis et al. 2016, eq. 13). Errors: BadInput off the grid.
    """
    _bin(x0, bins)
    if len(seeds) != len(x0):
        raise BadInput(f"dequantisation needs one seed a sample, {len(x0)}, given {len(seeds)}")
    u = torch.stack([noises.uniform(int(s), "dequantise", 0, x0.shape[1:]) for s in seeds]).to(x0)
    return x0 + (2 * u - 1) / (bins - 1), 2 / (bins - 1)


# --- the variational bound ----------------------------------------------------------------------------------


class Bound(NamedTuple):
    """The terms of the bound in nats, float64: L_T (n,), L_{T-1} … L_1 (n, T - 1) noisy to clean, L_0 (n,); d
    entries a sample.
    """

    prior: Tensor
    steps: Tensor
    data: Tensor
    dim: int

    @property
    def terms(self) -> Tensor:
        """L_T, L_{T-1}, …, L_0: (n, T + 1)."""
        return torch.cat([self.prior[:, None], self.steps, self.data[:, None]], 1)

    @property
    def total(self) -> Tensor:
        """An upper bound on -log p(x0) in expectation over the noise, in nats, (n,)."""
        return self.terms.sum(1)

    def mean(self) -> Estimate:
        """The bound in bits a dimension over the data's distribution, with the standard error over samples
        and their noise.
        """
        return expectation(lambda nats: bits(nats, self.dim), self.total)

    def each(self) -> Estimate:
        """The same for each term, (T + 1,), in the order of `terms`."""
        return expectation(lambda nats: bits(nats, self.dim), self.terms)


@torch.no_grad()
def bound(
    denoise: Denoiser,
    x0: Tensor,
    path: Path,
    noise: Noise | None = None,
    variance: str | Variance = "large",
    bins: int | None = 256,
    prior: float | None = None,
) -> Bound:
    """The variational bound of clean x0 (n, …) on a path of T noisy levels down to clean data, each term with
    one draw of x_t.

    variance: of the reverse steps; "large" (DDPM's code), "small" (beta~), "beta" (DDPM's paper), or a
    function, such as `interpolated(v)` for a learned one. bins: of the decoder, for x0 on the grid of
    `codec.Pixels`; None for continuous data, where only "beta" (or better) makes the bound tight as T grows.
    noise None stands for noise.seeded(range(n), "bound"). T calls. Errors: BadInput on a path that does not
    fall to clean data, on another variance, and on x0 off the grid.
    """
    var_of, path = _variance(variance), _falling(path)
    if not path[-1].clean:
        raise BadInput(f"the bound needs a path that ends at sigma = 0, given {path[-1].sigma:g}")
    noise, first = noise or seeded(range(len(x0)), "bound"), _first(path)

    def step(a: Level, b: Level) -> Tensor:
        x = corrupt(x0, noise(x0, a, b), a)
        var = var_of(x, a, b, first)
        return decoder(denoise, x0, x, a, var, bins) if b.clean else term(denoise, x0, x, a, b, var)

    *steps, data = [step(a, b) for a, b in pairwise(path)]
    last = kl(marginal(x0, path[0]), Normal(torch.zeros_like(x0), _prior(path[0], prior) ** 2))
    return Bound(last, torch.stack(steps, 1) if steps else last.new_zeros(len(x0), 0), data, x0[0].numel())


def term(denoise: Denoiser, x0: Tensor, x: Tensor, a: Level, b: Level, var: Tensor) -> Tensor:
    """L_{t-1} in nats, (n,): the KL of the true reverse step from x at level a to b and the model's, of
    variance var.

    var is one number, one a sample, or one an entry. Differentiable in the denoiser and in var (Nichol &
    Dhariwal 2021, eq. 5, detach the former). Needs b.sigma > 0.
    """
    return kl(reverse(x, x0, a, b), Normal(reverse(x, _guess(denoise, x, a), a, b).mean, var))


def decoder(
    denoise: Denoiser, x0: Tensor, x: Tensor, a: Level, var: Tensor, bins: int | None = 256
) -> Tensor:
    """L_0 in nats, (n,): -log N(x0; E[x0 | x], var) for x at the cleanest noisy level a, over the bins of x0,
    or at x0 itself.
    """
    p = Normal(_guess(denoise, x, a), var)
    return -p.logp(x0) if bins is None else -discretised(x0, p, bins).flatten(1).sum(1)


def _guess(denoise: Denoiser, x: Tensor, a: Level) -> Tensor:
    x0 = denoise(x, a)
    if x0.shape == x.shape:
        return x0
    raise BadInput(f"the denoiser gave shape {tuple(x0.shape)} for x of {tuple(x.shape)}")


def discretised(x0: Tensor, p: Normal, bins: int = 256) -> Tensor:
    """log of p's mass in each entry's bin, in x0's shape, float64; the outermost bins reach to infinity (Ho
    et al. 2020, eq. 13).

    x0 lies on the grid of `codec.Pixels`: `bins` values from -1 to 1, each in the middle of its bin. Exact
    far out in the tails, where the published code takes a tanh for the normal's integral and stops at 1e-12.
    Errors: BadInput off the grid.
    """
    k, half = _bin(x0, bins), 1 / (bins - 1)
    std = p.var.to(x0.device).double().sqrt()
    std = std.reshape(std.shape + (1,) * (x0.ndim - std.ndim))
    low, high = ((2 * half * k - 1 + side - p.mean.double()) / std for side in (-half, half))
    low, high = torch.where(k == 0, -math.inf, low), torch.where(k == bins - 1, math.inf, high)
    low, high = (
        torch.where(low > 0, -high, low),
        torch.where(low > 0, -low, high),
    )  # the normal's integral is small at the left
    far, near = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return near + torch.log1p(-(far - near).exp())


def small(x: Tensor, a: Level, b: Level, first: Tensor) -> Tensor:
    """beta~, the variance of q(x_b | x_a, x0), right for data that is a point; the last is as in `large` (Ho
    et al. 2020, sec. 3.2).
    """
    return first if b.clean else beta_tilde(a, b)


def beta(x: Tensor, a: Level, b: Level, first: Tensor) -> Tensor:
    """beta, the variance of the forward step at unit scale, into clean data too: right for N(0, I) data (Ho
    et al. 2020, sec. 3.2).
    """
    return forward_std(a, b) ** 2


def large(x: Tensor, a: Level, b: Level, first: Tensor) -> Tensor:
    """`beta`, but into clean data beta~ of the step before, as the code of Ho et al. 2020 has it for a better
    decoder.

    That suits pixels on DDPM's own levels, where noise doubles from the first to the second. On finer steps
    it is far too small.
    """
    return first if b.clean else beta(x, a, b, first)


VARIANCES: dict[str, Variance] = {"small": small, "beta": beta, "large": large}


def interpolated(v: Callable[[Tensor, Level], Tensor]) -> Variance:
    """exp(v log beta + (1 - v) log beta~), for v(x, level) in [0, 1], one number, one a sample, or one an
    entry of x, learned by a network (Nichol & Dhariwal 2021, eq. 15: v = (output + 1) / 2). At the last step
    between beta and the beta~ of the one before.
    """

    def variance(x: Tensor, a: Level, b: Level, first: Tensor) -> Tensor:
        w, low, high = v(x, a), small(x, a, b, first), beta(x, a, b, first)
        return (w * high.log().to(w) + (1 - w) * low.log().to(w)).exp()

    return variance


def _variance(given: str | Variance) -> Variance:
    if not isinstance(given, str):
        return given
    if given not in VARIANCES:
        raise unknown("variance", given, VARIANCES)
    return VARIANCES[given]


def _first(path: Path) -> Tensor:
    """The variance that stands for beta~ where it is 0: that of the step before, or beta if there is but one
    step.
    """
    return beta_tilde(path[-3], path[-2]) if len(path) > 2 else forward_std(path[-2], path[-1]) ** 2


def _bin(x0: Tensor, bins: int) -> Tensor:
    """The number 0 … bins - 1 of each entry's bin, float64."""
    k = (x0.double() + 1) * ((whole("bins", bins, 2) - 1) / 2)
    if ((k - k.round()).abs() < 0.01).all() and k.min() > -0.5 and k.max() < bins - 0.5:
        return k.round()
    raise BadInput(
        f"x0 must hold {bins} even values from -1 to 1, given values from {x0.min():g} to {x0.max():g}, some"
        " of them others"
    )


def _prior(l: Level, std: float | None) -> Tensor:
    if std is None:
        return torch.hypot(l.alpha, l.sigma)
    if bounded("prior", std, 0) in (0, math.inf):
        raise BadInput(f"prior must be a positive standard deviation, given {std!r}")
    return torch.tensor(std, dtype=torch.float64)


def _falling(path: Path) -> Path:
    """The checked path, one level for the whole batch, without upward moves."""
    path = shared(path, "a likelihood")
    if any(noisier(a, b) for a, b in pairwise(path)):
        raise BadInput("a likelihood needs a path that falls all the way: it goes up")
    return path


# --- the exact likelihood -----------------------------------------------------------------------------------

# Butcher's tableaux: (the share of the step at which each slope is taken, its weights of the earlier slopes,
# all weights)
RULES = {
    "heun": ((0.0, 1.0), ((), (1.0,)), (1 / 2, 1 / 2)),
    "rk4": ((0.0, 0.5, 0.5, 1.0), ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}


class Flow(NamedTuple):
    """log p in nats, (n,) float64, and where the flow takes the data: its latent z (n, …), N(0, prior^2) at
    path[0] were the model exact.
    """

    logp: Tensor
    z: Tensor


@torch.no_grad()
def flow(
    denoise: Denoiser,
    x0: Tensor,
    path: Path,
    probe: str | None = "rademacher",
    seeds: Sequence[int] | None = None,
    probes: int = 1,
    rule: str = "rk4",
    prior: float | None = None,
) -> Flow:
    """The log density of clean x0 (n, …) under the probability flow of a denoiser, up the path's levels (Song
    et al. 2021, eq. 39).

    probe: of Hutchinson's trace, "rademacher" or "gaussian" (unbiased; the former varies less), `probes` a
    sample, the same all along the path, sample i's from seeds[i] (default i); None for the exact trace. rule:
    "rk4" or "heun". Each move down the path but the last, into sigma = 0, costs 4 calls or 2, and a backward
    pass for each probe, exactly one for each entry, at every call. Pixels first need `dequantise`, and
    `bits(-logp, d, width)`. Errors: BadInput on options out of range and on a path that goes up.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    levels = _noisy(path)
    angles = [math.atan2(l.sigma, l.alpha) for l in levels]
    v, end = _probe(probe, x0, seeds, probes), levels[-1]
    x, total = math.cos(angles[0]) * x0, x0.new_zeros(len(x0), dtype=torch.float64)
    for a, b in pairwise(angles):
        x, rise = _move(denoise, x, a, b, v, rule)
        total = total + rise
    scale = torch.hypot(end.alpha, end.sigma)
    logp = Normal(torch.zeros_like(x), (_prior(end, prior) / scale) ** 2).logp(x)
    return Flow(logp + total + x0[0].numel() * math.log(math.cos(angles[0])), scale.item() * x)


def _noisy(path: Path) -> list[Level]:
    """The checked path's levels with noise, cleanest first."""
    levels = [l for l in _falling(path) if not l.clean][::-1]
    if len(levels) < 2:
        raise BadInput(f"a flow needs two or more levels with noise, given {len(levels)}")
    return levels


def _probe(probe: str | None, x: Tensor, seeds: Sequence[int] | None, count: int) -> Projections | None:
    if probe is None:
        return None
    if probe not in ("rademacher", "gaussian"):
        raise unknown("probe", probe, ("rademacher", "gaussian"))
    return project(probe, x, seeded(range(len(x)) if seeds is None else seeds, "probe"), count)


def _slope(denoise: Denoiser, x: Tensor, angle: float, v: Projections | None) -> tuple[Tensor, Tensor]:
    """v = dx/da at alpha = cos a, sigma = sin a, and its divergence (n,)."""
    cos, sin, l = math.cos(angle), math.sin(angle), level(math.cos(angle), math.sin(angle))
    x0, trace = divergence(lambda y: denoise(y, l), x, v)
    # the trace of cos a x by the same probe: the two all but cancel
    of_x = x[0].numel() if v is None else v.v.double().square().flatten(2).sum(2).mean(0)
    return (cos * x - x0) / sin, (cos * of_x - trace.double()) / sin


def _move(
    denoise: Denoiser, x: Tensor, a: float, b: float, v: Projections | None, rule: str
) -> tuple[Tensor, Tensor]:
    """x at angle b and the integral of the divergence from a to b, by one Runge-Kutta step."""
    nodes, rows, weights = RULES[rule]
    slopes: list[tuple[Tensor, Tensor]] = []
    for c, row in zip(nodes, rows):
        y = x + sum((b - a) * w * s for w, (s, _) in zip(row, slopes))
        slopes.append(_slope(denoise, y, a + c * (b - a), v))
    dx, rise = (sum((b - a) * w * s[i] for w, s in zip(weights, slopes)) for i in (0, 1))
    return x + dx, torch.as_tensor(rise)
