"""How a model's networks run on a machine: device, number type, the fast form of each, and the memory they may take.

On an x86 CPU in float32 the UNet and the autoencoder run in the form of `nets.fuse`; weights that lie in a mapped file are
given back to the system once they are packed. A memory budget keeps only so many packed bytes: the layers beyond it are packed
from the file at every call (sequential offload). Elsewhere the networks run as they are,
channels-last, or compiled. Safe to use from several threads.
"""
from __future__ import annotations

import copy
import ctypes
import math
import mmap
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from unnoise import device as devices
from unnoise import hub
from unnoise.codec import Latents
from unnoise.errors import BadInput
from unnoise.hub import weights
from unnoise.nets.fuse import available, fuse

if TYPE_CHECKING:
    from unnoise.text.encode import PromptEncoder

Call = Callable[..., Tensor]
LARGE = 2**28  # parameters from which on memory counts more than the last tenth of speed


class Runner:
    """The networks of a model folder, ready to run."""

    def __init__(self, folder: hub.Folder, device: torch.device, dtype: torch.dtype, memory_budget: str | int | None = None,
                 compile: bool = False, once: bool = False):
        self.folder, self.device, self.dtype, self.compile, self.once = folder, device, dtype, compile, once
        self.budget = None if memory_budget is None else devices.size_of(memory_budget)
        self.resident = self._resident()
        self._lock, self._fused, self._compiled = threading.RLock(), {}, {}
        self.plain = device.type != "cpu" or dtype != torch.float32 or compile or not available()
        if self.plain:
            for net in self._nets(): self._place(net)

    def _nets(self) -> list[nn.Module]:
        f = self.folder
        return [n for n in (f.net, getattr(f.codec, "net", None), f.text.net if f.text else None) if isinstance(n, nn.Module)]

    def _resident(self) -> int | None:
        """Bytes of packed weights that the budget leaves for the denoising network, for two rows at the model's own size; None: all.

        Beside them there is, at one time, the most of: the text encoder, a call's activations, a picture's decoding.
        """
        if self.budget is None: return None
        if self.device.type != "cpu": raise BadInput(f"memory_budget is for the CPU, the device is {self.device}")
        f, config = self.folder, getattr(self.folder.net, "config", None)
        shape, width = f.codec.shape(1), max(getattr(config, "block_out_channels", (64,))[0], 64)
        call = 2 * 4 * 40 * width * math.prod(shape[2:]) + _LAYERS * max((p.numel() for p in f.net.parameters()), default=0)
        decode = 0
        if isinstance(f.codec, Latents):
            channels = f.codec.net.config.block_out_channels
            decode = 4 * 6 * channels[0] * f.codec.height * f.codec.width + 4 * sum(p.numel() for p in f.codec.net.decoder.parameters())
        text = sum(p.numel() * 4 for p in f.text.net.parameters()) if f.text else 0
        needed = _taken() + max(call, decode, text) + 100_000_000  # the last for what is not counted
        if needed > self.budget:
            raise BadInput(f"memory_budget {self.budget / 1e9:.2f} GB is too little for model {f.name!r}: it needs about {needed / 1e9:.2f} GB")
        return int(self.budget - needed)

    def _place(self, net: nn.Module) -> None:
        net.to(self.device, self.dtype)
        if net is not getattr(self.folder.text, "net", None): net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def widen(self) -> None:
        """From now on compute in float32."""
        with self._lock:
            self.dtype = torch.float32
            for net in self._nets(): net.float()
            self._fused, self._compiled = {}, {}

    # --- the denoising network ---

    def fast(self) -> Call:
        """The denoising network in the form that runs fastest here."""
        net = self.folder.net
        if self.plain: return self._cast(net)
        with self._lock: return self._fuse(net, self.resident)

    def _fuse(self, net: nn.Module, resident: int | None = None) -> Any:
        """The fast form of a network, with nothing kept beside it of one that lies in a mapped file; lean, of a large one."""
        key, lean = id(net), sum(p.numel() for p in net.parameters()) > LARGE
        self._fused[key] = fast = fuse(net, self._fused.get(key), lean, resident, _given_back)
        return fast

    def _cast(self, net: nn.Module) -> Call:
        """The network in its own number type, between float32 arguments and result."""
        with self._lock:
            if self.compile and "net" not in self._compiled: self._compiled["net"] = torch.compile(net)
        call = self._compiled.get("net", net)
        def run(x: Tensor, t: Tensor | None, context: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
            given = {k: v for k, v in (("context", context), ("labels", labels)) if v is not None}
            with torch.inference_mode(not x.requires_grad): return call(x.to(self.dtype), t, **given).float()
        return run

    def counted(self, count: Callable[[], None] | None, net: Call | None = None) -> Call:
        """`net`, by default `fast`, calling `count` at each call."""
        net = net or self.fast()
        if count is None: return net
        def counted(*args, **kwargs):
            count()
            return net(*args, **kwargs)
        return counted

    def prepared(self, condition: Tensor) -> Callable[[], Any]:
        """A condition as the network takes it, made at its first use: a prompt's keys and values are computed once a run."""
        made = []
        def ready():
            if not made:
                c = condition.to(self.device)
                if c.is_floating_point():
                    prepare = getattr(self.folder.net if self.plain else self.fast(), "prepare", None)
                    c = c.to(self.dtype)
                    with torch.inference_mode(): c = prepare(c) if prepare else c
                made.append(c)
            return made[0]
        return ready

    def finished(self) -> None:
        """No more calls of the denoising network are expected, if `once`: its packed weights go, a picture's decoding needs the room."""
        if not self.once: return
        with self._lock:
            if fast := self._fused.get(id(self.folder.net)): fast.drop()
        _trim()

    def batch(self, shape: tuple[int, ...]) -> int:
        """How many samples of this shape to make at once."""
        places = shape[-1] * shape[-2] if len(shape) == 4 else 1
        return 1 if self.budget else max(1, min(64, 64 * 32 * 32 // places // 4))

    # --- text and pictures ---

    def encoder(self, skip: int = 0) -> PromptEncoder:
        """The prompt encoder, computing in a type that this device is good at."""
        from unnoise.text.encode import PromptEncoder

        assert self.folder.text is not None
        tokenizer, net = self.folder.text.tokenizer, self.folder.text.net
        halved = self.dtype == torch.float32 and next(net.parameters()).dtype != torch.float32
        return PromptEncoder(tokenizer, copy.deepcopy(net).float() if halved else net, skip)  # the copy lives for one run's prompts

    def release_text(self) -> None:
        """Give back the memory of a mapped text encoder: the next prompt reads it again."""
        if self.folder.text: weights.release(self.folder.text.net.parameters())

    def decode(self, x: Tensor) -> np.ndarray:
        """Tensors of the model's space as images."""
        codec = self.folder.codec
        if isinstance(codec, Latents) and not self.plain:
            with self._lock: fast = self._fuse(codec.net)
            if weights.mapped(next(codec.net.parameters())): _trim()
            if fast is not codec.net: codec = replace(codec, decode_with=fast.decode)
        return codec.decode(x)


_LAYERS = 3 * 4  # bytes a number of the largest layer: its pages, its float32 form, its packed form


def _taken() -> int:
    """Bytes that the process has taken so far."""
    try: return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError: return 400_000_000


def _trim() -> None:
    """Give memory that was freed back to the system, where the C library keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim: trim(0)


def _given_back(m: nn.Module) -> None:
    weights.release(m.parameters(recurse=False))
