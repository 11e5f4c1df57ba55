"""The networks, in one table: kind -> class, config, published twin, names in files.

A kind is the name of the network's folder in a model folder and, for those that are trained alone, `net.kind`
of a recipe. A new network is its module and its line in `NETS`; where it has a fast form, that is a line in
`engine.fuse.FAST`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from torch import Tensor, nn

from unnoise.base.read import fit
from unnoise.nets import clip
from unnoise.nets.autoencoder import Autoencoder, AutoencoderConfig, autoencoder_config_from, legacy_keys
from unnoise.nets.classifier import Classifier, ClassifierConfig
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.nets.recogniser import Recogniser, RecogniserConfig
from unnoise.nets.unet import FIXED, UNet, UNetConfig, config_from

Tensors = dict[str, Tensor]
DIFFUSERS = "0.35.0"  # whose keys the files of networks with a published twin hold


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    twin: the library and the class that open its folder. read: what its config.json holds -> its config;
    None: exactly the config's keys. also: keys that it takes beside those. header: what config.json says
    beside those keys. renamed: from the names (and shapes) of tensors in files to the network's. judges: it
    looks at data and makes none. scheduled: a model folder must say with which schedule it was trained. make,
    write: see `built`, `written`.
    """

    net: type[nn.Module]
    config: type[BaseModel]
    twin: tuple[str, str]
    read: Callable[[dict[str, Any]], Any] | None = None
    also: Collection[str] = ()
    header: Mapping[str, Any] = field(default_factory=dict)
    renamed: Callable[[Tensors], Tensors] = lambda tensors: tensors
    judges: bool = False
    scheduled: bool = False
    make: Callable[[Any, Collection[str]], nn.Module] | None = None
    write: Callable[[Any], dict[str, Any]] | None = None

    def configured(self, config: dict[str, Any]) -> Any:
        """The config of what a config.json holds. BadInput: a key or value that is not accepted."""
        return self.read(config) if self.read else fit(self.config, config, "its config")

    def built(self, config: dict[str, Any], tensors: Collection[str] = ()) -> nn.Module:
        """The network of what a config.json holds; `tensors`: the names of those that it will be filled with.
        BadInput as `configured`.
        """
        c = self.configured(config)
        return self.make(c, tensors) if self.make else self.net(c)

    def written(self, net: Any) -> dict[str, Any]:
        """What the config.json of such a network holds."""
        return {**self.header, **(self.write or config_of)(net)}


def config_of(net: Any) -> dict[str, Any]:
    """The keys and values of a network's config, as JSON has them."""
    return json.loads(net.config.model_dump_json())


def kind_of(net: nn.Module) -> str | None:
    """The kind of a network, or None where its class is no kind's."""
    return next((name for name, kind in TABLE.items() if type(net) is kind.net), None)


def _unet(net: UNet) -> dict[str, Any]:
    """Without `time` where it is usual: diffusers knows no nets without it."""
    return {k: v for k, v in config_of(net).items() if k != "time" or not v}


def _text(net: clip.TextEncoder) -> dict[str, Any]:
    which = "CLIPTextModel" if net.text_projection is None else "CLIPTextModelWithProjection"
    return {"architectures": [which], "model_type": "clip_text_model", **config_of(net)}


# the networks that a model folder or a recipe is named for
NETS: dict[str, Kind] = {
    "unet": Kind(
        UNet,
        UNetConfig,
        ("diffusers", "UNet2DConditionModel"),
        read=config_from,
        also=FIXED,
        header={"_class_name": "UNet2DConditionModel", "_diffusers_version": DIFFUSERS},
        scheduled=True,
        write=_unet,
    ),
    "mlp": Kind(MLP, MLPConfig, ("unnoise", "MLP")),
    "classifier": Kind(Classifier, ClassifierConfig, ("unnoise", "Classifier"), judges=True),
    "recogniser": Kind(Recogniser, RecogniserConfig, ("unnoise", "Recogniser"), judges=True),
}
# those that stand beside one of them
TABLE: dict[str, Kind] = {
    **NETS,
    "vae": Kind(
        Autoencoder,
        AutoencoderConfig,
        ("diffusers", "AutoencoderKL"),
        read=autoencoder_config_from,
        header={"_class_name": "AutoencoderKL", "_diffusers_version": DIFFUSERS},
        renamed=legacy_keys,
    ),
    "text_encoder": Kind(
        clip.TextEncoder,
        clip.TextConfig,
        ("transformers", "CLIPTextModel"),
        read=clip.text_config_from,
        renamed=clip.published_keys,
        make=lambda c, tensors: clip.TextEncoder(c, projection="text_projection.weight" in tensors),
        write=_text,
    ),
}
