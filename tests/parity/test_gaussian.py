"""Where diffusers' schedulers differ from the method they are named after, on a Gaussian where the answer is
known.

python -m tests.parity.test_gaussian       prints the table in docs/parity.md
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity import peer
from tests.parity.exact import SD, Case
from unnoise.process import schedule
from unnoise.process.level import Level
from unnoise.sample import SAMPLERS

DOC = Path(__file__).parents[2] / "docs" / "parity.md"
TRAILING, LINSPACE, LEADING = ({"timestep_spacing": s} for s in ("trailing", "linspace", "leading"))
ONE, KARRAS, V = {"set_alpha_to_one": True}, {"use_karras_sigmas": True}, {"prediction_type": "v_prediction"}
PLMS = {**LEADING, **ONE, "skip_prk_steps": True}

ROWS: dict[str, Case] = {
    "DDIM, linspace, 10": Case("DDIM", 10, LINSPACE | ONE, "ddim", "linspace"),
    "DDIM, linspace, 300": Case("DDIM", 300, LINSPACE | ONE, "ddim", "linspace"),
    "DDIM, trailing, 7": Case("DDIM", 7, TRAILING | ONE),
    "DDIM, trailing, 60": Case("DDIM", 60, TRAILING | ONE),
    "DDIM, trailing, 600": Case("DDIM", 600, TRAILING | ONE),
    "DDIM, trailing, 61": Case("DDIM", 61, TRAILING | ONE),
    "Euler, trailing, 61": Case("EulerDiscrete", 61, TRAILING, "euler"),
    "DPM++ 2M, trailing, 61": Case("DPMSolverMultistep", 61, TRAILING, "dpmpp_2m"),
    "DDIM, linspace, 1": Case("DDIM", 1, LINSPACE | ONE, "ddim", "linspace"),
    "Euler, linspace, 1": Case("EulerDiscrete", 1, LINSPACE, "euler", "linspace"),
    "DDIM, leading, 600": Case("DDIM", 600, LEADING | ONE, "ddim", "leading"),
    "PNDM, leading, eps, 10": Case("PNDM", 10, PLMS, "plms", "leading"),
    "PNDM, leading, v, 10": Case("PNDM", 10, PLMS | V, "plms", "leading"),
    "UniPC bh1, linspace, 20": Case("UniPCMultistep", 20, LINSPACE | {"solver_type": "bh1"}, "unipc"),
    "Euler Karras, leading, 5": Case("EulerDiscrete", 5, LEADING | KARRAS, "euler", "karras"),
    "Euler Karras, leading, 20": Case("EulerDiscrete", 20, LEADING | KARRAS, "euler", "karras"),
    "DPM++ 2M, leading, 10": Case("DPMSolverMultistep", 10, LEADING, "dpmpp_2m", "leading"),
    "DPM++ 2M, linspace, 10": Case("DPMSolverMultistep", 10, LINSPACE, "dpmpp_2m"),
    "DPM++ 2M Karras, 10": Case("DPMSolverMultistep", 10, LINSPACE | KARRAS, "dpmpp_2m", "karras"),
    "DPM++ 2M exponential, 10": Case(
        "DPMSolverMultistep", 10, LINSPACE | {"use_exponential_sigmas": True}, "dpmpp_2m", "logsnr"
    ),
    "DDIM, trailing, 10": Case("DDIM", 10, TRAILING | ONE),
    "DDIM, leading, to alpha-bar_0, 20, data 0.05": Case(
        "DDIM", 20, LEADING | {"set_alpha_to_one": False}, "ddim", "leading", 0.05
    ),
    "DPM++ 2M, to sigma_min, 20": Case(
        "DPMSolverMultistep", 20, LINSPACE | {"final_sigmas_type": "sigma_min"}, "dpmpp_2m"
    ),
    "DEIS, linspace, 20": Case("DEISMultistep", 20, LINSPACE, "ab"),
    "LMS, trailing, 20": Case("LMSDiscrete", 20, TRAILING, "lms"),
    "Euler, churn 10, Karras, 40": Case(
        "EulerDiscrete", 40, LINSPACE | KARRAS, "edm", "karras", call={"s_churn": 10.0}
    ),
    "DDPM, trailing, 30": Case("DDPM", 30, TRAILING, "ddpm"),
    "Euler ancestral, linspace, 20": Case(
        "EulerAncestralDiscrete", 20, LINSPACE, "euler_ancestral", "linspace"
    ),
    "Heun, linspace, 10": Case("HeunDiscrete", 10, LINSPACE, "heun", "linspace"),
}
LONG = [k for k, c in ROWS.items() if c.steps > 100]


def line(name: str) -> str:
    """One row of the table: what comes out of theirs, of ours, and of the flow itself."""
    c = ROWS[name]
    return f"| {name} | {c.theirs()} | {c.ours()} | {c.flow()} |"


@pytest.mark.parametrize("name", [pytest.param(k, marks=pytest.mark.slow) if k in LONG else k for k in ROWS])
def test_the_page_has_these_figures(name):
    found = [l for l in DOC.read_text().splitlines() if l.startswith(f"| {name} |")]
    assert len(found) == 1, f"{DOC.name} must have this row once: {line(name)}"
    figures = lambda row: [float(v) for v in re.findall(r"nan|\d+\.\d+", row.split("|", 2)[2])][:6]
    np.testing.assert_allclose(figures(found[0]), figures(line(name)), atol=0.0011)


def distance(a, b) -> float:
    """Wasserstein-2 between two Gaussians."""
    return math.hypot(a.mean - b.mean, a.std - b.std)


def off(name: str) -> tuple[float, float]:
    """How far theirs and ours are from where the flow leads."""
    c = ROWS[name]
    return distance(c.theirs(), c.flow()), distance(c.ours(), c.flow())


@pytest.mark.slow
def test_ddim_steps_to_where_its_list_does_not_go():
    """It moves x to t - T // n and calls the network at the next of its list: more steps do not help, where T
    / n is not whole.
    """
    for a, b in (
        ("DDIM, trailing, 60", "DDIM, trailing, 600"),
        ("DDIM, linspace, 10", "DDIM, linspace, 300"),
    ):
        (_, mine), (more, fewer) = off(a), off(b)
        assert fewer < 0.3 * mine and fewer < 0.02 and more > 4 * fewer
    assert (
        distance(ROWS["DDIM, trailing, 10"].theirs(), ROWS["DDIM, trailing, 10"].ours()) < 0.002
    )  # a whole stride


@pytest.mark.parametrize(("kind", "steps"), [("DDIM", 10), ("DDIM", 7), ("DDIM", 30), ("PNDM", 10)])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_which_grids_break_the_stride(kind, steps, spacing):
    s = peer.scheduler(kind, SD, timestep_spacing=spacing, skip_prk_steps=True)
    s.set_timesteps(steps)
    t = list(dict.fromkeys(s.timesteps.tolist()))
    same = all(a - 1000 // steps == b for a, b in pairwise(t))
    assert same == (spacing == "leading" or (spacing == "trailing" and 1000 % steps == 0))


@pytest.mark.parametrize("name", ["DDIM, trailing, 61", "Euler, trailing, 61", "DPM++ 2M, trailing, 61"])
def test_trailing_of_61_steps_has_62(name):
    c = ROWS[name]
    s = peer.scheduler(c.kind, SD, **c.options)
    s.set_timesteps(61)
    assert len(s.timesteps) == 62 and s.timesteps[-1] == -1
    assert len(schedule.scaled_linear().path(61)) == 62  # 61 noisy levels, and clean data
    if c.kind == "DDIM":
        assert (
            c.theirs().mean > 5
        )  # alpha-bars[-1] is the noisiest level's: a list's last, not one before its first
    assert off(name)[1] < 0.03


def test_ours_has_as_many_levels_as_steps():
    s = peer.scheduler("DDIM", SD, **TRAILING)
    longer = []
    for n in range(1, 1001):
        s.set_timesteps(n)
        if len(s.timesteps) != n:
            longer.append(n)
        assert len(schedule.trailing(schedule.scaled_linear(), n)) == n
    assert longer[:4] == [61, 103, 121, 122] and len(longer) == 62


def test_linspace_of_one_step_starts_at_the_clean_end():
    for name in ("DDIM, linspace, 1", "Euler, linspace, 1"):
        assert abs(ROWS[name].theirs().mean) < 0.01 and abs(ROWS[name].ours().mean - 0.5) < 0.02


def test_pndm_averages_velocities_of_different_times():
    """A perfect network says the same in eps and in v. There, only what is averaged differs."""
    eps, v = (ROWS[f"PNDM, leading, {k}, 10"] for k in ("eps", "v"))
    assert distance(eps.theirs(), v.theirs()) > 0.06
    assert off("PNDM, leading, v, 10")[0] > 3 * off("PNDM, leading, eps, 10")[0]


def test_unipc_can_not_always_reach_clean_data():
    assert math.isnan(ROWS["UniPC bh1, linspace, 20"].theirs().mean)
    with pytest.raises(RuntimeError, match="singular"):
        Case("UniPCMultistep", 20, {"solver_order": 3, "lower_order_final": False, **LINSPACE}).theirs()
    assert off("UniPC bh1, linspace, 20")[1] < 0.05


def test_leading_of_as_many_steps_as_levels_runs_off_the_end():
    s = peer.scheduler("DDIM", SD, **LEADING)
    s.set_timesteps(1000)
    with pytest.raises(IndexError):
        s.step(torch.zeros(1), s.timesteps[0], torch.zeros(1))
    assert float(
        schedule.scaled_linear().timestep(schedule.scaled_linear().path(1000, "leading")[0])
    ) == pytest.approx(999)


def test_karras_times_are_rounded_and_sigmas_are_not():
    s = peer.scheduler("DPMSolverMultistep", SD, **KARRAS)
    grid, curve = peer.read(s, 10), schedule.scaled_linear()
    exact = np.array([float(curve.timestep(l)) for l in grid.path[:-1]])
    gap = abs(exact - grid.times.numpy())
    assert 0.2 < gap.max() <= 0.51 and (grid.times == grid.times.round()).all()
    s = peer.scheduler("DPMSolverMultistep", SD, use_exponential_sigmas=True)
    grid = peer.read(s, 10)
    gap = np.array([float(curve.timestep(l)) for l in grid.path[:-1]]) - grid.times.numpy()
    assert 0.5 < gap.max() < 1.001 and gap.min() > -1e-3, "cut, not rounded"
    assert distance(ROWS["DPM++ 2M Karras, 10"].theirs(), ROWS["DPM++ 2M Karras, 10"].ours()) < 0.003


def test_karras_from_leading_timesteps_starts_low():
    s = peer.scheduler("EulerDiscrete", SD, **LEADING, **KARRAS)
    assert float(peer.read(s, 5).path[0].ratio) < 6 < 14 < float(schedule.scaled_linear().at(999).ratio)


def test_churn_is_added_after_the_network_was_called():
    theirs, ours = off("Euler, churn 10, Karras, 40")
    assert theirs > 1.8 * ours


@pytest.mark.parametrize(
    "name",
    [
        "DDPM, trailing, 30",
        "Euler ancestral, linspace, 20",
        "Heun, linspace, 10",
        "DPM++ 2M, linspace, 10",
        "DDIM, trailing, 10",
    ],
)
def test_where_both_are_the_same(name):
    assert distance(ROWS[name].theirs(), ROWS[name].ours()) < 0.003


def test_the_measure_itself():
    """Against samples: a hundred thousand runs of the row with noise in every step."""
    c = Case("EulerAncestralDiscrete", 6, LINSPACE, "euler_ancestral", "linspace")
    path = c.curve.path(6, "linspace")
    z = torch.randn(100_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    *_, end = SAMPLERS["euler_ancestral"](c.world, z * float(path[0].sigma), path, peer.draws(1)[1])
    want = c.ours()
    assert float(end.x.mean()) == pytest.approx(want.mean, abs=4 * want.std / 300) and float(
        end.x.std()
    ) == pytest.approx(want.std, rel=0.01)
    assert distance(c.theirs(), want) < 0.003
    assert isinstance(end.level, Level) and end.level.clean


if __name__ == "__main__":
    print("\n".join(map(line, ROWS)))
