"""Networks that are shown a picture with a part taken away: the masks, that training begins at the model it
starts from, resuming, their folders.
"""

import sys

import numpy as np
import pytest
import torch

import unnoise
from tests.train.tiny import UNET, recipe
from unnoise import hub
from unnoise.edit import inpaint as inpaint_picture
from unnoise.edit.inpaint import conditioned, takes_mask
from unnoise.edit.picture import cells, encoded, read
from unnoise.errors import BadInput
from unnoise.process.noise import uniform
from unnoise.train import build, checkpoint, inpaint, objective
from unnoise.train.fit import fit, prepare
from unnoise.train.run import train

DIGITS = {"name": "digits8", "masked": True}
NET = {**UNET, "num_class_embeds": 0}


def test_masks_are_a_function_of_seed_and_position():
    all_at_once = inpaint.masks(3, "train/0", range(64), 8, 8)
    assert all_at_once.shape == (64, 1, 8, 8) and set(all_at_once.unique().tolist()) == {0, 1}
    assert torch.equal(inpaint.masks(3, "train/0", [40, 7], 8, 8), all_at_once[[40, 7]])
    for other in (inpaint.masks(4, "train/0", range(64), 8, 8), inpaint.masks(3, "train/1", range(64), 8, 8)):
        assert not torch.equal(other, all_at_once)


def test_masks_are_of_every_kind_and_never_empty():
    m = inpaint.masks(0, "s", range(3000), 8, 8)[:, 0]
    share = m.mean((1, 2))
    assert (
        share.min() > 0 and 0.13 < (share == 1).double().mean() < 0.22
    )  # all: 0.15, and rectangles as large
    assert (m.mean(0) > 0.3).all() and (
        m.mean(0) < 0.7
    ).all()  # every cell is often hidden, and often shown: .4 in the corners, .6 in the middle
    assert 0.3 < share[share < 1].mean() < 0.5
    lone = ((m[:, 1:] != m[:, :-1]).sum((1, 2)) + (m[:, :, 1:] != m[:, :, :-1]).sum((1, 2))) / (
        4 * 64 * share.minimum(1 - share).clamp(min=1 / 64)
    )
    assert lone.mean() < 0.6  # parts, not dots: dots of a third would have 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (16, 5)])
def test_masks_of_any_size(shape):
    m = inpaint.masks(0, "s", range(200), *shape)
    assert m.shape == (200, 1, *shape) and (m.flatten(1).sum(1) > 0).all()


def test_each_kind_of_mask():
    u = uniform(0, "u", 0, (inpaint.DRAWS,)).numpy()
    kind = lambda v: inpaint.mask(np.concatenate([[v], u[1:]]), 8, 8)
    assert kind(0.0).all()
    y, x = np.nonzero(~kind(0.16))
    assert (~kind(0.16)).sum() == (np.ptp(y) + 1) * (np.ptp(x) + 1)  # what is left is a rectangle
    box, stroke = kind(0.36), kind(0.9)
    assert (box & ~kind(0.16)).sum() == (~kind(0.16)).sum()  # the same rectangle, here taken away
    assert 1 < stroke.sum() < 48 and not np.array_equal(stroke, box)


def test_the_network_sees_the_mask_and_the_picture_without_what_it_covers():
    r = recipe(NET, data=DIGITS)
    x0 = torch.rand(5, 1, 8, 8) + 1
    c = inpaint.drawn(r, x0, "train/0", range(5))
    assert c.shape == (5, 2, 8, 8) and torch.equal(c[:, 1:], torch.where(c[:, :1] == 1, 0.0, x0))
    assert torch.equal(c[:, :1], inpaint.masks(r.seed, "train/0", range(5), 8, 8))


def test_training_begins_at_the_model_it_starts_from(tmp_path):
    """The network with the further channels answers as the one without them, whatever it is shown; only the
    first convolution grew.
    """
    done = train(recipe(NET, data={"name": "digits8"}, train={"steps": 3, "lr": 0.01}), tmp_path / "plain")
    r = recipe(NET, data=DIGITS, train={"steps": 1, "start": done["folder"]})
    net, plain = prepare(r).net.eval(), hub.load(done["folder"]).net
    x, beside, t = torch.randn(4, 1, 8, 8), torch.randn(4, 2, 8, 8) * 9, torch.tensor([1.0, 10, 500, 999])
    with torch.no_grad():
        torch.testing.assert_close(net(torch.cat([x, beside], 1), t), plain(x, t), atol=1e-6, rtol=1e-6)
    assert plain(x, t).std() > 0.01
    grown, before = net.state_dict(), plain.state_dict()
    assert all(torch.equal(grown[k], v) for k, v in before.items() if k != "conv_in.weight")
    assert (
        torch.equal(grown["conv_in.weight"][:, :1], before["conv_in.weight"])
        and not grown["conv_in.weight"][:, 1:].any()
    )
    trained = prepare(r)
    list(fit(trained))
    assert trained.net.state_dict()["conv_in.weight"][:, 1:].abs().max() > 0  # the zeros do learn


def test_a_model_with_more_channels_is_not_cut_down(tmp_path):
    done = train(recipe(NET, data=DIGITS, train={"steps": 1}), tmp_path / "run")
    with pytest.raises(
        BadInput, match=r"conv_in.weight has shape \(8, 3, 3, 3\) there, this one's has \(8, 1, 3, 3\)"
    ):
        prepare(recipe(NET, data={"name": "digits8"}, train={"start": done["folder"]}))


def test_a_step_draws_the_same_in_parts():
    steps = [
        list(fit(prepare(recipe(NET, data=DIGITS, train={"steps": 2, "accumulate": k})))) for k in (1, 4)
    ]
    assert steps[0][1].loss == pytest.approx(steps[1][1].loss, rel=1e-5)


def test_resuming_gives_the_same_weights(tmp_path):
    r = recipe(NET, data=DIGITS, train={"steps": 4})
    whole = train(r, tmp_path / "whole")
    part = prepare(r)
    for s in fit(part):
        if s.step == 2:
            break
    checkpoint.write(tmp_path / "part" / "checkpoints", 2, part.parts(), part.state())
    (tmp_path / "part" / "recipe.json").write_text(r.model_dump_json())
    assert train(r, tmp_path / "part", resume=True)["raw_sha256"] == whole["raw_sha256"]


def test_being_shown_the_rest_helps(tmp_path):
    """After 150 steps of 32: at the noisiest levels a network that is shown nothing can only guess the
    mean.
    """
    how = {
        "train": {"steps": 150, "batch": 32, "lr": 3e-3, "initial": "near_linear", "warmup": 10},
        "log": {"validation_samples": 64, "save": 1000},
    }
    shown, alone = (
        train(recipe(NET, data={"name": "digits8", "masked": m}, **how), tmp_path / str(m))["validation"]
        for m in (True, False)
    )
    assert shown["loss_0.9375"] < 0.8 * alone["loss_0.9375"]


def test_the_folder_inpaints_from_its_cells(tmp_path):
    done = train(recipe(NET, data=DIGITS, train={"steps": 1}), tmp_path / "run")
    pipe = unnoise.load(done["folder"])
    assert takes_mask(pipe) and pipe.folder.defaults["masked"] == "cells"
    with pytest.raises(BadInput, match="edit inpaint"):
        pipe(seed=0)
    a, m = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)
    m[4:11, 4:12] = 255
    made = inpaint_picture(pipe, a, m, num_inference_steps=2, seed=0)
    assert (
        np.array_equal(made.arrays[0][m == 0], a[m == 0])
        and made.recipes[0]["edit"]["options"]["method"] == "model"
    )
    pipe.save_pretrained(tmp_path / "again")
    again = hub.load(tmp_path / "again")
    assert again.defaults["masked"] == "cells" and again.sha256 == pipe.sha256


def test_use_and_training_show_the_network_the_same(tmp_path, monkeypatch):
    """What `edit.inpaint` puts beside x is `train.inpaint.condition` of the picture's x0 and the mask over
    its cells.
    """
    pipe = unnoise.load(train(recipe(NET, data=DIGITS, train={"steps": 1}), tmp_path / "run")["folder"])
    picture, mask = read(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)), np.zeros((8, 8))
    mask[2:5, 3:] = 1
    x0, seen = encoded(pipe, picture.pixels), []
    monkeypatch.setattr(type(pipe), "fast", property(lambda _: lambda x, t: seen.append(x) or x[:, :1]))
    conditioned(pipe, picture, mask, cells(mask, x0), x0, (8, 8))(torch.zeros(2, 1, 8, 8), None)
    assert torch.equal(
        seen[0][:1, 1:], inpaint.condition(x0, torch.from_numpy(mask[None, None]).float())
    ) and torch.equal(seen[0][0], seen[0][1])


@pytest.mark.parametrize(
    ("net", "data"), [({"kind": "mlp", "width": 8, "layers": 1}, DIGITS), (NET, {**DIGITS, "low": 2})]
)
def test_what_does_not_go_together_is_said(net, data):
    with pytest.raises(BadInput, match="masked"):
        build.check(recipe(net, data=data))


def test_scenes_do_not_depend_on_what_is_hidden_of_them():
    """Latents that are kept serve every recipe on the same scenes."""
    from tests.train.scenes import recipe as of_scenes

    told = [build.source(of_scenes("denoise", {"masked": m})).data.sha256 for m in (True, False)]
    assert told[0] == told[1] != build.source(of_scenes("denoise", {"concepts": 30})).data.sha256


def test_the_loss_is_of_the_masks_of_its_positions():
    """The same samples at other positions of the stream are hidden otherwise."""
    r = recipe(NET, data=DIGITS)
    x0, seen = torch.rand(3, 1, 8, 8), []

    def net(x, t):
        return seen.append(x) or x[:, :1]

    for positions in ([0, 1, 2], [5, 6, 7]):
        objective.denoising(r, None)(net, objective.Batch(x0, None, np.array(positions), 0, 8), 0)  # type: ignore[arg-type]
    assert torch.equal(seen[0][:, 1:], inpaint.drawn(r, x0, "train/0", [0, 1, 2])) and not torch.equal(
        seen[0][:, 1], seen[1][:, 1]
    )


def test_cells_that_stay_are_kept_at_every_step(tmp_path, monkeypatch):
    """As GLIDE samples: the estimate has x0's own cells where nothing is masked, so that nothing drawn
    reaches the decoder there.
    """
    pipe = unnoise.load(train(recipe(NET, data=DIGITS, train={"steps": 1}), tmp_path / "run")["folder"])
    a, m, seen = (
        np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8),
        np.zeros((8, 8), np.uint8),
        [],
    )
    m[2:5, 3:] = 255
    module = sys.modules["unnoise.edit.inpaint"]
    was = module.decoded
    monkeypatch.setattr(module, "decoded", lambda pipe, x, p: seen.append(x) or was(pipe, x, p))
    inpaint_picture(pipe, a, m, num_inference_steps=2, seed=0)
    x0, stays = encoded(pipe, read(a).pixels), torch.from_numpy(m == 0)
    assert torch.equal(seen[0][0, 0][stays], x0[0, 0][stays]) and not torch.equal(seen[0], x0)
