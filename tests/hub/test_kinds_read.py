"""Model folders and checkpoints as they lie about, damaged, hostile or merely unlike ours: each read, or
refused in one line and at once.
"""

import json
import resource
import shutil
import struct
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import unnoise
from tests.support import sd
from unnoise import hub
from unnoise.cli.main import main
from unnoise.errors import BadInput
from unnoise.hub import leftovers, original, weights
from unnoise.hub.original import TEXT_1, UNET, VAE, Part, revert

FILE = f"unet/{hub.WEIGHTS}"
BIG = "9" * 5000


def edit(folder, part, change):
    """The folder with a JSON file of it changed: no hash is held against it."""
    for name in ("model_index.json", part):
        d = json.loads((folder / name).read_text())
        if name == "model_index.json":
            d.pop("_sha256", None)
        if name == part:
            d = change(d) if callable(change) else {**d, **change}
        (folder / name).write_text(json.dumps(d))
    return folder


@pytest.fixture
def folder(tiny, tmp_path):
    return edit(shutil.copytree(tiny, tmp_path / "m"), "model_index.json", {})


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return sd.make(
        tmp_path_factory.mktemp("published") / "model",
        unet={"norm_num_groups": 32, "attention_head_dim": 8},
        vae={"norm_num_groups": 16},
    )


@pytest.fixture(scope="module")
def whole(published):
    """The same as the tensors of a single file in the original layout, and its picture's latents."""
    f: Any = hub.load(published)
    config = lambda p: json.loads((published / p / "config.json").read_text())
    text = {k: config("text_encoder")[k] for k in ("hidden_act", "num_hidden_layers")}
    return revert(
        Part(config("unet"), f.net.state_dict()),
        Part(config("vae"), f.codec.net.state_dict()),
        Part(text, f.text.net.state_dict()),
    )


def checkpoint(tensors, tmp_path, published, **options):
    file = tmp_path / options.pop("name", "x.safetensors")
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, file)
    return hub.load(file, tokenizer=published / "tokenizer", **options)


def equal(a, b):
    one, two = a.net.state_dict(), b.net.state_dict()
    return one.keys() == two.keys() and all(torch.equal(v, two[k]) for k, v in one.items())


NAN = torch.tensor([float("nan")] * 4)
BESIDE = {
    "text projection": {
        TEXT_1 + "text_projection.weight": torch.eye(32),
        "cond_stage_model.logit_scale": torch.tensor(4.6),
    },
    "ema": {"model_ema.diffusion_modelout2bias": NAN, "model_ema.num_updates": torch.tensor(5)},
    "tables": {
        "betas": torch.rand(9),
        "sqrt_recip_alphas_cumprod": torch.tensor([1.0, float("inf")]),
        "log_one_minus_alphas_cumprod": -torch.ones(3) / 0,
    },
    "loss": {VAE + "loss.logvar": NAN, VAE + "loss.discriminator.main.0.weight": NAN},
    "vae's ema": {VAE + "model_ema.decay": NAN, VAE + "model_ema.encoderconv": NAN},
    "counters": {"global_step": torch.tensor(470000), "epoch": torch.tensor(3, dtype=torch.int8)},
    "lora": {
        "lora_unet_x.alpha": NAN,
        "lora_te_y.lora_down.weight": NAN,
        UNET + "middle_block.1.lora_A.weight": NAN,
    },
    "embedding": {"bundle_emb.mystyle.string_to_param.*": torch.rand(1, 32), "emb_params": torch.rand(1, 32)},
    "int8": {UNET + "extra": torch.zeros(3, dtype=torch.int8)},
    "positions": {TEXT_1 + "text_model.embeddings.position_ids": torch.arange(77)[None].half() + 0.3},
    "optimiser": {"optimizer.state.0": NAN, "ema.x": NAN, "some_tool.notes": NAN},
}


@pytest.mark.parametrize("what", BESIDE)
def test_what_lies_beside_the_weights_is_left_out_and_told(whole, published, tmp_path, what):
    f = checkpoint(whole | BESIDE[what], tmp_path, published)
    assert equal(f, checkpoint(whole, tmp_path, published, name="y.safetensors"))
    told = " ".join(k for part in f.left_out.values() for k in part)
    for key in BESIDE[what]:
        last = key.split(".")[-1]
        assert last in told or last == "position_ids", (key, f.left_out)


WRAPPED = {
    "state_dict": lambda k: "state_dict." + k,
    "module": lambda k: "module." + k,
    "compiled": lambda k: k.replace(UNET, UNET + "_orig_mod."),
    "all": lambda k: "state_dict.module._orig_mod." + k,
    "peft": lambda k: k.replace(".to_q.", ".to_q.base_layer."),
}


@pytest.mark.parametrize("what", WRAPPED)
def test_names_that_were_written_from_inside_a_wrapper(whole, published, tmp_path, what):
    assert equal(
        checkpoint({WRAPPED[what](k): v for k, v in whole.items()}, tmp_path, published), hub.load(published)
    )


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_8_bit_weights(whole, published, tmp_path, kind):
    f = checkpoint(
        {k: v.to(kind) if k.startswith(UNET) else v for k, v in whole.items()}, tmp_path, published
    )
    want = hub.load(published).net.state_dict()
    assert all(torch.equal(v, want[k].to(kind).float()) for k, v in f.net.state_dict().items())


@pytest.mark.parametrize("ends", [(".scale_weight", ".scale_input"), (".weight_scale", ".input_scale")])
@pytest.mark.parametrize("rows", [False, True])
def test_scaled_8_bit_weights_are_products(whole, published, tmp_path, ends, rows):
    tensors, want = dict(whole), dict(whole)
    for k in [k for k in whole if k.startswith(UNET) and k.endswith(".weight") and whole[k].ndim > 1]:
        t = whole[k].float()
        most = t.abs().amax(dim=tuple(range(1, t.ndim))) if rows else t.abs().max()
        scale = most / 448
        shaped = scale.reshape(-1, *[1] * (t.ndim - 1)) if rows else scale
        tensors[k] = (t / shaped).to(torch.float8_e4m3fn)
        tensors[k.removesuffix(".weight") + ends[0]], tensors[k.removesuffix(".weight") + ends[1]] = (
            scale,
            torch.tensor(1.0),
        )
        want[k] = tensors[k].float() * shaped
    tensors[UNET + "scaled_fp8"] = torch.zeros(0).to(torch.float8_e4m3fn)
    assert equal(
        checkpoint(tensors, tmp_path, published),
        checkpoint(want, tmp_path, published, name="want.safetensors"),
    )


def test_a_capital_suffix_still_tells_what_is_not_finite(whole, published, tmp_path):
    assert equal(checkpoint(whole, tmp_path, published, name="X.SAFETENSORS"), hub.load(published))
    bad = dict(whole)
    key = next(k for k in bad if k.startswith(UNET))
    bad[key] = bad[key] * float("nan")
    with pytest.raises(BadInput, match="non-finite"):
        checkpoint(bad, tmp_path, published, name="Y.SAFETENSORS")


def test_another_autoencoder(whole, published, tmp_path):
    bare = {k: v for k, v in whole.items() if not k.startswith(VAE)}
    with pytest.raises(BadInput, match="autoencoder is missing: name one with --vae"):
        checkpoint(bare, tmp_path, published)
    model: Any = hub.load(published)
    want = model.codec.net.state_dict()
    alone = tmp_path / "alone"
    shutil.copytree(published / "vae", alone)
    save_file(
        {k.removeprefix(VAE): v.clone().contiguous() for k, v in whole.items() if k.startswith(VAE)},
        tmp_path / "vae.safetensors",
    )
    digests = set()
    for vae in (
        published,
        published / "vae",
        alone,
        tmp_path / "vae.safetensors",
        tmp_path / "x.safetensors",
    ):
        if vae.name == "x.safetensors":
            save_file({k: v.clone().contiguous() for k, v in whole.items()}, vae)
        f: Any = checkpoint(bare, tmp_path, published, name="bare.safetensors", vae=vae)
        assert all(torch.equal(v, want[k]) for k, v in f.codec.net.state_dict().items()), vae
        digests.add(f.sha256)
    assert hub.load(published, vae=alone).sha256 != hub.load(published).sha256
    for vae in (published / "unet", tmp_path / "none", tmp_path):
        with pytest.raises(BadInput):
            checkpoint(bare, tmp_path, published, vae=vae)


def test_other_things_are_still_named(whole):
    meta = {k: v.to("meta") for k, v in whole.items()}
    for extra, said in (
        (UNET + "label_emb.0.0.weight", "conditioned on more"),
        ("control_model.zero_convs.0.0.weight", "ControlNet"),
        (UNET + "input_blocks.99.0.weight", "input blocks|no place"),
        (UNET + "middle_block.9.weight", "no place"),
    ):
        with pytest.raises(BadInput, match=said):
            original.convert(meta | {extra: torch.zeros(1, device="meta")})


# --- folders ------------------------------------------------------------------------------------------------


def test_parts_under_other_names_and_alone(published, tmp_path):
    want = hub.load(published)
    m, name = tmp_path, ""
    for i, name in enumerate(
        ("unet.safetensors", "diffusion_pytorch_model.SAFETENSORS", "my model v2.safetensors")
    ):
        m = shutil.copytree(published, tmp_path / str(i))
        (m / FILE).rename(m / "unet" / name)
        assert equal(hub.load(m), want)
    shutil.copy(m / "unet" / name, m / "unet/second.safetensors")
    with pytest.raises(BadInput, match=r"my model v2.safetensors, second.safetensors"):
        hub.load(m)
    assert equal(hub.load(published / "unet"), want) and hub.load(published / "vae").sha256 == want.sha256
    shutil.copytree(published / "unet", tmp_path / "lonely")
    with pytest.raises(BadInput, match="one part of a model"):
        hub.load(tmp_path / "lonely")


@pytest.mark.parametrize(
    ("part", "file", "key"),
    [
        ("text_encoder", "model", "lm_head.weight"),
        ("text_encoder", "model", "logit_scale"),
        ("unet", None, "lora_unet.alpha"),
        ("text_encoder", "model", "text_model.text_projection.weight"),
        ("vae", None, "loss.logvar"),
        ("unet", None, "_orig_mod.conv_in.weight"),
        ("vae", None, "model_ema.decay"),
    ],
)
def test_leftovers_in_a_part(published, tmp_path, capfd, part, file, key):
    m = shutil.copytree(published, tmp_path / "m")
    path = m / part / f"{file or 'diffusion_pytorch_model'}.safetensors"
    save_file({**load_file(path), key: NAN.clone()}, path)
    f = hub.load(m)
    assert equal(f, hub.load(published)) and key in f.left_out[part]
    with pytest.raises(SystemExit) as e:
        main(["info", str(m), "--json"])
    out, _ = capfd.readouterr()
    assert e.value.code == 0 and sum(json.loads(out)["left_out"][part].values()) == 1


@pytest.mark.parametrize(
    "key",
    ["down_blocks.2.resnets.0.norm1.weight", "mid_block.attentions.1.norm.weight", "class_embedding.weight"],
)
def test_a_larger_network_than_the_config_says_is_refused(published, tmp_path, key):
    m = shutil.copytree(published, tmp_path / "m")
    save_file({**load_file(m / FILE), key: torch.zeros(4)}, m / FILE)
    with pytest.raises(BadInput, match="not part of this network"):
        hub.load(m)


def test_null_scaling_factor_and_no_beta_schedule(published, tmp_path, capfd):
    m = edit(shutil.copytree(published, tmp_path / "m"), "vae/config.json", {"scaling_factor": None})
    assert getattr(hub.load(m).codec, "scale", None) == 0.18215
    edit(m, "scheduler/scheduler_config.json", lambda d: {k: v for k, v in d.items() if k != "beta_schedule"})
    with pytest.warns(UserWarning, match="beta_schedule is not given") as seen:
        f = hub.load(m)
    assert len(seen) == 1 and any("beta_schedule" in n for n in f.notes)
    with pytest.raises(SystemExit):
        main(["info", str(m), "--json"])
    assert any("beta_schedule is not given" in n for n in json.loads(capfd.readouterr()[0])["notes"])


def test_the_bundled_models_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f = hub.load("emoji")
    assert not f.left_out


def test_values_beyond_float16_are_said(tiny, tmp_path):
    m = edit(shutil.copytree(tiny, tmp_path / "m"), "model_index.json", {})
    w = load_file(m / FILE)
    w["conv_in.bias"][0] = 1e6
    save_file(w, m / FILE)
    for ask in (
        lambda: hub.load(m, dtype=torch.float16),
        lambda: unnoise.load(m, device="cpu", dtype="fp16"),
    ):
        with pytest.raises(BadInput, match=r"conv_in.bias.*1e\+06, float16 ends at 65504"):
            ask()
    assert hub.load(m).net.state_dict()["conv_in.bias"][0] == 1e6 and hub.load(m, dtype=torch.bfloat16)


def test_inside_inference_mode(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "MAP_ABOVE", 1000)
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "cache"))
    with torch.inference_mode():
        f = hub.load(tiny)
        weights.release(f.net.parameters())
    assert not any(p.is_inference() for p in f.net.parameters())


# --- files that hold what they should not -------------------------------------------------------------------

PARTS = [
    "model_index.json",
    "unet/config.json",
    "codec/config.json",
    "words/config.json",
    "scheduler/scheduler_config.json",
]
RAW = [
    b"null",
    b"[]",
    b"7",
    b'"x"',
    b"true",
    b"",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a": ' + BIG.encode() + b"}",
    b'{"a": 1, "a": 1}',
    b'{"_name": "\\ud800"}',
    b'{"_name": "a\\u0000b"}',
    b"\xff\xfe{\x00}\x00",
    b"\x80\x02}",
]


@pytest.mark.parametrize("part", PARTS)
def test_whatever_a_file_holds_it_is_one_line(folder, part):
    edit(folder, part, {})
    for raw in RAW:
        (folder / part).write_bytes(raw)
        with pytest.raises(BadInput, match=part.split("/")[-1]) as e:
            hub.load(folder)
        assert "\n" not in str(e.value) and str(e.value).encode()


VALUES = [None, True, -1, 0, 1e9, 10**18, "x", [], {}, [[]], [10**9], ["a"], 0.5, [None], {"a": {}}]
KEYS = {
    "model_index.json": [
        "_name",
        "_class_name",
        "_sha256",
        "_defaults",
        "unet",
        "codec",
        "words",
        "scheduler",
        "_unnoise_version",
    ],
    "unet/config.json": [
        "sample_size",
        "in_channels",
        "block_out_channels",
        "layers_per_block",
        "down_block_types",
        "mid_block_type",
        "attention_head_dim",
        "cross_attention_dim",
        "norm_num_groups",
        "norm_eps",
        "num_class_embeds",
        "freq_shift",
        "dropout",
        "flip_sin_to_cos",
        "act_fn",
    ],
    "codec/config.json": ["kind", "height", "width", "channels", "patch", "multiple"],
    "words/config.json": ["words"],
    "scheduler/scheduler_config.json": [
        "_class_name",
        "num_train_timesteps",
        "beta_start",
        "beta_schedule",
        "trained_betas",
        "prediction_type",
        "_unnoise",
        "_unnoise_defaults",
        "rescale_betas_zero_snr",
        "clip_sample_range",
        "timestep_spacing",
        "steps_offset",
    ],
}
DEFAULTS = [
    "sampler",
    "spacing",
    "spacing_options",
    "options",
    "clip",
    "num_inference_steps",
    "guidance_scale",
    "upscale",
    "masked",
    "tuned",
]


@pytest.mark.parametrize(
    ("part", "key"), [(p, k) for p, keys in KEYS.items() for k in keys] + [("_defaults", k) for k in DEFAULTS]
)
def test_a_value_of_any_kind_is_read_or_named(tiny, tmp_path, part, key):
    for i, value in enumerate(VALUES):
        m = shutil.copytree(tiny, tmp_path / str(i))
        if part == "_defaults":
            edit(m, "model_index.json", {"_defaults": {key: value}})
        else:
            edit(m, part, {key: value})
        began = time.monotonic()
        try:
            hub.load(m)
        except BadInput as e:
            assert "\n" not in str(e) and len(str(e)) < 1500, e
        assert time.monotonic() - began < 10
        shutil.rmtree(m)


HUGE = [
    ("unet/config.json", {"layers_per_block": 10**9}),
    ("unet/config.json", {"block_out_channels": [10**9, 10**9]}),
    ("unet/config.json", {"block_out_channels": [65536, 65536]}),
    ("unet/config.json", {"layers_per_block": 16}),
    ("unet/config.json", {"num_class_embeds": 2_000_000}),
    ("unet/config.json", {"num_class_embeds": 10**12}),
    ("unet/config.json", {"sample_size": 10**6}),
    ("codec/config.json", {"height": 10**9}),
    ("codec/config.json", {"height": 8192, "width": 8192}),
    ("codec/config.json", {"kind": "vectors", "size": [10**6] * 6}),
    ("codec/config.json", {"patch": 64}),
    ("codec/config.json", {"multiple": 1000}),
]


@pytest.mark.parametrize(("part", "change"), HUGE)
def test_what_would_take_much_memory_is_refused_before_any(folder, part, change):
    edit(folder, part, (lambda d: change) if change.get("kind") else change)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(BadInput):
        hub.load(folder)
    assert (
        time.process_time() - began < 2
        and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    )  # kB


@pytest.mark.parametrize("part", [*PARTS, FILE])
@pytest.mark.parametrize("what", ["circle", "folder", "gone", "pipe"])
def test_what_is_no_file_is_named(folder, part, what):
    import os

    (folder / part).unlink()
    if what == "folder":
        (folder / part).mkdir()
    elif what == "pipe":
        os.mkfifo(folder / part)
    else:
        (folder / part).symlink_to(Path(part).name if what == "circle" else "nowhere")
    with pytest.raises(BadInput, match=Path(part).name):
        hub.load(folder)


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\ud800", "", "x/" * 3000, "\x1b]0;title\x07"])
def test_names_that_no_folder_can_have(name):
    with pytest.raises(BadInput):
        hub.load(name)


HEADS = [
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b"null",
    b"[]",
    b'{"x": 5}',
    b'{"x": {}}',
    b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
    b'{"x": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}',
    b'{"x": {"dtype": "F32", "shape": [' + BIG.encode() + b'], "data_offsets": [0, 4]}}',
    b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
    b'{"x": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}}',
    b'{"x": {"dtype": "F32", "shape": [' + b",".join([b"1"] * 1000) + b'], "data_offsets": [0, 4]}}',
    b'{"\\ud800": {}}',
    b'{"x": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}',
    b'{"x": {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}}',
]


@pytest.mark.parametrize("head", HEADS)
def test_headers_of_weight_files(folder, head):
    (folder / FILE).write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 4)
    with pytest.raises(BadInput, match=hub.WEIGHTS) as e:
        hub.load(folder)
    assert "\n" not in str(e.value) and len(str(e.value)) < 1000


def test_reasons_and_wrappers():
    kept, left = leftovers.tidied(["a.b", "_orig_mod.a.b", "module.c", "state_dict.d.weight"])
    assert kept == {"a.b": "a.b", "module.c": "c", "state_dict.d.weight": "d.weight"} and left == {
        "_orig_mod.a.b": "a second copy of a.b"
    }
    left, wrong = leftovers.stray(
        ["down.3.weight", "lm_head.weight", "other", "class_embedding.weight"],
        ["down.0.weight", "up.0.weight"],
    )
    assert wrong == ["class_embedding.weight", "down.3.weight"] and set(left) == {"lm_head.weight", "other"}
