"""What pictures are kept under: another key for everything that changes a picture, the same for the same."""

import pytest
import torch

import unnoise
from unnoise.errors import BadInput
from unnoise.pipeline import record

ASK = {"prompt": ["one", "boot"], "seed": [3, 4], "num_inference_steps": 3}
OTHER = {
    "prompt": ["one", "one"],
    "negative_prompt": "boot",
    "seed": [4, 3],
    "num_inference_steps": 4,
    "guidance_scale": 1.5000000000000002,
    "sampler": "heun",
    "spacing": "karras",
    "timesteps": [900.0, 500.0, 1.0],
    "guidance_rescale": 0.1,
    "guidance_interval": (0.1, float("inf")),
    "noise": "brownian",
    "guide": ["brightness=0.5"],
}


@pytest.fixture(scope="module")
def pipe(tiny):
    return unnoise.load(tiny, device="cpu", dtype="fp32")


def key(pipe, **how) -> str:
    usual = {**ASK, "guidance_scale": 1.5, "sampler": "ddim", "eta": 0.5}
    if "timesteps" in how:
        del usual["num_inference_steps"]
    if how.get("sampler"):
        del usual["eta"]
    return pipe.request(**{**usual, **how}).key(pipe)


def test_every_argument_that_changes_pictures_changes_the_key(pipe):
    keys = [key(pipe), *(key(pipe, **{k: v}) for k, v in OTHER.items()), key(pipe, eta=0.25)]
    keys.append(key(pipe, guide=["brightness=0.5"], guide_through=True))
    assert len({*keys}) == len(keys) == len(OTHER) + 3
    assert key(pipe) == keys[0]


def test_what_draws_changes_the_key(pipe, tiny):
    keys = [
        key(pipe),
        key(unnoise.load(tiny, device="cpu", dtype="bf16")),
        key(pipe.with_defaults(clip=0.5)),
        key(pipe.with_defaults(spacing="karras", spacing_options={"rho": 2.0}), spacing="karras"),
        key(pipe, spacing="karras"),
    ]
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    keys.append(key(pipe))
    torch.set_num_threads(before)
    assert len({*keys}) == len(keys) and key(pipe) == keys[0]


def test_what_images_share_has_neither_prompt_nor_seed(pipe):
    r = pipe.request(**ASK)
    shared = r.shared(pipe)
    assert {*r.recipe(pipe, 1)} - {*shared} == {"prompt", "negative_prompt", "seed"}
    assert r.only([0]).shared(pipe) == shared and record.key(shared) == record.key(
        dict(reversed(shared.items()))
    )


def test_functions_have_no_key(pipe):
    r = pipe.request(**ASK, guide=[lambda images: images.mean()])
    with pytest.raises(BadInput, match="cannot be kept"):
        r.key(pipe)
