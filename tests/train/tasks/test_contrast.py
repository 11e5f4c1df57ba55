"""CLIP's temperature while it trains: the softmax's is held, the sigmoid's is free."""

import math

import pytest
import torch

from tests.train.scenes import recipe, tokenizer
from unnoise.nets import clip
from unnoise.train import fit


@pytest.mark.parametrize(
    "loss, begins, ends",
    [
        ("softmax", 5.5, clip.MAX_LOGIT_SCALE),
        ("softmax", math.log(1 / 0.07), None),
        ("softmax", -3.0, None),
        ("sigmoid", 5.5, None),
    ],
)
def test_a_step_holds_the_softmaxs_temperature(loss, begins, ends, tmp_path):
    """ends: where a step of next to no length leaves it; None: where it began."""
    told = {"tokenizer": str(tokenizer(tmp_path / "words"))}
    r = fit.prepare(recipe("contrast", told, {"loss": loss}, lr=1e-9, lr_end=0.0, weight_decay=0.0, steps=1))
    with torch.no_grad():
        r.net.clip.logit_scale.fill_(begins)
    step = next(fit.fit(r))
    assert step.bad is None and float(r.net.clip.logit_scale) == pytest.approx(
        begins if ends is None else ends, abs=1e-5
    )
    assert math.isclose(clip.MAX_LOGIT_SCALE, math.log(100))
    assert torch.equal(
        r.ema[0].weights["clip.logit_scale"], r.net.clip.logit_scale
    )  # averages take in what was held
