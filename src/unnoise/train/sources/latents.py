"""The latents of so many items of a world with their captions, made once and kept.

With `data.cached` the latents and token ids of that many items are made once by a frozen autoencoder, under
`<cache>/latents/<key>` in parts that appear whole, so that being interrupted costs one part; then they are
walked through in shuffled epochs. The text encoder is frozen too: encodings are made as they are needed, from
ids.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from unnoise.base.cache import cache
from unnoise.base.errors import BadInput
from unnoise.codec import Latents
from unnoise.data import batch_indices, positions
from unnoise.train.items import Facts, Items
from unnoise.train.recipe import Recipe
from unnoise.train.sources.protocol import Index, Source, Where
from unnoise.train.sources.world import WorldSource, of_world, token_ids
from unnoise.worlds import World

if TYPE_CHECKING:
    from unnoise.text.encode import PromptEncoder
    from unnoise.text.known import Known
    from unnoise.text.tokenizer import Tokenizer

PART = 4096  # items in one file of cached latents
BATCH = 64  # … that are encoded at once

Draw = Callable[[Iterable[range]], Iterable[Items]]  # ranges of a stream -> their items, in order


@dataclass(frozen=True)
class LatentSource(Source):
    """Latents (n, c, h, w) of cached items with their captions' ids, and the encoder that reads these:
    frozen, or `learns` with the network.

    `seed` is the stream that the items are of. At a place of a run, an item of a world that says anew is said
    anew; beside one, by its kept ids.
    """

    x: np.ndarray
    ids: np.ndarray
    data: Facts
    codec: Latents
    pixels: WorldSource
    text: PromptEncoder
    precision: str = "no"
    learns: bool = False
    seed: int = 0

    def indices(self, seed: int, where: Where) -> np.ndarray:
        return batch_indices(len(self.data), seed, *where)

    def fetch(self, index: Index, seed: int = 0, place: Index | None = None, *_: Any) -> Items:
        x = torch.from_numpy(self.x[index].astype(np.float32))
        if place is None or self.sayings is None:
            ids = torch.from_numpy(self.ids[index].astype(np.int64))
        else:
            ids = self.sayings(index, place)
        return Items(x, None, {"ids": ids})

    @cached_property
    def sayings(self) -> Sayings | None:
        """How items are said anew; None where they are not."""
        world = self.pixels.world
        if not world.says_anew:
            return None
        return Sayings(world, self.text.tokenizer, self.seed, len(self.data))

    @torch.no_grad()
    def condition(self, ids: Tensor, dropped: Tensor) -> Tensor:
        """See `Source`. The ids themselves where the encoder learns: it is then part of the network (see
        `tasks.reader`).
        """
        empty = torch.tensor(self.text.tokenizer.chunks()[0].ids, device=ids.device)
        read = torch.where(dropped[:, None].to(ids.device), empty, ids)
        return read if self.learns else self.text.net(read).hidden

    def known(self) -> Known | None:
        return self.pixels.world.known()

    def held_out(self, recipe: Recipe) -> LatentSource:
        pixels, n = self.pixels.other(recipe.data.validation), recipe.log.validation_samples
        return replace(
            latents(pixels, self.codec, self.text, n, precision=self.precision), learns=self.learns
        )

    def on(self, device: torch.device) -> LatentSource:
        self.text.net.to(device)
        return self

    def ahead(self) -> Sayings | AtHand:
        return self.sayings or AtHand()


@dataclass(frozen=True)
class Sayings:
    """The captions of `n` cached items at the places of a run, as ids."""

    world: World
    tokenizer: Tokenizer
    seed: int
    n: int

    def __call__(self, index: Index, place: Index) -> Tensor:
        said = [self.world.again(self.seed, int(i), int(p)) for i, p in zip(index, place)]
        return token_ids(self.tokenizer, said)

    def draw(self, recipe: Recipe, rollbacks: int, where: Where) -> tuple[None, dict[str, Tensor]]:
        index = batch_indices(self.n, recipe.seed + rollbacks, *where)
        return None, {"ids": self(index, positions(*where))}


class AtHand:
    """Nothing is left to be drawn ahead."""

    def draw(self, recipe: Recipe, rollbacks: int, where: Where) -> tuple[None, dict[str, Tensor]]:
        return None, {}


# --- made once ----------------------------------------------------------------------------------------------


def open_latents(recipe: Recipe, split: str, pieces: slice = slice(None)) -> LatentSource:
    """The latents that a recipe asks for; pieces: see `latents`. BadInput: what it names is not there."""
    from unnoise.hub import parts

    d = recipe.data
    pixels = of_world(recipe, split)
    if not d.text or not d.cached:
        raise BadInput(
            "latents of scenes need data.text, a model folder with a text encoder, and data.cached, how many"
            " to make"
        )
    codec, text = parts.load_autoencoder(d.autoencoder, d.size), parts.load_text(d.text)
    pixels = replace(pixels, tokenizer=text.tokenizer)
    t = recipe.train
    source = latents(pixels, codec, text, d.cached, recipe.seed, t.precision, pieces, t.workers)
    return replace(source, learns=t.text)


def latents(
    source: WorldSource,
    codec: Latents,
    text: PromptEncoder,
    n: int,
    seed: int = 0,
    precision: str = "no",
    pieces: slice = slice(None),
    workers: int = 0,
) -> LatentSource:
    """The latents of the first n items of a stream, from the cache or made now, in the number type of
    training ("no": float32).

    pieces: which of the files to make; several processes may share them out before they are wanted whole.
    workers: processes that draw the items, while this one encodes them (0: it does both), on a GPU where
    there is one.
    """
    key = _key(source, codec, text, seed, precision)
    net = deepcopy(codec.net).to("cuda" if torch.cuda.is_available() else "cpu")
    with _drawing(source, seed, workers) as draw:
        maker = _Maker(cache() / "latents" / key, draw, replace(codec, net=net), n, precision)
        ranges = [range(start, min(start + PART, n)) for start in range(0, n, PART)]
        parts = [_piece(maker, r) for r in ranges[pieces]]
    x, rows = (np.concatenate([p[k] for p in parts]) for k in ("x", "ids"))
    facts = replace(source.data, length=len(x), sha256=hashlib.sha256(f"{key} {n}".encode()).hexdigest())
    return LatentSource(x, rows, facts, codec, source, text, precision, seed=seed)


def _key(source: WorldSource, codec: Latents, text: PromptEncoder, seed: int, precision: str) -> str:
    """A name of all that latents depend on."""
    weights = b"".join(p.detach().numpy().tobytes() for p in codec.net.parameters())
    facts = [
        source.data.sha256,
        hashlib.sha256(weights).hexdigest(),
        codec.scale,
        codec.shift,
        text.tokenizer.vocab,
        seed,
        precision,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@contextmanager
def _drawing(source: WorldSource, seed: int, workers: int) -> Iterator[Draw]:
    """The items of a stream, drawn by so many processes."""
    fetch = partial(source.fetch, seed=seed)
    if not workers:
        yield lambda ranges: map(fetch, ranges)
    else:
        with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            yield lambda ranges: pool.map(fetch, ranges)


class _Maker(NamedTuple):
    """How the pieces of a cache are made: where, of what, by which codec, of how many items in all."""

    folder: Path
    draw: Draw
    codec: Latents
    n: int
    precision: str


def _piece(m: _Maker, index: range) -> dict[str, np.ndarray]:
    """The arrays "x" and "ids" of these items, from their file or made now."""
    file = m.folder / f"{index.start:08d}-{index.stop:08d}.npz"
    kept = _kept(file)
    if kept is not None:
        return kept
    print(f"latents of scenes {index.start} to {index.stop} of {m.n}", file=sys.stderr)
    arrays = _encoded(m, index)
    _keep(file, arrays)
    return arrays


def _kept(file: Path) -> dict[str, np.ndarray] | None:
    """What lies there; None too where it is damaged: then it is made again."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as kept:
            return {k: kept[k] for k in ("x", "ids")}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None


def _encoded(m: _Maker, index: range) -> dict[str, np.ndarray]:
    x, rows, net = [], [], m.codec.net
    at = next(net.parameters()).device
    ranges = (range(start, min(start + BATCH, index.stop)) for start in range(index.start, index.stop, BATCH))
    for items in m.draw(ranges):
        with torch.inference_mode(), torch.autocast(at.type, torch.bfloat16, enabled=m.precision == "bf16"):
            z = net.encode(items.x.to(at)).mean.float()
        x.append(((z - m.codec.shift) * m.codec.scale).to(torch.float16).cpu().numpy())
        rows.append(items.more["ids"].numpy().astype(np.int32))
    return {"x": np.concatenate(x), "ids": np.concatenate(rows)}


def _keep(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """BadInput: the disk refuses."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as f:
            np.savez(f, x=arrays["x"], ids=arrays["ids"])
        part.replace(file)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise BadInput(f"cannot keep latents in {file.parent}: {e.strerror or e}") from e
