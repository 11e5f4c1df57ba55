"""Single-file checkpoints: our mapping against the other library's converters, on the whole structure of SD
1.5 and 2.1 with narrow widths, and on the real shapes without data; every other kind of file is named."""

import diffusers
import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from diffusers.loaders.single_file_utils import (
    convert_open_clip_checkpoint as convert_ldm_open_clip_checkpoint,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel

from unnoise.errors import BadInput
from unnoise.hub import original, schedulers
from unnoise.hub.original import TEXT_1, TEXT_2, UNET, VAE, Part, convert, revert
from unnoise.nets.autoencoder import Autoencoder, autoencoder_config_from
from unnoise.nets.clip import TextEncoder, text_config_from
from unnoise.nets.unet import UNet, config_from

DOWN = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]


def unet(two, widths, context, inputs=4, layers=2):
    n = len(widths)
    heads = [max(1, w // 64) for w in widths] if two else 8
    return diffusers.UNet2DConditionModel(
        sample_size=64,
        in_channels=inputs,
        block_out_channels=widths,
        layers_per_block=layers,
        down_block_types=DOWN[-n:],
        up_block_types=[k.replace("Down", "Up") for k in reversed(DOWN[-n:])],
        cross_attention_dim=context,
        attention_head_dim=heads,
        use_linear_projection=two,
    )


def vae(widths, layers=2):
    n = len(widths)
    return diffusers.AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=layers,
        down_block_types=["DownEncoderBlock2D"] * n,
        up_block_types=["UpDecoderBlock2D"] * n,
        latent_channels=4,
        sample_size=512,
    )


def text(two, width, layers):
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        vocab_size=96 if width < 768 else 49408,
        hidden_act="gelu" if two else "quick_gelu",
        projection_dim=512 if two else width,
        bos_token_id=0,
        eos_token_id=2,
    )
    return CLIPTextModel(config)


def named(model):
    return {f"text_model.{k.removeprefix('text_model.')}": v for k, v in model.state_dict().items()}


def parts_of(two, u, v, t):
    """The parts as the other libraries have them, with only the config keys that `revert` needs."""
    keys = ("down_block_types", "up_block_types", "layers_per_block")
    return (
        Part({k: u.config[k] for k in keys}, dict(u.state_dict())),
        Part({k: v.config[k] for k in ("block_out_channels", "layers_per_block")}, dict(v.state_dict())),
        Part({"hidden_act": t.config.hidden_act, "num_hidden_layers": t.config.num_hidden_layers}, named(t)),
    )


@pytest.fixture(scope="module", params=[False, True], ids=["1.5", "2.1"])
def model(request):
    """Both families with all their blocks and layers, and narrow: (two, UNet, autoencoder, text encoder)."""
    two = request.param
    torch.manual_seed(0)
    u, v, t = (
        unet(two, (64, 128, 256, 256) if two else (32, 64, 128, 128), 64),
        vae((32, 64, 128, 128)),
        text(two, 64, 23 if two else 12),
    )
    return two, u, v, t


def equal(ours, theirs):
    assert set(ours) == set(theirs)
    for k, v in theirs.items():
        assert torch.equal(ours[k], v), k


def test_the_other_librarys_converters_read_what_we_write(model):
    two, u, v, t = model
    file = revert(*parts_of(two, u, v, t))
    assert (
        sum(k.startswith(UNET) for k in file) == 686 == len(u.state_dict())
    )  # as many tensors as the published files have
    assert sum(k.startswith(VAE) for k in file) == 248
    assert sum(k.startswith((TEXT_1, TEXT_2)) for k in file) == (4 + 24 * 12 if two else 196)
    equal(convert_ldm_unet_checkpoint(dict(file), u.config), u.state_dict())
    equal(convert_ldm_vae_checkpoint(dict(file), v.config), v.state_dict())
    equal(
        convert_ldm_open_clip_checkpoint(t, dict(file)) if two else convert_ldm_clip_checkpoint(dict(file)),
        named(t),
    )


PUBLISHED = [
    f"{UNET}{k}"
    for k in (
        "time_embed.0.bias",
        "input_blocks.0.0.weight",
        "input_blocks.1.0.emb_layers.1.weight",
        "input_blocks.3.0.op.weight",
        "input_blocks.4.0.skip_connection.weight",
        "input_blocks.8.1.transformer_blocks.0.attn2.to_out.0.bias",
        "input_blocks.9.0.op.bias",
        "input_blocks.11.0.in_layers.2.weight",
        "middle_block.1.proj_in.weight",
        "middle_block.2.out_layers.3.bias",
        "output_blocks.2.1.conv.weight",
        "output_blocks.3.1.transformer_blocks.0.ff.net.0.proj.weight",
        "output_blocks.5.2.conv.weight",
        "output_blocks.8.2.conv.bias",
        "output_blocks.11.0.skip_connection.weight",
        "output_blocks.11.1.norm.weight",
        "out.2.weight",
    )
] + [
    f"{VAE}{k}"
    for k in (
        "encoder.conv_in.weight",
        "encoder.down.0.downsample.conv.weight",
        "encoder.down.2.block.0.nin_shortcut.bias",
        "encoder.mid.attn_1.q.weight",
        "encoder.mid.block_2.norm1.weight",
        "encoder.norm_out.bias",
        "decoder.up.0.block.0.nin_shortcut.weight",
        "decoder.up.3.block.2.conv2.weight",
        "decoder.up.3.upsample.conv.weight",
        "decoder.mid.attn_1.proj_out.bias",
        "quant_conv.weight",
        "post_quant_conv.bias",
    )
]
PUBLISHED_TEXT = [
    [
        f"{TEXT_1}text_model.{k}"
        for k in (
            "embeddings.position_embedding.weight",
            "encoder.layers.11.self_attn.k_proj.bias",
            "final_layer_norm.weight",
        )
    ],
    [
        f"{TEXT_2}{k}"
        for k in (
            "positional_embedding",
            "token_embedding.weight",
            "transformer.resblocks.23.attn.in_proj_weight",
            "transformer.resblocks.0.mlp.c_proj.bias",
            "transformer.resblocks.22.ln_2.weight",
            "ln_final.bias",
        )
    ],
]


def test_what_we_write_has_the_names_of_published_files(model):
    two, u, v, t = model
    file = revert(*parts_of(two, u, v, t))
    assert not {*PUBLISHED, *PUBLISHED_TEXT[two]} - set(file)
    assert file[f"{VAE}encoder.mid.attn_1.q.weight"].ndim == 4
    assert file[f"{UNET}middle_block.1.proj_in.weight"].ndim == (2 if two else 4)
    for names in (
        original.unet_names(convert(file).unet.config),
        original.vae_names(convert(file).vae.config),
    ):
        assert not [
            k for k in names for other in names if k.startswith(other + ".")
        ]  # no entry lies in another


def test_our_reading_equals_that_of_the_other_library(model):
    two, u, v, t = model
    file = revert(*parts_of(two, u, v, t)) | clutter(two)
    got = convert(file, prediction="epsilon")
    equal(got.unet.weights, convert_ldm_unet_checkpoint(dict(file), u.config))
    equal(
        got.vae.weights,
        convert_ldm_vae_checkpoint({k: w for k, w in file.items() if "loss." not in k}, v.config),
    )
    plain = {k: w for k, w in file.items() if "text_projection" not in k}
    theirs = convert_ldm_open_clip_checkpoint(t, plain) if two else convert_ldm_clip_checkpoint(plain)
    equal(got.text_encoder.weights, {k: w for k, w in theirs.items() if not k.endswith("position_ids")})
    assert got.family == ("2.x" if two else "1.x")


def clutter(two):
    """What published files hold beside the three networks."""
    extra = {
        "betas": torch.ones(1000),
        "alphas_cumprod": torch.ones(1000),
        "global_step": torch.tensor(875000),
        "model_ema.decay": torch.ones(()),
        f"{VAE}loss.logvar": torch.ones(()),
        f"{VAE}loss.discriminator.main.0.weight": torch.ones(3),
        "cond_stage_model.logit_scale": torch.ones(()),
    }
    if two:
        return extra | {
            f"{TEXT_2}text_projection": torch.ones(64, 64),
            f"{TEXT_2}logit_scale": torch.ones(()),
        }
    return extra | {f"{TEXT_1}text_model.embeddings.position_ids": torch.arange(77)[None]}


def test_a_round_trip_keeps_every_bit_and_finds_the_configs(model):
    two, u, v, t = model
    got = convert(revert(*parts_of(two, u, v, t)), prediction="epsilon")
    equal(got.unet.weights, u.state_dict())
    equal(got.vae.weights, v.state_dict())
    equal(got.text_encoder.weights, named(t))
    equal(revert(got.unet, got.vae, got.text_encoder), revert(*parts_of(two, u, v, t)))
    for part, theirs in ((got.unet, u.config), (got.vae, v.config), (got.text_encoder, t.config.to_dict())):
        for k, value in part.config.items():
            if k.startswith("_") or k in ("architectures", "upcast_attention"):
                continue
            given = theirs[k]
            assert (list(given) if isinstance(given, tuple) else given) == value, k


def test_the_configs_and_weights_make_our_networks_and_theirs(model):
    two, u, v, t = model
    got = convert(revert(*parts_of(two, u, v, t)), prediction="epsilon")
    ours = UNet(config_from(got.unet.config)).eval()
    ours.load_state_dict(got.unet.weights)
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(x, torch.tensor([321]), context), u.eval()(x, 321, context).sample, atol=1e-4, rtol=1e-4
        )
    Autoencoder(autoencoder_config_from(got.vae.config)).load_state_dict(got.vae.weights)
    encoder = TextEncoder(text_config_from(got.text_encoder.config)).eval()
    encoder.load_state_dict(got.text_encoder.weights)
    ids = torch.randint(0, 96, (1, 77))
    with torch.no_grad():
        torch.testing.assert_close(encoder(ids).hidden, t.eval()(ids).last_hidden_state, atol=1e-4, rtol=1e-4)
    diffusers.UNet2DConditionModel.from_config(got.unet.config).load_state_dict(got.unet.weights)
    diffusers.AutoencoderKL.from_config(got.vae.config).load_state_dict(got.vae.weights)


@pytest.mark.parametrize("two", [False, True], ids=["1.5", "2.1"])
def test_the_published_models_at_their_real_shapes(two):
    """Shapes without data: the configs are the published ones, and our networks have exactly these
    parameters.
    """
    with torch.device("meta"):
        u, v = unet(two, (320, 640, 1280, 1280), 1024 if two else 768), vae((128, 256, 512, 512))
        t = text(two, 1024 if two else 768, 23 if two else 12)
        got = convert(revert(*parts_of(two, u, v, t)), prediction="v_prediction" if two else None)
        c = got.unet.config
        assert c["attention_head_dim"] == ([5, 10, 20, 20] if two else 8)
        assert (c["cross_attention_dim"], c["sample_size"], c["use_linear_projection"]) == (
            (1024, 96, True) if two else (768, 64, False)
        )
        assert (c["down_block_types"], c["block_out_channels"], c["norm_num_groups"]) == (
            DOWN,
            [320, 640, 1280, 1280],
            32,
        )
        assert got.vae.config["sample_size"] == (768 if two else 512)
        e = got.text_encoder.config
        keys = (
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "projection_dim",
            "hidden_act",
            "max_position_embeddings",
        )
        assert [e[k] for k in keys] == (
            [23, 16, 4096, 512, "gelu", 77] if two else [12, 12, 3072, 768, "quick_gelu", 77]
        )
        for part, net in (
            (got.unet, UNet(config_from(c))),
            (got.vae, Autoencoder(autoencoder_config_from(got.vae.config))),
            (got.text_encoder, TextEncoder(text_config_from(e))),
        ):
            assert {k: w.shape for k, w in part.weights.items()} == {
                k: w.shape for k, w in net.state_dict().items()
            }
        assert sum(w.numel() for w in got.unet.weights.values()) == (865_910_724 if two else 859_520_964)
        assert sum(w.numel() for w in got.vae.weights.values()) == 83_653_863


def small(two=False, inputs=4, widths=(32, 64), layers=1, vae_layers=1, blocks=2, dtype=torch.float32):
    """The file of a very small model, and its parts."""
    torch.manual_seed(1)
    nets = unet(two, widths, 64, inputs, layers), vae((32, 32), vae_layers), text(two, 64, blocks)
    return revert(*parts_of(two, *(net.to(dtype) for net in nets)))


@settings(max_examples=12, deadline=None)
@given(
    two=st.booleans(),
    widths=st.lists(st.sampled_from([32, 64, 96]), min_size=2, max_size=4),
    layers=st.integers(1, 3),
    vae_layers=st.integers(1, 3),
    blocks=st.integers(1, 3),
    inputs=st.sampled_from([4, 9]),
)
def test_any_structure_goes_round(two, widths, layers, vae_layers, blocks, inputs):
    with torch.device("meta"):
        file = small(two, inputs, tuple(widths), layers, vae_layers, blocks)
        got = convert(file, prediction="epsilon")
        again = revert(got.unet, got.vae, got.text_encoder)
    assert {k: v.shape for k, v in again.items()} == {k: v.shape for k, v in file.items()}
    c = got.unet.config
    assert (c["block_out_channels"], c["layers_per_block"], c["in_channels"]) == (widths, layers, inputs)
    assert got.vae.config["layers_per_block"] == vae_layers
    assert got.text_encoder.config["num_hidden_layers"] == blocks


def test_dtypes_are_kept_and_nothing_is_copied():
    file = small(two=True, dtype=torch.float16)
    got = convert(file)
    assert {v.dtype for p in (got.unet, got.vae, got.text_encoder) for v in p.weights.values()} == {
        torch.float16
    }
    where = {v.untyped_storage().data_ptr() for v in file.values()}
    assert {
        v.untyped_storage().data_ptr()
        for p in (got.unet, got.vae, got.text_encoder)
        for v in p.weights.values()
    } <= where


def test_queries_keys_and_values_are_cut_as_attention_takes_them():
    torch.manual_seed(2)
    attention, x = torch.nn.MultiheadAttention(64, 1, batch_first=True), torch.randn(1, 5, 64)
    file = small(two=True)
    for k, v in attention.state_dict().items():
        if k.startswith("in_proj"):
            file[f"{TEXT_2}transformer.resblocks.0.attn.{k}"] = torch.randn_like(v)
    attention.load_state_dict(
        {k: file[f"{TEXT_2}transformer.resblocks.0.attn.{k}"] for k in attention.state_dict()}
    )
    w = convert(file).text_encoder.weights
    prefix = "text_model.encoder.layers.0.self_attn."
    q, k, v = (
        torch.nn.functional.linear(x, w[f"{prefix}{n}_proj.weight"], w[f"{prefix}{n}_proj.bias"])
        for n in "qkv"
    )
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    out = torch.nn.functional.linear(out, w[f"{prefix}out_proj.weight"], w[f"{prefix}out_proj.bias"])
    torch.testing.assert_close(out, attention(x, x, x)[0], atol=1e-5, rtol=1e-5)


def test_text_encoders_without_the_usual_prefix_and_without_the_unused_layer():
    file = small()
    bare = {k.replace(f"{TEXT_1}text_model.", TEXT_1): v for k, v in file.items()}
    equal(convert(bare).text_encoder.weights, convert(file).text_encoder.weights)
    with torch.device("meta"):  # converted files of 2.x have 23 layers, the originals 24
        t = text(True, 1024, 23)
        whole = revert(*parts_of(True, unet(True, (64, 64), 1024, layers=1), vae((32, 32), 1), t))
        cut = {k: v for k, v in whole.items() if ".resblocks.23." not in k}
        assert len(cut) == len(whole) - 12
        for file in (cut, whole):
            assert set(convert(file, prediction="epsilon").text_encoder.weights) == set(named(t))


# --- prediction and schedule --------------------------------------------------------------------------------


def spread(file, std):
    key = max(k for k in file if k.startswith(f"{UNET}output_blocks") and k.endswith("norm1.bias"))
    return {**file, key: torch.randn(file[key].shape) * std}


def test_what_the_network_predicts_is_given_said_or_guessed():
    one, two, inpainting = small(), small(True), small(True, 9)
    kind = lambda file, *a, **k: convert(file, *a, **k).scheduler["prediction_type"]
    assert kind(one) == kind(inpainting) == "epsilon"
    assert kind(spread(two, 0.02)) == "epsilon"
    assert kind(spread(two, 0.3)) == "v_prediction"
    assert kind(spread(one, 0.3)) == kind(spread(inpainting, 0.3)) == "epsilon"
    assert "guess" in convert(two).notes[0]
    assert convert(one).notes == () == convert(two, {"modelspec.prediction_type": "v"}).notes
    assert kind(spread(two, 0.02), {"modelspec.prediction_type": "v"}) == "v_prediction"
    assert kind(spread(two, 0.3), {"modelspec.prediction_type": "epsilon"}) == "epsilon"
    assert kind({**one, "v_pred": torch.zeros(0)}) == "v_prediction"
    assert kind(two, {"modelspec.prediction_type": "v"}, prediction="sample") == "sample"
    with pytest.raises(BadInput, match="did you mean 'v_prediction'"):
        convert(one, prediction="v_predicton")


def test_the_schedule_is_that_of_stable_diffusion():
    got = schedulers.read(convert(small()).scheduler, latents=True)
    assert (got.process.schedule, got.process.schedule_options, got.process.predict) == (
        "scaled_linear",
        {},
        "eps",
    )
    assert got.defaults == {"sampler": "ddim", "spacing": "leading"}
    zero = schedulers.read(convert({**small(), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}).scheduler)
    assert (zero.process.schedule, zero.process.predict, zero.defaults["spacing"]) == (
        "scaled_linear-zsnr",
        "v",
        "trailing",
    )
    diffusers.DDIMScheduler.from_config(convert(small()).scheduler)


def test_the_averaged_copy():
    file = small()
    ema = {
        "model_ema." + k.removeprefix("model.").replace(".", ""): v + 1
        for k, v in file.items()
        if k.startswith(UNET)
    }
    equal(convert(file | ema).unet.weights, convert(file).unet.weights)
    equal(
        convert(file | ema, ema=True).unet.weights, {k: v + 1 for k, v in convert(file).unet.weights.items()}
    )
    with pytest.raises(BadInput, match="no averaged copy"):
        convert(file, ema=True)


# --- other files, and broken ones ---------------------------------------------------------------------------

OTHERS = {
    "SDXL": [
        "conditioner.embedders.1.model.ln_final.weight",
        f"{UNET}input_blocks.0.0.weight",
        f"{VAE}quant_conv.weight",
    ],
    "SD3": [
        "model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight",
        f"{VAE}encoder.conv_in.weight",
    ],
    "Flux": ["double_blocks.0.img_attn.qkv.weight"],
    "Flux ": ["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"],
    "LoRA": ["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"],
    "LoRA ": ["unet.down_blocks.0.attn.to_k.lora_A.weight"],
    "ControlNet": ["control_model.time_embed.0.weight"],
    "textual inversion": ["emb_params"],
    "folder": ["down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"],
    "more than the prompt": [f"{UNET}label_emb.0.0.weight", f"{UNET}input_blocks.0.0.weight"],
    "the UNet alone": ["input_blocks.0.0.weight"],
    "the autoencoder alone": ["encoder.down.0.block.0.conv1.weight"],
    "a text encoder alone": ["text_model.encoder.layers.0.mlp.fc1.weight"],
    "nothing of Stable Diffusion": ["weight"],
    "the autoencoder only, the UNet and the text encoder is missing": [f"{VAE}encoder.conv_in.weight"],
    "the UNet and the text encoder only, the autoencoder is missing": [
        f"{UNET}out.0.weight",
        f"{TEXT_2}ln_final.weight",
    ],
    "the UNet only": [f"{UNET}out.0.weight"],
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_files_are_named(what):
    with pytest.raises(BadInput, match=what.strip()) as e:
        convert({k: torch.zeros(1) for k in OTHERS[what]})
    assert "accepted: whole checkpoints of Stable Diffusion 1.x and 2.x" in str(e.value)
    assert "\n" not in str(e.value)


def test_an_empty_file():
    with pytest.raises(BadInput, match="nothing"):
        convert({})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {f"{UNET}input_blocks.1.0.in_layers.2.": None},
            "'input_blocks.1.0.in_layers.2' is missing in the UNet",
        ),
        ({f"{UNET}out.": None}, "'out.2.weight' is missing"),
        ({f"{UNET}middle_block.1.proj_in.weight": None}, "proj_in.weight' is missing"),
        ({f"{UNET}middle_block.1.proj_in.weight": torch.zeros(3)}, r"proj_in.weight' has shape \(3,\)"),
        ({f"{UNET}time_embed.4.weight": torch.zeros(3)}, "'time_embed.4.weight' has no place"),
        ({f"{UNET}input_blocks.9.0.op.weight": torch.zeros(3)}, "not blocks of equal length"),
        ({f"{VAE}post_quant_conv.": None}, "post_quant_conv.weight' is missing"),
        ({f"{VAE}decoder.up.0.": None}, "'decoder.up.0.block.0.conv1' is missing in the autoencoder"),
        ({f"{VAE}encoder.": None}, "no encoder.down"),
        (
            {f"{VAE}encoder.down.0.attn.0.q.weight": torch.zeros(3)},
            "has no place in a Stable Diffusion 1.x or 2.x autoencoder",
        ),
        ({f"{TEXT_2}token_embedding.weight": None}, "'token_embedding.weight' is missing"),
        (
            {f"{TEXT_2}transformer.resblocks.0.ln_1.": None},
            "'transformer.resblocks.0.ln_1' is missing in the text encoder",
        ),
        (
            {f"{TEXT_2}transformer.resblocks.0.attn.in_proj_weight": torch.zeros(64, 64)},
            "not 3 of equal height",
        ),
        (
            {f"{TEXT_2}transformer.resblocks.1.": None, f"{TEXT_2}transformer.resblocks.2.": None},
            "none would remain",
        ),
    ],
)
def test_broken_files_are_named_in_their_own_names(change, said):
    file = small(two=True)
    for key, value in change.items():
        file = {k: v for k, v in file.items() if not k.startswith(key)} | (
            {} if value is None else {key: value}
        )
    with pytest.raises(BadInput, match=said) as e:
        convert(file)
    assert "\n" not in str(e.value)


def test_a_part_that_has_no_original_name_is_not_written():
    got = convert(small())
    with pytest.raises(BadInput, match="class_embedding"):
        revert(
            Part(got.unet.config, {**got.unet.weights, "class_embedding.weight": torch.zeros(1)}),
            got.vae,
            got.text_encoder,
        )


def test_every_name_is_used_once():
    got = convert(small(two=True))
    for names in (
        original.unet_names(got.unet.config),
        original.vae_names(got.vae.config),
        original.text_names(got.text_encoder.config),
    ):
        ours = [n for v in names.values() for n in (v if isinstance(v, tuple) else (v,))]
        assert len(set(ours)) == len(ours)
