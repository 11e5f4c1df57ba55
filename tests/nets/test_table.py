"""The table of networks: every kind is built, filled and written by its line alone."""

import inspect

import pytest
import torch

from unnoise import nets
from unnoise.base.errors import BadInput
from unnoise.engine.fuse import FAST
from unnoise.nets.table import NETS, TABLE, kind_of

SMALL = {
    "unet": {"block_out_channels": [8], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
    | {"mid_block_type": None, "norm_num_groups": 4, "sample_size": 8},
    "mlp": {"size": 12, "width": 8},
    "classifier": {"channels": 4, "widths": [4], "features": 4},
    "recogniser": {"channels": 4, "widths": [4], "features": 4, "heads": {"colour": ["red", "green"]}},
    "vae": {"block_out_channels": [8], "norm_num_groups": 4}
    | {"down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"]},
    "text_encoder": {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    | {"num_hidden_layers": 1, "vocab_size": 50000},
}


def test_every_kind_has_a_small_one_here():
    assert set(SMALL) == set(TABLE) and set(FAST) <= set(TABLE)
    assert {k for k, kind in NETS.items() if kind.judges} == {"classifier", "recogniser"}


@pytest.mark.parametrize("name", TABLE)
def test_what_is_written_builds_the_same_network(name):
    kind = TABLE[name]
    net = kind.built(SMALL[name])
    assert kind_of(net) == name and isinstance(net.config, kind.config)
    written = {k: v for k, v in kind.written(net).items() if not k.startswith("_")}
    again = kind.built(written, net.state_dict())
    assert again.config == net.config
    again.load_state_dict(kind.renamed(net.state_dict()))


@pytest.mark.parametrize("name", TABLE)
def test_a_key_that_is_not_known_is_refused(name):
    wrong = {"text_encoder": {"hidden_size": 7.5}}.get(name, {"no_such_key": 1})
    with pytest.raises(BadInput):
        TABLE[name].built({**SMALL[name], **wrong})


def test_a_text_encoder_is_built_with_the_projection_that_its_tensors_have():
    kind = TABLE["text_encoder"]
    plain, projected = (
        kind.built(SMALL["text_encoder"], names) for names in ((), ("text_projection.weight",))
    )
    assert plain.text_projection is None and kind.written(plain)["architectures"] == ["CLIPTextModel"]
    assert kind.written(projected)["architectures"] == ["CLIPTextModelWithProjection"]


@pytest.mark.parametrize("name", NETS)
def test_a_network_says_which_samples_do_not_fit(name):
    config = NETS[name].configured(SMALL[name])
    right = (3, 2, 2) if name == "mlp" else (4, 8, 8)
    assert config.misfit(right) is None
    assert "12" in config.misfit((11,)) if name == "mlp" else "pictures" in config.misfit((4,))
    assert name == "mlp" or "3 channels" in config.misfit((3, 8, 8))
    assert name != "unet" or "sample_size is 8" in config.misfit((4, 8, 9))


def test_a_class_that_is_no_kind_has_no_fast_form():
    class Other(nets.unet.UNet):
        pass

    assert (
        kind_of(Other(NETS["unet"].configured(SMALL["unet"]))) is None
        and kind_of(torch.nn.Identity()) is None
    )
    assert inspect.isclass(FAST["unet"])
