"""Sets, folders and files as training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unnoise import codec as codecs
from unnoise.base.errors import BadInput, unknown
from unnoise.data import Data, batch_indices, load, splits
from unnoise.nets.unet import UNetConfig
from unnoise.process import noise
from unnoise.train.items import Items
from unnoise.train.recipe import Recipe
from unnoise.train.sources.protocol import Index, Source, Where


@dataclass(frozen=True)
class SetSource(Source):
    """A data set as the networks see it: encoded on the fly, in the order that (seed, position) fixes."""

    data: Data
    codec: codecs.Codec
    labels: np.ndarray | None
    words: tuple[str, ...]

    def indices(self, seed: int, where: Where) -> np.ndarray:
        return batch_indices(len(self.data), seed, *where)

    def fetch(
        self, index: Index, seed: int = 0, place: Index | None = None, shift: int = 0, mirror: float = 0.0
    ) -> Items:
        return Items(self.encode(index, seed, place, shift, mirror), self._label(index), {})

    def encode(
        self, index: Index, seed: int = 0, place: Index | None = None, shift: int = 0, mirror: float = 0.0
    ) -> Tensor:
        """Items as a tensor in the codec's space; augmentation is drawn by place where places are given."""
        items = self.data.x[index]
        if place is not None and (shift or mirror):
            items = np.stack([augment(x, seed, int(p), shift, mirror) for x, p in zip(items, place)])
        return self.codec.encode(items)

    def _label(self, index: Index) -> Tensor | None:
        return None if self.labels is None else torch.from_numpy(self.labels[index])

    def judged(self, n: int, seed: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(seed)).permutation(len(self.data))[:n]

    def overlaps(self, train: Source) -> bool:
        return self.data.split == train.data.split

    def held_out(self, recipe: Recipe) -> SetSource:
        """The validation split in this codec and numbering of words; this split where there is no other.

        A folder or file without "test" is judged by its "validation". An item whose words were not trained on
        gets the null label, len(words). BadInput: the split is broken, of other sizes than this one, or
        without its captions.
        """
        d = recipe.data
        there, wanted = splits(d.name), d.validation
        if wanted == "test" and wanted not in there:
            wanted = "validation" if "validation" in there else d.split
        data = without(load(d.name, wanted), d.without)
        _check_alike(data, self)
        return SetSource(data, self.codec, _numbered(data, self), self.words)


def augment(x: np.ndarray, seed: int, position: int, shift: int, mirror: float) -> np.ndarray:
    """Translate by up to `shift` pixels, the edge repeated, and mirror with the given chance."""
    a, b, c = noise.uniform(seed, "augment", position, (3,)).tolist()
    dy, dx = (int(v * (2 * shift + 1)) for v in (a, b))
    if shift:
        wide = np.pad(x, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
        x = wide[dy : dy + x.shape[0], dx : dx + x.shape[1]]
    return x[:, ::-1] if c < mirror else x


def open_set(recipe: Recipe, split: str) -> SetSource:
    """A split of a known set, or of what lies at a path, with the codec that fits it. BadInput: no such data,
    or they do not fit.
    """
    d = recipe.data
    data = without(load(d.name, split), d.without)
    labels, words = _classes(data)
    if data.x.ndim != 4 and (d.shift or d.mirror):
        raise BadInput(
            f"data.shift and data.mirror move images; {d.name} has items of shape {data.x.shape[1:]}"
        )
    return SetSource(data, codecs.codec_for(data.x, recipe.patch, _multiple(recipe)), labels, words)


def _multiple(recipe: Recipe) -> int:
    """What sides are to be divisible by, in patches: a UNet halves them between its blocks."""
    if recipe.net.get("kind") != "unet":
        return 1
    usual = UNetConfig.model_fields["block_out_channels"].default
    return 2 ** (len(recipe.net.get("block_out_channels", usual)) - 1)


def _classes(data: Data) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels and words; equal captions are a class."""
    if data.labels is not None or data.captions is None:
        return data.labels, data.words
    words = tuple(sorted(set(data.captions)))
    index = {w: i for i, w in enumerate(words)}
    return np.array([index[c] for c in data.captions], dtype=np.int64), words


def without(data: Data, words: Sequence[str]) -> Data:
    """The items of other classes than those named. BadInput: no such class, or none is left."""
    if not words:
        return data
    for word in words:
        if word not in data.words:
            raise unknown(f"data.without, a class of {data.name}", word, data.words)
    assert data.labels is not None
    kept = np.flatnonzero(~np.isin(data.labels, [data.words.index(w) for w in words]))
    if not len(kept):
        raise BadInput(f"data.without leaves nothing of {data.name}")
    return data.take(kept)


def _check_alike(data: Data, train: SetSource) -> None:
    there = train.data
    if data.x.shape[1:] != there.x.shape[1:] or data.x.dtype != there.x.dtype:
        kinds = [f"{d.x.dtype} {d.x.shape[1:]}" for d in (data, there)]
        raise BadInput(
            f"{data.name}: items of its {data.split} split are {kinds[0]}, those of its {there.split} split"
            f" {kinds[1]}"
        )
    if train.labels is not None and data.labels is None and data.captions is None:
        raise BadInput(
            f"{data.name}: its {data.split} split has no captions or classes, and its {there.split} split has"
        )


def _numbered(data: Data, train: SetSource) -> np.ndarray | None:
    """Labels in the numbering of the training split; len(train.words) for words that it has not."""
    if train.labels is None:
        return None
    if data.labels is not None and data.words == train.words:
        return data.labels
    index = {w: i for i, w in reversed(list(enumerate(train.words)))}
    captions = [data.caption(i) or "" for i in range(len(data))]
    return np.array([index.get(c, len(train.words)) for c in captions], dtype=np.int64)
