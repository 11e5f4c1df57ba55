"""The UNet and the autoencoder for inference on x86 CPUs, with the weights laid out once as oneDNN wants
them.

PyTorch's eager convolution reorders its weights on every call, its linear layers and its attention go to a
library that is slow on some CPUs. Here every layer becomes a closure over packed weights (the ops are those
that PyTorch's own compiler emits), walked in the same order by `unet.walk` and `autoencoder.walk_decoder`:
  q, k, v are one product, and so are the time projections of all resnets; a 1x1 convolution is a product over
  pixels; attention is, for one head and a block of queries at a time, two products around a softmax: memory
  is bounded by `SCORES`; "repeat 2 x 2, then 3x3 convolution" is four 2x2 convolutions of the small image,
  4/9 of the work: the repeated pixels of a row are multiplied by sums of taps, (w0, w1 + w2) for the even
  outputs and (w0 + w1, w2) for the odd ones; wide 3x3 convolutions do half of their products (`_winograd`),
  by bands of rows.
Equal to the plain network up to rounding; a sample's result does not depend on the others in its batch.
Activations are channels-last throughout: (n, c, h, w) is a view of (n, h, w, c).

Weights. A layer is packed in its first call, from plain parameters of any float type, one layer at a time;
after that the plain parameters are not touched (except by another size of image, which oneDNN may want other
layouts for, and by gradients). So they may be views of a file whose pages are given back (`release`). With
`resident`, what does not fit is packed anew in each call.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.nets import autoencoder, unet
from unnoise.nets.autoencoder import Autoencoder, Posterior
from unnoise.nets.table import kind_of
from unnoise.nets.unet import Hooked, Prepared, UNet

Layer = Callable[..., Tensor]
Release = Callable[[nn.Module], None]
_OPS = (
    "_reorder_convolution_weight",
    "_convolution_pointwise",
    "_reorder_linear_weight",
    "_linear_pointwise",
)
FLOATS = (torch.float32, torch.float16, torch.bfloat16)

# Floats that one step keeps at a time: scores of attention; sums of `_winograd`; activations of the rows that
# run together.
SCORES, BAND, TOGETHER = 2**19, 2**20, 2**22
LEAN_LIMIT = 2**22  # numbers in the weights of the largest convolution that is shortened where memory counts
WORTH = 2**22  # products of a tap from which on a shortened convolution pays


class Packed:
    """Weights in a layout of oneDNN's, made from the parameters of `modules` when they are first needed.

    make(*key) -> the packed tensor. A key is what the layout depends on; one is kept at a time.
    """

    def __init__(
        self, modules: Sequence[nn.Module], make: Callable[..., Tensor], size: int, release: Release | None
    ):
        self.modules, self.make, self.size, self.release = modules, make, size, release
        self.kept, self.last, self.lock = True, None, Lock()

    def __call__(self, *key: Any) -> Tensor:
        if not self.kept:
            return self._made(key)
        last = self.last
        if last is None or last[0] != key:
            with self.lock:  # one thread packs, the others wait
                last = self.last
                if last is None or last[0] != key:
                    self.last = None  # two layouts are never held together
                    self.last = last = (key, self._made(key))
        return last[1]

    def _made(self, key: tuple) -> Tensor:
        w = self.make(*key)
        if self.release is not None:
            for m in self.modules:
                self.release(m)
        return w


class Kit:
    """Turns modules into closures, and keeps account of their packed weights."""

    def __init__(self, lean: bool, resident: int | None, release: Release | None):
        self.lean, self.resident, self.release = lean or resident is not None, resident, release
        self.packed: list[Packed] = []

    def pack(self, modules: Sequence[Any], make: Callable[..., Tensor], times: float = 1) -> Packed:
        """times: packed numbers over numbers in the modules' weights."""
        size = int(4 * times * sum(m.weight.numel() for m in modules))
        self.packed.append(Packed(modules, make, size, self.release))
        return self.packed[-1]

    def settle(self) -> bool:
        """Decides what stays: the small layers first, as many as fit in `resident` bytes. Returns whether
        some do not.
        """
        left = float("inf") if self.resident is None else self.resident
        for p in sorted(self.packed, key=lambda p: p.size):
            left -= p.size
            p.kept = left >= 0
        return left < 0


# --- what is public -----------------------------------------------------------------------------------------


class _Fast:
    """What the fast forms have in common: the weights that they stand for, and the plain network for calls
    that they cannot take.
    """

    def __init__(self, net: Any, lean: bool, resident: int | None, release: Release | None):
        self.net, self.config, self.stamp, self.options = (
            net,
            net.config,
            _stamp(net),
            (lean, resident, release),
        )
        self.kit, self._plain, self._lock = Kit(lean, resident, release), None, Lock()

    def plain(self) -> Any:
        """The network itself, as a copy in float32 where its parameters are stored otherwise."""
        if all(p.dtype == torch.float32 or p.requires_grad for p in self.net.parameters()):
            return self.net
        with self._lock:
            if self._plain is None:
                self._plain = copy.deepcopy(self.net).float()
        return self._plain

    def drop(self) -> None:
        """Forget the packed weights: the next call makes them again from the plain parameters."""
        for p in self.kit.packed:
            p.last = None

    def differentiates(self, *given: Tensor | None) -> bool:
        """Whether this call must be differentiated."""
        return torch.is_grad_enabled() and any(
            v is not None and v.requires_grad for v in (*given, *self.net.parameters())
        )


class Fused(_Fast):
    """A UNet's forward pass, for weights that stay as they were when `fuse` was called: same arguments, same
    result up to rounding.

    Any number of threads may call it at once, with the results that they would have one after the other.
    """

    def __init__(
        self, net: UNet, lean: bool = False, resident: int | None = None, release: Release | None = None
    ):
        super().__init__(net, lean, resident, release)
        self.prompts: list[
            tuple[Layer, int]
        ] = []  # of each cross-attention: keys and values of a context; number of heads
        self.parts = _unet(self.kit, net, self.prompts)
        self.streams = self.kit.settle()

    def __call__(
        self,
        x: Tensor,
        t: Tensor | None = None,
        context: Tensor | Prepared | Hooked | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """As `UNet.forward`. A call that must be differentiated, or whose attention is hooked, goes to the
        plain network.
        """
        if isinstance(context, Hooked):
            return self.plain()(x, t, context, labels)
        if self.differentiates(x, t, context.context if isinstance(context, Prepared) else context):
            return self.plain()(x, t, context, labels)
        with torch.inference_mode():
            y = self._run(x, t, context, labels)
        return _out(y)

    def prepare(self, context: Tensor) -> Prepared:
        """The keys and values of a prompt (n, tokens, cross_attention_dim) for every layer that attends to
        it: once a run.
        """
        if self.prompts:
            unet.attended(context, self.config.cross_attention_dim)
        if self.differentiates(context):
            return Prepared(context)  # each call makes them anew
        with torch.inference_mode():
            c = context.detach().float()
            made = [
                [_heads(u, heads).contiguous() for u in kv(c).chunk(2, dim=-1)] for kv, heads in self.prompts
            ]
            return Prepared(context, tuple((k, v, _turned(v)) for k, v in made), self)

    def _run(
        self, x: Tensor, t: Tensor | None, context: Tensor | Prepared | None, labels: Tensor | None
    ) -> Tensor:
        self.net.check_input(x)
        context = self._prompt(context, len(x))
        emb = unet.embed(self.parts, self.config, t, len(x), labels)
        temb = None if emb is None or self.parts.times is None else self.parts.times(emb)
        x = x.float().contiguous(memory_format=torch.channels_last)
        # Few rows at a time stay in the cache and bound the memory; weights that are made in each call are
        # made once.
        rows = (
            len(x)
            if self.streams
            else max(1, TOGETHER // (x.shape[2] * x.shape[3] * self.config.block_out_channels[0]))
        )
        return torch.cat([self._rows(x, temb, context, slice(i, i + rows)) for i in range(0, len(x), rows)])

    def _rows(self, x: Tensor, temb: Tensor | None, context: Prepared | None, rows: slice) -> Tensor:
        times = (
            None
            if temb is None
            else (temb if len(temb) == 1 else temb[rows]).split(self.parts.widths, dim=-1)
        )
        return unet.walk(self.parts, x[rows], times, None if context is None else context[rows])

    def _prompt(self, context: Tensor | Prepared | None, n: int) -> Prepared | None:
        if not self.prompts:
            return None
        if not (isinstance(context, Prepared) and context.owner is self):
            plain = context.context if isinstance(context, Prepared) else context
            context = self.prepare(unet.attended(plain, self.config.cross_attention_dim))
        if len(context.context) not in (1, n):
            raise BadInput(f"a context for {len(context.context)} samples given with a batch of {n}")
        return context


class FusedAutoencoder(_Fast):
    """An autoencoder's two directions, one image at a time, for weights that stay as they were when `fuse`
    was called.
    """

    def __init__(
        self,
        net: Autoencoder,
        lean: bool = False,
        resident: int | None = None,
        release: Release | None = None,
    ):
        super().__init__(net, lean, resident, release)
        self.decoder, self.encoder = _decoder(self.kit, net.decoder), _encoder(self.kit, net.encoder)
        self.before, self.after = (_small(getattr(net, k, None)) for k in ("post_quant_conv", "quant_conv"))
        self.streams = self.kit.settle()

    def decode(self, z: Tensor) -> Tensor:
        """As `Autoencoder.decode`."""
        if self.differentiates(z):
            return self.plain().decode(z)
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels or 0 in z.shape:
            self.net.before(z)  # says what is accepted
        return self._each(z, lambda v: autoencoder.walk_decoder(self.decoder, self.before(v)))

    __call__ = decode

    def encode(self, x: Tensor) -> Posterior:
        """As `Autoencoder.encode`."""
        if self.differentiates(x):
            return self.plain().encode(x)
        self.net.check_images(x)
        mean, logvar = self._each(x, lambda v: self.after(autoencoder.walk_encoder(self.encoder, v))).chunk(
            2, dim=1
        )
        return Posterior(mean, logvar.clamp(-30, 20))

    def _each(self, x: Tensor, f: Layer) -> Tensor:
        with torch.inference_mode():
            x = x.float().contiguous(memory_format=torch.channels_last)
            y = f(x) if self.streams else torch.cat([f(v) for v in x.split(1)])
        return _out(y)


def fuse(
    net: nn.Module,
    old: Any = None,
    lean: bool = False,
    resident: int | None = None,
    release: Release | None = None,
) -> Any:
    """`net` in its fast form (`Fused`, `FusedAutoencoder`); `net` itself where there is none: another class,
    in training, on another device, of other types than float32, float16 and bfloat16, another CPU, or ops not
    in this PyTorch.

    old: an earlier answer, returned again as long as neither the weights nor the options have changed since.
    lean: convolutions of many weights keep no more numbers than these. (Others twice as many, in exchange for
    half of the products.) resident: bytes of packed weights that stay between calls (None: all; the limit is
    for weights, lean, not for activations). The
        largest layers go first; each call packs them again from the plain parameters, with equal results to
        the bit.
    release: called with each module that was packed: its parameters are not needed for now.
    """
    kind = FAST.get(kind_of(net) or "")
    if kind is None or net.training or not available():
        return net
    if any(p.dtype not in FLOATS or p.device.type != "cpu" for p in net.parameters()):
        return net
    same = (
        isinstance(old, _Fast)
        and old.net is net
        and old.stamp == _stamp(net)
        and old.options == (lean, resident, release)
    )
    return old if same else kind(net, lean, resident, release)


FAST = {"unet": Fused, "vae": FusedAutoencoder}  # kind (of `nets.table`) -> its fast form


def available() -> bool:
    """Whether this machine and this PyTorch have what the fast form is made of."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return (
        x86
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and all(hasattr(torch.ops.mkldnn, op) for op in _OPS)
    )


def _stamp(net: nn.Module) -> tuple:
    """Changes when a weight is replaced or written to."""
    return tuple((p.data_ptr(), p._version) for p in net.parameters())


def _out(y: Tensor) -> Tensor:
    return (
        y if torch.is_inference_mode_enabled() else y.clone()
    )  # an inference tensor could not enter a graph


# --- layers: each function turns modules into a closure -----------------------------------------------------


def _own(p: Tensor | None) -> Any:
    """A small parameter in float32, no view of the plain one."""
    return None if p is None else p.detach().float().clone()


def _full(m: Any) -> Tensor:
    return m.weight.detach().float()


def _product(x: Tensor, w: Tensor, b: Tensor | None = None, act: tuple[str, str] = ("none", "")) -> Tensor:
    """x w^T + b over the last axis, w plain or packed."""
    return torch.ops.mkldnn._linear_pointwise(x, w, b, act[0], [], act[1])


def _linear(
    kit: Kit, *layers: Any, rows: slice = slice(None), act: tuple[str, str] = ("none", ""), scale: float = 1.0
) -> Layer:
    """Linear layers (or 1x1 convolutions) of one input, as one product over the last axis; `rows` picks
    outputs; `scale`: of the first layer. One row alone would want another layout: it is given twice."""

    def make() -> Tensor:
        w = torch.cat([_full(m).flatten(1) * (scale if m is layers[0] else 1.0) for m in layers])[rows]
        return torch.ops.mkldnn._reorder_linear_weight(w.contiguous(), 64)

    packed = kit.pack(layers, make, 1 if rows == slice(None) else 0.5)
    bias = (
        None
        if layers[0].bias is None
        else torch.cat([_own(m.bias) * (scale if m is layers[0] else 1.0) for m in layers])[rows].clone()
    )

    def run(x: Tensor) -> Tensor:
        if x.shape[:-1].numel() > 1:
            return _product(x, packed(), bias, act)
        return _product(x.flatten(0, -2).expand(2, -1), packed(), bias, act)[:1].view(*x.shape[:-1], -1)

    return run


def _small(m: Any) -> Layer:
    """A convolution of few channels, as it is; the identity for None."""
    if m is None:
        return lambda x: x
    w, b = _own(m.weight), _own(m.bias)
    return lambda x: torch.conv2d(x, w, b)


def _packed(w: Tensor, size: Sequence[int], pad: Sequence[int], stride: int = 1, groups: int = 1) -> Tensor:
    """Weights for images of that size. (The layout depends on height and width, not on the number of
    images.)
    """
    shape = [2, groups * w.shape[1], *size]
    return torch.ops.mkldnn._reorder_convolution_weight(
        w.contiguous(), list(pad), [stride] * 2, [1, 1], groups, shape
    )


def _convolve(
    x: Tensor, w: Tensor, b: Tensor | None, pad: Sequence[int], stride: int = 1, groups: int = 1
) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(
        x, w, b, list(pad), [stride] * 2, [1, 1], groups, "none", [], ""
    )


def _tokens(x: Tensor) -> Tensor:
    """(n, c, h, w) channels-last -> (n, h w, c), a view."""
    return x.contiguous(memory_format=torch.channels_last).flatten(2).transpose(1, 2)


def _image(v: Tensor, like: Tensor) -> Tensor:
    """(n, h w, c) -> (n, c, h, w) channels-last, a view. (In this order the strides of a single image say so
    too.)
    """
    return v.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


Affine = tuple[Tensor, Tensor]  # scale and shift, each (n, 1, 1, c), with a SiLU after them


def _activate(v: Tensor, a: Affine, out: Tensor | None = None) -> Tensor:
    """silu(scale v + shift), v (n, h, w, c)."""
    return F.silu(torch.addcmul(a[1], v, a[0], out=out), inplace=True)


def _norm(m: nn.GroupNorm) -> Callable[..., tuple[Tensor, Affine | None]]:
    """silu(group norm(x + t)), t (n or 1, c) or None, as (y, None), or as (x, what remains to be done to it)
    where the convolution does that better: to large images, band by band. PyTorch's kernel takes as long for
    a narrow group as for a wide one. x is overwritten where t is given. (What is chosen must not depend on
    the number of images.)"""
    g, w, b, eps, k = m.num_groups, _own(m.weight), _own(m.bias), m.eps, m.num_channels // m.num_groups
    zero = torch.zeros(1, m.num_channels)

    def run(x: Tensor, t: Tensor | None = None) -> tuple[Tensor, Affine | None]:
        # watched by `nets.tiles`, which gives statistics of its own
        watched = torch.overrides.has_torch_function((x,))
        size = x[0].numel()
        if k < 6 and size <= 2**16 and not watched:
            return _narrow(x, zero if t is None else t, g, w, b, eps), None
        if (k < 6 or size > TOGETHER) and not watched:
            return x, _moments(x, t, g, w, b, eps)
        if t is not None:
            x.add_(t[:, :, None, None])
        return F.silu(F.group_norm(x, g, w, b, eps), inplace=True), None

    return run


def _narrow(x: Tensor, t: Tensor, g: int, w: Tensor, b: Tensor, eps: float) -> Tensor:
    """silu(group norm(x + t)) of g narrow groups."""
    v = _tokens(x)
    n, pixels, c = v.shape
    k = c // g
    t = t.view(-1, g, k)
    mean = torch.add(t, v.sum(1).view(n, g, k), alpha=1 / pixels).sum(2, keepdim=True).mul_(1 / k)
    d = v + (t - mean).view(n, 1, c)  # centred before it is squared: nothing cancels
    var = (d * d).sum(1).view(n, g, k).sum(2, keepdim=True).mul_(1 / (k * pixels))
    torch.addcmul(b, d, (w.view(g, k) * var.add_(eps).rsqrt_()).view(n, 1, c), out=d)
    return _image(F.silu(d, inplace=True), x)


def _moments(x: Tensor, t: Tensor | None, g: int, w: Tensor, b: Tensor, eps: float) -> Affine:
    """group norm(x + t) as a scale and a shift of each channel. Means and squares are taken of parts of each
    channel, then put together (Chan et al. 1979): centred before it is squared, nothing cancels."""
    v = _tokens(x)
    n, pixels, c = v.shape
    parts = 1
    while pixels % (2 * parts) == 0 and pixels * c > 2**16 * parts:
        parts *= 2
    u, p, step = v.reshape(n * parts, -1, c), pixels // parts, max(1, 2**16 * parts // (pixels * c))
    mean, square = (v.new_empty(n * parts, 1, c) for _ in "ms")
    for i in range(0, n * parts, step):
        at = slice(i, i + step)
        d = u[at] - torch.sum(u[at], 1, keepdim=True, out=mean[at]).mul_(1 / p)
        torch.sum(d.mul_(d), 1, keepdim=True, out=square[at])
    mean, square = mean.view(n, parts, g, -1), square.view(n, parts, g, -1)
    if t is not None:
        mean = mean + t.view(-1, 1, g, c // g)
    whole = mean.mean((1, 3), keepdim=True)
    var = square.sum((1, 3)).add_((mean - whole).square_().sum((1, 3)), alpha=p).mul_(g / (pixels * c))
    scale = (w.view(g, -1) * var.add_(eps).rsqrt_()[..., None]).view(n, 1, 1, c)
    offset = (-whole[:, 0] if t is None else t.view(-1, g, c // g) - whole[:, 0]).expand(n, g, c // g)
    return scale, torch.addcmul(b, scale, offset.reshape(n, 1, 1, c))


def _normed(m: nn.GroupNorm) -> Layer:
    """group norm(x), without activation, as tokens."""
    g, w, b, eps, k = m.num_groups, _own(m.weight), _own(m.bias), m.eps, m.num_channels // m.num_groups

    def run(x: Tensor) -> Tensor:
        if k >= 6 or torch.overrides.has_torch_function((x,)):
            return _tokens(F.group_norm(x, g, w, b, eps))
        scale, shift = _moments(x, None, g, w, b, eps)
        return torch.addcmul(shift.flatten(1, 2), _tokens(x), scale.flatten(1, 2))

    return run


def _conv(kit: Kit, m: nn.Conv2d, pad: int | None = None) -> Callable[..., Tensor]:
    """run(x, affine = None, add = None) -> conv(silu of the affine of x) + add(images, rows). x is
    overwritten if add is given.
    """
    stride, padding = m.stride[0], [int(m.padding[0]) if pad is None else pad] * 2
    bias = _own(m.bias)
    wide = _wide(kit, m)

    def make(quick: bool, *size: int) -> Tensor:
        if not quick:
            return _packed(_full(m), size, padding, stride)
        return _packed(
            torch.einsum("kr,oirs->kois", _G, _full(m)).flatten(0, 1)[:, :, None], size, (0, 1), groups=6
        )

    packed = kit.pack([m], make, 2 if wide else 1)
    bias6 = F.pad(bias, (m.out_channels, 4 * m.out_channels)) if wide and bias is not None else None

    def run(x: Tensor, affine: Affine | None = None, add: Callable | None = None) -> Tensor:
        if wide and x.shape[2] * x.shape[3] * m.in_channels * m.out_channels >= WORTH:
            return _winograd(x, lambda *size: packed(True, *size), bias6, m.out_channels, affine, add)
        if affine is not None:
            v = x.permute(0, 2, 3, 1)
            x = _activate(v, affine, v if add is not None else None).permute(0, 3, 1, 2)
        y = _convolve(x, packed(False, *x.shape[2:]), bias, padding, stride)
        return y if add is None else y.add_(add().permute(0, 3, 1, 2))

    return run


def _wide(kit: Kit, m: nn.Conv2d) -> bool:
    """Whether a convolution may be shortened: sums grow with the channels, products squared; and not where
    weights weigh most.
    """
    usual = m.kernel_size == (3, 3) and m.stride == m.padding == (1, 1)
    return (
        usual
        and min(m.in_channels, m.out_channels) >= 32
        and m.weight.numel() <= (LEAN_LIMIT if kit.lean else 2**23)
    )


# Winograd's F(4, 3) with the points 0, 1, -1, 2, -2, infinity: from three taps to six factors.
_G = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)


def _winograd(
    x: Tensor,
    weights: Callable[..., Tensor],
    bias: Tensor | None,
    cout: int,
    affine: Affine | None,
    add: Callable | None,
) -> Tensor:
    """A 3x3 convolution with half of the products: along columns, four outputs of three taps by six products
    of sums (Winograd's F(4, 3); Lavin & Gray 2016), one group of channels each. By bands of rows, all of one
    height, so that sums stay in the cache.
    """
    v = x.permute(0, 2, 3, 1)
    n, h, w, c = v.shape
    tiles = (h + 3) // 4
    out = v.new_empty(n, 4 * tiles, w, cout)
    for rows, top, k in _bands(n, tiles, 6 * w * max(c, cout)):
        z = _sums(_edged(v, rows, 4 * top, 4 * k, affine), k)
        y = _convolve(z.flatten(3).permute(0, 3, 1, 2), weights(k, w), bias, (0, 1), groups=6)
        band = out[rows, 4 * top : 4 * (top + k)]
        _outputs(
            y.permute(0, 2, 3, 1).unflatten(-1, (6, cout)).unbind(3), band.unflatten(1, (k, 4)).unbind(2)
        )
        if add is not None:
            band[:, : h - 4 * top] += add(rows, slice(4 * top, 4 * (top + k)))
    return out[:, :h].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _bands(n: int, h: int, width: int) -> Iterator[tuple[slice, int, int]]:
    """(images, first row, number of rows): bands of `BAND` numbers, `width` a row; of many images where one
    is less than that.
    """
    k = min(h, max(1, BAND // width))
    m = max(1, BAND // (h * width)) if k == h else 1
    for i in range(0, n, m):
        for top in [*range(0, h - k, k), h - k]:
            yield slice(i, i + m), top, k  # the last band may overlap the one before


def _edged(v: Tensor, rows: slice, top: int, k: int, affine: Affine | None = None) -> Tensor:
    """Rows top - 1 … top + k of v (activated), zero outside of the image: (n, k + 2, w, c)."""
    h = v.shape[1]
    lo, hi = max(top - 1, 0), min(top + k + 1, h)
    u = v[rows, lo:hi]
    if affine is None and hi - lo == k + 2:
        return u
    e = v.new_empty(len(u), k + 2, *v.shape[2:])
    e[:, : lo - top + 1], e[:, hi - top + 1 :] = 0, 0
    inner = e[:, lo - top + 1 : hi - top + 1]
    if affine is None:
        inner.copy_(u)
    else:
        _activate(u, (affine[0][rows], affine[1][rows]), inner)
    return e


def _sums(e: Tensor, tiles: int) -> Tensor:
    """(n, 4 tiles + 2, w, c) -> (n, tiles, w, 6, c): of each tile's six rows, the six sums that are
    multiplied.
    """
    a = [e[:, j : j + 4 * tiles - 3 : 4] for j in range(6)]
    z = e.new_empty(*a[0].shape[:3], 6, e.shape[-1])
    z0, z1, z2, z3, z4, z5 = z.unbind(3)
    s, d = torch.sub(a[4], a[2], alpha=4), torch.sub(a[3], a[1], alpha=4)
    torch.add(s, d, out=z1)
    torch.sub(s, d, out=z2)
    torch.sub(a[4], a[2], out=s)
    torch.sub(a[3], a[1], out=d)
    torch.add(s, d, alpha=2, out=z3)
    torch.sub(s, d, alpha=2, out=z4)
    torch.add(s, a[0], alpha=4, out=z0).sub_(a[2], alpha=4)
    torch.sub(a[5], a[3], out=z5).sub_(d, alpha=4)
    return z


def _outputs(y: Sequence[Tensor], o: Sequence[Tensor]) -> None:
    """Six products to each tile's four outputs. The bias comes with product 1, which is in each of them with
    a plus.
    """
    s1, d1, s2, d2 = y[1] + y[2], y[1] - y[2], y[3] + y[4], y[3] - y[4]
    torch.add(s1, s2, out=o[0]).add_(y[0])
    torch.add(d1, d2, alpha=2, out=o[1])
    torch.add(s1, s2, alpha=4, out=o[2])
    torch.add(d1, d2, alpha=8, out=o[3]).add_(y[5])


def _up(kit: Kit, m: nn.Conv2d) -> Layer:
    """conv(repeat 2 x 2(x)) as one 2x2 convolution of x to the four outputs of each pixel, by bands of rows.

    size: (height, width) of the output where it is not twice that of x, but one less: the last row or column
    is not repeated.
    """
    bias = _own(m.bias)
    bias4 = None if bias is None else bias.repeat(4)

    def make(even: bool, *size: int) -> Tensor:
        if not even:
            return _packed(_full(m), size, (1, 1))
        fourfold = torch.einsum("aur,bvs,oirs->aboiuv", _TAPS, _TAPS, _full(m)).flatten(0, 2)
        return _packed(fourfold, size[:2], size[2:])

    packed = kit.pack([m], make, 16 / 9)

    def run(x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        h, w = x.shape[2:]
        if size is None or tuple(size) == (2 * h, 2 * w):
            return _doubled(x, lambda *size: packed(True, *size), bias4, m.out_channels)
        x = unet.doubled(x)[:, :, : size[0], : size[1]].contiguous(memory_format=torch.channels_last)
        return _convolve(x, packed(False, *size), bias, (1, 1))

    return run


_TAPS = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])  # output parity, tap on x, tap of m


def _doubled(x: Tensor, packed: Callable[..., Tensor], bias: Tensor | None, channels: int) -> Tensor:
    """The four outputs (n, channels, 2 h, 2 w) of each pixel of x, band by band."""
    n, _, h, w = x.shape
    v, out = x.permute(0, 2, 3, 1), x.new_empty(n, h, 2, w, 2, channels)
    for rows, top, k in _bands(n, h, 4 * (w + 1) * channels):
        pad = (1, 1) if k == h else (0, 1)  # where all rows are at hand, the border costs nothing
        e = (v[rows] if k == h else _edged(v, rows, top, k)).permute(0, 3, 1, 2)
        y = _convolve(e, packed(*e.shape[2:], *pad), bias, pad).permute(0, 2, 3, 1).unflatten(-1, (2, 2, -1))
        for a in (0, 1):
            for b in (0, 1):
                out[rows, top : top + k, a, :, b] = y[:, a : a + k, b : b + w, a, b]
    return out.view(n, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)


def _resnet(kit: Kit, m: unet.ResnetBlock2D, i: int = 0) -> Layer:
    """`i`: the resnet's place among all, and so of its own time projection."""
    norm1, conv1, norm2, conv2 = _norm(m.norm1), _conv(kit, m.conv1), _norm(m.norm2), _conv(kit, m.conv2)
    short = None if m.conv_shortcut is None else _linear(kit, m.conv_shortcut)

    def run(x: Tensor, temb: tuple[Tensor, ...] | None = None) -> Tensor:
        v = x.permute(0, 2, 3, 1)

        def add(*at: slice) -> Tensor:
            u = v[at] if at else v
            return u if short is None else short(u)

        h = conv1(*norm1(x))
        return conv2(*norm2(h, None if temb is None else temb[i]), add)

    return run


def _heads(k: Tensor, heads: int) -> Tensor:
    """(n, t, c) -> (n, heads, t, c / heads), a view."""
    return k.unflatten(-1, (heads, -1)).transpose(1, 2)


def _turned(v: Tensor) -> Tensor:
    """Values (n, heads, t, d) as `_attend` multiplies by them, (n, heads, d, t). Whole vectors of outputs are
    as quick as parts of them: rows of zeros make d a multiple of 16."""
    return F.pad(v.transpose(2, 3), (0, 0, 0, -v.shape[3] % 16)).contiguous()


def _attend(q: Tensor, k: Tensor, v: Tensor, turned: Tensor | None = None) -> Tensor:
    """softmax(q k^T) v, q (n, s, c) times 1 / sqrt(d) already, k and v (n, heads, t, d) (or of one row, for
    all) -> (n, s, c).
    """
    (n, s, _), (_, heads, t, d) = q.shape, k.shape
    if s * t * d < 2**21:  # too small to be worth a loop
        k, v = (u.expand(n, -1, -1, -1) for u in (k, v))
        return F.scaled_dot_product_attention(_heads(q, heads), k, v, scale=1.0).transpose(1, 2).flatten(2)
    out, rows = torch.empty_like(q), max(1, SCORES // t)
    keys, values = k.contiguous(), _turned(v) if turned is None else turned
    for i in range(n):
        for j in range(heads):
            one = min(i, len(k) - 1), j
            for a in range(0, s, rows):
                at = i, slice(a, a + rows), slice(j * d, j * d + d)
                p = _product(q[at], keys[one])
                out[at] = _product(torch.softmax(p, -1, out=p), values[one])[:, :d]
    return out


def _self_attention(kit: Kit, m: unet.SelfAttention2D) -> Layer:
    norm, out = _normed(m.group_norm), _linear(kit, m.to_out[0])
    qkv = _linear(kit, m.to_q, m.to_k, m.to_v, scale=(m.to_q.out_features // m.heads) ** -0.5)

    def run(x: Tensor, context: Prepared | None = None) -> Tensor:
        q, k, v = qkv(norm(x)).chunk(3, dim=-1)
        return _image(out(_attend(q, _heads(k, m.heads), _heads(v, m.heads))).add_(_tokens(x)), x)

    return run


def _transformer(kit: Kit, m: unet.Transformer2DModel, prompts: list) -> Layer:
    norm, enter, leave = _normed(m.norm), _linear(kit, m.proj_in), _linear(kit, m.proj_out)
    blocks = [_block(kit, b, prompts) for b in m.transformer_blocks]

    def run(x: Tensor, context: Prepared) -> Tensor:
        h = enter(norm(x))
        for block in blocks:
            h = block(h, context)
        return _image(leave(h).add_(_tokens(x)), x)

    return run


def _layer_norm(m: nn.LayerNorm) -> Layer:
    w, b = _own(m.weight), _own(m.bias)
    return lambda x: F.layer_norm(x, m.normalized_shape, w, b, m.eps)


def _block(kit: Kit, m: Any, prompts: list) -> Layer:
    a, b = m.attn1, m.attn2
    norm1, norm2, norm3 = map(_layer_norm, (m.norm1, m.norm2, m.norm3))
    scale = (a.to_q.out_features // a.heads) ** -0.5
    qkv, out1 = _linear(kit, a.to_q, a.to_k, a.to_v, scale=scale), _linear(kit, a.to_out[0])
    q, out2, feed, place = (
        _linear(kit, b.to_q, scale=scale),
        _linear(kit, b.to_out[0]),
        _feed(kit, m.ff),
        len(prompts),
    )
    prompts.append((_linear(kit, b.to_k, b.to_v), b.heads))

    def run(x: Tensor, context: Prepared) -> Tensor:
        p, k, v = qkv(norm1(x)).chunk(3, dim=-1)
        x = out1(_attend(p, _heads(k, a.heads), _heads(v, a.heads))).add_(x)
        x = out2(_attend(q(norm2(x)), *context.layers[place])).add_(x)
        return feed(norm3(x)).add_(x)

    return run


def _feed(kit: Kit, m: Any) -> Layer:
    """The wide middle is made for few tokens at a time."""
    up, half = m.net[0].proj, m.net[0].proj.out_features // 2
    value, gate = (
        _linear(kit, up, rows=slice(half)),
        _linear(kit, up, rows=slice(half, None), act=("gelu", "none")),
    )
    down, rows = _linear(kit, m.net[2]), max(256, 2**20 // half)

    def run(x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        return torch.cat([down(value(v).mul_(gate(v))) for v in flat.split(rows)]).view(x.shape)

    return run


# --- the whole ----------------------------------------------------------------------------------------------


def _stage(kit: Kit, m: Any, resnet: Callable, attention: Callable) -> SimpleNamespace:
    """One resolution, as the walks expect it."""
    parts = SimpleNamespace(resnets=[resnet(r) for r in m.resnets])
    if hasattr(m, "attentions"):
        parts.attentions = [attention(a) for a in m.attentions]
    if hasattr(m, "downsamplers"):
        parts.downsamplers = [_down(kit, m.downsamplers[0])]
    if hasattr(m, "upsamplers"):
        parts.upsamplers = [_up(kit, m.upsamplers[0].conv)]
    return parts


def _down(kit: Kit, m: Any) -> Layer:
    conv = _conv(kit, m.conv)
    return (lambda x: conv(F.pad(x, (0, 1, 0, 1)))) if isinstance(m, autoencoder.Down) else conv


def _finish(kit: Kit, m: Any) -> Layer:
    norm, out = _norm(m.conv_norm_out), _conv(kit, m.conv_out)
    return lambda x: out(*norm(x))


def _unet(kit: Kit, net: UNet, prompts: list) -> SimpleNamespace:
    """What `unet.walk` and `unet.embed` go through. Resnets are numbered in the order of the walk."""
    timed: list[nn.Linear] = []

    def resnet(m: unet.ResnetBlock2D) -> Layer:
        timed.extend([m.time_emb_proj] if hasattr(m, "time_emb_proj") else [])
        return _resnet(kit, m, len(timed) - 1)

    def attention(m: Any) -> Layer:
        return (
            _self_attention(kit, m) if isinstance(m, unet.SelfAttention2D) else _transformer(kit, m, prompts)
        )

    u = SimpleNamespace(conv_in=_conv(kit, net.conv_in), finish=_finish(kit, net), times=None)
    u.down_blocks = [_stage(kit, m, resnet, attention) for m in net.down_blocks]
    if hasattr(net, "mid_block"):
        u.mid_block = _stage(kit, net.mid_block, resnet, attention)
    u.up_blocks = [_stage(kit, m, resnet, attention) for m in net.up_blocks]
    if timed:
        u.times, u.widths = _linear(kit, *timed), [m.out_features for m in timed]
    if hasattr(net, "time_embedding"):
        u.time_embedding = _time(kit, net.time_embedding)
    if hasattr(net, "class_embedding"):
        table = _own(net.class_embedding.weight)
        u.class_embedding = lambda labels: F.embedding(labels, table)
    return u


def _time(kit: Kit, m: unet.TimestepEmbedding) -> Layer:
    one, two = _linear(kit, m.linear_1), _linear(kit, m.linear_2)
    return lambda x: two(F.silu(one(x)))


def _decoder(kit: Kit, d: autoencoder.Decoder) -> SimpleNamespace:
    stage = lambda m: _stage(kit, m, lambda r: _resnet(kit, r), lambda a: _self_attention(kit, a))
    return SimpleNamespace(
        conv_in=_conv(kit, d.conv_in),
        mid_block=stage(d.mid_block),
        up_blocks=[stage(m) for m in d.up_blocks],
        finish=_finish(kit, d),
    )


def _encoder(kit: Kit, e: autoencoder.Encoder) -> SimpleNamespace:
    stage = lambda m: _stage(kit, m, lambda r: _resnet(kit, r), lambda a: _self_attention(kit, a))
    return SimpleNamespace(
        conv_in=_conv(kit, e.conv_in),
        down_blocks=[stage(m) for m in e.down_blocks],
        mid_block=stage(e.mid_block),
        finish=_finish(kit, e),
    )
