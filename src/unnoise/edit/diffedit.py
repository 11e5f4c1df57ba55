"""DiffEdit (Couairon et al. 2023): where two prompts disagree about a noised picture is where the one must
become the other.

    1  mask      d, how far the estimates of the picture noised half-way lie apart under prompt and source;
                 extremes removed, scaled to [0, 1], brought to the picture's pixels, 1 where d is above the
                 threshold
    2  encode    x0 = xs[N], …, xs[0]: DDIM inversion without a prompt up to `strength`
    3  decode    down again by DDIM under the prompt inside the mask, along the very same xs outside of it, at
                 equal levels, x0 itself last

In space "cells" d is the paper's, the mean over noises and channels of |eps(x_t, prompt) - eps(x_t, source)|
at each cell of the latents. In "pixels", the default, it is the difference of both estimates of x0, averaged
over the noises, decoded, smoothed over half a cell, and made to follow the picture's own edges; of it the
parts count that hold a large difference somewhere. So the mask has the outline of things, for two decoded
pictures more (docs/edit/diffedit.md has what it gains). A new thing seldom fits the old one's outline: step 3
draws ROOM cells beyond a mask so found, and the mask takes in what of the thing has come to lie there on
plain ground (`reached`). Outside the mask the picture's own pixels are put back, equal to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.colour import APART, oklab
from unnoise.base.errors import BadInput
from unnoise.edit.invert import Steps, denoiser, follow, for_ddim, inverted, single_way
from unnoise.edit.picture import LIMIT, Given, Picture, cells, pasted, read, read_mask, resized, shown
from unnoise.edit.run import Progress, Run, begin, beginning_at, strength_of
from unnoise.pipeline import Count, Pipeline, Result
from unnoise.process.level import Level, corrupt
from unnoise.process.noise import seeded

STRENGTH = 0.8
NOISES, NOISE_LEVEL, EXTREMES, THRESHOLD = 10, 0.5, 0.03, 0.5
REACH, PEAK = (
    1.5,
    4.6,
    # in pixels, times the threshold times Otsu's: how low a part of the mask goes, and how high it must come
    # to
    # be one
)
ROOM = 1  # cells around a found mask for what outgrows it
SMOOTH = 1e-3  # of `snapped`: an edge of the picture counts where its variance is larger
SPACES = ("pixels", "cells")


@dataclass(frozen=True)
class Masked(Result):
    """A Result with the mask that it was made by: uint8 (h, w), 255 where the picture may have changed."""

    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Search:
    """How a mask is found: see `difference` and `mask_of`."""

    noises: int = NOISES
    noise_level: float = NOISE_LEVEL
    extremes: float = EXTREMES
    threshold: float = THRESHOLD
    space: str = "pixels"

    def mask(self, run: Run, x0: Tensor, source: str) -> np.ndarray:
        """The mask of the run's picture, encoded as x0: float64 (h, w), 1 = change. BadInput where prompt and
        source are the same.
        """
        prompt, size = run.request.prompts[0], run.size or run.picture.size
        run.pipe.check_prompt(source)
        if prompt == source:
            raise BadInput(
                f"prompt and source are the same, {prompt!r}: they make no difference to find; give another"
                " source, or a mask"
            )
        how = {"noises": self.noises, "noise_level": self.noise_level, "space": self.space}
        how |= {"batch_size": run.batch_size, "progress": run.progress}
        d = difference(run.pipe, x0, prompt, source, **how)
        pixels = resized(run.picture.pixels, size) if self.space == "pixels" else None
        return mask_of(d, run.picture.size, self.extremes, self.threshold, pixels, _cell(size, x0))


def _cell(size: Sequence[int], x: Tensor) -> int:
    """The pixels of a cell of x (n, c, h, w), of pictures of that size."""
    return max(size[1] // x.shape[-1], 1)


def difference(
    pipe: Pipeline,
    x0: Tensor,
    prompt: str,
    source: str = "",
    *,
    noises: int = NOISES,
    noise_level: float = NOISE_LEVEL,
    space: str = "pixels",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """How far the estimates of two prompts lie apart at each pixel or cell of x0 (1, c, h, w): (1, 1, …),
    mean over noises and channels.

    noises: how many, from seeds of their own (0, 1, …): the map depends on nothing else; batch_size: how many
    at once. noise_level: of the schedule's time. Guidance would only scale the map. Errors: BadInput.
    """
    arguments.choice("space", space, SPACES)
    noises = arguments.integer("noises", noises, 1, 1000)
    l = pipe.schedule.level(arguments.number("noise_level", noise_level, 0.01, 1))
    request = pipe.request("", seed=0, num_images=noises, guidance_scale=1.0)
    run = Run(pipe, request, batch_size=batch_size, progress=progress)
    both = partial(_estimates, pipe, x0, l, (prompt, source))
    d = run.batched(both, x0.shape)[0].unbind(1)  # of x0; that of eps is alpha / sigma times it
    if space == "pixels":
        d = [_pixels(pipe, v.mean(0, keepdim=True)) for v in d]
    far = (d[0] - d[1]).abs().mean((0, 1), keepdim=True)
    k = far.shape[-1] // x0.shape[-1] // 2 | 1  # half a cell: what a decoder says of less is not worth more
    return _windows(far, k // 2)


def _estimates(
    pipe: Pipeline, x0: Tensor, l: Level, prompts: Sequence[str], places: list[int], count: Count
) -> Tensor:
    """(noises, prompts, c, h, w): what x0 seems to be under each of the noises and prompts."""
    like = x0.expand(len(places), *x0.shape[1:])
    x = corrupt(like, seeded(places, "diffedit")(like), l)
    with torch.no_grad():
        return torch.stack([denoiser(pipe, [p] * len(places), count=count)(x, l) for p in prompts], 1)


def _pixels(pipe: Pipeline, x0: Tensor) -> Tensor:
    """The decoded picture, float64 (1, c, h, w) of 0 to 255."""
    return torch.from_numpy(pipe.decode(x0).astype(np.float64)).permute(0, 3, 1, 2)


def mask_of(
    d: Tensor,
    size: tuple[int, int],
    extremes: float = EXTREMES,
    threshold: float = THRESHOLD,
    pixels: np.ndarray | None = None,
    cell: int = 8,
) -> np.ndarray:
    """The mask (height, width) of a map of differences (1, 1, h, w): float64, 1 = change.

    The share `extremes` of the cells at either end is clipped to what is left, the rest scaled to [0, 1] and
    interpolated between cells; above the threshold is the mask. pixels: the picture itself, uint8 (h, w, 3)
    of the map's size. Then the map follows the picture's edges as far as a `cell` reaches (`snapped`), and
    connected parts of it are taken by two thresholds (`parts`), REACH and PEAK times the one given times
    `otsu`, with one pixel around them: an outline's blended pixels. BadInput where there is no difference
    anywhere.
    """
    extremes = arguments.number("extremes", extremes, 0, 0.49)
    threshold = arguments.number("threshold", threshold, 0, 1)
    d = d.cpu().double()  # not every device has float64
    low, high = (torch.quantile(d, q) for q in (extremes, 1 - extremes))
    if not high > low:
        raise BadInput(
            "the two prompts make no difference to this picture: give another source prompt, or a mask"
        )
    d = ((d - low) / (high - low)).clamp(0, 1)
    if pixels is not None:
        d, threshold = _outlined(snapped(d, pixels, cell).clamp(min=0), threshold)
    wide = F.interpolate(d, size, mode="bilinear", align_corners=False)[0, 0]
    return (wide >= min(threshold, float(wide.max()))).double().cpu().numpy()


def _outlined(d: Tensor, threshold: float) -> tuple[Tensor, float]:
    """(map, threshold): without the parts that hold no large value, and with the pixels around the others."""
    peak, threshold = (min(k * threshold * otsu(d), float(d.max())) for k in (PEAK, REACH))
    d = torch.where((d >= threshold) & ~parts(d, threshold, peak), 0.0, d)
    around = F.max_pool2d(d, (3, 1), 1, (1, 0)).maximum(F.max_pool2d(d, (1, 3), 1, (0, 1)))
    return around, threshold


def otsu(d: Tensor) -> float:
    """The value that divides a map's values into two groups whose means lie furthest apart, each counted as
    often as it is (Otsu 1979).
    """
    v = d.flatten().sort().values
    k, sums = torch.arange(1, len(v)).to(v), v.cumsum(0)
    low, high = sums[:-1] / k, (sums[-1] - sums[:-1]) / (len(v) - k)
    i = int((k * (len(v) - k) * (high - low) ** 2).argmax())
    return float(v[i] + v[i + 1]) / 2


def snapped(d: Tensor, pixels: np.ndarray, radius: int) -> Tensor:
    """A map (1, 1, h, w) made to follow the edges of a picture, uint8 (h, w, 3): the guided filter (He, Sun &
    Tang 2013, eq. 14 to 19).

    In every window of 2 radius + 1 it is the linear function a . colour + b of the picture that comes nearest
    to the map, by the ridge SMOOTH; each pixel gets the mean of those of its windows.
    """
    guide = torch.from_numpy(np.asarray(pixels, np.float64) / 255).permute(2, 0, 1)[None].to(d)
    mean = lambda u: _windows(u, radius)
    colour, value = mean(guide), mean(d)
    pairs = (
        mean((guide[:, :, None] * guide[:, None]).flatten(1, 2)).unflatten(1, (3, 3))
        - colour[:, :, None] * colour[:, None]
    )
    spread = pairs.permute(0, 3, 4, 1, 2) + SMOOTH * torch.eye(3).to(d)
    a = torch.linalg.solve(spread, (mean(guide * d) - colour * value).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    b = value - (a * colour).sum(1, keepdim=True)
    return (mean(a) * guide).sum(1, keepdim=True) + mean(b)


def _windows(u: Tensor, radius: int) -> Tensor:
    """The mean of the window about each pixel, of what of it lies in the picture."""
    for k in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        u = F.avg_pool2d(u, k, 1, (k[0] // 2, k[1] // 2), count_include_pad=False)
    return u


def parts(d: Tensor, low: float, high: float) -> Tensor:
    """Where a map (1, 1, h, w) is at least low and connected, over any of eight neighbours, to a place that
    is at least high: bool.
    """
    able, found = d >= low, d >= high
    while True:
        more = (F.max_pool2d(found.float(), 3, 1, 1) > 0) & able
        if bool((more == found).all()):
            return found
        found = more


def reached(before: np.ndarray, after: np.ndarray, mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask (h, w) with what was drawn around it on plain ground, no further than `radius` and connected
    to it: float64, 1 = change.

    before, after: the picture and what was drawn, uint8 (h, w, 3). The ground is the median colour of what
    lies so near: plain is what is of that colour before, drawn what is not after (`data.colour.APART`). So
    nothing is taken where other things lie, nor of a textured ground.
    """
    m = torch.from_numpy(mask > 0)[None, None]
    ring = ((_grown(m.float(), radius) > 0) & ~m)[0, 0].numpy()
    if not ring.any():
        return mask
    ground = np.median(oklab(before[ring]), 0)
    far = lambda picture: np.linalg.norm(oklab(picture) - ground, axis=-1) > APART
    new = torch.from_numpy(ring & ~far(before) & far(after))[None, None]
    return np.maximum(mask, parts(0.5 * new + 1.0 * m, 0.5, 1.0)[0, 0].double().numpy())


def diffedit(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    source: str = "",
    mask: Given | None = None,
    strength: float = STRENGTH,
    noises: int = NOISES,
    noise_level: float = NOISE_LEVEL,
    extremes: float = EXTREMES,
    threshold: float = THRESHOLD,
    space: str = "pixels",
    room: int = ROOM,
    grow: int = 0,
    method: str = "plain",
    **how: Any,
) -> Masked:
    """The picture with what distinguishes `source` (what it shows; "": any picture) from `prompt` changed to
    the prompt.

    mask: of the picture's size, white changes, instead of the one computed from noises, noise_level,
    extremes, threshold and space. strength: how far up the encoding goes, 0 to 1; N steps are N up and N
    down. room: cells around a mask computed in "pixels" into which a new thing may reach where the picture is
    plain; the mask grows with it. grow: cells by which the decoder may go beyond the mask; pixels never do.
    method: of the encoding, "plain" or "fixed-point". how: what `edit.run.begin` takes. There is no chance
    but in the mask's own seeds: all images of one call are equal. Errors: BadInput, also for a prompt that
    equals its source.
    """
    strength, source = strength_of(strength), arguments.string("source", source)
    grow, room = arguments.integer("grow", grow, 0, LIMIT), arguments.integer("room", room, 0, LIMIT)
    single_way("DiffEdit", method)
    search = Search(noises, noise_level, extremes, threshold, arguments.choice("space", space, SPACES))
    room = room if mask is None and space == "pixels" else 0
    options = {"source": source, "strength": strength, **asdict(search)}
    options |= {"room": room, "grow": grow, "method": method}
    shape = None if mask is None else read(mask)
    run = begin(pipe, "diffedit", image, prompt, options, for_ddim(how), mask=shape)
    x0 = run.encoded()
    m = search.mask(run, x0, source) if shape is None else read_mask(shape, run.picture)
    after, calls = _redrawn(run, x0, m, strength, method, grow + room)
    if room:
        m = _with_room(run.picture, after[0], m, room * _cell(after.shape[1:], x0))
    arrays = [pasted(run.picture, resized(p, run.picture.size), m) for p in after]
    # beside its own calls, for each of the mask's noises one under either prompt
    nfe = calls + (2 if shape is None else 0)
    return run.result(arrays, nfe, Masked, mask=(m * 255).round().astype(np.uint8))


def _redrawn(
    run: Run, x0: Tensor, mask: np.ndarray, strength: float, method: str, grow: int
) -> tuple[np.ndarray, int]:
    """(uint8 (n, h, w, 3) of the working size, network calls): encoded without a prompt, and decoded under
    the prompt within the mask and so many cells around it.
    """
    path = run.path(strength)
    up = inverted(run.pipe, x0, "", method=method, path=path, progress=run.progress)
    inside, steps = _grown(cells(mask, x0), grow), Steps(path)
    x, calls = run.drawn(
        path=path, start=beginning_at(up.xs[0]), wrap=lambda d, places: follow(d, steps, up.xs, inside)
    )
    return shown(run.pipe, x), up.nfe + calls


def _with_room(picture: Picture, after: np.ndarray, m: np.ndarray, radius: int) -> np.ndarray:
    """The picture's mask with what was drawn around it, found at the size of `after`, the one that the model
    works at.
    """
    size = after.shape[:2]
    shape = cells(m, torch.empty(1, 1, *size, dtype=torch.float64))[0, 0].numpy()
    found = reached(resized(picture.pixels, size), after, shape, radius)
    wide = F.interpolate(torch.from_numpy(found)[None, None], m.shape, mode="bilinear", align_corners=False)[
        0, 0
    ].numpy()
    return found if m.shape == size else np.maximum(m, wide >= 0.5)


def _grown(mask: Tensor, by: int) -> Tensor:
    """The mask (1, 1, h, w) with so many more of its cells around it."""
    return F.max_pool2d(mask, 2 * by + 1, 1, by) if by else mask
