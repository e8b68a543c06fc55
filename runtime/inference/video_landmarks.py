"""What an approximate localizer graph looks at in a video, which depends on the number of snippets alone."""

from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

LANDMARKS: Final = 16
"""M: equal stretches of a video whose means stand for their snippets; at most ``layout.SHORTEST``."""
SPACED: Final = 4
"""Evenly spaced snippets that get exact attention."""


@lru_cache(maxsize=4)
def pooling_weights(length: int) -> NDArray[np.float32]:
    """The weights of T snippets in the mean of the video, and in those of its stretches: (1+M, T), read-only."""
    edges = np.arange(LANDMARKS + 1) * length // LANDMARKS
    weights = np.zeros((1 + LANDMARKS, length), np.float32)
    weights[0] = 1 / length
    for row, (start, end) in enumerate(pairwise(edges), 1):
        weights[row, start:end] = 1 / (end - start)
    weights.setflags(write=False)
    return weights


@lru_cache(maxsize=4)
def spaced_snippets(length: int) -> NDArray[np.int64]:
    """Evenly spaced snippets among T: (SPACED,), read-only."""
    snippets = (2 * np.arange(SPACED, dtype=np.int64) + 1) * length // (2 * SPACED)
    snippets.setflags(write=False)
    return snippets
