"""The fast form of the UNet against the plain one."""
import pytest
import torch
from torch import nn

from tests.nets.shapes import SHAPES, built, inputs
from unnoise.errors import BadInput
from unnoise.nets import fuse as room
from unnoise.nets.fuse import Fused, fuse

needed = pytest.mark.skipif(not room.available(), reason="this machine or PyTorch has no fast form")


def close(a, b, tol=1e-5):
    """Equal to `tol` of the largest value."""
    assert a.shape == b.shape
    assert float((a - b).abs().max() / b.abs().max()) <= tol


@needed
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("n, h, w", [(1, 12, 8), (3, 8, 20), (40, 16, 16)])
def test_equals_the_plain_network(name, n, h, w):
    net = built(name)
    fast, a = fuse(net), inputs(net, n, h, w)
    before = {k: None if v is None else v.clone() for k, v in a.items()}
    with torch.no_grad(): want, got = net(**a), fast(**a)
    close(got, want)
    assert all(v is None or torch.equal(v, before[k]) for k, v in a.items()), "an input was written to"
    assert torch.equal(got, fast(**a)), "a second call gives the same"


@needed
@pytest.mark.parametrize("name", SHAPES)
def test_a_sample_does_not_depend_on_its_batch(name):
    net = built(name)
    fast, a = fuse(net), inputs(net, 40, 16, 16)  # 40: the other way to normalise
    one = {k: v if v is None else v[7:8] for k, v in a.items()}
    close(fast(**one), fast(**a)[7:8])


@needed
@pytest.mark.parametrize("h, w", [(5, 7), (4, 6), (1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_short_convolution_and_upsampling_are_exact_in_their_sums(h, w, bias):
    torch.manual_seed(0)
    m = nn.Conv2d(16, 24, 3, padding=1, bias=bias).requires_grad_(False)
    x = torch.randn(2, 16, h, w).to(memory_format=torch.channels_last)
    close(room._winograd(m)(x), m(x))
    close(room._up(m)(x), m(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")))


@needed
@pytest.mark.parametrize("n, offset, tol", [(2, 0.0, 1e-5), (64, 0.0, 1e-5), (64, 100.0, 1e-4)])
def test_group_norm_does_not_cancel(n, offset, tol):
    """Against float64, also where the mean is large beside the deviation (n = 64: our own; n = 2: PyTorch's kernel)."""
    torch.manual_seed(0)
    m = nn.GroupNorm(32, 64).requires_grad_(False)
    m.weight.normal_(), m.bias.normal_()
    x, t = (torch.randn(n, 64, 14, 14) + offset).to(memory_format=torch.channels_last), torch.randn(n, 64)
    exact = nn.functional.silu(nn.functional.group_norm((x.double() + t[:, :, None, None]), 32, m.weight.double(), m.bias.double(), m.eps))
    close(room._norm(m)(x.clone(), t).double(), exact, tol)


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
    net.conv_out.weight.mul_(2.0)
    again = fuse(net, fast)
    close(again(**a), net(**a))
    assert not torch.allclose(again(**a), before)
    net.requires_grad_(True)
    again(**a).sum().backward()  # a call that must be differentiated goes to the plain network
    assert float(net.conv_in.weight.grad.abs().sum()) > 0


@needed
@pytest.mark.parametrize("name, change, says", [("classes", {"x": torch.zeros(3, 3, 8, 8)}, "must be (n, 4, h, w)"),
                                                ("classes", {"labels": None}, "needs labels"), ("text", {"context": None}, "context")])
def test_refuses_as_the_plain_network(name, change, says):
    net = built(name)
    with pytest.raises(BadInput) as e: fuse(net)(**inputs(net) | change)
    assert says in str(e.value)


def test_falls_back_to_the_plain_network(monkeypatch):
    net = built("plain")
    assert fuse(nn.Identity()).__class__ is nn.Identity
    assert fuse(net.double()) is net
    net.float().train()
    assert fuse(net) is net  # dropout would be lost
    net.eval()
    if room.available(): assert isinstance(fuse(net), Fused)
    monkeypatch.setattr(room, "_OPS", ("no_such_op",))
    assert fuse(net) is net
    monkeypatch.undo()
    monkeypatch.setattr(room.platform, "machine", lambda: "arm64")
    assert fuse(net) is net
