"""Scenes as networks see them: endless pictures with captions and answers, or the latents of so many, made
once and kept.

A recipe's `data.name` "emoji-scenes" (or "emoji-starter-scenes") means the scenes of that set: position p of
training is scene p of the split's stream, drawn when it is needed. With `data.cached` the latents and token
ids of that many scenes are made once by a frozen autoencoder, under `<cache>/latents/<key>` in parts that
appear whole, so that being interrupted costs one part; then they are walked through in shuffled epochs. The
text encoder is frozen too: encodings are made as they are needed, from ids.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from unnoise.base.cache import cache
from unnoise.base.colour import GROUNDS
from unnoise.base.errors import BadInput
from unnoise.codec import Latents, Pixels
from unnoise.data import batch_indices, positions
from unnoise.data.draw import Draw
from unnoise.data.nouns import NOUNS, article
from unnoise.process import noise
from unnoise.worlds.emoji.everything import Everything
from unnoise.worlds.emoji.scenes import (
    COLOURS,
    COUNTS,
    ORIENTATIONS,
    SIZES,
    STREAM,
    WEIGHTS,
    Attributes,
    Scenes,
)

if TYPE_CHECKING:
    from unnoise.text.encode import PromptEncoder
    from unnoise.text.known import Known
    from unnoise.text.tokenizer import Tokenizer
    from unnoise.train.recipe import DataSection, Recipe
    from unnoise.train.words import WordSource

SUFFIX = "-scenes"
PART = 4096  # scenes in one file of cached latents
IGNORED = -100  # the target of a head that a scene does not answer, as cross_entropy knows it
ENDLESS = 2**40
WORLDS: dict[int, type[Scenes]] = {1: Scenes, 2: Everything}
ELSEWHERE = {
    "validation",
    "cached",
    "without",
    "low",
    "low_noise",
    "masked",
    "tint",
}  # keys of [data] of which no scene depends


@dataclass(frozen=True)
class Items:
    """What a step takes: x (n, …) encoded, labels (n,) or None, and more tensors by name ("ids", a head's
    targets).
    """

    x: Tensor
    labels: Tensor | None
    more: dict[str, Tensor]

    def to(self, device: torch.device) -> Items:
        return Items(
            self.x.to(device),
            None if self.labels is None else self.labels.to(device),
            {k: v.to(device) for k, v in self.more.items()},
        )


@dataclass(frozen=True)
class Facts:
    """What a run remembers of its data: enough to refuse to go on with other data."""

    name: str
    split: str
    sha256: str
    licence: str
    length: int

    def __len__(self) -> int:
        return self.length


def named(name: str) -> str | None:
    """The emoji set whose scenes `name` means, or None."""
    return name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else None


def open_scenes(d: DataSection, split: str) -> Scenes:
    return WORLDS[d.world](named(d.name) or d.name, split, d.mixture or WEIGHTS, d.concepts)


def said(scenes: Scenes, a: Attributes, draw: Draw, way: str) -> str:
    """The caption in the grammar's words, or "plain": what is there, and nothing of how many, which way or
    which colour.
    """
    if way == "grammar":
        return scenes.say(a, draw)
    if a.kind == "hand":
        return "a hand"
    return (
        " and ".join(article(NOUNS.get(c, n)) for n, c in zip(a.nouns, a.concepts))
        if a.kind != "plain"
        else a.nouns[0]
    )


@dataclass(frozen=True)
class SceneSource:
    """Scenes as pixels. `heads`: the answers that a judge gives, by head; `tokenizer`: for captions as
    ids.
    """

    scenes: Scenes
    section: DataSection
    codec: Pixels
    tokenizer: Tokenizer | None = None
    heads: dict[str, tuple[str, ...]] | None = None
    labels: None = None
    words: tuple[str, ...] = ()

    @cached_property
    def data(self) -> Facts:
        # Who reads and who encodes changes no scene; of the first world that was told all the same, and
        # stays, and no world.
        more = {"world"} if self.section.world == 1 else {"text", "autoencoder", "tokenizer"}
        told = [
            self.scenes.emoji.made_with,
            self.section.model_dump(exclude=ELSEWHERE | more),
            self.scenes.split,
            len(self.scenes.emoji),
        ]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        return Facts(self.section.name, self.scenes.split, digest, _licence(self.section), ENDLESS)

    def indices(self, seed: int, where: tuple[int, ...]) -> np.ndarray:
        """The scenes at these places of the stream: their own numbers."""
        return positions(*where)

    def fetch(self, index: Sequence[int] | np.ndarray, seed: int = 0, **_: Any) -> Items:
        """Scenes of the stream `seed`."""
        made = [self.scenes.attributes(seed, int(i)) for i in index]
        x = self.codec.encode(np.stack([self.scenes.render(a, self.section.size) for a in made]))
        if self.section.tint:
            x = tinted(x, self.section.tint, seed, index)
        more: dict[str, Tensor] = {}
        if self.tokenizer:
            draws = [Draw(seed, int(i), STREAM[self.scenes.split] + 16) for i in index]
            more["ids"] = ids(
                self.tokenizer,
                [said(self.scenes, a, draw, self.section.captions) for a, draw in zip(made, draws)],
            )
        if self.heads:
            more |= {f"head/{k}": torch.tensor(v) for k, v in targets(made, self.heads).items()}
        return Items(x, None, more)

    def held_out(self, split: str, n: int) -> SceneSource:
        """The same of another split, in its own colours."""
        return replace(
            self,
            scenes=open_scenes(self.section, split),
            section=self.section.model_copy(update={"tint": 0.0}),
        )


def tinted(x: Tensor, tint: float, seed: int, index: Sequence[int] | np.ndarray) -> Tensor:
    """Pictures x (n, 3, h, w) in [-1, 1], every other one by chance moved by one colour, each channel up to
    `tint` of the range, cut at black and white.
    """
    u = torch.stack([noise.uniform(seed, "tint", int(i), (4,)) for i in index]).to(x)
    move = torch.where(u[:, 3:] < 0.5, 2 * tint * (2 * u[:, :3] - 1), 0)
    return (x + move[:, :, None, None]).clamp(-1, 1)


def ids(tokenizer: Tokenizer, captions: Sequence[str]) -> Tensor:
    """(n, length) int64 token ids with start, end and padding. A caption too long for one chunk keeps its
    first tokens.
    """
    return torch.tensor([tokenizer.chunks([(c, 1.0)] if c else [])[0].ids for c in captions])


# --- a judge's questions ------------------------------------------------------------------------------------


def questions(scenes: Scenes) -> dict[str, tuple[str, ...]]:
    """What a judge of these scenes is asked, with the answers to each question.

    noun, colour, count, orientation, size: of scenes of one thing; noun_a, colour_a, noun_b, colour_b: of
    pairs, a the upper or left one; axis: whether a pair lies side by side or one above the other; fingers: of
    hands; background and style: of all that have them.
    """
    labels, colours = scenes.labels, ("as drawn", *COLOURS)
    styles = tuple(
        s
        for s in scenes.emoji.styles
        if s in {scenes.emoji.styles[k] for k in scenes.emoji.style[scenes.emoji.members("train")]}
    )
    return {
        "noun": labels,
        "noun_a": labels,
        "noun_b": labels,
        "colour": colours,
        "colour_a": colours,
        "colour_b": colours,
        "count": tuple(map(str, COUNTS)),
        "orientation": ORIENTATIONS,
        "axis": ("horizontal", "vertical"),
        "fingers": tuple(map(str, range(6))),
        "size": tuple(SIZES),
        "background": tuple(GROUNDS),
        "style": styles,
    }


def answers(a: Attributes) -> dict[str, str]:
    """The true answers to the questions that a scene can be asked."""
    known: dict[str, str] = {"background": a.background}
    if a.kind == "hand":
        return known | {"fingers": str(a.fingers)}
    known["style"] = a.style
    if a.kind == "pair":
        (ax0, ay0, ax1, _), (bx0, by0, bx1, _) = a.boxes
        level = ax1 <= bx0 or bx1 <= ax0
        order = (0, 1) if (ax0 < bx0 if level else ay0 < by0) else (1, 0)
        known["axis"] = "horizontal" if level else "vertical"
        for name, k in zip("ab", order):
            known |= {f"noun_{name}": a.concepts[k], f"colour_{name}": a.colours[k] or "as drawn"}
        return known
    known["noun"] = a.concepts[0]
    if a.kind == "plain":
        return {**known, "count": "1", "orientation": "upright", "colour": "as drawn"}
    known |= {"colour": a.colour or "as drawn", "count": str(a.count), "orientation": a.orientation}
    return known | {"size": a.size} if a.count == 1 else known


def targets(made: Sequence[Attributes], heads: dict[str, tuple[str, ...]]) -> dict[str, np.ndarray]:
    """{head: (n,) int64 index of the true answer, IGNORED where there is none}."""
    place = {head: {text: i for i, text in enumerate(texts)} for head, texts in heads.items()}
    known = [answers(a) for a in made]
    return {
        head: np.array([place[head].get(k.get(head, ""), IGNORED) for k in known], dtype=np.int64)
        for head in heads
    }


@dataclass(frozen=True)
class Sayings:
    """The captions of `n` cached scenes at the places of a run, as ids: what other processes can make of them
    ahead.
    """

    scenes: Scenes
    tokenizer: Tokenizer
    seed: int
    n: int

    def __call__(self, index: Sequence[int] | np.ndarray, place: Sequence[int] | np.ndarray) -> Tensor:
        return ids(
            self.tokenizer, [self.scenes.again(self.seed, int(i), int(p)) for i, p in zip(index, place)]
        )

    def at(self, seed: int, where: tuple[int, ...]) -> Tensor:
        """Those of the places `where` (see `data.positions`) of a run that goes by `seed`."""
        return self(batch_indices(self.n, seed, *where), positions(*where))


# --- latents ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LatentSource:
    """Latents (n, c, h, w) of cached scenes with their captions' ids, and the encoder that reads these:
    frozen, or `learns` with the network.

    `seed` is the stream that the scenes are of. At a place of a run a scene of the second world is said anew;
    beside one by its kept ids.
    """

    x: np.ndarray
    ids: np.ndarray
    data: Facts
    codec: Latents
    text: PromptEncoder
    pixels: SceneSource
    precision: str = "no"
    learns: bool = False
    seed: int = 0
    labels: None = None
    words: tuple[str, ...] = ()

    def indices(self, seed: int, where: tuple[int, ...]) -> np.ndarray:
        return batch_indices(len(self.data), seed, *where)

    def fetch(
        self,
        index: Sequence[int] | np.ndarray,
        seed: int = 0,
        place: Sequence[int] | np.ndarray | None = None,
        **_: Any,
    ) -> Items:
        x = torch.from_numpy(self.x[index].astype(np.float32))
        rows = (
            torch.from_numpy(self.ids[index].astype(np.int64))
            if place is None or not self.sayings
            else self.sayings(index, place)
        )
        return Items(x, None, {"ids": rows})

    @cached_property
    def sayings(self) -> Sayings | None:
        """How scenes are said anew; None where they are not."""
        return (
            Sayings(self.pixels.scenes, self.text.tokenizer, self.seed, len(self.data))
            if self.pixels.section.world > 1
            else None
        )

    @torch.no_grad()
    def condition(self, ids: Tensor, dropped: Tensor) -> Tensor:
        """What the network attends to: (n, tokens, width) encodings of ids (n, tokens); of the empty prompt
        where `dropped` (n,).

        The ids themselves where the encoder learns: it is then part of the network (see `Reader`).
        """
        empty = torch.tensor(self.text.tokenizer.chunks()[0].ids, device=ids.device)
        read = torch.where(dropped[:, None].to(ids.device), empty, ids)
        return read if self.learns else self.text.net(read).hidden

    def known(self) -> Known:
        """The words that captions of training say."""
        from unnoise.train import known

        return known.of(self.pixels.scenes)

    def held_out(self, split: str, n: int) -> LatentSource:
        return replace(
            latents(self.pixels.held_out(split, n), self.codec, self.text, n, precision=self.precision),
            learns=self.learns,
        )


class Reader(nn.Module):
    """A network with the text encoder that learns along, as one: `context` is token ids (n, tokens)."""

    def __init__(self, net: nn.Module, text: nn.Module):
        super().__init__()
        self.net, self.text = net, text

    def forward(self, x: Tensor, time: Tensor | None, context: Tensor) -> Tensor:
        return self.net(x, time, context=self.text(context).hidden)

    def parted(self, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], nn.Module]:
        """The network's share of such weights, and a frozen copy of the text encoder with its own."""
        own, theirs = (
            {k.removeprefix(part): v for k, v in weights.items() if k.startswith(part)}
            for part in ("net.", "text.")
        )
        text = deepcopy(self.text).eval().requires_grad_(False)
        text.load_state_dict(theirs)
        return own, text


def latents(
    source: SceneSource,
    codec: Latents,
    text: PromptEncoder,
    n: int,
    seed: int = 0,
    precision: str = "no",
    parts: slice = slice(None),
    workers: int = 0,
) -> LatentSource:
    """The latents of the first n scenes of a stream, from the cache or made now, in the number type of
    training ("no": float32).

    parts: which of the files to make; several processes may share them out before they are wanted whole.
    workers: processes that draw the scenes, while this one encodes them (0: it does both), on a GPU where
    there is one.
    """
    weights = hashlib.sha256(
        b"".join(p.detach().numpy().tobytes() for p in codec.net.parameters())
    ).hexdigest()
    key = hashlib.sha256(
        json.dumps(
            [source.data.sha256, weights, codec.scale, codec.shift, text.tokenizer.vocab, seed, precision]
        ).encode()
    ).hexdigest()[:16]
    folder = cache() / "latents" / key
    pieces = [range(start, min(start + PART, n)) for start in range(0, n, PART)]
    net = deepcopy(codec.net).to("cuda" if torch.cuda.is_available() else "cpu")
    with _drawing(source, seed, workers) as draw:
        made = [
            _part(folder / f"{r.start:08d}-{r.stop:08d}.npz", draw, replace(codec, net=net), r, n, precision)
            for r in pieces[parts]
        ]
    x, rows = (np.concatenate([p[k] for p in made]) for k in ("x", "ids"))
    facts = replace(source.data, length=len(x), sha256=hashlib.sha256(f"{key} {n}".encode()).hexdigest())
    return LatentSource(x, rows, facts, codec, text, source, precision, seed=seed)


@contextmanager
def _drawing(
    source: SceneSource, seed: int, workers: int
) -> Iterator[Callable[[Iterable[range]], Iterable[Items]]]:
    """ranges of a stream -> their scenes, in order, drawn by so many processes."""
    fetch = partial(source.fetch, seed=seed)
    if not workers:
        yield lambda ranges: map(fetch, ranges)
    else:
        with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            yield lambda ranges: pool.map(fetch, ranges)


def _part(
    file: Path,
    draw: Callable[[Iterable[range]], Iterable[Items]],
    codec: Latents,
    index: range,
    n: int,
    precision: str,
) -> dict[str, np.ndarray]:
    if file.is_file():
        try:
            with np.load(file, allow_pickle=False) as kept:
                return {k: kept[k] for k in ("x", "ids")}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
            pass  # a damaged part is made again
    print(f"latents of scenes {index.start} to {index.stop} of {n}", file=sys.stderr)
    x, rows, at = [], [], next(codec.net.parameters()).device
    for items in draw(
        range(start, min(start + 64, index.stop)) for start in range(index.start, index.stop, 64)
    ):
        with torch.inference_mode(), torch.autocast(at.type, torch.bfloat16, enabled=precision == "bf16"):
            z = codec.net.encode(items.x.to(at)).mean.float()
        x.append(((z - codec.shift) * codec.scale).to(torch.float16).cpu().numpy())
        rows.append(items.more["ids"].numpy().astype(np.int32))
    made = {"x": np.concatenate(x), "ids": np.concatenate(rows)}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as f:
            np.savez(f, x=made["x"], ids=made["ids"])
        part.replace(file)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise BadInput(f"cannot keep latents in {file.parent}: {e.strerror or e}") from e
    return made


def _licence(d: DataSection) -> str:
    from unnoise.data.sources import SOURCES

    return SOURCES[named(d.name) or d.name].licence


# --- from a recipe ------------------------------------------------------------------------------------------


def source(
    recipe: Recipe, split: str, parts_of_cache: slice = slice(None)
) -> SceneSource | LatentSource | WordSource:
    """The scenes that a recipe asks for. BadInput: what it names is not there or does not fit the task."""
    from unnoise.hub import parts

    d, task = recipe.data, recipe.task
    if task == "words":
        from unnoise.train import words

        return words.source(recipe, split)
    scenes = open_scenes(d, split)
    heads = questions(scenes) if task == "recognise" else None
    pixels = SceneSource(scenes, d, Pixels(d.size, d.size, 3), heads=heads)
    if task == "contrast":
        if not d.tokenizer:
            raise BadInput(
                "task 'contrast' needs data.tokenizer, the folder of one (python recipes/tokenizer.py"
                " makes it)"
            )
        from unnoise.text.tokenizer import Tokenizer

        return replace(pixels, tokenizer=Tokenizer.load(d.tokenizer))
    if task != "denoise" or not d.autoencoder:
        return pixels
    if not d.text or not d.cached:
        raise BadInput(
            "latents of scenes need data.text, a model folder with a text encoder, and data.cached, how many"
            " to make"
        )
    codec, text = parts.load_autoencoder(d.autoencoder, d.size), parts.load_text(d.text)
    made = latents(
        replace(pixels, tokenizer=text.tokenizer),
        codec,
        text,
        d.cached,
        recipe.seed,
        recipe.train.precision,
        parts_of_cache,
        recipe.train.workers,
    )
    return replace(made, learns=recipe.train.text)
