"""Zooming out goes outward, by equal factors; windows by turns; both counted by hand."""

import numpy as np
import pytest
from PIL import Image

import unnoise
from unnoise.edit.outpaint import Zoom, windows, zoom_out


@pytest.fixture(scope="module")
def zoom() -> Zoom:
    """White, then white on black at half the size, then all that at half the size again."""
    pictures = [np.full((64, 64, 3), 255, np.uint8)]
    for _ in range(2):
        large = np.zeros((64, 64, 3), np.uint8)
        large[16:48, 16:48] = np.asarray(
            Image.fromarray(pictures[-1]).resize((32, 32), Image.Resampling.BICUBIC)
        )
        pictures.append(large)
    return Zoom(np.stack(pictures), 2.0, 0, 0)


def white(frame: np.ndarray) -> int:
    """How many pixels of the middle row are white."""
    return int((frame[32, :, 0] > 127).sum())


def test_a_pass_shrinks_by_equal_factors(zoom):
    """64 pixels, each frame 2^(1/4) smaller: 53.8, 45.3, 38.1, 32; and the same of the second pass, to 16."""
    widths = [white(f) for f in zoom.frames(4)]
    assert np.abs(np.array(widths) - 64 * 2.0 ** (-np.arange(9) / 4)).max() <= 2
    assert widths[:5] == [64, 54, 46, 38, 32]


def test_what_shrinks_stays_in_the_middle(zoom):
    for frame in zoom.frames(4):
        assert abs(int(np.flatnonzero(frame[32, :, 0] > 127).sum()) / white(frame) - 31.5) <= 1


def test_windows_by_turns():
    grow = {"left": 70, "right": 10, "top": 0, "bottom": 20}
    assert list(windows((32, 48), grow, 0.5)) == [
        ("left", 24),
        ("right", 10),
        ("left", 24),
        ("left", 22),
        ("bottom", 16),
        ("bottom", 4),
    ]
    assert list(windows((32, 48), {"left": 30, "right": 0, "top": 0, "bottom": 0}, 0.75)) == [
        ("left", 12),
        ("left", 12),
        ("left", 6),
    ]


def test_each_pass_has_the_next_seed(tiny):
    """Pass k is the one pass of its own picture with seed + k."""
    pipe = unnoise.load(tiny, device="cpu", dtype="fp32")
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    how = {"factor": 2.0, "num_inference_steps": 2, "method": "replace"}
    two = zoom_out(pipe, picture, "one", passes=2, seed=5, **how)
    for k in (0, 1):
        one = zoom_out(pipe, two.pictures[k], "one", passes=1, seed=5 + k, **how)
        assert np.abs(one.pictures[1].astype(int) - two.pictures[k + 1]).max() <= 1
    other = zoom_out(pipe, two.pictures[1], "one", passes=1, seed=5, **how)
    assert np.abs(other.pictures[1].astype(int) - two.pictures[2]).max() > 8
