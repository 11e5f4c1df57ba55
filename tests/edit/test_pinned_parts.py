"""What edits are made of, by hand: levels of strengths, masks of greys, sizes, scores, statistics, wishes;
and the figures that each method stands on.
"""

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch

import unnoise
from tests.edit.restoring import upscaler
from tests.support import normal
from tests.support.painter import painter
from unnoise.edit import canvas, run
from unnoise.edit.anomaly import anomaly, detail
from unnoise.edit.denoise import come_down, latent_sigma
from unnoise.edit.diffedit import difference, mask_of, otsu, reached, snapped
from unnoise.edit.picture import Picture, cells, encoded, pasted, read, read_mask, working_size
from unnoise.edit.run import Run, asked, part, psnr
from unnoise.edit.style import METHODS, adain, weighed
from unnoise.edit.upscale import known
from unnoise.guide import losses
from unnoise.pipeline import guides
from unnoise.pipeline.guides.networks import at_level
from unnoise.process.level import level, ve

module = lambda name: sys.modules[f"unnoise.edit.{name}"]  # whose name in `unnoise.edit` is the function's


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return unnoise.load(painter(tmp_path_factory.mktemp("models") / "painter"), device="cpu", dtype="fp32")


# --- strength -----------------------------------------------------------------------------------------------


def test_a_strength_is_a_share_of_the_schedules_time(pipe):
    """4 steps at 1, .75, .5, .25 of the time; at strength .5 at half of those: as many steps."""
    r = asked(
        pipe, (16, 16), "a red apple", num_inference_steps=4, sampler="ddim", spacing="trailing", seed=0
    )
    times = lambda s: [float(pipe.schedule.time(l)) for l in part(pipe, r, s)[:-1]]
    full = times(1.0)
    assert full == pytest.approx([1.0, 0.75, 0.5, 0.25], abs=2e-3)
    assert times(0.5) == pytest.approx([t / 2 for t in full], abs=2e-3)
    assert 0 < float(part(pipe, r, 0.0)[0].sigma) < 1e-2
    assert run.VANISHING == 1e-6


def test_decibels():
    a = np.zeros((2, 2, 3), np.uint8)
    assert psnr(a, a + np.uint8(255)) == 0
    assert psnr(a, a) == math.inf
    assert psnr(a, a + np.uint8(5)) == pytest.approx(20 * math.log10(51))
    assert psnr(a + np.uint8(5), a) == psnr(a, a + np.uint8(5))


# --- pictures and masks -------------------------------------------------------------------------------------


def test_grey_of_a_colour_is_its_luma():
    white = Picture(np.full((1, 4, 3), 255, np.uint8))
    mask = read_mask(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8), white)
    assert mask[0].tolist() == pytest.approx([0.299, 0.587, 0.114, 1.0])


def test_of_a_white_mask_the_holes_change():
    rgba = np.full((1, 3, 4), 255, np.uint8)
    rgba[0, :, 3] = [0, 255, 102]
    assert read_mask(rgba, Picture(np.zeros((1, 3, 3), np.uint8)))[0].tolist() == pytest.approx(
        [1.0, 0.0, 0.6]
    )


@pytest.mark.parametrize(
    ("size", "want"),
    [
        ((16, 16), (16, 16)),
        ((100, 100), (16, 16)),
        ((100, 400), (8, 32)),
        ((400, 100), (32, 8)),
        ((10, 15), (14, 20)),
        ((1, 500), (4, 358)),
    ],
)
def test_a_model_works_at_about_its_own_area(pipe, size, want):
    """16 x 16 pixels at the picture's proportions, in multiples of 2 and at least two cells."""
    h, w = size
    f = math.sqrt(256 / (h * w)) / 2
    assert (
        working_size(pipe, Picture(np.zeros((*size, 3), np.uint8)))
        == want
        == (max(round(h * f), 2) * 2, max(round(w * f), 2) * 2)
    )


def test_a_blend_is_in_between_and_the_ends_are_exact():
    old, new = np.full((1, 4, 3), 10, np.uint8), np.full((1, 4, 3), 110, np.uint8)
    assert pasted(Picture(old), new, np.array([[0, 0.25, 0.5, 1]]))[0, :, 0].tolist() == [10, 35, 60, 110]


def test_a_cell_changes_where_any_of_its_pixels_does():
    mask = np.zeros((16, 16))
    mask[3, 4] = 0.01
    assert torch.nonzero(cells(mask, torch.zeros(1, 4, 8, 8))[0, 0]).tolist() == [[1, 2]]


# --- anomalies and noise ------------------------------------------------------------------------------------


def test_the_relative_score_is_the_score_over_the_detail(tiny):
    pixels = unnoise.load(tiny, device="cpu", dtype="fp32")
    a = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    told = anomaly(pixels, a, noises=2)
    assert told.relative == pytest.approx(
        told.score / float(detail(torch.from_numpy(a / 127.5)[None, None])), rel=1e-4
    )
    assert told.score == pytest.approx(float(told.map.mean()))
    assert told.nfe == 1


def test_a_flat_picture_has_the_detail_of_one_step_of_a_byte():
    assert float(detail(torch.zeros(1, 3, 8, 8))) == pytest.approx(2 / 255)
    stripes = torch.zeros(1, 1, 4, 4)
    stripes[..., ::2] = 1
    assert float(detail(stripes)) == pytest.approx(1.0)


def test_figures_of_anomalies_and_noise():
    m = module("anomaly")
    assert (m.STRENGTH, m.NOISES, m.FLAT) == (0.7, 8, 2 / 255)
    assert module("denoise").PROBES == 4


def test_a_noisy_picture_is_a_level_of_its_own_sigma(pipe):
    """E[x0 | x] of x = x0 + sigma eps, by the one call at the level of that ratio; the sample begins there
    too, scaled.
    """
    r, x, seen = (
        asked(pipe, (16, 16), "", num_inference_steps=2, sampler="ddim", seed=0),
        normal(1, 4, 8, 8).float(),
        [],
    )
    model = lambda y, l: seen.append((y, l)) or y
    for sample in (False, True):
        seen.clear()
        come_down(pipe, r, x, 0.75, model, sample)
        y, l = seen[0]
        assert float(l.ratio) == pytest.approx(0.75, rel=2e-3)
        assert len(seen) == 1 + sample
        torch.testing.assert_close(y, x * float(l.alpha), atol=1e-5, rtol=1e-4)


def test_noise_of_latents_is_what_the_encoding_moves_by(pipe, monkeypatch):
    """Here the encoding is the picture itself, in [-1, 1]: noise of .1 moves it by .1."""
    monkeypatch.setattr(
        module("denoise"),
        "encoded",
        lambda pipe, pixels, size=None: torch.from_numpy(pixels / 127.5 - 1)[None],
    )
    assert latent_sigma(pipe, Picture(np.full((64, 64, 3), 128, np.uint8)), 0.1) == pytest.approx(
        0.1, rel=0.02
    )


def test_known_noise_is_taken_as_it_is():
    picture = Picture(
        (128 + 20 * np.random.default_rng(0).standard_normal((64, 64, 3)))
        .round()
        .clip(0, 255)
        .astype(np.uint8)
    )
    assert known(0.25, picture) == 0.25
    assert known("estimate", picture) == pytest.approx(20 / 127.5, rel=0.08)


# --- style --------------------------------------------------------------------------------------------------


def test_style_by_hand():
    x, like = torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [14.0]])
    torch.testing.assert_close(adain(x, like), like, atol=1e-4, rtol=0)
    assert weighed(torch.tensor([0.5, 0.5]), 1, 3.0).tolist() == pytest.approx([0.75, 0.25])
    assert METHODS == {"aligned": 2.0, "loss": 1.0, "adapter": 1.0}


# --- DiffEdit -----------------------------------------------------------------------------------------------


def test_the_figures_of_diffedit():
    m = module("diffedit")
    assert (m.STRENGTH, m.NOISES, m.NOISE_LEVEL, m.EXTREMES, m.THRESHOLD) == (0.8, 10, 0.5, 0.03, 0.5)
    assert (m.REACH, m.PEAK, m.ROOM, m.SMOOTH) == (1.5, 4.6, 1, 1e-3)


def test_the_map_of_differences_by_hand(pipe):
    """In cells: the mean over noises and channels of the two estimates' distance, at half of the schedule's
    time.
    """
    x0 = normal(1, 4, 8, 8, seed=3).float()
    from unnoise.process.level import corrupt
    from unnoise.process.noise import seeded

    like = x0.expand(10, -1, -1, -1)
    l = pipe.schedule.level(0.5)
    x = corrupt(like, seeded(range(10), "diffedit")(like), l)
    with torch.no_grad():
        one, two = (pipe.denoiser([p] * 10)(x, l) for p in ("a red apple", "two blue cars"))
    torch.testing.assert_close(
        difference(pipe, x0, "a red apple", "two blue cars", space="cells"),
        (one - two).abs().mean((0, 1), keepdim=True),
    )


def test_a_mask_is_what_lies_above_the_threshold_between_the_extremes():
    """Of 101 even values the outer 3 at either end are cut off: .5 of what is left lies at the middle."""
    d = torch.arange(101.0).reshape(1, 1, 1, 101)
    m = mask_of(d, (1, 101))
    assert int(m.sum()) == 51
    assert m[0, 49] == 0
    assert m[0, 50] == 1
    d[..., -1] = 1e6  # an outlier moves nothing
    assert int(mask_of(d, (1, 101)).sum()) == 51


def test_otsu_and_the_two_thresholds():
    """Values 0 and .2 in halves are divided at .1; of a mask in pixels parts reach down to 1.5 x .5 x that
    and must come up to 4.6 x .5 x that.
    """
    assert otsu(torch.tensor([0.0, 0.0, 0.2, 0.2])) == pytest.approx(0.1)


def test_the_guided_filter_smooths_what_no_edge_backs():
    """On a plain picture the map becomes its windows' means twice over; with an edge of the picture's own it
    stays sharp there: an edge of .1 of the range, whose variance of .0025 is 2.5 times SMOOTH.
    """
    d = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    d[..., 8:] = 1
    edge = np.full((16, 16, 3), 100, np.uint8)
    edge[:, 8:] = 126
    step = lambda pixels: float(snapped(d, pixels, 2)[0, 0, 8, 8] - snapped(d, pixels, 2)[0, 0, 8, 7])
    assert step(np.full((16, 16, 3), 100, np.uint8)) == pytest.approx(0.2, abs=0.01)
    assert step(edge) == pytest.approx(0.2 + 0.8 * 0.88, abs=0.06)


def test_what_is_drawn_further_than_the_room_does_not_join():
    before, after = (np.full((20, 20, 3), 255, np.uint8) for _ in range(2))
    mask = np.zeros((20, 20))
    mask[8:12, 8:12] = 1
    after[8:12, :] = 0
    grown = reached(before, after, mask, 3)
    assert np.flatnonzero(grown[10]).tolist() == list(range(5, 15))
    assert grown[7].sum() == 0


# --- guides -------------------------------------------------------------------------------------------------


def test_figures_of_guides():
    assert guides.FORMED == 1.0
    assert tuple(k for k, g in guides.GUIDES.items() if g.late) == ("mean", "style")
    assert guides.TOGETHER == 64 * 64 * 64
    assert (canvas.OVERLAP, losses.CROPS, losses.LUMA) == (8, 4, (0.299, 0.587, 0.114))
    assert (module("upscale").STRENGTH, module("upscale").ZETA, module("upscale").TRUST) == (0.5, 0.5, 3.0)
    assert (module("outpaint").OVERLAP, module("image_to_image").STRENGTH) == (0.5, 0.6)
    m = module("prompt_to_prompt")
    assert (m.CROSS, m.SELF, m.SIDE, m.LOCAL_FROM, m.LOCAL_ABOVE) == (0.8, 0.4, 16, 0.2, 0.5)
    m = module("imagic")
    assert m.ETAS == (0.2, 0.4, 0.6, 0.8)
    assert m.Training() == m.Training(100, 5e-3, 100, 1e-4, 8, 0)
    from unnoise.edit import adapter

    assert (adapter.TOKENS, adapter.DROP) == (4, 0.1)


def test_wishes_of_the_whole_picture_wait_until_it_is_formed(pipe):
    """ "mean" acts where sigma / alpha <= 1, "brightness" always."""
    x = normal(1, 4, 8, 8).float()

    def moved(guide: str, l) -> bool:
        r = pipe.request("a red apple", num_inference_steps=4, guide=[guide], seed=0)
        plain = lambda y, _: y * 0.1
        return not torch.equal(guides.guided(pipe, r, plain)(x, l), plain(x, l))

    assert [moved("mean=red", ve(v)) for v in (0.98, 1.02)] == [True, False]
    assert [moved("brightness=0.9", ve(v)) for v in (0.98, 1.02)] == [True, True]


def test_noised_images_are_of_their_level():
    """Of middle grey, 0 in [-1, 1], only the noise is left: sigma / sqrt(alpha^2 + sigma^2) of it, halved and
    put about .5.
    """
    grey, white = torch.full((1, 3, 64, 64), 0.5), torch.ones(1, 3, 64, 64)
    noise = at_level(grey, level(0.6, 0.8)) - 0.5
    assert float(noise.std()) == pytest.approx(0.4, rel=0.03)
    torch.testing.assert_close(at_level(white, level(0.6, 0.8)) - noise, torch.full_like(white, 0.8))
    assert torch.equal(at_level(grey, level(0.6, 0.8)), at_level(grey, level(0.6, 0.8)))


@pytest.mark.parametrize(
    ("text", "name", "value", "weight"),
    [
        ("colour=green:2", "colour", "green", 2.0),
        ("color=green", "colour", "green", 1.0),
        ("smooth:0.5", "smooth", "", 0.5),
        ("smooth", "smooth", "", 1.0),
    ],
)
def test_guides_as_they_are_typed(text, name, value, weight):
    g = guides.parse(text)
    assert (g.name, g.value, g.weight) == (name, value, weight)


def test_encoding_and_what_a_picture_is_worth(pipe):
    """Latents are those of the codec, of the picture at the working size."""
    a = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    torch.testing.assert_close(encoded(pipe, a), pipe.codec.encode(a[None]))
    assert read(a).sha256 != read(a[::-1].copy()).sha256
    assert read(a[..., 0]).sha256 == read(np.repeat(a[..., :1], 3, 2)).sha256


def test_eta_goes_from_the_picture_to_the_prompt(pipe, tmp_path, monkeypatch):
    """e = eta e_tgt + (1 - eta) e_opt: what is drawn at each eta of an imagic whose training found nothing
    but zeros.
    """
    from unnoise.edit import imagic

    m, drawn = module("imagic"), []
    monkeypatch.setattr(m, "trained", lambda pipe, x0, target, *_: (torch.zeros_like(target), pipe.net))

    def draw(pipe: Any, run: Any, contexts: Any, *_: Any):
        drawn.append([float(c.norm()) for c in contexts])
        return torch.zeros(len(contexts), 4, 8, 8), 1

    monkeypatch.setattr(m, "_drawn", draw)
    imagic(pipe, np.zeros((16, 16, 3), np.uint8), "a red apple", eta=(0.0, 0.25, 1.0), seed=0, work=tmp_path)
    none, some, whole = drawn[0]
    assert none == 0
    assert some == pytest.approx(0.25 * whole, rel=1e-5)
    assert whole > 0


# --- small pictures, canvases ------------------------------------------------------------------------------


def test_a_white_mask_is_all_of_it():
    mask = read_mask(np.full((2, 2, 3), 255, np.uint8), Picture(np.zeros((2, 2, 3), np.uint8)))
    assert mask.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_canvas_is_cut_into_tiles_that_overlap_by_eight_cells(tmp_path):
    """Blended over the middle four of those."""
    from unnoise.nets.tiles import tiled
    from unnoise.pipeline import Count

    pipe = unnoise.load(upscaler(tmp_path / "up", size=48), device="cpu", dtype="fp32")
    c, l, x = canvas.alone(pipe, (40, 30)), ve(0.5), normal(1, 12, 40, 30).float()
    whole = canvas.over_tiles(pipe, c, Count())(x, l)
    net = pipe.fast

    def work(u):
        return pipe.process.denoiser(lambda y, t: net(torch.cat([y, u[:, 12:]], dim=1), t))(u[:, :12], l)

    with torch.no_grad():
        want = tiled(work, torch.cat([x, c], 1), (1, 1), 24, 8, 4, exact=False)
        other = tiled(work, torch.cat([x, c], 1), (1, 1), 24, 8, 2, exact=False)
    torch.testing.assert_close(whole, want)
    assert not torch.allclose(whole, other, atol=1e-4)


def test_measurements_of_a_small_picture_wait_until_they_can_be_trusted(pipe):
    """Above sigma / alpha = 3 nothing is told; below it the step is half of the error's gradient."""
    from unnoise.codec.scale import down
    from unnoise.guide import dps

    x, y = normal(1, 4, 8, 8).float(), normal(1, 3, 8, 8, seed=1).float()
    denoise = pipe.denoiser(["a red apple"], net=pipe.net)
    told = module("upscale")._measured(denoise, pipe.codec.images(), y, 2)
    shown = lambda z: down(pipe.codec.net.decode(pipe.codec.unscale(z)), 2)
    assert torch.equal(told(x, ve(3.1)), denoise(x, ve(3.1)))
    torch.testing.assert_close(told(x, ve(2.9)), dps(denoise, shown, y, 0.5, squared=False)(x, ve(2.9)))


def test_a_style_by_its_loss_waits_until_the_picture_is_formed(pipe):
    r = asked(pipe, (16, 16), "a red apple", num_inference_steps=4, seed=0)
    picture = Picture(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    x = normal(1, 4, 8, 8).float()
    plain = lambda y, l: y * 0.1
    run = Run(pipe, r, picture, size=(16, 16))
    styled = module("style")._by_loss(run, 1.0)(plain, [0])
    assert torch.equal(styled(x, ve(1.02)), plain(x, ve(1.02)))
    assert not torch.equal(styled(x, ve(0.98)), plain(x, ve(0.98)))


def test_room_is_counted_in_cells_and_reaches_as_many_pixels(pipe, monkeypatch):
    """A cell of this model is 2 pixels wide: one cell of room are 2, three are 6."""
    m, radii = module("diffedit"), []

    def heard(before, after, mask, radius):
        radii.append(radius)
        return reached(before, after, mask, radius)

    monkeypatch.setattr(m, "reached", heard)
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    for room in (1, 3):
        m.diffedit(
            pipe, picture, "a red apple", source="two blue cars", room=room, noises=2, num_inference_steps=2
        )
    assert radii == [2, 6]
