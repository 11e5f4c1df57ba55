"""Words learnt as words: a text encoder taught, without pictures, what captions say.

    loss = CE(concept | scale cos(v, v0)) + sum over the other questions of CE(answer | h) + hold |h - h0|^2 /
    |h0|^2

h are the encoder's states of any caption of a scene of the second world, h0 those that the encoder had at
first for the plain way of saying the same scene ("a sword" -> "crossed swords"); v is the mean of h over the
caption's words and over what follows them, and v0 that of every concept's plain name at first. So a caption
finds its concept where the encoder had put it: all names come to mean the same (which a diffusion loss hardly
ever teaches), and a UNet that reads the encoder finds them where it expects them. Both phrases differ in
length: compared are the mean over their words, and the states from where both have ended, which is most of
what is attended to.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.train import networks, objective, reader
from unnoise.train.items import Items
from unnoise.train.objective import Batch
from unnoise.train.sources import Source
from unnoise.train.sources.captions import CaptionSource, open_captions
from unnoise.train.tasks import protocol
from unnoise.train.tasks.recognise import answered
from unnoise.worlds import IGNORED

BEST = 5


class Words(protocol.Task):
    """Its network is the text encoder with what asks it questions; a run's model is the encoder alone."""

    kinds = ("reader",)

    class Objective(protocol.Objective):
        hold: float = Field(default=1.0, ge=0)
        length: int = 16  # tokens that are read of a caption

    def source(self, split: str) -> CaptionSource:
        return open_captions(self.recipe, split, self.objective.length)

    def net(self, src: CaptionSource) -> nn.Module:
        return networks.seeded(self.recipe, lambda: self._net(src))

    def _net(self, src: CaptionSource) -> nn.Module:
        for key in networks.keys(self.recipe):
            raise BadInput(
                f"unknown key 'net.{key}': net.kind 'reader' is data.text's encoder (accepted: kind)"
            )
        net = Understanding(src.encoder.net, src.heads, src.concepts())
        if self.recipe.train.start:
            reader.take_text(net.text, self.recipe.train.start)
        return net

    def loss(self, src: Source) -> objective.Loss:
        return self._loss

    def _loss(self, net: Any, b: Batch, salt: int) -> Tensor:
        logits, h, h0 = net(b.x0, b.more["plain"])
        held = apart(h, h0, b.x0, b.more["plain"], getattr(net, "module", net).eos)
        return (answered(logits, b.more) + self.objective.hold * held).sum() / b.total

    def validate(self, net: Any, items: Items, src: Source, start: int) -> dict[str, float]:
        """The loss's two parts, how often each answer is right, and how often the concept is among the first
        five.
        """
        ids, plain = items.x, items.more["plain"]
        logits, h, h0 = net(ids, plain)
        out = {
            "loss": float(answered(logits, items.more).mean()),
            "apart": float(apart(h, h0, ids, plain, net.eos).mean()),
        }
        for k, l in logits.items():
            out |= _rightly(k, l, items.more[f"head/{k}"])
        return out

    def save(self, net: Any, src: CaptionSource, name: str, folder: Path) -> Path:
        from unnoise.hub import parts
        from unnoise.text.encode import PromptEncoder

        return parts.save_text(folder, name, PromptEncoder(src.encoder.tokenizer, net.text))


def _rightly(question: str, logits: Tensor, true: Tensor) -> dict[str, float]:
    """How often a question is answered rightly, where it is asked."""
    asked = true != IGNORED
    if not asked.any():
        return {}
    best = logits[asked].topk(min(BEST, logits.shape[1])).indices == true[asked][:, None]
    out = {question: float(best[:, 0].cpu().double().mean())}
    if question.startswith("noun"):
        out[f"{question}_top{BEST}"] = float(best.any(1).cpu().double().mean())
    return out


class Understanding(nn.Module):
    """A text encoder that learns, the same as it was at first, and what asks it questions.

    concepts: ids of the plain name of each answer to "noun". Every other head's query attends to all states,
    as a UNet's do.
    """

    def __init__(self, text: Any, heads: dict[str, tuple[str, ...]], concepts: Tensor, joints: int = 4):
        super().__init__()
        d, self.eos = text.config.hidden_size, int(text.config.eos_token_id)
        self.text = deepcopy(text).requires_grad_(True)
        first = deepcopy(text).eval().requires_grad_(False)
        with torch.no_grad():
            places = torch.cat([pooled(first(rows).hidden, rows, self.eos) for rows in concepts.split(256)])
        # in lists: no part of the network, of its averages or its checkpoints
        self.first, self.mean = [first], [places.mean(0)]
        self.places = [F.normalize(places - places.mean(0), dim=1)]
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.names = tuple(k for k in heads if k != "noun")
        self.query = nn.Parameter(0.02 * torch.randn(len(self.names), d))
        self.look = nn.MultiheadAttention(d, joints, batch_first=True)
        self.answer = nn.ModuleDict({k: nn.Linear(d, len(heads[k])) for k in self.names})

    def forward(self, ids: Tensor, plain: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """(logits by head, states of ids, first states of plain), states (n, length, width)."""
        h = self.text(ids).hidden
        with torch.no_grad():
            h0 = self.first[0].to(ids.device)(plain).hidden
        read, _ = self.look(self.query.expand(len(h), -1, -1), h, h, need_weights=False)
        logits = {k: self.answer[k](read[:, i]) for i, k in enumerate(self.names)}
        found = F.normalize(pooled(h, ids, self.eos) - self.mean[0].to(h), dim=1)
        return {"noun": self.scale.exp() * found @ self.places[0].to(h).T, **logits}, h, h0


def pooled(h: Tensor, ids: Tensor, eos: int) -> Tensor:
    """(n, 2 width) the means of states h (n, length, width) over the words and over what follows them."""
    place = torch.arange(ids.shape[1], device=ids.device)
    end = (ids == eos).int().argmax(1)[:, None]  # the first: padding is the same token
    shares = [part.float()[..., None] for part in ((place > 0) & (place < end), place >= end)]
    return torch.cat([(h * w).sum(1) / w.sum(1).clamp(min=1) for w in shares], 1)


def apart(h: Tensor, h0: Tensor, ids: Tensor, plain: Tensor, eos: int) -> Tensor:
    """(n,) how far states h of ids lie from h0 of plain, relative to h0's square: over what follows both
    ends, and over the mean of the words.
    """
    place, width = torch.arange(ids.shape[1], device=ids.device), h.shape[-1]
    end, end0 = ((row == eos).int().argmax(1)[:, None] for row in (ids, plain))
    after = (place >= torch.maximum(end, end0)).float()[..., None]
    rest = ((h - h0).square() * after).sum((1, 2)) / ((h0.square() * after).sum((1, 2)) + 1e-6)
    mean, mean0 = (pooled(s, row, eos)[:, :width] for s, row in ((h, ids), (h0, plain)))
    return rest + (mean - mean0).square().sum(1) / (mean0.square().sum(1) + 1e-6)
