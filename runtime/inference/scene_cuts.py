"""Cuts in a video, found in its snippet features while they arrive."""

import numpy as np
from numpy.typing import NDArray

from stale_runtime.segments import FloatArray
from stale_runtime.system.sorted_values import median_value

CONTEXT = 8
"""Snippets on each side of a position that are compared, a power of two."""
SHORTEST_SHOT = 16
"""Fewest snippets between two cuts, and from a cut to an end of the video."""
DEVIATIONS = 5.5
"""How many deviations above its median a change must be to be a cut."""
HISTORY = 4096
"""Snippets whose changes decide how large a change is a cut."""
ROUNDING = 1e-5
"""Changes up to this one may be rounding errors of float32: features that do not change have no cuts."""
_MAD_TO_DEVIATION = 1.4826
"""Ratio of standard deviation to median absolute deviation of normal noise."""


class CutFinder:
    """Finds the positions where the snippets change more than they usually do."""

    DELAY = CONTEXT + SHORTEST_SHOT
    """Snippets after a position that must be known to decide whether it is a cut."""

    def __init__(self) -> None:
        """Start with a new video."""
        self._changes: FloatArray = np.zeros(SHORTEST_SHOT)
        self._changes_from = 0

    def add(self, rows: FloatArray, rows_from: int, until: int) -> None:
        """Take the snippets up to a position.

        Args:
            rows: (n, C) the snippets that are kept; the last 2 ``CONTEXT`` before the position of the last call must be
                among them.
            rows_from: position of the first of them.
            until: the position.
        """
        start = self._changes_from + len(self._changes)
        found = scene_changes(rows[start - CONTEXT - rows_from : until - rows_from])
        dropped = max(len(self._changes) + len(found) - HISTORY, 0)
        self._changes = np.concatenate([self._changes, found])[dropped:]
        self._changes_from += dropped

    def cuts(self, until: int) -> NDArray[np.intp]:
        """The cuts among the last ``HISTORY`` positions, up to a position, ascending; more snippets may change them."""
        if len(self._changes) <= 2 * SHORTEST_SHOT:  # too few to know how large changes usually are
            return np.zeros(0, np.intp)
        peaks = find_peaks(self._changes, cut_threshold(self._changes)) + self._changes_from
        return peaks[peaks <= until]


def scene_changes(features: FloatArray) -> FloatArray:
    """How different the ``CONTEXT`` snippets before and after each position are, as cosine distance of their means.

    Args:
        features: (N, C)

    Returns:
        (max(N - 2 * CONTEXT + 1, 0),) from 0 to 2, for the positions ``CONTEXT``, ``CONTEXT`` + 1 …
    """
    if len(features) < 2 * CONTEXT:
        return np.zeros(0)
    norms = np.sqrt(np.einsum("nc,nc->n", features, features))
    sums = features / np.maximum(norms, 1e-9)[:, None]
    reach = 1
    while reach < CONTEXT:  # sums of 2, 4, 8 snippets
        sums = sums[:-reach] + sums[reach:]
        reach *= 2
    squares = np.einsum("nc,nc->n", sums, sums)
    before, after = slice(None, -CONTEXT), slice(CONTEXT, None)
    products = np.einsum("nc,nc->n", sums[before], sums[after])
    cosines = products / np.maximum(np.sqrt(squares[before] * squares[after]), 1e-9)
    return np.asarray((1 - cosines).clip(0, 2), np.float64)  # cosines may round to more than 1


def find_peaks(changes: FloatArray, threshold: float) -> NDArray[np.intp]:
    """Positions that are higher than the threshold and than all within ``SHORTEST_SHOT``; the first of equal ones."""
    reach = SHORTEST_SHOT - 1
    peaks: list[int] = []
    for t in np.flatnonzero(changes > threshold).tolist():
        first = max(t - reach, 0)
        if first + int(changes[first : t + reach + 1].argmax()) == t:  # argmax takes the first
            peaks.append(t)
    return np.array(peaks, dtype=np.intp)


def cut_threshold(changes: FloatArray) -> float:
    """The height from which on a change is a cut, from those around it."""
    median = median_value(changes)
    return max(float(median + DEVIATIONS * _MAD_TO_DEVIATION * median_value(np.abs(changes - median))), ROUNDING)
