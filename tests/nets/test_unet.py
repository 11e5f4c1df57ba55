"""The UNet against diffusers' with the same weights, and what it refuses."""

import pytest
import torch

from tests.nets.shapes import SHAPES, built, inputs
from unnoise.engine.fuse import fuse
from unnoise.errors import BadInput
from unnoise.nets.unet import UNet, config_from


@pytest.mark.parametrize(
    "name, h, w",
    [
        *((name, 12, 8) for name in SHAPES),
        ("text", 9, 8),
        ("linear", 7, 11),
        ("linear", 1, 3),
        ("plain", 9, 14),
        ("plain", 10, 5),
    ],
)
def test_equals_diffusers_with_the_same_weights(name, h, w):
    """Also at sides that cannot be halved: there the peer's third way to repeat pixels is ours."""
    from diffusers import UNet2DConditionModel

    net = built(name)
    peer = UNet2DConditionModel(**{k: v for k, v in net.config.model_dump().items() if k != "time"}).eval()
    peer.load_state_dict(net.state_dict())  # also: the same names and shapes
    a = inputs(net, h=h, w=w)
    with torch.no_grad():
        want = peer(a["x"], a["t"], a["context"], class_labels=a["labels"]).sample
        torch.testing.assert_close(net(**a), want, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fuse(net)(**a), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_a_sample_does_not_depend_on_its_batch_nor_on_memory_layout(name):
    net = built(name)
    a = inputs(net)
    one = {k: v if v is None else v[:1] for k, v in a.items()}
    with torch.no_grad():
        whole = net(**a)
        torch.testing.assert_close(net(**one), whole[:1], rtol=1e-5, atol=2e-5)
        swapped = net.to(memory_format=torch.channels_last)(
            **a | {"x": a["x"].contiguous(memory_format=torch.channels_last)}
        )
    torch.testing.assert_close(swapped, whole, rtol=1e-5, atol=2e-5)


def test_one_time_for_all_is_that_time_for_each():
    net = built("text")
    a = inputs(net) | {"t": torch.tensor(321.0)}
    with torch.no_grad():
        torch.testing.assert_close(net(**a), net(**a | {"t": torch.full((3,), 321.0)}), rtol=1e-5, atol=1e-5)


def test_without_time_the_time_is_not_looked_at():
    net = built("plain", time=False)
    a = inputs(net, h=8)
    with torch.no_grad():
        assert torch.equal(net(a["x"]), net(a["x"], torch.tensor(5.0)))


@pytest.mark.parametrize(
    "name, change, says",
    [
        ("classes", {"x": torch.zeros(3, 3, 8, 8)}, "must be (n, 4, h, w)"),
        ("classes", {"x": torch.zeros(3, 4, 0, 8)}, "must be (n, 4, h, w)"),
        ("classes", {"t": None}, "needs a time"),
        ("classes", {"t": torch.zeros(2)}, "times for 2 samples"),
        ("classes", {"labels": None}, "needs labels"),
        ("text", {"context": None}, "context (n, tokens, 24)"),
        ("text", {"context": torch.zeros(3, 5, 23)}, "context must be (n, tokens, 24), given (3, 5, 23)"),
    ],
)
def test_refuses(name, change, says):
    net = built(name)
    with pytest.raises(BadInput) as e:
        net(**inputs(net) | change)
    assert says in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    "key, value, says",
    [
        ("resnet_time_scale_shift", "scale_shift", "'default'"),
        ("block_out_channels", (30, 60), "30"),
        ("down_block_types", ("DownBlock2D", "Odd"), "Odd"),
        ("nonsense", 1, "nonsense"),
    ],
)
def test_refuses_configs(key, value, says):
    with pytest.raises(BadInput, match=says):
        UNet(config_from({**SHAPES["text"], key: value}))
