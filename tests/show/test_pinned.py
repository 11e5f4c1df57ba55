"""Previews within their budget, by a clock that the test turns; sheets, scales and ticks to the number."""

import numpy as np
import pytest
import torch
from PIL import Image

import unnoise
from tests.support.painter import painter
from unnoise import show
from unnoise.codec import Pixels, rgb
from unnoise.process.level import clean, ve
from unnoise.sample import State
from unnoise.show import plots, previews, sheets, stages
from unnoise.show.sheets import fitted


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return unnoise.load(painter(tmp_path_factory.mktemp("models") / "painter"), device="cpu", dtype="fp32")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shown_at(pipe, steps: int, each: float, cost: float, every: int | None = None) -> list[int]:
    """The steps of a run at which a preview is shown: a step takes `each` seconds, a preview `cost`."""
    clock, at = Clock(), []

    def show(image, state, k):
        at.append(k)
        clock.now += cost

    preview = previews.Preview(pipe, show, every, clock=clock)
    for _ in range(steps):
        clock.now += each
        preview(0, State(torch.zeros(1, 4, 8, 8), ve(1.0), torch.zeros(1, 4, 8, 8)))
    return at


def test_previews_take_a_fiftieth_of_the_time(pipe):
    """The first may come once .01 s, the guess, is 2 % of what has passed: after .5 s. It took .5 s: so that
    1 s is 2 %, the next comes at 50 s.
    """
    assert shown_at(pipe, 1200, 0.125, 0.5) == [3, 395, 591, 787, 983, 1179]
    assert len(shown_at(pipe, 1000, 0.1, 0.004)) == 510  # of .004 s each: 2 % of 102 s


def test_a_rhythm_that_is_asked_for_is_kept(pipe):
    assert shown_at(pipe, 10, 1.0, 100.0, every=3) == [0, 3, 6, 9]


def test_the_result_is_not_shown_and_the_next_part_begins_anew(pipe):
    seen = []
    preview = previews.Preview(pipe, lambda image, state, k: seen.append(k), every=2)
    x = torch.zeros(1, 4, 8, 8)
    for l in [ve(3.0), ve(2.0), ve(1.0), clean()] * 2:
        preview(0, State(x, l, x))
    assert seen == [0, 2, 0, 2]


def test_round_numbers_on_axes():
    assert show.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert show.ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert show.ticks(-12, 12) == [-10, -5, 0, 5, 10]
    assert show.ticks(0, 999) == [0, 200, 400, 600, 800]


def test_small_pictures_are_enlarged_by_whole_factors_and_large_ones_reduced():
    size = lambda w, h: fitted(Image.new("RGB", (w, h)), 96, 512).size
    assert size(8, 8) == (96, 96)
    assert size(10, 5) == (100, 50)
    assert size(97, 3) == (97, 3)
    assert size(1024, 256) == (512, 128)


def test_a_sheet_shows_24_steps():
    assert (stages.SHOWN, sheets.PAD, previews.BUDGET) == (24, 10, 0.02)


def test_numbers_of_a_level():
    row = stages._numbers(0.6, 0.8)
    assert row == {
        "alpha": 0.6,
        "sigma": 0.8,
        "ratio": pytest.approx(4 / 3),
        "snr": pytest.approx(0.5625),
        "logsnr": pytest.approx(-0.575364),
    }
    assert stages._numbers(1.0, 0.0)["snr"] is None
    assert stages._numbers(0.0, 1.0)["ratio"] is None
    told = stages._spread(
        torch.tensor([[1.0, 3.0]]),
        torch.tensor([[0.0, 4.0]]),
        (torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]])),
    )
    assert (told["x_mean"], told["x_std"], told["x_change"], told["x0_std"], told["x0_change"]) == (
        2.0,
        1.0,
        3.0,
        2.0,
        4.0,
    )


def test_colours_of_positions_are_an_affine_map(pipe):
    """Of pixels, which run from -1 to 1, it is half of each and a half; of latents one column a colour for
    each of their channels and a 1.
    """
    torch.testing.assert_close(
        rgb.fit_rgb(Pixels(16, 16, 3)),
        torch.cat([torch.eye(3) / 2, torch.full((1, 3), 0.5)]),
        atol=1e-4,
        rtol=0,
    )
    images = rgb.smooth(8, 16, 16)
    assert images.shape == (8, 16, 16, 3)
    assert images[0, 0, 0].tolist() == [162, 220, 34]
    z = pipe.codec.encode(images).permute(0, 2, 3, 1).reshape(-1, 4).double().numpy()
    means = (images / 255).reshape(8, 8, 2, 8, 2, 3).mean((2, 4)).reshape(-1, 3)
    want = np.linalg.lstsq(np.c_[z, np.ones(len(z))], means, rcond=None)[0]
    assert rgb.fit_rgb(pipe.codec).numpy() == pytest.approx(want, rel=1e-3, abs=1e-4)


def test_labels_and_ranges():
    assert stages._label({"step": 3, "ratio": 1.23456, "t": 17.25}) == "step 3\nt 17.25\nsigma/alpha 1.23"
    assert stages._label({"step": 9, "ratio": 0.0, "t": -1.0}) == "step 9\nclean\nsigma/alpha 0"
    assert stages._label({"step": 0, "ratio": None, "t": 999.0}) == "step 0\nt 999\nsigma/alpha inf"
    assert plots._range(np.array([1.0, 3.0]), 0.04) == pytest.approx((0.92, 3.08))
    assert plots._range(np.array([2.0]), 0.0) == (1.5, 2.5)


def test_a_rough_preview_is_the_map_of_the_latents(pipe):
    """Of latents that are all 0, in every place the colour that the map adds."""
    preview = previews.Preview(pipe, lambda *_: None)
    shown = np.asarray(preview.rough(torch.zeros(2, 4, 3, 5)))
    want = (rgb.fit_rgb(pipe.codec)[-1].clamp(0, 1) * 255).round().tolist()
    assert shown.shape == (3, 5, 3)
    assert shown.reshape(-1, 3).tolist() == [want] * 15


def test_in_plots_more_is_further_up_and_later_further_right():
    image = np.asarray(
        show.plot("t", "x", [show.Curve([0.0, 1.0], [0.0, 2.0], (255, 0, 0), dots=True)])
    ).astype(int)
    rows, columns = np.nonzero((image[..., 0] > 200) & (image[..., 1] < 60))
    left, right = rows[columns < 200].mean(), rows[columns > 200].mean()
    assert right < left - 150
