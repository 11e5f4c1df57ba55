"""Pictures and captions to one space: CLIP's softmax over the batch, or SigLIP's sigmoid of every pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.base.read import unknown_key
from unnoise.base.section import checked
from unnoise.nets import clip
from unnoise.train import networks, objective
from unnoise.train.items import Items
from unnoise.train.objective import Batch
from unnoise.train.sources import Source, WorldSource, of_world
from unnoise.train.tasks import protocol

TABLES = ("kind", "text", "image")  # of [net]


class Contrast(protocol.Task):
    """See the file."""

    kinds = ("clip",)

    class Objective(protocol.Objective):
        loss: str = Field(default="softmax", pattern="^(softmax|sigmoid)$")

    def check(self) -> None:
        for k in self.recipe.net:
            if k not in TABLES:
                raise BadInput(unknown_key(f"net.{k}", TABLES))

    def source(self, split: str) -> WorldSource:
        """Pictures with their captions as ids of the tokenizer in data.tokenizer."""
        from unnoise.text.tokenizer import Tokenizer

        pixels = of_world(self.recipe, split)
        if not self.recipe.data.tokenizer:
            raise BadInput(
                "task 'contrast' needs data.tokenizer, the folder of one (python recipes/tokenizer.py"
                " makes it)"
            )
        return replace(pixels, tokenizer=Tokenizer.load(self.recipe.data.tokenizer))

    def net(self, src: WorldSource) -> nn.Module:
        net = networks.seeded(self.recipe, lambda: self._net(src))
        self.start(net)
        return net

    def _net(self, src: WorldSource) -> nn.Module:
        t, d, r = src.tokenizer, self.recipe.net, self.recipe
        assert t is not None
        follows = {
            "vocab_size": t.size,
            "bos_token_id": t.bos,
            "eos_token_id": t.eos,
            "pad_token_id": t.pad,
            "max_position_embeddings": t.length,
        }
        text = checked(clip.TextConfig, {**follows, **d.get("text", {})}, "net.text.")
        size = {"image_size": r.data.size}
        image = checked(clip.VisionConfig, {**size, **d.get("image", {})}, "net.image.")
        return Pairs(text, image, self.objective.loss)

    def weights(self, net: Any, name: str) -> dict[str, Tensor]:
        from unnoise.hub import parts

        return {f"clip.{k}": v for k, v in parts.load_clip(name).net.state_dict().items()}

    def loss(self, src: Source) -> objective.Loss:
        return self._loss

    def _loss(self, net: Any, b: Batch, salt: int) -> Tensor:
        return net(clip.prepare(b.x0, b.x0.shape[-1]), b.more["ids"]) * len(b.x0) / b.total

    def settle(self, net: Any) -> None:
        net.limit()

    def validate(self, net: Any, items: Items, src: Source, start: int) -> dict[str, float]:
        """The loss, and how often the caption that is nearest to a picture is its own."""
        x, ids = clip.prepare(items.x, items.x.shape[-1]), items.more["ids"]
        image, text = net.vectors(x, ids)
        same = (ids[:, None] == ids).all(-1)  # equal captions are equally right
        best = (image @ text.T).argmax(1)
        right = same[torch.arange(len(best)), best]
        return {"loss": float(net(x, ids)), "top1": float(right.cpu().double().mean())}

    def save(self, net: Any, src: WorldSource, name: str, folder: Path) -> Path:
        from unnoise.hub import parts

        assert src.tokenizer is not None
        return parts.save_clip(folder, name, net.clip, src.tokenizer)


class Pairs(nn.Module):
    """A CLIP with the loss that trains it, as one module; `forward` is the loss of a batch of pairs, so that
    DDP sees it.
    """

    def __init__(self, text: clip.TextConfig, image: clip.VisionConfig, loss: str):
        super().__init__()
        self.clip, self.sigmoid = clip.CLIP(text, image), loss == "sigmoid"
        if self.sigmoid:
            self.clip.logit_scale.data.fill_(clip.SIGLIP_SCALE)
            self.bias = nn.Parameter(torch.tensor(clip.SIGLIP_BIAS))

    @torch.no_grad()
    def limit(self) -> None:
        """The softmax's temperature stays where its gradient is not cut off."""
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
