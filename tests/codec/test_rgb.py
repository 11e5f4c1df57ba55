"""The map from positions to colours."""

import torch
import torch.nn.functional as F

from unnoise.codec import Pixels, rgb
from unnoise.codec.latents import Latents
from unnoise.nets.autoencoder import Autoencoder, AutoencoderConfig


def test_the_map_to_colours_is_exact_where_the_codec_is_linear():
    codec = Pixels(16, 12, 3, patch=2)
    image = rgb.smooth(1, 16, 12)
    got = rgb.with_one(codec.encode(image)) @ rgb.fit_rgb(codec)
    want = (
        F.avg_pool2d(torch.from_numpy(image).permute(0, 3, 1, 2).double(), 2)
        .permute(0, 2, 3, 1)
        .reshape(-1, 3)
        / 255
    )
    torch.testing.assert_close(got.double(), want, atol=2e-5, rtol=0)


def test_the_map_of_an_autoencoder_is_the_least_squares_one():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = (
            Autoencoder(
                AutoencoderConfig(
                    block_out_channels=(8, 8),
                    norm_num_groups=4,
                    down_block_types=("DownEncoderBlock2D",) * 2,
                    up_block_types=("UpDecoderBlock2D",) * 2,
                )
            )
            .eval()
            .requires_grad_(False)
        )
    codec = Latents.of(net, 64, 64)
    m, images = rgb.fit_rgb(codec).double(), rgb.smooth(8, 16, 16)
    a = rgb.with_one(codec.encode(images)).double()
    y = (
        F.avg_pool2d(torch.from_numpy(images).permute(0, 3, 1, 2).double(), 2)
        .permute(0, 2, 3, 1)
        .reshape(-1, 3)
        / 255
    )
    assert m.shape == (5, 3) and (a.T @ (a @ m - y)).abs().max() < 1e-4 * (a.T @ y).abs().max()
    assert (a @ m - y).square().mean() < (y - y.mean(0)).square().mean()
