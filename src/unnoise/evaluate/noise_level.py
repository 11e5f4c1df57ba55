"""How noisy is a picture? The sigma of x = x0 + sigma eps, from x alone: white noise of one strength in every
pixel and channel.

    mad      median |w| / 0.6745, w the finest diagonal wavelet of the picture (Donoho & Johnstone 1994): of
             smooth pictures little but noise is left there, and the median hardly sees the few edges
    clipped  the sigma whose own normal law has this mean square within 2 sigma, found from mad downwards:
             edges are left out altogether
    pca      patches of a picture lie near a plane, noise leaves no direction out: the least eigenvalues of
             their covariance are sigma^2. Which ones: the most whose mean does not exceed their median (Chen,
             Zhu & Heng 2015, alg. 1), by more than the r / N that equal ones spread when r of them are
             measured from N patches
    smaller  the smaller of clipped (best on flat pictures) and pca (best on texture): what is no noise only
             adds to either
    a function of the pictures, such as a network trained for it

sigma is in the units of x, which runs from -1 to 1: 1 / 127.5 is one grey level. Noise that was clipped at
black or white is hidden there, so that all come out too low on pictures that are mostly black or white;
texture finer than 3 pixels reads as noise. In d numbers no estimate can be better than 1 / sqrt(2 d) of
sigma: the spread of the noise's own length.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.denoiser.adapt import Denoiser
from unnoise.process.level import ve

NORMAL = 0.6744897501960817  # the median of |z|, z a unit normal
TAPS = (
    torch.tensor([1.0, -3.0, 3.0, -1.0]) + 3**0.5 * torch.tensor([-1.0, 1.0, 1.0, -1.0])
).double() / 32**0.5  # Daubechies' high-pass of 4
SMALLEST = 8  # pixels a side
ENOUGH = 64  # patches for each number in a patch
MANY = 2**15  # patches of one picture, about: more only cost time
Method = Callable[[Tensor], Tensor]  # (n, c, h, w) float64 -> sigma (n,)


def estimate_sigma(images: np.ndarray | Tensor, method: str | Method = "smaller") -> Tensor:
    """The standard deviation of the noise of each picture, (n,) float64 on the CPU, in units in which
    pictures run from -1 to 1.

    images: floats (n, c, h, w) near [-1, 1], or uint8 (n, h, w, c). method: one of METHODS, or a function of
    the float pictures. BadInput: another shape or type, sides below 8 pixels,
    values that are not finite.
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise unknown("method", method, METHODS)
        method = METHODS[method]
    return method(_pictures(images)).double()


def mad(x: Tensor) -> Tensor:
    """sigma (n,) of pictures (n, c, h, w) from the finest diagonal wavelet, at every offset and over all
    channels.
    """
    return _finest(x).abs().median(1).values / NORMAL


def clipped(x: Tensor, k: float = 2.0, steps: int = 30) -> Tensor:
    """sigma (n,) with E[w^2 given |w| < k sigma] = sigma^2 (1 - 2 k phi(k) / P(|z| < k)), w as in `mad`; 0
    where mad is.
    """
    w = _finest(x)
    phi, within = math.exp(-k * k / 2) / math.sqrt(2 * math.pi), math.erf(k / math.sqrt(2))
    sigma = w.abs().median(1).values / NORMAL
    for _ in range(steps):
        inside = w.abs() <= k * sigma[:, None]
        square = (w * inside).square().sum(1) / inside.sum(1).clamp(min=1)
        sigma = (square / (1 - 2 * k * phi / within)).sqrt()
    return sigma


def pca(x: Tensor) -> Tensor:
    """sigma (n,) of pictures (n, c, h, w) from the covariance of their patches, all channels of a patch in
    one vector.
    """
    patches = [_patches(one) for one in x.split(1)]
    values = torch.cat([torch.linalg.eigvalsh(_covariance(u)) for u in patches])  # ascending
    r, n = patches[0].shape[1:]
    k = torch.arange(1, r + 1)
    mean, median = values.cumsum(1) / k, (values[:, (k - 1) // 2] + values[:, k // 2]) / 2  # of the k least
    most = torch.where(mean <= median * (1 + r / n), k - 1, 0).amax(1, keepdim=True)
    return mean.gather(1, most)[:, 0].clamp(min=0).sqrt()


def smaller(x: Tensor) -> Tensor:
    """The smaller of `clipped` and `pca`, (n,)."""
    return torch.minimum(clipped(x), pca(x))


METHODS: dict[str, Method] = {"mad": mad, "clipped": clipped, "pca": pca, "smaller": smaller}


@torch.no_grad()
def residual(denoise: Denoiser, x: Tensor, sigma: Tensor, steps: int = 1) -> Tensor:
    """|x - D(x, sigma)| / sqrt(d), (n,): the noise that a denoiser finds in x (n, ...), begun at sigma (n,)
    and repeated `steps` times.

    For denoisers that know no level any sigma will do (Kadkhodaie & Simoncelli 2021). Too low: its square
    falls short of sigma^2 by the mean squared error of D, which counts most where little is left of the
    picture.
    """
    for _ in range(steps):
        sigma = (x - denoise(x, ve(sigma))).double().flatten(1).square().mean(1).sqrt()
    return sigma


def _finest(x: Tensor) -> Tensor:
    """The finest diagonal wavelet of pictures (n, c, h, w) at every offset, (n, coefficients): of unit noise,
    unit variance.
    """
    kernel = TAPS.to(x).outer(TAPS.to(x))[None, None]
    return F.conv2d(x.flatten(0, 1)[:, None], kernel).reshape(len(x), -1)


def _patches(x: Tensor) -> Tensor:
    """(n, c p^2, patches): of the largest side p, 8 to 3, for which there are enough; of large pictures not
    at every offset.
    """
    _, c, h, w = x.shape
    p = next((p for p in range(8, 3, -1) if (h - p + 1) * (w - p + 1) >= ENOUGH * c * p * p), 3)
    return F.unfold(x, p, stride=max(1, math.isqrt(h * w // MANY)))


def _covariance(patches: Tensor) -> Tensor:
    """(n, r, patches) -> (n, r, r)."""
    d = patches - patches.mean(2, keepdim=True)
    return d @ d.mT / (d.shape[2] - 1)


def _pictures(images: np.ndarray | Tensor) -> Tensor:
    x = torch.as_tensor(images)
    if x.dtype == torch.uint8 and x.ndim == 4:
        x = x.movedim(-1, 1).double() / 127.5 - 1
    if x.ndim != 4 or not x.is_floating_point() or not len(x):
        raise BadInput(
            f"pictures must be floats (n, c, h, w) or uint8 (n, h, w, c), given {images.dtype}"
            f" {tuple(images.shape)}"
        )
    if min(x.shape[2:]) < SMALLEST:
        raise BadInput(
            f"to tell its noise a picture needs {SMALLEST} pixels a side, given {tuple(x.shape[2:])}"
        )
    if not x.isfinite().all():
        raise BadInput("pictures must be finite numbers")
    return x.detach().double().cpu()
