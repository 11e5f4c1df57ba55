"""Every edit and every guide with the networks on another device than the CPU: nothing is mixed, nothing is
left behind.
"""

import numpy as np
import pytest
import torch
from PIL import Image

import unnoise.edit
from tests.support import gpu, sd
from unnoise.pipeline import guides
from unnoise.pipeline.guides.table import Value

NOISE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
MASK = np.zeros((16, 16), np.uint8)
MASK[4:12, 5:10] = 255


@pytest.fixture(scope="module")
def pipes(tmp_path_factory):
    """Models on the stand-in for a GPU: a small one in the layout of Stable Diffusion, and the bundled
    upscaler.
    """
    folder = sd.make(tmp_path_factory.mktemp("models") / "tiny-sd")
    with gpu.there():
        made = {"latents": gpu.pipeline(folder), "emoji-upscale": gpu.pipeline("emoji-upscale")}
    for pipe in made.values():
        assert {p.device.type for p in pipe.net.parameters()} == {"meta"}
    assert {
        p.device.type
        for p in (*made["latents"].codec.net.parameters(), *made["latents"].text.net.parameters())
    } == {"meta"}
    return made


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "ref.png"
    Image.fromarray(NOISE).save(path)
    return path


CASES = {
    "denoise": [
        ("emoji-upscale", {}),
        ("emoji-upscale", {"sigma": 0.2, "sample": True}),
        ("latents", {"sigma": 0.2}),
        ("latents", {"sigma": 0.2, "sample": True}),
    ],
    "diffedit": [
        ("latents", {"source": "a red apple"}),
        ("latents", {"mask": MASK}),
        ("latents", {"source": "a red apple", "space": "cells"}),
    ],
    "image-to-image": [
        ("latents", {}),
        ("latents", {"strength": 1.0, "sampler": "dpmpp_sde"}),
        ("latents", {"then": ["a dog"]}),
    ],
    "imagic": [("latents", {"embedding_steps": 2, "tuning_steps": 2, "eta": 0.5})],
    "inpaint": (
        [
            ("latents", {"mask": MASK, "method": m})
            for m in ("repaint", "replace", "dps", "pigdm", "covariance")
        ]
        + [("latents", {"mask": MASK, "method": "replace", "strength": 0.5})]
    ),
    "invert": (
        [("latents", {"method": m}) for m in ("plain", "fixed-point", "coupled")]
        + [("latents", {"anchor": a, "guidance_scale": 3.0}) for a in ("negative-prompt", "null-text")]
    ),
    "outpaint": [("latents", {"left": 16})],
    "prompt-to-prompt": [
        ("latents", {"source": "a red apple"}),
        ("latents", {"source": "a red apple", "local": ["apple"]}),
        ("latents", {"source": "a red apple", "anchor": "null-text", "guidance_scale": 3.0}),
    ],
    "style": [
        ("latents", {}),
        ("latents", {"method": "loss"}),
        ("latents", {"amount": 1.0, "guidance_scale": 1.0}),
    ],
    "upscale": [
        ("emoji-upscale", {}),
        ("emoji-upscale", {"scale": 4, "noise": 0.1}),
        ("emoji-upscale", {"num_images": 3, "batch_size": 2}),
        ("latents", {}),
    ],
}


def test_every_edit_is_tried():
    assert set(CASES) == set(unnoise.edit.edits())


def _marks(options):
    return [pytest.mark.slow] if "embedding_steps" in options or options.get("anchor") == "null-text" else []


@pytest.mark.parametrize(
    "kind, model, options",
    [pytest.param(k, m, o, marks=_marks(o)) for k, cases in CASES.items() for m, o in cases],
)
def test_every_edit_runs_on_another_device(kind, model, options, pipes, tmp_path):
    how = {"seed": 0, "num_inference_steps": 2, **options}
    if kind == "imagic":
        how["work"] = tmp_path / "work"
    with gpu.there():
        made = unnoise.edit.edits()[kind](
            pipes[model], NOISE, prompt=None if model == "emoji-upscale" else "a green apple", **how
        )
    assert made.arrays.dtype == np.uint8 and len(made.arrays) == len(made.seeds)


def test_zooming_out_and_anomaly_on_another_device(pipes):
    with gpu.there():
        assert unnoise.edit.zoom_out(
            pipes["latents"], NOISE, "apples", passes=1, num_inference_steps=2
        ).pictures.shape == (2, 16, 16, 3)
        assert unnoise.edit.anomaly(pipes["latents"], NOISE, "an apple", noises=3).map.shape == (16, 16)
        assert unnoise.edit.anomaly(pipes["latents"], NOISE, noises=2, steps=3).map.shape == (16, 16)


def test_an_image_prompt_on_another_device(pipes, tmp_path):
    from unnoise.edit import adapter

    with gpu.there():
        f = adapter.vector(torch.rand(1, 3, 16, 16))
    made = adapter.Adapter.of(pipes["latents"], f.shape[1]).save(tmp_path / "a.safetensors")
    with gpu.there():
        unnoise.edit.style(
            pipes["latents"], NOISE, "a car", method="adapter", adapter=made, num_inference_steps=2, seed=0
        )


VALUES = {
    "colour": "green",
    "mean": "#c8dcc8",
    "brightness": "0.6",
    "clip": "a happy face",
    "clip-noised": "a happy face",
    "judge": "a car",
    "smooth": "",
    **{k: "FILE" for k, g in guides.GUIDES.items() if g.value is Value.FILE},
}


@pytest.mark.parametrize(("through", "linear"), [(False, False), (True, True)])
@pytest.mark.parametrize("name", guides.GUIDES)
def test_every_guide_runs_on_another_device(name, through, linear, pipes, reference):
    value = VALUES[name].replace("FILE", str(reference))
    text = f"{name}={value}:1" if value else f"{name}:1"
    with gpu.there():
        made = pipes["latents"](
            "a red apple",
            guide=[text],
            guide_through=through,
            guide_linear=linear,
            num_inference_steps=2,
            seed=0,
            num_images=2,
        )
    assert made.arrays.shape == (2, 16, 16, 3)


def test_a_function_as_a_guide_may_answer_from_the_cpu(pipes):
    with gpu.there():
        pipes["latents"](
            "a red apple", guide=[lambda images: images.cpu().mean((1, 2, 3))], num_inference_steps=2, seed=0
        )


def test_the_stand_in_sees_what_a_gpu_would():
    x, y = torch.zeros(2, 2, device="meta"), torch.zeros(2, 2)
    with gpu.there():
        for mixed in (
            lambda: x + y,
            lambda: x @ y,
            lambda: torch.nn.functional.conv2d(x[None], y[None, None]),
            lambda: torch.cat([x, y]),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(TypeError):
            x.numpy()
        assert (
            0 < float(x.cpu().sum()) < 4
            and not bool((x == 1).all())
            and bool((x > 0).all())
            and float((x * torch.tensor(2.0)).sum()) == 0.5
        )
