"""Outpainting: the picture's bytes where it lies, every amount and side, windows that overlap; zooming out to
an animation.
"""

import json
import sys

import av
import numpy as np
import pytest
from PIL import Image

from tests.cli.test_cli import bad, run
from unnoise.edit import outpaint, zoom_out
from unnoise.edit.outpaint import Zoom, check_format, windows
from unnoise.errors import BadInput


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)


HOW = {"num_inference_steps": 1, "seed": 0, "method": "replace"}


@pytest.mark.parametrize(
    "sides",
    [{"left": 5}, {"right": 100}, {"top": 1, "bottom": 40}, {"left": 9, "right": 3, "top": 20, "bottom": 7}],
)
def test_the_picture_lies_in_it_to_the_byte(emoji, picture, sides):
    l, r, t, b = (sides.get(k, 0) for k in ("left", "right", "top", "bottom"))
    made = outpaint(emoji, picture, "a car", num_images=2, **sides, **HOW).arrays
    assert made.shape == (2, 32 + t + b, 48 + l + r, 3) and all(
        np.array_equal(a[t : t + 32, l : l + 48], picture) for a in made
    )
    assert not np.array_equal(made[0], made[1])


def test_transparency_stays_where_the_picture_lies(emoji, picture):
    a = np.dstack([picture, np.full((32, 48), 90, np.uint8)])
    out = outpaint(emoji, a, "a car", left=10, right=60, soft=0, **HOW).arrays[0]  # in several windows
    assert (out[:, :10, 3] == 255).all() and (out[:, 58:, 3] == 255).all()
    assert np.array_equal(out[:, 10:58], a)  # its colours as they were stored, not as they look on white


@pytest.mark.parametrize("overlap", [0.1, 0.5, 0.9])
def test_windows_add_up_and_leave_the_overlap(overlap):
    grow = {"left": 100, "right": 7, "top": 0, "bottom": 33}
    steps = list(windows((32, 48), grow, overlap))
    for side, n in grow.items():
        assert sum(k for s, k in steps if s == side) == n
    assert all(n <= (48 if side in ("left", "right") else 32) * (1 - overlap) for side, n in steps)


def test_zooming_out_holds_each_picture_in_the_next(emoji, picture, tmp_path):
    z = zoom_out(emoji, picture, "a car", passes=2, factor=2.0, **HOW)
    assert z.pictures.shape == (3, 32, 48, 3) and np.array_equal(z.pictures[0], picture) and z.nfe == 2
    for small, large in zip(z.pictures, z.pictures[1:]):
        assert np.array_equal(
            large[8:24, 12:36], np.asarray(Image.fromarray(small).resize((24, 16), Image.Resampling.BICUBIC))
        )
    frames = z.frames(4)
    assert (
        len(frames) == 9
        and np.array_equal(frames[0], picture)
        and np.array_equal(frames[4], z.pictures[1])
        and np.array_equal(frames[8], z.pictures[2])
    )
    for name in ("z.gif", "z.png", "z.webp"):
        with Image.open(z.save(tmp_path / name, each=4)) as im:
            assert getattr(im, "n_frames") == 9  # noqa: B009 and im.size == (48, 32)
    with pytest.raises(BadInput, match="zoom is a"):
        z.save(tmp_path / "z.avi")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["z.gif", "z.png", "z.webp"]


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_a_zoom_as_a_film(tmp_path, size):
    ramp = np.indices(size).sum(0)[None, ..., None] * np.array([1, 2, 3]) % 200
    film = Zoom((ramp + np.array([0, 20, 40])[:, None, None, None]).astype(np.uint8), 1.5, 0, 0)
    with av.open(film.save(tmp_path / "z.mp4", each=5, fps=10)) as f:
        shown = [x.to_ndarray(format="rgb24") for x in f.decode(video=0)]
        assert f.streams.video[0].average_rate == 10
    assert len(shown) == 11 and all(
        x.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3) for x in shown
    )
    for x, frame in zip(shown, film.frames(5)):
        assert np.abs(x[: size[0], : size[1]].astype(int) - frame).mean() < 12  # half the colours, lossy
    assert [p.name for p in tmp_path.iterdir()] == ["z.mp4"]


def test_a_film_needs_its_library(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["unnoise.edit.outpaint"], "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"unnoise\[video\]"):
        check_format(tmp_path / "z.mp4")
    check_format(tmp_path / "z.GIF")


def test_bad_input(emoji, picture):
    for said, how in {
        "nothing to draw": {},
        "left must": {"left": -1},
        "at most 8192": {"right": 9000},
        "overlap must": {"left": 4, "overlap": 1.0},
    }.items():
        with pytest.raises(BadInput, match=said):
            outpaint(emoji, picture, "a car", **how)
    with pytest.raises(BadInput, match="passes must"):
        zoom_out(emoji, picture, passes=0)
    with pytest.raises(BadInput, match="factor must"):
        zoom_out(emoji, picture, factor=9.0)
    with pytest.raises(BadInput, match="too small"):
        zoom_out(emoji, picture[:1, :1])


def test_the_commands(tmp_path, capfd, picture):
    source = tmp_path / "a.png"
    Image.fromarray(picture).save(source)
    code, out, _ = run(
        capfd,
        "edit",
        "outpaint",
        source,
        "a car",
        "--left",
        8,
        "--steps",
        1,
        "--seed",
        2,
        "-o",
        tmp_path / "o.png",
        "--json",
    )
    assert code == 0 and np.array_equal(np.asarray(Image.open(tmp_path / "o.png"))[:, 8:], picture)
    code, out, _ = run(capfd, "replay", tmp_path / "o.png", "-o", tmp_path / "again.png", "--json")
    assert code == 0 and json.loads(out)["identical"]
    code, out, _ = run(
        capfd,
        "edit",
        "zoom-out",
        source,
        "a car",
        "--passes",
        1,
        "--frames",
        3,
        "--steps",
        1,
        "--seed",
        2,
        "-o",
        tmp_path / "z.gif",
        "--json",
    )
    assert code == 0 and json.loads(out)["frames"] == 4
    assert "nothing to draw" in bad(capfd, "edit", "outpaint", source, "a car", "-o", tmp_path / "p.png")
    assert "cannot write" in bad(capfd, "edit", "zoom-out", source, "-o", tmp_path / "z.avi")
