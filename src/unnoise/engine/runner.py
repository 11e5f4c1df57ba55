"""How a model's networks run on a machine: device, number type, the fast form of each, and the memory they
may take.

On an x86 CPU in float32 the UNet and the autoencoder run in the form of `engine.fuse`; weights that lie in a
mapped file are given back to the system once they are packed. A memory budget keeps only so many packed
bytes: the layers beyond it are packed from the file at every call (sequential offload). Elsewhere the
networks run as they are, channels-last, or compiled. Safe to use from several threads.
"""

from __future__ import annotations

import copy
import ctypes
import math
import mmap
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from unnoise import hub
from unnoise.base.errors import BadInput
from unnoise.engine import device as devices
from unnoise.engine.fuse import Fused, available, fuse
from unnoise.hub import weights

if TYPE_CHECKING:
    from unnoise.text.encode import PromptEncoder

Call = Callable[..., Tensor]
LARGE = 2**28  # parameters from which on memory counts more than the last tenth of speed


class Form:
    """A model's networks as they run on a device in a number type: the folder's own where those run as they
    are, else copies.

    Copies share what need not change with the folder (weights of a mapped file stay in it); nothing of the
    folder is ever cast.
    """

    def __init__(self, folder: hub.Folder, device: torch.device, dtype: torch.dtype, compile: bool = False):
        self.dtype, self.fused, self.compiled = dtype, {}, {}
        self.plain = device.type != "cpu" or dtype != torch.float32 or compile or not available()
        self.net, self.codec, self.text = folder.net, folder.codec, folder.text
        if self.plain:
            self.net, self.codec, self.text = _parts_on(folder, device, dtype)
        self.stamps = [_stamp(net) for net in _nets(self)]

    @property
    def engine(self) -> str:
        """The name of how networks run: "fused" (see `engine.fuse`) or "plain"."""
        return "plain" if self.plain else "fused"


def _nets(f: Form | hub.Folder) -> list[nn.Module | None]:
    """The denoiser, the autoencoder and the text encoder, where there are any."""
    return [f.net, f.codec.autoencoder, f.text.net if f.text else None]


def _parts_on(f: hub.Folder, device: torch.device, dtype: torch.dtype) -> tuple[nn.Module, Any, Any]:
    """A folder's network, codec and prompt encoder on a device in a number type."""
    codec, text = f.codec, f.text
    for net in _nets(f) if dtype == torch.float16 else []:
        if net is not None:
            weights.check_finite(
                net.state_dict(), f.path or f.name, dtype
            )  # beyond 65504: infinite from there on
    codec = codec.moved(lambda net: placed(net, device, dtype))
    if text is not None:
        text = type(text)(text.tokenizer, placed(text.net, device, dtype, channels_last=False), text.skip)
    return placed(f.net, device, dtype), codec, text


def placed(net: Any, device: torch.device, dtype: torch.dtype, channels_last: bool = True) -> Any:
    """A copy of a network on a device in a number type; weights that are so already are shared with the
    original.
    """

    def moved(v: Tensor) -> Tensor:
        last = torch.channels_last if channels_last and v.ndim == 4 else torch.preserve_format
        made = v.detach().to(device, dtype if v.is_floating_point() else v.dtype, memory_format=last)
        return nn.Parameter(made, v.requires_grad) if isinstance(v, nn.Parameter) else made

    memo: dict[int, Any] = {id(v): moved(v) for v in (*net.parameters(), *net.buffers())}
    return copy.deepcopy(net, memo)


def separate(f: hub.Folder) -> hub.Folder:
    """The folder with networks of its own, which nobody else can write to.

    Weights of a mapped file stay shared in it: a copy would bring gigabytes into memory for the sake of a
    writer that there is none of. Who wants to change those loads the folder again, which costs no memory.
    """

    def copied(net: Any) -> Any:
        mapped = {id(v): v for v in (*net.parameters(), *net.buffers()) if weights.mapped(v)}
        return copy.deepcopy(net, mapped)

    text = f.text and type(f.text)(f.text.tokenizer, copied(f.text.net), f.text.skip)
    return replace(f, net=copied(f.net), codec=f.codec.moved(copied), text=text)


def _stamp(net: nn.Module | None) -> tuple:
    """Changes when a weight is replaced or written to."""
    return () if net is None else tuple((p.data_ptr(), p._version) for p in net.parameters())


_WIDE: ContextVar[tuple[Runner, Form] | None] = ContextVar(
    "wide", default=None
)  # of this thread, for the moment


class Runner:
    """The networks of a model folder, ready to run. The folder itself is never changed.

    A runner's weights are its own: `copy` takes those of a folder that others may hold, too. Where nobody
    does, as after `load`, the folder's are taken as they are, and no memory is spent twice.
    """

    def __init__(
        self,
        folder: hub.Folder,
        device: torch.device,
        dtype: torch.dtype,
        memory_budget: str | int | None = None,
        compile: bool = False,
        once: bool = False,
        copy: bool = True,
    ):
        folder = separate(folder) if copy else folder
        self.folder, self.device, self.compile, self.once = folder, device, compile, once
        self.budget = None if memory_budget is None else devices.size_of(memory_budget)
        self.resident = self._resident()
        self._lock = threading.RLock()
        self._own = Form(folder, device, dtype, compile)
        self._hash: tuple[list[tuple], str] = [], ""  # of weights that were written to: their stamps, digest

    @property
    def form(self) -> Form:
        """What runs here and now: in `widened`, in this thread, a copy in float32."""
        wide = _WIDE.get()
        return wide[1] if wide and wide[0] is self else self._own

    @contextmanager
    def widened(self) -> Iterator[None]:
        """Inside, this thread computes in float32, on a copy that is gone afterwards; no other thread
        notices.
        """
        net, codec, text = self.stored()
        wide = Form(replace(self.folder, net=net, codec=codec, text=text), self.device, torch.float32)
        token = _WIDE.set((self, wide))
        try:
            yield
        finally:
            _WIDE.reset(token)

    dtype = property(lambda self: self.form.dtype, doc="The number type that networks compute in.")
    plain = property(
        lambda self: self.form.plain, doc="Whether networks run as they are, not in their fast form."
    )
    net = property(
        lambda self: self.form.net, doc="The denoising network that runs: plain parameters, on this device."
    )
    codec = property(lambda self: self.form.codec, doc="The codec that runs.")
    text = property(lambda self: self.form.text, doc="The prompt encoder that runs, or None.")

    def _nets(self) -> list[nn.Module]:
        """The networks that run."""
        return [net for net in _nets(self.form) if isinstance(net, nn.Module)]

    def facts(self) -> dict[str, Any]:
        """What rounding depends on: device, engine, its instructions, threads and library."""
        engine = "compiled" if self.compile else self._own.engine
        told = {"device": self.device.type, "engine": engine, "torch": str(torch.__version__)}
        if self.device.type != "cpu":
            return told
        return told | {"cpu": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}

    def changed(self) -> bool:
        """Whether what runs has been written to since it was loaded."""
        return self._stamps() != self._own.stamps

    def weights_sha256(self) -> str:
        """Of all weights that run, by their names and bytes; "" where they are the folder's, which its digest
        tells.
        """
        if not self.changed():
            return ""
        stamps, nets = self._stamps(), [net for net in _nets(self._own) if net is not None]
        if self._hash[0] != stamps:
            tensors = {f"{i}.{k}": t for i, net in enumerate(nets) for k, t in net.state_dict().items()}
            self._hash = stamps, weights.digest(tensors)
        return self._hash[1]

    def _stamps(self) -> list[tuple]:
        return [_stamp(net) for net in _nets(self._own)]

    def stored(self) -> tuple[nn.Module, Any, Any]:
        """Network, codec and prompt encoder to be saved: the folder's own, uncast, unless what runs has been
        written to since.
        """
        if not self.changed():
            return self.folder.net, self.folder.codec, self.folder.text
        at = next(self.folder.net.parameters())
        return _parts_on(
            replace(self.folder, net=self._own.net, codec=self._own.codec, text=self._own.text),
            at.device,
            at.dtype,
        )

    def _resident(self) -> int | None:
        """Bytes of packed weights that the budget leaves for the denoising network, for two rows at the
        model's own size; None: all.

        Beside them there is, at one time, the most of: the text encoder, a call's activations, a picture's
        decoding.
        """
        if self.budget is None:
            return None
        if self.device.type != "cpu":
            raise BadInput(f"memory_budget is for the CPU, the device is {self.device}")
        f, config = self.folder, getattr(self.folder.net, "config", None)
        shape, width = f.codec.shape(1), max(getattr(config, "block_out_channels", (64,))[0], 64)
        call = 2 * 4 * 40 * width * math.prod(shape[2:]) + _LAYERS * max(
            (p.numel() for p in f.net.parameters()), default=0
        )
        text = sum(p.numel() * 4 for p in f.text.net.parameters()) if f.text else 0
        needed = (
            _taken() + max(call, f.codec.decoding_bytes(), text) + 100_000_000
        )  # the last for what is not counted
        if needed > self.budget:
            raise BadInput(
                f"memory_budget {self.budget / 1e9:.2f} GB is too little for model {f.name!r}: it needs about"
                f" {needed / 1e9:.2f} GB"
            )
        return int(self.budget - needed)

    # --- the denoising network ---

    def fast(self) -> Call:
        """The denoising network in the form that runs fastest here."""
        form = self.form
        if form.plain:
            return self._cast(form)
        with self._lock:
            return self._fuse(form, form.net, self.resident)

    def _fuse(self, form: Form, net: nn.Module, resident: int | None = None) -> Any:
        """The fast form of a network, with nothing kept beside it of one that lies in a mapped file; lean, of
        a large one.
        """
        key, lean = id(net), sum(p.numel() for p in net.parameters()) > LARGE
        form.fused[key] = fast = fuse(net, form.fused.get(key), lean, resident, _given_back)
        return fast

    def _cast(self, form: Form) -> Call:
        """The network in its own number type, between float32 arguments and result."""
        with self._lock:
            if self.compile and "net" not in form.compiled:
                form.compiled["net"] = torch.compile(form.net)
        call = form.compiled.get("net", form.net)

        def run(
            x: Tensor, t: Tensor | None, context: Tensor | None = None, labels: Tensor | None = None
        ) -> Tensor:
            given = {k: v for k, v in (("context", context), ("labels", labels)) if v is not None}
            with torch.inference_mode(not x.requires_grad):
                return call(x.to(form.dtype), t, **given).float()

        return run

    def counted(self, count: Callable[[], None] | None, net: Call | None = None) -> Call:
        """`net`, by default `fast`, calling `count` at each call."""
        net = net or self.fast()
        if count is None:
            return net

        def counted(*args, **kwargs):
            count()
            return net(*args, **kwargs)

        return counted

    def prepared(self, condition: Tensor) -> Callable[[], Any]:
        """A condition as the network takes it, made at its first use: a prompt's keys and values are computed
        once a run.
        """
        made = []

        def ready():
            if not made:
                c = condition.to(self.device)
                if c.is_floating_point():
                    prepare = getattr(self.net if self.plain else self.fast(), "prepare", None)
                    c = c.to(self.dtype)
                    with torch.inference_mode():
                        c = prepare(c) if prepare else c
                made.append(c)
            return made[0]

        return ready

    def finished(self) -> None:
        """No more calls of the denoising network are expected, if `once`: its packed weights go, a picture's
        decoding needs the room.
        """
        if not self.once:
            return
        with self._lock:
            fast = self.form.fused.get(id(self.net))
            if isinstance(fast, Fused):
                fast.drop()
        _trim()

    def batch(self, shape: tuple[int, ...]) -> int:
        """How many samples of this shape to make at once."""
        places = shape[-1] * shape[-2] if len(shape) == 4 else 1
        return 1 if self.budget else max(1, min(64, 64 * 32 * 32 // places // 4))

    # --- text and pictures ---

    def encoder(self, skip: int = 0) -> PromptEncoder:
        """The prompt encoder, computing in a type that this device is good at."""
        from unnoise.text.encode import PromptEncoder

        text = self.text
        assert text is not None
        halved = self.dtype == torch.float32 and next(text.net.parameters()).dtype != torch.float32
        net = copy.deepcopy(text.net).float() if halved else text.net  # the copy lives for one run's prompts
        return PromptEncoder(text.tokenizer, net, skip)

    def release_text(self) -> None:
        """Give back the memory of a mapped text encoder: the next prompt reads it again."""
        if self.text:
            weights.release(self.text.net.parameters())

    def decode(self, x: Tensor) -> np.ndarray:
        """Tensors of the model's space as images."""
        form = self.form
        codec = form.codec
        net = codec.autoencoder
        if net is not None and not form.plain:
            with self._lock:
                fast = self._fuse(form, net)
            if weights.mapped(next(net.parameters())):
                _trim()
            if fast is not net:
                codec = codec.decoding_by(fast.decode)
        return codec.decode(x)


_LAYERS = 3 * 4  # bytes a number of the largest layer: its pages, its float32 form, its packed form


def _taken() -> int:
    """Bytes that the process has taken so far."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 400_000_000


def _trim() -> None:
    """Give memory that was freed back to the system, where the C library keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def _given_back(m: nn.Module) -> None:
    weights.release(m.parameters(recurse=False))
