"""Cuts between scenes, found in the snippet features of a video.

Windows from one cut to another show one scene only, which is what the network was trained on.
"""

import numpy as np
from numpy.typing import NDArray

from stale_runtime.segments import FloatArray

CONTEXT = 8
"""Snippets on each side of a position that are compared."""
SHORTEST_SCENE = 16
"""Fewest snippets between two cuts."""
DEVIATIONS = 5.0
"""How many deviations above its median a difference must be to be a cut."""
_MAD_TO_DEVIATION = 1.4826
"""Ratio of standard deviation to median absolute deviation of normal noise."""


def scene_changes(features: FloatArray) -> FloatArray:
    """How different the snippets before and after each position are, as the cosine distance of their means.

    Args:
        features: (N, C)

    Returns:
        (N+1,) from 0 to 2, for the positions between snippets; near the ends fewer snippets are compared.
    """
    N = len(features)
    unit = features.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
    sums = np.zeros((N + 1, unit.shape[1]))
    np.cumsum(unit, axis=0, out=sums[1:])
    t = np.arange(N + 1)
    before = sums - sums[np.maximum(t - CONTEXT, 0)]  # (N+1, C)
    after = sums[np.minimum(t + CONTEXT, N)] - sums  # (N+1, C)
    norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return np.asarray(1 - (before * after).sum(axis=1) / np.maximum(norms, 1e-9))


def find_peaks(changes: FloatArray, threshold: float) -> NDArray[np.intp]:
    """Positions that are higher than the threshold and than all within ``SHORTEST_SCENE``; the first of equal ones."""
    reach = SHORTEST_SCENE - 1
    padded = np.pad(changes, reach, constant_values=-1.0)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)  # (N, 2*reach+1)
    highest = around.argmax(axis=1) == reach  # argmax takes the first
    return np.flatnonzero(highest & (changes > threshold))


def cut_threshold(changes: FloatArray) -> float:
    """The height from which on a change is a cut, from those around it."""
    median = np.median(changes)
    return float(median + DEVIATIONS * _MAD_TO_DEVIATION * np.median(np.abs(changes - median)))
