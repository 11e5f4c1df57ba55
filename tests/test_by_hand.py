"""docs/by_hand.md: its blocks run, in order, and draw what the pipeline draws."""
import re
from pathlib import Path

import numpy as np
import pytest

import unnoise
from tests.support import sd

PAGE = Path(__file__).parent.parent / "docs" / "by_hand.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sd.make(tmp_path_factory.mktemp("by-hand") / "model")


def test_the_blocks_of_the_page_draw_what_the_pipeline_draws(folder):
    world = {"FOLDER": folder, "SEED": 5, "PROMPT": "a photo of an astronaut", "NEGATIVE": "red", "OTHER_PROMPT": "a green dog"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 6
    for block in blocks: exec(block, world)  # the page is ours
    pipe = unnoise.load(folder)
    ask = dict(seed=5, num_inference_steps=10, guidance_scale=7.5, sampler="ddim", spacing="trailing")
    for made, negative in ((world["picture"], ""), (world["without"], "red")):
        want = pipe("a photo of an astronaut", negative_prompt=negative, **ask).arrays
        assert np.abs(made.astype(int) - want).max() <= 1
    assert np.abs(world["without"].astype(int) - world["picture"]).max() > 3, "the negative prompt changes the picture"
    assert world["changed"].shape == world["picture"].shape and (world["changed"] != world["picture"]).any()
