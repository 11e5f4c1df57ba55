"""What corruption is: levels, schedules, parameterisations, weights and noise. Pure maths; needs torch and
numpy only.
"""

from unnoise.process import level, noise, posterior, predict, schedule, weight
from unnoise.process.level import Level

__all__ = ["Level", "level", "noise", "posterior", "predict", "schedule", "weight"]
