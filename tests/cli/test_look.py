"""`generate --stages`, `--sweep` and `--preview`, run as a user runs them; pictures on terminals, read back
from what was written.
"""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import unnoise
from tests.cli.test_cli import bad, run
from tests.support.pictures import Terminal, contains
from unnoise.cli import terminal
from unnoise.pipeline import read_recipe


def pixels(path) -> np.ndarray:
    with Image.open(path) as im:
        return np.asarray(im)


def enlarged(grey: np.ndarray, k: int) -> np.ndarray:
    """(h, w) -> (k h, k w, 3), each pixel k x k."""
    return grey.repeat(k, 0).repeat(k, 1)[..., None].repeat(3, 2)


class Tty(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def tty(monkeypatch):
    """Whatever is written to a stderr that is a terminal of 24-bit colours, 60 x 30."""
    for name in ("TERM_PROGRAM", "KITTY_WINDOW_ID", "TMUX", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "COLUMNS": "60",
        "LINES": "30",
    }.items():
        monkeypatch.setenv(name, value)
    return Tty()


# --- stages ---


def test_stages_leave_the_picture_as_it_is(tiny, tmp_path, capfd):
    args = ["generate", "boot", "-n", 2, "--seed", 5, "--steps", 3, "--model", tiny, "--json"]
    run(capfd, *args, "-o", tmp_path / "plain.png")
    code, out, _ = run(capfd, *args, "-o", tmp_path / "x.png", "--stages", tmp_path / "deep" / "er")
    assert code == 0 and json.loads(out)["stages"] == str(tmp_path / "deep" / "er")
    for s in 5, 6:
        assert (tmp_path / f"x-{s}.png").read_bytes() == (tmp_path / f"plain-{s}.png").read_bytes()
    assert np.array_equal(pixels(tmp_path / "deep" / "er" / "step-003-x.png"), pixels(tmp_path / "x-5.png"))
    assert len(json.loads((tmp_path / "deep" / "er" / "stages.json").read_text())["steps"]) == 4


def test_a_seed_that_is_drawn_is_the_one_that_is_reported(tiny, tmp_path, capfd):
    _, out, _ = run(
        capfd,
        "generate",
        "boot",
        "--steps",
        2,
        "--model",
        tiny,
        "-o",
        tmp_path / "x.png",
        "--stages",
        tmp_path / "s",
        "--json",
    )
    run(
        capfd,
        "generate",
        "boot",
        "--steps",
        2,
        "--model",
        tiny,
        "-o",
        tmp_path / "y.png",
        "--seed",
        json.loads(out)["seeds"][0],
    )
    assert np.array_equal(pixels(tmp_path / "s" / "step-002-x0.png"), pixels(tmp_path / "y.png"))


# --- sweeps ---


def test_a_sweep_of_two_settings_is_a_grid_of_plain_runs(tiny, tmp_path, capfd):
    args = ["generate", "boot", "--model", tiny, "--seed", 5, "--sampler", "ddim", "-o"]
    code, out, _ = run(
        capfd, *args, tmp_path / "x.png", "--sweep", "steps=2,3", "--sweep", "eta=0,0.5,1", "--json"
    )
    d = json.loads(out)
    assert code == 0 and [(c["steps"], c["eta"]) for c in d["sweep"]] == [
        (s, e) for s in (2, 3) for e in (0, 0.5, 1)
    ]
    assert (
        d["grid"] == str(tmp_path / "x.png")
        and d["files"] == [c["file"] for c in d["sweep"]]
        and d["seeds"] == [5]
        and len(set(d["files"])) == 6
    )
    sheet, places = pixels(tmp_path / "x.png"), []
    for c in d["sweep"]:
        run(
            capfd,
            *args,
            tmp_path / "one.png",
            "--overwrite",
            "--steps",
            c["steps"],
            "--option",
            f"eta={c['eta']}",
        )
        assert np.array_equal(pixels(c["file"]), pixels(tmp_path / "one.png")) and read_recipe(
            c["file"]
        ) == read_recipe(tmp_path / "one.png")
        assert (c["nfe"], c["seed"]) == (c["steps"], 5) and c["seconds"] > 0
        places.append(contains(sheet, enlarged(pixels(c["file"]), 12)))
    assert (
        places[0][0] == places[2][0] < places[3][0] == places[5][0]
        and places[0][1] < places[1][1] < places[2][1] == places[5][1]
    )
    assert read_recipe(tmp_path / "x.png")["sweep"] == [
        {"name": "steps", "values": [2, 3]},
        {"name": "eta", "values": [0, 0.5, 1]},
    ]


def test_labels_say_what_was_swept(tiny, tmp_path, capfd):
    sheets = []
    for sweep in ("spacing=karras,trailing", "spacing=trailing,karras"):
        assert (
            run(
                capfd,
                "generate",
                "boot",
                "--model",
                tiny,
                "--seed",
                5,
                "--steps",
                2,
                "--sweep",
                sweep,
                "-o",
                tmp_path / "x.png",
                "--overwrite",
            )[0]
            == 0
        )
        sheets.append(pixels(tmp_path / "x.png"))
    assert sheets[0].shape == sheets[1].shape and (sheets[0] != sheets[1])[:105].any()  # above the pictures


@pytest.mark.parametrize(
    ("sweep", "values"),
    [
        ("guidance=1,2.5", [1, 2.5]),
        ("sampler=ddim,euler a", ["ddim", "euler a"]),
        ("seed=1,-2", [1, -2]),
        ("negative=,a t-shirt", ["", "a t-shirt"]),
        ("prompt=a t-shirt,an ankle boot", ["a t-shirt", "an ankle boot"]),
        ('spacing="karras", trailing', ["karras", "trailing"]),
        ("guidance-rescale=0,0.7", [0, 0.7]),
    ],
)
def test_settings_that_can_be_swept(tiny, tmp_path, capfd, sweep, values):
    name = sweep.partition("=")[0]
    prompt = [] if name == "prompt" else ["boot"]
    code, out, _ = run(
        capfd,
        "generate",
        *prompt,
        "--model",
        tiny,
        "--steps",
        2,
        "--sweep",
        sweep,
        "-o",
        tmp_path / "x.png",
        "--json",
    )
    d = json.loads(out)
    assert code == 0 and [c[name] for c in d["sweep"]] == values
    a, b = (pixels(c["file"]) for c in d["sweep"])
    assert (a != b).any() and (name == "seed" or len(d["seeds"]) == 1)


def test_several_images_a_cell_are_tiled(tiny, tmp_path, capfd):
    _, out, _ = run(
        capfd,
        "generate",
        "boot",
        "-n",
        3,
        "--seed",
        5,
        "--model",
        tiny,
        "--sweep",
        "steps=1,2",
        "-o",
        tmp_path / "x",
        "--json",
    )
    d = json.loads(out)
    assert d["seeds"] == [5, 6, 7] and [(c["steps"], c["seed"]) for c in d["sweep"]] == [
        (k, s) for k in (1, 2) for s in (5, 6, 7)
    ]
    assert d["grid"] == str(tmp_path / "x" / "sweep.png") and all(
        (tmp_path / "x") in p.parents for p in map(type(tmp_path), d["files"])
    )
    two = pixels(tmp_path / "x" / "sweep-0-steps-1.png")
    contains(pixels(d["grid"]), enlarged(two, 12))


BAD = [
    (["--sweep", "guidence=1,2"], "'guidance'"),
    (["--sweep", "guidance=1,x"], "numbers, given 'x'"),
    (["--sweep", "steps=1.5"], "whole numbers"),
    (["--sweep", "guidance="], "no values"),
    (["--sweep", "guidance=1,,2"], "empty value"),
    (["--sweep", "guidance"], "name=value"),
    (["--sweep", "guidance=1,1.0"], "'1.0' is repeated"),
    (["--sweep", "sampler=ddim,DDIM"], "mean the same"),
    (["--sweep", "sampler=ddim,ddmi"], "did you mean"),
    (["--sweep", "steps=2,0"], "from 1"),
    (["--sweep", "guidance=1,nan"], "finite"),
    (["--sweep", "steps=1", "--steps", "2"], "leave out"),
    (["--sweep", "steps=1", "--sweep", "steps=2"], "given twice"),
    (["--sweep", "steps=1", "--sweep", "seed=2", "--sweep", "eta=1"], "3 times"),
    (["--sweep", "eta=0,1", "--sampler", "heun"], "has no option 'eta'"),
    (["--sweep", "sampler=ddim,heun", "--sweep", "eta=0,1"], "'heun'"),
    (["--sweep", "negative=zebra"], "ankle boot"),
    (["--sweep", "steps=1,2", "--stages", "s"], "--sweep"),
    (["--sweep", "prompt=one,two"], "leave out"),
    (["--stages", "s", "--sampler", "ddmi"], "ddim"),
    (["--stages", "taken"], "cannot write"),
    (["--stages", "taken/below"], "cannot write"),
    (["--preview-every", "0"], "at least 1"),
    (["--stages", "s", "--model", "VECTORS"], "picture"),
    (["--sweep", "steps=1,2", "--model", "VECTORS"], "picture"),
    (["--preview", "--model", "VECTORS"], "picture"),
    (["--stages", "other"], "name another folder"),
]


@pytest.mark.parametrize(("args", "said"), BAD, ids=[" ".join(a)[:50] for a, _ in BAD])
def test_bad_input_is_one_line_before_anything_is_drawn(
    tiny, vectors, tmp_path, capfd, monkeypatch, args, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "schedule.png").write_text("of somebody else")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    prompt = [] if "VECTORS" in args else ["one"]
    assert said in bad(
        capfd, "generate", *prompt, "--model", tiny, *[vectors if a == "VECTORS" else a for a in args]
    )
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before and not (
        tmp_path / "s"
    ).exists()


# --- previews ---


def test_a_preview_shows_the_estimate_in_place_and_changes_nothing(tiny, tmp_path, capfd, monkeypatch, tty):
    args = ["generate", "boot", "--seed", 5, "--steps", 4, "--model", tiny, "-o"]
    run(capfd, *args, tmp_path / "plain.png")
    with monkeypatch.context() as m:
        m.setattr("sys.stderr", tty)
        code, out, _ = run(capfd, *args, tmp_path / "x.png", "--preview-every", 2, "--json")
    assert code == 0 and json.loads(out)["files"] == [str(tmp_path / "x.png")]
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    states = list(unnoise.load(tiny).stream("boot", seed=5, num_inference_steps=4))
    decoded = [unnoise.load(tiny).decode(s.x0)[0, ..., 0] for s in (states[0], states[2], states[4])]
    frames = re.split(r"(?<=\x1b\[K\n)", tty.getvalue())
    screen, seen = Terminal(), []
    for frame in frames[:3]:
        seen.append(screen.write(frame).picture())
    for image, want in zip(seen, decoded):
        assert np.array_equal(image, enlarged(want, 5))
    assert (
        frames[3] == ""
        and "seed 5, 4 calls" in [screen.line(y) for y in range(30)]
        and screen.line(screen.y) == ""
    )


def test_without_a_terminal_there_is_a_word_and_the_picture(tiny, tmp_path, capfd):
    code, out, err = run(
        capfd,
        "generate",
        "boot",
        "--seed",
        5,
        "--steps",
        1,
        "--model",
        tiny,
        "-o",
        tmp_path / "x.png",
        "--preview",
        "--json",
    )
    assert (
        code == 0
        and json.loads(out)["files"]
        and err == "no preview: stderr is no terminal that shows colours\n"
    )


@pytest.mark.parametrize(
    ("env", "how"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks256"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1", "COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/t", "COLORTERM": "24bit"}, "blocks"),
        ({"TERM": "dumb"}, None),
        ({}, None),
        ({"TERM": "vt100"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, None),
    ],
)
def test_what_a_terminal_says_it_can(env, how):
    assert terminal.ability(Tty(), env) == how and terminal.ability(io.StringIO(), env) is None


def colours(w: int = 30, h: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (h, w, 3), np.uint8))


def test_half_blocks_are_the_pixels():
    image, screen = colours(), Terminal()
    screen.write("\n" * 12 + "\x1b[10A" + terminal.blocks(image, 30, 10))
    assert np.array_equal(screen.picture(), np.asarray(image))


def test_half_blocks_of_256_colours_are_the_nearest_of_the_cube():
    image = Image.new("RGB", (1, 2), (255, 0, 128))
    image.putpixel((0, 1), (51, 102, 24))
    assert terminal.blocks(image, 1, 1, 8) == f"\x1b[38;5;{16 + 36 * 5 + 3};48;5;{16 + 36 + 6 * 2}m▀\x1b[0m"


@pytest.mark.parametrize("size", [(60, 30), (30, 8)])
def test_the_screen_is_drawn_over_even_where_it_scrolls(size):
    screen, out = Terminal(*size), io.StringIO()
    view = terminal.Screen(out, "blocks", size)
    screen.write("\n" * (size[1] - 1) + "before\n")
    for image, line in (colours(), "first, a long line"), (Image.new("RGB", (30, 20), (1, 2, 3)), "second"):
        view.show(image, line)
    screen.write(out.getvalue())
    assert (
        (screen.picture() == (1, 2, 3)).all()
        and screen.line(screen.y - 1) == "second"
        and screen.y == size[1] - 1
    )
    assert (
        not any("first" in screen.line(y) for y in range(size[1]))
        and screen.line(screen.y - 2 - len(screen.picture()) // 2) == "before"
    )


def test_kitty_and_iterm_carry_the_picture():
    image = colours(300, 200)
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", terminal.kitty(image, 40, 13))
    assert all(len(p) <= 4096 for _, p in pieces) and [h.split(",")[-1] for h, _ in pieces] == ["m=1"] * (
        len(pieces) - 1
    ) + ["m=0"]
    assert {"c=40", "r=13", "q=2", "f=100", "a=T"} <= set(pieces[0][0].split(",")) and len(pieces) > 2
    assert np.array_equal(
        pixels(io.BytesIO(base64.b64decode("".join(p for _, p in pieces)))), np.asarray(image)
    )
    found = re.fullmatch(
        r"\x1b\]1337;File=inline=1;size=(\d+);width=40;height=13;preserveAspectRatio=0:(.*)\x07",
        terminal.iterm(image, 40, 13),
    )
    assert found
    data = base64.b64decode(found[2])
    assert len(data) == int(found[1]) and np.array_equal(pixels(io.BytesIO(data)), np.asarray(image))


def test_sixels_are_the_picture_in_fewer_colours():
    eight = np.array([[0, 80, 160, 240], [255, 30, 120, 7]], np.uint8)[..., None] * np.array(
        [1, 0, 1], np.uint8
    )
    image = Image.fromarray(eight.repeat(16, 0).repeat(8, 1))
    text = terminal.sixel(image, 4, 2)
    head, body = re.fullmatch(r'\x1bP0;1q"1;1;32;32(#.*?)((?:#\d+[?-~!\d$-]+)+)\x1b\\', text).groups()
    palette = {
        int(c): np.array([int(v) * 2.55 for v in rgb])
        for c, *rgb in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", head)
    }
    got, y = np.full((36, 32, 3), -99.0), 0
    for band in body.split("-")[:-1]:
        for one in band.split("$"):
            colour, letters = re.fullmatch(r"#(\d+)(.*)", one).groups()
            row = "".join(c * int(n or 1) for n, c in re.findall(r"(?:!(\d+))?([?-~])", letters))
            assert len(row) == 32
            for x, c in enumerate(row):
                for bit in range(6):
                    if ord(c) - 63 >> bit & 1:
                        got[y + bit, x] = palette[int(colour)]
        y += 6
    assert y == 36 and np.abs(got[:32] - np.asarray(image)).max() < 3


# --- models of latents ---


@pytest.mark.slow
def test_latents_are_looked_into_and_previewed_by_the_fitted_map(tmp_path, capfd, monkeypatch, tty):
    from tests.support import sd

    args = [
        "generate",
        "a photo of the cat",
        "--model",
        sd.make(tmp_path / "sd"),
        "--seed",
        5,
        "--steps",
        3,
        "--sampler",
        "ddim",
        "-o",
    ]
    run(capfd, *args, tmp_path / "plain.png")
    monkeypatch.setattr("sys.stderr", tty)
    assert run(capfd, *args, tmp_path / "x.png", "--preview-every", 1, "--stages", tmp_path / "s")[0] == 0
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    assert np.array_equal(pixels(tmp_path / "s" / "step-003-x.png"), pixels(tmp_path / "x.png"))
    frames = re.split(r"(?<=\x1b\[K\n)", tty.getvalue())
    assert (
        len(frames) == 5 and len(np.unique(Terminal().write(frames[0]).picture().reshape(-1, 3), axis=0)) > 8
    )
    assert Image.open(tmp_path / "s" / "step-000-channels.png").width > 4 * 96
