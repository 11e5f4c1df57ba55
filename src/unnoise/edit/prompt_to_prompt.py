"""Prompt-to-prompt (Hertz et al. 2023): another prompt, the same layout, by the attention of a run under the
first prompt.

Source and target run side by side in one batch. In the target's conditional half (m are attention maps, * its
own)
    cross   m* <- m A            for the first `cross` of the steps; A aligns the tokens of both prompts: what
                                 stands in both keeps its map, exchanged words share the maps of those that
                                 they replace, added words keep their own
    self    m* <- m              for the first `self` of the steps, at places of at most 16 x 16
    weights m*[:, word] times w  throughout
    local   outside the union of the words' maps (averaged over places, heads and steps so far, scaled to [0,
            1], above .5) the target is the source, from a fifth of the steps on
A real picture runs from its inversion: the source retraces the way up exactly, and the target's estimate is
moved by as much as the source's had to be, so that an edit to the same prompt is the source to the bit. Other
anchors (`edit.invert`) hold by their negative embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.denoiser import Denoiser
from unnoise.edit.hooks import hooked, maps, mixed
from unnoise.edit.invert import (
    ANCHORS,
    Anchored,
    Inversion,
    Steps,
    anchored,
    for_ddim,
    inverted,
    landing,
    single_way,
)
from unnoise.edit.picture import Given, decoded, pasted
from unnoise.edit.run import Run, begin, models_size
from unnoise.nets.layers import attention
from unnoise.nets.unet import Place
from unnoise.pipeline import Count, Pipeline, Result
from unnoise.process.level import Level, move

CROSS, SELF = 0.8, 0.4
SIDE = 16  # cells: the largest place whose self-attention is replaced, and whose words are located
LOCAL_FROM, LOCAL_ABOVE = 0.2, 0.5
HOLDS = ("direct", *ANCHORS)


@dataclass(frozen=True)
class Edited(Result):
    """A Result with what the source's run gave, uint8 (n, h, w, 3), and where the target could differ, (n, h,
    w) in [0, 1] (with `local`).
    """

    source: np.ndarray | None = None
    masks: np.ndarray | None = None


def prompt_to_prompt(
    pipe: Pipeline,
    image: Given | None = None,
    prompt: str | None = None,
    *,
    source: str = "",
    cross: float = CROSS,
    self_: float = SELF,
    weights: Mapping[str, float] | None = None,
    local: Sequence[str] = (),
    anchor: str = "direct",
    method: str = "fixed-point",
    **how: Any,
) -> Edited:
    """Pictures of `prompt` with the layout that `source` gives: of the same seed, or with an image of that
    picture.

    source: the first prompt (what the image shows). cross, self_: shares of the steps. weights: {word of the
    prompt: factor}. local: words of either prompt; only where they look may anything change, and of an image
    the pixels elsewhere are its own. anchor: "direct", "none", "negative-prompt" or "null-text", method:
    "plain" or "fixed-point", both for an image. how: what `edit.run.begin` takes. Errors: BadInput, for a
    model without text or attention too, and for words that are not in the prompts.
    """
    source = arguments.string("source", source)
    target = arguments.string("prompt", "" if prompt is None else prompt)
    control = Control.of(pipe, source, target, cross, self_, _weights(weights), _words(local))
    options = {"source": source, "cross": control.cross, "self_": control.self_}
    options |= {"weights": dict(control.weights) or None, "local": list(control.local) or None}
    if image is None:
        how["sampler"] = how.get("sampler") or "ddim"
        return _drawn(
            begin(pipe, "prompt-to-prompt", None, prompt, options, how, models_size), source, control
        )
    arguments.choice("anchor", anchor, HOLDS)
    single_way("prompt-to-prompt", method)
    options |= {"anchor": anchor, "method": method}
    run = begin(pipe, "prompt-to-prompt", image, prompt, options, for_ddim(how))
    return _changed(run, source, control, anchor, method)


def _drawn(run: Run, source: str, control: Control) -> Edited:
    """Without an image: source and target of each seed."""
    held = Anchored(Steps(run.path()), "")
    x, calls, masks = _side_by_side(run, source, control, held)
    n, pixels = len(run.request.seeds), run.pipe.decode(x)
    where = _enlarged(masks, pixels.shape[1:3])
    return run.result(pixels[n:], calls, Edited, source=pixels[:n], masks=where)


def _changed(run: Run, source: str, control: Control, anchor: str, method: str) -> Edited:
    """Of an image: its own way up, and down again beside the target."""
    pipe, r, picture, up = run.pipe, run.request, run.picture, Count(run.progress)
    tick, direct, n = (lambda k: up()), anchor == "direct", len(r.seeds)
    found = inverted(pipe, run.encoded(), source, method=method, path=run.path(), progress=tick)
    hold = "none" if direct else anchor
    held = anchored(pipe, found, r.guidance, hold, r.negatives[0], progress=tick)
    down = replace(run, request=replace(r, negatives=(held.negative,) * n))
    x, calls, masks = _side_by_side(down, source, control, held, found, direct)
    pixels, where = decoded(pipe, x, picture), _enlarged(masks, picture.size)
    if where is None:
        arrays = [picture.whole(p) for p in pixels[n:]]
    else:
        arrays = [pasted(picture, p, m) for p, m in zip(pixels[n:], where)]
    return run.result(arrays, up.calls + calls, Edited, source=pixels[:n], masks=where)


def _enlarged(masks: Tensor | None, size: Sequence[int]) -> np.ndarray | None:
    """Masks over cells, (n, 1, h, w), over pixels: float64 (n, height, width)."""
    if masks is None:
        return None
    return F.interpolate(masks, tuple(size), mode="nearest")[:, 0].cpu().double().numpy()


def _weights(given: Mapping[str, float] | None) -> dict[str, float]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadInput(f"weights must be {{word: factor}}, given {short(given)}")
    return {arguments.string("a word of weights", k): v for k, v in given.items()}


def _words(given: Sequence[str]) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise BadInput(f"local must be a list of words, given {short(given)}")
    return [arguments.string("a word of local", w) for w in given]


def _side_by_side(
    run: Run,
    source: str,
    control: Control,
    held: Anchored,
    found: Inversion | None = None,
    direct: bool = False,
) -> tuple[Tensor, int, Tensor | None]:
    """(x0 of all sources, then of all targets; network calls of a batch; masks of the targets) of a run of
    targets.
    """
    r, n = run.request, len(run.request.seeds)
    both = replace(r, prompts=(source,) * n + r.prompts, negatives=r.negatives * 2, seeds=r.seeds * 2)
    start = None if found is None else (lambda eps, l: found.xs[0].expand_as(eps))
    masks: list[Any] = [None] * n

    def draw(places: list[int], count: Count) -> Tensor:
        """Both pictures of each place, (k, 2, …)."""
        now = control.begin(len(places), held.steps, found if direct else None)
        pairs, net = both.only([*places, *(n + i for i in places)]), held.net(hooked(run.pipe, now.hook))
        x = run.finish(places, count, pairs, path=held.steps.path, start=start, wrap=now.wrap, net=net)
        for i, m in zip(places, () if now.mask is None else now.mask):
            masks[i] = m
        return x.unflatten(0, (2, len(places))).transpose(0, 1)

    x, calls = run.batched(draw)
    return x.transpose(0, 1).flatten(0, 1), calls, None if masks[0] is None else torch.stack(masks)


# --- words and tokens ---------------------------------------------------------------------------------------


def token_ids(pipe: Pipeline, prompt: str) -> tuple[list[int], int]:
    """(the ids that the text encoder sees, start and padding included; how many are the prompt's). BadInput
    for a prompt of several chunks, one that blends or changes by step, and for a model without a text
    encoder."""
    from unnoise.text.prompts import parse

    if pipe.text is None:
        raise BadInput(
            f"prompt-to-prompt works on the words of a prompt: model {pipe.name!r} has no text encoder"
        )
    p = parse(prompt)
    chunks = [] if p.by_step else [pipe.text.tokenizer.chunks(segments) for _, segments in p.at().branches]
    if len(chunks) != 1 or len(chunks[0]) != 1:
        raise BadInput(
            f"prompt-to-prompt takes plain prompts of at most {pipe.text.tokenizer.length - 2} tokens,"
            f" without blends or changes: given {prompt!r:.80}"
        )
    return list(chunks[0][0].ids), chunks[0][0].count


def aligned(source: Sequence[int], target: Sequence[int], counts: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(A (tokens, tokens), fresh (tokens,)): maps of the target's tokens are m A, but where `fresh` is 1
    their own.

    Runs of tokens that both prompts have are matched; what stands between them in both is exchanged: of k
    tokens for j each new one takes the sum of the k maps over j, so that nothing of the attention is lost.
    The end and the padding are matched in order.
    """
    n, (ns, nt) = len(target), counts
    a, fresh = torch.zeros(n, n), torch.zeros(n)
    for tag, i, i2, j, j2 in SequenceMatcher(
        None, source[1 : 1 + ns], target[1 : 1 + nt], autojunk=False
    ).get_opcodes():
        if tag == "equal":
            a[range(1 + i, 1 + i2), range(1 + j, 1 + j2)] = 1
        elif tag == "replace":
            a[1 + i : 1 + i2, 1 + j : 1 + j2] = 1 / (j2 - j)
        elif tag == "insert":
            fresh[1 + j : 1 + j2] = 1
    a[0, 0] = 1
    for j in range(1 + nt, n):
        a[min(j - nt + ns, n - 1), j] = 1
    return a, fresh


def places_of(pipe: Pipeline, word: str, ids: Sequence[int]) -> list[int]:
    """Where a word's tokens stand in a prompt's ids, every time that it occurs; [] where it does not."""
    assert pipe.text is not None
    tokens = pipe.text.tokenizer.ids(word)
    return [
        i + k
        for i in range(len(ids) - len(tokens) + 1)
        if tokens and list(ids[i : i + len(tokens)]) == tokens
        for k in range(len(tokens))
    ]


# --- what happens at each attention -------------------------------------------------------------------------


@dataclass
class Control:
    """The hook of one pair of prompts; `begin` makes the one of a run."""

    cross: float
    self_: float
    weights: Mapping[str, float]
    local: Sequence[str]
    align: Tensor
    fresh: Tensor
    factor: Tensor  # of each of the target's tokens
    words: tuple[list[int], list[int]]  # places of the local words in source and target
    n: int = 0  # sources in the batch
    steps: Steps = field(default_factory=lambda: Steps(()))
    found: Inversion | None = None  # whose way up the source retraces
    looks: list[Tensor] = field(
        default_factory=list
    )  # sum over steps and layers of the words' maps (2 n, 1, h, w), by size
    mask: Tensor | None = None

    @classmethod
    def of(
        cls,
        pipe: Pipeline,
        source: str,
        target: str,
        cross: float,
        self_: float,
        weights: Mapping[str, float],
        local: Sequence[str],
    ) -> Control:
        cross, self_ = arguments.number("cross", cross, 0, 1), arguments.number("self_", self_, 0, 1)
        (s, ns), (t, nt) = token_ids(pipe, source), token_ids(pipe, target)
        factor, words = torch.ones(len(t)), ([], [])
        for word, w in weights.items():
            at = places_of(pipe, word, t)
            if not at:
                raise BadInput(f"the word {word!r} is not in the prompt {target!r}: it cannot be weighted")
            factor[at] = arguments.number(f"the weight of {word!r}", w, 0)
        for word in local:
            pair = places_of(pipe, word, s), places_of(pipe, word, t)
            if not any(pair):
                raise BadInput(f"the word {word!r} is in neither prompt: given {source!r} and {target!r}")
            words[0].extend(pair[0])
            words[1].extend(pair[1])
        align, fresh = aligned(s, t, (ns, nt))
        return cls(cross, self_, weights, list(local), align, fresh, factor, words)

    def begin(self, n: int, steps: Steps, found: Inversion | None) -> Control:
        """The control of one run of n sources and n targets."""
        return replace(self, n=n, steps=steps, found=found, looks=[], mask=None)

    @property
    def done(self) -> float:
        """The share of the steps that lie behind."""
        return self.steps.now / self.steps.n

    def hook(self, q: Tensor, k: Tensor, v: Tensor, place: Place) -> Tensor:
        out, s, t = attention(q, k, v), slice(0, self.n), slice(self.n, 2 * self.n)
        small = max(place.size) <= SIDE
        if place.kind == "self":
            if self.done >= self.self_ or not small:
                return out
            m = maps(q[s], k[s])
            out[s], out[t] = mixed(m, v[s]), mixed(m, v[t])
            return out
        replacing = self.done < self.cross
        if not (replacing or self.weights or self.local):
            return out
        m, target = maps(q[s], k[s]), maps(q[t], k[t])
        if self.local and small:
            self._locate(m, target, place)
        if replacing:
            target = torch.where(self.fresh.to(m) > 0, target, m @ self.align.to(m))
        out[s], out[t] = mixed(m, v[s]), mixed(target * self.factor.to(m), v[t])
        return out

    def _locate(self, m: Tensor, target: Tensor, place: Place) -> None:
        both = [
            u[..., at].mean(1).sum(-1).unflatten(1, place.size)[:, None]
            for u, at in zip((m, target), self.words)
        ]
        self.looks.append(torch.cat(both))

    def wrap(self, denoise: Denoiser) -> Denoiser:
        """The denoiser of the batch with the source held to the way up, and the target to the source outside
        of the local words.
        """

        def controlled(x: Tensor, l: Level) -> Tensor:
            i = self.steps.now = self.steps.at(l)
            x0, (a, b), n = denoise(x, l), self.steps.path[i : i + 2], self.n
            if self.found is not None:
                x0 = x0 + (landing(x[:n], self.found.xs[i + 1].to(x), a, b) - x0[:n]).repeat(
                    2, *[1] * (x.ndim - 1)
                )
            if not self.local or self.done < LOCAL_FROM:
                return x0
            self.mask = self._where(x)
            outside = landing(x[n:], move(x[:n], x0[:n], a, b), a, b)
            return torch.cat([x0[:n], torch.where(self.mask > 0, x0[n:], outside)])

        return controlled

    def _where(self, x: Tensor) -> Tensor:
        """1 where any of the local words looks in source or target, (n, 1, h, w)."""
        total = sum(F.interpolate(m, x.shape[2:], mode="bilinear", align_corners=False) for m in self.looks)
        assert isinstance(total, Tensor)
        low, high = (f(total, (1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
        total = (total - low) / (high - low).clamp(min=1e-12)
        s, t = (total > LOCAL_ABOVE).to(x).split(self.n)
        return torch.maximum(s, t)
