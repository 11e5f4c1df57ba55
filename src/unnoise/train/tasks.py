"""What is trained beside denoisers: an autoencoder, a CLIP and a judge of scenes. One class a task, each with its objective's keys.

    autoencode  |x - y| + square (x - y)^2 + edge |dx - dy| + kl KL(q(z | x), N(0, 1)) / numbers of z;  y the decoding of a sample z,
                d differences of neighbours (the square is what teaches colours early: an absolute error is as steep for hues as for grain)
    contrast    CLIP's softmax over the batch, or SigLIP's sigmoid of every pair
    recognise   the sum over a scene's questions of the cross-entropy of their answers

A task has: `net(recipe, source)`, `loss(net, batch)` as a sum over the batch, `validate(net, items)` as means by name,
`show(net, items)` images or None, and `save(net, source, name, folder)`.
"""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from unnoise.errors import BadInput
from unnoise.nets import clip
from unnoise.nets.autoencoder import Autoencoder, AutoencoderConfig, Posterior
from unnoise.nets.recogniser import Recogniser, RecogniserConfig
from unnoise.process import noise
from unnoise.train.initial import near_linear
from unnoise.train.recipe import Recipe, explain
from unnoise.train.worlds import IGNORED, Items, SceneSource


class _Objective(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Autoencode:
    """Pictures to latents and back."""

    config = AutoencoderConfig

    class Objective(_Objective):
        square: float = Field(default=4.0, ge=0)
        edge: float = Field(default=1.0, ge=0)
        kl: float = Field(default=1e-4, ge=0)

    def __init__(self, recipe: Recipe):
        self.objective, self.seed = _objective(recipe, self.Objective), recipe.seed

    def net(self, recipe: Recipe, src: SceneSource) -> nn.Module:
        n = len(recipe.net.get("block_out_channels", (64,)))
        follows = {"down_block_types": ("DownEncoderBlock2D",) * n, "up_block_types": ("UpDecoderBlock2D",) * n, "sample_size": recipe.data.size}
        net = Autoencoder(_config(AutoencoderConfig, {**follows, **_own(recipe)}))
        near_linear(net)
        return Through(net)

    def loss(self, net: Any, x: Tensor, more: dict[str, Tensor], places: np.ndarray) -> Tensor:
        return self._errors(x, *net(x, self._eps(net, x, places))).sum()

    def _eps(self, net: Any, x: Tensor, places: np.ndarray) -> Tensor:
        """Unit normals for the latents of x, by their places in the stream."""
        c = getattr(net, "module", net).autoencoder.config
        shape = c.latent_channels, x.shape[2] // c.factor, x.shape[3] // c.factor
        return torch.stack([noise.draw(self.seed, "latents", int(i), shape) for i in places]).to(x)

    def _errors(self, x: Tensor, y: Tensor, q: Posterior) -> Tensor:
        """(n,) losses."""
        o, error = self.objective, (y - x).float()
        far = error.abs().flatten(1).mean(1) + o.square * error.square().flatten(1).mean(1)
        edges = [d.abs().flatten(1).mean(1) for d in (error.diff(dim=2), error.diff(dim=3))]
        return far + o.edge * sum(edges, torch.zeros(())) / 2 + o.kl * q.kl().float() / q.mean[0].numel()

    def validate(self, net: Any, items: Items) -> dict[str, float]:
        y, q = net(items.x, None)
        mse = (y.float().clamp(-1, 1) - items.x).square().flatten(1).mean(1)
        return {"loss": float(self._errors(items.x, y, q).mean()), "psnr": float((10 * torch.log10(4 / mse.clamp(min=1e-9))).mean()),
                "kl": float(q.kl().mean()), "latent_std": float(q.mean.std())}

    def show(self, net: Any, items: Items) -> Tensor:
        """Pictures and what came back, in turn."""
        return torch.stack([items.x, net(items.x, None)[0].float()], dim=1).flatten(0, 1)

    def save(self, net: Any, src: SceneSource, name: str, folder: Path) -> Path:
        from unnoise.hub import parts

        codec = parts.measured(net.autoencoder, src.fetch(range(256)).x, src.section.size)
        return parts.save_autoencoder(folder, name, codec)


class Through(nn.Module):
    """An autoencoder whose `forward` goes all the way, so that DDP sees it: x, and noise or None -> (y, posterior of x)."""

    def __init__(self, autoencoder: Autoencoder):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, x: Tensor, eps: Tensor | None) -> tuple[Tensor, Posterior]:
        q = self.autoencoder.encode(x)
        q = Posterior(q.mean.float(), q.logvar.float())
        return self.autoencoder.decode(q.mean if eps is None else q.sample(eps)), q


class Contrast:
    """Pictures and captions to one space."""

    config = None

    class Objective(_Objective):
        loss: str = Field(default="softmax", pattern="^(softmax|sigmoid)$")

    def __init__(self, recipe: Recipe):
        self.objective = _objective(recipe, self.Objective)
        _check_sections(recipe, ("kind", "text", "image"))

    def net(self, recipe: Recipe, src: SceneSource) -> nn.Module:
        assert src.tokenizer is not None
        t, d = src.tokenizer, recipe.net.get("text", {})
        own = {"vocab_size": t.size, "bos_token_id": t.bos, "eos_token_id": t.eos, "pad_token_id": t.pad, "max_position_embeddings": t.length}
        text = _config(clip.TextConfig, {**own, **d}, "net.text.")
        image = _config(clip.VisionConfig, {"image_size": recipe.data.size, **recipe.net.get("image", {})}, "net.image.")
        return Matcher(text, image, self.objective.loss)

    def loss(self, net: Any, x: Tensor, more: dict[str, Tensor], places: np.ndarray) -> Tensor:
        return net(clip.prepare(x, x.shape[-1]), more["ids"]) * len(x)

    def validate(self, net: Any, items: Items) -> dict[str, float]:
        image, text = net.vectors(clip.prepare(items.x, items.x.shape[-1]), items.more["ids"])
        same = (items.more["ids"][:, None] == items.more["ids"]).all(-1)  # equal captions are equally right
        best = (image @ text.T).argmax(1)
        loss = net(clip.prepare(items.x, items.x.shape[-1]), items.more["ids"])
        return {"loss": float(loss), "top1": float(same[torch.arange(len(best)), best].double().mean())}

    def show(self, net: Any, items: Items) -> None:
        return None

    def save(self, net: Any, src: SceneSource, name: str, folder: Path) -> Path:
        from unnoise.hub import parts

        assert src.tokenizer is not None
        return parts.save_clip(folder, name, net.clip, src.tokenizer)


class Matcher(nn.Module):
    """A CLIP with the loss that trains it, as one module; `forward` is the loss of a batch, so that DDP sees it."""

    def __init__(self, text: clip.TextConfig, image: clip.VisionConfig, loss: str):
        super().__init__()
        self.clip, self.sigmoid = clip.CLIP(text, image), loss == "sigmoid"
        if self.sigmoid:
            self.clip.logit_scale.data.fill_(clip.SIGLIP_SCALE)
            self.bias = nn.Parameter(torch.tensor(clip.SIGLIP_BIAS))

    def vectors(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        image, text = self.clip(x, ids)
        return image.float(), text.float()

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        image, text = self.vectors(x, ids)
        if self.sigmoid: return clip.siglip_loss(image, text, self.clip.logit_scale, self.bias)
        return clip.clip_loss(image, text, self.clip.logit_scale)


class Recognise:
    """Everything that a scene shows."""

    config = RecogniserConfig
    Objective = _Objective

    def __init__(self, recipe: Recipe):
        self.objective, self.smoothing = _objective(recipe, self.Objective), recipe.train.label_smoothing

    def net(self, recipe: Recipe, src: SceneSource) -> nn.Module:
        return Recogniser(_config(RecogniserConfig, {"channels": 3, "heads": src.heads, **_own(recipe)}))

    def loss(self, net: Any, x: Tensor, more: dict[str, Tensor], places: np.ndarray) -> Tensor:
        return self._losses(net(x), more).sum()

    def _losses(self, logits: dict[str, Tensor], more: dict[str, Tensor]) -> Tensor:
        how = {"reduction": "none", "ignore_index": IGNORED, "label_smoothing": self.smoothing}
        return torch.stack([F.cross_entropy(l.float(), more[f"head/{k}"], **how) for k, l in logits.items()]).sum(0)

    def validate(self, net: Any, items: Items) -> dict[str, float]:
        logits, out = net(items.x), {}
        out["loss"] = float(self._losses(logits, items.more).mean())
        for k, l in logits.items():
            asked = (true := items.more[f"head/{k}"]) != IGNORED
            out[k] = float((l.argmax(1) == true)[asked].double().mean()) if asked.any() else math.nan
        return out

    def show(self, net: Any, items: Items) -> None:
        return None

    def save(self, net: Any, src: SceneSource, name: str, folder: Path) -> Path:
        from unnoise import hub

        return hub.save(folder, name=name, kind="recogniser", net=net, weights=None, codec=src.codec, words=None, process=None)


TASKS = {"autoencode": Autoencode, "contrast": Contrast, "recognise": Recognise}
KIND = {"autoencode": "autoencoder", "contrast": "clip", "recognise": "recogniser"}  # the net.kind of each


def _objective(recipe: Recipe, model: type[BaseModel]) -> Any:
    try: return model(**recipe.objective)
    except ValidationError as e: raise BadInput(explain(e, model, "objective.")) from None


def _own(recipe: Recipe) -> dict:
    return {k: v for k, v in recipe.net.items() if k != "kind"}


def _check_sections(recipe: Recipe, known: tuple[str, ...]) -> None:
    for k in recipe.net:
        if k not in known: raise BadInput(f"unknown key 'net.{k}' (accepted: {', '.join(known)})")


def _config(model: type[BaseModel], d: dict, prefix: str = "net.") -> Any:
    try: return model(**d)
    except ValidationError as e: raise BadInput(explain(e, model, prefix)) from None
