"""Model folders and files cross over: what one library saves the other opens, and both draw the same from it.

Images are compared in uint8: equal but for values that lie on the edge between two, which may fall either
way.
"""

from __future__ import annotations

import json
import shutil

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity import peer
from tests.parity.peer import NEGATIVES, PROMPTS
from tests.support import sd
from unnoise.hub import original
from unnoise.hub.original import Part
from unnoise.process import noise as noises
from unnoise.sample import last

SEEDS, STEPS = [3, 4], 5
BOUND = 1e-4


def theirs(folder_or_pipe, like, size=None, **options):
    """diffusers' latents and image, from the noise that ours begins with; its own scheduler and defaults."""
    pipe = folder_or_pipe if hasattr(folder_or_pipe, "unet") else peer.open_theirs(folder_or_pipe, **options)
    x = start(like, size)
    if (
        peer.name(pipe.scheduler) in peer.EXPLODING
    ):  # it multiplies by a sigma of its own, on top of unit noise
        pipe.scheduler.set_timesteps(STEPS)
        top = float(pipe.scheduler.sigmas[0])
        x = x * (1 + top**2) ** 0.5 / float(pipe.scheduler.init_noise_sigma)
    call = dict(negative_prompt=NEGATIVES, num_inference_steps=STEPS, latents=x, height=size, width=size)
    image = pipe(PROMPTS, output_type="np", **call).images
    return pipe(PROMPTS, output_type="latent", **call).images, (image * 255).round().astype(int)


def request(size=None):
    return dict(
        prompt=PROMPTS,
        negative_prompt=NEGATIVES,
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        seed=SEEDS,
        height=size,
        width=size,
    )


def start(pipe, size=None):
    r = pipe.request(**request(size))
    return noises.seeded(SEEDS, "init")(torch.zeros(pipe.noise(r).shape)) * float(pipe.path(r)[0].sigma)


def ours(folder_or_pipe, size=None, **options):
    pipe = folder_or_pipe if hasattr(folder_or_pipe, "request") else peer.open_ours(folder_or_pipe, **options)
    return last(pipe.stream(**request(size))), pipe(**request(size)).arrays.astype(int)


def same(a, b, bound=BOUND):
    torch.testing.assert_close(a[0], b[0], atol=bound, rtol=0)
    assert a[1].shape == b[1].shape and abs(a[1] - b[1]).max() <= 1 and (a[1] != b[1]).mean() < 0.01


def clean_end(pipe):
    """diffusers' pipeline, made to end where ours does: on clean data."""
    pipe.scheduler = peer.scheduler("DDIM", dict(pipe.scheduler.config), set_alpha_to_one=True)
    return pipe


# --- ours, opened there -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", peer.FAMILIES)
def test_diffusers_opens_what_we_save_and_draws_the_same(both, family, tmp_path):
    pipe = both[family][1]
    out = pipe.save_pretrained(tmp_path / "out")
    same(theirs(out, pipe), ours(pipe))
    assert not np.array_equal(*ours(pipe)[1])  # the two images are not one


@pytest.mark.parametrize("family", peer.FAMILIES)
def test_nothing_is_lost_on_the_way(both, folders, family, tmp_path):
    """Ours and back: every weight bit for bit, every word the same tokens."""
    out = both[family][1].save_pretrained(tmp_path / "out")
    a, b = peer.open_theirs(folders[family]), peer.open_theirs(out)
    for part in ("unet", "vae", "text_encoder"):
        x, y = (getattr(p, part).state_dict() for p in (a, b))
        assert set(x) == set(y) and all(torch.equal(x[k], y[k]) for k in x)
    text = ["a photo of an Astronaut riding 2 horses -- on mars!", "", "naïve 🍎 " * 30]
    assert (
        a.tokenizer(text, padding="max_length", truncation=True).input_ids
        == b.tokenizer(text, padding="max_length", truncation=True).input_ids
    )
    for key in ("beta_start", "beta_end", "beta_schedule", "prediction_type", "num_train_timesteps"):
        assert a.scheduler.config[key] == b.scheduler.config[key]


@pytest.mark.parametrize(
    "kind",
    ["EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "DPMSolverMultistep", "UniPCMultistep"],
)
def test_the_sampler_that_we_save_is_the_one_that_runs_there(folders, tmp_path, kind):
    folder = with_scheduler(folders["2.x"], tmp_path / "in", kind, timestep_spacing="trailing")
    pipe = peer.open_ours(folder)
    out = pipe.save_pretrained(tmp_path / "out")
    assert peer.name(peer.open_theirs(out).scheduler) == kind
    if kind != "EulerAncestralDiscrete":
        same(theirs(out, pipe), ours(pipe))  # noise is each library's own


def with_scheduler(folder, out, kind, **options):
    """A copy of a folder with another scheduler."""
    shutil.copytree(folder, out)
    config = json.loads((out / "scheduler" / "scheduler_config.json").read_text())
    shutil.rmtree(out / "scheduler")
    peer.scheduler(kind, config, **options).save_pretrained(out / "scheduler")
    index = json.loads((out / "model_index.json").read_text())
    index["scheduler"][1] = f"{kind}Scheduler"
    (out / "model_index.json").write_text(json.dumps(index))
    return out


# --- theirs, opened here ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", peer.FAMILIES)
def test_we_open_half_precision_variants(family, tmp_path):
    folder = sd.make(tmp_path / "half", family, dtype=torch.float16, variant="fp16")
    assert (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists()
    pipe = peer.open_ours(folder, variant="fp16")
    same(theirs(clean_end(peer.open_theirs(folder, variant="fp16", dtype=torch.float32)), pipe), ours(pipe))
    assert np.array_equal(ours(pipe)[1], ours(folder)[1])  # the only variant there is, unnamed


@pytest.mark.parametrize("half", [False, True])
def test_we_open_shards(both, tmp_path, half):
    kind = dict(dtype=torch.float16, variant="fp16") if half else {}
    folder = sd.make(tmp_path / "shards", "1.x", max_shard_size="300KB", **kind)
    assert len(list((folder / "unet").glob("*.safetensors"))) > 5 and len(
        list((folder / "vae").glob("*.safetensors"))
    ) > (0 if half else 1)
    whole = ours(sd.make(tmp_path / "whole", "1.x", **kind)) if half else ours(both["1.x"][1])
    same(whole, ours(folder, variant="fp16" if half else None), 0)


def test_text_encoders_with_and_without_their_prefix(both, folders, tmp_path):
    file = folders["1.x"] / "text_encoder" / "model.safetensors"
    bare = {k.removeprefix("text_model."): v for k, v in load_file(file).items()}
    for prefix in ("", "text_model."):
        folder = shutil.copytree(folders["1.x"], tmp_path / f"with{prefix}")
        tensors = {prefix + k: v for k, v in bare.items()} | {
            f"{prefix}embeddings.position_ids": torch.arange(77)[None]
        }  # as old files have it
        save_file(tensors, folder / "text_encoder" / "model.safetensors", metadata={"format": "pt"})
        same(ours(folder), ours(both["1.x"][1]), 0)
        same(theirs(clean_end(peer.open_theirs(folder)), both["1.x"][1]), ours(folder))


OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def test_an_autoencoder_with_the_old_names_of_attention(both, folders, tmp_path):
    folder = shutil.copytree(folders["2.x"], tmp_path / "old")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"

    def old(key):
        for new, was in OLD.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{was}.")
        return key

    tensors = {old(k): v for k, v in load_file(file).items()}
    assert sum("proj_attn" in k for k in tensors) == 4
    save_file(tensors, file, metadata={"format": "pt"})
    same(ours(folder), ours(both["2.x"][1]), 0)
    same(theirs(clean_end(peer.open_theirs(folder)), both["2.x"][1]), ours(folder))


# --- single files -------------------------------------------------------------------------------------------

# Widths and heads of which the rules for what shapes do not tell hold: 32 groups or their divisor, 8 heads
# (1.x), one for 64 channels (2.x).
TOY = {
    "1.x": {
        "unet": {"attention_head_dim": 8, "norm_num_groups": 32},
        "vae": {"norm_num_groups": 16},
        "text": {"num_attention_heads": 1},
    },
    "2.x": {
        "unet": {"attention_head_dim": (1, 1), "norm_num_groups": 32},
        "vae": {"norm_num_groups": 16},
        "text": {"num_attention_heads": 1},
    },
}


@pytest.fixture(scope="module", params=peer.FAMILIES)
def single(request, tmp_path_factory):
    """(family, folder, file): the same random weights as a folder of diffusers and as one file of the
    original layout beside its tokenizer.
    """
    family = request.param
    folder = sd.make(tmp_path_factory.mktemp("single") / "model", family, **TOY[family])
    part = lambda name, stem: Part(
        json.loads((folder / name / "config.json").read_text()),
        load_file(folder / name / f"{stem}.safetensors"),
    )
    tensors = original.revert(
        part("unet", "diffusion_pytorch_model"),
        part("vae", "diffusion_pytorch_model"),
        part("text_encoder", "model"),
    )
    said = {"format": "pt", "modelspec.prediction_type": "v" if family == "2.x" else "epsilon"}
    save_file(
        {k: v.contiguous() for k, v in tensors.items()}, folder / "checkpoint.safetensors", metadata=said
    )
    return family, folder, folder / "checkpoint.safetensors"


def test_a_single_file_draws_what_its_folder_draws(single):
    _, folder, file = single
    same(ours(file, size=16), ours(folder, size=16), 0)


def test_diffusers_opens_the_single_file_too(single):
    _, folder, file = single
    pipe = diffusers.StableDiffusionPipeline.from_single_file(
        file, config=str(folder), local_files_only=True, safety_checker=None
    )
    pipe.set_progress_bar_config(disable=True)
    same(theirs(clean_end(pipe), peer.open_ours(file), size=16), ours(file, size=16))


def test_the_file_has_the_published_names(single):
    """Some of each kind, by hand: numbering across blocks, the decoder's from the image, convolutions for
    matrices, q k v in one.
    """
    family, folder, file = single
    got, unet, vae = (
        load_file(f)
        for f in (file, *(folder / p / "diffusion_pytorch_model.safetensors" for p in ("unet", "vae")))
    )
    text = {
        k.removeprefix("text_model."): v
        for k, v in load_file(folder / "text_encoder" / "model.safetensors").items()
    }
    u, v = "model.diffusion_model.", "first_stage_model."
    pairs = [
        (got[u + "time_embed.2.bias"], unet["time_embedding.linear_2.bias"]),
        (got[u + "input_blocks.0.0.weight"], unet["conv_in.weight"]),
        (
            got[u + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"],
            unet["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"],
        ),
        (got[u + "input_blocks.2.0.op.weight"], unet["down_blocks.0.downsamplers.0.conv.weight"]),
        (
            got[u + "input_blocks.3.0.skip_connection.weight"],
            unet["down_blocks.1.resnets.0.conv_shortcut.weight"],
        ),
        (got[u + "middle_block.2.out_layers.3.bias"], unet["mid_block.resnets.1.conv2.bias"]),
        (got[u + "output_blocks.1.1.conv.weight"], unet["up_blocks.0.upsamplers.0.conv.weight"]),
        (
            got[u + "output_blocks.3.0.emb_layers.1.weight"],
            unet["up_blocks.1.resnets.1.time_emb_proj.weight"],
        ),
        (got[v + "decoder.up.1.block.0.conv1.weight"], vae["decoder.up_blocks.0.resnets.0.conv1.weight"]),
        (
            got[v + "decoder.mid.attn_1.proj_out.weight"],
            vae["decoder.mid_block.attentions.0.to_out.0.weight"][:, :, None, None],
        ),
        (
            got[v + "encoder.down.1.block.0.nin_shortcut.bias"],
            vae["encoder.down_blocks.1.resnets.0.conv_shortcut.bias"],
        ),
    ]
    if family == "1.x":
        pairs += [
            (
                got["cond_stage_model.transformer.text_model.final_layer_norm.bias"],
                text["final_layer_norm.bias"],
            )
        ]
    else:
        qkv = [text[f"encoder.layers.1.self_attn.{x}_proj.weight"] for x in "qkv"]
        pairs += [
            (got["cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight"], torch.cat(qkv)),
            (
                got["cond_stage_model.model.positional_embedding"],
                text["embeddings.position_embedding.weight"],
            ),
        ]
        assert (
            "cond_stage_model.model.transformer.resblocks.2.ln_1.weight" in got
        )  # the last, which is never used
    assert all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
