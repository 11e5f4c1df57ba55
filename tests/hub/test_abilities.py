"""What a model takes and gives is told from its folder, ours or published."""

from dataclasses import replace

import pytest

from tests.support.models import tiny_unet
from unnoise import hub
from unnoise.nets.unet import UNet

BUNDLED = {  # makes, judges, prompt, other sizes, channels beside x, a mask, smaller pictures
    "digits": ("pictures", False, "words", False, 0, None, None),
    "emoji": ("pictures", False, "text", True, 0, None, None),
    "emoji-upscale": ("pictures", False, None, False, 13, None, {"factor": 4, "noise": 0.5}),
    "digits-judge": ("pictures", True, "words", False, 0, None, None),
    "emoji-judge": ("pictures", True, None, False, 0, None, None),
}


@pytest.mark.parametrize("name", BUNDLED)
def test_of_bundled_models(name):
    can = hub.load(name).abilities
    told = (can.makes, can.judges, can.prompt, can.sizes, can.beside, can.mask, can.low)
    assert told[:6] == BUNDLED[name][:6] and (can.low is None) == (BUNDLED[name][6] is None)
    assert can.draws == (name in ("digits", "emoji"))


def test_of_models_of_numbers(vectors):
    can = hub.load(vectors).abilities
    assert (can.makes, can.prompt, can.beside, can.draws) == ("numbers", None, 0, True)


@pytest.mark.parametrize(
    ("more", "defaults", "mask"),
    [
        (0, {}, None),
        (2, {}, "grey"),
        (2, {"masked": "cells"}, "cells"),
        (2, {"upscale": {"factor": 2}}, None),
    ],
)
def test_what_is_shown_beside_x_is_told_by_channels_and_defaults(tiny, more, defaults, mask):
    f = hub.load(tiny)
    net = UNet(tiny_unet().config.model_copy(update={"in_channels": 1 + more}))
    can = replace(f, net=net, defaults={**f.defaults, **defaults}).abilities
    assert can.mask == mask and can.beside == more and can.low == defaults.get("upscale")
    assert can.draws == (more == 0)
