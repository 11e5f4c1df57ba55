"""Guidance, Denoiser -> Denoiser. They compose, in visible order, with any sampler:

    keep(threshold(guide(cfg(positive, negative, 7.5), clip_loss)), known, mask)
"""
from unnoise.guide.cfg import autoguide, cfg, cfg_batched
from unnoise.guide.constraint import keep
from unnoise.guide.gradient import classifier, guide
from unnoise.guide.scale import Scale, interval
from unnoise.guide.shaping import clip, matched, rescale, threshold

__all__ = ["Scale", "autoguide", "cfg", "cfg_batched", "classifier", "clip", "guide", "interval", "keep", "matched",
           "rescale", "threshold"]
