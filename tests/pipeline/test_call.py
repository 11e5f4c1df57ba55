"""The arguments of a call are spelled once, and everything that takes them shows them."""

import inspect

import pytest

from unnoise.pipeline import Pipeline
from unnoise.pipeline.call import NAMES, RUNNING, call, takes

DEFAULTS = {
    "prompt": None,
    "negative_prompt": None,
    "num_inference_steps": None,
    "guidance_scale": None,
    "seed": None,
    "num_images": 1,
    "sampler": None,
    "spacing": None,
    "timesteps": None,
    "sigmas": None,
    "guidance_rescale": 0.0,
    "guidance_interval": None,
    "noise": "seeded",
    "height": None,
    "width": None,
    "clip_skip": 0,
    "guide": None,
    "guide_through": False,
    "guide_linear": False,
    "batch_size": None,
    "progress": None,
    "on_state": None,
}


def shown(f) -> dict:
    """The names of a method's arguments with their defaults, in order."""
    parameters = list(inspect.signature(f).parameters.values())
    assert parameters[0].name == "self" and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    return {p.name: p.default for p in parameters[1:-1]}


def test_a_call_shows_every_argument_with_its_default():
    assert list(shown(Pipeline.__call__).items()) == list(DEFAULTS.items())
    assert (*DEFAULTS,) == NAMES
    assert "prompt" in inspect.getdoc(Pipeline.__call__) and inspect.getdoc(call) == inspect.getdoc(
        Pipeline.__call__
    )


@pytest.mark.parametrize("method", [Pipeline.stream, Pipeline.request])
def test_a_request_shows_all_but_how_it_is_run(method):
    assert shown(method) == {k: v for k, v in DEFAULTS.items() if k not in RUNNING}
    assert inspect.getdoc(method) != inspect.getdoc(call)


def test_only_the_prompt_has_a_place(tiny):
    import unnoise

    with pytest.raises(TypeError):
        unnoise.load(tiny)("one", "boot")


def test_what_is_shown_is_what_is_declared():
    def declared(prompt=None, *, strength: float = 0.5, seed=None, **options): ...

    class Other:
        @takes(declared, without=("seed",))
        def run(self, prompt=None, **how):
            return prompt, how

    assert shown(Other.run) == {"prompt": None, "strength": 0.5}
    assert Other().run("a", strength=1) == ("a", {"strength": 1})
