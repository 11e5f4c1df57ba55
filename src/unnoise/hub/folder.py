"""What a model folder holds, loaded, and whether its parts fit each other.

    model_index.json                         the parts, and the sha256 of every file
    unet/  (or mlp/, classifier/)            config.json + diffusion_pytorch_model.safetensors
    vae/                                     the same; or codec/config.json, ours, for models of pixels and
                                             vectors
    text_encoder/, tokenizer/                config.json + model.safetensors; vocab.json + merges.txt; or
                                             words/config.json, ours
    scheduler/scheduler_config.json          the schedule and prediction type in diffusers' keys, ours under
                                             "_unnoise"
    README.md                                the card

The published layout, safetensors only. `catalog` finds a folder, `loading` reads it (`stored`: weights,
`components`: the rest), `saving` writes it by `store`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from unnoise.base.errors import BadInput
from unnoise.codec import Codec
from unnoise.hub import abilities
from unnoise.hub.abilities import Abilities
from unnoise.process.section import ProcessSection
from unnoise.text.words import Words

if TYPE_CHECKING:
    from unnoise.text.encode import PromptEncoder


@dataclass(frozen=True)
class Folder:
    """What a model folder holds, loaded and checked. Large nets keep the number type of their file and lie in
    a map of it.

    left_out: of each part, tensors that nothing reads, and why. notes: what was guessed, or is only near to
    what the files ask for.
    """

    name: str
    net: nn.Module
    kind: str
    codec: Codec
    words: Words | None
    process: ProcessSection | None
    defaults: dict
    sha256: str
    path: Path | None = None
    text: PromptEncoder | None = None
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def abilities(self) -> Abilities:
        """What it takes and gives."""
        return abilities.of(self)


def checked(f: Folder) -> Folder:
    """The folder, once its parts are known to fit each other. BadInput where they do not."""
    where, config = f.path or f.name, cast(Any, f.net.config)
    _check_prompt(f, where, getattr(config, "context_width", None))
    if f.codec.autoencoder is None:
        # a size is a promise of memory
        wrong = config.misfit(f.codec.shape(1)[1:])
        if wrong:
            raise BadInput(f"{where}: codec/config.json makes {wrong}")
        return f
    made, latent = getattr(config, "out_channels", None), f.codec.shape(1)[1]
    if made not in (None, latent):
        raise BadInput(f"{where}: the UNet makes {made} latent channels, the autoencoder has {latent}")
    return f


def _check_prompt(f: Folder, where: Any, width: int | None) -> None:
    """width: of the prompt that the network attends to."""
    if width is None:
        return
    if f.text is None:
        raise BadInput(f"{where}: the UNet attends to a prompt, but the model has no text_encoder")
    if f.text.net.config.hidden_size != width:
        raise BadInput(
            f"{where}: text_encoder has width {f.text.net.config.hidden_size}, the UNet attends to {width}"
        )
