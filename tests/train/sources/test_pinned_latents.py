"""Scenes for training, to the number: how latents are scaled, how far a picture is tinted, and on what the
kept latents depend.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support import painter
from tests.train.scenes import recipe
from unnoise.process import noise
from unnoise.train.build import source
from unnoise.train.sources import latents
from unnoise.train.sources.world import WorldSource, tinted


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "cache", lambda: tmp_path)


@pytest.fixture(scope="module")
def pixels() -> WorldSource:
    src = source(recipe("autoencode"))
    assert isinstance(src, WorldSource)
    return replace(src, tokenizer=painter.tokenizer())


def test_latents_are_shifted_and_then_scaled(pixels):
    """(mean - shift) scale, with a shift that is not 0; the sum of both signs would be half a unit off."""
    codec = painter.codec()
    assert (codec.shift, codec.scale) == (0.25, 0.5)
    made = latents.latents(pixels, codec, painter.text(), 3)
    with torch.no_grad():
        mean = codec.net.encode(pixels.fetch(range(3)).x).mean
    x = made.fetch([0, 1, 2]).x
    torch.testing.assert_close(x, (mean - 0.25) * 0.5, atol=2e-3, rtol=1e-3)  # kept as float16
    torch.testing.assert_close(x.mean(), mean.mean() * 0.5 - 0.125, atol=1e-3, rtol=0)
    own = torch.cat(
        [
            codec.encode(((p.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()[None])
            for p in pixels.fetch(range(3)).x
        ]
    )
    torch.testing.assert_close(x, own, atol=2e-3, rtol=1e-3)  # as the codec itself encodes


def test_latents_are_kept_by_all_that_they_depend_on(pixels, monkeypatch):
    """Anything else in the model or in what is asked is another folder of the cache; asking for fewer is the
    same folder.
    """
    monkeypatch.setattr(
        latents,
        "_piece",
        lambda maker, index: (
            files.append(maker.folder)
            or {"x": np.zeros((len(index), 4, 8, 8), np.float16), "ids": np.zeros((len(index), 16), np.int32)}
        ),
    )
    files: list = []
    codec, text = painter.codec(), painter.text()
    other = painter.codec()
    next(other.net.parameters()).view(-1)[0] += 0.125
    ways = {
        "the same": (pixels, codec, text, {}),
        "fewer": (pixels, codec, text, {"n": 2}),
        "weights": (pixels, other, text, {}),
        "scale": (pixels, replace(codec, scale=0.25), text, {}),
        "shift": (pixels, replace(codec, shift=0.5), text, {}),
        "seed": (pixels, codec, text, {"seed": 1}),
        "precision": (pixels, codec, text, {"precision": "bf16"}),
        "concepts": (
            replace(pixels, section=pixels.section.model_copy(update={"concepts": 39})),
            codec,
            text,
            {},
        ),
    }
    for src, c, t, how in ways.values():
        latents.latents(src, c, t, how.pop("n", 3), **how)
    folders = dict(zip(ways, (f.name for f in files)))
    assert folders["fewer"] == folders["the same"]
    assert len(set(folders.values())) == len(ways) - 1


@pytest.mark.parametrize(
    ("key", "value"), [("size", 64), ("concepts", 39), ("mixture", {"plain": 1.0}), ("captions", "plain")]
)
def test_other_scenes_are_other_data(pixels, key, value):
    assert (
        replace(pixels, section=pixels.section.model_copy(update={key: value})).data.sha256
        != pixels.data.sha256
    )


def test_other_splits_are_other_data_and_what_only_reads_them_is_not(pixels):
    assert pixels.other("test").data.sha256 != pixels.data.sha256
    for key, value in (("cached", 64), ("validation", "held_out"), ("masked", True), ("tint", 0.1)):
        assert (
            replace(pixels, section=pixels.section.model_copy(update={key: value})).data.sha256
            == pixels.data.sha256
        ), key


def test_a_tint_moves_by_up_to_its_share_of_the_whole_range():
    """Of the range from -1 to 1, which is 2 wide: at tint .25 a channel moves by up to .5; grey pictures lie
    half-way, where nothing is cut off.
    """
    n, tint = 200, 0.25
    moved = tinted(torch.zeros(n, 3, 2, 2), tint, 5, range(n))
    u = torch.stack([noise.uniform(5, "tint", i, (4,)) for i in range(n)]).float()
    want = torch.where(u[:, 3:] < 0.5, 0.5 * (2 * u[:, :3] - 1), 0)
    torch.testing.assert_close(moved, want[:, :, None, None].expand_as(moved))
    assert 0.47 < float(moved.abs().max()) <= 0.5
    assert 80 < int((moved != 0).flatten(1).any(1).sum()) < 120
    torch.testing.assert_close(moved[:3, :, 0, 0], torch.tensor(PINNED), atol=1e-6, rtol=0)


PINNED = [
    [0.2698584198951721, 0.393343448638916, -0.40174293518066406],
    [0.46217894554138184, -0.23835447430610657, 0.28516435623168945],
    [0.029350697994232178, 0.2490130066871643, 0.4264845848083496],
]


def test_a_tint_is_cut_at_black_and_white():
    x = torch.stack([torch.full((3, 1, 1), v) for v in (-1.0, 1.0) for _ in range(50)])
    moved = tinted(x, 0.5, 0, range(100))
    assert moved.min() == -1
    assert moved.max() == 1
    assert (moved != x).flatten(1).any(1).sum() > 30
