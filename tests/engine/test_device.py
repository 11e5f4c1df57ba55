"""Devices, number types and sizes of memory by name."""

import pytest
import torch

from unnoise.engine import device, fuse
from unnoise.errors import BadInput


def test_cpus_with_a_fast_form_compute_in_float32():
    assert device.dtype("auto", torch.device("cpu")) == torch.float32 or not fuse.available()


def test_the_trial_takes_what_is_right_and_twice_as_fast(monkeypatch):
    monkeypatch.setattr(device, "available", lambda: False)
    cpu = torch.device("cpu")
    for seconds, want in (
        ({"fp32": 1.0, "fp16": 0.3, "bf16": 0.4}, torch.float16),
        ({"fp32": 1.0, "fp16": 0.6, "bf16": 0.7}, torch.float32),
        ({"fp32": 1.0, "fp16": float("inf"), "bf16": 0.4}, torch.bfloat16),
    ):
        monkeypatch.setattr(
            device, "_trial", lambda on, t, s=seconds: s[{v: k for k, v in device.DTYPES.items()}[t]]
        )
        device.probe.cache_clear()
        assert device.probe(cpu) == want
    device.probe.cache_clear()


def test_a_trial_runs_and_fails_as_infinitely_slow(monkeypatch):
    assert 0 < device._trial(torch.device("cpu"), torch.float32) < 10
    monkeypatch.setattr(
        torch.nn.functional,
        "conv2d",
        lambda *a, **k: (_ for _ in ()).throw(RuntimeError("not implemented for Half")),
    )
    assert device._trial(torch.device("cpu"), torch.float16) == float("inf")


@pytest.mark.parametrize(("given", "want"), [("cpu", "cpu"), (torch.device("cpu"), "cpu")])
def test_devices(given, want):
    assert device.device(given).type == want


@pytest.mark.parametrize("given", ["gpu", "cuda:99", "", "tpu:0"])
def test_devices_that_are_not_here(given):
    with pytest.raises(BadInput, match="cpu"):
        device.device(given)


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ("fp16", torch.float16),
        ("float32", torch.float32),
        (torch.bfloat16, torch.bfloat16),
        ("half", torch.float16),
    ],
)
def test_number_types(given, want):
    assert device.dtype(given) == want


def test_unknown_number_types():
    with pytest.raises(BadInput, match="did you mean 'fp16'"):
        device.dtype("fp61")


@pytest.mark.parametrize(
    ("given", "want"),
    [("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), (12345, 12345), ("900mb", 900 * 10**6), ("2g", 2**31)],
)
def test_sizes_of_memory(given, want):
    assert device.size_of(given) == want


@pytest.mark.parametrize("given", ["", "many", "-2GB", "0", "2XB", 0, -5, True, None, "GB"])
def test_what_is_no_size(given):
    with pytest.raises(BadInput, match="memory"):
        device.size_of(given)
