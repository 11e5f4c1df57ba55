"""Model folders out: which files a model's parts become, and what model_index.json says of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.base.version import VERSION
from unnoise.codec import Codec
from unnoise.hub import schedulers, store
from unnoise.hub.store import Content
from unnoise.hub.stored import WEIGHTS
from unnoise.nets.table import DIFFUSERS, TABLE
from unnoise.process.section import ProcessSection
from unnoise.text.known import FILE, Known
from unnoise.text.words import Words

if TYPE_CHECKING:
    from unnoise.nets.clip import CLIP
    from unnoise.text.encode import PromptEncoder

Files = dict[str, Content]
Part = tuple[dict[str, Any], Files]  # what the index says of a part of a model, and its files
PUBLISHED = {
    "_diffusers_version": DIFFUSERS,
    "requires_safety_checker": False,
    **{k: [None, None] for k in ("safety_checker", "feature_extractor", "image_encoder")},
}


def save(
    folder: str | os.PathLike,
    *,
    name: str,
    kind: str,
    net: nn.Module,
    weights: dict[str, Tensor] | None,
    codec: Codec,
    words: Words | None,
    process: ProcessSection | None,
    defaults: dict | None = None,
    card: str = "",
    dtype: torch.dtype | None = None,
    text: PromptEncoder | None = None,
    clip: CLIP | None = None,
    known: Known | None = None,
) -> Path:
    """Write a model folder; in one that is there only the model's own files are replaced (`hub.store`).
    Returns its path.

    weights: None for the net's own. clip: the CLIP whose text encoder `text` is; its image encoder and what
    joins the two are kept with the model. BadInput: the folder exists and is not a model folder, cannot be
    written, or the weights are not finite.
    """
    folder = store.model_folder(folder)
    published = kind == "unet" and codec.autoencoder is not None and text is not None
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionPipeline" if published else "UnnoisePipeline",
        "_unnoise_version": VERSION,
        "_name": name,
        kind: list(TABLE[kind].twin),
        **(PUBLISHED if published else {}),
    }
    config = TABLE[kind].written(net)
    files = weights_and_config(f"{kind}/{WEIGHTS}", weights or net.state_dict(), config, dtype)
    for said, some in _beside(codec, words, process, defaults, dtype, text, clip):
        index |= said
        files |= some
    if defaults:
        index["_defaults"] = defaults
    if known:
        files[FILE] = known.content()
    if card:
        files["README.md"] = card.encode()
    return store.write_folder(folder, files, index)


def _beside(
    codec: Codec,
    words: Words | None,
    process: ProcessSection | None,
    defaults: dict | None,
    dtype: torch.dtype | None,
    text: PromptEncoder | None,
    clip: CLIP | None,
) -> list[Part]:
    """The parts beside the network, in the order of the index."""
    from unnoise.hub import parts

    found = [_codec(codec, dtype)]
    if text:
        found.append(_text(text, dtype))
    if clip:
        found.append((parts.CLIP_INDEX, parts.clip_files(clip, dtype, text.net if text else None)))
    if words:
        found.append(({"words": ["unnoise", "Words"]}, {"words/config.json": _json(words.config())}))
    if process:
        found.append(_scheduler(process, defaults or {}))
    return found


def _codec(codec: Codec, dtype: torch.dtype | None) -> Part:
    if codec.autoencoder is None:
        index = {"codec": ["unnoise", type(codec).__name__]}
        return index, {"codec/config.json": _json(codec.config())}
    tensors = codec.autoencoder.state_dict()
    files = weights_and_config(f"vae/{WEIGHTS}", tensors, vae_config(codec), dtype)
    return {"vae": list(TABLE["vae"].twin)}, files


def _text(text: PromptEncoder, dtype: torch.dtype | None) -> Part:
    config = TABLE["text_encoder"].written(text.net)
    files = weights_and_config("text_encoder/model.safetensors", text.net.state_dict(), config, dtype)
    index = {"text_encoder": ["transformers", *config["architectures"]], "tokenizer": TOKENIZER}
    return index, {**files, "tokenizer": text.tokenizer.save}


TOKENIZER = ["transformers", "CLIPTokenizer"]


def _scheduler(process: ProcessSection, defaults: dict) -> Part:
    config = schedulers.write(process, defaults)
    kind = config["_class_name"]
    index = {"scheduler": ["unnoise" if kind.startswith("Unnoise") else "diffusers", kind]}
    return index, {"scheduler/scheduler_config.json": _json(config)}


def vae_config(codec: Codec) -> dict[str, Any]:
    """What a published autoencoder's file says, of a codec that has one."""
    said = codec.config()
    return {
        **TABLE["vae"].written(codec.autoencoder),
        "scaling_factor": said["scale"],
        "shift_factor": said["shift"] or None,
    }


def weights_and_config(
    file: str, tensors: dict[str, Tensor], config: dict[str, Any], dtype: torch.dtype | None
) -> Files:
    """The files of a network: its tensors, in dtype where one is asked for, and its config.json beside them.
    BadInput, now or when they are written: a value that is not finite.
    """
    for k, v in tensors.items():
        if v.is_floating_point() and not torch.isfinite(v).all():
            raise BadInput(f"refusing to save {file}: tensor {k!r} is not finite")

    def cast(v: Tensor) -> Tensor:
        return (v.to(dtype) if dtype and v.is_floating_point() else v).detach().cpu().contiguous()

    def write(path: Path) -> None:
        stored = {k: cast(v) for k, v in tensors.items()}
        for k, v in stored.items():
            if dtype and v.is_floating_point() and not torch.isfinite(v).all():
                kind = str(dtype).removeprefix("torch.")
                raise BadInput(f"refusing to save {file}: tensor {k!r} has values beyond {kind}")
        save_file(stored, path, metadata={"format": "pt"})

    return {file: write, f"{file.split('/')[0]}/config.json": _json(config)}


def _json(d: dict[str, Any]) -> bytes:
    return json.dumps(d, indent=2).encode() + b"\n"
