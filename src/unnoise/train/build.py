"""From a recipe and its data to the parts of a run: codec, network, data stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from unnoise import codec as codecs
from unnoise.base.errors import BadInput, unknown
from unnoise.base.read import explain, unknown_key
from unnoise.data import Data, batch_indices, splits
from unnoise.data import load as load_data
from unnoise.nets.classifier import Classifier, ClassifierConfig
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.nets.unet import FIXED, UNet, UNetConfig, config_from
from unnoise.process import noise
from unnoise.train import objective, perceptual, upscale, worlds
from unnoise.train.initial import near_linear
from unnoise.train.recipe import Recipe
from unnoise.train.tasks import KIND, TASKS, Matcher, Through
from unnoise.train.unused import check_used
from unnoise.train.words import WordSource
from unnoise.train.worlds import Items

NETS: dict[str, tuple[type[nn.Module], type[BaseModel]]] = {
    "unet": (UNet, UNetConfig),
    "mlp": (MLP, MLPConfig),
    "classifier": (Classifier, ClassifierConfig),
}
KINDS = tuple(dict.fromkeys((*NETS, *KIND.values())))


@dataclass(frozen=True)
class Source:
    """A data set as the networks see it: encoded on the fly, in the order that (seed, position) fixes."""

    data: Data
    codec: codecs.Codec
    labels: np.ndarray | None
    words: tuple[str, ...]

    def encode(
        self,
        indices: np.ndarray,
        seed: int = 0,
        positions: np.ndarray | None = None,
        shift: int = 0,
        mirror: float = 0.0,
    ) -> Tensor:
        """Items as a tensor in the codec's space; augmentation is drawn by position where positions are
        given.
        """
        items = self.data.x[indices]
        if positions is not None and (shift or mirror):
            items = np.stack([_augment(x, seed, int(p), shift, mirror) for x, p in zip(items, positions)])
        return self.codec.encode(items)

    def label(self, indices: np.ndarray) -> Tensor | None:
        return None if self.labels is None else torch.from_numpy(self.labels[indices])

    def indices(self, seed: int, where: tuple[int, ...]) -> np.ndarray:
        """The items at the places `where` of the stream (see `data.positions`)."""
        return batch_indices(len(self.data), seed, *where)

    def fetch(
        self,
        index: np.ndarray,
        seed: int = 0,
        place: np.ndarray | None = None,
        shift: int = 0,
        mirror: float = 0.0,
    ) -> Items:
        return Items(self.encode(index, seed, place, shift, mirror), self.label(index), {})


def _augment(x: np.ndarray, seed: int, position: int, shift: int, mirror: float) -> np.ndarray:
    """Translate by up to `shift` pixels, the edge repeated, and mirror with the given chance."""
    a, b, c = noise.uniform(seed, "augment", position, (3,)).tolist()
    dy, dx = (int(v * (2 * shift + 1)) for v in (a, b))
    if shift:
        wide = np.pad(x, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
        x = wide[dy : dy + x.shape[0], dx : dx + x.shape[1]]
    return x[:, ::-1] if c < mirror else x


# --- data ---------------------------------------------------------------------------------------------------

AnySource = Source | worlds.SceneSource | worlds.LatentSource | WordSource


def source(recipe: Recipe, split: str | None = None) -> AnySource:
    """The recipe's training split (or another), with the codec that fits it. BadInput: no such data, or it
    does not fit.
    """
    if worlds.named(recipe.data.name):
        return worlds.source(recipe, split or recipe.data.split)
    if recipe.task in TASKS and recipe.task != "score":
        raise BadInput(
            f"task {recipe.task!r} learns from scenes (emoji-scenes, emoji-starter-scenes), given data"
            f" {recipe.data.name!r}"
        )
    data = _some(load_data(recipe.data.name, split or recipe.data.split), recipe.data.without)
    words, labels = data.words, data.labels
    if labels is None and data.captions is not None:
        words = tuple(sorted(set(data.captions)))
        index = {w: i for i, w in enumerate(words)}
        labels = np.array([index[c] for c in data.captions], dtype=np.int64)
    if data.x.ndim != 4 and (recipe.data.shift or recipe.data.mirror):
        raise BadInput(
            f"data.shift and data.mirror move images; {recipe.data.name} has items of shape"
            f" {data.x.shape[1:]}"
        )
    blocks = len(recipe.net.get("block_out_channels", UNetConfig.model_fields["block_out_channels"].default))
    multiple = 2 ** (blocks - 1) if recipe.net.get("kind") == "unet" else 1
    return Source(data, codecs.codec_for(data.x, recipe.patch, multiple), labels, words)


def held_out(recipe: Recipe, train: AnySource) -> AnySource:
    """The validation split in the training split's codec and numbering of words; training data where there is
    no other split.

    A folder or file without "test" is judged by its "validation". An item whose words were not trained on
    gets the null label, len(train.words). BadInput: the split is broken, of other sizes than the training
    split, or without its captions.
    """
    if not isinstance(train, Source):
        return train.held_out(recipe.data.validation, recipe.log.validation_samples)
    d = recipe.data
    there, wanted = splits(d.name), d.validation
    if wanted == "test" and wanted not in there:
        wanted = "validation" if "validation" in there else d.split
    data = _some(load_data(d.name, wanted), d.without)
    _check_alike(data, train)
    labels = _numbered(data, train)
    if recipe.task == "classify" and labels is not None and (labels == len(train.words)).any():
        raise BadInput(
            f"{recipe.data.name}: its {data.split} split has a class that its {train.data.split} split"
            " has not"
        )
    return Source(data, train.codec, labels, train.words)


def _check_alike(data: Data, train: Source) -> None:
    own = train.data
    if data.x.shape[1:] != own.x.shape[1:] or data.x.dtype != own.x.dtype:
        kinds = [f"{d.x.dtype} {d.x.shape[1:]}" for d in (data, own)]
        raise BadInput(
            f"{data.name}: items of its {data.split} split are {kinds[0]}, those of its {own.split} split"
            f" {kinds[1]}"
        )
    if train.labels is not None and data.labels is None and data.captions is None:
        raise BadInput(
            f"{data.name}: its {data.split} split has no captions or classes, and its {own.split} split has"
        )


def _some(data: Data, without: Sequence[str]) -> Data:
    """The items of other classes than those named. BadInput: no such class, or none is left."""
    if not without:
        return data
    for word in without:
        if word not in data.words:
            raise unknown(f"data.without, a class of {data.name}", word, data.words)
    assert data.labels is not None
    kept = np.flatnonzero(~np.isin(data.labels, [data.words.index(w) for w in without]))
    if not len(kept):
        raise BadInput(f"data.without leaves nothing of {data.name}")
    return data.take(kept)


def _numbered(data: Data, train: Source) -> np.ndarray | None:
    if train.labels is None:
        return None
    if data.labels is not None and data.words == train.words:
        return data.labels
    index = {w: i for i, w in reversed(list(enumerate(train.words)))}
    return np.array(
        [index.get(data.caption(i) or "", len(train.words)) for i in range(len(data))], dtype=np.int64
    )


# --- network ------------------------------------------------------------------------------------------------


def check(recipe: Recipe) -> None:
    """BadInput where what can be told without the data does not fit: net kind and keys, and what `[process]`
    names.
    """
    kind = recipe.net.get("kind")
    if kind not in KINDS:
        raise unknown("net.kind", kind, KINDS)
    fits = {
        "denoise": ("unet", "mlp"),
        "classify": ("classifier",),
        **{task: (own,) for task, own in KIND.items()},
    }
    if kind not in fits[recipe.task]:
        which = "; ".join(f"{task}: {', '.join(kinds)}" for task, kinds in fits.items())
        raise BadInput(f"task {recipe.task!r} does not go with net.kind {kind!r} ({which})")
    if recipe.data.tint and recipe.task != "recognise":
        raise BadInput("data.tint is for task 'recognise': other networks are to keep colours")
    check_used(recipe)
    if recipe.task in TASKS:
        TASKS[recipe.task](recipe)
        return
    if recipe.task == "denoise":
        perceptual.keys(recipe)
    elif recipe.objective:
        raise BadInput(
            f"task {recipe.task!r} has no [objective] (given {', '.join(recipe.objective)}); see [process]"
        )
    if recipe.data.low and (recipe.task != "denoise" or kind != "unet" or worlds.named(recipe.data.name)):
        raise BadInput("data.low is for task 'denoise' with net.kind 'unet' on pictures")
    if recipe.data.masked and (recipe.task != "denoise" or kind != "unet" or recipe.data.low):
        raise BadInput("data.masked is for task 'denoise' with net.kind 'unet', without data.low")
    _config(kind, {"size": 1, **_own(recipe)} if kind == "mlp" else _own(recipe))
    if recipe.task == "denoise" or recipe.net.get("time"):
        objective.resolve(recipe.process)
    if recipe.task == "classify" and recipe.net.get("time") and recipe.process.clock == "none":
        raise BadInput(
            "net.time asks for the time of noisy samples, and process.clock 'none' gives none (accepted:"
            " table, c_noise)"
        )


def network(recipe: Recipe, src: AnySource) -> nn.Module:
    """The recipe's network, weights drawn from its seed; sizes and class counts that follow from the data are
    filled in.
    """
    kind, own = recipe.net["kind"], _own(recipe)
    if recipe.task in TASKS:
        net = _seeded(recipe, lambda: TASKS[recipe.task](recipe).net(recipe, src))
        if recipe.train.start and recipe.task != "words":
            _begin_with(net, recipe.train.start)  # words have taken their encoder
        return net
    follows = _follows(recipe, src)
    for key, value in follows.items():
        if own.get(key, value) != value:
            raise BadInput(f"net.{key} follows from the data, which asks for {value}; given {own[key]!r}")
    classes = len(src.words) if src.labels is not None else None
    if kind != "classifier" and classes:
        follows["num_class_embeds"] = classes + 1  # the last is "no condition"
        given = own.get("num_class_embeds", classes + 1)
        if 0 < given <= classes:
            raise BadInput(f"net.num_class_embeds must be 0 (no condition) or above {classes}, given {given}")

    def make() -> nn.Module:
        net = NETS[kind][0](_config(kind, {**follows, **own}))
        if recipe.train.initial == "near_linear":
            near_linear(net)
        if recipe.train.start:
            _begin_with(net, recipe.train.start)
        return net

    return _seeded(recipe, make)


def _begin_with(net: nn.Module, name: str) -> None:
    """Take over the weights of a model's network; what this one is shown beside x, in further channels, it
    overlooks at first.

    BadInput names the first that is not there or has another shape.
    """
    theirs, own, first = _weights_for(net, name), net.state_dict(), "conv_in.weight"
    if first in theirs and first in own:
        theirs[first] = _widened(theirs[first], own[first])
    for k, v in own.items():
        if k not in theirs or theirs[k].shape != v.shape:
            there = f"has shape {tuple(theirs[k].shape)} there" if k in theirs else "is not there"
            raise BadInput(
                f"train.start: {name!r} is another network: {k} {there}, this one's has {tuple(v.shape)}"
            )
    net.load_state_dict(theirs)


def _weights_for(net: nn.Module, name: str) -> dict[str, Tensor]:
    """The tensors of the network of net's own kind in a model folder: its autoencoder or CLIP, else what it
    is named for.
    """
    from unnoise import hub
    from unnoise.hub import parts

    if isinstance(net, Through):
        whole, own = "autoencoder", parts.load_autoencoder(name, net.autoencoder.config.factor).net
    elif isinstance(net, Matcher):
        whole, own = "clip", parts.load_clip(name).net
    else:
        return hub.load(name).net.state_dict()
    return {f"{whole}.{k}": v for k, v in own.state_dict().items()}


def _widened(theirs: Tensor, own: Tensor) -> Tensor:
    """A first convolution (out, in, h, w) with zeros for the input channels that only `own` has."""
    more = own.shape[1] - theirs.shape[1]
    return (
        torch.cat([theirs, theirs.new_zeros(len(theirs), more, *theirs.shape[2:])], 1) if more > 0 else theirs
    )


def _seeded(recipe: Recipe, make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            return make()
        except BadInput as e:
            raise BadInput(f"net: {e}") from None
        except (
            ValueError,
            TypeError,
            RuntimeError,
            ArithmeticError,
            IndexError,
        ) as e:  # torch's words on impossible sizes
            raise BadInput(f"net cannot be built: {' '.join(str(e).split())}") from e


def _follows(recipe: Recipe, src: AnySource) -> dict:
    """The keys of the network that the data and the process fix."""
    kind, shape = recipe.net["kind"], src.codec.shape(1)[1:]
    if kind == "mlp":
        return {"size": int(np.prod(shape)), "time": recipe.process.clock != "none"}
    more = shape[0] + 1 if recipe.data.masked else 0
    if isinstance(src, worlds.LatentSource) and kind == "unet":
        follows = {
            "sample_size": shape[1],
            "in_channels": shape[0] + more,
            "out_channels": shape[0],
            "cross_attention_dim": src.text.net.config.hidden_size,
        }
        return {**follows, "time": recipe.process.clock != "none"}
    if not isinstance(src.codec, codecs.Pixels):
        raise BadInput(
            f"net.kind {kind!r} needs images; {recipe.data.name} has items of shape {tuple(shape)} (use"
            " 'mlp')"
        )
    if kind == "unet":
        size = shape[1] if shape[1] == shape[2] else shape[1:]
        time = recipe.process.clock != "none"
        if recipe.data.low:
            more = upscale.channels(src.codec, recipe.data.low)
        return {"sample_size": size, "in_channels": shape[0] + more, "out_channels": shape[0], "time": time}
    if src.labels is None:
        raise BadInput(f"net.kind 'classifier' needs labels, and {recipe.data.name} has none")
    return {"channels": shape[0], "classes": len(src.words)}


def _own(recipe: Recipe) -> dict:
    return {k: v for k, v in recipe.net.items() if k != "kind"}


def _config(kind: str, d: dict) -> BaseModel:
    model = NETS[kind][1]
    known = [*model.model_fields, *(FIXED if kind == "unet" else ())]
    for key in d:
        if key not in known:
            raise BadInput(unknown_key(f"net.{key}", list(model.model_fields)))
    try:
        model(**{k: v for k, v in d.items() if k in model.model_fields})
    except ValidationError as e:
        raise BadInput(explain(e, model, "net.")) from None
    return config_from(d) if kind == "unet" else model(**d)
