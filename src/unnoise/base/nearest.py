"""Which of some points is nearest: exact, by blocks, so that memory stays small."""

from __future__ import annotations

import numpy as np

BLOCK = 500  # points that are compared with all others at once


def nearest(points: np.ndarray, others: np.ndarray, itself: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """(distance (n,), place in `others` (n,)) of what is nearest to each of points (n, d) in others (m, d).

    itself: whether a point may be found; where not, `others` are the points, and each has to find another.
    """
    distances, places = [], []
    for start in range(0, len(points), BLOCK):
        part = points[start : start + BLOCK]
        d = np.linalg.norm(part[:, None] - others[None], axis=2)
        if not itself:
            d[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        distances.append(d.min(1))
        places.append(d.argmin(1))
    return np.concatenate(distances), np.concatenate(places)
