"""Exact denoisers: distributions of x0 for which E[x0 | x] has a closed form. What everything else is tested
against.

If x0 ~ sum_k w_k N(m_k, C_k) and x = alpha x0 + sigma eps, then with S_k = alpha^2 C_k + sigma^2 I
    p(x)      = sum_k w_k N(x; alpha m_k, S_k),
    E[x0 | x] = sum_k p(k | x) (m_k + alpha C_k S_k^-1 (x - alpha m_k)),
    score     = grad log p(x) = (alpha E[x0 | x] - x) / sigma^2   (Tweedie).
`Mixture` is that; `Gaussian` is one component, with its probability flow; `Empirical` is a finite dataset
(C_k = 0).

Each is a Denoiser: called with x (n, *shape) and a Level of shape () or (n,), it returns E[x0 | x] in x's
shape and dtype, by float64 arithmetic, differentiable in x. At alpha = 0 that is the data mean; at sigma = 0,
x / alpha. Row i of what `Mixture` and `Gaussian` answer does not depend on the other rows, bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.process.level import Level
from unnoise.process.noise import draw, uniform

_TINY = (
    1e-30  # stands for a variance of exactly 0, where a component without spread meets a level without noise
)
_CHUNK = 2**22  # numbers that `Empirical` holds at once, apart from its data and its weights


class Mixture:
    """The Gaussian mixture sum_k weights[k] N(means[k], C_k), as an exact Denoiser.

    means: (k, *shape), or (k,) for numbers. std: one standard deviation, or one a component, (k,); or else
    cov: variances (k, *shape) or full matrices (k, D, D), D the product of shape. weights: (k,) positive,
    normalised here; equal when None. labels: the class of each component (several may share one); by default
    each is a class of its own, named 0 … k-1. A mean of a single number fits x of any shape: it stands for a
    constant vector.
    """

    def __init__(self, means, std=None, weights=None, *, cov=None, labels: Sequence[Hashable] | None = None):
        means = _numbers("means", means)
        if not means.ndim or not means.numel():
            raise BadInput("means must be a list of one or more points, one a component")
        self.k, self.shape = len(means), means.shape[1:] or torch.Size([1])
        self.means = means.reshape(self.k, -1)
        if (std is None) == (cov is None):
            raise BadInput("a mixture needs one of std and cov")
        self.var, self.basis = _spread(self.k, self.means.shape[1], std, cov)
        self.weights = _weights(self.k, weights)
        self.labels = list(range(self.k)) if labels is None else list(labels)
        if len(self.labels) != self.k:
            raise BadInput(f"labels must be one a component, {self.k}, given {len(self.labels)}")
        self.names = list(dict.fromkeys(self.labels))

    @classmethod
    def ring(cls, modes: int = 8, radius: float = 1.0, std: float = 0.1) -> Mixture:
        """`modes` equal round Gaussians on a circle in the plane, data near unit scale: the test bed for
        samplers.
        """
        if modes < 1:
            raise BadInput(f"a ring needs at least one mode, given {modes}")
        angle = torch.arange(modes, dtype=torch.float64) * (2 * math.pi / modes)
        return cls(radius * torch.stack([angle.cos(), angle.sin()], 1), std)

    @classmethod
    def from_json(cls, path: str | Path) -> Mixture:
        """The mixture in a file {"means": [[…], …], "std": s or [s, …]}, which may also hold "weights" and
        "labels".
        """
        try:
            spec = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as e:
            raise BadInput(f"cannot read mixture {str(path)!r}: {e.strerror or e}") from e
        except ValueError as e:
            raise BadInput(f"mixture {str(path)!r} is not JSON: {e}") from e
        keys = ("means", "std", "weights", "labels")
        if not isinstance(spec, dict) or not {"means", "std"} <= set(spec):
            raise BadInput(
                f'mixture {str(path)!r} must be {{"means": [[…], …], "std": s}} ("weights", "labels"'
                " optional)"
            )
        for key in spec:
            if key not in keys:
                raise unknown(f"entry of mixture {str(path)!r}", key, keys)
        try:
            return cls(**spec)
        except (BadInput, TypeError) as e:
            raise BadInput(f"mixture {str(path)!r}: {e}") from e

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """E[x0 | x] in x's shape and dtype."""
        y, a, s = _prepare(x, level)
        logit, each, _ = self._parts(y, a, s)
        out = (logit.softmax(1)[..., None] * each).sum(1, keepdim=True)
        return _clean(out, y, a, s).reshape(x.shape).to(x)

    def logp(self, x: Tensor, level: Level) -> Tensor:
        """log p(x) of the corrupted distribution at `level`, in nats, (n,) float64."""
        return self._parts(*_prepare(x, level))[0].logsumexp(1)

    def pdf(self, x: Tensor, level: Level) -> Tensor:
        """The density exp(logp), (n,) float64."""
        return self.logp(x, level).exp()

    def score(self, x: Tensor, level: Level) -> Tensor:
        """grad_x log p(x) at `level`, in x's shape and dtype; finite at sigma = 0 wherever the density is."""
        y, a, s = _prepare(x, level)
        logit = self._parts(y, a, s)[0]
        pull = self._out(self._into(y - a * self.means.to(y)) / self._total(a, s))
        return -(logit.softmax(1)[..., None] * pull).sum(1).reshape(x.shape).to(x)

    def log_classes(self, x: Tensor, level: Level) -> Tensor:
        """log p(class | x) at `level`, (n, classes) float64, columns in the order of `names`: the exact
        classifier.
        """
        logs = self._parts(*_prepare(x, level))[0].log_softmax(1)
        if len(self.names) == self.k:
            return logs
        return torch.stack([logs[:, self._own(name)].logsumexp(1) for name in self.names], 1)

    def classes(self, x: Tensor, level: Level) -> Tensor:
        """p(class | x) at `level`, (n, number of classes) float64; rows add up to 1."""
        return self.log_classes(x, level).exp()

    def posterior_var(self, x: Tensor, level: Level) -> Tensor:
        """Var[x0 | x] of each coordinate, in x's shape and dtype."""
        r, dev, var = self._spread_of(x, level)
        within = var if self.basis is None else (self.basis.to(var) ** 2 * var[..., None, :]).sum(-1)
        return (r[..., None] * (within + dev**2)).sum(1).reshape(x.shape).to(x)

    def posterior_cov(self, x: Tensor, level: Level) -> Tensor:
        """Cov[x0 | x], (n, D, D) over the flattened coordinates, in x's dtype. Equal to (sigma^2 / alpha)
        dE[x0 | x]/dx.
        """
        r, dev, var = self._spread_of(x, level)
        within = torch.diag_embed(var)
        if self.basis is not None:
            within = self.basis.to(var) @ within @ self.basis.to(var).mT
        return (r[..., None, None] * (within + dev[..., None] * dev[..., None, :])).sum(1).to(x)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n clean samples, (n, *shape) float64, a function of the seed; sample(m) is the start of sample(n)
        for m < n.
        """
        pick = torch.searchsorted(self.weights.cumsum(0), uniform(seed, "oracle.component", 0, (n,))).clamp(
            max=self.k - 1
        )
        z = self.var.sqrt()[pick] * draw(seed, "oracle", 0, (n, self.means.shape[1]))
        if self.basis is not None:
            z = (self.basis[pick] * z[:, None]).sum(-1)
        return (self.means[pick] + z).reshape(n, *self.shape)

    def component(self, n: int, seed: int = 0) -> list[Hashable]:
        """The labels of `sample(n, seed)`."""
        pick = torch.searchsorted(self.weights.cumsum(0), uniform(seed, "oracle.component", 0, (n,))).clamp(
            max=self.k - 1
        )
        return [self.labels[i] for i in pick]

    def given(self, label: Hashable) -> Mixture:
        """The distribution of x0 given its class: the mixture of that class's components."""
        if label not in self.names:
            raise unknown("class", label, map(str, self.names))
        own, v = self._own(label), self.basis
        cov = self.var[own].expand(-1, self.means.shape[1])
        if v is not None:
            cov = v[own] @ torch.diag_embed(cov) @ v[own].mT
        means = self.means[own].reshape(-1, *self.shape)
        return Mixture(means, weights=self.weights[own], cov=cov, labels=[label] * len(own))

    def _own(self, label: Hashable) -> list[int]:
        """The components of a class."""
        return [i for i, l in enumerate(self.labels) if l == label]

    # Arrays below are (n, k, D): sample, component, coordinate in that component's eigenbasis.

    def _parts(self, y: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log w_k + log N(x; alpha m_k, S_k), (n, k); E[x0 | x, k]; Var[x0 | x, k] along the eigenbasis."""
        mean, var, total = self.means.to(y), self.var.to(y), self._total(a, s)
        diff = self._into(y - a * mean)
        logit = self.weights.to(y).log() - (diff**2 / total + (2 * math.pi * total).log()).sum(-1) / 2
        return logit, mean + self._out(a * var / total * diff), (var * s**2 / total).expand_as(diff)

    def _total(self, a: Tensor, s: Tensor) -> Tensor:
        return (a**2 * self.var.to(a) + s**2).clamp(min=_TINY)

    def _into(self, z: Tensor) -> Tensor:
        # A product and a sum, not a matrix product, whose rounding would depend on the number of rows.
        return z if self.basis is None else (self.basis.to(z).mT * z[..., None, :]).sum(-1)

    def _out(self, z: Tensor) -> Tensor:
        return z if self.basis is None else (self.basis.to(z) * z[..., None, :]).sum(-1)

    def _spread_of(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """p(k | x), each component's deviation from E[x0 | x], and its own posterior variances."""
        logit, each, var = self._parts(*_prepare(x, level))
        r = logit.softmax(1)
        return r, each - (r[..., None] * each).sum(1, keepdim=True), var


class Gaussian(Mixture):
    """N(mean, cov), exact. mean: a number or (*shape); cov: a variance, variances (*shape), or a matrix (D,
    D).
    """

    def __init__(self, mean, cov):
        mean, cov = _numbers("mean", mean), _numbers("cov", cov)
        shape = mean.shape or (cov.shape[:1] if cov.ndim == 2 else cov.shape) or torch.Size([1])
        try:
            mean = mean.expand(shape)[None]
        except RuntimeError as e:
            raise BadInput(f"mean {tuple(mean.shape)} and cov {tuple(cov.shape)} do not match") from e
        super().__init__(mean, cov=(cov if cov.ndim else cov.expand(shape))[None])

    def flow(self, x: Tensor, a: Level, b: Level) -> Tensor:
        """x taken from level a to level b by the exact probability flow: S_b^1/2 S_a^-1/2 on the deviation
        from the mean.
        """
        y, alpha, sigma = _prepare(x, a)
        _, alpha2, sigma2 = _prepare(x, b)
        gain = (self._total(alpha2, sigma2) / self._total(alpha, sigma)).sqrt()
        mean = self.means.to(y)
        return (alpha2 * mean + self._out(gain * self._into(y - alpha * mean))).reshape(x.shape).to(x)


class Empirical:
    """The ideal denoiser of a finite dataset (N, *shape): its mean with weights softmax(-|x - alpha d|^2 / (2
    sigma^2)).

    What a network that memorised its training set would answer (Karras et al. 2022, eq. 57). Work is split so
    that memory beyond the data stays near n N numbers for a batch of n.
    """

    def __init__(self, data):
        data = data if isinstance(data, Tensor) and data.is_floating_point() else _numbers("data", data)
        if not data.ndim or not len(data):
            raise BadInput("the empirical denoiser needs at least one data point")
        self.shape, self.data = data.shape[1:], data.reshape(len(data), -1)
        if not self.data.isfinite().all():
            raise BadInput("data must be finite numbers")

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """E[x0 | x] in x's shape and dtype."""
        y, a, s = (v.flatten(1) for v in _prepare(x, level))
        return _clean(self._average(self._logits(y, a, s).softmax(1), 1), y, a, s).reshape(x.shape).to(x)

    def logp(self, x: Tensor, level: Level) -> Tensor:
        """log p(x) at `level`, in nats, (n,) float64; sigma must be positive (the data themselves have no
        density).
        """
        y, a, s = (v.flatten(1) for v in _prepare(x, level))
        if not (s > 0).all():
            raise BadInput("a finite dataset has no density at sigma = 0")
        most = self._logits(y, a, s).logsumexp(1) - math.log(len(self.data))
        return most - (y**2 / s**2).sum(1) / 2 - y.shape[1] * (2 * math.pi * s**2).log()[:, 0] / 2

    def score(self, x: Tensor, level: Level) -> Tensor:
        """grad_x log p(x) = (alpha E[x0 | x] - x) / sigma^2, in x's shape and dtype; sigma must be
        positive.
        """
        l = level.like(x)
        return (l.alpha * self(x, level) - x) / l.sigma**2

    def posterior_var(self, x: Tensor, level: Level) -> Tensor:
        """Var[x0 | x] of each coordinate, in x's shape and dtype."""
        w = self._logits(*(v.flatten(1) for v in _prepare(x, level))).softmax(1)
        return (self._average(w, 2) - self._average(w, 1) ** 2).clamp(min=0).reshape(x.shape).to(x)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n data points drawn with replacement, (n, *shape) in the data's dtype."""
        pick = (uniform(seed, "oracle.component", 0, (n,)) * len(self.data)).long()
        return self.data[pick].reshape(n, *self.shape)

    def _logits(self, y: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """-|x - alpha d|^2 / 2 sigma^2 up to a constant of the row, (n, N)."""
        var = (s**2).clamp(min=_TINY)
        return torch.cat([(a * (y @ d.mT) - a**2 * (d**2).sum(1) / 2) / var for d in self._chunks(y)], 1)

    def _average(self, w: Tensor, power: int) -> Tensor:
        chunks = zip(w.split(self._rows, 1), self._chunks(w))
        return torch.stack([part @ d**power for part, d in chunks]).sum(0)

    def _chunks(self, like: Tensor):
        return (d.to(like) for d in self.data.split(self._rows))

    @property
    def _rows(self) -> int:
        return max(1, _CHUNK // max(1, self.data.shape[1]))


def tilted(cond: Gaussian, uncond: Gaussian, gamma: float) -> Gaussian:
    """The Gaussian p_c^gamma p_u^(1 - gamma) / Z: 0 is `uncond`, 1 `cond`. Variances along the coordinates
    only.

    p(y | x) = p_c / p_u up to a constant, so gamma grad log p(y | x) + grad log p(x) is its score. Errors:
    BadInput where it has no finite integral, and as for `guided_flow`.
    """
    (m, v), (n, u) = _alike(cond, uncond)
    precision = gamma / v + (1 - gamma) / u
    if not (precision > 0).all():
        raise BadInput(f"p_c^gamma p_u^(1 - gamma) has no finite integral at gamma = {gamma:g}")
    return Gaussian((gamma * m / v + (1 - gamma) * n / u) / precision, 1 / precision)


def guided_flow(cond: Gaussian, uncond: Gaussian, gamma: float) -> Gaussian:
    """Where the probability flow of gamma grad log p(y | x) + grad log p(x), taken at every level, leads from
    pure noise.

    Not `tilted`: noising and raising to a power do not commute. With variances v of cond and u of uncond the
    flow is linear in x,
        dx/ds = (gamma (x - m_c) / (v + s) + (1 - gamma) (x - m_u) / (u + s)) / 2,   s = (sigma / alpha)^2,
    and from s = inf to 0 gives
        variance = v^gamma u^(1 - gamma),   mean = m_u + w (m_c - m_u),
        w = gamma (v / u)^((gamma - 1) / 2) int_0^1 (1 + (u / v - 1) z^2)^((gamma - 1) / 2) dz.
    Errors: BadInput on variances of 0, covariances that are not diagonal, means of different shapes.
    """
    (m, v), (n, u) = _alike(cond, uncond)
    z, weight = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(200))
    power = (gamma - 1) / 2
    integral = ((1 + (u / v - 1)[..., None] * ((z + 1) / 2) ** 2) ** power * weight / 2).sum(-1)
    return Gaussian(n + gamma * (v / u) ** power * integral * (m - n), v**gamma * u ** (1 - gamma))


def _alike(*both: Gaussian) -> list[tuple[Tensor, Tensor]]:
    """Means and variances, each in the data's shape."""
    if len({g.shape for g in both}) > 1:
        raise BadInput(
            f"two Gaussians must be of one shape, given {' and '.join(str(tuple(g.shape)) for g in both)}"
        )
    for g in both:
        if g.basis is not None or not (g.var > 0).all():
            raise BadInput("both Gaussians must have positive variances along the coordinates")
    return [(g.means[0].reshape(g.shape), g.var[0].expand(g.means.shape[1]).reshape(g.shape)) for g in both]


gaussian, mixture, empirical, ring, from_json = Gaussian, Mixture, Empirical, Mixture.ring, Mixture.from_json


def _prepare(x: Tensor, level: Level) -> tuple[Tensor, Tensor, Tensor]:
    """x as (n, 1, D) and alpha, sigma as (n or 1, 1, 1), in float64."""
    y = x.double().reshape(len(x), 1, -1)
    a, s = (v.to(y).reshape(-1, 1, 1) for v in level)
    return y, a, s


def _clean(out: Tensor, y: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """`out`, or x / alpha where there is no noise."""
    return torch.where(s == 0, y / torch.where(a == 0, 1.0, a), out)


def _numbers(name: str, given) -> Tensor:
    """`given` as a finite float64 tensor."""
    try:
        out = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as e:
        raise BadInput(f"{name} must be numbers, rows of one length; given {str(given)[:60]}") from e
    if not out.isfinite().all():
        raise BadInput(f"{name} must be finite numbers")
    return out


def _weights(k: int, weights) -> Tensor:
    w = torch.ones(k, dtype=torch.float64) if weights is None else _numbers("weights", weights)
    if w.shape != (k,):
        raise BadInput(f"weights must be one a component, {k}, given shape {tuple(w.shape)}")
    if not (w > 0).all():
        raise BadInput(f"weights must be positive, given {w.min():g}")
    return w / w.sum()


def _spread(k: int, d: int, std, cov) -> tuple[Tensor, Tensor | None]:
    """The variances (k, D or 1) of the components, and their eigenbases (k, D, D) or None for the coordinates
    themselves.
    """
    if cov is None:
        std = _numbers("std", std)
        if std.shape not in ((), (k,)):
            raise BadInput(f"std must be 1 number, or {k}, given shape {tuple(std.shape)}")
        if (std < 0).any():
            raise BadInput(f"std must not be negative, given {std.min():g}")
        return std.square().reshape(-1, 1).expand(k, 1), None
    cov = _numbers("cov", cov)
    if cov.shape == (k, d, d) and d > 1:
        return _eigen(cov)
    if not cov.ndim or len(cov) != k or cov.numel() != k * d:
        raise BadInput(
            f"cov must be variances ({k}, {d}) or matrices ({k}, {d}, {d}), given {tuple(cov.shape)}"
        )
    if (cov < 0).any():
        raise BadInput(f"a variance must not be negative, given {cov.min():g}")
    return cov.reshape(k, d), None


def _eigen(cov: Tensor) -> tuple[Tensor, Tensor]:
    size = float(cov.abs().max())
    if not torch.allclose(cov, cov.mT, atol=1e-10 * size):
        raise BadInput("a covariance matrix must be symmetric")
    var, basis = torch.linalg.eigh(cov)
    if var.min() < -1e-9 * size:
        raise BadInput(f"a covariance matrix must be positive, given an eigenvalue {var.min():g}")
    return var.clamp(min=0), basis
