"""The x0 estimate of a run as it forms, within a small part of the run's time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property

from PIL import Image
from torch import Tensor

from unnoise.base.errors import BadInput
from unnoise.codec.rgb import fit_rgb, with_one
from unnoise.media.pictures import picture
from unnoise.pipeline import Pipeline
from unnoise.sample import State
from unnoise.show.stages import decode, need_pictures

BUDGET = 0.02  # the part of a run's time that previews may take where no rhythm is asked for


class Preview:
    """A listener that shows the x0 estimate of a run's first image as it forms.

    show(picture, state, k) is called for every `every`-th State k of a run, the result left out (the caller
    has it); where `every` is None, for as many as keep within BUDGET of the time since the first one, by
    measured cost. Latents are shown by a fitted map (`fit_rgb`), or with `decoder` by the true one. clock:
    seconds, growing. BadInput on a model of vectors.
    """

    def __init__(
        self,
        pipe: Pipeline,
        show: Callable[[Image.Image, State, int], None],
        every: int | None = None,
        decoder: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ):
        need_pictures(pipe, "a preview")
        if every is not None and every < 1:
            raise BadInput(f"a preview is shown every k steps, k at least 1, given {every}")
        self.pipe, self.show, self.every, self.clock = pipe, show, every, clock
        self.mapped = pipe.codec.autoencoder is not None and not decoder
        self.step, self.spent, self.began = 0, 0.0, clock()
        self.cost = 0.01  # of one preview, in seconds: a guess until one is measured

    def __call__(self, i: int, state: State) -> None:
        """Take in a State of the part of the batch that begins with image i."""
        if state.level.clean:
            self.step = 0
            return  # the next State begins another part
        now = self.clock()
        if self._due(now):
            self.show(self.rough(state.x0) if self.mapped else decode(self.pipe, state.x0), state, self.step)
            self.cost = self.clock() - now
            self.spent += self.cost
        self.step += 1

    def _due(self, now: float) -> bool:
        if self.every:
            return self.step % self.every == 0
        return self.spent + self.cost <= BUDGET * (now - self.began)

    @cached_property
    def _rgb(self) -> Tensor:
        return fit_rgb(self.pipe.codec)

    def rough(self, z: Tensor) -> Image.Image:
        """The first sample's latents as a small picture, one pixel a position."""
        z = z[:1].detach().float().cpu()
        rgb = (with_one(z) @ self._rgb).reshape(*z.shape[2:], 3)
        return picture((rgb.nan_to_num().clamp(0, 1) * 255).round().byte().numpy())
