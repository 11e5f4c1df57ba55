"""Networks of recipes: built by their keys, their weights drawn from the seed or taken from a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.base.read import explain, unknown_key
from unnoise.codec import Codec, is_of_pictures
from unnoise.nets.table import NETS
from unnoise.train.initial import near_linear
from unnoise.train.recipe import Recipe

CHANNELS_LAST = ("unet", "autoencoder", "recogniser")  # kinds that are faster so


def keys(recipe: Recipe) -> dict[str, Any]:
    """The keys of [net] without its kind."""
    return {k: v for k, v in recipe.net.items() if k != "kind"}


def config(kind: str, d: dict[str, Any]) -> BaseModel:
    """The checked config of a network. BadInput: an unknown key, with the nearest, or a bad value."""
    table, model = NETS[kind], NETS[kind].config
    _check_known(d, [*model.model_fields, *table.also], list(model.model_fields))
    try:
        model(**{k: v for k, v in d.items() if k in model.model_fields})
    except ValidationError as e:
        raise BadInput(explain(e, model, "net.")) from None
    return table.read(d) if table.read else model(**d)


def _check_known(chosen: Iterable[str], known: list[str], listed: list[str]) -> None:
    for key in chosen:
        if key not in known:
            raise BadInput(unknown_key(f"net.{key}", listed))


def check_follows(chosen: dict[str, Any], follows: dict[str, Any]) -> None:
    """BadInput names the first key that is not what the data ask for."""
    for key, value in follows.items():
        if chosen.get(key, value) != value:
            raise BadInput(f"net.{key} follows from the data, which asks for {value}; given {chosen[key]!r}")


def seeded(recipe: Recipe, make: Callable[[], nn.Module]) -> nn.Module:
    """The network that `make` makes with torch's generator at the recipe's seed. BadInput: it cannot be
    built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            return make()
        except BadInput as e:
            raise BadInput(f"net: {e}") from None
        # torch's words on impossible sizes
        except (ValueError, TypeError, RuntimeError, ArithmeticError, IndexError) as e:
            raise BadInput(f"net cannot be built: {' '.join(str(e).split())}") from e


def begin_with(net: nn.Module, theirs: dict[str, Tensor], name: str) -> None:
    """Take over the weights of the model `name`; what this network is shown beside x, in further channels, it
    overlooks at first.

    BadInput names the first that is not there or has another shape.
    """
    ours, first = net.state_dict(), "conv_in.weight"
    if first in theirs and first in ours:
        theirs[first] = _widened(theirs[first], ours[first])
    for k, v in ours.items():
        if k not in theirs or theirs[k].shape != v.shape:
            there = f"has shape {tuple(theirs[k].shape)} there" if k in theirs else "is not there"
            raise BadInput(
                f"train.start: {name!r} is another network: {k} {there}, this one's has {tuple(v.shape)}"
            )
    net.load_state_dict(theirs)


def _widened(theirs: Tensor, ours: Tensor) -> Tensor:
    """A first convolution (out, in, h, w) with zeros for the input channels that only `ours` has."""
    more = ours.shape[1] - theirs.shape[1]
    if more <= 0:
        return theirs
    return torch.cat([theirs, theirs.new_zeros(len(theirs), more, *theirs.shape[2:])], 1)


def built(recipe: Recipe, follows: dict[str, Any], begin: Callable[[nn.Module], None]) -> nn.Module:
    """The network of the recipe's kind, with the keys that follow from the data; `begin` gives it the weights
    that it begins with in place of those drawn. BadInput: see `config` and `seeded`.
    """
    kind = recipe.net["kind"]

    def make() -> nn.Module:
        net = NETS[kind].net(config(kind, {**follows, **keys(recipe)}))
        if recipe.train.initial == "near_linear":
            near_linear(net)
        begin(net)
        return net

    return seeded(recipe, make)


def picture_shape(recipe: Recipe, codec: Codec) -> tuple[int, ...]:
    """(channels, height, width) of an encoded picture. BadInput: the data are none."""
    shape = tuple(codec.shape(1)[1:])
    if not is_of_pictures(codec):
        raise BadInput(
            f"net.kind {recipe.net['kind']!r} needs images; {recipe.data.name} has items of shape {shape}"
            " (use 'mlp')"
        )
    return shape
