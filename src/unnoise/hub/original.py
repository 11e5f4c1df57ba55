"""Single-file checkpoints of Stable Diffusion 1.x and 2.x in the original (CompVis, Stability) layout <-> our
three parts.

    model.diffusion_model.*             the UNet: input_blocks, middle_block, output_blocks, numbered through,
                                        resampling included
    first_stage_model.*                 the autoencoder: encoder.down.i, decoder.up.i (numbered from the
                                        image's side), mid
    cond_stage_model.transformer.*      1.x: the text encoder, named as published
    cond_stage_model.model.*            2.x: the same in OpenCLIP's names, with q, k and v in one matrix and a
                                        layer that is never used

`unet_names`, `vae_names` and `text_names` are the mapping: original module (or parameter) -> ours, computed
from a part's config. `convert` reads them forwards, `revert` backwards. The configs are found from shapes,
with three rules for what shapes do not tell:

    heads     1.x: 8 in every attention of the UNet; 2.x (linear projections): one for 64 channels; text
              encoders: one for 64 channels
    groups    32 in every GroupNorm (for toy widths, the greatest common divisor with them)
    predicts  given > the file's metadata > a `v_pred` key > eps, unless 2.x with 4 input channels: then the
              spread of one bias tells

There is no tokenizer in such a file, and nothing of the sampler: that is for the caller to bring.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import short
from unnoise.hub import leftovers
from unnoise.hub.weights import plain

UNET, VAE, TEXT_1, TEXT_2 = (
    "model.diffusion_model.",
    "first_stage_model.",
    "cond_stage_model.transformer.",
    "cond_stage_model.model.",
)
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SUPPORTED = "whole checkpoints of Stable Diffusion 1.x and 2.x in the original layout"

Weights = dict[str, Tensor]
Names = dict[
    str, str | tuple[str, ...]
]  # original -> ours; a tuple: the original is those, one below the other


@dataclass(frozen=True)
class Part:
    """One network: its published `config.json`, and its weights under the published parameter names."""

    config: dict
    weights: Weights


@dataclass(frozen=True)
class Parts:
    """A checkpoint taken apart. scheduler: the published config; family: "1.x" or "2.x"; notes: what was
    guessed, a line each.
    """

    unet: Part
    vae: Part | None
    text_encoder: Part
    scheduler: dict
    family: str
    notes: tuple[str, ...] = ()
    left_out: dict[str, str] = field(
        default_factory=dict
    )  # what of the file is no part of the model, and why


def convert(
    weights: Weights,
    metadata: dict[str, str] | None = None,
    prediction: str | None = None,
    ema: bool = False,
    own_vae: bool = True,
) -> Parts:
    """The parts of a checkpoint. Tensors keep their dtype (but 8-bit floats, see `weights.plain`), and share
    memory with those given.

    They may be on the meta device: then the configs and names are found, and what a UNet predicts is not
    guessed from values.

    metadata: the file's own, for its prediction type. prediction: "epsilon", "v_prediction" or "sample",
    whatever the file says. ema: take the UNet's averaged copy (`model_ema`), which most published files leave
    out. own_vae: False where another autoencoder is used: the file need not have one, `vae` is None. All else
    in the file is left out. BadInput: another kind of file (named), a part or a tensor that is missing, one
    that has no place in a 1.x or 2.x model.
    """
    if prediction not in (*PREDICTIONS, None):
        raise unknown("prediction", prediction, PREDICTIONS)
    weights, left = _sorted(weights)
    recognise(weights, own_vae)
    unet = _ema(weights) if ema else _under(weights, UNET)
    config = _unet_config(unet)
    two = config["use_linear_projection"]
    kind, notes = _prediction(weights, unet, config, metadata or {}, prediction)
    if two and kind == "v_prediction":
        config["sample_size"] = 96  # trained on 768 x 768
    vae = _vae(_under(weights, VAE), config["sample_size"], left, VAE) if own_vae else None
    text = _openclip(weights, left) if any(k.startswith(TEXT_2) for k in weights) else _clip(weights, left)
    made = _renamed(unet, unet_names(config), "UNet", left, UNET)
    return Parts(
        Part(config, made),
        vae,
        text,
        _scheduler(kind, "ztsnr" in weights and kind != "epsilon"),
        "2.x" if two else "1.x",
        notes,
        left,
    )


def autoencoder(weights: Weights) -> Part:
    """The autoencoder of a file: of a whole checkpoint, or alone, with its prefix or without. BadInput: there
    is none.
    """
    weights, left = _sorted(weights)
    own = _under(weights, VAE) or weights
    if not any(k.startswith("encoder.down.") for k in own):
        raise BadInput(
            "the file holds no autoencoder in the original layout of Stable Diffusion (encoder.down.…)"
        )
    return _vae(own, 64, left, "")


def _vae(own: Weights, sample_size: int, left: dict[str, str], prefix: str) -> Part:
    config = _vae_config(own, sample_size)
    return Part(config, _flat(_renamed(own, vae_names(config), "autoencoder", left, prefix)))


def _sorted(weights: Weights) -> tuple[Weights, dict[str, str]]:
    """(the tensors under their plain names, those that are no part of a whole checkpoint with why they are
    left out).
    """
    kept, left = leftovers.tidied(weights)
    out = plain({new: weights[old] for old, new in kept.items()})
    if all(any(k.startswith(p) for k in out) for p in (UNET, "cond_stage_model.")):
        for old, new in kept.items():
            if new in out and not new.startswith((UNET, VAE, TEXT_1, TEXT_2, *_MEANT)):
                left[old] = leftovers.reason(new) or "no part of a model in the original layout"
    return out, left


def revert(unet: Part, vae: Part, text_encoder: Part) -> Weights:
    """The single file's tensors from the three parts: the inverse of `convert`.

    2.x: OpenCLIP's last layer, which is left out of our encoder and never used, is written as zeros.
    """
    two = text_encoder.config["hidden_act"] == "gelu"
    text = _published(text_encoder.weights)
    if two:
        text = _restored(text, text_names(text_encoder.config)) | _unused_layer(text_encoder)
    return {
        **{UNET + k: v for k, v in _restored(unet.weights, unet_names(unet.config)).items()},
        **{VAE + k: v for k, v in _restored(_square(vae.weights), vae_names(vae.config)).items()},
        **{(TEXT_2 if two else TEXT_1) + k: v for k, v in text.items()},
    }


# --- the mapping, as data -----------------------------------------------------------------------------------

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_VAE_RESNET = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "nin_shortcut": "conv_shortcut",
}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_TEXT_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def _within(original: str, ours: str, parts: dict[str, str]) -> Names:
    return {f"{original}.{a}": f"{ours}.{b}" for a, b in parts.items()}


def unet_names(config: dict) -> Names:
    """The UNet's modules, original -> ours. Both sides' blocks run in the same order; only the numbering
    differs.
    """
    down, up, each = config["down_block_types"], config["up_block_types"], config["layers_per_block"]
    names: Names = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
        "middle_block.1": "mid_block.attentions.0",
    }
    for i, j in ((0, 0), (2, 1)):
        names |= _within(f"middle_block.{i}", f"mid_block.resnets.{j}", _RESNET)
    return names | _down_names(down, each) | _up_names(up, each + 1)


def _down_names(kinds: Sequence[str], each: int) -> Names:
    """input_blocks.1 …: the resnets of each block, then its downsampler."""
    names: Names = {}
    for b, kind in enumerate(kinds):
        first = 1 + b * (each + 1)
        for j, i in enumerate(range(first, first + each)):
            names |= _within(f"input_blocks.{i}.0", f"down_blocks.{b}.resnets.{j}", _RESNET)
            if kind.startswith("CrossAttn"):
                names[f"input_blocks.{i}.1"] = f"down_blocks.{b}.attentions.{j}"
        if b < len(kinds) - 1:
            names[f"input_blocks.{first + each}.0.op"] = f"down_blocks.{b}.downsamplers.0.conv"
    return names


def _up_names(kinds: Sequence[str], each: int) -> Names:
    """output_blocks.0 …: the resnets of each block, the upsampler beside the last of them."""
    names: Names = {}
    for b, kind in enumerate(kinds):
        cross = kind.startswith("CrossAttn")
        for j, i in enumerate(range(b * each, (b + 1) * each)):
            names |= _within(f"output_blocks.{i}.0", f"up_blocks.{b}.resnets.{j}", _RESNET)
            if cross:
                names[f"output_blocks.{i}.1"] = f"up_blocks.{b}.attentions.{j}"
        if b < len(kinds) - 1:
            last = f"output_blocks.{(b + 1) * each - 1}"
            names[f"{last}.{2 if cross else 1}.conv"] = f"up_blocks.{b}.upsamplers.0.conv"
    return names


def vae_names(config: dict) -> Names:
    """The autoencoder's modules, original -> ours. The decoder's levels are numbered from the image there,
    from the latents here.
    """
    n, each = len(config["block_out_channels"]), config["layers_per_block"]
    names: Names = {
        k: k
        for k in (
            "quant_conv",
            "post_quant_conv",
            "encoder.conv_in",
            "encoder.conv_out",
            "decoder.conv_in",
            "decoder.conv_out",
        )
    }
    for half in ("encoder", "decoder"):
        names[f"{half}.norm_out"] = f"{half}.conv_norm_out"
        names |= _within(f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0", _VAE_ATTENTION)
        for j in (0, 1):
            names |= _within(f"{half}.mid.block_{j + 1}", f"{half}.mid_block.resnets.{j}", _VAE_RESNET)
    for i in range(n):
        for j in range(each):
            names |= _within(
                f"encoder.down.{i}.block.{j}", f"encoder.down_blocks.{i}.resnets.{j}", _VAE_RESNET
            )
        for j in range(each + 1):
            names |= _within(
                f"decoder.up.{n - 1 - i}.block.{j}", f"decoder.up_blocks.{i}.resnets.{j}", _VAE_RESNET
            )
    for i in range(n - 1):
        names[f"encoder.down.{i}.downsample.conv"] = f"encoder.down_blocks.{i}.downsamplers.0.conv"
        names[f"decoder.up.{n - 1 - i}.upsample.conv"] = f"decoder.up_blocks.{i}.upsamplers.0.conv"
    return names


def text_names(config: dict) -> Names:
    """OpenCLIP's text modules and parameters -> ours: those of the layers that are used."""
    names: Names = {
        "token_embedding": "text_model.embeddings.token_embedding",
        "ln_final": "text_model.final_layer_norm",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
    }
    for i in range(config["num_hidden_layers"]):
        theirs, ours = f"transformer.resblocks.{i}", f"text_model.encoder.layers.{i}"
        names |= _within(theirs, ours, _TEXT_LAYER)
        for p in ("weight", "bias"):
            names[f"{theirs}.attn.in_proj_{p}"] = tuple(f"{ours}.self_attn.{x}_proj.{p}" for x in "qkv")
    return names


# --- using it -----------------------------------------------------------------------------------------------


def _look(key: str, names: Mapping[str, str | tuple[str, ...]]) -> str:
    """The entry of `names` that the parameter is or lies in, "" where there is none; no entry lies in
    another.
    """
    cuts = [i for i, c in enumerate(key) if c == "."]
    return next((key[:cut] for cut in (*cuts, len(key)) if key[:cut] in names), "")


def _renamed(weights: Weights, names: Names, what: str, left: dict[str, str], prefix: str) -> Weights:
    """Weights under our names; what is known to be of something else goes to `left`, under its name in the
    file (with `prefix`).

    BadInput on another tensor that has no place, and on a module without tensors (but for the shortcuts,
    which are only where the width changes).
    """
    out: Weights = {}
    stray, wrong = leftovers.stray([k for k in weights if not _look(k, names)], names)
    if wrong:
        raise BadInput(
            f"checkpoint: tensor {short(wrong[0])} has no place in a Stable Diffusion 1.x or 2.x {what}"
        )
    left |= {prefix + k: why for k, why in stray.items()}
    empty = {k for k in names if not k.endswith(("skip_connection", "nin_shortcut"))}
    for key, t in weights.items():
        if key in stray:
            continue
        module = _look(key, names)
        empty.discard(module)
        ours = names[module]
        if isinstance(ours, str):
            out[ours + key[len(module) :]] = t
        elif t.shape[0] % len(ours):
            raise BadInput(
                f"checkpoint: tensor {key!r} of shape {tuple(t.shape)} is not {len(ours)} of equal height"
            )
        else:
            out |= zip(ours, t.chunk(len(ours)))
    if empty:
        raise BadInput(f"checkpoint: {min(empty)!r} is missing in the {what}")
    return out


def _restored(weights: Weights, names: Names) -> Weights:
    """Weights under the original names: `_renamed` backwards."""
    back = {v: k for k, v in names.items() if isinstance(v, str)}
    joined = {part: (k, v) for k, v in names.items() if isinstance(v, tuple) for part in v}
    out: Weights = {}
    for key, t in weights.items():
        if key in joined:
            original, parts = joined[key]
            out[original] = torch.cat([weights[p] for p in parts])
        else:
            module = _look(key, back)
            if not module:
                raise BadInput(f"tensor {key!r} has no name in the original layout")
            out[back[module] + key[len(module) :]] = t
    return out


_SQUARE = re.compile(r".*mid_block\.attentions\.0\.to_(q|k|v|out\.0)\.weight")


def _flat(weights: Weights) -> Weights:
    """The autoencoder's attention is made of 1x1 convolutions there, of linear layers here."""
    is_flat = lambda v: (
        v.ndim > 2 and set(v.shape[2:]) == {1}
    )  # of any other shape: the network says that it does not fit
    return {
        k: v.reshape(v.shape[:2]) if _SQUARE.fullmatch(k) and is_flat(v) else v for k, v in weights.items()
    }


def _square(weights: Weights) -> Weights:
    return {k: v[:, :, None, None] if _SQUARE.fullmatch(k) else v for k, v in weights.items()}


def _under(weights: Weights, prefix: str) -> Weights:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _ema(weights: Weights) -> Weights:
    """The averaged copy of the UNet; its names have lost their dots."""
    out: Weights = {}
    for key in _under(weights, UNET):
        name = "model_ema." + (UNET.removeprefix("model.") + key).replace(".", "")
        if name not in weights:
            raise BadInput(f"checkpoint: it holds no averaged copy of {key!r}: use ema=False")
        out[key] = weights[name]
    return out


# --- what is it? --------------------------------------------------------------------------------------------

_OTHERS = {  # a piece of a key -> what the file is; the first that is found counts
    "conditioner.embedders.": "an SDXL checkpoint",
    "joint_blocks.": "an SD3 checkpoint",
    "text_encoders.": "an SD3 checkpoint",
    "double_blocks.": "a Flux checkpoint",
    "double_stream_blocks.": "a Flux-like checkpoint",
    "lora_": "a LoRA",
    "lora.down.": "a LoRA",
    "hada_w1": "a LoRA (LoHa)",
    "lokr_w1": "a LoRA (LoKr)",
    "control_model.": "a ControlNet",
    "controlnet_cond_embedding.": "a ControlNet",
    "motion_modules.": "a motion module",
    "string_to_param": "a textual inversion",
    "emb_params": "a textual inversion",
    "time_stack.": "a video model",
    "label_emb.": "a checkpoint conditioned on more than the prompt (an upscaler, unCLIP or SDXL)",
    "transformer_blocks.1.": "a UNet with several transformers in a row, as in SDXL",
    "down_blocks.0.resnets.": "one network of a folder in diffusers' layout (open the folder)",
}
_SINGLE = {
    "text_model.encoder.layers.": "a text encoder alone, without its prefix",
    "input_blocks.": "the UNet alone, without its prefix",
    "encoder.down.": "the autoencoder alone, without its prefix",
}


_MEANT = (
    "control_model.",
    "motion_modules.",
)  # beside a whole checkpoint: without them it draws something else
_WITHIN = (
    "joint_blocks.",
    "double_blocks.",
    "time_stack.",
    "label_emb.",
    "transformer_blocks.1.",
    "motion_modules.",
)  # in the UNet's names


def recognise(keys: Iterable[str], own_vae: bool = True) -> None:
    """BadInput when the names of the tensors are not those of a whole 1.x or 2.x checkpoint; it says what
    they are of instead.

    In a whole one the UNet's names and `_MEANT` alone are looked at: what else lies there is left out.
    own_vae: it needs an autoencoder.
    """
    keys = list(keys)
    has = {
        "the UNet": any(k.startswith(UNET) for k in keys),
        "the autoencoder": any(k.startswith(VAE) for k in keys),
        "the text encoder": any(k.startswith((TEXT_1, TEXT_2)) for k in keys),
    }
    looked_at = keys
    if has["the UNet"] and has["the text encoder"]:
        inside = lambda k: k.startswith(UNET) and any(p in k for p in _WITHIN)
        looked_at = [k for k in keys if k.startswith(_MEANT) or inside(k)]
    for piece, what in _OTHERS.items():
        if any(piece in k for k in looked_at):
            raise BadInput(f"the file is {what}, which is not supported (accepted: {SUPPORTED})")
    if not any(has.values()):
        raise _nothing(keys)
    _check_complete(has, own_vae)


def _nothing(keys: list[str]) -> BadInput:
    """The error for a file of which no name is one of Stable Diffusion's."""
    for piece, what in _SINGLE.items():
        if any(k.startswith(piece) for k in keys):
            return BadInput(f"the file is {what} (accepted: {SUPPORTED})")
    return BadInput(f"the file holds nothing of Stable Diffusion (accepted: {SUPPORTED})")


def _check_complete(has: dict[str, bool], own_vae: bool) -> None:
    missing, there = ([part for part, found in has.items() if found is wanted] for wanted in (False, True))
    if not missing or (missing == ["the autoencoder"] and not own_vae):
        return
    if missing == ["the autoencoder"]:
        raise BadInput(
            "the file holds the UNet and the text encoder only, the autoencoder is missing: name one"
            f" with --vae FOLDER (accepted: {SUPPORTED})"
        )
    raise BadInput(
        f"the file holds {' and '.join(there)} only, {' and '.join(missing)} is missing (accepted:"
        f" {SUPPORTED})"
    )


def _size(weights: Weights, key: str, ndim: int | tuple[int, ...] = 4) -> tuple[int, ...]:
    """The shape of a tensor that has to be there."""
    if key not in weights:
        raise BadInput(f"checkpoint: tensor {key!r} is missing")
    if weights[key].ndim not in (ndim if isinstance(ndim, tuple) else (ndim,)):
        raise BadInput(
            f"checkpoint: tensor {key!r} has shape {tuple(weights[key].shape)}, it should have {ndim} axes"
        )
    return tuple(weights[key].shape)


def _count(weights: Weights, prefix: str) -> int:
    """How many numbered modules there are: one more than the highest number after the prefix."""
    numbers = [int(m[1]) for k in weights if (m := re.match(re.escape(prefix) + r"(\d+)\.", k))]
    if not numbers:
        raise BadInput(f"checkpoint: it holds no {prefix}*")
    return max(numbers) + 1


def _unet_config(u: Weights) -> dict:
    count = _count(u, "input_blocks.")
    downs = [i for i in range(count) if f"input_blocks.{i}.0.op.weight" in u]
    each = (downs[0] if downs else count) - 1
    first = [1, *(i + 1 for i in downs)]  # of each block
    if each < 1 or count != (each + 1) * len(first) or first != list(range(1, count, each + 1)):
        raise BadInput(
            f"checkpoint: {count} input blocks, with resampling at {downs}, are not blocks of equal length"
        )
    widths = [_size(u, f"input_blocks.{i}.0.out_layers.3.weight")[0] for i in first]
    cross = [f"input_blocks.{i}.1.norm.weight" in u for i in first]
    linear = len(_size(u, "middle_block.1.proj_in.weight", (2, 4))) == 2
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "in_channels": _size(u, "input_blocks.0.0.weight")[1],
        "out_channels": _size(u, "out.2.weight")[0],
        "block_out_channels": widths,
        "layers_per_block": each,
        "down_block_types": ["CrossAttnDownBlock2D" if c else "DownBlock2D" for c in cross],
        "up_block_types": ["CrossAttnUpBlock2D" if c else "UpBlock2D" for c in reversed(cross)],
        "cross_attention_dim": _size(u, "middle_block.1.transformer_blocks.0.attn2.to_k.weight", 2)[1],
        "attention_head_dim": (
            [max(1, w // 64) for w in widths] if linear else 8
        ),  # heads, whatever it is called
        "use_linear_projection": linear,
        "upcast_attention": linear,
        "norm_num_groups": math.gcd(32, *widths),
    }


def _vae_config(v: Weights, sample_size: int) -> dict:
    n = _count(v, "encoder.down.")
    widths = [_size(v, f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(n)]
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": sample_size * 2 ** (n - 1),
        "in_channels": _size(v, "encoder.conv_in.weight")[1],
        "out_channels": _size(v, "decoder.conv_out.weight")[0],
        "latent_channels": _size(v, "post_quant_conv.weight")[0],
        "block_out_channels": widths,
        "layers_per_block": _count(v, "encoder.down.0.block."),
        "down_block_types": ["DownEncoderBlock2D"] * n,
        "up_block_types": ["UpDecoderBlock2D"] * n,
        "norm_num_groups": math.gcd(32, *widths),
        "scaling_factor": 0.18215,
    }


def _text_config(
    tokens: tuple[int, ...], positions: int, inner: int, layers: int, act: str, projection: int
) -> dict:
    # Ids as in the published folders. eos_token_id 2 is an old slip that everyone keeps: the pooled state is
    # that of the largest id.
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": tokens[0],
        "hidden_size": tokens[1],
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, tokens[1] // 64),
        "max_position_embeddings": positions,
        "hidden_act": act,
        "layer_norm_eps": 1e-5,
        "projection_dim": projection,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def _published(weights: Weights) -> Weights:
    """Text weights with the prefix that the published files have, and without position_ids, which are 0, 1, 2
    …
    """
    own = ("embeddings.", "encoder.", "final_layer_norm.")
    return {
        "text_model." + k if k.startswith(own) else k: v
        for k, v in weights.items()
        if not k.endswith("position_ids")
    }


def _clip(weights: Weights, left: dict[str, str]) -> Part:
    under = _under(weights, TEXT_1)
    for k in [k for k in under if k.removeprefix("text_model.") == "text_projection.weight"]:
        left[TEXT_1 + k] = leftovers.reason(k) or ""
        del under[k]
    t = _published(under)
    tokens = _size(t, "text_model.embeddings.token_embedding.weight", 2)
    return Part(
        _text_config(
            tokens,
            _size(t, "text_model.embeddings.position_embedding.weight", 2)[0],
            _size(t, "text_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
            _count(t, "text_model.encoder.layers."),
            "quick_gelu",
            tokens[1],
        ),
        t,
    )


def _openclip(weights: Weights, left: dict[str, str]) -> Part:
    """2.x reads the states before the last layer, so that one is left out; some converted files of the real
    size have done so already.
    """
    t = _under(weights, TEXT_2)
    tokens, blocks = _size(t, "token_embedding.weight", 2), _count(t, "transformer.resblocks.")
    layers = min(blocks, 23) if tokens[1] == 1024 else blocks - 1
    if layers < 1:
        raise BadInput(
            f"checkpoint: the text encoder has {blocks} layers: the last is left out, none would remain"
        )
    config = _text_config(
        tokens,
        _size(t, "positional_embedding", 2)[0],
        _size(t, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        layers,
        "gelu",
        512,
    )
    unused = tuple(f"transformer.resblocks.{i}." for i in range(layers, blocks))
    left |= {
        TEXT_2 + k: "the text encoder's last layer, which 2.x does not use" for k in t if k.startswith(unused)
    }
    used = {k: v for k, v in t.items() if not k.startswith(unused)}
    return Part(config, _renamed(used, text_names(config), "text encoder", left, TEXT_2))


def _unused_layer(text: Part) -> Weights:
    """OpenCLIP's last layer as zeros: what is read are the states before it."""
    i = text.config["num_hidden_layers"]
    one = {**text.config, "num_hidden_layers": 1}
    last = {
        k: torch.zeros_like(v)
        for k, v in _published(text.weights).items()
        if k.startswith("text_model.encoder.layers.0.")
    }
    return {k.replace(".0.", f".{i}.", 1): v for k, v in _restored(last, text_names(one)).items()}


def _prediction(
    weights: Weights, unet: Weights, config: dict, metadata: dict[str, str], given: str | None
) -> tuple[str, tuple[str, ...]]:
    """What the UNet predicts, and a note where that is a guess."""
    if given:
        return given, ()
    said = metadata.get("modelspec.prediction_type", "").lower()
    if said:
        return "v_prediction" if said.startswith("v") else "epsilon", ()
    if "v_pred" in weights:
        return "v_prediction", ()
    if not config["use_linear_projection"] or config["in_channels"] != 4:
        return "epsilon", ()  # inpainting, depth: all eps
    # Known from user interfaces: in 2.x this bias spreads by more than 0.09 in v models, by less in eps
    # models.
    bias = unet.get(f"output_blocks.{_count(unet, 'output_blocks.') - 1}.1.transformer_blocks.0.norm1.bias")
    kind = (
        "v_prediction"
        if bias is not None and not bias.is_meta and float(bias.float().std(correction=0)) > 0.09
        else "epsilon"
    )
    return kind, (
        (
            "whether this 2.x checkpoint predicts v or the noise is a guess from one of its tensors"
            f" ({kind}): give `prediction` if images are noise"
        ),
    )


def _scheduler(prediction: str, zero_snr: bool) -> dict:
    """Stable Diffusion's schedule. The sampler is a free choice: DDIM, at the timesteps of the original."""
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction,
        "timestep_spacing": "trailing" if zero_snr else "leading",
        "steps_offset": 1,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "rescale_betas_zero_snr": zero_snr,
    }
