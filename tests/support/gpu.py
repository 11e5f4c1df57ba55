"""A stand-in for a GPU: torch's meta device, which holds shapes and no numbers, made to behave as an
accelerator without float64 would.

    with gpu.there(): pipe = gpu.pipeline("emoji"); pipe("a red apple")

What would fail on a GPU fails here: two tensors on different devices in one operation, `.numpy()` of one that
lies there. What works there works here: copying to the CPU (floats from 0 to 1 come), reading one number
(0.5, 1, True; no two are equal).
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import unnoise.engine.device
from unnoise import hub
from unnoise.pipeline import Pipeline
from unnoise.process import level

DEVICE = torch.device("meta")
CHANCE = torch.Generator().manual_seed(0)
aten = torch.ops.aten
COPIES = (aten.copy_, aten._to_copy, aten.copy, aten.to)
WITH_CPU_INDICES = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index)


class _Accelerator(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, op = kwargs or {}, func.overloadpacket
        there = bool(args) and isinstance(args[0], torch.Tensor) and args[0].is_meta
        if op is aten._local_scalar_dense and there:
            return getattr(args[0], "answer", _number(args[0].dtype))
        if op is aten.copy_ and args[1].is_meta and not there:
            return args[0].fill_(_number(args[0].dtype))
        if op is aten._to_copy and there and _goes_to_cpu(kwargs):
            return _numbers(args[0].shape, kwargs.get("dtype") or args[0].dtype)
        if op is aten.equal and there:
            return True
        if op not in COPIES:
            _check(func, args, kwargs, indices=op in WITH_CPU_INDICES)
        if op in WITH_CPU_INDICES and there and (k := _mask(args[1])) is not None:
            return _nothing(args[0], args[1][k].ndim, k) if op is aten.index else args[0]
        out = func(*args, **kwargs)
        if there and op is aten.eq:
            out.answer = False  # no two numbers are equal here
        if there and op in (aten.all, aten.any) and hasattr(args[0], "answer"):
            out.answer = args[0].answer
        wide = [
            t
            for t in tree_flatten(out)[0]
            if isinstance(t, torch.Tensor) and t.is_meta and t.dtype == torch.float64 and t.ndim
        ]
        if wide:
            raise TypeError(f"this device has no float64, which {func} makes")
        return out


def _mask(indices) -> int | None:
    """Which of the indices is a mask. How much a real one would take is not known here: nothing is taken,
    nothing is put.
    """
    return next(
        (k for k, i in enumerate(indices) if i is not None and i.dtype in (torch.bool, torch.uint8)), None
    )


def _nothing(x: torch.Tensor, dims: int, k: int) -> torch.Tensor:
    return x.new_empty((*x.shape[:k], 0, *x.shape[k + dims :]))


def _number(dtype: torch.dtype):
    return True if dtype == torch.bool else 0.5 if dtype.is_floating_point else 1


def _numbers(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Floats from 0 to 1 and pixels from 0 to 255, others at each call; else ones."""
    if dtype == torch.uint8:
        return torch.randint(0, 256, tuple(shape), generator=CHANCE, dtype=dtype)
    if not dtype.is_floating_point:
        return torch.full(shape, _number(dtype), dtype=dtype)
    return torch.rand(shape, generator=CHANCE).to(dtype)


def _goes_to_cpu(kwargs) -> bool:
    return kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu"


def _check(func, args, kwargs, indices: bool = False) -> None:
    """One device in each operation; a single number of the CPU and CPU indices go with any."""
    given = args[:1] if indices else args
    tensors = [t for t in tree_flatten((given, kwargs))[0] if isinstance(t, torch.Tensor)]
    places = {t.device.type for t in tensors if t.ndim or t.is_meta}
    if len(places) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device: {func} got"
            f" {[(tuple(t.shape), str(t.device)) for t in tensors]}"
        )


@contextmanager
def there():
    """The machine has that device while the body runs, and models go to it."""
    real = unnoise.engine.device.device

    def device(name="auto"):
        return DEVICE if str(name) in ("auto", "meta") else real(name)

    fused = mock.patch.object(
        sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"]
    )
    with (
        mock.patch.object(unnoise.engine.device, "device", device),
        mock.patch.object(level, "_NARROW", {"meta"}),
        fused,
        _Accelerator(),
    ):
        yield


def pipeline(name, dtype: str = "fp32", **how) -> Pipeline:
    """A model with all its networks there."""
    return Pipeline(hub.load(name), device="meta", dtype=dtype, **how)


def accelerator():
    """One process of accelerate's that trains there: `train.run.train(recipe, folder,
    accelerator=gpu.accelerator())`.
    """
    from accelerate import Accelerator

    class There(Accelerator):
        device = property(lambda self: DEVICE)

    return There(cpu=True, mixed_precision="no")
