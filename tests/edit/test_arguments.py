"""Arguments of the wrong type or size, of every edit: one BadInput, whatever is given and wherever."""

import inspect

import numpy as np
import pytest

import unnoise
import unnoise.edit
from tests.support import sd
from unnoise.errors import BadInput

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
WRONG = (
    "x",
    "",
    b"x",
    [1],
    [],
    {"a": 1},
    object(),
    float("nan"),
    float("inf"),
    1e9,
    -1,
    -0.5,
    2**70,
    True,
    1 + 2j,
    np.zeros(2),
    lambda: 0,
    "\ud800",
)
FREE = {"progress", "on_begin", "stage", "how", "pipe"}  # functions
SHARED = ("height", "width", "batch_size")  # of every edit that takes what a call takes


def parameters(f):
    """The names of an edit's arguments, those that all share too."""
    own = inspect.signature(f).parameters
    return [*own, *(name for name in SHARED if "how" in own)]


EVERY = [
    (kind, name)
    for kind, f in [
        *unnoise.edit.edits().items(),
        ("zoom-out", unnoise.edit.zoom_out),
        ("anomaly", unnoise.edit.anomaly),
    ]
    for name in parameters(f)
    if name not in FREE
]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return unnoise.load(sd.make(tmp_path_factory.mktemp("models") / "tiny-sd"), device="cpu", dtype="fp32")


def called(pipe, kind: str, folder, **given):
    f = {**unnoise.edit.edits(), "zoom-out": unnoise.edit.zoom_out, "anomaly": unnoise.edit.anomaly}[kind]
    how: dict = {"image": PICTURE, "prompt": "a dog", "seed": 0}
    if kind != "anomaly":
        how["num_inference_steps"] = 1
    if kind == "inpaint":
        how["mask"] = np.full((16, 16), 255, np.uint8)
    if kind == "outpaint":
        how["left"] = 4
    if kind == "imagic":
        how |= {"embedding_steps": 0, "tuning_steps": 0, "eta": 0.0, "work": folder}
    if kind in ("diffedit", "prompt-to-prompt"):
        how["source"] = "a cat"
    if kind == "zoom-out":
        how["passes"] = 1
    if kind == "denoise":
        how["sigma"] = 0.1
    return f(pipe, **{**how, **given})


@pytest.mark.parametrize("kind, name", EVERY)
def test_every_argument_is_taken_or_refused_in_one_line(pipe, kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a folder of work may be made
    for value in WRONG:
        try:
            called(pipe, kind, tmp_path / "work", **{name: value})
        except BadInput as e:
            assert "\n" not in str(e) and len(str(e)) < 2000, (value, e)


@pytest.mark.parametrize(
    "kind, name, value, said",
    [
        ("denoise", "sigma", 1e9, "sigma"),
        ("denoise", "sigma", 10.01, "from 0 to 10"),
        ("denoise", "sigma", -0.1, "sigma"),
        ("denoise", "sample", 1, "True or False"),
        ("upscale", "scale", 3, "2 or 4"),
        ("upscale", "batch_size", 0, "batch_size"),
        ("upscale", "height", 64, "own size"),
        ("outpaint", "width", 64, "own size"),
        ("image-to-image", "strength", True, "strength"),
        ("image-to-image", "then", "a car", "list of prompts"),
        ("image-to-image", "height", 2.5, "height"),
        ("image-to-image", "progress", "x", "progress must be a function"),
        ("diffedit", "on_begin", 5, "on_begin must be a function"),
        ("imagic", "batch_size", 0, "batch_size"),
        ("denoise", "width", 16, "own size"),
        ("inpaint", "soft", 1.5, "soft"),
        ("inpaint", "method", ["repaint"], "inpainting method"),
        ("style", "amount", -1, "amount"),
        ("style", "reference_prompt", 5, "text"),
        ("imagic", "levels", 0, "levels"),
        ("imagic", "tuning_rate", 0, "tuning_rate"),
        ("imagic", "work", 5, "folder"),
        ("invert", "iterations", 0, "iterations"),
        ("invert", "method", None, "inversion method"),
        ("anomaly", "noises", 2.0, "noises"),
        ("anomaly", "seed", "x", "seed"),
        ("anomaly", "batch_size", -5, "batch_size"),
        ("prompt-to-prompt", "weights", [1], "word: factor"),
        ("prompt-to-prompt", "local", "dog", "list of words"),
        ("prompt-to-prompt", "cross", "x", "cross"),
        ("zoom-out", "factor", True, "factor"),
        ("zoom-out", "passes", 101, "passes"),
        ("diffedit", "source", 5, "text"),
        ("diffedit", "noises", 0, "noises"),
        ("outpaint", "left", -1, "left"),
    ],
)
def test_what_is_refused_is_named(pipe, kind, name, value, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        called(pipe, kind, tmp_path / "work", **{name: value})
