"""What is trained beside denoisers: an autoencoder, a CLIP, a judge of scenes, words, a score. One class a
task, each with its objective's keys.

    autoencode  |x - y| + square (x - y)^2 + edge |dx - dy| + kl KL(q(z | x), N(0, 1)) / numbers of z;  y the
    decoding of a sample z,
                d differences of neighbours (the square is what teaches colours early: an absolute error is as
                steep for hues as for grain)
    contrast    CLIP's softmax over the batch, or SigLIP's sigmoid of every pair
    recognise   the sum over a scene's questions of the cross-entropy of their answers
    words       what a caption says, without pictures: see `train.words`
    score       one of the objectives of `train.score`, of data of any shape, in the units in which the
                network sees them

A task has: `net(recipe, source)`, `loss(net, batch)` as a sum over the batch, `validate(net, items)` as means
by name, `show(net, items)` images or None, and `save(net, source, name, folder)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.denoiser import Mixture
from unnoise.denoiser.adapt import c_noise
from unnoise.nets import clip
from unnoise.nets.autoencoder import Autoencoder, AutoencoderConfig, Posterior
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.nets.recogniser import Recogniser, RecogniserConfig
from unnoise.process import noise
from unnoise.process.level import Level, clean, spread, ve
from unnoise.sample.mcmc import gradient
from unnoise.train import score
from unnoise.train.initial import near_linear
from unnoise.train.recipe import Recipe, section
from unnoise.train.words import Words
from unnoise.train.worlds import IGNORED, Items, SceneSource


class _Objective(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Autoencode:
    """Pictures to latents and back."""

    config = AutoencoderConfig
    stream = "latents"  # of noise

    class Objective(_Objective):
        square: float = Field(default=4.0, ge=0)
        edge: float = Field(default=1.0, ge=0)
        kl: float = Field(default=1e-4, ge=0)

    def __init__(self, recipe: Recipe):
        self.objective, self.seed = _objective(recipe, self.Objective), recipe.seed

    def net(self, recipe: Recipe, src: SceneSource) -> nn.Module:
        n = len(recipe.net.get("block_out_channels", (64,)))
        follows = {
            "down_block_types": ("DownEncoderBlock2D",) * n,
            "up_block_types": ("UpDecoderBlock2D",) * n,
            "sample_size": recipe.data.size,
        }
        net = Autoencoder(_config(AutoencoderConfig, {**follows, **_own(recipe)}))
        near_linear(net)
        return Through(net)

    def loss(self, net: Any, x: Tensor, more: dict[str, Tensor], places: np.ndarray) -> Tensor:
        eps = (
            more["noise"]
            if "noise" in more
            else noise.draws(self.seed, self.stream, places, self.noised(net, x.shape[2:]))
        )
        return self._errors(x, *net(x, eps.to(x))).sum()

    def noised(self, net: Any, size: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the noise that a picture of that size takes: its latents'."""
        c = getattr(net, "module", net).autoencoder.config
        return c.latent_channels, *(side // c.factor for side in size)

    def _errors(self, x: Tensor, y: Tensor, q: Posterior) -> Tensor:
        """(n,) losses."""
        o, error = self.objective, (y - x).float()
        far = error.abs().flatten(1).mean(1) + o.square * error.square().flatten(1).mean(1)
        edges = [d.abs().flatten(1).mean(1) for d in (error.diff(dim=2), error.diff(dim=3))]
        return far + o.edge * sum(edges, torch.zeros(())) / 2 + o.kl * q.kl().float() / q.mean[0].numel()

    def validate(self, net: Any, items: Items) -> dict[str, float]:
        y, q = net(items.x, None)
        mse = (y.float().clamp(-1, 1) - items.x).square().flatten(1).mean(1)
        return {
            "loss": float(self._errors(items.x, y, q).mean()),
            "psnr": float((10 * torch.log10(4 / mse.clamp(min=1e-9))).mean()),
            "kl": float(q.kl().mean()),
            "latent_std": float(q.mean.std()),
        }

    def show(self, net: Any, items: Items) -> Tensor:
        """Pictures and what came back, in turn."""
        return torch.stack([items.x, net(items.x, None)[0].float()], dim=1).flatten(0, 1)

    def save(self, net: Any, src: SceneSource, name: str, folder: Path) -> Path:
        from unnoise.hub import parts

        codec = parts.measured(net.autoencoder, src.fetch(range(256)).x, src.section.size)
        return parts.save_autoencoder(folder, name, codec)


class Through(nn.Module):
    """An autoencoder whose `forward` goes all the way, so that DDP sees it: x, and noise or None -> (y,
    posterior of x).
    """

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
        own = {
            "vocab_size": t.size,
            "bos_token_id": t.bos,
            "eos_token_id": t.eos,
            "pad_token_id": t.pad,
            "max_position_embeddings": t.length,
        }
        text = _config(clip.TextConfig, {**own, **d}, "net.text.")
        image = _config(
            clip.VisionConfig, {"image_size": recipe.data.size, **recipe.net.get("image", {})}, "net.image."
        )
        return Matcher(text, image, self.objective.loss)

    def loss(self, net: Any, x: Tensor, more: dict[str, Tensor], places: np.ndarray) -> Tensor:
        return net(clip.prepare(x, x.shape[-1]), more["ids"]) * len(x)

    def validate(self, net: Any, items: Items) -> dict[str, float]:
        image, text = net.vectors(clip.prepare(items.x, items.x.shape[-1]), items.more["ids"])
        same = (items.more["ids"][:, None] == items.more["ids"]).all(-1)  # equal captions are equally right
        best = (image @ text.T).argmax(1)
        loss = net(clip.prepare(items.x, items.x.shape[-1]), items.more["ids"])
        return {"loss": float(loss), "top1": float(same[torch.arange(len(best)), best].cpu().double().mean())}

    def show(self, net: Any, items: Items) -> None:
        return None

    def save(self, net: Any, src: SceneSource, name: str, folder: Path) -> Path:
        from unnoise.hub import parts

        assert src.tokenizer is not None
        return parts.save_clip(folder, name, net.clip, src.tokenizer)


class Matcher(nn.Module):
    """A CLIP with the loss that trains it, as one module; `forward` is the loss of a batch, so that DDP sees
    it.
    """

    def __init__(self, text: clip.TextConfig, image: clip.VisionConfig, loss: str):
        super().__init__()
        self.clip, self.sigmoid = clip.CLIP(text, image), loss == "sigmoid"
        if self.sigmoid:
            self.clip.logit_scale.data.fill_(clip.SIGLIP_SCALE)
            self.bias = nn.Parameter(torch.tensor(clip.SIGLIP_BIAS))

    @torch.no_grad()
    def limit(self) -> None:
        """To be called after every step of the optimiser: the softmax's temperature stays where its gradient
        is not cut off.
        """
        if not self.sigmoid:
            self.clip.logit_scale.clamp_(max=clip.MAX_LOGIT_SCALE)

    def vectors(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        image, text = self.clip(x, ids)
        return image.float(), text.float()

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        image, text = self.vectors(x, ids)
        if self.sigmoid:
            return clip.siglip_loss(image, text, self.clip.logit_scale, self.bias)
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
        return torch.stack(
            [F.cross_entropy(l.float(), more[f"head/{k}"], **how) for k, l in logits.items()]
        ).sum(0)

    def validate(self, net: Any, items: Items) -> dict[str, float]:
        logits, out = net(items.x), {}
        out["loss"] = float(self._losses(logits, items.more).mean())
        for k, l in logits.items():
            asked = (true := items.more[f"head/{k}"]) != IGNORED
            out[k] = float((l.argmax(1) == true)[asked].cpu().double().mean()) if asked.any() else math.nan
        return out

    def show(self, net: Any, items: Items) -> None:
        return None

    def save(self, net: Any, src: SceneSource, name: str, folder: Path) -> Path:
        from unnoise import hub

        return hub.save(
            folder,
            name=name,
            kind="recogniser",
            net=net,
            weights=None,
            codec=src.codec,
            words=None,
            process=None,
        )


class Match:
    """Data to their score, grad log p, by the objective `kind`: a method of `train.score` (Hutchinson's trace
    is "sliced_vr").

    form "score": the network is s(x), under "ncsn" sigma s(x, sigma) of x / sqrt(1 + sigma^2). "energy": log
    p = -|x - f(x)|^2 / 2 up to a constant, f the network (Salimans & Ho 2021), and s its gradient. truth: a
    mixture's file (see `Mixture.from_json`), whose score is what "explicit" learns from, and what validation
    compares with where it is given ("error": relative, root mean square).
    """

    config = MLPConfig

    class Objective(_Objective):
        kind: Literal["explicit", "implicit", "sliced", "sliced_vr", "denoising", "ncsn"] = "denoising"
        form: Literal["score", "energy"] = "score"
        truth: str = ""
        projections: Literal["rademacher", "gaussian", "sphere"] = "rademacher"
        count: int = Field(default=1, ge=1)  # of projections
        sigma: float = Field(default=0.1, gt=0)  # of "denoising", and the least of "ncsn"
        high: float = Field(default=1.0, gt=0)  # the greatest of "ncsn"
        levels: int = Field(default=10, ge=2)

    def __init__(self, recipe: Recipe):
        self.objective, self.seed = _objective(recipe, self.Objective), recipe.seed
        o = self.objective
        if o.kind == "explicit" and not o.truth:
            raise BadInput("objective.kind 'explicit' needs objective.truth, a mixture's file")
        if o.kind == "ncsn" and o.form == "energy":
            raise BadInput("objective.form 'energy' knows one level: objective.kind 'ncsn' has many")
        self.sigmas = score.levels(o.high, o.sigma, o.levels) if o.kind == "ncsn" else None
        self.truth = Mixture.from_json(o.truth) if o.truth else None

    def net(self, recipe: Recipe, src: Any) -> nn.Module:
        size = math.prod(src.codec.shape(1))
        if self.truth and math.prod(self.truth.shape) != size:
            raise BadInput(
                f"objective.truth is a mixture in {math.prod(self.truth.shape)} dimensions, and"
                f" {recipe.data.name} has {size} numbers an item"
            )
        net = MLP(_config(MLPConfig, {"size": size, **_own(recipe), "time": self.sigmas is not None}))
        return Scorer(net, getattr(src.codec, "mean", 0.0), getattr(src.codec, "std", 1.0))

    def score(self, net: Any) -> Any:
        """The network as a score, x -> x's shape; under "ncsn" (x, level)."""
        if self.sigmas is not None:
            return lambda x, l: net(x / _root(x, l), c_noise(l).to(x)) / spread(l.sigma, x)
        return (
            gradient(lambda x: -(x - net(x)).flatten(1).square().sum(1) / 2)
            if self.objective.form == "energy"
            else net
        )

    def loss(self, net: Any, x: Tensor, more: dict[str, Tensor], places: np.ndarray) -> Tensor:
        return self._losses(net, x, "train", places).sum()

    def _losses(self, net: Any, x: Tensor, stream: str, places: np.ndarray) -> Tensor:
        """(n,) losses; noise and projections are those of the places in the stream."""
        o, s, z = self.objective, self.score(net), _at_places(self.seed, f"score/{stream}", places)
        if o.kind == "explicit":
            return score.explicit(s, x, self._true(net))
        if o.kind == "implicit":
            return score.implicit(s, x)
        if o.kind == "denoising":
            return score.denoising(s, x, o.sigma, z(x))
        if self.sigmas is None:
            return getattr(score, o.kind)(s, x, score.project(o.projections, x, z, o.count))
        u = torch.stack([noise.uniform(self.seed, f"score/{stream}/level", int(i), ()) for i in places])
        return score.ncsn(s, x, self.sigmas[(u * o.levels).long()], z(x))

    def _true(self, net: Any) -> Callable[[Tensor], Tensor]:
        """The score of the truth in the network's units."""
        own, truth = getattr(net, "module", net), self.truth
        assert truth is not None
        return lambda x: own.std * truth.score(own.mean + own.std * x, clean())

    def validate(self, net: Any, items: Items) -> dict[str, float]:
        told = {"loss": float(self._losses(net, items.x, "validation", np.arange(len(items.x))).mean())}
        if not self.truth:
            return told
        s, true = self.score(net), self._true(net)(items.x)
        found = s(items.x, ve(self.sigmas[-1:])) if self.sigmas is not None else s(items.x)
        return {**told, "error": float(((found - true).square().sum() / true.square().sum()).sqrt())}

    def show(self, net: Any, items: Items) -> None:
        return None

    def save(self, net: Any, src: Any, name: str, folder: Path) -> Path:
        from unnoise import hub

        return hub.save(
            folder,
            name=name,
            kind="mlp",
            net=net.mlp,
            weights=None,
            codec=src.codec,
            words=None,
            process=None,
        )


class Scorer(nn.Module):
    """An MLP with the mean and the standard deviation by which its data were standardised."""

    mean: Tensor
    std: Tensor

    def __init__(self, mlp: MLP, mean: float, std: float):
        super().__init__()
        self.mlp = mlp
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        return self.mlp(x, t)


def _root(x: Tensor, l: Level) -> Tensor | float:
    return spread((1 + l.sigma**2).sqrt(), x)


def _at_places(seed: int, stream: str, places: np.ndarray) -> noise.Noise:
    """Unit normals of which those of a sample depend on its place alone; each call draws anew."""
    calls = count()

    def draws(like: Tensor, *_: Any) -> Tensor:
        k = next(calls)
        return noise.draws(seed, f"{stream}/{k}", places, like.shape[1:]).to(like)

    return draws


TASKS = {
    "autoencode": Autoencode,
    "contrast": Contrast,
    "recognise": Recognise,
    "score": Match,
    "words": Words,
}
KIND = {
    "autoencode": "autoencoder",
    "contrast": "clip",
    "recognise": "recogniser",
    "score": "mlp",
    "words": "reader",
}  # the net.kind of each


def _objective(recipe: Recipe, model: type[BaseModel]) -> Any:
    return section(recipe.objective, model, "objective.")


def _own(recipe: Recipe) -> dict:
    return {k: v for k, v in recipe.net.items() if k != "kind"}


def _check_sections(recipe: Recipe, known: tuple[str, ...]) -> None:
    for k in recipe.net:
        if k not in known:
            raise BadInput(f"unknown key 'net.{k}' (accepted: {', '.join(known)})")


def _config(model: type[BaseModel], d: dict, prefix: str = "net.") -> Any:
    return section(d, model, prefix)
