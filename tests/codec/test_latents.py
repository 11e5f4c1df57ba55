"""The codec of latent models: scale and shift both ways, one image at a time, never a black image."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.nets.test_autoencoder import built
from unnoise.codec.latents import Latents
from unnoise.errors import BadInput


def pictures(n: int = 2, h: int = 16, w: int = 24, c: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, h, w, c), dtype=np.uint8)


@pytest.fixture(scope="module")
def codec() -> Latents:
    return Latents(built("two"), 16, 24, scale=0.3, shift=0.7)


def test_encode_is_the_scaled_mode_or_sample(codec):
    images, noise = pictures(), torch.randn(codec.shape(2))
    with torch.no_grad():
        q = codec.net.encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
    torch.testing.assert_close(codec.encode(images), (q.mean - 0.7) * 0.3, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        codec.encode(images, noise), (q.mean + (q.logvar / 2).exp() * noise - 0.7) * 0.3, rtol=1e-5, atol=1e-5
    )


def test_decode_is_the_rounded_picture_of_unscaled_latents(codec):
    z = torch.randn(codec.shape(2)) * 0.3
    with torch.no_grad():
        x = codec.net.decode(z / 0.3 + 0.7)
    want = ((x.double().clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    got = codec.decode(z)
    assert got.dtype == np.uint8 and np.abs(got - want).max() <= 0.5 + 1e-3
    assert got.std() > 5


def test_scale_and_shift_come_back(codec):
    images = pictures()
    with torch.no_grad():
        q = codec.net.encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
    torch.testing.assert_close(codec.unscale(codec.encode(images)), q.mean, rtol=1e-5, atol=1e-5)
    other = Latents.of(built("two", scaling_factor=0.13, shift_factor=0.11), 16, 16)
    assert (other.scale, other.shift) == (0.13, 0.11)
    assert Latents.of(codec.net, 16, 16).shift == 0.0
    assert codec.config() == {
        "kind": "latents",
        "height": 16,
        "width": 24,
        "scale": 0.3,
        "shift": 0.7,
        "tile": None,
    }


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_picture_does_not_depend_on_its_batch(codec, layout):
    z = torch.randn(4, *codec.shape(1)[1:]).contiguous(memory_format=layout)
    before, whole = z.clone(), codec.decode(z)
    for i in range(4):
        assert np.array_equal(codec.decode(z[i : i + 1].contiguous()), whole[i : i + 1])
    assert torch.equal(z, before)
    images = pictures(3)
    coded = codec.encode(images)
    for i in range(3):
        assert torch.equal(codec.encode(images[i : i + 1]), coded[i : i + 1])
    assert codec.decode(z[:0]).shape == (0, 16, 24, 3) and codec.encode(images[:0]).shape == codec.shape(0)


def test_shapes_and_other_channel_counts():
    codec = Latents(built("grey"), 16, 24)
    assert (
        codec.shape(5) == (5, 4, 4, 6)
        and codec.shape(1, (32, 24)) == (1, 4, 8, 6)
        and codec.shape(1, (16, 4)) == (1, 4, 4, 1)
    )
    z = codec.encode(pictures(1, 8, 12, 1))
    assert z.shape == (1, 4, 2, 3) and codec.decode(z).shape == (1, 8, 12, 1)


def test_tiles_give_the_same_picture():
    net = built("two")
    z = torch.nn.functional.interpolate(
        torch.randn(1, 4, 5, 5), size=(20, 22), mode="bicubic"
    ) * torch.linspace(0.1, 1, 22)
    whole, tiles = Latents(net, 40, 44), Latents(net, 40, 44, tile=(14, 12))
    assert np.abs(whole.decode(z).astype(int) - tiles.decode(z)).max() <= 1
    images = whole.decode(z)
    torch.testing.assert_close(tiles.encode(images), whole.encode(images), rtol=1e-3, atol=1e-4)


def test_another_decoder_may_be_plugged_in(codec):
    seen = []

    def flat(z: torch.Tensor) -> torch.Tensor:
        seen.append(z)
        return torch.full((1, 3, 2 * z.shape[2], 2 * z.shape[3]), 0.2)

    z = torch.randn(codec.shape(2))
    assert (dataclasses.replace(codec, decode_with=flat).decode(z) == 153).all()
    torch.testing.assert_close(torch.cat(seen), z / 0.3 + 0.7)


# --- never a black image ------------------------------------------------------------------------------------


def overflowing(dtype: torch.dtype) -> Latents:
    """A decoder whose last norm overflows half precision, and only half, and whose picture is an ordinary
    one.
    """
    net = built("two").double()
    with torch.no_grad():
        net.decoder.conv_norm_out.weight.mul_(2.0**14), net.decoder.conv_norm_out.bias.mul_(2.0**14)
        net.decoder.conv_out.weight.mul_(2.0**-14)
    return Latents(net.to(dtype), 16, 24)


def test_what_overflows_half_precision_is_decoded_in_float32():
    z = torch.randn(2, 4, 8, 12)
    half, full = overflowing(torch.float16), overflowing(torch.float32)
    with torch.no_grad():
        assert not torch.isfinite(half.net.decode(half.unscale(z).half())).all(), "the fault is there"
    got, want = half.decode(z), full.decode(z)
    assert np.abs(got.astype(int) - want).max() <= 2 and want.std() > 5
    assert {p.dtype for p in half.net.parameters()} == {torch.float16}, "the network is as it was"


def test_a_fast_decoder_that_fails_in_half_precision_is_replaced_too():
    half = overflowing(torch.bfloat16)
    broken = dataclasses.replace(half, decode_with=lambda z: torch.full((1, 3, 16, 24), torch.nan))
    z = torch.randn(1, 4, 8, 12)
    assert np.abs(broken.decode(z).astype(int) - overflowing(torch.float32).decode(z)).max() <= 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_overflows_float32_is_an_error(dtype):
    net = built("two")
    net.decoder.conv_out.bias[1], net.encoder.conv_out.bias[0] = torch.inf, torch.nan
    codec = Latents(net.to(dtype), 16, 24)
    with pytest.raises(BadInput, match="decoder's output for image 0 is not finite"):
        codec.decode(torch.zeros(2, 4, 8, 12))
    with pytest.raises(BadInput, match="encoder's output for image 0 is not finite"):
        codec.encode(pictures())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_latents_that_are_not_finite_are_named(codec, bad):
    z = torch.zeros(codec.shape(3))
    z[2, 1, 3, 4] = bad
    with pytest.raises(BadInput, match="latents of image 2 hold non-finite values"):
        codec.decode(z)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda c: c.check_size(15, 16), "height must be a multiple of 2 from 2 to 8192, given 15"),
        (lambda c: c.check_size(16, 0), "width"),
        (lambda c: c.check_size(-2, 16), "height"),
        (lambda c: c.check_size(True, 16), "True"),
        (lambda c: c.check_size(16, 16.0), "16.0"),
        (lambda c: c.check_size(16, 8194), "8194"),
        (lambda c: c.shape(1, (17, 24)), "17"),
        (lambda c: c.check_size("16", 16), "'16'"),
        (lambda c: c.encode(pictures(h=15)), "height"),
        (lambda c: c.encode(pictures(c=1)), "(n, h, w, 3)"),
        (lambda c: c.encode(pictures()[0]), "uint8"),
        (lambda c: c.encode(pictures().astype(np.float32)), "float32"),
        (lambda c: c.encode(pictures(), torch.zeros(1)), "noise must be (2, 4, 8, 12)"),
        (lambda c: c.decode(torch.zeros(1, 3, 8, 8)), "(n, 4, h, w)"),
        (lambda c: c.decode(torch.zeros(4, 8, 8)), "(n, 4, h, w)"),
        (lambda c: c.decode(torch.zeros(1, 4, 0, 8)), "height"),
        (lambda c: dataclasses.replace(c, scale=0.0), "scale"),
        (lambda c: dataclasses.replace(c, shift=float("nan")), "shift"),
        (lambda c: dataclasses.replace(c, tile=(8, 8)), "overlap 8"),
        (lambda c: dataclasses.replace(c, height=7), "height"),
        (lambda c: Latents(built("one"), 1, 1).check_size(1, True), "given True"),
    ],
)
def test_refuses(codec, call, says):
    with pytest.raises(BadInput) as e:
        call(codec)
    assert says in str(e.value) and "\n" not in str(e.value)
