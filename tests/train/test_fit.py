"""Steps: what is drawn and moved, and that it is the same however a step is divided and wherever a run is
picked up.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.train.tiny import JUDGE, MLP, UNET, poison, recipe
from unnoise.errors import BadInput
from unnoise.train import checkpoint
from unnoise.train.build import network
from unnoise.train.fit import Run, Step, fit, learning_rate, prepare
from unnoise.train.recipe import TrainSection


def run(net: dict = MLP, until: int | None = None, **sections) -> tuple[Run, list[Step]]:
    r, steps = prepare(recipe(net, **sections)), []
    for s in fit(r):
        steps.append(s)
        if s.step == until:
            break
    return r, steps


def hashes(r: Run) -> list[str]:
    return [checkpoint.weights_hash(w) for w in r.parts().values()]


def difference(a: Run, b: Run) -> float:
    x, y = a.parts(), b.parts()
    tracks = ("raw", "ema0", "ema1")
    return max(float((v.double() - y[t][k].double()).abs().max()) for t in tracks for k, v in x[t].items())


@pytest.mark.parametrize("net", [MLP, UNET, JUDGE], ids=lambda n: n["kind"])
def test_a_run_begins_with_the_weights_that_the_seed_draws(net):
    r = prepare(recipe(net))  # which tries one sample out: batch norm must not notice
    assert checkpoint.weights_hash(r.net.state_dict()) == checkpoint.weights_hash(
        network(r.recipe, r.source).state_dict()
    )
    assert len({checkpoint.weights_hash(prepare(recipe(net, seed=s)).net.state_dict()) for s in (0, 1)}) == 2


# --- learning rate ------------------------------------------------------------------------------------------


@given(st.integers(3, 300), st.data())
def test_the_rate_warms_up_linearly_then_falls_to_its_end_exactly(steps, data):
    warmup = data.draw(st.integers(0, steps - 2))
    end = data.draw(st.sampled_from([0.0, 1e-4]))
    t = TrainSection(steps=steps, warmup=warmup, lr=1e-2, lr_end=end)
    trace = [learning_rate(t, k) for k in range(steps)]
    assert trace[:warmup] == pytest.approx([1e-2 * (k + 1) / warmup for k in range(warmup)])
    assert trace[warmup] == 1e-2 and trace[-1] == end
    assert all(a >= b for a, b in zip(trace[warmup:], trace[warmup + 1 :]))
    middle = warmup + (steps - 1 - warmup) / 2
    if middle == int(middle):
        assert trace[int(middle)] == pytest.approx((1e-2 + end) / 2)


@pytest.mark.parametrize("net", [MLP, UNET], ids=["mlp", "unet"])
@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_accumulated_parts_are_one_step(net, accumulate):
    whole, a = run(net)
    parts, b = run(net, train={"accumulate": accumulate})
    assert [s.lr for s in a] == [s.lr for s in b] and [s.images for s in a] == [s.images for s in b]
    assert [s.loss for s in a] == pytest.approx([s.loss for s in b], abs=1e-5)
    assert [s.grad_norm for s in a] == pytest.approx([s.grad_norm for s in b], abs=1e-4)
    assert difference(whole, parts) <= 1e-5


def test_the_gradient_is_clipped_to_the_norm_that_was_asked_for():
    r = prepare(recipe(train={"clip": 1e-3}))
    norms = []
    step = r.optimizer.step

    def watch() -> None:
        norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in r.net.parameters())))
        step()

    r.optimizer.step = watch
    reported = [s.grad_norm for s in fit(r)]
    assert (
        norms == pytest.approx([1e-3] * 8, rel=1e-3) and min(reported) > 0.1
    )  # what is reported is the norm before


def test_weights_are_those_of_adamw_written_out():
    """One parameter's path, from its own gradients, by Loshchilov & Hutter's formula."""
    r = prepare(recipe(train={"weight_decay": 0.1}))
    p = next(r.net.parameters())
    w, m, v, grads = p.detach().double().clone(), 0.0, 0.0, []
    step = r.optimizer.step

    def watch() -> None:
        grads.append(p.grad.double().clone())
        step()

    r.optimizer.step = watch
    for s in fit(r):
        m, v = 0.9 * m + 0.1 * grads[-1], 0.99 * v + 0.01 * grads[-1] ** 2
        w -= s.lr * (0.1 * w + m / (1 - 0.9**s.step) / ((v / (1 - 0.99**s.step)).sqrt() + 1e-8))
    torch.testing.assert_close(p.detach().double(), w, rtol=0, atol=1e-6)


# --- repeating and resuming ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net, sections",
    [
        (MLP, {}),
        (UNET, {"train": {"accumulate": 2}}),
        ({**UNET, "dropout": 0.3}, {}),
        (JUDGE, {"data": {"shift": 1, "mirror": 0.5}}),
    ],
    ids=["mlp", "unet", "dropout", "batch norm"],
)
def test_two_runs_and_a_resumed_one_are_equal_hash_for_hash(net, sections, tmp_path):
    whole, steps = run(net, **sections)
    again, _ = run(net, **sections)
    assert hashes(whole) == hashes(again)
    half, _ = run(net, until=3, **sections)
    torch.manual_seed(99)  # whatever else the process draws must not matter
    checkpoint.write(tmp_path, 3, half.parts(), half.state())
    found = checkpoint.newest(tmp_path)
    resumed = prepare(recipe(net, **sections))
    resumed.restore(*found)
    rest = list(fit(resumed))
    assert hashes(resumed) == hashes(whole)
    assert [(s.step, s.loss, s.lr, s.grad_norm) for s in rest] == [
        (s.step, s.loss, s.lr, s.grad_norm) for s in steps[3:]
    ]


def test_seeds_and_rollbacks_draw_otherwise():
    first = [s.loss for s in run()[1]]
    assert first != [s.loss for s in run(seed=1)[1]]
    r = prepare(recipe())
    r.rollbacks = 1
    assert next(fit(r)).loss != first[0]


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    r, _ = run(until=1)
    with pytest.raises(BadInput, match="not the data that this run began with"):
        prepare(recipe()).restore(r.parts(), r.state() | {"data": "0" * 64})
    old = r.state()
    del old["data"]  # checkpoints did not always name it
    prepare(recipe()).restore(r.parts(), old)


# --- non-finite numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [MLP, JUDGE], ids=["mlp", "batch norm"])
def test_a_step_with_a_nan_loss_moves_nothing(net):
    r = poison(prepare(recipe(net)), lambda step, salt: step == 3)
    before = None
    for s in fit(r):
        if s.step == 4:
            assert s.bad == "loss" and math.isnan(s.loss) and hashes(r) == before
        else:
            assert s.bad is None
        before = hashes(r)
    assert r.step == 8


def test_nan_in_one_image_does_not_reach_batch_norm(monkeypatch):
    r = prepare(recipe(JUDGE))
    encode = type(r.source).encode

    def broken(self, *a):
        x = encode(self, *a)
        if r.step == 2:
            x[0, 0, 0, 0] = float("nan")
        return x

    monkeypatch.setattr(type(r.source), "encode", broken)
    bad = [s.bad for s in fit(r)]
    assert bad == [None, None, "loss", *[None] * 5] and checkpoint.first_nonfinite(r.net.state_dict()) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_bad_gradient_is_named(value):
    r = prepare(recipe())
    name, p = list(r.net.named_parameters())[2]
    p.register_hook(lambda g: torch.full_like(g, value) if r.step == 1 else g)
    assert [s.bad for s in fit(r)] == [None, f"gradient of {name}", *[None] * 6]


def test_a_batch_that_cannot_be_shared_by_the_processes_is_refused():
    class Three:
        num_processes = 3

    with pytest.raises(BadInput, match="a batch of 8 cannot be shared equally by 3 processes"):
        prepare(recipe(), Three())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains_close_to_the_full(precision):
    full, a = run()
    low, b = run(train={"precision": precision})
    assert [s.bad for s in b] == [None] * 8
    assert [s.loss for s in b] == pytest.approx([s.loss for s in a], rel=0.05)
    assert [s.grad_norm for s in b] == pytest.approx(
        [s.grad_norm for s in a], rel=0.1
    )  # the loss scale is divided out
    assert all(p.dtype == torch.float32 for p in low.net.parameters()) and 0 < difference(full, low) < 0.01


def test_one_image_is_learnt_by_heart():
    """The error on a single vector falls: the whole chain of draw, corrupt, predict, weigh and move is
    connected.
    """
    r = prepare(
        recipe(train={"steps": 300, "batch": 16, "lr": 3e-3}, process={"predict": "x0", "weight": "uniform"})
    )
    r.source = type(r.source)(r.source.data.take([0]), r.source.codec, r.source.labels[:1], r.source.words)
    losses = [s.loss for s in fit(r)]
    windows = [sum(losses[i : i + 60]) for i in range(0, 300, 60)]
    assert windows == sorted(windows, reverse=True) and windows[-1] < 0.25 * windows[0]
