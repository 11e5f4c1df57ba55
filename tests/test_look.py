"""Looking inside: what is shown is what the run had, the run is the same for it, and pictures say what they
show.
"""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import unnoise
from tests.support.pictures import contains
from unnoise import look
from unnoise.codec import Pixels, Vectors, rgb
from unnoise.codec.latents import Latents
from unnoise.errors import BadInput
from unnoise.nets.autoencoder import Autoencoder, AutoencoderConfig
from unnoise.process import schedule
from unnoise.process.level import level
from unnoise.sample import State

RUN = {"seed": 3, "num_inference_steps": 3, "sampler": "ddim", "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def pipe(tiny):
    return unnoise.load(tiny, device="cpu", dtype="fp32")


# --- stages ---


def test_stages_are_the_states_of_the_same_run(pipe, tmp_path):
    stages = look.Stages(pipe, tmp_path / "s")
    with_stages = pipe("one", num_images=3, batch_size=2, on_state=stages, **RUN)
    files, plain = stages.close(), pipe("one", num_images=3, **RUN)
    assert np.array_equal(with_stages.arrays, plain.arrays)
    d, states = json.loads((tmp_path / "s" / "stages.json").read_text()), list(pipe.stream("one", **RUN))
    assert (
        [s["step"] for s in d["steps"]] == [0, 1, 2, 3]
        and len(states) == 4
        and (d["model"], d["T"]) == ("tiny", 1000)
    )
    assert [f.name for f in files] == sorted(p.name for p in (tmp_path / "s").iterdir()) and len(
        files
    ) == 4 * 3 + 3
    before = None
    for k, (row, s) in enumerate(zip(d["steps"], states)):
        assert (row["alpha"], row["sigma"], row["t"]) == (
            float(s.level.alpha),
            float(s.level.sigma),
            float(pipe.schedule.timestep(s.level)),
        )
        snr = None if s.level.clean else pytest.approx(float(s.level.alpha / s.level.sigma) ** 2)
        assert row["snr"] == snr and (snr is None or math.exp(row["logsnr"]) == snr)
        for name, now, old in ("x", s.x, before and before.x), ("x0", s.x0, before and before.x0):
            assert row[f"{name}_mean"] == pytest.approx(float(now.mean()), abs=1e-6)
            assert row[f"{name}_std"] == pytest.approx(float(now.std(correction=0)), rel=1e-5)
            assert row[f"{name}_change"] == (
                None if old is None else pytest.approx(float((now - old).square().sum().sqrt()), rel=1e-5)
            )
            shown = np.asarray(Image.open(tmp_path / "s" / f"step-{k:03}-{name}.png"))
            assert np.array_equal(
                shown, pipe.decode(now)[0, ..., 0]
            )  # variance preserving: x is shown as it is
        before = s
    assert np.array_equal(shown, plain.arrays[0, ..., 0])


def test_the_sheet_holds_every_step_in_order(pipe, tmp_path):
    stages = look.Stages(pipe, tmp_path)
    pipe("one", on_state=stages, **RUN)
    stages.close()
    sheet = np.asarray(Image.open(tmp_path / "stages.png"))
    shown = lambda k, what: np.asarray(
        look._fit(Image.open(tmp_path / f"step-{k:03}-{what}.png").convert("RGB"), 96, 160)
    )
    x, x0 = (
        [contains(sheet, shown(k, what)) for k in range(2)] for what in ("x", "x0")
    )  # the last estimate is also the result
    assert x[0][0] == x[1][0] < x0[0][0] == x0[1][0] and x[0][1] == x0[0][1] < x[1][1] == x0[1][1]
    assert contains(sheet, shown(3, "x"))[1] - x[1][1] == 2 * (x[1][1] - x[0][1])


def test_many_steps_are_thinned_on_the_sheet_with_both_ends(pipe, tmp_path):
    stages = look.Stages(pipe, tmp_path)
    pipe("one", on_state=stages, **{**RUN, "num_inference_steps": 40})
    ends = np.asarray(stages.sheet())
    for k in (0, 40):
        assert contains(ends, np.asarray(look._fit(stages.pair(k)[0].convert("RGB"), 96, 160)))
    assert stages.sheet().height < 3.5 * 300 and len(stages.rows) == 41


def test_a_second_run_replaces_the_first_and_nothing_else(pipe, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    (tmp_path / "step-7.png").write_text("keep")
    for steps in (5, 2):
        stages = look.Stages(pipe, tmp_path, overwrite=True)
        pipe("one", on_state=stages, **{**RUN, "num_inference_steps": steps})
        stages.close()
    assert len(list(tmp_path.glob("step-0*-x.png"))) == 3 and {
        (tmp_path / n).read_text() for n in ("mine.txt", "step-7.png")
    } == {"keep"}


def test_a_run_that_broke_off_can_be_made_again(pipe, tmp_path):
    stages = look.Stages(pipe, tmp_path, overwrite=True)
    for state in list(pipe.stream("one", **RUN))[:2]:
        stages(0, state)
    stages = look.Stages(pipe, tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["stages.json"]
    with pytest.raises(BadInput, match="no step"):
        stages.close()


def test_what_others_made_is_never_replaced(pipe, tmp_path):
    (tmp_path / "stages.png").write_text("of somebody else")
    with pytest.raises(BadInput, match=r"stages\.png.*name another"):
        look.Stages(pipe, tmp_path, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        look.Stages(pipe, tmp_path / "file")
    assert (
        sorted(p.name for p in tmp_path.iterdir()) == ["file", "stages.png"]
        and (tmp_path / "stages.png").read_text() == "of somebody else"
    )


def test_a_run_made_again_in_a_wider_type_starts_over_and_overflow_is_shown(pipe, tmp_path):
    stages, states = look.Stages(pipe, tmp_path, overwrite=True), list(pipe.stream("one", **RUN))
    broken = [s._replace(x=s.x + math.inf, x0=s.x0 * math.nan) for s in states]
    for s in (*broken, *states[:1]):
        stages(0, s)
    assert [r["step"] for r in stages.rows] == [0] and len(list(tmp_path.glob("step-*"))) == 3
    stages = look.Stages(pipe, tmp_path, overwrite=True)
    for s in broken:
        stages(0, s)
    stages.close()
    rows = json.loads(
        (tmp_path / "stages.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON")
    )["steps"]
    assert rows[1]["x_mean"] is None and rows[1]["x0_std"] is None


def test_exploding_families_are_shown_at_unit_scale(pipe, tmp_path):
    stages, x = look.Stages(pipe, tmp_path), torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    stages(0, State(x * math.hypot(1, 50), level(1.0, 50.0), x))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "step-000-x.png")), pipe.decode(x)[0, ..., 0])


def test_models_of_vectors_are_refused(vectors, tmp_path):
    pipe = unnoise.load(vectors)
    for make in (
        lambda: look.Stages(pipe, tmp_path / "s"),
        lambda: look.Preview(pipe, print),
        lambda: rgb.fit_rgb(Vectors((3,))),
    ):
        with pytest.raises(BadInput, match="picture"):
            make()
    assert not (tmp_path / "s").exists()


def test_channels_span_their_own_range():
    x = torch.stack([torch.linspace(-3, 5, 64).reshape(8, 8), torch.full((8, 8), 2.0)])[None]
    image = np.asarray(look.channels({"x": x}))
    grey = (np.linspace(0, 1, 64).reshape(8, 8) * 255).round().astype(np.uint8)
    for plane in grey, np.full((8, 8), 128, np.uint8):
        assert contains(image, np.repeat(np.kron(plane, np.ones((12, 12), np.uint8))[..., None], 3, 2))
    assert not np.array_equal(
        image, np.asarray(look.channels({"x": x + 1}))
    )  # the same greys, another range above them


# --- sheets and plots ---


def test_a_sheet_shows_its_pictures_and_its_words():
    pictures = [[Image.new("RGB", (40, 30), (10 * i, 20 * j, 99)) for j in range(3)] for i in range(2)]
    make = lambda **words: np.asarray(
        look.sheet(
            pictures,
            **{"columns": ["1", "2", "3"], "names": ["a", "b"], "over": "steps", "title": "t", **words},
        )
    )
    sheet, at = make(), {}
    for i in range(2):
        for j in range(3):
            at[i, j] = contains(sheet, np.asarray(pictures[i][j].resize((120, 90), Image.Resampling.NEAREST)))
    assert (
        at[0, 0][0] == at[0, 2][0] < at[1, 0][0] == at[1, 2][0]
        and at[0, 0][1] == at[1, 0][1] < at[0, 1][1] < at[0, 2][1]
    )
    top, left = at[0, 0]
    for words, where in (
        ({"columns": ["1", "2", "8"]}, np.s_[:top, at[0, 2][1] :]),
        ({"names": ["a", "g"]}, np.s_[at[1, 0][0] :, :left]),
        ({"title": "T"}, np.s_[:top, :left]),
        ({"over": "STEPS"}, np.s_[:top, left:]),
    ):
        changed = (make(**words) != sheet).any(2) if make(**words).shape == sheet.shape else np.ones(0)
        assert changed[where].any() and changed.sum() == changed[where].sum(), words


def test_long_and_foreign_labels_stay_on_the_sheet():
    labels = ["a " * 300, "größe “x” 猫", "x" * 400]
    sheet = look.sheet([[Image.new("L", (8, 8))] * 3], labels, ["y" * 900], "z " * 900)
    assert sheet.width < 800 and sheet.height < 400
    assert look._plain("größe 猫\x1b") == "gro?e ??" and "..." in look._wrap("a " * 300, 100)


def test_large_pictures_are_reduced_in_proportion():
    assert look._fit(Image.new("L", (1000, 500)), 96, 512).size == (512, 256) and look._fit(
        Image.new("L", (300, 20)), 96, 512
    ).size == (300, 20)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(lo, span):
    hi = lo + span
    if hi - lo < 1e-6 * max(1.0, abs(lo)):
        return
    found, gaps = look.ticks(lo, hi), np.diff(look.ticks(lo, hi))
    assert 1 <= len(found) <= 7 and all(lo - 1e-6 * span <= v <= hi + 1e-6 * span for v in found)
    if len(gaps):
        assert np.allclose(gaps, gaps[0], rtol=1e-3) and round(float(f"{gaps[0]:.3e}".split("e")[0])) in (
            1,
            2,
            5,
            10,
        )


def test_plots_put_points_where_they_belong():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    points = [(0.0, -2.0), (8.0, 2.0), (2.0, 1.0)]
    image = np.asarray(
        look.plot("title", "x", [look.Curve([x], [y], c, dots=True) for c, (x, y) in zip(colours, points)])
    ).astype(int)
    a, b, c = (np.argwhere((np.abs(image - colour) < 40).all(2)).mean(0)[::-1] for colour in colours)
    assert b[0] > a[0] + 200 and b[1] < a[1] - 150 and np.allclose((c - a) / (b - a), [0.25, 0.75], atol=0.01)
    axis = np.argmin(image.sum((1, 2)))  # the row with most ink
    assert (axis - a[1]) / (a[1] - b[1]) == pytest.approx(0.04, abs=0.01)  # the margin below the lowest point


@pytest.mark.parametrize(
    "s",
    [*(make() for make in schedule.SCHEDULES.values()), schedule.ddpm().zero_terminal_snr()],
    ids=lambda s: s.name,
)
def test_every_schedule_can_be_plotted_with_its_grid(s):
    pictures = []
    for spacing in ("trailing", "karras"):
        path = s.path(6, spacing)
        t = [float(s.timestep(l)) for l in path]
        pictures.append(
            np.asarray(
                look.plot_schedule(
                    s, t, [look._numbers(float(l.alpha), float(l.sigma))["logsnr"] for l in path]
                )
            )
        )
    assert (
        pictures[0].shape == (320, 1260, 3)
        and (pictures[0] != pictures[1]).any()
        and (pictures[0] < 250).any()
    )


# --- previews ---


def test_the_map_to_colours_is_exact_where_the_codec_is_linear():
    codec = Pixels(16, 12, 3, patch=2)
    image = rgb.smooth(1, 16, 12)
    got = rgb.with_one(codec.encode(image)) @ rgb.fit_rgb(codec)
    want = (
        F.avg_pool2d(torch.from_numpy(image).permute(0, 3, 1, 2).double(), 2)
        .permute(0, 2, 3, 1)
        .reshape(-1, 3)
        / 255
    )
    torch.testing.assert_close(got.double(), want, atol=2e-5, rtol=0)


def test_the_map_of_an_autoencoder_is_the_least_squares_one():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = (
            Autoencoder(
                AutoencoderConfig(
                    block_out_channels=(8, 8),
                    norm_num_groups=4,
                    down_block_types=("DownEncoderBlock2D",) * 2,
                    up_block_types=("UpDecoderBlock2D",) * 2,
                )
            )
            .eval()
            .requires_grad_(False)
        )
    codec = Latents.of(net, 64, 64)
    m, images = rgb.fit_rgb(codec).double(), rgb.smooth(8, 16, 16)
    a = rgb.with_one(codec.encode(images)).double()
    y = (
        F.avg_pool2d(torch.from_numpy(images).permute(0, 3, 1, 2).double(), 2)
        .permute(0, 2, 3, 1)
        .reshape(-1, 3)
        / 255
    )
    assert m.shape == (5, 3) and (a.T @ (a @ m - y)).abs().max() < 1e-4 * (a.T @ y).abs().max()
    assert (a @ m - y).square().mean() < (y - y.mean(0)).square().mean()


def test_previews_come_in_the_rhythm_asked_for_and_change_nothing(pipe):
    shown = []
    preview = look.Preview(pipe, lambda image, state, k: shown.append((k, np.asarray(image))), every=2)
    run = {**RUN, "num_inference_steps": 5}
    got = pipe("one", num_images=2, batch_size=1, on_state=preview, **run)
    assert (
        np.array_equal(got.arrays, pipe("one", num_images=2, **run).arrays)
        and [k for k, _ in shown] == [0, 2, 4] * 2
    )
    for seed, part in (3, shown[:3]), (4, shown[3:]):
        states = list(pipe.stream("one", **{**run, "seed": seed}))
        for k, image in part:
            assert np.array_equal(image, pipe.decode(states[k].x0)[0, ..., 0])
    with pytest.raises(BadInput, match="at least 1, given 0"):
        look.Preview(pipe, print, every=0)


@given(st.floats(0.001, 5), st.floats(0.0001, 0.5), st.integers(1, 400))
@settings(max_examples=30, deadline=None)
def test_previews_keep_within_their_part_of_the_time(tiny, seconds_a_step, seconds_a_preview, steps):
    pipe, now, shown = unnoise_pipe(tiny), [0.0], []

    def show(image, state, k):
        now[0] += seconds_a_preview
        shown.append(now[0])

    preview = look.Preview(pipe, show, clock=lambda: now[0])
    state = State(torch.zeros(1, 1, 8, 8), level(0.5, 0.5), torch.zeros(1, 1, 8, 8))
    for _ in range(steps):
        now[0] += seconds_a_step
        preview(0, state)
    spent = len(shown) * seconds_a_preview
    assert (
        spent <= look.BUDGET * now[0] + seconds_a_preview
    )  # one more at most: the first, whose cost is not known yet
    if now[0] > 1 and steps > 1:
        assert shown


_PIPES: dict = {}


def unnoise_pipe(folder):
    """One pipeline a folder, as hypothesis calls a test many times."""
    if folder not in _PIPES:
        _PIPES[folder] = unnoise.load(folder, device="cpu", dtype="fp32")
    return _PIPES[folder]
