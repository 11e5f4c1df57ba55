"""The autoencoder against diffusers' with the same weights, its posterior against closed forms, tiles against
the whole.
"""

import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unnoise.errors import BadInput
from unnoise.nets.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    Posterior,
    autoencoder_config_from,
    legacy_keys,
)
from unnoise.nets.tiles import Axis, tiled

SHAPES = {
    "two": dict(block_out_channels=(32, 64)),
    "four": dict(block_out_channels=(32, 32, 64, 64), layers_per_block=2, latent_channels=8),
    "bare": dict(
        block_out_channels=(32, 64),
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    ),
    "grey": dict(block_out_channels=(16, 16, 32), norm_num_groups=8, in_channels=1, out_channels=1),
    "one": dict(block_out_channels=(32,), layers_per_block=2),
}


def built(name: str, **more) -> Autoencoder:
    """An autoencoder with random weights; norms and biases too, which start at 1 and 0."""
    torch.manual_seed(1)
    n = len(SHAPES[name]["block_out_channels"])
    types = dict(down_block_types=["DownEncoderBlock2D"] * n, up_block_types=["UpDecoderBlock2D"] * n)
    net = Autoencoder(autoencoder_config_from({**types, **SHAPES[name], **more})).eval()
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 1:
                p.add_(0.3 * torch.randn_like(p))
    return net.requires_grad_(False)


def peer(net: Autoencoder):
    from diffusers import AutoencoderKL

    other = AutoencoderKL(**net.config.model_dump()).eval()
    other.load_state_dict(net.state_dict())  # also: the same names and shapes
    return other


def waves(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth and stronger to the right, brighter below: no tile is like the whole."""
    coarse = torch.randn(*shape[:2], 8, 8, generator=torch.Generator().manual_seed(seed))
    return (
        F.interpolate(coarse, size=shape[2:], mode="bicubic") * torch.linspace(0.1, 2, shape[3])
        + torch.linspace(-2, 2, shape[2])[:, None]
    )


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """In dB of b's range."""
    return float(20 * torch.log10((b.max() - b.min()) / (a - b).square().mean().sqrt()))


# --- parity -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("h, w", [(40, 24), (8, 16)])
def test_equals_diffusers_with_the_same_weights(name, h, w):
    net = built(name)
    c, f, other = net.config, net.config.factor, peer(net)
    x, z = torch.randn(2, c.in_channels, h, w), torch.randn(2, c.latent_channels, h // f, w // f)
    with torch.no_grad():
        q, want = net.encode(x), other.encode(x).latent_dist
        torch.testing.assert_close(q.mean, want.mean, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(q.logvar, want.logvar, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(q.kl(), want.kl(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(net.decode(z), other.decode(z).sample, rtol=1e-4, atol=2e-5)


def test_what_is_overwritten_is_dead():
    """With and without gradients the same, and no input is changed."""
    net = built("four")
    x, z = torch.randn(2, 3, 16, 24), torch.randn(2, 8, 2, 3)
    before = x.clone(), z.clone()
    a = net.encode(x).mean, net.decode(z)
    with torch.no_grad():
        b = net.encode(x).mean, net.decode(z)
    assert torch.equal(x, before[0]) and torch.equal(z, before[1])
    for u, v in zip(a, b):
        torch.testing.assert_close(u, v, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_diffusers():
    net = built("two").requires_grad_(True)
    other, grads = peer(net), []
    for f in (net.decode, lambda z: other.decode(z).sample):
        z = torch.linspace(-2, 2, 96).reshape(1, 4, 4, 6).requires_grad_()
        f(z).square().sum().backward()
        grads.append(z.grad)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4 * float(grads[1].abs().max()))
    want = dict(other.named_parameters())
    for name, p in net.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(
                p.grad, want[name].grad, rtol=1e-3, atol=1e-4 * float(p.grad.abs().max())
            )


def test_legacy_names_open_as_in_diffusers(tmp_path):
    """A folder as Stable Diffusion 1.5's was published: old names, here with 1x1 convolutions in the
    encoder.
    """
    from diffusers import AutoencoderKL
    from safetensors.torch import save_file

    net, old = built("two"), {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for k, v in net.state_dict().items():
        for new, name in old.items():
            if ".attentions." in k:
                k = k.replace(f".{new}.", f".{name}.")
        weights[k] = v
    assert sum(".proj_attn." in k for k in weights) == 4
    peer(net).save_pretrained(tmp_path)
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    assert {k: v.shape for k, v in legacy_keys(weights).items()} == {
        k: v.shape for k, v in net.state_dict().items()
    }
    convs = {
        k: v[..., None, None] if k.startswith("encoder") and "attentions" in k and v.ndim == 2 else v
        for k, v in weights.items()
    }
    again = built("two")
    again.load_state_dict({k: torch.zeros_like(v) for k, v in again.state_dict().items()})
    again.load_state_dict(legacy_keys(convs))
    z = torch.randn(1, 4, 6, 4)
    with torch.no_grad():
        torch.testing.assert_close(
            again.decode(z), AutoencoderKL.from_pretrained(tmp_path).decode(z).sample, rtol=1e-4, atol=2e-5
        )
        assert torch.equal(again.encode(z[:, :3]).mean, net.encode(z[:, :3]).mean)
    assert legacy_keys(net.state_dict()).keys() == net.state_dict().keys()


# --- posterior ----------------------------------------------------------------------------------------------


def test_kl_and_samples_are_the_normal_distributions():
    g = torch.Generator().manual_seed(0)
    q = Posterior(*(torch.randn(3, 2, 4, 5, dtype=torch.float64, generator=g) for _ in "ml"))
    normal = torch.distributions.Normal(q.mean, (q.logvar / 2).exp())
    want = torch.distributions.kl_divergence(
        normal, torch.distributions.Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
    )
    torch.testing.assert_close(q.kl(), want.sum((1, 2, 3)), rtol=1e-12, atol=0)
    assert q.mode() is q.mean
    noise = torch.randn(40_000, *q.mean.shape, dtype=torch.float64, generator=g)
    draws = q.sample(noise)
    assert float(((draws.mean(0) - q.mean) / normal.stddev).abs().max()) < 5 / 200  # 5 standard errors
    assert float((draws.std(0) / normal.stddev - 1).abs().max()) < 5 / 280
    torch.testing.assert_close((draws - q.mean) / normal.stddev, noise, rtol=1e-10, atol=1e-10)
    assert not torch.equal(q.sample(), q.sample())


def test_log_variance_is_kept_in_its_range():
    net = built("two")
    net.quant_conv.weight.mul_(1e4)
    q = net.encode(torch.randn(1, 3, 16, 16))
    assert float(q.logvar.min()) == -30 and float(q.logvar.max()) == 20
    assert torch.isfinite(q.sample()).all() and torch.isfinite(q.kl()).all()


# --- tiles --------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 90),
    tile=st.integers(1, 40),
    overlap=st.integers(0, 39),
    reach=st.integers(0, 9),
    unit=st.sampled_from([1, 2, 4]),
)
def test_tiles_cover_a_side_and_their_shares_sum_to_one(size, tile, overlap, reach, unit):
    overlap = min(overlap, tile - 1)
    axis = Axis.of(size, tile, overlap, reach)
    assert axis.tile <= tile or axis.tile == size
    rises = torch.stack([axis.rise(s, unit) for s in axis.starts])
    assert rises.shape == (len(axis.starts), size * unit)
    assert (rises.sum(0) > 0).all() and (rises >= 0).all() and (rises <= 1).all()
    for s, r in zip(axis.starts, rises):
        inside = torch.zeros(size * unit, dtype=torch.bool)
        inside[axis.span(s, unit)] = True
        assert not r[~inside].any()
        if overlap >= 2 * reach + 2:  # what a cut's padding can reach has no share
            if s:
                assert not r[s * unit : (s + reach) * unit].any()
            if s + axis.tile < size:
                assert not r[(s + axis.tile - reach) * unit : (s + axis.tile) * unit].any()


def test_tiled_is_the_whole_for_a_network_with_norms():
    """Only exact statistics and a far enough reach give this, and sums that do not cancel: the mean is
    large.
    """
    torch.manual_seed(0)
    work = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.GroupNorm(4, 8),
        nn.SiLU(),
        nn.Upsample(scale_factor=2),
        nn.GroupNorm(2, 8),
        nn.Conv2d(8, 3, 3, padding=1),
    ).requires_grad_(False)
    x = waves(2, 2, 21, 34) + 50
    with torch.no_grad():
        got, alone, want = (
            tiled(work, x, (1, 2), 12, 6, 2),
            tiled(work, x, (1, 2), 12, 6, 2, exact=False),
            work(x),
        )
    torch.testing.assert_close(got, want, rtol=1e-5, atol=2e-4)
    assert psnr(got, want) > 90 > 40 > psnr(alone, want)


@pytest.mark.parametrize("name, tile", [("two", 12), ("four", 14)])
def test_tiled_equals_the_whole(name, tile):
    """Also against diffusers' tiles of the same size, which are normalised one by one."""
    net = built(name)
    c, f = net.config, net.config.factor
    z, x = waves(2, c.latent_channels, 22, 17), waves(2, 3, 22 * f, 17 * f) / 4
    with torch.no_grad():
        full, coded = net.decode(z), net.encode(x)
        got, alone = (
            net.tiled_decode(z, tile, 12 if tile > 12 else 11),
            net.tiled_decode(z, tile, 4, exact=False),
        )
        assert psnr(got, full) > 90 > 45 > psnr(alone, full)
        tiles = net.tiled_encode(x, tile, 12 if tile > 12 else 11)
        assert psnr(tiles.mean, coded.mean) > 90 and psnr(tiles.logvar, coded.logvar) > 90
        assert psnr(net.tiled_encode(x, tile, 4, exact=False).mean, coded.mean) < 45
        short = net.tiled_decode(z, tile, 4)
        assert psnr(short, full) > 45, "with less overlap than the padding reaches"
    jump = (full - short).abs().diff(dim=-1).abs().amax((0, 1, 2))
    step = full.diff(dim=-1).abs().amax((0, 1, 2))
    assert (jump < 0.5 * step.max()).all(), "a seam is seen"


@pytest.mark.parametrize("h, w, tile", [(6, 9, 9), (5, 5, 64), (1, 1, 9)])
def test_one_tile_is_bit_equal(h, w, tile):
    net = built("four")
    z, x = waves(1, 8, h, w), waves(1, 3, 8 * h, 8 * w)
    with torch.no_grad():
        assert torch.equal(net.tiled_decode(z, tile, 4), net.decode(z))
        assert torch.equal(net.tiled_encode(x, tile, 4).logvar, net.encode(x).logvar)


def test_tiles_of_a_constant_are_even_far_from_its_edges():
    """24 pixels: as far as the image's own padding reaches."""
    with torch.no_grad():
        y = built("two").tiled_decode(torch.full((1, 4, 40, 40), 0.7), 20, 12)[..., 24:-24, 24:-24]
    assert float((y - y[..., :1, :1]).abs().max()) < 1e-5 * float(y.abs().max())


def test_tiles_of_other_parts_threads_and_a_failure():
    """One thread's statistics are nobody else's, also after an error."""
    net, seen = built("two"), {}
    z = waves(1, 4, 20, 20)
    with torch.no_grad():
        want, plain = net.tiled_decode(z, 12, 10), net.decode(z)

    def work(i: int) -> None:
        with torch.no_grad():
            seen[i] = net.tiled_decode(z, 12, 10, parts=net.decoder) if i % 2 else net.decode(z)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(torch.equal(seen[i], want if i % 2 else plain) for i in range(4))
    with pytest.raises(RuntimeError), torch.no_grad():
        net.tiled_decode(z.to(torch.int64), 12, 10)
    with torch.no_grad():
        assert torch.equal(net.decode(z), plain)


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda n: n.encode(torch.zeros(1, 3, 9, 8)), "divisible by 2"),
        (lambda n: n.encode(torch.zeros(1, 1, 8, 8)), "(n, 3, h, w)"),
        (lambda n: n.encode(torch.zeros(3, 8, 8)), "(n, 3, h, w)"),
        (lambda n: n.decode(torch.zeros(1, 3, 8, 8)), "(n, 4, h, w)"),
        (lambda n: n.decode(torch.zeros(1, 4, 0, 8)), "(n, 4, h, w)"),
        (lambda n: n.tiled_encode(torch.zeros(1, 3, 7, 8)), "divisible by 2"),
        (lambda n: n.tiled_decode(torch.zeros(1, 4, 8, 8), 0, 0), "tile 0"),
        (lambda n: n.tiled_decode(torch.zeros(1, 4, 8, 8), 8, 8), "overlap 8"),
        (lambda n: n.tiled_decode(torch.zeros(1, 4, 8, 8), True, 0), "True"),
        (lambda n: n.tiled_decode(torch.zeros(1, 4, 8, 8), 8, -1), "overlap -1"),
    ],
)
def test_refuses(call, says):
    with pytest.raises(BadInput) as e:
        call(built("two"))
    assert says in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"act_fn": "gelu"}, "'silu'"),
        ({"latents_mean": [0.0]}, "latents_mean"),
        ({"nonsense": 1}, "nonsense"),
        ({"block_out_channels": [33, 64]}, "33"),
        ({"down_block_types": ["DownEncoderBlock2D"]}, "1 entries for 2"),
        ({"up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]}, "AttnUp"),
        ({"latent_channels": 0}, "latent_channels: "),
        ({"scaling_factor": float("nan")}, "scaling_factor"),
        ({"scaling_factor": -1}, "scaling_factor"),
        ({"layers_per_block": "two"}, "layers_per_block: "),
        ({"block_out_channels": []}, "block_out_channels"),
    ],
)
def test_refuses_configs(change, says):
    with pytest.raises(BadInput) as e:
        built("two", **change)
    assert says in str(e.value) and "\n" not in str(e.value)


def test_config_is_that_of_diffusers():
    from diffusers import AutoencoderKL

    theirs = dict(AutoencoderKL().config)
    assert (
        autoencoder_config_from({**theirs, "_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0"})
        == AutoencoderConfig()
    )
    assert set(AutoencoderConfig.model_fields) <= set(theirs)
