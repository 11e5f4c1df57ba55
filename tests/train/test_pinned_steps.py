"""What a training step is, by hand: its rate, what is dropped and noised, how errors are counted, what is
begun with and what recipes leave out.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.train.tiny import MLP, UNET, recipe, toml
from unnoise.codec import Pixels
from unnoise.codec.scale import gain
from unnoise.process import noise
from unnoise.process.level import level, ve
from unnoise.train import initial, objective, perceptual, tasks, upscale
from unnoise.train.fit import learning_rate
from unnoise.train.items import Items
from unnoise.train.objective import Batch
from unnoise.train.recipe import DataSection, ProcessSection, TrainSection, parse
from unnoise.train.sources.sets import SetSource, augment

LOW = {"name": "digits8", "low": 2, "low_noise": 0.6}
NET = {**UNET, "num_class_embeds": 0}


def test_the_rate_of_every_step():
    t = TrainSection(steps=9, warmup=4, lr=1.0, lr_end=0.2)
    falling = [0.2 + 0.4 * (1 + math.cos(math.pi * k / 4)) for k in range(5)]
    assert [learning_rate(t, k) for k in range(9)] == pytest.approx([0.25, 0.5, 0.75, 1.0, *falling])
    assert learning_rate(t, 8) == pytest.approx(0.2)
    assert learning_rate(t, 4) == pytest.approx(1.0)


# --- the loss of a denoiser ---------------------------------------------------------------------------------


def batch(n: int = 8, total: int = 8, step: int = 3) -> Batch:
    return Batch(torch.zeros(n, 1, 8, 8), torch.arange(n) % 10, np.arange(n) + step * total, step, total)


def shown_to(net_kind: dict, b: Batch, null: int | None = 10, salt: int = 0, **sections) -> dict[str, Any]:
    """What the loss shows its network: x, times and labels."""
    seen: dict[str, Any] = {}

    def net(x, t, labels=None):
        seen.update(x=x, t=t, labels=labels)
        return x[:, : b.x0.shape[1]]

    loss: Any = objective.denoising(recipe(net_kind, **sections), null)
    seen["loss"] = loss(net, b, salt)
    return seen


def test_labels_are_dropped_by_a_stream_of_their_own():
    b = batch()
    for salt in (0, 2):
        u = noise.uniform(0, f"train/{salt}/drop", b.step, (8,))
        for p in (0.1, 0.5):
            labels = shown_to(MLP, b, salt=salt, process={"drop_label": p})["labels"]
            assert b.labels is not None, (salt, p)
            assert torch.equal(labels, torch.where(u < p, 10, b.labels)), (salt, p)


def test_levels_are_stratified_and_noise_is_the_positions():
    """At x0 = 0 the network sees sigma eps; in the cosine schedule the level of u is at angle u of a quarter
    turn, nearly.
    """
    b = batch()
    seen = shown_to(MLP, b)
    u = noise.uniform(0, "train/0/level", b.step, (8,))
    eps = noise.draws(0, "train/0", b.positions, (1, 8, 8)).float()
    sigma = (seen["x"] / eps).flatten(1).mean(1)
    process = objective.resolve(ProcessSection())
    from unnoise.process.weight import stratified

    for own, same in ((stratified(u), True), (u, False)):
        assert torch.allclose(process.density(own).sigma.float(), sigma, atol=1e-4) == same
    free = shown_to(MLP, b, process={"stratified": False})["x"] / eps
    torch.testing.assert_close(
        free.flatten(1).mean(1), process.density(u).sigma.float(), atol=1e-4, rtol=1e-4
    )


def test_a_step_is_the_mean_over_its_whole_batch():
    """Half of the batch of a step counts half."""
    part = lambda k: Batch(torch.zeros(4, 1, 8, 8), None, np.arange(4) + 24 + k, 3, 8)
    halves = [float(shown_to(MLP, part(k), None)["loss"]) for k in (0, 4)]
    assert float(shown_to(MLP, batch())["loss"]) == pytest.approx(sum(halves), rel=1e-5)


# --- the shown small picture --------------------------------------------------------------------------------


def test_a_quarter_of_the_small_pictures_is_clean_and_the_rest_evenly_noisy_up_to_the_most():
    n = 400
    r = recipe(NET, data=LOW)
    drop = torch.zeros(n, dtype=torch.bool)
    x0 = torch.zeros(n, 1, 8, 8)
    told = upscale.drawn(r, x0, "s", 5, n, np.arange(n), np.arange(n), drop)[:, -1].amax((1, 2))
    shares = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    torch.testing.assert_close(told.double().quantile(shares), 0.6 * (4 * shares - 1) / 3, atol=0.04, rtol=0)
    assert 0.2 < float((told == 0).double().mean()) < 0.3
    assert 0.58 < float(told.max()) <= 0.6


def test_where_nothing_is_shown_the_picture_itself_is_what_is_left():
    r = recipe(NET, data=LOW)
    x0 = torch.full((2, 1, 8, 8), 0.5)
    c = upscale.drawn(r, x0, "s", 0, 2, np.arange(2), np.arange(2), torch.tensor([True, False]))
    left = upscale.left(x0, c)
    assert torch.equal(left[0], x0[0])
    assert not torch.equal(left[1], x0[1])
    assert float(gain(c)[0].mean()) == 1
    assert float(gain(c)[1].mean()) == 8
    torch.testing.assert_close(upscale.restored(left, c), x0)


# --- errors -------------------------------------------------------------------------------------------------


def test_pseudo_huber_by_hand():
    """2 c (sqrt(d^2 + c^2) - c) of d = .3 and .4 at c = .4: .08 and .13137."""
    d = torch.tensor([[0.3, 0.4]], dtype=torch.float64)
    one, two = 2 * 0.4 * (0.5 - 0.4), 2 * 0.4 * (0.4 * 2**0.5 - 0.4)
    assert float(perceptual.huber(d, 0.4)) == pytest.approx((one + two) / 2)
    assert float(perceptual.huber_norm(d, 0.4)) == pytest.approx(0.8 * (math.sqrt(0.125 + 0.16) - 0.4))


def test_layers_count_alike_relative_to_their_own_size():
    """Distances of .1 and 10 in layers of size 1 and 100 are .01 each: the mean is .01."""
    f = lambda x0, eps, l, labels: [x0, 100 * x0]
    one = torch.ones(3, 4)
    told = perceptual.between(f, (one * 1.1, one), (one, one), ve(1.0))
    torch.testing.assert_close(told, torch.full((3,), 0.01), atol=1e-5, rtol=0)
    far = perceptual.between(lambda x0, *_: [x0], (one * 0 + 0.1, one), (one * 0, one), ve(1.0))
    assert float(far[0]) == pytest.approx(0.01 / 1e-6, rel=1e-3)  # where the truth is nothing, by 1e-6


def test_defaults_of_objectives():
    o = perceptual.keys(recipe(MLP))
    assert (o.loss, o.c, o.share) == ("mse", 0.1, 0.1)
    a = tasks.Autoencode.Objective()
    assert (a.square, a.edge, a.kl) == (4.0, 1.0, 1e-4)
    m = tasks.Score.Objective()
    assert (m.sigma, m.high, m.levels, m.count, m.kind) == (0.1, 1.0, 10, 1, "denoising")


# --- what is begun with -------------------------------------------------------------------------------------


def test_near_linear_weights_keep_the_variance_and_branches_begin_small():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.conv2, self.linear = (
                nn.Conv2d(32, 64, 3),
                nn.Conv2d(64, 32, 3),
                nn.Linear(400, 500),
            )

    net = Net()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        initial.near_linear(net)
    for layer, std in ((net.conv, 288**-0.5), (net.conv2, 0.2 * 576**-0.5), (net.linear, 400**-0.5)):
        assert float(layer.weight.detach().std()) == pytest.approx(std, rel=0.03)
        assert layer.bias is not None
        assert not layer.bias.any()


# --- what moves pictures ------------------------------------------------------------------------------------


def test_pictures_are_moved_by_up_to_the_shift_and_mirrored_by_chance():
    x = np.arange(25, dtype=np.uint8).reshape(5, 5, 1)
    for position in range(40):
        a, b, c = noise.uniform(3, "augment", position, (3,)).tolist()
        down, right = int(a * 5) - 2, int(b * 5) - 2
        rows, columns = np.clip(np.arange(5) + down, 0, 4), np.clip(np.arange(5) + right, 0, 4)
        want = x[rows][:, columns]
        assert np.array_equal(augment(x, 3, position, 2, 0.25), want[:, ::-1] if c < 0.25 else want), position
    offsets = {tuple(augment(x, 3, p, 2, 0.0)[2, 2]) for p in range(400)}
    assert len(offsets) == 25  # from 2 up and left to 2 down and right


def test_a_source_moves_by_places_alone():
    data: Any = SimpleNamespace(x=np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8))
    src, i = SetSource(data, Pixels(8, 8, 1), None, ()), np.array([4, 4, 4])
    plain, moved = src.encode(i), src.encode(i, 1, np.array([7, 7, 9]), shift=2)
    assert torch.equal(plain[0], plain[1])
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])
    assert torch.equal(src.encode(i, 1, None, shift=2), plain)


# --- scores -------------------------------------------------------------------------------------------------


def test_the_many_levelled_score_shows_its_network_data_of_unit_scale():
    """s(x, sigma) = net(x / sqrt(1 + sigma^2), c_noise) / sigma: of sigma = .75 and a network that gives back
    what it is shown, x / 1.25 / .75.
    """
    task = tasks.Score(
        parse(
            {
                **toml(MLP, objective={"kind": "ncsn", "sigma": 0.01, "high": 1.0, "levels": 10}),
                "task": "score",
            }
        )
    )
    s, x = task.score(lambda x, t: x), torch.ones(2, 3, dtype=torch.float64)
    torch.testing.assert_close(s(x, ve(torch.tensor([0.75, 0.75], dtype=torch.float64))), x / 1.25 / 0.75)
    assert task.sigmas is not None
    assert task.sigmas[[0, 9]].tolist() == pytest.approx([1.0, 0.01])


def test_pictures_are_told_from_captions_by_rows():
    """top1 of a CLIP: for each picture the best text, equal captions equally right."""

    class Net:
        def vectors(self, x, ids):
            image = torch.tensor([[1.0, 0], [0.6, 0.8], [0.6, 0.8]])
            text = torch.tensor([[1.0, 0], [0, 1.0], [0.96, 0.28]])
            return image, text

        def __call__(self, x, ids):
            return torch.tensor(0.5)

    task: Any = tasks.Contrast.__new__(tasks.Contrast)
    items = lambda ids: Items(torch.zeros(3, 3, 32, 32), None, {"ids": torch.tensor(ids)})
    assert task.validate(Net(), items([[1], [2], [3]]), None, 0)["top1"] == pytest.approx(2 / 3)
    assert task.validate(Net(), items([[1], [2], [2]]), None, 0)["top1"] == 1.0


# --- recipes that leave things out --------------------------------------------------------------------------


def test_what_a_recipe_leaves_out():
    """A recipe that was trained yesterday means the same tomorrow."""
    t, p, d = TrainSection(steps=1), ProcessSection(), DataSection(name="x")
    assert (t.batch, t.lr, t.lr_end, t.warmup, t.betas, t.weight_decay, t.clip) == (
        64,
        1e-3,
        0.0,
        200,
        (0.9, 0.99),
        0.0,
        1.0,
    )
    assert (t.ema, t.export, t.precision, t.initial, t.bad_steps, t.label_smoothing) == (
        (0.05, 0.10),
        "ema0",
        "no",
        "torch",
        5,
        0.0,
    )
    assert (p.schedule, p.predict, p.frame, p.clock, p.weight, p.density, p.stratified, p.drop_label) == (
        "cosine",
        "v",
        "unit",
        "table",
        "v",
        "schedule",
        True,
        0.1,
    )
    assert (d.split, d.validation, d.shift, d.mirror, d.size, d.low_noise, d.tint, d.masked) == (
        "train",
        "test",
        0,
        0.0,
        64,
        0.5,
        0.0,
        False,
    )


def test_the_objective_is_of_the_networks_own_frame():
    """Under frame "convex" a network sees x / (alpha + sigma), and its target is of that level."""
    process = objective.resolve(
        ProcessSection(schedule="flow", frame="convex", predict="velocity", weight="uniform")
    )
    seen, x0, eps = [], torch.full((1, 2), 2.0), torch.full((1, 2), -1.0)
    process.errors(lambda x, t: seen.append(x) or x, x0, eps, level([0.6], [0.4]))
    torch.testing.assert_close(seen[0], torch.full((1, 2), 0.6 * 2 - 0.4))


def test_averages_take_in_each_step_by_its_number():
    """After the first step they are the weights themselves; the second counts 1 - (1/2)^(gamma + 1)."""
    from tests.train.scenes import recipe as of_scenes
    from unnoise.train.ema import gamma
    from unnoise.train.fit import fit, prepare

    run = prepare(of_scenes("autoencode", steps=2))
    name, steps = run.names[0], fit(run)
    next(steps)
    first = run.net.state_dict()[name].clone()
    assert all(torch.equal(e.weights[name], first) for e in run.ema)
    next(steps)
    second = run.net.state_dict()[name]
    for e, width in zip(run.ema, (0.05, 0.10)):
        torch.testing.assert_close(e.weights[name], torch.lerp(first, second, 1 - 0.5 ** (gamma(width) + 1)))
    assert not torch.equal(first, second)
    assert [s.step for s in steps] == []
