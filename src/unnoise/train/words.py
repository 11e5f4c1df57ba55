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

import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.data import positions
from unnoise.data.draw import Draw
from unnoise.data.nouns import article
from unnoise.train import worlds
from unnoise.train.recipe import section
from unnoise.train.worlds import ENDLESS, IGNORED, Facts, Items
from unnoise.worlds.emoji.everything import Everything
from unnoise.worlds.emoji.phrases import plainly
from unnoise.worlds.emoji.scenes import STREAM, Attributes

if TYPE_CHECKING:
    from unnoise.text.encode import PromptEncoder
    from unnoise.train.recipe import DataSection, Recipe

UNSAID = ("style",)  # most captions do not say it
VISITS = 48  # the purpose of these captions' draws, after scenes' and their visits'
BEST = 5
BLOCK = 2048  # captions of one sort in a row: short ones together are fast
SHORT = 9  # tokens of a bare name
EVEN = 0.6  # the power by which a concept's names come closer to being said as often as one another


@dataclass(frozen=True)
class WordSource:
    """Captions as token ids, with the plain phrase that says the same, and the answers that they give, by
    head.
    """

    scenes: Everything
    section: DataSection
    text: PromptEncoder
    heads: dict[str, tuple[str, ...]]
    length: int
    codec: Any = None  # ids are what the network takes
    labels: None = None
    words: tuple[str, ...] = ()

    @cached_property
    def data(self) -> Facts:
        told = [
            self.scenes.emoji.made_with,
            self.section.model_dump(),
            self.scenes.split,
            len(self.scenes.emoji),
            self.text.tokenizer.vocab,
        ]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        return Facts(self.section.name, self.scenes.split, digest, "MIT; Unicode License v3", ENDLESS)

    def indices(self, seed: int, where: tuple[int, ...]) -> np.ndarray:
        return positions(*where)

    def fetch(self, index: Sequence[int] | np.ndarray, seed: int = 0, **_: Any) -> Items:
        """Of the captions `index` of the stream `seed`: ids (n, tokens) as x, "plain" ids (n, tokens) and the
        heads' answers (n,).

        Captions come by turns of BLOCK: bare names of any concept three times, which are short and fast, then
        those of scenes.
        """
        draws = [Draw(seed, int(i), STREAM[self.scenes.split] + VISITS) for i in index]
        bare = [int(i) // BLOCK % 4 < 3 for i in index]
        said = [
            self._bare(d) if b else self._of_scene(seed, int(i), d) for b, i, d in zip(bare, index, draws)
        ]
        length = min(SHORT, self.length) if all(bare) else self.length
        plain = self.ids([plainly(a, self.scenes.called) for a, _ in said], length)
        answers = worlds.targets([a for a, _ in said], self.heads).items()
        more = {f"head/{k}": torch.tensor(v) for k, v in answers}
        return Items(self.ids([text for _, text in said], length), None, {"plain": plain, **more})

    def _bare(self, draw: Draw) -> tuple[Attributes, str]:
        """A concept and one of its names, with its article or without."""
        label = draw.pick(self.heads["noun"])
        own = self.scenes.called[label]
        often = [v**EVEN for _, v in own.others]
        further = own.others and draw.chance(0.8)
        name = draw.among([w for w, _ in own.others], often) if further else draw.pick(own.main)
        a = Attributes("plain", (label,), (label,), "", names=(name,))
        return a, article(name) if draw.chance(0.5) else name

    def _of_scene(self, seed: int, index: int, draw: Draw) -> tuple[Attributes, str]:
        a = self.scenes.attributes(seed, index)
        return a, self.scenes.say(a, draw)

    def ids(self, texts: Sequence[str], length: int) -> Tensor:
        """(n, length) token ids. What is longer ends early: states do not depend on what comes later, and
        short rows are fast.
        """
        rows = worlds.ids(self.text.tokenizer, texts)[:, :length].clone()
        rows[:, -1] = self.text.tokenizer.eos
        return rows

    def concepts(self) -> Tensor:
        """(concepts, length) ids of the plain name of every concept, in the order of the question "noun"."""
        made = [Attributes("plain", (label,), (label,), "") for label in self.heads["noun"]]
        return self.ids([plainly(a, self.scenes.called) for a in made], self.length)

    def held_out(self, split: str, n: int) -> WordSource:
        return replace(self, scenes=worlds.open_scenes(self.section, split))


def source(recipe: Recipe, split: str) -> WordSource:
    """The captions that a recipe asks for. BadInput: they are not of the second world, or no text encoder is
    named.
    """
    from unnoise.hub import parts

    d = recipe.data
    if d.world == 1 or not d.text:
        raise BadInput(
            "task 'words' needs data.world = 2 and data.text, a model folder with the text encoder to teach"
        )
    scenes = worlds.open_scenes(d, split)
    assert isinstance(scenes, Everything)
    heads = {k: v for k, v in worlds.questions(scenes).items() if k not in UNSAID}
    text, length = parts.load_text(d.text), section(recipe.objective, Words.Objective, "objective.").length
    if not 4 <= length <= text.tokenizer.length:
        raise BadInput(
            f"objective.length must lie in 4 to {text.tokenizer.length}, data.text's own, given {length}"
        )
    return WordSource(scenes, d, text, heads, length)


class Words:
    """The task. Its network is the text encoder with what asks it questions; a run's model is the encoder
    alone.
    """

    config = None

    class Objective(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        hold: float = Field(default=1.0, ge=0)
        length: int = 16  # tokens that are read of a caption

    def __init__(self, recipe: Recipe):
        self.objective = section(recipe.objective, self.Objective, "objective.")

    def net(self, recipe: Recipe, src: WordSource) -> nn.Module:
        for key in recipe.net:
            if key != "kind":
                raise BadInput(
                    f"unknown key 'net.{key}': net.kind 'reader' is data.text's encoder (accepted: kind)"
                )
        net = Understanding(src.text.net, src.heads, src.concepts())
        if recipe.train.start:
            begin_with(net.text, recipe.train.start)
        return net

    def loss(self, net: Any, x: Tensor, more: dict[str, Tensor], places: np.ndarray) -> Tensor:
        logits, h, h0 = net(x, more["plain"])
        eos = getattr(net, "module", net).eos
        return (self._asked(logits, more) + self.objective.hold * apart(h, h0, x, more["plain"], eos)).sum()

    def _asked(self, logits: dict[str, Tensor], more: dict[str, Tensor]) -> Tensor:
        """(n,) losses of the answers."""
        return torch.stack(
            [
                F.cross_entropy(l.float(), more[f"head/{k}"], reduction="none", ignore_index=IGNORED)
                for k, l in logits.items()
            ]
        ).sum(0)

    def validate(self, net: Any, items: Items) -> dict[str, float]:
        """The loss's two parts, how often each answer is right, and how often the concept is among the first
        five.
        """
        logits, h, h0 = net(items.x, items.more["plain"])
        out = {
            "loss": float(self._asked(logits, items.more).mean()),
            "apart": float(apart(h, h0, items.x, items.more["plain"], net.eos).mean()),
        }
        for k, l in logits.items():
            asked = (true := items.more[f"head/{k}"]) != IGNORED
            if not asked.any():
                continue
            best = l[asked].topk(min(BEST, l.shape[1])).indices == true[asked][:, None]
            out[k] = float(best[:, 0].cpu().double().mean())
            if k.startswith("noun"):
                out[f"{k}_top{BEST}"] = float(best.any(1).cpu().double().mean())
        return out

    def show(self, net: Any, items: Items) -> None:
        return None

    def save(self, net: Any, src: WordSource, name: str, folder: Path) -> Path:
        from unnoise.hub import parts
        from unnoise.text.encode import PromptEncoder

        return parts.save_text(folder, name, PromptEncoder(src.text.tokenizer, net.text))


def begin_with(text: nn.Module, name: str) -> None:
    """Take over the weights of a model folder's text encoder. BadInput names the first tensor of another
    shape.
    """
    from unnoise.hub import parts

    theirs = parts.load_text(name).net.state_dict()
    for key, own in text.state_dict().items():
        if key not in theirs or theirs[key].shape != own.shape:
            raise BadInput(f"train.start: {name!r} has another text encoder: {key} differs")
    text.load_state_dict(theirs)


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
        self.first, self.mean = (
            [first],
            [places.mean(0)],
        )  # in lists: no part of the network, of its averages or its checkpoints
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
        seen, _ = self.look(self.query.expand(len(h), -1, -1), h, h, need_weights=False)
        logits = {k: self.answer[k](seen[:, i]) for i, k in enumerate(self.names)}
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
