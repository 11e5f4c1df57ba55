"""Networks that are shown the small picture: what they see, that it tells them something, and their folders;
classes that are left out.
"""

import numpy as np
import pytest
import torch

import unnoise
from tests.train.tiny import UNET, recipe
from unnoise import hub
from unnoise.codec.scale import GAIN, NOTHING, down, up
from unnoise.errors import BadInput
from unnoise.train import build, upscale
from unnoise.train.fit import fit, prepare
from unnoise.train.run import train

NET = {**UNET, "num_class_embeds": 0}
LOW = {"name": "digits8", "low": 2}


def test_the_condition_is_the_mean_of_the_blocks_raised_with_the_noise_it_is_told():
    r = recipe(NET, data={**LOW, "low_noise": 0.5})
    x0 = torch.rand(400, 1, 8, 8) * 2 - 1
    n = np.arange(400)
    c = upscale.drawn(r, x0, "train/0", 3, 400, n, n, torch.zeros(400, dtype=torch.bool))
    s = c[:, -1, 0, 0]
    assert c.shape == (400, 2, 8, 8) and (c[:, -1] == s[:, None, None]).all()
    assert abs((s == 0).double().mean() - 0.25) < 0.07 and s.max() <= 0.5 and s.max() > 0.48
    gap = c[:, :1] - up(down(x0, 2), 2)
    assert gap[s == 0].abs().max() == 0
    told = gap[s > 0].flatten(1).std(1) / s[s > 0]
    assert (
        abs(told.mean() - told.median()) < 0.05 and 0.6 < told.mean() < 1.1
    )  # bicubic weights: less than white noise's 1


def test_dropped_small_pictures_are_not_shown():
    r = recipe(NET, data=LOW)
    x0, n = torch.rand(2, 1, 8, 8), np.arange(2)
    c = upscale.drawn(r, x0, "s", 0, 2, n, n, torch.tensor([True, False]))
    assert (c[0, 0] == 0).all() and (c[0, 1] == NOTHING).all() and (c[1, 0] != 0).any()


def test_what_is_left_and_its_way_back():
    r = recipe(NET, data=LOW)
    x0, n = torch.rand(2, 1, 8, 8), np.arange(2)
    c = upscale.drawn(r, x0, "s", 0, 2, n, n, torch.tensor([True, False]))
    left = upscale.left(x0, c)
    assert torch.equal(left[0], x0[0])  # shown nothing, all is left
    torch.testing.assert_close(upscale.restored(left, c), x0)


def test_a_step_draws_the_same_in_parts():
    steps = [list(fit(prepare(recipe(NET, data=LOW, train={"steps": 2, "accumulate": k})))) for k in (1, 4)]
    assert steps[0][1].loss == pytest.approx(steps[1][1].loss, rel=1e-5)


def test_being_shown_the_picture_helps(tmp_path):
    """After 150 steps of 32: at the noisiest levels a network that is shown nothing can only guess the
    mean.
    """
    how = {
        "train": {"steps": 150, "batch": 32, "lr": 3e-3, "initial": "near_linear", "warmup": 10},
        "log": {"validation_samples": 64, "save": 1000},
    }
    shown, alone = (
        train(
            recipe(NET, data={"name": "digits8", **d}, process={"drop_label": 0.1}, **how), tmp_path / str(i)
        )["validation"]
        for i, d in enumerate(({"low": 2, "low_noise": 0.2}, {}))
    )
    assert (
        shown["loss_0.9375"] / GAIN**2 < 0.7 * alone["loss_0.9375"]
    )  # measured .113 and .341: its errors are GAIN times as large


def test_the_folder_says_what_it_is_and_draws_nothing(tmp_path):
    done = train(recipe(NET, data=LOW, train={"steps": 1}), tmp_path / "run")
    pipe = unnoise.load(done["folder"])
    assert pipe.folder.defaults["upscale"] == {"factor": 2, "noise": 0.5}
    with pytest.raises(BadInput, match="edit upscale"):
        pipe(seed=0)
    pipe.save_pretrained(tmp_path / "again")
    again = hub.load(tmp_path / "again")
    assert again.defaults["upscale"] == pipe.folder.defaults["upscale"] and again.sha256 == pipe.sha256


@pytest.mark.parametrize(
    ("net", "data", "says"),
    [
        ({"kind": "mlp", "width": 8, "layers": 1}, LOW, "unet"),
        (NET, {"name": "emoji-starter-scenes", "low": 2}, "on pictures"),
        (NET, {**LOW, "low": 3}, "data.low"),
    ],
)
def test_what_does_not_go_together_is_said(net, data, says):
    with pytest.raises(BadInput, match=says):
        build.check(recipe(net, data=data))


def test_patches_that_do_not_divide_are_said():
    with pytest.raises(BadInput, match="divisible by 16"):
        prepare(recipe(NET, data={**LOW, "low": 4}, patch=4))


def test_classes_can_be_left_out_of_both_splits():
    r = recipe(NET, data={"name": "digits8", "without": ["a handwritten three", "a handwritten nine"]})
    src = build.source(r)
    for s in (src, build.held_out(r, src)):
        assert sorted(set(s.labels.tolist())) == [0, 1, 2, 4, 5, 6, 7, 8]
        assert s.data.x.shape[0] == len(s.labels) == len(s.data)
    assert len(src.words) == 10  # the numbering stays


def test_an_unknown_class_to_leave_out_names_the_nearest():
    with pytest.raises(BadInput, match="a handwritten three"):
        build.source(recipe(NET, data={"name": "digits8", "without": ["a handwriten three"]}))
