"""Edits on the command line: the options that all take, pictures kept as they are finished, files that are
spared, runs that go on.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import unnoise.pipeline
from tests.cli.test_cli import bad, run
from tests.support import sd
from unnoise.base.stop import Terminated
from unnoise.pipeline import read_recipe

COMMANDS = (
    "image-to-image",
    "style",
    "invert",
    "diffedit",
    "prompt-to-prompt",
    "imagic",
    "inpaint",
    "outpaint",
    "zoom-out",
    "upscale",
    "denoise",
    "anomaly",
)
SHARED = (
    "--resume",
    "--vae",
    "--device",
    "--dtype",
    "--compile",
    "--memory-budget",
    "--overwrite",
    "--json",
    "--model",
    "-o",
)
DRAWING = (
    "--spacing",
    "--option",
    "--clip-skip",
    "--sampler",
    "--seed",
    "--steps",
    "--guidance",
    "--negative",
)
BATCHES = ("--batch-size",)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in" / "p.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return path


def edited(capfd, picture, tiny, *more):
    return run(capfd, "edit", "image-to-image", picture, "boot", "--model", tiny, "--steps", 2, *more)


def names(folder):
    return sorted(p.name for p in folder.iterdir() if p.is_file())


# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_offers_what_generate_offers(command, capfd):
    code, out, _ = run(capfd, "edit", command, "--help")
    offered = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", out))
    wanted = set(SHARED)
    if command != "anomaly":
        wanted |= {"--spacing", "--steps"}
    if command not in ("anomaly", "invert", "diffedit"):
        wanted |= {*DRAWING}
    if command not in ("invert", "zoom-out"):
        wanted |= {*BATCHES}
    if command not in ("anomaly", "invert", "diffedit", "zoom-out"):
        wanted |= {"-n"}
    assert code == 0 and wanted <= offered, wanted - offered


def test_the_help_of_upscale_says_that_its_own_model_takes_no_prompt(capfd):
    for command in ("upscale", "denoise"):
        told = " ".join(run(capfd, "edit", command, "--help")[1].split())
        assert (
            "emoji-upscale" in told
            and "takes none" in told
            and "Only with a --model that draws from prompts" in told
        )


def test_options_reach_the_edit(picture, tiny, tmp_path, capfd):
    code, out, _ = edited(
        capfd,
        picture,
        tiny,
        "--seed",
        3,
        "--sampler",
        "ddim",
        "--option",
        "eta=0.5",
        "--spacing",
        "karras",
        "--device",
        "cpu",
        "--dtype",
        "fp32",
        "--batch-size",
        1,
        "-o",
        tmp_path / "o.png",
        "--json",
    )
    recipe = read_recipe(tmp_path / "o.png")
    assert code == 0 and json.loads(out)["seeds"] == [3]
    assert (recipe["sampler"], recipe["options"], recipe["spacing"], recipe["dtype"]) == (
        "ddim",
        {"eta": 0.5},
        "karras",
        "fp32",
    )


@pytest.mark.parametrize(
    "more, said",
    [
        (("--option", "eta"), "name=value"),
        (("--option", "nonsense=1"), "nonsense"),
        (("--batch-size", 0), "batch_size"),
        (("--device", "tpu"), "device"),
        (("--dtype", "fp8"), "dtype"),
        (("--spacing", "x"), "spacing"),
        (("--clip-skip", 1), "clip_skip"),
        (("-n", 0), "num_images"),
        (("--overwrite", "--resume"), "exclude"),
    ],
)
def test_what_is_refused_is_one_line_and_nothing_is_written(more, said, picture, tiny, tmp_path, capfd):
    assert said in bad(
        capfd,
        "edit",
        "image-to-image",
        picture,
        "boot",
        "--model",
        tiny,
        "--steps",
        2,
        "-o",
        tmp_path / "o.png",
        *more,
    )
    assert names(tmp_path) == []


# --- files --------------------------------------------------------------------------------------------------


def test_what_lies_there_is_spared_unless_asked(picture, tiny, tmp_path, capfd):
    out = tmp_path / "o.png"
    out.write_bytes(b"mine")
    code, told, err = edited(capfd, picture, tiny, "--seed", 1, "-o", out, "--json")
    assert (
        code == 0
        and json.loads(told)["files"] == [str(tmp_path / "o-2.png")]
        and "o.png exists" in err
        and out.read_bytes() == b"mine"
    )
    code, told, _ = edited(capfd, picture, tiny, "--seed", 1, "-o", out, "--overwrite", "--json")
    assert code == 0 and json.loads(told)["files"] == [str(out)] and read_recipe(out)["seed"] == 1
    assert "original" in bad(capfd, "edit", "image-to-image", picture, "boot", "--model", tiny, "-o", picture)


def test_several_go_beside_the_sheet_with_their_seeds_printed(picture, tiny, tmp_path, capfd):
    code, told, _ = edited(capfd, picture, tiny, "--seed", 5, "-n", 3, "-o", tmp_path / "o.png")
    assert code == 0 and names(tmp_path) == ["o-5.png", "o-6.png", "o-7.png", "o.png"]
    assert (
        told.splitlines()[0] == f"{tmp_path / 'o-5.png'}  seed 5"
        and f"{tmp_path / 'o.png'}  all of them" in told
    )
    grid = read_recipe(tmp_path / "o.png")["grid"]
    assert [r["seed"] for r in grid] == [5, 6, 7]


def test_batches_change_no_picture(picture, tiny, tmp_path, capfd):
    for size in (1, 2, 5):
        assert (
            edited(
                capfd, picture, tiny, "--seed", 5, "-n", 5, "-o", tmp_path / f"b{size}", "--batch-size", size
            )[0]
            == 0
        )
    for seed in range(5, 10):
        a, b, c = (np.asarray(Image.open(tmp_path / f"b{k}" / f"{seed}.png")).astype(int) for k in (1, 2, 5))
        assert np.abs(a - b).max() <= 1 and np.abs(a - c).max() <= 1


# --- broken off, and on -------------------------------------------------------------------------------------


def broken_off(monkeypatch, after: int, by: type[BaseException]):
    """The pipeline is interrupted after so many batches."""
    batches, left = unnoise.pipeline.Pipeline.batches, [after]

    def some(self, *args, **kwargs):
        for made in batches(self, *args, **kwargs):
            if left[0] == 0:
                raise by
            left[0] -= 1
            yield made

    monkeypatch.setattr(unnoise.pipeline.Pipeline, "batches", some)


@pytest.mark.parametrize("by, code", [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_finished_pictures_are_kept_and_the_last_line_says_how_to_go_on(
    by, code, picture, tiny, tmp_path, capfd, monkeypatch
):
    want = tmp_path / "want"
    edited(capfd, picture, tiny, "--seed", 7, "-n", 4, "-o", want, "--batch-size", 1)
    out = tmp_path / "out"
    with monkeypatch.context() as m:
        broken_off(m, 2, by)
        got, _, err = edited(capfd, picture, tiny, "--seed", 7, "-n", 4, "-o", out, "--batch-size", 1)
    assert got == code and names(out) == ["7.png", "8.png"]
    assert "2 of 4" in err.splitlines()[-1] and "--resume" in err.splitlines()[-1]
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    got, told, _ = edited(
        capfd, picture, tiny, "--seed", 7, "-n", 4, "-o", out, "--batch-size", 1, "--resume", "--json"
    )
    assert got == 0 and json.loads(told)["kept"] == 2 and names(out) == names(want)
    assert all((out / n).stat().st_mtime_ns == t for n, t in before.items())
    for n in names(want):
        assert np.array_equal(np.asarray(Image.open(out / n)), np.asarray(Image.open(want / n)))


def test_going_on_without_a_seed_takes_that_of_what_lies_there(picture, tiny, tmp_path, capfd, monkeypatch):
    with monkeypatch.context() as m:
        broken_off(m, 1, KeyboardInterrupt)
        _, _, err = edited(capfd, picture, tiny, "-n", 3, "-o", tmp_path / "out", "--batch-size", 1)
    first = int(re.search(r"--seed (\d+) --resume", err)[1])  # type: ignore[index]
    _, told, _ = edited(
        capfd, picture, tiny, "-n", 3, "-o", tmp_path / "out", "--batch-size", 1, "--resume", "--json"
    )
    assert json.loads(told)["seeds"] == [first, first + 1, first + 2] and json.loads(told)["kept"] == 1


@pytest.mark.parametrize("more", [("--strength", 0.3), ("--negative", "one"), ("--guidance", 4)])
def test_pictures_made_another_way_are_neither_kept_nor_lost(more, picture, tiny, tmp_path, capfd):
    out = tmp_path / "out"
    edited(capfd, picture, tiny, "--seed", 7, "-n", 2, "-o", out)
    old = {p.name: p.read_bytes() for p in out.iterdir()}
    code, told, _ = edited(capfd, picture, tiny, "--seed", 7, "-n", 2, "-o", out, "--resume", "--json", *more)
    assert (
        code == 0
        and json.loads(told)["kept"] == 0
        and all((out / n).read_bytes() == b for n, b in old.items())
    )
    assert names(out) == ["7-2.png", "7.png", "8-2.png", "8.png"]


def test_going_on_when_all_is_there_writes_nothing(picture, tiny, tmp_path, capfd):
    edited(capfd, picture, tiny, "--seed", 7, "-n", 3, "-o", tmp_path / "o.png")
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.is_file()}
    code, told, _ = edited(
        capfd, picture, tiny, "--seed", 7, "-n", 3, "-o", tmp_path / "o.png", "--resume", "--json"
    )
    assert code == 0 and json.loads(told)["grid"] == str(tmp_path / "o.png")
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.is_file()} == before


def test_a_truncated_picture_is_drawn_again(picture, tiny, tmp_path, capfd):
    out = tmp_path / "out"
    edited(capfd, picture, tiny, "--seed", 7, "-n", 3, "-o", out)
    whole = (out / "8.png").read_bytes()
    (out / "8.png").write_bytes(whole[: len(whole) - 30])
    code, told, _ = edited(capfd, picture, tiny, "--seed", 7, "-n", 3, "-o", out, "--resume", "--json")
    again = Path(json.loads(told)["files"][1])
    assert code == 0 and again.read_bytes() == whole


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return sd.make(tmp_path_factory.mktemp("models") / "tiny-sd")


@pytest.fixture
def colours(tmp_path):
    path = tmp_path / "in" / "c.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return path


def command(capfd, kind, model, picture, out, *more):
    """An edit of two steps: (exit code, what --json printed, stderr)."""
    steps = () if kind == "anomaly" else ("--steps", 2)
    given = (*OPTIONS[kind], "--model", model, *steps, "-o", out, "--json", *more)
    code, told, err = run(capfd, "edit", kind, picture, "a dog", *given)
    return code, json.loads(told) if told else {}, err


TRAINING = ("--embedding-steps", 2, "--tuning-steps", 2)
OPTIONS = {
    "imagic": (*TRAINING, "--eta", ".2,.8", "--seed", 4, "-n", 2, "--batch-size", 1),
    "zoom-out": ("--passes", 3, "--frames", 2, "--seed", 4, "--method", "replace"),
    "anomaly": ("--noises", 3, "--batch-size", 1),
    "invert": (),
    "diffedit": ("--source", "a cat", "--noises", 2, "--batch-size", 1),
}
OUT = {"imagic": "o.png", "zoom-out": "o.gif", "anomaly": "o.png", "invert": "o.png", "diffedit": "o.png"}
BROKEN = [
    # after so many batches; so much of it is kept, and taken up again
    *[("imagic", n, f"{n} of 4 pictures", n) for n in (1, 3)],
    *[("zoom-out", n, f"{n} of 3 passes", None) for n in (1, 2)],
    *[("anomaly", n, f"{n} of 3 noises", None) for n in (0, 2)],
    ("invert", 0, "0 of 1 pictures", 0),
    ("diffedit", 1, "0 of 1 pictures", 0),
]


@pytest.mark.parametrize("kind, after, said, there", BROKEN)
def test_a_broken_off_edit_goes_on_to_the_same_files(
    kind, after, said, there, latents, colours, tmp_path, capfd, monkeypatch
):
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "cache"))
    want, got = tmp_path / "want", tmp_path / "got"
    want.mkdir()
    got.mkdir()
    assert command(capfd, kind, latents, colours, want / OUT[kind])[0] == 0
    with monkeypatch.context() as m:
        broken_off(m, after, KeyboardInterrupt)
        code, _, err = command(capfd, kind, latents, colours, got / OUT[kind])
    assert code == 130
    assert said in err.splitlines()[-1]
    assert "--resume" in err.splitlines()[-1]
    batches = counted(monkeypatch)
    code, told, _ = command(capfd, kind, latents, colours, got / OUT[kind], "--resume")
    assert code == 0
    assert told.get("kept") == there
    assert {p.name: p.read_bytes() for p in got.iterdir()} == {p.name: p.read_bytes() for p in want.iterdir()}
    whole = {"imagic": 4, "zoom-out": 3, "anomaly": 3, "invert": 1, "diffedit": 3}[kind]
    assert len(batches) == whole - (after if kind not in ("invert", "diffedit") else 0)
    assert not [*(tmp_path / "cache").glob("edits/*")]


def counted(monkeypatch):
    """A list that grows with every batch that is drawn."""
    batches, found = unnoise.pipeline.Pipeline.batches, []

    def some(self, *args, **kwargs):
        for made in batches(self, *args, **kwargs):
            found.append(made)
            yield made

    monkeypatch.setattr(unnoise.pipeline.Pipeline, "batches", some)
    return found


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_finished_edit_is_not_written_twice(kind, latents, colours, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    out.mkdir()
    command(capfd, kind, latents, colours, out / OUT[kind])
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    drawn = counted(monkeypatch)
    code, told, _ = command(capfd, kind, latents, colours, out / OUT[kind], "--resume")
    assert code == 0
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == before
    assert bool(drawn) == (kind in ("zoom-out", "anomaly"))  # whose files do not say how they were made
    assert set(told["files"]) <= {str(p) for p in out.iterdir()}


def test_another_autoencoder_is_taken(latents, colours, tmp_path, capfd, monkeypatch):
    other = shutil.copytree(latents, tmp_path / "other")
    (weights,) = (other / "vae").glob("*.safetensors")
    save_file({k: 0.9 * v for k, v in load_file(weights).items()}, weights)
    shown = {}
    for name, more in (("own", ()), ("other", ("--vae", other))):
        code, told, _ = command(capfd, "invert", latents, colours, tmp_path / f"{name}.png", *more)
        assert code == 0
        shown[name] = read_recipe(told["files"][0]), np.asarray(Image.open(told["files"][0]))
    assert shown["own"][0]["model_sha256"] != shown["other"][0]["model_sha256"]
    assert not np.array_equal(shown["own"][1], shown["other"][1])
    missing = tmp_path / "missing"
    assert "accepted" in bad(capfd, "edit", "invert", colours, "--model", latents, "--vae", missing)


def test_zooming_out_takes_a_new_number(tmp_path, capfd, monkeypatch):
    import unnoise.edit
    from unnoise.edit.outpaint import Zoom

    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    (tmp_path / "z.gif").write_bytes(b"mine")

    def zoomed(*args, on_begin=lambda recipes: None, **how):
        on_begin(())
        return Zoom(np.zeros((2, 8, 8, 3), np.uint8), 1.5, 0, 0)

    monkeypatch.setattr(unnoise.edit, "zoom_out", zoomed)
    monkeypatch.setattr(unnoise.pipeline, "load", lambda *a, **k: type("P", (), {"name": "p"}))
    code, out, err = run(
        capfd, "edit", "zoom-out", tmp_path / "p.png", "-o", tmp_path / "z.gif", "--passes", 1, "--frames", 2
    )
    assert code == 0 and "z-2.gif" in out and "exists" in err and (tmp_path / "z.gif").read_bytes() == b"mine"
    assert "from 1 to 100" in bad(
        capfd, "edit", "zoom-out", tmp_path / "p.png", "-o", tmp_path / "y.gif", "--fps", 101
    )
