"""Other losses than the square: their formulas, where gradients go, what a recipe may ask for."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from tests.support import normal
from tests.train.tiny import JUDGE, MLP, UNET, recipe
from unnoise.errors import BadInput
from unnoise.process.level import vp
from unnoise.train import objective, perceptual, run
from unnoise.train.features import features_of, middle
from unnoise.train.fit import fit, prepare

EXACT = dict(rtol=1e-12, atol=1e-12)


def test_pseudo_huber_is_its_formula_and_its_limits():
    d, c = 3 * normal(5, 2, 4), 0.7
    want = 2 * c * ((d**2 + c**2).sqrt() - c)
    assert_close(perceptual.huber(d, c), want.flatten(1).mean(1), **EXACT)
    rms = d.flatten(1).square().mean(1).sqrt()
    assert_close(perceptual.huber_norm(d, c), 2 * c * ((rms**2 + c**2).sqrt() - c), **EXACT)
    for f in (perceptual.huber, perceptual.huber_norm):  # the square within c, a line beyond
        assert_close(f(1e-6 * d, c), perceptual.square(1e-6 * d), rtol=1e-9, atol=0)
        assert abs(f(1e6 * d, c) / f(5e5 * d, c) - 2).max() < 1e-5
    assert_close(perceptual.square(d), (d**2).flatten(1).mean(1), **EXACT)


def test_an_outlier_pulls_the_square_and_not_huber():
    data = torch.cat([torch.zeros(90), torch.full((10,), 5.0)]).double()
    at = {}
    for name, loss in (("square", perceptual.square), ("huber", lambda d: perceptual.huber(d, 0.1))):
        grid = torch.linspace(-1, 2, 3001, dtype=torch.float64)
        at[name] = float(grid[torch.stack([loss((data - m)[:, None]).mean() for m in grid]).argmin()])
    assert (
        at["square"] == pytest.approx(0.5, abs=1e-3) and abs(at["huber"]) < 0.015
    )  # measured 0.011: c / (sqrt(9^2 - 1)) = 0.0112
    assert at["huber"] == pytest.approx(0.1 / math.sqrt(80), abs=1e-3)


def test_the_recipe_without_objective_trains_as_before_and_mse_is_it():
    first = [
        next(iter(fit(prepare(recipe(MLP, objective=o))))).loss
        for o in ({}, {"loss": "mse"}, {"loss": "huber", "c": 1e4}, {"loss": "huber"})
    ]
    assert first[0] == first[1] and first[2] == pytest.approx(first[0], rel=1e-5) and first[3] < first[0] / 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    at, log = tmp_path_factory.mktemp("models"), {"validate_every": 1000, "save": 1000}
    wanted = {"judge": JUDGE, "unet": UNET, "mlp": MLP}
    return {
        k: run.train(recipe(net, train={"steps": 2}, log=log), at / k)["folder"] for k, net in wanted.items()
    }


def features(folder, net=UNET, **process):
    r = recipe(net, objective={"features": str(folder)}, process=process)
    src = prepare(recipe(net)).source
    return features_of(r, src.codec)


@pytest.mark.parametrize("which", ["judge", "unet"])
def test_features_are_zero_at_the_truth_and_pass_the_gradient_of_the_estimate_alone(folders, which):
    f, l = features(folders[which]), vp(torch.zeros(3))
    x0, eps, labels = normal(3, 1, 8, 8).float(), normal(3, 1, 8, 8, seed=1).float(), torch.arange(3)
    assert f is not None
    assert torch.equal(perceptual.between(f, (x0, eps), (x0, eps), l, labels), torch.zeros(3))
    guess, truth = (x0 + 0.3).requires_grad_(), x0.clone().requires_grad_()
    far = perceptual.between(f, (guess, eps), (truth, eps), l, labels)
    far.sum().backward()
    assert (
        (far > 0).all()
        and guess.grad is not None
        and guess.grad.flatten(1).norm(dim=1).min() > 0
        and truth.grad is None
    )
    alone = perceptual.between(
        f, (guess[1:2], eps[1:2]), (x0[1:2], eps[1:2]), vp(torch.zeros(1)), labels[1:2]
    )
    assert_close(alone, far[1:2].detach(), rtol=1e-4, atol=1e-6)  # each sample apart


def test_the_middle_of_a_denoiser_is_what_its_middle_block_gives(folders):
    from unnoise import hub

    f, l = hub.load(folders["unet"]), vp(torch.zeros(2))
    seen: list[torch.Tensor] = []
    f.net.mid_block.resnets[-1].register_forward_hook(lambda m, given, out: seen.append(out))
    x0, eps, labels = normal(2, 1, 8, 8).float(), normal(2, 1, 8, 8, seed=1).float(), torch.arange(2)
    process = objective.resolve(f.process)
    with torch.no_grad():
        process.answer(lambda x, t: f.net(x, t, labels=labels), x0, eps, l)
    assert torch.equal(middle(f.net, process)(x0, eps, l, labels)[0], seen[0])


@pytest.mark.parametrize("which", ["judge", "unet"])
def test_a_recipe_trains_with_features_and_the_frozen_network_stays(folders, which):
    r = prepare(recipe(UNET, objective={"features": str(folders[which]), "share": 0.5}, train={"steps": 3}))
    plain = next(iter(fit(prepare(recipe(UNET)))))
    steps = list(fit(r))
    assert all(s.bad is None for s in steps) and steps[0].loss > plain.loss
    assert not any(
        "stages" in n or "half" in n for n, _ in r.net.named_parameters()
    )  # not a part of what is trained or saved


@pytest.mark.parametrize(
    "change, says",
    [
        (dict(objective={"los": "huber"}), "did you mean 'objective.loss'"),
        (dict(objective={"loss": "l1"}), "objective.loss"),
        (dict(objective={"loss": "huber", "c": 0}), "objective.c"),
        (dict(objective={"share": -1}), "objective.share"),
        (dict(objective={"features": "digits-judge"}), "sees other data"),
        (dict(objective={"features": "digits-judge"}, process={"predict": "eps"}), "process.predict 'eps'"),
        (dict(objective={"features": "nothing-here"}), "unknown model"),
    ],
)
def test_bad_objectives_are_told_in_one_line(change, says):
    with pytest.raises(BadInput, match=says) as e:
        prepare(recipe(MLP, **change))
    assert "\n" not in str(e.value)


def test_a_network_of_another_kind_is_refused(folders):
    with pytest.raises(BadInput, match="is of kind mlp"):
        features(folders["mlp"])
