"""The parts of a model beside its network, read: codec, prompt encoder, words, schedule."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unnoise import codec as codecs
from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.codec import Latents
from unnoise.hub import schedulers, weights
from unnoise.hub.catalog import find
from unnoise.hub.stored import FolderReader, Stored, digest_of, network, read_json
from unnoise.nets.clip import TextEncoder
from unnoise.text.words import Words, WordsFile

if TYPE_CHECKING:
    from unnoise.nets.autoencoder import Autoencoder
    from unnoise.text.encode import PromptEncoder

Left = dict[str, dict[str, str]]  # of each part: tensors that nothing reads, and why
Config = dict[str, Any]


def read_codec(reader: FolderReader, index: Config, dtype: torch.dtype, unet: Config) -> codecs.Codec:
    """Data <-> tensors of a folder: by its autoencoder, or by what its codec/config.json says."""
    if "vae" in index:
        return read_vae(reader, dtype, unet)
    file = reader.path / "codec" / "config.json"
    return codecs.from_config(read_json(file), str(file))


def read_vae(reader: FolderReader, dtype: torch.dtype, unet: Config) -> Latents:
    """The codec of a folder's autoencoder, at the size that the UNet was trained for."""
    folder = reader.path / "vae"
    config = read_json(folder / "config.json")
    return latents(config, reader.stored("vae"), folder, dtype, unet, reader.left_out)


def latents(
    config: Config, stored: Stored, where: Path, dtype: torch.dtype, unet: Config, left: Left
) -> Latents:
    """The codec of a latent model: its autoencoder, at the size that the UNet was trained for."""
    net: Autoencoder = network("vae", config, stored, where, dtype, left)  # type: ignore[assignment]
    c, f = net.config, net.config.factor
    size = unet.get("sample_size") or (c.sample_size // f if isinstance(c.sample_size, int) else 64)
    h, w = (size, size) if isinstance(size, int) else size
    try:
        return Latents.of(net, h * f, w * f)
    except BadInput as e:
        raise BadInput(f"{where}: {e} (from the UNet's sample_size {short(size)})") from None


def other_vae(given: str | os.PathLike, dtype: torch.dtype, unet: Config) -> tuple[Latents, str]:
    """(the codec, its digest) of an autoencoder of its own: of a model folder, in a folder alone, or in a
    single file in the original layout (whole or alone). BadInput: none of these.
    """
    path = find(given)
    if os.path.isfile(path):
        return _vae_of_file(path, dtype, unet), weights.sha256_of(path)
    inner = path / "vae" if os.path.isdir(path / "vae") else path
    if not os.path.isfile(inner / "config.json"):
        raise BadInput(
            f"{path} holds no autoencoder: a model folder with a vae/, the folder of one, or a .safetensors"
            " file is accepted"
        )
    reader = FolderReader(inner.parent, {}, None)
    config = read_json(inner / "config.json")
    codec = latents(config, reader.stored(inner.name), inner, dtype, unet, {})
    return codec, digest_of(reader.read)


def _vae_of_file(path: Path, dtype: torch.dtype, unet: Config) -> Latents:
    from unnoise.hub import original

    config = original.autoencoder(weights.shapes(weights.header(path))).config
    tensors = original.autoencoder(weights.opened(path)).weights
    return latents(config, Stored.of(tensors, weights.examine(path).bad), path, dtype, unet, {})


def read_text(reader: FolderReader, dtype: torch.dtype, tokenizer: str | os.PathLike | None) -> PromptEncoder:
    """The prompt encoder of a folder, with another tokenizer's folder where one is named."""
    folder = reader.path / "text_encoder"
    config, stored = read_json(folder / "config.json"), reader.stored("text_encoder")
    files = Path(tokenizer or reader.path / "tokenizer")
    return prompt_encoder(config, stored, folder, dtype, files, reader.left_out)


def prompt_encoder(
    config: Config, stored: Stored, where: Path, dtype: torch.dtype, tokenizer: Path, left: Left
) -> PromptEncoder:
    """Tokenizer and text encoder as one, checked to fit each other."""
    from unnoise.text.encode import PromptEncoder
    from unnoise.text.tokenizer import Tokenizer

    net = network("text_encoder", config, stored, where, dtype, left)
    assert isinstance(net, TextEncoder)
    return PromptEncoder(Tokenizer.load(tokenizer), net)


def read_words(path: Path) -> Words:
    """The closed vocabulary of a model of classes. BadInput: the file is broken."""
    return Words(tuple(read.fit(WordsFile, read_json(path), str(path)).words))


def scheduling(path: Path, index: Config) -> schedulers.Sampling:
    """The process, and the defaults: what the folder's own section says, else what its published scheduler
    does.
    """
    file, latent = path / "scheduler" / "scheduler_config.json", "vae" in index
    config = read_json(file)
    try:
        found = schedulers.read(config, latents=latent)
    except BadInput as e:
        raise BadInput(f"{file}: {e}") from None
    note = schedulers.unsaid(config) if latent else None
    if note:
        warnings.warn(f"{file}: {note}", stacklevel=5)  # where `hub.load` was called
        found = replace(found, notes=(*found.notes, note))
    try:
        own = schedulers.checked(index.get("_defaults", {}), found.defaults)
    except BadInput as e:
        raise BadInput(f"{path / 'model_index.json'}: {e}") from None
    return replace(found, defaults={**found.defaults, **own})
