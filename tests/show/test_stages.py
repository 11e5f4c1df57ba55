"""Looking inside: what is shown is what the run had, and the run is the same for it."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import unnoise
from tests.support.pictures import contains
from unnoise import show
from unnoise.codec import Vectors, rgb
from unnoise.errors import BadInput
from unnoise.process.level import level
from unnoise.sample import State
from unnoise.show.sheets import fitted

RUN = {"seed": 3, "num_inference_steps": 3, "sampler": "ddim", "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def pipe(tiny):
    return unnoise.load(tiny, device="cpu", dtype="fp32")


def test_stages_are_the_states_of_the_same_run(pipe, tmp_path):
    stages = show.Stages(pipe, tmp_path / "s")
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
    stages = show.Stages(pipe, tmp_path)
    pipe("one", on_state=stages, **RUN)
    stages.close()
    sheet = np.asarray(Image.open(tmp_path / "stages.png"))
    shown = lambda k, what: np.asarray(
        fitted(Image.open(tmp_path / f"step-{k:03}-{what}.png").convert("RGB"), 96, 160)
    )
    x, x0 = (
        [contains(sheet, shown(k, what)) for k in range(2)] for what in ("x", "x0")
    )  # the last estimate is also the result
    assert x[0][0] == x[1][0] < x0[0][0] == x0[1][0] and x[0][1] == x0[0][1] < x[1][1] == x0[1][1]
    assert contains(sheet, shown(3, "x"))[1] - x[1][1] == 2 * (x[1][1] - x[0][1])


def test_many_steps_are_thinned_on_the_sheet_with_both_ends(pipe, tmp_path):
    stages = show.Stages(pipe, tmp_path)
    pipe("one", on_state=stages, **{**RUN, "num_inference_steps": 40})
    ends = np.asarray(stages.sheet())
    for k in (0, 40):
        assert contains(ends, np.asarray(fitted(stages.pair(k)[0].convert("RGB"), 96, 160)))
    assert stages.sheet().height < 3.5 * 300 and len(stages.rows) == 41


def test_a_second_run_replaces_the_first_and_nothing_else(pipe, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    (tmp_path / "step-7.png").write_text("keep")
    for steps in (5, 2):
        stages = show.Stages(pipe, tmp_path, overwrite=True)
        pipe("one", on_state=stages, **{**RUN, "num_inference_steps": steps})
        stages.close()
    assert len(list(tmp_path.glob("step-0*-x.png"))) == 3 and {
        (tmp_path / n).read_text() for n in ("mine.txt", "step-7.png")
    } == {"keep"}


def test_a_run_that_broke_off_can_be_made_again(pipe, tmp_path):
    stages = show.Stages(pipe, tmp_path, overwrite=True)
    for state in list(pipe.stream("one", **RUN))[:2]:
        stages(0, state)
    stages = show.Stages(pipe, tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["stages.json"]
    with pytest.raises(BadInput, match="no step"):
        stages.close()


def test_what_others_made_is_never_replaced(pipe, tmp_path):
    (tmp_path / "stages.png").write_text("of somebody else")
    with pytest.raises(BadInput, match=r"stages\.png.*name another"):
        show.Stages(pipe, tmp_path, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        show.Stages(pipe, tmp_path / "file")
    assert (
        sorted(p.name for p in tmp_path.iterdir()) == ["file", "stages.png"]
        and (tmp_path / "stages.png").read_text() == "of somebody else"
    )


def test_a_run_made_again_in_a_wider_type_starts_over_and_overflow_is_shown(pipe, tmp_path):
    stages, states = show.Stages(pipe, tmp_path, overwrite=True), list(pipe.stream("one", **RUN))
    broken = [s._replace(x=s.x + math.inf, x0=s.x0 * math.nan) for s in states]
    for s in (*broken, *states[:1]):
        stages(0, s)
    assert [r["step"] for r in stages.rows] == [0] and len(list(tmp_path.glob("step-*"))) == 3
    stages = show.Stages(pipe, tmp_path, overwrite=True)
    for s in broken:
        stages(0, s)
    stages.close()
    rows = json.loads(
        (tmp_path / "stages.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON")
    )["steps"]
    assert rows[1]["x_mean"] is None and rows[1]["x0_std"] is None


def test_exploding_families_are_shown_at_unit_scale(pipe, tmp_path):
    stages, x = show.Stages(pipe, tmp_path), torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    stages(0, State(x * math.hypot(1, 50), level(1.0, 50.0), x))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "step-000-x.png")), pipe.decode(x)[0, ..., 0])


def test_models_of_vectors_are_refused(vectors, tmp_path):
    pipe = unnoise.load(vectors)
    for make in (
        lambda: show.Stages(pipe, tmp_path / "s"),
        lambda: show.Preview(pipe, print),
        lambda: rgb.fit_rgb(Vectors((3,))),
    ):
        with pytest.raises(BadInput, match="picture"):
            make()
    assert not (tmp_path / "s").exists()


def test_channels_span_their_own_range():
    x = torch.stack([torch.linspace(-3, 5, 64).reshape(8, 8), torch.full((8, 8), 2.0)])[None]
    image = np.asarray(show.channels({"x": x}))
    grey = (np.linspace(0, 1, 64).reshape(8, 8) * 255).round().astype(np.uint8)
    for plane in grey, np.full((8, 8), 128, np.uint8):
        assert contains(image, np.repeat(np.kron(plane, np.ones((12, 12), np.uint8))[..., None], 3, 2))
    assert not np.array_equal(
        image, np.asarray(show.channels({"x": x + 1}))
    )  # the same greys, another range above them
