"""Single parts of models: an autoencoder, a CLIP, a judge of scenes, as training makes them and later stages
read them.

vae/                                            an autoencoder alone, or that of any model folder
text_encoder/, tokenizer/, image_encoder/, clip/   a CLIP: both encoders as published, and in clip/ what joins
                                                   them: the text
                                                projection and the temperature (the text encoder is saved
                                                without its projection, since that is what a Stable Diffusion
                                                pipeline loads). Where the model reads prompts by another text
                                                encoder than CLIP's, clip/ holds CLIP's too, its config under
                                                "text_config"
"""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import Tensor

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.version import VERSION
from unnoise.codec import Latents
from unnoise.hub import store, weights
from unnoise.hub.catalog import find, model_of
from unnoise.hub.components import read_text, read_vae
from unnoise.hub.folder import Folder
from unnoise.hub.index import read_index
from unnoise.hub.saving import TOKENIZER, vae_config, weights_and_config
from unnoise.hub.stored import WEIGHTS, FolderReader, Stored, filled, read_json
from unnoise.nets import clip
from unnoise.nets.autoencoder import Autoencoder
from unnoise.nets.clip import TextEncoder
from unnoise.nets.table import TABLE, config_of
from unnoise.text.encode import PromptEncoder
from unnoise.text.tokenizer import Tokenizer


class ClipFile(BaseModel):
    """clip/config.json. text_config: of CLIP's own text encoder, where the model reads prompts by another."""

    projection_dim: int | None = None
    text_config: dict | None = None


JOIN = ("text_projection.weight", "logit_scale")


@dataclass(frozen=True)
class Clip:
    """Both encoders in one space, ready to compare pictures and texts."""

    net: clip.CLIP
    tokenizer: Tokenizer

    @torch.inference_mode()
    def images(self, images: np.ndarray, batch: int = 256) -> Tensor:
        """uint8 (n, h, w, 3) -> (n, d) unit vectors."""
        size = self.net.vision_model.config.image_size
        rows = [
            torch.from_numpy(np.ascontiguousarray(images[i : i + batch]))
            for i in range(0, len(images), batch)
        ]
        return torch.cat(
            [
                self.net.encode_image(clip.prepare(r.permute(0, 3, 1, 2).float() / 127.5 - 1, size))
                for r in rows
            ]
        )

    @torch.inference_mode()
    def texts(self, texts: list[str], batch: int = 256) -> Tensor:
        """Texts -> (n, d) unit vectors; of a text longer than one chunk the first is read."""
        ids = torch.tensor([self.tokenizer.chunks([(t, 1.0)] if t else [])[0].ids for t in texts])
        device = next(self.net.parameters()).device
        return torch.cat([self.net.encode_text(rows.to(device)) for rows in ids.split(batch)])


def save_autoencoder(folder: str | os.PathLike, name: str, codec: Latents) -> Path:
    """Write a folder with an autoencoder alone."""
    files = weights_and_config(f"vae/{WEIGHTS}", codec.net.state_dict(), vae_config(codec), None)
    return store.write_folder(
        folder, files, {**_index(name, "UnnoiseAutoencoder"), "vae": list(TABLE["vae"].twin)}
    )


@torch.inference_mode(False)
def load_autoencoder(name: str | os.PathLike, size: int) -> Latents:
    """The autoencoder of a model folder or bundled name, for pictures of size x size."""
    seen = _seen(name, "vae")
    codec = read_vae(seen, torch.float32, {"sample_size": size})
    return Latents.of(codec.net, size, size)


def has_text(name: str | os.PathLike) -> bool:
    """Whether a model folder or bundled name has a text encoder. BadInput: there is no such model."""
    return "text_encoder" in read_json(find(name) / "model_index.json")


@torch.inference_mode(False)
def load_text(name: str | os.PathLike) -> PromptEncoder:
    """The text encoder and tokenizer of a model folder or bundled name, in float32."""
    return read_text(_seen(name, "text_encoder"), torch.float32, None)


def clip_files(
    net: clip.CLIP, dtype: torch.dtype | None = None, text: TextEncoder | None = None
) -> dict[str, store.Content]:
    """The files of image_encoder/ and clip/. text: the encoder in text_encoder/; where it is not the CLIP's
    own, clip/ gets that as well.
    """
    tensors = net.state_dict()
    own = (
        {}
        if text is None or _same(text.text_model, net.text_model)
        else {k: v for k, v in tensors.items() if k.startswith("text_model.")}
    )
    image = {k: v for k, v in tensors.items() if k.startswith(("vision_model.", "visual_projection."))}
    c = net.vision_model.config
    config = {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        **config_of(net.vision_model),
    }
    return {
        **weights_and_config("image_encoder/model.safetensors", image, config, dtype),
        **weights_and_config(
            "clip/model.safetensors",
            {**{k: tensors[k] for k in JOIN}, **own},
            {
                "projection_dim": c.projection_dim,
                **({"text_config": config_of(net.text_model)} if own else {}),
            },
            dtype,
        ),
    }


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether two networks have the same weights, to half precision."""
    one, other = ({k: v.half() for k, v in m.state_dict().items()} for m in (a, b))
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


CLIP_INDEX = {"image_encoder": ["transformers", "CLIPVisionModelWithProjection"], "_clip": "clip"}


def save_clip(folder: str | os.PathLike, name: str, net: clip.CLIP, tokenizer: Tokenizer) -> Path:
    """Write a folder with a CLIP and its tokenizer."""
    text = {k: v for k, v in net.state_dict().items() if k.startswith("text_model.")}
    files = {**_text_files(text, config_of(net.text_model)), **clip_files(net), "tokenizer": tokenizer.save}
    return store.write_folder(folder, files, {**_index(name, "UnnoiseClip"), **TEXT_INDEX, **CLIP_INDEX})


TEXT_INDEX = {"text_encoder": list(TABLE["text_encoder"].twin), "tokenizer": TOKENIZER}


def save_text(folder: str | os.PathLike, name: str, text: PromptEncoder) -> Path:
    """Write a folder with a text encoder and its tokenizer alone."""
    files = {**_text_files(text.net.state_dict(), config_of(text.net)), "tokenizer": text.tokenizer.save}
    return store.write_folder(folder, files, {**_index(name, "UnnoiseText"), **TEXT_INDEX})


def _text_files(tensors: dict[str, Tensor], config: dict) -> dict[str, store.Content]:
    about = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", **config}
    return weights_and_config("text_encoder/model.safetensors", tensors, about, None)


@torch.inference_mode(False)
def load_clip(name: str | os.PathLike) -> Clip:
    """The CLIP of a model folder or bundled name. BadInput when it has none."""
    seen = _seen(name, "_clip")
    image = weights.read(
        seen.path / "image_encoder" / "model.safetensors", seen.known.get("image_encoder/model.safetensors")
    )
    join = weights.read(seen.path / "clip" / "model.safetensors", seen.known.get("clip/model.safetensors"))
    vision = clip.vision_config_from(read_json(seen.path / "image_encoder" / "config.json"))
    file = seen.path / "clip" / "config.json"
    if own := read.fit(ClipFile, read_json(file), str(file)).text_config:
        config, tokenizer = (
            clip.text_config_from({"model_type": "clip_text_model", **own}),
            Tokenizer.load(seen.path / "tokenizer"),
        )
    else:
        text = load_text(name)
        config, tokenizer = text.net.config, text.tokenizer
        join |= {k: v for k, v in text.net.state_dict().items() if k.startswith("text_model.")}
    both = config.model_copy(update={"projection_dim": vision.projection_dim})
    stored = Stored.of({**clip.published_keys(image), **join})
    return Clip(
        filled(lambda: clip.CLIP(both, vision), stored, seen.path / "image_encoder", torch.float32), tokenizer
    )


def clip_of(f: Folder) -> clip.CLIP | None:
    """The CLIP that lies in a model's folder, or None."""
    if f.path is None or not (f.path / "clip").is_dir():
        return None
    return load_clip(f.path).net


def _seen(name: str | os.PathLike, part: str) -> FolderReader:
    path = model_of(find(name))
    store.finish(path)
    index = read_index(path)
    if part not in index:
        raise BadInput(
            f"{path} has no {'clip' if part == '_clip' else part} (it has"
            f" {', '.join(k for k in index if not k.startswith('_'))})"
        )
    return FolderReader(path, index.get("_sha256", {}), None)


def _index(name: str, kind: str) -> dict:

    return {"_class_name": kind, "_unnoise_version": VERSION, "_name": name}


def measured(net: Autoencoder, images: Tensor, size: int) -> Latents:
    """The codec of a trained autoencoder: scale and shift such that the latents of `images` (n, 3, size,
    size) have mean 0 and standard deviation 1.
    """
    at = next(net.parameters()).device
    with torch.inference_mode():
        z = torch.cat([net.encode(x.to(at)).mean for x in images.split(64)])
    return centred(Latents(net, size, size, float(1 / z.std()), float(z.mean())))


@torch.no_grad()
def centred(codec: Latents) -> Latents:
    """The same codec with its shift moved into its network's biases, where it has such:
    StableDiffusionPipeline reads no shift_factor.
    """
    net, c = deepcopy(codec.net), codec.net.config.latent_channels
    if not (net.config.use_quant_conv and net.config.use_post_quant_conv):
        return codec
    before, after = net.quant_conv, net.post_quant_conv
    assert before.bias is not None and after.bias is not None
    before.bias[:c] -= codec.shift
    after.bias += codec.shift * after.weight.sum((1, 2, 3))
    return Latents(net, codec.height, codec.width, codec.scale)


def similar(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of all rows of a (n, d) with all of b (m, d): (n, m)."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
