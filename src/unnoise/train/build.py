"""From a recipe and its data to the parts of a run: codec, network, data stream."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from unnoise import codec as codecs
from unnoise.data import Data
from unnoise.data import load as load_data
from unnoise.errors import BadInput, unknown
from unnoise.nets.classifier import Classifier, ClassifierConfig
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.nets.unet import UNet, UNetConfig, config_from
from unnoise.process import noise
from unnoise.train.recipe import Recipe

NETS = ("unet", "mlp", "classifier")


@dataclass(frozen=True)
class Source:
    """A training set as the networks see it: encoded on the fly, in the order that (seed, position) fixes."""

    data: Data
    codec: codecs.Codec
    labels: np.ndarray | None
    words: tuple[str, ...]

    def encode(self, indices: np.ndarray, seed: int = 0, positions: np.ndarray | None = None, shift: int = 0, mirror: float = 0.0) -> Tensor:
        """Items as a tensor in the codec's space; augmentation is drawn by position where positions are given."""
        items = self.data.x[indices]
        if positions is not None and (shift or mirror):
            items = np.stack([_augment(x, seed, int(p), shift, mirror) for x, p in zip(items, positions)])
        return self.codec.encode(items)

    def label(self, indices: np.ndarray) -> Tensor | None:
        return None if self.labels is None else torch.from_numpy(self.labels[indices])


def _augment(x: np.ndarray, seed: int, position: int, shift: int, mirror: float) -> np.ndarray:
    """Translate by up to `shift` pixels, the edge repeated, and mirror with the given chance."""
    a, b, c = noise.uniform(seed, "augment", position, (3,)).tolist()
    dy, dx = (int(v * (2 * shift + 1)) for v in (a, b))
    if shift:
        wide = np.pad(x, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
        x = wide[dy : dy + x.shape[0], dx : dx + x.shape[1]]
    return x[:, ::-1] if c < mirror else x


def source(recipe: Recipe, split: str | None = None) -> Source:
    """The recipe's data (its training split unless another is named) with the codec that fits the training split."""
    data = load_data(recipe.data.name, split or recipe.data.split)
    words, labels = data.words, data.labels
    if labels is None and data.captions is not None:
        words = tuple(sorted(set(data.captions)))
        index = {w: i for i, w in enumerate(words)}
        labels = np.array([index[c] for c in data.captions], dtype=np.int64)
    blocks = len(recipe.net.get("block_out_channels", UNetConfig.model_fields["block_out_channels"].default))
    multiple = 2 ** (blocks - 1) if recipe.net.get("kind") == "unet" else 1
    return Source(data, codecs.codec_for(data.x, recipe.patch, multiple), labels, words)


def network(recipe: Recipe, src: Source) -> nn.Module:
    """The recipe's network, weights drawn from its seed; sizes and class counts that follow from the data are filled in."""
    d = dict(recipe.net)
    kind = d.pop("kind", None)
    if kind not in NETS: raise unknown("net kind", kind, NETS)
    shape = src.codec.shape(1)[1:]
    classes = len(src.words) if src.labels is not None else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if kind == "unet":
            if len(shape) != 3: raise BadInput(f"net kind 'unet' needs images, the data has shape {tuple(shape)} (use 'mlp')")
            size = {"sample_size": shape[1] if shape[1] == shape[2] else shape[1:], "in_channels": shape[0], "out_channels": shape[0]}
            return UNet(config_from({**size, "num_class_embeds": classes + 1 if classes else None, "time": recipe.process.clock != "none", **d}))
        if kind == "mlp":
            size = {"size": int(np.prod(shape)), "num_class_embeds": classes + 1 if classes else None, "time": recipe.process.clock != "none"}
            return MLP(_config(MLPConfig, {**size, **d}))
        if classes is None: raise BadInput(f"net kind 'classifier' needs labels, and {recipe.data.name!r} has none")
        return Classifier(_config(ClassifierConfig, {"channels": shape[0], "classes": classes, **d}))


def _config(model, d: dict):
    for key in d:
        if key not in model.model_fields: raise unknown("net key", key, model.model_fields)
    try: return model(**d)
    except ValueError as e: raise BadInput(f"net: {' '.join(str(e).splitlines()[1:3])}") from e
