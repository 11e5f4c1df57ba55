"""What every codec answers, whichever it is: `codec.Codec`."""

import numpy as np
import pytest
import torch

from tests.nets.test_autoencoder import built
from unnoise.base.errors import BadInput
from unnoise.codec import CODECS, Codec, Latents, Pixels, Vectors, from_config, is_of_pictures, of_pictures
from unnoise.media import MEDIA, NUMBERS, PICTURES

ALL: dict[str, Codec] = {
    "pixels": Pixels(6, 10, 3, patch=2),
    "padded": Pixels(5, 7, 1, multiple=4),
    "vectors": Vectors((4, 3), 1.5, 2.0),
    "latents": Latents(built("two"), 16, 24),
}
OF_PICTURES = [k for k, c in ALL.items() if is_of_pictures(c)]


def data(codec: Codec, n: int) -> np.ndarray:
    g = np.random.default_rng(3)
    if not is_of_pictures(codec):
        return g.normal(size=codec.shape(n))
    return g.integers(0, 256, (n, codec.height, codec.width, codec.channels), np.uint8)


@pytest.mark.parametrize("codec", ALL.values(), ids=ALL)
def test_every_codec_has_a_kind_a_medium_and_the_shape_that_it_says(codec):
    assert codec.medium is MEDIA[codec.medium.plural] and codec.config()["kind"] == codec.kind
    x = data(codec, 3)
    z = codec.encode(x)
    assert tuple(z.shape) == codec.shape(3) and codec.decode(z).shape == x.shape
    assert codec.autoencoder is not None or from_config(codec.config()) == codec


def test_codecs_are_registered_by_kind():
    elsewhere = {"columns"}  # test_columns.py
    assert {c.kind for c in ALL.values() if c.autoencoder is None} | elsewhere == set(CODECS)


@pytest.mark.parametrize("codec", ALL.values(), ids=ALL)
def test_a_copy_has_its_networks_placed(codec):
    other = codec.moved(lambda net: net.__class__(net.config))
    assert other.config() == codec.config() and (other.autoencoder is None) == (codec.autoencoder is None)
    assert codec.autoencoder is None or other.autoencoder is not codec.autoencoder
    by = codec.decoding_by(lambda z: torch.zeros(len(z), 3, 16, 24))
    assert codec.autoencoder is None or (by.decode(torch.randn(codec.shape(1))) == 128).all()
    assert (codec.decoding_bytes() > 0) == (codec.autoencoder is not None)


@pytest.mark.parametrize("name", OF_PICTURES)
def test_its_images_are_what_it_decodes(name):
    codec = of_pictures(ALL[name], name, "")
    z = codec.encode(data(codec, 2)).requires_grad_()
    images = codec.images()(z)
    images.sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0
    bytes_ = ((images.detach() + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert abs(codec.decode(z) - bytes_).max() <= 1  # a batch may round otherwise than one at a time


@pytest.mark.parametrize("name", OF_PICTURES)
def test_a_mask_covers_every_cell_of_which_a_pixel_changes(name):
    codec = of_pictures(ALL[name], name, "")
    mask = np.zeros((codec.height, codec.width))
    mask[0, 3] = 0.2
    x = torch.zeros(codec.shape(1), dtype=torch.float64)
    m = codec.cells(mask, x)
    assert m.dtype == x.dtype and m.shape == (1, 1, *x.shape[2:]) and m[0, 0, 0, 3 // codec.cell] == 1
    assert codec.cells(mask * 0, x).sum() == 0 < m.sum() <= 4


def test_a_mask_of_numbers_is_a_number_each():
    codec = ALL["vectors"]
    mask = np.arange(12).reshape(4, 3) > 9
    assert codec.cells(mask, torch.zeros(codec.shape(2)))[0].tolist() == mask.tolist()


@pytest.mark.parametrize("name", ["pixels", "vectors"])
def test_a_codec_of_one_size_says_so(name):
    codec = ALL[name]
    assert not codec.free and codec.shape(2, codec.shape(1)[1:] if name == "vectors" else (6, 10))
    with pytest.raises(BadInput, match=r"given .*9.*9"):
        codec.shape(1, (9, 9))


def test_one_sentence_says_what_a_model_of_numbers_cannot_do():
    assert of_pictures(ALL["pixels"], "x", "") is ALL["pixels"] and ALL["pixels"].medium is PICTURES
    with pytest.raises(BadInput, match=r"^model 'moons' makes numbers: it has no style$"):
        of_pictures(ALL["vectors"], "moons", "it has no style")
    assert ALL["vectors"].medium is NUMBERS
