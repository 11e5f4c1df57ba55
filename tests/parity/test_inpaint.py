"""Networks that take [x, mask, masked picture] against StableDiffusionInpaintPipeline: one folder of 9
channels, one noise, one grid; equal latents.

diffusers encodes the masked picture by a draw from the autoencoder's posterior, we by its mode: there the
draw is replaced by the mode. The mask is made of whole cells: of a cell that is partly masked diffusers asks
one pixel, we draw it anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import (
    StableDiffusionInpaintPipeline,
)
from PIL import Image

from tests.parity import peer
from tests.parity.peer import NEGATIVES, PROMPTS
from tests.parity.test_pipeline import BOUND, X
from tests.support import sd
from unnoise.edit import inpaint
from unnoise.edit.inpaint import conditioned
from unnoise.edit.picture import cells, encoded, read
from unnoise.process import noise as noises
from unnoise.sample import SAMPLERS, last

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
MASK = np.zeros((16, 16), np.uint8)
MASK[4:12, 2:14] = 255


@pytest.fixture(scope="module", params=peer.FAMILIES)
def pipes(request, tmp_path_factory):
    """diffusers' inpainting pipeline of a folder, ours, and the config of its scheduler."""
    folder = sd.make(tmp_path_factory.mktemp("nine") / request.param, request.param, unet={"in_channels": 9})
    theirs = StableDiffusionInpaintPipeline.from_pretrained(folder, local_files_only=True)
    theirs.set_progress_bar_config(disable=True)
    return theirs, peer.open_ours(folder), dict(theirs.scheduler.config)


@pytest.fixture(autouse=True)
def mode(monkeypatch):
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def theirs_makes(pipe, x, steps, **how):
    return pipe(
        PROMPTS,
        negative_prompt=NEGATIVES,
        image=Image.fromarray(PICTURE),
        mask_image=Image.fromarray(MASK),
        height=16,
        width=16,
        strength=1.0,
        num_inference_steps=steps,
        guidance_scale=7.5,
        latents=x.clone(),
        **how,
    ).images


def ours_makes(pipe, x, grid, sampler, picture=PICTURE, mask=MASK):
    """The last latents, from unit noise x on diffusers' grid, its network told diffusers' times."""
    picture, shape = read(picture), (mask > 0).astype(np.float64)
    x0 = encoded(pipe, picture.pixels, (16, 16))
    net = conditioned(pipe, picture, shape, cells(shape, x0), x0, (16, 16))
    return last(
        SAMPLERS[sampler](peer.told(pipe, PROMPTS, NEGATIVES, grid.clock, net=net), x * grid.start, grid.path)
    )


@pytest.mark.parametrize(
    ("kind", "sampler"), [("DDIM", "ddim"), ("EulerDiscrete", "euler"), ("DPMSolverMultistep", "dpmpp_2m")]
)
def test_same_latents(pipes, kind, sampler):
    theirs, ours, config = pipes
    theirs.scheduler = peer.scheduler(kind, config)
    x, grid = X, peer.read(theirs.scheduler, 7)
    want = theirs_makes(theirs, x, 7, output_type="latent")
    torch.testing.assert_close(ours_makes(ours, x, grid, sampler), want, atol=BOUND, rtol=0)


def test_what_the_comparison_can_see(pipes):
    """Each of these slips is ten times the bound or more: what is around the mask, where it lies, and that
    nothing under it is seen.
    """
    theirs, ours, config = pipes
    theirs.scheduler = peer.scheduler("DDIM", config)
    grid = peer.read(theirs.scheduler, 7)
    want = ours_makes(ours, X, grid, "ddim")
    off = lambda **how: float((ours_makes(ours, X, grid, "ddim", **how) - want).abs().max())
    under, around = (
        np.where(MASK[..., None] > 0, np.uint8(0), PICTURE),
        np.where(MASK[..., None] > 0, PICTURE, np.uint8(0)),
    )
    assert off(picture=under) == 0
    assert min(off(picture=around), off(mask=np.roll(MASK, 2, 1)), off(mask=255 - MASK)) > 10 * BOUND


def test_nothing_of_ours_replaced(pipes):
    """A call as users make it, on the grid where both mean the same: inside the mask the same picture,
    outside ours is the input's bytes.
    """
    theirs, ours, config = pipes
    theirs.scheduler = peer.scheduler("DDIM", config, timestep_spacing="trailing", set_alpha_to_one=True)
    x = noises.seeded([3, 4], "init")(X) * float(ours.schedule.at(999).sigma)
    seen = (theirs_makes(theirs, x, 10, output_type="np") * 255).round().astype(int)
    how: Any = {
        "prompt": PROMPTS,
        "negative_prompt": NEGATIVES,
        "num_inference_steps": 10,
        "guidance_scale": 7.5,
        "seed": [3, 4],
        "sampler": "ddim",
        "spacing": "trailing",
        "soft": 0,
        "height": 16,
        "width": 16,
    }
    made = inpaint(ours, PICTURE, MASK, **how).arrays
    assert np.abs(made.astype(int) - seen)[:, MASK > 0].max() <= 1
    assert np.array_equal(made[:, MASK == 0], np.broadcast_to(PICTURE[MASK == 0], made[:, MASK == 0].shape))
    assert np.abs(seen - PICTURE)[:, MASK == 0].max() > 10  # theirs is decoded as a whole
