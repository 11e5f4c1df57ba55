"""The names people type."""

from __future__ import annotations

import subprocess
import sys

import pytest

from unnoise.errors import BadInput
from unnoise.process.schedule import GRIDS
from unnoise.sample import SAMPLERS, find, resolve


@pytest.mark.parametrize(
    "typed, name, spacing",
    [
        ("ddim", "ddim", None),
        ("DDIM", "ddim", None),
        ("euler a", "euler_ancestral", None),
        ("Euler Ancestral", "euler_ancestral", None),
        ("k_euler_a", "euler_ancestral", None),
        ("k_euler", "euler", None),
        ("Euler", "euler", None),
        ("heun", "heun", None),
        ("DPM++ 2M", "dpmpp_2m", None),
        ("DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("dpm++_2m_karras", "dpmpp_2m", "karras"),
        ("dpmpp_2m_sde", "dpmpp_2m_sde", None),
        ("DPM++ 2M SDE Karras", "dpmpp_2m_sde", "karras"),
        ("DPM++ SDE", "dpmpp_sde", None),
        ("DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "logsnr"),
        ("DPM++ 3M", "dpmpp_3m", None),
        ("unipc", "unipc", None),
        ("UniPC", "unipc", None),
        ("uni_pc_bh2", "unipc", None),
        ("lms", "lms", None),
        ("LMS Karras", "lms", "karras"),
        ("LCM", "consistency", None),
        ("edm", "edm", None),
        ("edm karras", "edm", "karras"),
        ("k-heun", "heun", None),
        ("DDPM", "ddpm", None),
        ("DDIMScheduler", "ddim", None),
        ("EulerAncestralDiscreteScheduler", "euler_ancestral", None),
        ("DEIS", "ab", None),
        ("DPMSolverMultistepScheduler", "dpmpp_2m", None),
        ("UniPCMultistepScheduler", "unipc", None),
        ("LMSDiscreteScheduler", "lms", None),
        ("HeunDiscreteScheduler", "heun", None),
        ("FlowMatchEulerDiscreteScheduler", "euler", None),
        ("pc", "predictor_corrector", None),
        ("euler sgm_uniform", "euler", "trailing"),
        ("Gradient Estimation", "gradient_estimation", None),
        ("ddim trailing", "ddim", "trailing"),
    ],
)
def test_resolve(typed, name, spacing):
    assert resolve(typed) == (name, spacing)
    if spacing is None:
        assert find(typed) is SAMPLERS[name]


def test_every_name_resolves_to_itself_and_takes_every_spacing():
    for name in SAMPLERS:
        assert resolve(name) == (name, None)
        for grid in GRIDS:
            assert resolve(f"{name} {grid}") == (name, grid)


@pytest.mark.parametrize(
    "typed, near",
    [
        ("dpmpp_2mm", "dpmpp_2m"),
        ("eulr", "euler"),
        ("unipcc", "unipc"),
        ("", None),
        ("karras", None),
        ("k", None),
    ],
)
def test_an_unknown_name_is_refused_and_the_nearest_named(typed, near):
    with pytest.raises(BadInput, match="unknown sampler") as e:
        resolve(typed)
    assert "\n" not in str(e.value) and (near is None or f"did you mean '{near}" in str(e.value))


def test_a_spacing_in_the_name_is_not_dropped():
    with pytest.raises(BadInput, match="spacing 'karras'"):
        find("DPM++ 2M Karras")


def test_imports_no_network_image_or_command_code():
    code = (
        "import sys, unnoise.sample; print([m for m in sys.modules if m.split('.')[:2] in (['unnoise', r] for"
        " r in ('nets', 'cli', 'text', 'codec', 'data', 'train', 'guide')) or m in ('PIL', 'rich', 'typer',"
        " 'diffusers')])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
