"""What decoders share: class scores, runs of a mask, proposals and the ranked segments made of them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.segments import FloatArray, Segments


class Proposals(NamedTuple):
    """Candidate segments of one video."""

    classes: NDArray[np.intp]
    """(N,) index into the prompts"""
    segments: Segments
    """(N, 2) start and end as fractions of the video"""
    mask_scores: FloatArray
    """(N,) from the action masks"""
    class_scores: FloatArray
    """(N,) from the class activation sequence"""

    @property
    def scores(self) -> FloatArray:
        """(N,) mask score times class score."""
        return self.mask_scores * self.class_scores


class Ranked(NamedTuple):
    """Segments of one video that survived, best first."""

    classes: NDArray[np.intp]
    """(N,) index into the prompts"""
    segments: Segments
    """(N, 2) start and end as fractions of the video"""
    scores: FloatArray
    """(N,)"""


def class_scores(cas_logits: FloatArray) -> FloatArray:
    """Softmax over classes and background, without the background: (K+1, T) -> (K, T)."""
    exponentials = np.exp(cas_logits - cas_logits.max(axis=0))
    return np.asarray(exponentials[:-1] / exponentials.sum(axis=0))


def longest_runs(on: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last position of the longest run of True along the last axis, the first of equals.

    Args:
        on: (..., T)

    Returns:
        Two arrays (...); meaningless where nothing is on.
    """
    t = np.arange(on.shape[-1])
    last_off = np.maximum.accumulate(np.where(on, -1, t), axis=-1)
    length = t - last_off  # of the run that ends here, 0 where off
    last = length.argmax(axis=-1)
    return last - length.max(axis=-1) + 1, last
