"""Samplers: denoise along a path of Levels, one State a step."""
from unnoise.errors import unknown
from unnoise.sample.ddim import ddim, euler, heun
from unnoise.sample.ladder import Sampler, State, last
from unnoise.sample.multistep import dpmpp_2m, unipc

REVISION = 1
SAMPLERS: dict[str, Sampler] = {s.name: s for s in (ddim, euler, heun, dpmpp_2m, unipc)}


def find(name: str) -> Sampler:
    """The sampler called `name`."""
    if name not in SAMPLERS: raise unknown("sampler", name, SAMPLERS)
    return SAMPLERS[name]


def resolve(name: str) -> tuple[str, str | None]:
    """(canonical name, spacing or None)."""
    return find(name).name, None


__all__ = ["REVISION", "SAMPLERS", "Sampler", "State", "find", "last", "resolve"]
