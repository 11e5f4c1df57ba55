"""Imagic: a broken run goes on to the same weights, hash for hash; the model stays as it was; the two ends of
eta; the command.
"""

import hashlib
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import unnoise
from tests.cli.test_cli import bad, run
from unnoise.base.cache import cache
from unnoise.edit import imagic
from unnoise.edit.run import asked
from unnoise.errors import BadInput
from unnoise.pipeline import read_recipe

SMALL = {"embedding_steps": 3, "tuning_steps": 3, "levels": 2}
HOW = {"seed": 4, "num_inference_steps": 2}


def digest(tensors):
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()


def states(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


class Killed(Exception):
    pass


def killer(after):
    left = [after]

    def tell(name, done, of):
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    return tell


@pytest.fixture(scope="module")
def whole(emoji, apple, tmp_path_factory):
    """The folder and the picture of a run that was not broken off."""
    folder = tmp_path_factory.mktemp("imagic") / "whole"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(sys.modules["unnoise.edit.imagic"], "EVERY", 2)
        return folder, imagic(emoji, apple, "a green apple", eta=0.5, work=folder, **SMALL, **HOW).arrays


@pytest.mark.parametrize(
    "after", [0, 2, 4]
)  # in the embedding's first steps, past its first state, in the network's
def test_a_run_that_is_killed_goes_on_to_the_same_weights(emoji, apple, whole, tmp_path, monkeypatch, after):
    monkeypatch.setattr(sys.modules["unnoise.edit.imagic"], "EVERY", 2)
    with pytest.raises(Killed):
        imagic(
            emoji, apple, "a green apple", eta=0.5, work=tmp_path / "w", stage=killer(after), **SMALL, **HOW
        )
    seen = []
    again = imagic(
        emoji,
        apple,
        "a green apple",
        eta=0.5,
        work=tmp_path / "w",
        stage=lambda *s: seen.append(s),
        **SMALL,
        **HOW,
    )
    assert states(tmp_path / "w") == states(whole[0]) and np.array_equal(again.arrays, whole[1])
    assert len(seen) == 6 - after // 2 * 2 + (
        1 if after == 4 else 0
    )  # the states are those after 2 and 3 steps of each stage
    assert not list((tmp_path / "w").glob(".*"))


def test_the_model_is_unchanged_and_states_are_used_again(emoji, apple, tmp_path):
    before, steps = digest(emoji.net.parameters()), []
    how = {"work": tmp_path / "w", "progress": lambda k: steps.append(k), **SMALL, **HOW}
    first = imagic(emoji, apple, "a green apple", eta=[0.0, 0.5], num_images=2, **how)
    assert digest(emoji.net.parameters()) == before and not any(
        p.requires_grad for p in emoji.net.parameters()
    )
    assert first.nfe == 2 and len(steps) == 6 + 4 and first.seeds == (4, 5, 4, 5)
    weights = sum(p.numel() for p in emoji.net.parameters())
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "w").iterdir()}
    assert (
        set(sizes) == {"about.json", "embedding.safetensors", "tuned.safetensors"}
        and 2 * weights < sizes["tuned.safetensors"] < 2.1 * weights
    )
    steps.clear()
    second = imagic(emoji, apple, "a green apple", eta=0.5, num_images=2, **how)
    assert len(steps) == 2 and np.array_equal(second.arrays, first.arrays[2:])


def test_the_untrained_ends_are_text_to_image(emoji, apple, tmp_path):
    """Without training e_opt is the prompt's own encoding, and every eta draws what the plain network
    does.
    """
    made = imagic(
        emoji, apple, "a car", eta=[0.0, 1.0], embedding_steps=0, tuning_steps=0, work=tmp_path / "w", **HOW
    )
    plain = emoji("a car", **HOW).arrays.astype(int)
    assert np.abs(made.arrays - plain).max() <= 2


def test_training_lowers_the_loss_of_the_picture(emoji, apple, tmp_path):
    from unnoise.edit.imagic import Training, _draw, _folder, _target, trained

    t = Training(embedding_steps=6, tuning_steps=4, levels=4, embedding_rate=2e-2)
    x0, target = emoji.codec.encode(apple[None]), _target(emoji, asked(emoji, (64, 64), "a green apple"))

    def loss(net, e):
        with torch.no_grad():
            return float(
                emoji.process.errors(
                    lambda x, time: net(x, time, context=e.expand(4, -1, -1)), *_draw(emoji, x0, t, "test", 0)
                ).mean()
            )

    stay = loss(emoji.net, target)
    e, net = trained(emoji, x0, target, t, _folder(tmp_path / "w", {}), lambda *a: None)
    assert loss(net, e) < loss(emoji.net, e) < stay


def test_bad_input(emoji, apple, tmp_path, tiny):
    with pytest.raises(BadInput, match="no text encoder"):
        imagic(unnoise.load(tiny), apple, "one")
    with pytest.raises(BadInput, match="one prompt"):
        imagic(emoji, apple)
    for eta in ([], [0.5, 0.5], 3, "half"):
        with pytest.raises(BadInput, match="eta must be"):
            imagic(emoji, apple, "a car", eta=eta)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="tuning_steps"):
        imagic(emoji, apple, "a car", tuning_steps=-1)
    with pytest.raises(BadInput, match="by step"):
        imagic(emoji, apple, "[a car:a dog:0.5]")
    imagic(
        emoji, apple, "a car", eta=1, embedding_steps=1, tuning_steps=0, levels=1, work=tmp_path / "w", **HOW
    )
    with pytest.raises(BadInput, match="another picture, prompt or setting"):
        imagic(emoji, apple, "a dog", eta=1, work=tmp_path / "w", **SMALL, **HOW)
    (tmp_path / "w" / "embedding.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadInput, match="no whole state"):
        imagic(
            emoji,
            apple,
            "a car",
            eta=1,
            embedding_steps=1,
            tuning_steps=0,
            levels=1,
            work=tmp_path / "w",
            **HOW,
        )
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "tuned.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadInput, match="no whole result"):
        imagic(
            emoji,
            apple,
            "a car",
            eta=1,
            embedding_steps=0,
            tuning_steps=1,
            levels=1,
            work=tmp_path / "v",
            **HOW,
        )


def test_the_command_and_its_replay(tmp_path, capfd, apple, monkeypatch):
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "cache"))
    source, out = tmp_path / "apple.png", tmp_path / "o.png"
    Image.fromarray(apple).save(source)
    options = ["--embedding-steps", 1, "--tuning-steps", 1, "--steps", 2, "--seed", 3]
    code, said, _ = run(
        capfd, "edit", "imagic", source, "a green apple", "--eta", ".25,.75", *options, "-o", out, "--json"
    )
    d = json.loads(said)
    assert (
        code == 0
        and d["eta"] == [0.25, 0.75]
        and d["nfe"] == 2
        and [f.split("/")[-1] for f in d["files"]] == ["o-eta0.25-3.png", "o-eta0.75-3.png"]
    )
    assert (
        read_recipe(out)["sweep"] == {"eta": [0.25, 0.75]} and len(list((cache() / "imagic").iterdir())) == 1
    )
    code, said, _ = run(capfd, "replay", tmp_path / "o-eta0.75-3.png", "-o", tmp_path / "again.png", "--json")
    assert code == 0 and json.loads(said)["identical"]
    assert len(list((cache() / "imagic").iterdir())) == 1  # the very states
    assert "is the sheet of a sweep" in bad(capfd, "replay", out, "-o", tmp_path / "again.png")
    assert "numbers with commas" in bad(
        capfd, "edit", "imagic", source, "a car", "--eta", "a", "-o", tmp_path / "x.png"
    )
