"""Samplers, previews, stages and the tuner with the networks on another device than the CPU: nothing is
mixed.
"""

import pytest

from tests.support import gpu, sd
from unnoise import show
from unnoise.sample import SAMPLERS
from unnoise.tune import tune_model

ASK = {"num_inference_steps": 2, "seed": 1, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def pipes(tiny, tmp_path_factory):
    folder = sd.make(tmp_path_factory.mktemp("models") / "tiny-sd")
    with gpu.there():
        return {
            "pixels": gpu.pipeline(tiny),
            "latents": gpu.pipeline(folder),
            "half": gpu.pipeline(tiny, "bf16"),
        }


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_every_sampler_runs_on_another_device(sampler, pipes):
    with gpu.there():
        assert pipes["pixels"]("one", sampler=sampler, num_images=2, **ASK).arrays.shape == (2, 8, 8, 1)


@pytest.mark.parametrize("which", ["pixels", "latents", "half"])
@pytest.mark.parametrize(
    "how",
    [{}, {"noise": "brownian", "sampler": "ddpm"}, {"guidance_rescale": 0.5, "guidance_interval": (0.1, 10)}],
)
def test_every_kind_of_model_runs_on_another_device(which, how, pipes):
    prompt = "a cat" if which == "latents" else "one"
    with gpu.there():
        made = pipes[which](prompt, **ASK, **how)
    assert made.recipes[0]["machine"]["device"] == "meta" and "threads" not in made.recipes[0]["machine"]


@pytest.mark.parametrize("which", ["pixels", "latents"])
def test_stages_and_previews_on_another_device(which, pipes, tmp_path):
    pipe, shown = pipes[which], []
    with gpu.there():
        stages, preview = show.Stages(pipe, tmp_path), show.Preview(pipe, lambda *a: shown.append(a), every=1)
        for listener in (stages, preview):
            pipe("a cat" if which == "latents" else "one", on_state=listener, **ASK)
        stages.close()
    assert len(shown) == 2 and (tmp_path / "stages.png").exists()


def test_the_tuner_on_another_device(pipes, tmp_path):
    with gpu.there():
        found = tune_model(pipes["pixels"], 2, tmp_path / "tuned", batch=2, rounds=1)
    assert found["calls"] == 2
