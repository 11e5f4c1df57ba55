"""A folder with each of the published schedulers: our defaults for it against diffusers with it, on each
one's own grid.

    python -m tests.parity.test_schedulers     prints the table in docs/parity.md

Both begin with the same x and draw the same noise; the difference is the largest of the latents' (of unit
scale, deviation 1.1).
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from tests.parity import peer
from tests.parity.peer import NEGATIVES, PROMPTS
from tests.parity.test_folders import with_scheduler
from tests.support import sd
from unnoise.hub.schedulers import KEYS
from unnoise.sample import SAMPLERS, last

DOC = Path(__file__).parents[2] / "docs" / "parity.md"
X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
STEPS, SAME = 10, 1e-3
# DPMSolverSDE is not opened by diffusers itself without torchsde; the EDM classes know one grid, and eps of
# their own kind.
SPACED = [k for k in KEYS if "timestep_spacing" in KEYS[k] and k != "DPMSolverSDE"]
CASES = [(k, s) for k in SPACED for s in ("leading", "trailing", "linspace")] + [
    (k, "") for k in ("DPMSolverSinglestep", "LCM", "EDMEuler", "EDMDPMSolverMultistep")
]
QUICK = [
    ("EulerDiscrete", "leading"),
    ("DDIM", "leading"),
    ("HeunDiscrete", "linspace"),
    ("DPMSolverMultistep", "trailing"),
    ("EDMEuler", ""),
]


def difference(folders: dict, out: Path, kind: str, spacing: str) -> tuple[float, str]:
    """The latents' largest difference, and the sampler and spacing that we take."""
    folder = folders["1.x" if kind in ("PNDM", "EDMEuler", "EDMDPMSolverMultistep") else "2.x"]
    options = (
        {"timestep_spacing": spacing} if spacing else {"sigma_max": 80.0} if kind.startswith("EDM") else {}
    )
    if kind == "PNDM":
        options |= {
            "skip_prk_steps": True,
            "set_alpha_to_one": True,
        }  # as the folders of 1.x, but for the end
    folder = with_scheduler(folder, out, kind, **options)
    theirs, ours = peer.open_theirs(folder), peer.open_ours(folder)
    want = peer.trajectory(theirs, X, STEPS)[-1]
    r = ours.request(
        PROMPTS, negative_prompt=NEGATIVES, num_inference_steps=STEPS, guidance_scale=7.5, seed=[0, 1]
    )
    path, x = ours.path(r), X * float(theirs.scheduler.init_noise_sigma)
    if kind in peer.EXPLODING:
        x = x / (1 + float(theirs.scheduler.sigmas.max()) ** 2) ** 0.5
    denoise = ours.denoiser(r.prompts, r.negatives, r.guidance, path=path)
    got = last(SAMPLERS[r.sampler](denoise, x, path, peer.draws()[1], **r.options))
    options = ", ".join(f"{k} {v:g}" for k, v in r.options.items())
    return float((got - want).abs().max()), f"{r.sampler}{f' ({options})' if options else ''}, {r.spacing}"


def row(kind: str, spacing: str, found: tuple[float, str]) -> str:
    return (
        f"| {kind}{f', {spacing}' if spacing else ''} | {found[1]} |"
        f" {'same' if found[0] <= SAME else f'{found[0]:.1g}'} |"
    )


@pytest.mark.parametrize(
    ("kind", "spacing"), [c if c in QUICK else pytest.param(*c, marks=pytest.mark.slow) for c in CASES]
)
def test_the_page_says_how_far_our_defaults_are(folders, tmp_path, kind, spacing):
    found = difference(folders, tmp_path / "folder", kind, spacing)
    label, ours, said = re.match(r"(\| .*? \|) (.*?) \| (.*?) \|", row(kind, spacing, found)).groups()
    page = [l for l in DOC.read_text().splitlines() if l.startswith(label)]
    assert len(page) == 1, f"{DOC.name} must have this row once: {row(kind, spacing, found)}"
    assert page[0].startswith(f"{label} {ours} |"), row(kind, spacing, found)
    told = page[0].split("|")[3].strip()
    if "same" in (said, told):
        assert said == told, row(kind, spacing, found)
    else:
        assert 0.5 < found[0] / float(told) < 2, row(kind, spacing, found)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as root:
        made = {f: sd.make(Path(root) / f, f) for f in peer.FAMILIES}
        for i, case in enumerate(CASES):
            print(row(*case, difference(made, Path(root) / str(i), *case)))
    sys.exit()
