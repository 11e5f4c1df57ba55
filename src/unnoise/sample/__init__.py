"""Samplers: one-step rules run along a path of Levels by one loop, a State a step.

    states = SAMPLERS["dpmpp_2m"](denoise, x, path)         # Iterator[State(x, level, x0)]; last(states) is
                                                            the result
    find("DPM++ 2M"), resolve("DPM++ 2M Karras")            # the names that people type; ("dpmpp_2m",
                                                            "karras")

x starts at path[0]: for pure noise path[0].sigma * noise. A sampler with `stochastic` draws from `noise`
(process.noise), and so does any other on a path that goes up. Guidance is in the denoiser, progress bars and
previews in the loop over the States.
"""

from __future__ import annotations

import re

from unnoise.base.errors import BadInput, unknown
from unnoise.process.schedule import GRIDS
from unnoise.sample.adams import adams
from unnoise.sample.ddim import consistency, ddim, ddpm, dpmpp_2s, edm, euler, euler_ancestral, heun
from unnoise.sample.invert import inversion, invert
from unnoise.sample.ladder import Sampler, State, ladder, last
from unnoise.sample.langevin import langevin, predictor_corrector
from unnoise.sample.multistep import ab, dpmpp_2m, dpmpp_2m_sde, dpmpp_3m, dpmpp_sde, lms, plms, unipc
from unnoise.sample.optimise import adam, ghvb, gradient_estimation, momentum
from unnoise.sample.restart import restart, restart_path, rewind

# bump when any (sampler, seed) gives another result: saved images name it, tests/sample/golden.json holds it
REVISION = 2

SAMPLERS: dict[str, Sampler] = {
    s.name: s
    for s in (
        ddpm,
        ddim,
        euler,
        euler_ancestral,
        heun,
        dpmpp_2s,
        edm,
        dpmpp_2m,
        dpmpp_3m,
        dpmpp_sde,
        dpmpp_2m_sde,
        unipc,
        ab,
        lms,
        plms,
        adams,
        restart,
        langevin,
        predictor_corrector,
        gradient_estimation,
        ghvb,
        momentum,
        adam,
        consistency,
    )
}

# Names in use elsewhere (web UIs, k-diffusion, diffusers), as `_plain` leaves them: small letters and digits,
# "pp" for "++".
_ALIASES = {
    "pndm": plms,
    "ancestral": ddpm,
    "eulera": euler_ancestral,
    "flowmatcheuler": euler,
    "heun2": heun,
    "midpoint": dpmpp_2s,
    "dpm2m": dpmpp_2m,
    "dpmsolver": dpmpp_2m,
    "dpmsolverpp": dpmpp_2m,
    "dpmsolversde": dpmpp_sde,
    "dpmsde": dpmpp_sde,
    "unipcbh2": unipc,
    "deis": ab,
    "adamsbashforth": ab,
    "linearmultistep": lms,
    "churn": edm,
    "pc": predictor_corrector,
    "ula": langevin,
    "annealedlangevin": langevin,
    "lcm": consistency,
    "ge": gradient_estimation,
    "heavyball": momentum,
}
_SPACINGS = {**{re.sub("[^a-z]", "", g): g for g in GRIDS}, "exponential": "logsnr", "sgmuniform": "trailing"}


def _plain(name: str) -> str:
    plain = re.sub("[^a-z0-9]", "", str(name).lower().replace("++", "pp"))
    return re.sub("scheduler$", "", plain).replace("discrete", "").replace("multistep", "") or plain


def resolve(name: str) -> tuple[str, str | None]:
    """(canonical name, spacing or None) of a sampler as people type it: "DPM++ 2M Karras" is ("dpmpp_2m",
    "karras").

    Capitals, spaces and punctuation do not matter; a spacing may follow, a leading "k_" be there. Errors:
    BadInput that names the nearest sampler.
    """
    known = {_plain(s): s for s in SAMPLERS} | {k: s.name for k, s in _ALIASES.items()}
    plain = _plain(name)
    for start in (plain, plain.removeprefix("k")):
        for word, spacing in ("", None), *_SPACINGS.items():
            stem = start[: len(start) - len(word)]
            if start == stem + word and stem in known:
                return known[stem], spacing
    raise unknown("sampler", name, SAMPLERS)


def find(name: str) -> Sampler:
    """The sampler of a name without a spacing, ours or another in use ("euler a", "DPM++ 2M"). Errors:
    BadInput.
    """
    found, spacing = resolve(name)
    if spacing:
        raise BadInput(
            f"{name!r} names a sampler and a spacing: give sampler {found!r} and spacing {spacing!r}"
        )
    return SAMPLERS[found]


__all__ = [
    "REVISION",
    "SAMPLERS",
    "Sampler",
    "State",
    "find",
    "inversion",
    "invert",
    "ladder",
    "last",
    "resolve",
    "restart_path",
    "rewind",
]
