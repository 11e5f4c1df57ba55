"""A runner's weights are its own, are taken as they are where nobody else holds them, and are told by their
digest once they were written to.
"""

import numpy as np
import pytest
import torch

import unnoise
from unnoise import hub
from unnoise.hub import weights
from unnoise.pipeline import Pipeline

ASK = {"num_inference_steps": 2, "seed": [4, 5], "prompt": "one"}


def spoil(net) -> None:
    """Write to every weight in place."""
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.5)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_what_happens_to_the_folder_does_not_reach_a_pipeline(tiny, dtype, tmp_path):
    folder = hub.load(tiny)
    pipe = Pipeline(folder, dtype=dtype)
    before = pipe(**ASK).arrays
    spoil(folder.net)
    assert np.array_equal(pipe(**ASK).arrays, before)
    saved = unnoise.load(pipe.save_pretrained(tmp_path / "copy"), device="cpu", dtype=dtype)
    assert np.array_equal(saved(**ASK).arrays, before)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_what_happens_to_a_pipeline_reaches_no_other(tiny, dtype):
    folder = hub.load(tiny)
    one, other = Pipeline(folder, dtype=dtype), Pipeline(folder, dtype=dtype)
    before = other(**ASK).arrays
    spoil(one.net)
    assert np.array_equal(other(**ASK).arrays, before)
    assert not np.array_equal(one(**ASK).arrays, before)


def test_loading_spends_no_memory_twice(tiny, monkeypatch):
    places = lambda net: [p.data_ptr() for p in net.parameters()]
    folder = hub.load(tiny)
    alone = Pipeline(folder, copy=False)
    assert places(alone.net) == places(folder.net) and not {*places(Pipeline(folder).net)} & {
        *places(folder.net)
    }
    monkeypatch.setattr(weights, "MAP_ABOVE", 1000)
    mapped = hub.load(tiny)
    assert places(Pipeline(mapped).net) == places(mapped.net)


def test_written_weights_are_in_the_record_and_the_key(tiny):
    pipe = unnoise.load(tiny, device="cpu", dtype="fp32")
    plain = pipe(**ASK)
    assert not pipe.runner.changed() and "weights_sha256" not in plain.recipes[0]
    key = pipe.request(**ASK).key(pipe)
    spoil(pipe.net)
    first = pipe(**ASK).recipes[0]["weights_sha256"]
    assert len(first) == 64 and pipe.request(**ASK).key(pipe) != key
    spoil(pipe.net)
    assert pipe(**ASK).recipes[0]["weights_sha256"] not in ("", first)


def test_a_retry_in_float32_is_of_the_weights_that_run(tiny):
    half = unnoise.load(tiny, device="cpu", dtype="bf16")
    with half.runner.widened():
        before = half.net.conv_out.bias.clone()
    with torch.no_grad():
        half.net.conv_out.bias.fill_(0.25)
    with half.runner.widened():
        assert half.runner.dtype == torch.float32 and (half.net.conv_out.bias == 0.25).all()
    assert not (before == 0.25).all()
