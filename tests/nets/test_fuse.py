"""The fast forms of the UNet and of the autoencoder against the plain ones."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.nets.shapes import SHAPES, built, inputs
from unnoise.engine import fuse as room
from unnoise.engine.fuse import Fused, FusedAutoencoder, fuse
from unnoise.errors import BadInput
from unnoise.nets.autoencoder import Autoencoder, AutoencoderConfig
from unnoise.nets.unet import Prepared

needed = pytest.mark.skipif(not room.available(), reason="this machine or PyTorch has no fast form")
LAST = torch.channels_last


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Small images too are worth a shortened convolution here."""
    monkeypatch.setattr(room, "WORTH", 300_000)


def close(a, b, tol=1e-5):
    """Equal to `tol` of the largest value."""
    assert a.shape == b.shape
    assert float((a - b).abs().max() / b.abs().max()) <= tol


def exact(net, a):
    """What the network gives in float64: two float32 forms may each be right to 6e-6 and lie more than 1e-5
    apart.
    """
    wide = lambda v: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v
    return copy.deepcopy(net).double()(**{k: wide(v) for k, v in a.items()})


def kit(lean=False):
    return room.Kit(lean, None, None)


def painted():
    """An autoencoder small enough for tests, with shortened convolutions in it."""
    torch.manual_seed(2)
    net = (
        Autoencoder(
            AutoencoderConfig(
                block_out_channels=(32, 64),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                norm_num_groups=8,
            )
        )
        .eval()
        .requires_grad_(False)
    )
    for p in net.parameters():
        if p.ndim == 1:
            p.add_(0.3 * torch.randn_like(p))
    return net


def spoil(net):
    """Nothing that reads a plain parameter can hide it now."""
    for p in net.parameters():
        p.data.fill_(float("nan"))


# --- equal to the plain network -----------------------------------------------------------------------------


@needed
@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize(
    "name, n, h, w",
    [
        *((name, *of) for name in SHAPES for of in [(1, 12, 8), (3, 8, 20), (2, 7, 9), (1, 1, 3)]),
        *((name, 40, 16, 16) for name in list(SHAPES)[:2]),
    ],
)
def test_equals_the_plain_network(name, n, h, w, lean):
    net = built(name)
    fast, a = fuse(net, lean=lean), inputs(net, n, h, w)
    before = {k: None if v is None else v.clone() for k, v in a.items()}
    with torch.no_grad():
        want, got, true = net(**a), fast(**a), exact(net, a)
    far = lambda u: float((got - u).abs().max() / u.abs().max())
    assert (
        got.shape == want.shape and min(far(want), far(true)) <= 1e-5
    )  # `true` has other sinusoids of the time than both, `want` other roundings
    assert all(v is None or torch.equal(v, before[k]) for k, v in a.items()), "an input was written to"
    assert torch.equal(got, fast(**a)), "a second call gives the same"


@needed
def test_one_form_takes_images_of_any_size_in_turn():
    net = built("wide")
    fast = fuse(net)
    for h, w in ((8, 8), (20, 12), (7, 5), (8, 8)):
        a = inputs(net, 2, h, w)
        close(fast(**a), net(**a))


@needed
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("h, w", [(16, 16), (9, 7)])
def test_a_sample_does_not_depend_on_its_batch(name, h, w):
    """To the bit."""
    net = built(name)
    fast, a = fuse(net), inputs(net, 40, h, w)
    whole = fast(**a)
    for rows in (slice(7, 8), slice(4, 8), slice(3, 11)):
        assert torch.equal(fast(**{k: None if v is None else v[rows] for k, v in a.items()}), whole[rows])


@needed
def test_rows_run_together_or_apart(monkeypatch):
    net = built("text")
    fast, a = fuse(net), inputs(net, 5, 8, 8)
    whole, one = fast(**a), fast(**a | {"t": a["t"][:1]})
    monkeypatch.setattr(room, "TOGETHER", 2 * 8 * 8 * 32)
    assert torch.equal(fast(**a), whole)
    assert torch.equal(fast(**a | {"t": a["t"][:1]}), one)


# --- parts --------------------------------------------------------------------------------------------------


@needed
@pytest.mark.parametrize(
    "band", [1, 40_000, 2**20]
)  # 40,000: three rows of four at a time, and two at the end
@pytest.mark.parametrize("n, h, w", [(2, 30, 33), (1, 41, 40), (3, 64, 16)])
def test_short_convolution_is_exact_in_its_sums(n, h, w, band, monkeypatch):
    monkeypatch.setattr(room, "BAND", band)
    monkeypatch.setattr(room, "LEAN_LIMIT", 1000)
    torch.manual_seed(0)
    m = nn.Conv2d(48, 64, 3, padding=1).requires_grad_(False)
    assert room._wide(kit(), m) and not room._wide(kit(lean=True), m)
    x = torch.randn(n, 48, h, w).to(memory_format=LAST)
    close(room._conv(kit(), m)(x), m(x))
    scale, shift, more = torch.randn(n, 1, 1, 48), torch.randn(n, 1, 1, 48), torch.randn(n, h, w, 64)
    want = m(F.silu(x * scale.permute(0, 3, 1, 2) + shift.permute(0, 3, 1, 2))) + more.permute(0, 3, 1, 2)
    for lean in (False, True):
        fresh = x.clone(memory_format=torch.preserve_format)
        close(room._conv(kit(lean), m)(fresh, (scale, shift), lambda *at: more[at] if at else more), want)


@needed
@pytest.mark.parametrize("band", [1, 2000, 2**20])
@pytest.mark.parametrize("h, w", [(5, 7), (4, 6), (1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_upsampling_is_exact_in_its_sums(h, w, bias, band, monkeypatch):
    monkeypatch.setattr(room, "BAND", band)
    torch.manual_seed(0)
    m = nn.Conv2d(16, 24, 3, padding=1, bias=bias).requires_grad_(False)
    x, up = torch.randn(2, 16, h, w).to(memory_format=LAST), room._up(kit(), m)
    close(up(x), m(F.interpolate(x, scale_factor=2.0, mode="nearest")))
    for size in ((2 * h - 1, 2 * w), (2 * h, 2 * w - 1), (2 * h - 1, 2 * w - 1)):
        close(up(x, size), m(F.interpolate(x, size=size, mode="nearest")))


@needed
@pytest.mark.parametrize(
    "n, size, groups, offset, tol",
    [
        (2, 14, 32, 0.0, 1e-5),
        (64, 14, 32, 100.0, 1e-4),
        (2, 61, 32, 0.0, 1e-5),
        (1, 64, 32, 100.0, 1e-4),
        (2, 14, 8, 0.0, 1e-5),
    ],
)
def test_group_norm_does_not_cancel(n, size, groups, offset, tol):
    """Against float64, also where the mean is large beside the deviation; whole, and put together from parts.
    (8 groups are wide enough for PyTorch's kernel.)"""
    torch.manual_seed(0)
    m = nn.GroupNorm(groups, 64).requires_grad_(False)
    m.weight.normal_(), m.bias.normal_()
    x, t = (torch.randn(n, 64, size, size) + offset).to(memory_format=LAST), torch.randn(n, 64)
    exact = lambda v: F.group_norm(v.double(), groups, m.weight.double(), m.bias.double(), m.eps)
    y, affine = room._norm(m)(x.clone(memory_format=torch.preserve_format), t)
    assert (affine is None) == (groups == 8 or size == 14)
    if affine is not None:
        y = room._activate(y.permute(0, 2, 3, 1), affine).permute(0, 3, 1, 2)
    close(y.double(), F.silu(exact(x.double() + t[:, :, None, None])), tol)
    close(room._normed(m)(x).double(), exact(x).flatten(2).transpose(1, 2), tol)


@needed
@pytest.mark.parametrize("scores", [1, 5000, 2**20])
@pytest.mark.parametrize(
    "n, s, t, heads, d", [(2, 260, 260, 2, 40), (1, 300, 77, 3, 160), (2, 64, 5, 4, 8), (1, 1, 1, 1, 16)]
)
def test_attention_by_blocks_is_attention(n, s, t, heads, d, scores, monkeypatch):
    monkeypatch.setattr(room, "SCORES", scores)
    torch.manual_seed(0)
    q, k, v = (torch.randn(n, length, heads * d) for length in (s, t, t))
    k, v = (room._heads(u, heads) for u in (k, v))
    want = (
        F.scaled_dot_product_attention(*(u.double() for u in (room._heads(q, heads), k, v)))
        .transpose(1, 2)
        .flatten(2)
    )
    got = room._attend(q * d**-0.5, k, v)
    torch.testing.assert_close(got, want.float(), rtol=1e-5, atol=1e-5)
    assert torch.equal(got, room._attend(q * d**-0.5, k, v, room._turned(v)))
    one = room._attend(q * d**-0.5, k[:1], v[:1])  # of one row, for all
    assert torch.equal(one[:1], got[:1])
    assert torch.equal(one, room._attend(q * d**-0.5, k[:1].expand_as(k), v[:1].expand_as(v)))


# --- the prompt ---------------------------------------------------------------------------------------------


@needed
def test_a_prepared_prompt_is_the_prompt():
    net, other = built("linear"), built("text")
    fast, a = fuse(net), inputs(net, 4, 12, 8)
    p = fast.prepare(a["context"])
    want = fast(**a)
    assert torch.equal(fast(**a | {"context": p}), want) and p.context is a["context"]
    assert torch.equal(net(**a | {"context": p}), net(**a)), "the plain network takes it too"
    some = {k: None if v is None else v[1:3] for k, v in a.items()}
    assert torch.equal(fast(**some | {"context": p[1:3]}), want[1:3])
    foreign = fuse(other).prepare(a["context"])
    assert torch.equal(fast(**a | {"context": foreign}), want), "keys of another network are not used"
    alone = fast.prepare(a["context"][:1])
    close(fast(**a | {"context": alone}), net(**a | {"context": a["context"][:1].expand(4, -1, -1)}))
    with pytest.raises(BadInput, match="a context for 4 samples given with a batch of 2"):
        fast(**some | {"context": p})


@needed
def test_gradients_reach_a_prepared_prompt():
    net = built("text")
    fast, a = fuse(net), inputs(net)
    grads = []
    for wrap in (fast.prepare, Prepared, lambda c: c):
        c = a["context"].clone().requires_grad_()
        fast(**a | {"context": wrap(c)}).square().sum().backward()
        grads.append(c.grad)
    assert (
        torch.equal(grads[0], grads[2])
        and torch.equal(grads[1], grads[2])
        and float(grads[0].abs().sum()) > 0
    )


# --- weights and memory -------------------------------------------------------------------------------------


@needed
@pytest.mark.parametrize("name", SHAPES)
def test_plain_parameters_are_not_touched_once_packed(name):
    net = built(name)
    fast, a = fuse(net), inputs(net, 4, 16, 16)
    want = fast(**a)
    spoil(net)
    assert torch.equal(fast(**a), want)
    assert torch.equal(fast(**{k: None if v is None else v[:1] for k, v in a.items()}), want[:1]), (
        "nor for another batch"
    )
    fast.drop()
    assert not bool(fast(**a).isfinite().all()), "what is dropped is made again"


@needed
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_takes_parameters_of_half_the_size(name, dtype):
    net = built(name).to(dtype)
    fast, a = fuse(net), inputs(net)
    assert isinstance(fast, Fused)
    whole = built(name)
    whole.load_state_dict(net.state_dict())  # the same numbers in float32
    got = fast(**a)
    assert got.dtype == torch.float32 and torch.equal(got, fuse(whole)(**a))
    x, y = (a["x"].clone().requires_grad_() for _ in "xy")
    fast(**a | {"x": x}).square().sum().backward()
    whole(**a | {"x": y}).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-6)
    assert next(net.parameters()).dtype == dtype and fuse(net, fast) is fast


@needed
@pytest.mark.parametrize("name", ["classes", "linear", "wide"])
def test_streaming_gives_the_same_bits(name):
    net, released = built(name), []
    a = inputs(net, 3, 16, 12)
    want = fuse(net, lean=True)(**a)
    none = fuse(net, resident=0, release=released.append)
    assert torch.equal(none(**a), want) and torch.equal(none(**a), want)
    assert all(p.last is None for p in none.kit.packed)
    big = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert {id(m) for m in released} == {id(m) for m in big}, (
        "each layer's plain parameters may go after it was packed"
    )
    budget = 4 * sum(p.numel() for p in net.parameters()) // 3
    some = fuse(net, resident=budget)
    assert torch.equal(some(**a), want)
    kept = [p for p in some.kit.packed if p.last is not None]
    assert 0 < sum(p.size for p in kept) <= budget
    assert sum(torch.ops.mkldnn._nbytes(p.last[1]) for p in kept) <= 1.3 * budget  # small layers are padded
    assert max(p.size for p in kept) <= min(p.size for p in some.kit.packed if p.last is None)
    spoil(net)
    assert not bool(some(**a).isfinite().all())


@needed
def test_lean_keeps_no_more_than_the_parameters(monkeypatch):
    """But for the upsampling convolutions: 16 numbers for 9; and those of few weights."""
    monkeypatch.setattr(room, "LEAN_LIMIT", 1000)
    net = built("wide")
    held = {}
    for lean in (False, True):
        fast = fuse(net, lean=lean)
        fast(**inputs(net, 1, 32, 32))
        held[lean] = sum(torch.ops.mkldnn._nbytes(p.last[1]) for p in fast.kit.packed if p.last is not None)
    assert held[True] <= 1.3 * 4 * sum(p.numel() for p in net.parameters()) < held[False]


@needed
@pytest.mark.parametrize("resident", [None, 200_000])
def test_threads_give_what_one_gives(resident):
    net = built("text")
    calls = [inputs(net, 1 + i % 3, 8 + 4 * (i % 2), 16, seed=i) for i in range(8)]
    want = [fuse(net, lean=True)(**a) for a in calls]
    fast = fuse(net, lean=True, resident=resident)  # not yet packed
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda a: [fast(**a) for _ in range(3)], calls))
    assert all(torch.equal(g, w) for gs, w in zip(got, want) for g in gs)


@needed
def test_gradients_and_changed_weights():
    net = built("classes")
    a, fast = inputs(net), fuse(net)
    x = a["x"].clone().requires_grad_()
    fast(**a | {"x": x}).square().sum().backward()
    y = a["x"].clone().requires_grad_()
    net(**a | {"x": y}).square().sum().backward()
    assert torch.equal(x.grad, y.grad)
    w = torch.ones((), requires_grad=True)
    (fast(**a) * w).sum().backward()  # an answer may enter a graph
    before = fast(**a)
    assert fuse(net, fast) is fast
    assert fuse(net, fast, lean=True) is not fast
    net.conv_out.weight.mul_(2.0)
    again = fuse(net, fast)
    close(again(**a), net(**a))
    assert not torch.allclose(again(**a), before)
    net.requires_grad_(True)
    again(**a).sum().backward()  # a call that must be differentiated goes to the plain network
    assert float(net.conv_in.weight.grad.abs().sum()) > 0


# --- the autoencoder ----------------------------------------------------------------------------------------


@needed
@pytest.mark.parametrize("n, h, w", [(1, 16, 16), (3, 9, 12), (2, 1, 2)])
def test_autoencoder_equals_the_plain_one(n, h, w):
    torch.manual_seed(0)
    net, z, x = painted(), torch.randn(n, 4, h, w), torch.rand(n, 3, 2 * h, 2 * w) * 2 - 1
    net.quant_conv.bias[-1] = 99.0  # that channel's log variance is cut at 20
    fast = fuse(net)
    assert isinstance(fast, FusedAutoencoder)
    with torch.no_grad():
        image, p, q = fast.decode(z), net.encode(x), fast.encode(x)
        close(image, net.decode(z))
    close(q.mean, p.mean), close(q.logvar, p.logvar)
    assert torch.equal(fast.decode(z[-1:]), image[-1:])
    lean = fuse(net, lean=True)
    streamed = fuse(net, resident=0)
    assert torch.equal(streamed.decode(z), lean.decode(z)) and torch.equal(
        streamed.encode(x).mean, lean.encode(x).mean
    )
    spoil(net)
    assert torch.equal(fast.decode(z), image) and torch.equal(fast.encode(x).mean, q.mean)


@needed
def test_autoencoder_by_tiles_and_large(monkeypatch):
    """Tiles give each norm the whole image's statistics; large images are normalised by bands."""
    torch.manual_seed(0)
    net, z = painted(), torch.randn(1, 4, 24, 20)
    fast = fuse(net)
    with torch.no_grad():
        want = net.decode(z)
        close(net.tiled_decode(z, 16, 8, parts=fast.decoder), net.tiled_decode(z, 16, 8))
        monkeypatch.setattr(room, "TOGETHER", 1), monkeypatch.setattr(room, "BAND", 20_000)
        close(fuse(net).decode(z), want)


@needed
def test_autoencoder_gradients_and_refusals():
    net = painted()
    half = painted().half()
    grads = []
    for decode in (fuse(net).decode, net.decode, fuse(half).decode):
        z = torch.ones(1, 4, 6, 4).requires_grad_()
        decode(z).square().sum().backward()
        grads.append(z.grad)
    assert torch.equal(grads[0], grads[1])
    close(grads[2], grads[1], 2e-2)
    for bad in (torch.zeros(1, 3, 4, 4), torch.zeros(4, 4, 4), torch.zeros(1, 4, 0, 4)):
        with pytest.raises(BadInput, match="latents must be"):
            fuse(net).decode(bad)
    with pytest.raises(BadInput, match="divisible by 2"):
        fuse(net).encode(torch.zeros(1, 3, 5, 4))


# --- refusals -----------------------------------------------------------------------------------------------


@needed
@pytest.mark.parametrize(
    "name, change, says",
    [
        ("classes", {"x": torch.zeros(3, 3, 8, 8)}, "must be (n, 4, h, w)"),
        ("classes", {"labels": None}, "needs labels"),
        ("text", {"context": None}, "context (n, tokens, 24) is needed"),
        ("text", {"context": torch.zeros(3, 5, 23)}, "given (3, 5, 23)"),
        ("classes", {"t": None}, "needs a time"),
        ("text", {"t": torch.zeros(2)}, "times for 2"),
    ],
)
def test_refuses_as_the_plain_network(name, change, says):
    net = built(name)
    with pytest.raises(BadInput) as e:
        fuse(net)(**inputs(net) | change)
    assert says in str(e.value)


def test_falls_back_to_the_plain_network(monkeypatch):
    net = built("plain")
    assert fuse(nn.Identity()).__class__ is nn.Identity
    assert fuse(net.double()) is net
    net.float().train()
    assert fuse(net) is net  # dropout would be lost
    net.eval()
    if room.available():
        assert isinstance(fuse(net), Fused)
    monkeypatch.setattr(room, "_OPS", ("no_such_op",))
    assert fuse(net) is net
    monkeypatch.undo()
    monkeypatch.setattr(room.platform, "machine", lambda: "arm64")
    assert fuse(net) is net
