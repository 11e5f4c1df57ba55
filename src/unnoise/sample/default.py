"""The sampler and the grid that are used when nothing is asked for: one pair for every model and every number
of steps.

Chosen on a set of Gaussian mixtures (1 to 64 dimensions, 3 to 20 modes, standard deviations 0.01 to 0.5) by
the error of 5, 8, 10, 15 and 20 calls against the probability flow, and checked on mixtures left out of the
choice: `python -m bench.nfe`. A pair that is tuned for one model lives in that model's folder
(`unnoise.tune`), not here. The sampler's own options are part of it.
"""

DEFAULT_SAMPLER, DEFAULT_SPACING = DEFAULT = "adams", "few"
