"""Denoisers, callable (x, level) -> E[x0 | x]: networks made into one (`adapt`), exact ones to test against
(`oracle`).
"""

from unnoise.denoiser import adapt, oracle
from unnoise.denoiser.adapt import FRAMES, Clock, Denoiser, Frame
from unnoise.denoiser.oracle import Empirical, Gaussian, Mixture

__all__ = ["FRAMES", "Clock", "Denoiser", "Empirical", "Frame", "Gaussian", "Mixture", "adapt", "oracle"]
