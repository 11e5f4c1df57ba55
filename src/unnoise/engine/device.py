"""Where to compute and in which number type: chosen by what the machine has and by a short trial, or as the
caller says.
"""

from __future__ import annotations

import re
import time
from functools import cache

import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import short
from unnoise.engine.fuse import available

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {**{n: n for n in DTYPES}, "float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
}


def device(name: str | torch.device = "auto") -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one. BadInput when it is unknown or not
    there.
    """
    there = [
        "cpu",
        *(["cuda"] if torch.cuda.is_available() else []),
        *(["mps"] if torch.backends.mps.is_available() else []),
    ]
    if not isinstance(name, str | torch.device):
        raise unknown("device", name, ["auto", *there])
    if str(name) == "auto":
        return torch.device(there[-1])
    try:
        found = torch.device(name)
    except (RuntimeError, TypeError, ValueError):
        raise unknown("device", name, ["auto", *there]) from None
    if found.type not in there or (found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count()):
        raise BadInput(f"device {str(name)!r} is not on this machine (accepted: auto, {', '.join(there)})")
    return found


def dtype(name: str | torch.dtype = "auto", on: torch.device | None = None) -> torch.dtype:
    """The number type called `name` (fp32, fp16, bf16); "auto" is the fastest that works on the device `on`.
    BadInput.
    """
    if isinstance(name, torch.dtype):
        name = str(name).removeprefix("torch.")
    if name == "auto":
        return probe(on or device())
    if not isinstance(name, str) or name not in _NAMES:
        raise unknown("dtype", name, ["auto", *DTYPES])
    return DTYPES[_NAMES[name]]


def name_of(t: torch.dtype) -> str:
    """The name of a number type: fp32, fp16 or bf16, of others torch's own."""
    return next((k for k, v in DTYPES.items() if v == t), str(t).removeprefix("torch."))


@cache
def probe(on: torch.device) -> torch.dtype:
    """float32, or the 16-bit type that does a convolution and an attention right and in less than half of
    float32's time.

    float32 without a trial on CPUs for which `engine.fuse` has its fast form, which is of that type and
    faster than either.
    """
    if on.type == "cpu" and available():
        return torch.float32
    with torch.inference_mode():
        turns = [
            {name: _trial(on, t) for name, t in DTYPES.items()} for _ in range(5)
        ]  # in turn: a machine at work elsewhere slows all
    seconds = {name: min(turn[name] for turn in turns) for name in DTYPES}
    best = min(seconds, key=lambda k: seconds[k])
    return DTYPES[best] if seconds[best] < seconds["fp32"] / 2 else torch.float32


def _trial(on: torch.device, t: torch.dtype) -> float:
    """Seconds of a small convolution and attention; infinite where they fail or are not finite."""
    try:
        g = torch.Generator().manual_seed(0)
        x, w = (
            torch.randn(s, generator=g).to(on, t).contiguous(memory_format=torch.channels_last)
            for s in ((2, 64, 32, 32), (64, 64, 3, 3))
        )

        def once() -> Tensor:
            y = (
                torch.nn.functional.conv2d(x, w / 24, padding=1)
                .flatten(2)
                .transpose(1, 2)
                .unflatten(-1, (4, -1))
                .transpose(1, 2)
            )
            return torch.nn.functional.scaled_dot_product_attention(y, y, y)

        if not torch.isfinite(once()).all():
            return float("inf")
        return _seconds(once, on)
    except RuntimeError:
        return float("inf")


def _seconds(f, on: torch.device) -> float:
    wait = (
        torch.cuda.synchronize
        if on.type == "cuda"
        else torch.mps.synchronize
        if on.type == "mps"
        else lambda: None
    )
    wait()
    start = time.perf_counter()
    f()
    wait()
    return time.perf_counter() - start


def size_of(text: str | int) -> int:
    """Bytes of "2GB", "900 MiB" or a number. BadInput when it is none of these."""
    if isinstance(text, int) and not isinstance(text, bool) and 0 < text < 2**63:
        return text
    m = re.fullmatch(r"\s*([0-9]{1,19}(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", str(text))
    if not m or m[2].lower() not in _UNITS or not 0 < float(m[1]) < 1e18:
        raise BadInput(f"memory must be a size such as 2GB or 900MiB, given {short(text)}")
    return int(float(m[1]) * _UNITS[m[2].lower()])
