"""The default model's folder in diffusers: it opens as it is, and draws the same picture from the same
noise.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import unnoise
from unnoise import hub
from unnoise.hub import parts
from unnoise.process import noise

PROMPTS = ["two red apples on their side", "a cat"]


@pytest.fixture(scope="module")
def theirs():
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        hub.find("emoji"), low_cpu_mem_usage=False, torch_dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("steps, guidance, negative", [(20, 4.0, ""), (7, 1.0, ""), (10, 3.0, "flat style")])
def test_the_same_picture(theirs, steps, guidance, negative):
    ours = unnoise.load("emoji", device="cpu", dtype="fp32")
    x = noise.seeded([3, 4], "init")(torch.zeros(ours.codec.shape(2)))
    mine = ours(
        PROMPTS, negative_prompt=negative, seed=[3, 4], num_inference_steps=steps, guidance_scale=guidance
    ).arrays
    other = theirs(
        PROMPTS,
        negative_prompt=[negative] * 2,
        latents=x,
        height=64,
        width=64,
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="np",
    ).images
    far = np.abs(mine.astype(float) - 255 * other)
    assert far.max() <= 3 and far.mean() < 0.2, (far.max(), far.mean())


def test_the_image_encoder_opens_too(theirs):
    clip = parts.load_clip("emoji")
    x = torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64)
    mine = clip.net.visual_projection(clip.net.vision_model(x)[1])
    torch.testing.assert_close(mine, theirs.image_encoder(x).image_embeds, atol=1e-4, rtol=1e-4)
