"""docs/by_hand.md: its blocks run as they stand, in order, and draw what the pipeline draws, whatever the
folder says of its training.
"""

import re
from pathlib import Path

import numpy as np
import pytest

import unnoise
from tests.support import sd

PAGE = Path(__file__).parent.parent / "docs" / "by_hand.md"
KNOWN = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
OWN = {
    "STEPS": 4,
    "GUIDANCE": 7.5,
    "SEED": 5,
    "PROMPT": "a photo of an astronaut",
    "NEGATIVE": "red",
    "OTHER_PROMPT": "a green dog",
}
SCHEDULERS = {
    "eps, scaled linear": {},
    "v, scaled linear": {"prediction_type": "v_prediction"},
    "eps, cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "x0, linear": {"beta_schedule": "linear", "prediction_type": "sample"},
}


def run(place, monkeypatch, blocks=KNOWN, **world):
    """The names that the page's blocks leave behind; they run in an empty folder."""
    monkeypatch.chdir(place)
    for block in blocks:
        exec(block, world)  # the page is ours
    return world


def check(world, steps):
    """That the page's pictures are the pipeline's."""
    pipe = unnoise.load(world["FOLDER"])
    ask = dict(
        seed=world["SEED"],
        num_inference_steps=steps,
        guidance_scale=world["GUIDANCE"],
        sampler="ddim",
        spacing="trailing",
    )
    for made, negative in ((world["picture"], ""), (world["without"], world["NEGATIVE"])):
        want = pipe(world["PROMPT"], negative_prompt=negative, **ask).arrays
        assert np.abs(made.astype(int) - want).max() <= 2
    assert np.abs(world["without"].astype(int) - world["picture"]).max() > 3, (
        "the negative prompt changes the picture"
    )
    assert world["changed"].shape == world["picture"].shape and (world["changed"] != world["picture"]).any()


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_the_blocks_draw_what_the_pipeline_draws_of_a_folder_of_stable_diffusion(
    scheduler, tmp_path, monkeypatch
):
    folder = sd.make(tmp_path / "model", scheduler=scheduler)
    world = run(tmp_path, monkeypatch, KNOWN[1:], FOLDER=folder, **OWN)
    check(world, OWN["STEPS"])
    assert {p.name for p in tmp_path.glob("*.png")} == {"picture.png", "without.png", "changed.png"}


def test_the_blocks_run_as_they_stand_on_the_bundled_model(tmp_path, monkeypatch):
    first = re.sub(r"STEPS, (.*?) = 10, ", r"STEPS, \1 = 3, ", KNOWN[0])
    assert first != KNOWN[0] and 'FOLDER = "emoji"' in first
    world = run(tmp_path, monkeypatch, [first, *KNOWN[1:]])
    check(world, 3)
    assert len(list(tmp_path.glob("*.png"))) == 3
