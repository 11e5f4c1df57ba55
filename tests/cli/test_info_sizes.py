"""`info` works out the size of a picture of latents from configs that anybody may have written."""

from __future__ import annotations

import json

import pytest

from unnoise.cli.info import _image, _words
from unnoise.errors import BadInput

VAE = {"block_out_channels": [8, 16, 16], "latent_channels": 4}


@pytest.mark.parametrize(("size", "shape"), [(8, (32, 32)), ([8, 16], (32, 64))])
def test_the_size_of_what_is_drawn(tmp_path, size, shape):
    d = _image(tmp_path, {"unet": {"sample_size": size, "more": None}, "vae": VAE})
    assert d and (d["height"], d["width"], d["channels"], d["latent"][0]) == (*shape, 3, 4)


@pytest.mark.parametrize("size", [None, "8", 0, -1, 1.5, True, 10**30, [8], [8, 8, 8], [8, "8"], {}])
def test_a_size_that_is_none_is_named(tmp_path, size):
    with pytest.raises(BadInput, match="sample_size"):
        _image(tmp_path, {"unet": {"sample_size": size}, "vae": VAE})


@pytest.mark.parametrize(
    "channels", [None, 8, [], [0], ["x"], [1] * 20_000, [[8]], {"a": 1}, json.loads("[" * 50 + "]" * 50)]
)
def test_blocks_that_are_none_are_named(tmp_path, channels):
    with pytest.raises(BadInput, match="block_out_channels"):
        _image(tmp_path, {"unet": {"sample_size": 8}, "vae": {"block_out_channels": channels}})


@pytest.mark.parametrize("words", [None, 3, "abc", {}, [], [1], [["a"]]])
def test_words_that_are_none_are_named(tmp_path, words):
    assert _words(tmp_path, {"words": {"words": ["a", "b"]}}) == {"words": 2}
    with pytest.raises(BadInput, match="words"):
        _words(tmp_path, {"words": {"words": words}})


@pytest.mark.parametrize(
    ("width", "takes"), [([8], 8), ({}, [8]), (8, [[8]]), (8, {"a": 8}), (None, 8), (8, [8, 9])]
)
def test_widths_that_do_not_fit_are_named(tmp_path, width, takes):
    fits = {"text_encoder": {"hidden_size": 8}, "unet": {"cross_attention_dim": [8, 8]}}
    assert _words(tmp_path, fits) == {"width": 8, "context": None}
    with pytest.raises(BadInput, match="the UNet takes"):
        _words(tmp_path, {"text_encoder": {"hidden_size": width}, "unet": {"cross_attention_dim": takes}})
