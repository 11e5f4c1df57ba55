"""Guidance, Denoiser -> Denoiser. They compose, in visible order, with any sampler:

keep(threshold(guide(cfg(positive, negative, 7.5), clip_loss)), known, mask)
"""

from unnoise.guide.cfg import autoguide, cfg, cfg_batched
from unnoise.guide.constraint import keep, replace
from unnoise.guide.gradient import classifier, guide
from unnoise.guide.inverse import Operator, covariance, dps, per_step, pigdm, seen
from unnoise.guide.scale import Scale, interval
from unnoise.guide.shaping import clip, matched, rescale, threshold
from unnoise.guide.steer import steer

__all__ = [
    "Operator",
    "Scale",
    "autoguide",
    "cfg",
    "cfg_batched",
    "classifier",
    "clip",
    "covariance",
    "dps",
    "guide",
    "interval",
    "keep",
    "matched",
    "per_step",
    "pigdm",
    "replace",
    "rescale",
    "seen",
    "steer",
    "threshold",
]
