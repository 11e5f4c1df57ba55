"""Weights of a part of a model folder, from its files into its network.

What a config asks for is compared with the headers of the weight files, tensor by tensor, before any memory
is taken for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.text import one_line, short
from unnoise.hub import leftovers, weights
from unnoise.hub.index import Shards
from unnoise.nets.table import NETS, TABLE

WEIGHTS = "diffusion_pytorch_model.safetensors"
HASHED = {*NETS, "vae", "text_encoder", "tokenizer", "codec", "words", "scheduler"}  # what pictures depend on

Net = TypeVar("Net", bound=nn.Module)
read_json = read.object_file


@dataclass(frozen=True)
class Stored:
    """The weights of a part: what their headers say, and how to get them."""

    shapes: dict[str, Tensor]  # on the meta device
    load: Callable[[], dict[str, Tensor]]
    suspect: list[str] = field(
        default_factory=list
    )  # once they are loaded: which of their files' tensors are not finite

    @classmethod
    def of(cls, tensors: dict[str, Tensor], suspect: list[str] | None = None) -> Stored:
        """Of tensors that are there already."""
        return cls({k: v.to("meta") for k, v in tensors.items()}, lambda: tensors, suspect or [])


class FolderReader:
    """Reads the weight files of a folder, and remembers what was read for the model's hash."""

    def __init__(self, path: Path, sha256: dict[str, str], variant: str | None):
        self.path, self.known, self.variant, self.read, self.left_out = path, sha256, variant, {}, {}
        for name, expected in sha256.items():
            if not name.endswith(".safetensors"):
                self._check(name, expected)

    def _check(self, name: str, expected: str) -> None:
        file = self.path / name
        if hashlib.sha256(read.content(file)).hexdigest() != expected:
            raise BadInput(
                f"{file} is damaged or was changed: its sha256 is not the one recorded in "
                "model_index.json (take its entry out of _sha256 there if the change was meant)"
            )

    def stored(self, part: str) -> Stored:
        """The weights of a part, from one file or from its shards: their shapes now, themselves when they are
        loaded.
        """
        files = weight_files(self.path / part, self.variant)
        heads = {f: weights.header(f) for f in files}
        shapes = {k: v for head in heads.values() for k, v in weights.shapes(head).items()}
        kept, left = leftovers.tidied(shapes)
        if left:
            self.left_out.setdefault(part, {}).update(left)

        suspect: list[str] = []

        def load() -> dict[str, Tensor]:
            made: dict[str, Tensor] = {}
            for file in files:
                name = f"{part}/{file.name}"
                made |= weights.opened(file, self.known.get(name))
                facts = weights.examine(file)
                self.read[name] = facts.sha256
                suspect.extend(facts.bad)
            return weights.plain({new: made[old] for old, new in kept.items()})

        return Stored(weights.plain({new: shapes[old] for old, new in kept.items()}), load, suspect)

    def digest(self, index: dict, more: str = "") -> str:
        """One hash of all that determines the pictures: weights, configs, tokenizer of the parts that the
        index names.
        """
        parts = {*index, "tokenizer"} & HASHED
        small = [p for k in parts for p in (self.path / k).glob("*") if _is_small(p)]
        of = lambda p: hashlib.sha256(read.content(p)).hexdigest()
        return digest_of(self.read | {str(p.relative_to(self.path)): of(p) for p in small}, more)


def _is_small(path: Path) -> bool:
    """Whether a file is one of a part's configs or word lists."""
    named = path.suffix in (".json", ".txt") and not path.name.endswith(".index.json")
    return named and path.is_file()


def digest_of(sha256: dict[str, str], more: str = "") -> str:
    """One hash of files by name and whatever else counts."""
    return hashlib.sha256((json.dumps(sorted(sha256.items())) + more).encode()).hexdigest()


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors files of a part: one, the shards that its index names, or the only one there is,
    whatever it is called.

    BadInput says what there is instead.
    """
    for stem in ("diffusion_pytorch_model", "model"):
        dotted = f".{variant}" if variant else ""
        if os.path.lexists(one := folder / f"{stem}{dotted}.safetensors"):
            return [one]
        for index in (
            folder / f"{stem}.safetensors.index{dotted}.json",
            folder / f"{stem}{dotted}.safetensors.index.json",
        ):
            if os.path.lexists(index):
                return _shards(index)
    there = sorted(
        p for p in folder.glob("*") if p.suffix.lower() == ".safetensors" and not p.name.startswith(".")
    )
    named = {re.sub(r"-\d+-of-\d+$", "", p.name.split(".")[1]) for p in there if p.name.count(".") == 2}
    others = sorted(named - {"non_ema"})
    if variant:
        raise BadInput(
            f"{folder} has no weights of variant {variant!r} (there are:"
            f" {', '.join(others) or 'none with a variant'})"
        )
    if len(there) == 1:
        return there  # a capital suffix, or the name that it was downloaded under
    if len(others) == 1:
        return weight_files(folder, others[0])
    raise BadInput(_no_weights(folder, there))


def _no_weights(folder: Path, there: list[Path]) -> str:
    file = folder / ("model.safetensors" if folder.name == "text_encoder" else WEIGHTS)
    if there:
        return (
            f"{file} is missing, and which of {', '.join(p.name for p in there)} to take is not told:"
            " rename it"
        )
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".ckpt", ".pt", ".pth"))
    return f"{file} is missing" + (
        f" ({pickles[0]} is there, a pickle: those are never opened)" if pickles else ""
    )


def _shards(index: Path) -> list[Path]:
    names = read.fit(Shards, read_json(index), str(index)).weight_map
    return [index.parent / n for n in sorted(set(names.values()))]


def network(
    kind: str, config: dict, stored: Stored, where: Path, dtype: torch.dtype, left: dict[str, dict[str, str]]
) -> nn.Module:
    """The network of a kind (of `nets.table`) and its config.json, with its weights; see `filled`."""
    known = TABLE[kind]
    make = lambda: known.built(public(config), stored.shapes)
    return filled(make, stored, where, dtype, known.renamed, left, kind)


def public(config: dict) -> dict:
    """What of a config.json is not another program's note to itself."""
    return {k: v for k, v in config.items() if not k.startswith("_")}


def filled(
    make: Callable[[], Net],
    stored: Stored,
    where: Path,
    dtype: torch.dtype,
    renamed: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda d: d,
    left: dict | None = None,
    part: str = "",
) -> Net:
    """A network with the weights of a file. It is built without memory and compared with the file's header,
    tensor by tensor, first.

    renamed: from the names (and shapes) in files to the network's. left: what is not used goes there, under
    `part`. BadInput: a tensor is missing, has another shape, holds what is not finite or does not fit
    `dtype`.
    """
    net = _built(make, where)
    extra = _check(net, renamed(stored.shapes), where)
    if extra and left is not None:
        left.setdefault(part, {}).update(extra)
    own = net.state_dict()
    tensors = {k: v for k, v in renamed(stored.load()).items() if k in own}
    lossless = dtype in (torch.float32, torch.float64, torch.bfloat16) and all(
        v.dtype != torch.float64 for v in tensors.values()
    )
    if stored.suspect or not lossless:
        weights.check_finite(tensors, where, None if lossless else dtype)
    net.load_state_dict(tensors, assign=True)
    net.eval().requires_grad_(False)
    return net if any(weights.mapped(t) for t in net.parameters()) else net.to(dtype)


def left_out(path: Path, part: str, config: dict) -> dict[str, str]:
    """What lies in the weight files of a folder's part and is not read, with why; from headers. BadInput:
    they do not fit the config.
    """
    reader, where, kind = FolderReader(path, {}, None), path / part, TABLE[part]
    stored = reader.stored(part)
    net = _built(lambda: kind.built(public(config), stored.shapes), where)
    return {**reader.left_out.get(part, {}), **_check(net, kind.renamed(stored.shapes), where)}


def _built(make: Callable[[], Net], where: Path) -> Net:
    file = where / "config.json" if os.path.isdir(where) else where
    try:
        with torch.device("meta"), _Unset():
            return make()
    except BadInput as e:
        raise BadInput(f"{file}: {e}") from None
    except Exception as e:  # torch's words on impossible sizes
        raise BadInput(f"{file}: no network can be built by it: {one_line(str(e), 200)}") from None


class _Unset(TorchFunctionMode):
    """Leaves out the initial values of networks that are about to be filled. (On the meta device PyTorch
    would load its compiler for them.)
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _check(net: nn.Module, tensors: dict[str, Tensor], where: Path) -> dict[str, str]:
    """What of the tensors is left out, and why. BadInput: a tensor is missing, or does not fit the network
    that the config asks for.
    """
    own = net.state_dict()
    for k, v in own.items():
        if k not in tensors:
            raise BadInput(f"{where}: tensor {k!r} is missing")
        if tensors[k].shape != v.shape:
            raise BadInput(
                f"{where}: tensor {k!r} has shape {tuple(tensors[k].shape)}, the config asks for"
                f" {tuple(v.shape)}"
            )
        if tensors[k].is_floating_point() != v.is_floating_point():
            raise BadInput(f"{where}: tensor {k!r} holds {tensors[k].dtype}")
    left, wrong = leftovers.stray(set(tensors) - set(own), own)
    if wrong:
        raise BadInput(f"{where}: tensor {short(wrong[0])} is not part of this network ({len(wrong)} such)")
    return left
