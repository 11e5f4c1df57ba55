"""An image prompt: a small network that lets a text-to-image model also attend to how a picture is drawn
(IP-Adapter; Ye et al. 2023).

    attention(q, k, v) + scale attention(q, W_k c, W_v c),   c = norm(W f) as TOKENS tokens, f the picture's
                                                             vector

in every cross-attention, with W_k and W_v of its own for each: decoupled from the text's, and the model
itself stays as it is. W_v begins at zero, so that training begins at the plain model. f is made of the means
and deviations over places of the bundled judge's first layers: the paper's, CLIP's vector, tells 8 drawers of
emoji apart in 34 of 100 things that it was not fitted on, these in 58. Trained on pairs of one drawer, f of
another thing than the one that is drawn, it learns what pictures of a drawer have in common: its style. Under
a negative prompt, and for the share of training steps that drop it, f is zero.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.edit.hooks import hooked
from unnoise.hub import weights
from unnoise.nets.layers import attention
from unnoise.nets.unet import Hook, Place, Transformer2DModel
from unnoise.pipeline import Pipeline, guides
from unnoise.process.level import Level

TOKENS = 4
FORMAT = "unnoise-adapter-2"  # 1 took CLIP's vectors
DROP = 0.1  # of the training rows lose the picture, and as many the text


class Adapter(nn.Module):
    """Pictures' vectors (n, given) -> keys and values for each cross-attention of a UNet. layers: {its place:
    (heads, width)}.
    """

    def __init__(self, given: int, width: int, layers: dict[str, tuple[int, int]]):
        super().__init__()
        self.given, self.width, self.layers = given, width, layers
        self.project, self.norm = nn.Linear(given, TOKENS * width), nn.LayerNorm(width)
        self.to_k, self.to_v = (
            nn.ModuleDict({_key(p): nn.Linear(width, dim, bias=False) for p, (_, dim) in layers.items()})
            for _ in "kv"
        )
        for p in self.to_v.parameters():
            nn.init.zeros_(p)

    @classmethod
    def of(cls, pipe: Pipeline, given: int) -> Adapter:
        """A new one that fits a pipeline's network. BadInput where that does not attend to text."""
        found: dict[str, tuple[int, int]] = {}
        for m in pipe.net.modules():
            if not isinstance(m, Transformer2DModel):
                continue
            attends: Any = m.transformer_blocks[0].attn2
            found[m.place] = attends.heads, attends.to_q.out_features
        if not found:
            raise BadInput(
                f"model {pipe.name!r} does not attend to a prompt: an image prompt has nowhere to go"
            )
        net: Any = pipe.net
        return cls(given, net.config.cross_attention_dim, found)

    def forward(self, f: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """{place: (keys, values)}, each (n, heads, TOKENS, d)."""
        c = self.norm(self.project(f).unflatten(1, (TOKENS, self.width)))
        heads = lambda u, n: u.unflatten(2, (n, -1)).transpose(1, 2)
        return {
            p: (heads(self.to_k[_key(p)](c), n), heads(self.to_v[_key(p)](c), n))
            for p, (n, _) in self.layers.items()
        }

    def hook(self, f: Tensor, scale: float = 1.0) -> Hook:
        """The hook for calls whose rows are those of f (n, given), or f's and then as many without a picture,
        under negative prompts.
        """
        first = self(f)
        none = self(torch.zeros_like(f))

        def called(q: Tensor, k: Tensor, v: Tensor, place: Place) -> Tensor:
            out = attention(q, k, v)
            if place.kind != "cross":
                return out
            pairs = [first[place.layer], none[place.layer]][: len(q) // len(f)]
            more_k, more_v = (torch.cat(u).to(q) for u in zip(*pairs))
            return out + scale * attention(q, more_k, more_v)

        return called

    def save(self, file: str | os.PathLike) -> Path:
        """One safetensors file, in half precision, whole or not at all."""
        about = {"given": self.given, "width": self.width, "layers": self.layers}
        tensors = {k: v.half() for k, v in self.state_dict().items()}
        return weights.write(tensors, Path(file), {"format": FORMAT, "about": json.dumps(about)})


def _key(place: str) -> str:
    return place.replace(".", "_")


def load(file: str | os.PathLike, pipe: Pipeline) -> Adapter:
    """The adapter of a file, checked against the pipeline. BadInput: missing, damaged, or of another
    network.
    """
    if not Path(file).is_file():
        raise BadInput(f"no adapter at {file} (recipes/style.py trains one)")
    try:
        with safe_open(file, framework="pt") as f:
            told = f.metadata() or {}
            about, kind = json.loads(told["about"]), told["format"]
            tensors = {k: f.get_tensor(k).float() for k in f.keys()}  # noqa: SIM118 - not a dict
        made = Adapter(about["given"], about["width"], {k: tuple(v) for k, v in about["layers"].items()})
        made.load_state_dict(tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as e:
        raise BadInput(f"{file} is no whole adapter: {' '.join(str(e).split())[:100]}") from None
    if kind != FORMAT:
        raise BadInput(
            f"{file} is of the format {kind}, accepted is {FORMAT}: train it anew (recipes/style.py)"
        )
    if made.layers != (own := Adapter.of(pipe, about["given"])).layers or made.width != own.width:
        raise BadInput(f"{file} was trained for another network than that of model {pipe.name!r}")
    return made.to(pipe.runner.device).eval().requires_grad_(False)


def loss(
    pipe: Pipeline, adapter: Adapter, x0: Tensor, eps: Tensor, l: Level, context: Tensor, f: Tensor
) -> Tensor:
    """The model's own training loss, the mean over rows, with the picture's vector f (n, given) beside the
    prompt's encoding (n, tokens, width).
    """
    net = hooked(pipe, adapter.hook(f))
    return pipe.process.errors(lambda x, t: net(x, t, context=context), x0, eps, l).mean()


def draw(
    seed: int, k: int, styles: Sequence[int], things: Sequence[int], n: int
) -> tuple[list[int], list[int], Callable[[float], Tensor]]:
    """For training step k: n pictures, for each another picture of its style that shows another thing, and p
    -> (n,) rows to drop at chance p.
    """
    g = torch.Generator().manual_seed(seed * 1_000_003 + k)
    by: dict[int, list[int]] = {}
    for i, s in enumerate(styles):
        by.setdefault(s, []).append(i)
    pick = lambda items: items[int(torch.randint(len(items), (), generator=g))]
    able = [s for s, members in by.items() if len({things[i] for i in members}) > 1]
    shown, others = [], []
    for _ in range(n):  # every style as often
        i = pick(by[pick(able)])
        j = pick(by[styles[i]])
        while things[j] == things[i]:
            j = pick(by[styles[i]])
        shown.append(i)
        others.append(j)
    return shown, others, lambda p: torch.rand(n, generator=g) < p


def vector(images: Tensor) -> Tensor:
    """The vectors (n, given) of images (n, 3, h, w) in [0, 1], on the CPU: of each layer, means and
    deviations of its channels, normalised.
    """
    with torch.no_grad():
        layers = guides.trunk(guides.judge())(images)
    told = [torch.cat([h.mean((2, 3)), h.std((2, 3), correction=0)], 1) for h in layers]
    return torch.cat([F.layer_norm(t, t.shape[1:]) for t in told], 1)
