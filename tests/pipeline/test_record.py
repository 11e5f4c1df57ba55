"""The recipe in a PNG: whatever it holds, replay draws it or says in one line why not."""

import copy
import io
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import unnoise
from tests.cli.test_cli import bad, run
from unnoise.cli.replay import replay_recipes
from unnoise.errors import BadInput
from unnoise.pipeline import KEY, read_recipe, record, write_png

VALUES = (
    "<del>",
    None,
    "x",
    "",
    "\x1b]0;t\x07",
    -1,
    0,
    1.5,
    [],
    {},
    [1, 2],
    ["x"],
    True,
    10**30,
    -(10**30),
    1e308,
    {"a": {"b": []}},
    float("nan"),
    float("inf"),
    [float("nan")],
    "a" * 200_000,
)
MORE = (
    "options",
    "noise",
    "guidance_interval",
    "guidance_rescale",
    "height",
    "width",
    "clip_skip",
    "timesteps",
    "guide",
    "guide_through",
    "clip",
    "spacing_options",
    "machine",
    "edit",
)


@pytest.fixture(scope="module")
def pipe(tiny):
    return unnoise.load(tiny, device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def recipe(pipe):
    return pipe("one", seed=1, num_inference_steps=1).recipes[0]


def tried(pipe, recipe) -> str | None:
    """None where a recipe is drawn, else the line that refuses it; any other error fails the test."""
    try:
        replay_recipes(pipe, [recipe], "d.png")
    except BadInput as e:
        return str(e)
    return None


def test_recipes_with_one_damaged_value_are_drawn_or_refused(pipe, recipe):
    refused = 0
    for key in {*recipe, *MORE}:
        for value in VALUES:
            damaged = copy.deepcopy(recipe) | {key: value}
            if isinstance(value, str) and value == "<del>":
                damaged.pop(key)
            line = tried(pipe, damaged)
            refused += line is not None
            assert line is None or ("\n" not in line and len(line) < 3000), (key, value)
    assert refused > 250


def test_values_of_another_type_are_named(pipe, recipe):
    for key, value in (
        ("seed", "7"),
        ("seed", 7.0),
        ("steps", "2"),
        ("guidance", "2"),
        ("prompt", 5),
        ("options", []),
        ("timesteps", "x"),
        ("guide", "x"),
        ("guide_through", 1),
        ("machine", []),
        ("edit", []),
        ("height", 8.0),
        ("clip", -1.0),
    ):
        line = tried(pipe, recipe | {key: value})
        assert line and key in line, (key, value, line)


def test_edits_that_are_damaged_are_refused(pipe, recipe):
    good = {"kind": "image-to-image", "inputs": {}, "options": {}}
    for damage in (
        {"kind": "img2img"},
        {"kind": 5},
        {"inputs": []},
        {"inputs": {"image": 5}},
        {"inputs": {"image": {"path": 5}}},
        {"inputs": {"image": {"path": "/nowhere.png"}}},
        {"inputs": {"image": {"path": "/etc"}}},
        {"options": {"nonsense": 1}},
        {"options": []},
        {"options": {"prompt": "twice"}},
        {"options": {"seed": 1}},
        {},
    ):
        assert tried(pipe, recipe | {"edit": good | damage}) is not None, damage


def test_pictures_of_one_sheet_share_their_settings(pipe, recipe):
    with pytest.raises(BadInput, match="different settings"):
        replay_recipes(pipe, [recipe, recipe | {"steps": 2}], "d.png")
    with pytest.raises(BadInput, match="grid"):
        replay_recipes(pipe, [], "d.png")
    result, _ = replay_recipes(pipe, [recipe, recipe | {"seed": 2, "prompt": "boot"}], "d.png")
    assert result.seeds == (1, 2)


def marked(path, text, kind="text"):
    info = PngInfo()
    {"text": info.add_text, "itxt": info.add_itxt}[kind](KEY, text)
    Image.new("L", (8, 8)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize(
    "text",
    [
        '{"grid": []}',
        '{"grid": {}}',
        '{"grid": null}',
        '{"grid": [1]}',
        '{"grid": "x"}',
        "[]",
        "1",
        "null",
        "",
        "{",
        '{"edit": {}}',
        "NaN",
        '{"sweep": 1}',
        '{"a": ' * 200,
        "[" * 100_000,
        '{"seed": ' + "9" * 5000 + "}",
        '{"seed": 1, "seed": 2}',
        '{"model": "\\ud800"}',
        '{"model": "\\u0000"}',
    ],
    ids=range(19),
)
def test_text_that_is_no_recipe_is_one_line(tiny, tmp_path, capfd, text):
    file = marked(tmp_path / "x.png", text)
    for args in ([], ["--model", tiny]):
        said = bad(capfd, "replay", file, *args, "-o", tmp_path / "y.png")
        assert "\x1b" not in said and not (tmp_path / "y.png").exists()


def test_a_file_that_is_no_picture_is_never_opened_as_anything_else(tmp_path, capfd):
    import pickle

    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "trace"), "w")

    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, format="PNG")
    text_bomb = b"unnoise\0\0" + zlib.compress(b"a" * 200_000_000)
    png = io.BytesIO()
    Image.new("L", (4, 4)).save(png, format="PNG")
    raw = png.getvalue()
    chunk = (
        len(text_bomb).to_bytes(4, "big")
        + b"zTXt"
        + text_bomb
        + zlib.crc32(b"zTXt" + text_bomb).to_bytes(4, "big")
    )
    for content in (
        pickle.dumps(Trap()),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
        bomb.getvalue(),
        raw[:33] + chunk + raw[33:],
        b"",
        raw[:40],
    ):
        (tmp_path / "x.png").write_bytes(content)
        bad(capfd, "replay", tmp_path / "x.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.png"]


def test_the_record_holds_what_changes_a_picture(pipe, tiny, recipe):
    assert recipe["dtype"] == "fp32" and {"device", "engine", "torch", "threads"} <= set(recipe["machine"])
    half = unnoise.load(tiny, device="cpu", dtype="bf16")("one", seed=1, num_inference_steps=1).recipes[0]
    assert half["dtype"] == "bf16" and half["machine"]["engine"] == "plain"
    clipped = pipe.with_defaults(clip=0.5)("one", seed=1, num_inference_steps=1)
    assert clipped.recipes[0]["clip"] == 0.5 and not np.array_equal(
        clipped.arrays, pipe("one", seed=1, num_inference_steps=1).arrays
    )
    again, changed = replay_recipes(pipe, [clipped.recipes[0]], "d.png")
    assert np.array_equal(again.arrays, clipped.arrays) and changed == []
    plain, _ = replay_recipes(pipe.with_defaults(clip=0.5), [recipe], "d.png")
    assert np.array_equal(plain.arrays, pipe("one", seed=1, num_inference_steps=1).arrays)


def test_spacing_options_of_the_folder_are_recorded_and_replayed(pipe):
    usual = {"num_inference_steps": 3, "seed": 1, "spacing": "karras"}
    own = pipe.with_defaults(spacing="karras", spacing_options={"rho": 2.0})
    made = own("one", **usual)
    assert made.recipes[0]["spacing_options"] == {"rho": 2.0} and not np.array_equal(
        made.arrays, pipe("one", **usual).arrays
    )
    assert np.array_equal(replay_recipes(pipe, made.recipes, "d.png")[0].arrays, made.arrays)


def test_replay_takes_the_recorded_number_type_and_threads(tiny, tmp_path, capfd):
    run(
        capfd,
        "generate",
        "boot",
        "--model",
        tiny,
        "--steps",
        2,
        "--seed",
        5,
        "--dtype",
        "bf16",
        "-o",
        tmp_path / "x.png",
    )
    _, out, _ = run(capfd, "replay", tmp_path / "x.png", "--model", tiny, "-o", tmp_path / "y.png", "--json")
    assert json.loads(out)["identical"] and read_recipe(tmp_path / "y.png")["dtype"] == "bf16"
    told = read_recipe(tmp_path / "x.png")
    told["machine"]["threads"] = 3
    marked(tmp_path / "z.png", json.dumps(told))
    _, out, _ = run(capfd, "replay", tmp_path / "z.png", "--model", tiny, "-o", tmp_path / "w.png", "--json")
    assert read_recipe(tmp_path / "w.png")["machine"]["threads"] == 3 and json.loads(out)["changed"] == []


def test_what_else_has_changed_is_said(pipe, recipe):
    _, changed = replay_recipes(
        pipe,
        [recipe | {"dtype": "bf16", "tomorrow": 1, "machine": recipe["machine"] | {"engine": "compiled"}}],
        "d.png",
    )
    assert {"tomorrow: unknown to this version", "dtype: bf16 -> fp32"} <= {*changed} and any(
        c.startswith("engine: compiled") for c in changed
    )


def test_recipes_of_earlier_versions_are_read(pipe, recipe):
    old = {k: v for k, v in recipe.items() if k not in ("dtype", "machine")}
    assert tried(pipe, old) is None


def test_same_looks_at_what_is_asked_for(recipe):
    other = recipe | {"version": "9", "machine": {"threads": 7}}
    assert record.same(recipe, other) and not record.same(
        recipe, other | {"guidance": recipe["guidance"] + 1e-12}
    )


def test_guide_weights_are_stored_exactly(pipe):
    from unnoise.pipeline.guides import Guide

    weight = 0.1 + 0.2
    r = replace(pipe.request("one", seed=1), guide=(Guide("smooth", "", weight),))
    assert float(r.recipe(pipe, 0)["guide"][0].rpartition(":")[2]) == weight


def test_what_a_prompt_says_comes_back_as_it_was_said(recipe, tmp_path):
    said = recipe | {"prompt": "a\0b \u2028 \x1b é"}
    path = write_png(Image.new("L", (4, 4)), tmp_path / "a.png", json.dumps(said))
    assert record.checked(read_recipe(path), "a.png")[0].prompt == said["prompt"]
