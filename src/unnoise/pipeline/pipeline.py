"""The class that users hold: a model ready to draw. It only puts the rooms together.

    pipe = unnoise.load("emoji")
    result = pipe("a red apple", seed=7, num_images=4)     # seeds 7, 8, 9, 10: one an image
    for state in pipe.stream("a red apple", seed=7): ...   # State(x, level, x0) each step

Image i depends on its own seed alone: not on the batch it is made in, nor on what is made beside it.
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unnoise import hub
from unnoise.base import arguments
from unnoise.base.errors import BadInput, unknown
from unnoise.base.version import DEFAULT_MODEL
from unnoise.engine import device as devices
from unnoise.engine.runner import Runner
from unnoise.pipeline import bind, record
from unnoise.pipeline import request as requests
from unnoise.pipeline import run as runs
from unnoise.pipeline.call import RUNNING, call, given, takes
from unnoise.pipeline.request import Request
from unnoise.pipeline.result import Result
from unnoise.sample import State
from unnoise.text import known
from unnoise.text.condition import condition_of
from unnoise.train import objective


class Pipeline:
    """A model ready to draw. Stateless: calls may run at the same time and do not see each other."""

    def __init__(
        self,
        folder: hub.Folder,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "fp32",
        memory_budget: str | int | None = None,
        compile: bool = False,
        once: bool = False,
        copy: bool = True,
    ):
        """folder: what to draw with. copy: whether its weights are copied, so that they are this pipeline's
        alone; False where nobody else holds them. The other arguments are those of `load`. BadInput for a
        model that judges and does not draw.
        """
        if folder.process is None:
            raise BadInput(f"{folder.name!r} is a {folder.kind}: it judges images and cannot draw them")
        self.name, self.sha256, self.words = folder.name, folder.sha256, folder.words
        self.process = objective.resolve(folder.process)
        self.schedule = self.process.curve
        self.defaults = requests.defaults_of(folder)
        self.tuned = {int(k): v for k, v in folder.defaults.get("tuned", {}).items()}
        on = devices.device(device)
        compile, once = arguments.flag("compile", compile), arguments.flag("once", once)
        self.runner = Runner(folder, on, devices.dtype(dtype, on), memory_budget, compile, once, copy)
        self.folder = self.runner.folder

    # what runs: on the runner's device, in its number type
    net = property(lambda self: self.runner.net, doc="The denoising network.")
    codec = property(lambda self: self.runner.codec, doc="Data <-> tensors of the model's space.")
    text = property(lambda self: self.runner.text, doc="The prompt encoder, or None.")
    condition = property(
        lambda self: condition_of(self.words, self.text, self.runner.encoder, self.runner.release_text),
        doc="What a prompt is to it (`text.condition`), or None where it takes none.",
    )
    fast = property(
        lambda self: self.runner.fast(),
        doc="`net` in the form that runs fastest here (see `engine.fuse`): made anew once its weights have"
        " changed.",
    )

    @takes(call)
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        progress: runs.Progress | None = None,
        on_state: Callable[[int, State], None] | None = None,
        **how: Any,
    ) -> Result:
        r = self.request(prompt, **how)
        arrays: list[np.ndarray] = [np.empty(0)] * len(r.seeds)
        calls = []
        for places, images, n in self.pictures(r, batch_size, progress, on_state):
            calls.append(n)
            for i, a in zip(places, images):
                arrays[i] = a
        recipes = tuple(r.recipe(self, i) for i in range(len(r.seeds)))
        return Result(np.stack(arrays), r.seeds, sum(calls) // len(calls), recipes, medium=self.codec.medium)

    @takes(call, without=RUNNING)
    def stream(self, prompt: str | Sequence[str] | None = None, **how: Any) -> Iterator[State]:
        """The States of one run of the same arguments as a call, as they are made; `decode(state.x0)` is the
        preview.

        All images are one batch. BadInput as a call's.
        """
        return self.run(self.request(prompt, **how))

    @takes(call, without=RUNNING)
    def request(self, prompt: str | Sequence[str] | None = None, **how: Any) -> Request:
        """The arguments of a call, checked and made complete."""
        return requests.resolved(self, given(prompt, how))

    # the way from a request to its pictures: each a function of a pipeline, told where it stands
    path = requests.path_of
    check_prompt = requests.check_prompt
    denoiser = bind.denoiser
    run = runs.run
    finish = runs.finish
    noise = runs.noise
    batches = runs.batches
    pictures = runs.pictures
    calls = runs.calls
    check_draws = runs.check_draws
    facts = record.facts

    def decode(self, x: Tensor) -> np.ndarray:
        """Tensors of this model's space as uint8 images (n, h, w, c), or as floats for a model of vectors."""
        return self.runner.decode(x)

    def with_defaults(self, **defaults: Any) -> Pipeline:
        """The same pipeline with other defaults (None takes one away)."""
        other = copy.copy(self)
        other.defaults = {k: v for k, v in {**self.defaults, **defaults}.items() if v is not None}
        return other

    def unknown(self, prompt: str | Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
        """(word, the nearest known ones) of each word of some prompts that the model was never taught: what
        it draws there is chance.

        Empty where a model does not tell its words (Stable Diffusion's folders), and for a closed vocabulary,
        which refuses others.
        """
        if self._known is None:
            return []
        prompts = requests.texts("prompt", prompt)
        return list({w: (w, near) for p in prompts for w, near in self._known.unknown(p)}.values())

    @cached_property
    def _known(self) -> known.Known | None:
        return None if self.folder.path is None or self.text is None else known.load(self.folder.path)

    def save_pretrained(self, folder: str | os.PathLike) -> Path:
        """Write the model as a folder in the published layout; returns its path."""
        from unnoise.hub.parts import clip_of

        f = self.folder
        net, codec, text = self.runner.stored()
        return hub.save(
            folder,
            name=self.name,
            kind=f.kind,
            net=net,
            weights=None,
            codec=codec,
            words=self.words,
            process=f.process,
            defaults=f.defaults,
            text=text,
            clip=clip_of(f),
        )

    from_pretrained = staticmethod(lambda name: load(name))


def load(
    name: str | os.PathLike = DEFAULT_MODEL,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
    memory_budget: str | int | None = None,
    compile: bool = False,
    tokenizer: str | os.PathLike | None = None,
    prediction: str | None = None,
    vae: str | os.PathLike | None = None,
    once: bool = False,
    **others: Any,
) -> Pipeline:
    """The pipeline of a bundled model, a local model folder, a single-file checkpoint or a fetched hub id
    ("owner/model").

    device, dtype ("fp32", "fp16", "bf16"): "auto" is what a short trial finds best. variant: of the weight
    files ("fp16"). memory_budget ("3GB"): what the process may take; weights beyond it are read from the file
    at each call. compile: by torch.compile. tokenizer: a folder, for checkpoints without one; prediction:
    what those predict. vae: another autoencoder: a model folder, an autoencoder's own, or its .safetensors
    file; a checkpoint without one needs it. once: for a single call, which gives the denoiser's memory back
    before its last pictures are decoded. BadInput names what is missing, damaged or not supported, an
    argument of the wrong kind, or one (in `others`) that does not exist.
    """
    for other in others:
        raise unknown("argument of load", other, _LOAD_OPTIONS)
    arguments.path("name", name)
    for key, path in (("tokenizer", tokenizer), ("vae", vae)):
        if path is not None:
            arguments.path(key, path)
    for key, value in (("variant", variant), ("prediction", prediction)):
        if value is not None:
            arguments.string(key, value)
    compile, once = arguments.flag("compile", compile), arguments.flag("once", once)
    on = devices.device(device)
    kind = devices.dtype(dtype, on)
    folder = hub.load(name, variant=variant, tokenizer=tokenizer, prediction=prediction, vae=vae)
    return Pipeline(
        folder,
        device=on,
        dtype=kind,
        memory_budget=memory_budget,
        compile=compile,
        once=once,
        copy=False,  # nobody else holds this folder
    )


_LOAD_OPTIONS = tuple(p for p in inspect.signature(load).parameters if p != "others")
