"""What a model takes and gives, told from its folder: the one place where channels are counted.

A network takes c channels, those of x; what it takes more is shown beside x, and the folder's defaults say
what that is:

    upscale = {factor, noise}    a smaller picture, raised, and a plane with the noise that it bears
    masked = "cells"             the mask and x0 with its masked cells at 0: c + 1 more (see `train.inpaint`)
    neither, and c + 1 more      the mask and the masked picture, grey under the mask: published inpainting
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from unnoise.nets.table import NETS

if TYPE_CHECKING:
    from unnoise.hub.folder import Folder


@dataclass(frozen=True)
class Abilities:
    """makes: what its medium calls several of what it gives. judges: it looks at such and makes none. prompt:
    any text, one of a closed list of words, or None. sizes: whether it takes others than its own. channels:
    what its network takes at a position, x among them; beside: how many of them are not x. mask: how it is
    shown what is hidden under one, None: it takes none. low: {"factor", "noise"} of the smaller pictures that
    it is shown, None: none.
    """

    makes: str
    judges: bool
    prompt: Literal["text", "words"] | None
    sizes: bool
    channels: int
    beside: int
    mask: Literal["grey", "cells"] | None
    low: dict[str, Any] | None

    @property
    def draws(self) -> bool:
        """Whether it makes something of nothing but a prompt."""
        return not self.judges and not self.beside


def of(f: Folder) -> Abilities:
    """The abilities of a model folder, ours of any version or published."""
    config: Any = f.net.config
    x = f.codec.shape(1)[1]
    channels = getattr(config, "in_channels", x)
    low = f.defaults.get("upscale")
    mask = None
    if channels == 2 * x + 1 and low is None:
        mask = "cells" if f.defaults.get("masked") == "cells" else "grey"
    return Abilities(
        makes=f.codec.medium.plural,
        judges=NETS[f.kind].judges,
        prompt=_prompt(f),
        sizes=f.codec.free,
        channels=channels,
        beside=channels - x,
        mask=mask,
        low=low,
    )


def _prompt(f: Folder) -> Literal["text", "words"] | None:
    if f.text is not None:
        return "text"
    return None if f.words is None else "words"
