"""A text encoder that keeps every word of a caption, and the default model made to read it: `python
recipes/words.py`.

Of the states of recipes/clip.toml's text encoder, trained to tell pictures apart, little is left of the noun
once a colour was said: over nouns "a blue …" varies by 11 (squared, at the noun's token) where "a …" varies
by 209, and after the first layer already. A model that reads them cannot draw a blue car. This encoder has
CLIP's own token and position embeddings and one layer, set by hand: its attention is even, so that each token
adds the mean of those up to it to itself, and nothing is lost.

    runs/words         that encoder, with CLIP's tokenizer
    runs/words-start   a trained model whose cross-attentions read it: h ~ M s + b, the least squares of
                       CLIP's states h by the new ones s, taken into to_k and to_v (b into to_out: keys may be
                       moved alike). Training goes on from there (recipes/emoji-words.toml)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from unnoise import hub
from unnoise.hub import parts
from unnoise.nets.clip import TextEncoder
from unnoise.text.encode import PromptEncoder
from unnoise.train.sources.world import token_ids
from unnoise.worlds.emoji.scenes import Scenes

SHARE = 10.0  # the mean's weight, in deviations of a token's embedding
LEARNABLE = (
    "q_proj.weight",
    "v_proj.weight",
    "fc1.weight",
)  # kept random: nothing is learnt where both factors are 0
CAPTIONS = 3000
COLOURED = (
    0.3  # the weight of captions that name a colour: what CLIP makes of their nouns is not worth copying
)


def even(own: PromptEncoder, more: int = 0) -> PromptEncoder:
    """The encoder of one even layer: final_norm(e + SHARE std(e) mean over the tokens so far of norm(e)), e
    CLIP's embeddings.

    more: further layers, which pass on what they get but can learn: the weights of what they add are 0.
    """
    d = own.net.config.hidden_size
    net = TextEncoder(
        own.net.config.model_copy(
            update={"num_hidden_layers": 1 + more, "intermediate_size": 4 * d if more else 8}
        )
    )
    tensors = {
        k: v if more and k.endswith(LEARNABLE) else torch.zeros_like(v) for k, v in net.state_dict().items()
    }
    tensors |= {k: v for k, v in own.net.state_dict().items() if ".embeddings." in k}
    for k in tensors:
        if "norm" in k and k.endswith("weight"):
            tensors[k] = torch.ones(d)
    layer = "text_model.encoder.layers.0.self_attn."
    std = float(
        own.net.state_dict()["text_model.embeddings.token_embedding.weight"][: own.tokenizer.bos]
        .std(1)
        .mean()
    )
    tensors |= {f"{layer}v_proj.weight": torch.eye(d), f"{layer}out_proj.weight": SHARE * std * torch.eye(d)}
    net.load_state_dict(tensors)
    return PromptEncoder(own.tokenizer, net.eval().requires_grad_(False))


@torch.no_grad()
def translation(own: PromptEncoder, new: PromptEncoder, concepts: int = 300) -> tuple[Tensor, Tensor, float]:
    """M (d, d), b (d,) with h ~ s M + b over all tokens of captions, and the share of h's variance that it
    tells on captions held out.
    """
    scenes = Scenes("emoji", "train", {"plain": 0.4, "objects": 0.35, "pair": 0.15, "hand": 0.1}, concepts)
    rows = token_ids(own.tokenizer, [scenes.caption(5, i) for i in range(CAPTIONS)])
    weigh = torch.tensor(
        [COLOURED if any(scenes.attributes(5, i).colours) else 1.0 for i in range(CAPTIONS)]
    ).double()
    h, s = (e.net(rows).hidden.flatten(0, 1).double() for e in (own, new))
    s, w, n = (
        torch.cat([s, torch.ones(len(s), 1).double()], 1),
        weigh.repeat_interleave(rows.shape[1])[:, None],
        len(s) * 9 // 10,
    )
    a = torch.linalg.solve(
        s[:n].T @ (w[:n] * s[:n]) + torch.eye(s.shape[1]).double(), s[:n].T @ (w[:n] * h[:n])
    )
    left = (h[n:] - s[n:] @ a).square().sum() / (h[n:] - h[n:].mean(0)).square().sum()
    return a[:-1].float(), a[-1].float(), 1 - float(left)


def translated(tensors: dict[str, Tensor], m: Tensor, b: Tensor) -> dict[str, Tensor]:
    """A UNet's weights whose cross-attentions take s where they took s M + b."""
    out = dict(tensors)
    for k, v in tensors.items():
        if k.endswith("attn2.to_k.weight"):
            out[k] = v @ m.T
        if k.endswith("attn2.to_v.weight"):
            out[k], to_out = v @ m.T, k.replace("to_v.weight", "to_out.0")
            out[f"{to_out}.bias"] = tensors[f"{to_out}.bias"] + tensors[f"{to_out}.weight"] @ (v @ b)
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clip", type=Path, default=Path("runs/clip/model"))
    p.add_argument("--model", type=Path, default=Path("runs/emoji-composed/model"))
    p.add_argument(
        "--layers",
        type=int,
        default=0,
        help="further layers, for training to fill (train.text): makes words/ alone",
    )
    p.add_argument("--out", type=Path, default=Path("runs"), help="where words/ and words-start/ go")
    a = p.parse_args()
    own = parts.load_text(a.clip)
    torch.manual_seed(0)
    new = even(own, a.layers)
    print(parts.save_text(a.out / "words" / "model", "emoji-words", new))
    if a.layers:
        return
    f, (m, b, told) = hub.load(a.model), translation(own, new)
    start = hub.save(
        a.out / "words-start" / "model",
        name=f.name,
        kind=f.kind,
        net=f.net,
        weights=translated(f.net.state_dict(), m, b),
        codec=f.codec,
        words=None,
        process=f.process,
        defaults=f.defaults,
        text=new,
        clip=None,
    )
    print(f"{start} (the translation tells {told:.2f} of CLIP's states)")


if __name__ == "__main__":
    main()
