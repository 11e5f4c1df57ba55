"""Noisy samples to clean ones: what samplers draw with. The loss is `objective.denoising`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.codec import is_of_pictures
from unnoise.nets.table import NETS
from unnoise.process import noise
from unnoise.train import inpaint, networks, objective, perceptual, reader, upscale
from unnoise.train.features import features_of
from unnoise.train.items import Items
from unnoise.train.recipe import Recipe
from unnoise.train.sources import Source, first, of_data
from unnoise.train.tasks.protocol import SHEET, Task

CONDITIONS, STEPS = 32, 12  # the most classes on a sheet, DDIM steps of a sample
Net = Callable[..., Tensor]


class Denoise(Task):
    """See the file."""

    kinds = tuple(name for name, kind in NETS.items() if not kind.judges)
    Objective = perceptual.Objective
    shows = True

    @classmethod
    def noised(cls, recipe: Recipe) -> bool:
        return True

    def check(self) -> None:
        r, size = self.recipe, {"size": 1} if self._flat else {}
        networks.config(r.net["kind"], {**size, **networks.keys(r)})
        objective.resolve(r.process)

    @property
    def _flat(self) -> bool:
        """Whether the network takes samples of any shape, by their number of entries."""
        return "size" in NETS[self.recipe.net["kind"]].config.model_fields

    def source(self, split: str) -> Source:
        """Latents where `data.autoencoder` is given, else the data themselves."""
        from unnoise.train.sources.latents import open_latents

        return (
            open_latents(self.recipe, split) if self.recipe.data.autoencoder else of_data(self.recipe, split)
        )

    # --- the network

    def net(self, src: Source) -> nn.Module:
        chosen, follows = networks.keys(self.recipe), self._follows(src)
        networks.check_follows(chosen, follows)
        return networks.built(self.recipe, follows | self._classes(chosen, src), self.start)

    def _follows(self, src: Source) -> dict[str, Any]:
        """The keys of the network that the data and the process fix."""
        r, time = self.recipe, self.recipe.process.clock != "none"
        if self._flat:
            return {"size": int(np.prod(src.codec.shape(1)[1:])), "time": time}
        c, *sides = networks.picture_shape(r, src.codec)
        more = c + 1 if r.data.masked else 0
        if r.data.low:
            more = upscale.channels(src.codec, r.data.low)
        follows = {
            "sample_size": sides[0] if sides[0] == sides[1] else tuple(sides),
            "in_channels": c + more,
            "out_channels": c,
            "time": time,
        }
        width = {"cross_attention_dim": src.text.net.config.hidden_size} if src.text else {}
        return follows | width

    def _classes(self, chosen: dict[str, Any], src: Source) -> dict[str, Any]:
        """How many labels the network takes: one more than there are words; the last is "no condition"."""
        if src.labels is None or not src.words:
            return {}
        n = len(src.words)
        asked = chosen.get("num_class_embeds", n + 1)
        if 0 < asked <= n:
            raise BadInput(f"net.num_class_embeds must be 0 (no condition) or above {n}, given {asked}")
        return {"num_class_embeds": n + 1}

    # --- training and judging

    def loss(self, src: Source) -> objective.Loss:
        null = len(src.words) if src.labels is not None else None
        condition = src.condition if src.text else None
        frozen = features_of(self.recipe, src.codec)
        return objective.denoising(self.recipe, null, condition, frozen)

    def validate(self, net: Any, items: Items, src: Source, start: int) -> dict[str, float]:
        """The weighted loss at levels evenly spaced in the schedule's time (`loss_0.0625`, the cleanest, …),
        and its mean.
        """
        r, process, x, out = self.recipe, objective.resolve(self.recipe.process), items.x, {}
        call = self._conditioned(net, items, src)
        if r.data.low:
            c = upscale.clean(r, x)
            call, x = upscale.seeing(call, c), upscale.left(x, c)
        if r.data.masked:
            call = upscale.seeing(call, inpaint.drawn(r, x, "validation", range(start, start + len(x))))
        for u, eps, l in objective.validated(r, process, x, start):
            out[f"loss_{u:.4f}"] = float(process.errors(call, x, eps, l).mean())
        return {"loss": sum(out.values()) / objective.VALIDATED, **out}

    def _conditioned(self, net: Net, items: Items, src: Source) -> Net:
        """The network told the items' captions or labels."""
        if src.text:
            none = torch.zeros(len(items.x), dtype=torch.bool)
            return partial(net, context=src.condition(items.more["ids"], none))
        return net if items.labels is None else partial(net, labels=items.labels)

    def show(self, net: Any, src: Source, held: Callable[[int], Items]) -> Tensor | None:
        """Samples of every condition, by DDIM without guidance; fixed seeds. Pictures only."""
        from unnoise.sample import SAMPLERS, last

        if not is_of_pictures(src.codec):
            return None
        r, process, on = self.recipe, objective.resolve(self.recipe.process), next(net.parameters()).device
        n = SHEET if src.labels is None else 2 * min(len(src.words), CONDITIONS)
        call, low = self._sheet(net, src, n, on), None
        if r.data.low:
            low = upscale.clean(r, held(n).x)
            call = upscale.seeing(call, low)
        if r.data.masked:
            call = upscale.seeing(call, inpaint.drawn(r, held(n).x, "shown", range(n)))
        x = noise.seeded(range(n), "init")(torch.zeros(src.codec.shape(n), device=on))
        out = last(SAMPLERS["ddim"](process.denoiser(call), x, process.curve.path(STEPS)))
        return (out if low is None else upscale.restored(out, low)).nan_to_num()

    def _sheet(self, net: Net, src: Source, n: int, on: torch.device) -> Net:
        """The network told what the n samples of a sheet show: every word in turn, or the first captions."""
        if src.labels is not None:
            return partial(net, labels=torch.arange(n).to(on) % max(len(src.words), 1))
        return self._conditioned(net, first(src, n).to(on), src) if src.text else net

    def save(self, net: Any, src: Source, name: str, folder: Path) -> Path:
        from unnoise import hub
        from unnoise.text.encode import PromptEncoder
        from unnoise.text.words import Words

        d, text, defaults = self.recipe.data, src.text, {}
        if self.recipe.train.text and text:
            net, text = net.net, PromptEncoder(text.tokenizer, reader.frozen(net.text))
        if d.low:
            defaults["upscale"] = {"factor": d.low, "noise": d.low_noise}
        if d.masked:
            defaults["masked"] = "cells"
        return hub.save(
            folder,
            name=name,
            kind=self.recipe.net["kind"],
            net=net,
            weights=None,
            codec=src.codec,
            words=Words(tuple(src.words)) if src.labels is not None else None,
            process=self.recipe.process,
            defaults=defaults,
            text=text,
            known=src.known(),
        )

    def noise_shape(self, net: Any, src: Source) -> tuple[int, ...]:
        return tuple(src.codec.shape(1)[1:])
