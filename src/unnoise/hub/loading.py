"""A model by its name: a folder in the published layout, or a single file in Stable Diffusion's original one.

A weight file may carry a variant (`….fp16.safetensors`) or be cut into shards (`….safetensors.index.json`). A
single file (`hub.original`) has no tokenizer: one beside it is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unnoise.base.errors import BadInput
from unnoise.codec import Latents
from unnoise.hub import schedulers, store, weights
from unnoise.hub.catalog import check_family, find, model_of
from unnoise.hub.components import (
    latents,
    other_vae,
    prompt_encoder,
    read_codec,
    read_text,
    read_words,
    scheduling,
)
from unnoise.hub.folder import Folder, checked
from unnoise.hub.index import read_index
from unnoise.hub.stored import FolderReader, Stored, digest_of, network, read_json
from unnoise.nets.table import NETS

if TYPE_CHECKING:
    from unnoise.hub import original

PathLike = str | os.PathLike


@torch.inference_mode(False)
def load(
    name: PathLike,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    tokenizer: PathLike | None = None,
    prediction: str | None = None,
    vae: PathLike | None = None,
) -> Folder:
    """Load and check a model folder or checkpoint file. BadInput names the file that is missing, broken or
    does not fit.

    variant: of the weight files ("fp16"); None takes the plain ones, or the only variant there is. tokenizer:
    the folder of one, instead of the model's own. prediction: what the UNet of a single file predicts
    ("epsilon", "v_prediction"), where the file does not say it and the guess is wrong. vae: another
    autoencoder than the model's (see `other_vae`). The folder of one part stands for the model that it lies
    in. Nothing is run from the folder, and what a config asks for is compared with its weights' headers
    before any memory is taken for it.
    """
    path = find(name)
    if os.path.isfile(path):
        return _of_file(path, dtype, tokenizer, prediction, vae)
    if prediction:
        raise BadInput(f"prediction is for single-file checkpoints, {path} says itself what it predicts")
    path = model_of(path)
    store.finish(path)
    return _of_folder(path, dtype, variant, tokenizer, vae)


def _of_folder(
    path: Path, dtype: torch.dtype, variant: str | None, tokenizer: PathLike | None, vae: PathLike | None
) -> Folder:
    index = read_index(path)
    check_family(index, path)
    kind = _kind(path, index)
    reader = FolderReader(path, index.get("_sha256", {}), variant)
    scheduled = NETS[kind].scheduled or "scheduler" in index
    sampling = scheduling(path, index) if scheduled else None
    config = read_json(path / kind / "config.json")
    net = network(kind, config, reader.stored(kind), path / kind, dtype, reader.left_out)
    if vae is not None:
        codec, more = other_vae(vae, dtype, config)
    else:
        codec, more = read_codec(reader, index, dtype, config), ""
    text = read_text(reader, dtype, tokenizer) if "text_encoder" in index else None
    words = read_words(path / "words" / "config.json") if "words" in index else None
    return checked(
        Folder(
            name=index.get("_name") or path.resolve().name,
            net=net,
            kind=kind,
            codec=codec,
            words=words,
            process=sampling.process if sampling else None,
            defaults=sampling.defaults if sampling else {},
            sha256=reader.digest(index, more),
            path=path,
            text=text,
            left_out=reader.left_out,
            notes=sampling.notes if sampling else (),
        )
    )


def _kind(path: Path, index: dict[str, Any]) -> str:
    """The kind of the network that a folder is named for."""
    kind = next((k for k in NETS if k in index), None)
    if kind is None:
        raise BadInput(
            f"{path / 'model_index.json'} names none of the networks that are supported ({', '.join(NETS)})"
        )
    return kind


def _of_file(
    path: Path, dtype: torch.dtype, tokenizer: PathLike | None, prediction: str | None, vae: PathLike | None
) -> Folder:
    """A single-file checkpoint of Stable Diffusion in the original layout."""
    parts, files = _parts(path, tokenizer, prediction, vae is None)
    sampling = schedulers.read(parts.scheduler, latents=True)
    left: dict[str, dict[str, str]] = {"checkpoint": dict(parts.left_out)}
    bad = weights.examine(path).bad
    stored = lambda part: Stored.of(part.weights, bad)
    net = network("unet", parts.unet.config, stored(parts.unet), path, dtype, left)
    codec, digest = _codec_of_file(path, parts, stored, dtype, vae, left)
    read = parts.text_encoder
    text = prompt_encoder(read.config, stored(read), path, dtype, files, left)
    return checked(
        Folder(
            name=path.stem,
            net=net,
            kind="unet",
            codec=codec,
            words=None,
            process=sampling.process,
            defaults=sampling.defaults,
            sha256=digest,
            path=path,
            text=text,
            left_out={k: v for k, v in left.items() if v},
            notes=(*parts.notes, *sampling.notes),
        )
    )


def _codec_of_file(
    path: Path,
    parts: original.Parts,
    stored: Callable[[original.Part], Stored],
    dtype: torch.dtype,
    vae: PathLike | None,
    left: dict[str, dict[str, str]],
) -> tuple[Latents, str]:
    """The codec, and the model's digest: the file's where its autoencoder is the file's own."""
    if vae is None:
        assert parts.vae is not None
        codec = latents(parts.vae.config, stored(parts.vae), path, dtype, parts.unet.config, left)
        return codec, weights.sha256_of(path)
    codec, more = other_vae(vae, dtype, parts.unet.config)
    return codec, digest_of({"": weights.sha256_of(path)}, more)


def _parts(
    path: Path, tokenizer: PathLike | None, prediction: str | None, with_vae: bool
) -> tuple[original.Parts, Path]:
    """The parts of a single file, and the folder of its tokenizer. What is wrong is said by its header,
    before anything else is read.
    """
    from unnoise.hub import original

    head = weights.header(path)
    original.convert(weights.shapes(head), head.metadata, prediction, own_vae=with_vae)
    beside = (path.parent / "tokenizer", path.with_suffix("") / "tokenizer")
    found = tokenizer or next((p for p in beside if p.is_dir()), None)
    if found is None:
        raise BadInput(
            f"{path} is a single-file checkpoint, which has no tokenizer: put the model's tokenizer folder"
            f" (vocab.json and merges.txt) beside it as {beside[0]}, or name it with tokenizer="
        )
    parts = original.convert(weights.opened(path), head.metadata, prediction, own_vae=with_vae)
    return parts, Path(found)
