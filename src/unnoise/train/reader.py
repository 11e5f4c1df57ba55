"""A text encoder that learns along with the network that attends to it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.train.recipe import Recipe
from unnoise.train.sources import Source


class Reader(nn.Module):
    """A network with the text encoder that learns along, as one: `context` is token ids (n, tokens)."""

    def __init__(self, net: nn.Module, text: nn.Module):
        super().__init__()
        self.net, self.text = net, text

    def forward(self, x: Tensor, time: Tensor | None, context: Tensor) -> Tensor:
        return self.net(x, time, context=self.text(context).hidden)


def reading(net: nn.Module, recipe: Recipe, src: Source) -> Reader:
    """The network with the text encoder to train: that of the model which the run begins with, where it has
    one, else that of data.text.

    BadInput: the source has none; the model's has another shape, or reads other tokens.
    """
    from unnoise.hub import parts

    start = recipe.train.start
    if src.text is None:
        raise BadInput("train.text needs a text encoder, which latents of scenes have: data.text")
    text = deepcopy(src.text.net).requires_grad_(True)
    if start and parts.has_text(start):
        if parts.load_text(start).tokenizer.vocab != src.text.tokenizer.vocab:
            raise BadInput(
                f"train.start: {start!r} has another tokenizer than data.text, {recipe.data.text!r}"
            )
        take_text(text, start)
    return Reader(net, text)


def take_text(text: nn.Module, name: str) -> None:
    """Take over the weights of a model folder's text encoder. BadInput names the first tensor of another
    shape.
    """
    from unnoise.hub import parts

    theirs = parts.load_text(name).net.state_dict()
    for key, ours in text.state_dict().items():
        if key not in theirs or theirs[key].shape != ours.shape:
            raise BadInput(f"train.start: {name!r} has another text encoder: {key} differs")
    text.load_state_dict(theirs)


def frozen(text: Any) -> Any:
    """A copy that does not learn."""
    return deepcopy(text).eval().requires_grad_(False)
