"""The codec of latent models: pictures <-> scaled latents, through an autoencoder.

    encode: images -> [-1, 1] -> z of the autoencoder -> (z - shift) * scale;    decode: the same backwards,
    to rounded uint8.
One image at a time: a picture does not depend on its batch, and memory not on the batch's size. What is not
finite is an error that names the image, never a black one; half precision is first given another chance in
float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.codec.pixels import over_cells
from unnoise.media import PICTURES, Medium
from unnoise.nets.autoencoder import Autoencoder
from unnoise.nets.tiles import check_tiling

LIMIT = 8192  # pixels a side


@dataclass(frozen=True)
class Latents:
    """Images of sizes divisible by f = `net.config.factor`, height x width where nothing else is asked for.

    scale, shift: the diffusion model's latents are (z - shift) * scale. tile: (tile, overlap) in latent cells
    along a side, for images larger than a tile; None never cuts. decode_with: what to call in place of the
    autoencoder's own decode, tiled or not: float32 (1, c, h, w) -> (1, channels, f h, f w). A call changes
    nothing, so that threads may share one.
    """

    net: Autoencoder
    height: int
    width: int
    scale: float = 0.18215
    shift: float = 0.0
    tile: tuple[int, int] | None = None
    decode_with: Callable[[Tensor], Tensor] | None = None
    kind: ClassVar[str] = "latents"
    free: ClassVar[bool] = True

    def __post_init__(self):
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise BadInput(f"latents' scale must be finite and above 0, given {self.scale!r}")
        if not np.isfinite(self.shift):
            raise BadInput(f"latents' shift must be finite, given {self.shift!r}")
        if self.tile is not None:
            check_tiling(*self.tile)
        self.check_size(self.height, self.width)

    @classmethod
    def of(cls, net: Autoencoder, height: int, width: int, tile: tuple[int, int] | None = None) -> Latents:
        """With the scale and shift that the autoencoder was published with."""
        return cls(net, height, width, net.config.scaling_factor, net.config.shift_factor or 0.0, tile)

    def check_size(self, height: int, width: int) -> None:
        """BadInput unless both are whole numbers, divisible by f, from f to 8192."""
        f = self.net.config.factor
        for name, given in (("height", height), ("width", width)):
            if isinstance(given, bool) or not isinstance(given, int) or not f <= given <= LIMIT or given % f:
                raise BadInput(f"{name} must be a multiple of {f} from {f} to {LIMIT}, given {given!r}")

    @property
    def medium(self) -> Medium:
        return PICTURES

    @property
    def autoencoder(self) -> Autoencoder:
        """The network between pictures and latents."""
        return self.net

    @property
    def channels(self) -> int:
        """Of a picture."""
        return self.net.config.in_channels

    @property
    def cell(self) -> int:
        """Pixels a side of one position of the latents: f."""
        return self.net.config.factor

    def shape(self, n: int, size: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """The tensor shape of n images' latents: (n, latent channels, height / f, width / f)."""
        h, w = size or (self.height, self.width)
        self.check_size(h, w)
        return n, self.net.config.latent_channels, h // self.net.config.factor, w // self.net.config.factor

    def encode(
        self, images: np.ndarray, noise: Tensor | None = None, blank: np.ndarray | None = None
    ) -> Tensor:
        """uint8 (n, h, w, c) -> scaled latents, float32 on the network's device: the likeliest, or a sample
        by `noise`.

        noise: unit normals of the latents' shape. blank: bool (h, w), pixels that are 0, exactly half-way.
        BadInput on another type, size or channel count, or an output that is not finite.
        """
        c = self.net.config.in_channels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != c:
            raise BadInput(f"images must be uint8 (n, h, w, {c}), given {images.dtype} {images.shape}")
        want = self.shape(len(images), images.shape[1:3])
        if noise is not None and tuple(noise.shape) != want:
            raise BadInput(f"noise must be {want}, given {tuple(noise.shape)}")
        z = torch.empty(want, device=self._at.device)
        for i, image in enumerate(images):
            x = torch.tensor(image, device=z.device).permute(2, 0, 1)[None].float() / 127.5 - 1
            if blank is not None:
                x = x.masked_fill(torch.from_numpy(blank).to(x.device), 0)
            one = None if noise is None else noise[i : i + 1]
            z[i] = self._finite(
                lambda net, x, one=one: self._encode(net, x, one),
                x,
                f"encode: the encoder's output for image {i}",
            )[0]
        return (z - self.shift) * self.scale

    def decode(self, z: Tensor) -> np.ndarray:
        """Scaled latents (n, c, h, w) -> uint8 (n, f h, f w, channels), rounded; values outside [-1, 1] are
        clipped.

        BadInput names what is not finite: the latents given, or the decoder's output (of half precision: in
        float32 too).
        """
        c, f = self.net.config, self.net.config.factor
        if z.ndim != 4 or z.shape[1] != c.latent_channels:
            raise BadInput(f"latents must be (n, {c.latent_channels}, h, w), given {tuple(z.shape)}")
        self.check_size(z.shape[2] * f, z.shape[3] * f)
        for i, one in enumerate(z):
            if not torch.isfinite(one).all():
                raise BadInput(f"cannot decode: the latents of image {i} hold non-finite values")
        images = np.empty((len(z), z.shape[2] * f, z.shape[3] * f, c.out_channels), np.uint8)
        for i in range(len(z)):
            x = self._finite(
                self._decode,
                self.unscale(z[i : i + 1].detach()),
                f"decode: the decoder's output for image {i}",
                self.decode_with,
            )[0]
            images[i] = ((x.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()
        return images

    def unscale(self, z: Tensor) -> Tensor:
        """Scaled latents as the autoencoder has them, in float32: `net.decode(unscale(z))` can be
        differentiated.
        """
        return z.float() / self.scale + self.shift

    def images(self) -> Callable[[Tensor], Tensor]:
        """Latents -> pictures (n, c, h, w), about -1 … 1, to differentiate: on a CPU in float32."""
        net, at = self.net, self._at
        if at.device.type == "cpu" and at.dtype != torch.float32:
            net = copy.deepcopy(net).float()
            at = next(net.parameters())
        return lambda z: net.decode(self.unscale(z).to(at)).float()

    def cells(self, mask: np.ndarray, x: Tensor) -> Tensor:
        """See `codec.pixels.over_cells`."""
        return over_cells(mask, x)

    def moved(self, place: Callable[[Any], Any]) -> Self:
        """The same with the autoencoder that place(net) gives."""
        return replace(self, net=place(self.net))

    def decoding_by(self, decode: Callable[[Tensor], Tensor]) -> Self:
        """The same, with what to call in place of the autoencoder's own decode."""
        return replace(self, decode_with=decode)

    def decoding_bytes(self) -> int:
        """Six pictures of the last level's width, and the decoder's weights, in float32."""
        pixels = self.net.config.block_out_channels[0] * self.height * self.width
        return 4 * 6 * pixels + 4 * sum(p.numel() for p in self.net.decoder.parameters())

    def config(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "height": self.height,
            "width": self.width,
            "scale": self.scale,
            "shift": self.shift,
            "tile": None if self.tile is None else list(self.tile),
        }

    @property
    def _at(self) -> Tensor:
        """A parameter: it has the network's device and dtype."""
        return next(self.net.parameters())

    def _encode(self, net: Autoencoder, x: Tensor, noise: Tensor | None) -> Tensor:
        q = net.encode(x) if self.tile is None else net.tiled_encode(x, *self.tile)
        return q.mode() if noise is None else q.sample(noise.to(q.mean))

    def _decode(self, net: Autoencoder, z: Tensor) -> Tensor:
        return net.decode(z) if self.tile is None else net.tiled_decode(z, *self.tile)

    @torch.no_grad()
    def _finite(
        self,
        run: Callable[[Autoencoder, Tensor], Tensor],
        x: Tensor,
        what: str,
        first: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """first(x), or run(net, x), in float32; what overflows half precision is computed again by a copy of
        the network in float32.
        """
        at, x = self._at, x.contiguous()  # one memory layout, whatever the batch's
        y = first(x) if first else run(self.net, x.to(at))
        if not torch.isfinite(y).all() and at.dtype in (torch.float16, torch.bfloat16):
            y = run(copy.deepcopy(self.net).float(), x.to(at.device))
        if not torch.isfinite(y).all():
            raise BadInput(f"cannot {what} is not finite, in float32 either")
        return y.float()
