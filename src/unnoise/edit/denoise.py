"""Denoise and restore: a noisy picture is x0 + sigma eps, which is a level of a path; the model comes down
from there.

    denoise(unnoise.load("emoji-upscale"), "noisy.png")             sigma is estimated; E[x0 | x], in one call
    denoise(unnoise.load("emoji-upscale"), "noisy.png", sigma=0.3, sample=True)      a sample of p(x0 | x)

The posterior mean has the least squared error and is smooth where the picture is uncertain; a sample is as
sharp as the data and further off. Networks of pixels know noise of pixels: a level (1, sigma) is theirs.
"emoji-upscale", shown nothing, takes pictures of any size; others of pixels their own size alone. A model of
latents sees encoded noise, which is neither white nor of the same size everywhere: its level is measured, as
what the encoding of this very picture moves by when noise of sigma is added once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.errors import BadInput
from unnoise.codec import of_pictures
from unnoise.denoiser import Denoiser
from unnoise.edit.canvas import alone, folded, numbers, over_tiles, shows, tensor, unfolded
from unnoise.edit.picture import Given, Picture, encoded, read, working_size
from unnoise.edit.run import Run, begin, no_size, own_size, part, sampled
from unnoise.edit.upscale import known
from unnoise.pipeline import Count, Pipeline, Request, Result
from unnoise.process.level import spread, ve
from unnoise.process.noise import seeded

MOST = 10.0  # sigma, of pictures from -1 to 1, at which nothing can be seen of them any more
PROBES = 4  # noises by which a model of latents measures its level


def denoise(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    sigma: float | None = None,
    sample: bool = False,
    **how: Any,
) -> Result:
    """Pictures of the image's size with less noise; the recipe's edit says the sigma that was taken.

    sigma: the standard deviation of its noise, pictures running from -1 to 1; None estimates it
    (`evaluate.noise_level`), 0 gives the picture back, MOST is the most. sample: come down by the sampler,
    from the image itself, instead of one call. how: what `edit.run.begin` takes, but for a size. Errors:
    BadInput.
    """
    picture = read(image)
    _check_size(pipe, picture)
    sigma = known("estimate" if sigma is None else arguments.number("sigma", sigma, 0, MOST), picture)
    options = {"sigma": sigma, "sample": arguments.flag("sample", sample)}
    run = begin(pipe, "denoise", picture, prompt, options, how, no_size if shows(pipe) else own_size)
    if sigma == 0:
        return run.result([picture.whole()] * len(run.request.seeds), 0)
    clean = _canvas_cleaned if shows(pipe) else _cleaned
    return run.result(*clean(run, sigma, sample))


def _check_size(pipe: Pipeline, picture: Picture) -> None:
    """BadInput for a model that knows no noise on pictures of this size."""
    codec = of_pictures(pipe.codec, pipe.name, "it cannot edit pictures")
    if shows(pipe) or codec.free or picture.size == (codec.height, codec.width):
        return
    given, wanted = (f"{w} x {h}" for h, w in (picture.size, (codec.height, codec.width)))
    raise BadInput(
        f"model {pipe.name!r} knows noise on pictures of {wanted} only, given {given} (emoji-upscale takes"
        " any)"
    )


def _canvas_cleaned(run: Run, sigma: float, sample: bool) -> tuple[np.ndarray, int]:
    """uint8 (n, h, w, 3 or 4), and network calls a picture, of a network that takes pictures of any size."""
    pipe, picture = run.pipe, run.picture
    x = folded(pipe, tensor(pipe, picture.pixels))

    def draw(places: list[int], count: Count) -> Tensor:
        model = over_tiles(pipe, alone(pipe, (x.shape[2], x.shape[3])), count)
        return come_down(pipe, run.request.only(places), x.repeat(len(places), 1, 1, 1), sigma, model, sample)

    z, calls = run.batched(draw, x.shape)
    pixels = numbers(unfolded(pipe, z, picture.size)).round().clip(0, 255).astype(np.uint8)
    return np.stack([picture.whole(p) for p in pixels]), calls


def _cleaned(run: Run, sigma: float, sample: bool) -> tuple[np.ndarray, int]:
    """The same of a network at the picture's own working size."""
    pipe, x = run.pipe, run.encoded()
    borne = latent_sigma(pipe, run.picture, sigma) if pipe.codec.autoencoder else sigma

    def draw(places: list[int], count: Count) -> Tensor:
        r, net = run.request.only(places), pipe.runner.counted(count)
        model = pipe.denoiser(r.prompts, r.negatives, r.guidance, r.rescale, net, clip_skip=r.clip_skip)
        return come_down(pipe, r, x.repeat(len(places), 1, 1, 1), borne, model, sample)

    z, calls = run.batched(draw, x.shape)
    return run.pictures(z), calls


def come_down(pipe: Pipeline, r: Request, x: Tensor, sigma: float, model: Denoiser, sample: bool) -> Tensor:
    """From x = x0 + sigma eps (n, …) to E[x0 | x] in one call, or to samples by the request's sampler on the
    rest of its path.
    """
    level = ve(torch.tensor(sigma, dtype=torch.float64))
    if not sample:
        l = pipe.schedule.level(pipe.schedule.time(level))
        with torch.no_grad():
            return model(spread(l.alpha, x) * x, l)
    top = pipe.schedule.time(pipe.path(r)[0])
    path = part(pipe, r, float((pipe.schedule.time(level) / top).clamp(max=1)))
    return sampled(r, model, spread(path[0].alpha, x) * x, path)


def latent_sigma(pipe: Pipeline, picture: Picture, sigma: float) -> float:
    """By how much the encoding of a picture moves, root mean square, when noise of sigma (in pixels of [-1,
    1]) is added to it once more.
    """
    size = working_size(pipe, picture)
    z = encoded(pipe, picture.pixels, size)
    eps = seeded(range(PROBES), "probe")(torch.zeros(PROBES, *picture.pixels.shape)).numpy()
    noisy = (picture.pixels + 127.5 * sigma * eps).round().clip(0, 255).astype(np.uint8)
    moved = torch.cat([encoded(pipe, p, size) for p in noisy]) - z
    return float(moved.square().mean().sqrt())
