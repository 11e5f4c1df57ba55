"""Prompts to what the denoiser is conditioned on: chunks of 77 tokens through the text encoder, weighted,
blended, side by side.

    h = net(bos, tokens 1 … 75, eos, padding)            one call a chunk, alone, so that a batch cannot
                                                         change it
    h <- (w h) mean(h) / mean(w h)                       weights w of the tokens, the chunk's mean restored
                                                         (A1111's "original" emphasis)
    c = [h_1, h_2, …] along the tokens                   chunks; shorter prompts are filled with empty ones
    c = sum_b s_b c_b                                    a blend's branches by their shares

Where all weights are 1, or one branch is left, that arithmetic is skipped: the result is bit for bit the
plain prompt's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.text.prompts import Plain, Prompt, parse
from unnoise.text.tokenizer import Chunk, Tokenizer


class PromptEncoder:
    """A tokenizer and a text encoder put together. Stateless: calls may run at the same time.

    net(ids (n, length), embeddings=None, skip=0).hidden is (n, length, width), net.embed(ids) its token
    embeddings.
    """

    def __init__(self, tokenizer: Tokenizer, net: Any, skip: int = 0):
        """skip: how many of the encoder's last layers to leave out. BadInput: tokenizer and net do not
        fit.
        """
        vocabulary, places = net.config.vocab_size, net.config.max_position_embeddings
        if tokenizer.size > vocabulary:
            raise BadInput(
                f"the tokenizer has {tokenizer.size} tokens, the text encoder has embeddings for {vocabulary}"
            )
        if tokenizer.length > places:
            raise BadInput(
                f"the tokenizer makes chunks of {tokenizer.length} tokens, the text encoder has {places}"
                " places"
            )
        self.tokenizer, self.net, self.skip = tokenizer, net, skip

    def check(self, prompt: str | Prompt) -> Prompt:
        """The prompt understood. BadInput when it cannot be, or cannot be told for all steps."""
        prompt = prompt if isinstance(prompt, Prompt) else parse(prompt)
        self.chunks(prompt)
        return prompt

    def chunks(self, prompt: str | Prompt, steps: int | None = None) -> int:
        """The most chunks that the prompt needs at any step (of any number of steps when None); at least
        1.
        """
        prompt = prompt if isinstance(prompt, Prompt) else parse(prompt)
        return max(
            len(self.tokenizer.chunks(segments))
            for plain in prompt.variants(steps)
            for _, segments in plain.branches
        )

    def encode(
        self,
        prompts: str | Prompt | Sequence[str | Prompt],
        step: int = 0,
        steps: int = 1,
        chunks: int | None = None,
        replace: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The encodings (n, length · chunks, width) of prompts at one of `steps` steps.

        chunks None: as many as the longest of them needs at this step. Give `max(self.chunks(p) …)` over what
        must have one shape: the rest is filled with empty chunks, and nothing is ever cut. replace: embedding
        vectors (width,) to use for words of one token. BadInput: a prompt that cannot be understood, or needs
        more chunks than given.
        """
        given = [prompts] if isinstance(prompts, (str, Prompt)) else list(prompts)
        if not given:
            raise BadInput("no prompt is given: the list is empty")
        plains = [(p if isinstance(p, Prompt) else parse(p)).at(step, steps) for p in given]
        need = max(len(self.tokenizer.chunks(segments)) for plain in plains for _, segments in plain.branches)
        if chunks is not None and chunks < need:
            raise BadInput(f"a prompt needs {need} chunks of {self.tokenizer.length} tokens, given {chunks}")
        run = _Run(self, {_one(self.tokenizer, word): v for word, v in (replace or {}).items()})
        return torch.cat([run.plain(plain, chunks or need) for plain in plains])


class _Run:
    """One call of `encode`: each different chunk goes through the net once."""

    def __init__(self, encoder: PromptEncoder, vectors: Mapping[int, Tensor]):
        self.tokenizer, self.net, self.skip, self.vectors = (
            encoder.tokenizer,
            encoder.net,
            encoder.skip,
            vectors,
        )
        self.device = next(encoder.net.parameters()).device
        self.done: dict[tuple[int, ...], Tensor] = {}

    def plain(self, plain: Plain, chunks: int) -> Tensor:
        """(1, length · chunks, width)."""
        parts = [(share, self.branch(segments, chunks)) for share, segments in plain.branches]
        if len(parts) == 1:
            return parts[0][1]
        return sum((share * _wide(h) for share, h in parts[1:]), parts[0][0] * _wide(parts[0][1])).to(
            parts[0][1].dtype
        )

    def branch(self, segments: Iterable[tuple[str, float]], chunks: int) -> Tensor:
        rows = self.tokenizer.chunks(segments)
        rows += self.tokenizer.chunks() * (chunks - len(rows))
        return torch.cat([weighted(self.hidden(row.ids), row) for row in rows], dim=1)

    def hidden(self, row: tuple[int, ...]) -> Tensor:
        if row not in self.done:
            ids = torch.tensor([row], device=self.device)
            vectors = {i: v for i, v in self.vectors.items() if i in row}
            self.done[row] = self.net(
                ids, embeddings=edited(self.net, ids, vectors) if vectors else None, skip=self.skip
            ).hidden
        return self.done[row]


def weighted(h: Tensor, chunk: Chunk) -> Tensor:
    """Hidden states (1, length, width) times the weights of their tokens, with their mean restored; h itself
    where all are 1.

    The rule is A1111's. It says nothing where the mean is nothing beside the states (an encoder whose last
    norm has no bias yet has means that are rounding errors): where one of the two is under 1e-3 of their root
    mean square, the weighted states stay as they are.
    """
    x = _wide(h)
    w = torch.tensor(chunk.weights, dtype=x.dtype, device=h.device)[:, None]
    if bool((w == 1).all()):
        return h
    y = x * w
    before, after = x.mean(), y.mean()
    told = (
        torch.minimum(before.abs() / x.square().mean().sqrt(), after.abs() / y.square().mean().sqrt()) > 1e-3
    )
    return (y * torch.where(told, before / after, 1.0)).to(h.dtype)


def _wide(h: Tensor) -> Tensor:
    """At least float32, for sums and means."""
    return h.to(torch.promote_types(h.dtype, torch.float32))


# --- mixing and editing -------------------------------------------------------------------------------------


def interpolate(a: Tensor, b: Tensor, w: float, spherical: bool = False) -> Tensor:
    """(1 - w) a + w b between two encodings or embeddings of one shape; a at w = 0 and b at w = 1 bit for
    bit.

    spherical: along the arc between the vectors of the last dimension (Shoemake 1985): sin((1-w)θ)/sin θ · a
    + sin(wθ)/sin θ · b, which is the straight line where they are (nearly) parallel. w beyond [0, 1] goes on.
    BadInput: shapes differ, or w is not finite.
    """
    if a.shape != b.shape:
        raise BadInput(
            f"encodings of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be mixed: give both as many"
            " chunks"
        )
    if not math.isfinite(w):
        raise BadInput(f"the weight of a mix must be a finite number, given {w}")
    if w in (0, 1):
        return (b if w else a).clone()
    x, y = _wide(a), _wide(b)
    if not spherical:
        return (x * (1 - w) + y * w).to(a.dtype)
    theta = torch.nn.functional.cosine_similarity(x, y, dim=-1).clamp(-1, 1).acos()[..., None]
    sine, flat = theta.sin(), theta.sin() < 1e-4
    u, v = (torch.where(flat, k, (k * theta).sin() / torch.where(flat, 1.0, sine)) for k in (1 - w, w))
    return (x * u + y * v).to(a.dtype)


def vector(net: Any, tokenizer: Tokenizer, word: str) -> Tensor:
    """The token embedding (width,) of a word that is one token. BadInput names the tokens of one that is
    not.
    """
    return net.embed(torch.tensor([[_one(tokenizer, word)]], device=next(net.parameters()).device))[0, 0]


def blend(net: Any, tokenizer: Tokenizer, a: str, b: str, w: float = 0.5, spherical: bool = False) -> Tensor:
    """The token embedding (width,) between two words, a at w = 0 and b at w = 1: half puppy, half skunk. See
    `interpolate`.
    """
    return interpolate(vector(net, tokenizer, a), vector(net, tokenizer, b), w, spherical)


def edited(net: Any, ids: Tensor, vectors: Mapping[int, Tensor]) -> Tensor:
    """The token embeddings (n, length, width) of ids (n, length), with other vectors (width,) for some ids
    wherever they occur.

    Give them to the net as `embeddings`. Gradients reach the vectors. BadInput: a vector of another width.
    """
    e = net.embed(ids)
    for i, v in vectors.items():
        if v.shape != e.shape[-1:]:
            raise BadInput(f"an embedding must have shape ({e.shape[-1]},), given {tuple(v.shape)}")
        e = torch.where((ids == i)[..., None], v.to(e), e)
    return e


def _one(tokenizer: Tokenizer, word: str) -> int:
    ids = tokenizer.ids(word)
    if len(ids) != 1:
        raise BadInput(
            f"{word!r:.80} is {len(ids)} tokens ({' '.join(tokenizer.tokens(word)[:8])}): give a word that is"
            " one token"
        )
    return ids[0]
