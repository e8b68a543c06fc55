"""Types and functions that both decoders use: class scores, runs of a mask, proposals, ranked segments."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.segments import FloatArray, Segments


class Proposals(NamedTuple):
    """Candidate segments of one video."""

    classes: NDArray[np.intp]
    """(N,) index of the class among the prompts."""
    segments: Segments
    """(N, 2) start and end, in fractions of the video."""
    mask_scores: FloatArray
    """(N,) from the action masks."""
    class_scores: FloatArray
    """(N,) from the class activation sequence."""

    @property
    def scores(self) -> FloatArray:
        """(N,) product of mask score and class score."""
        return self.mask_scores * self.class_scores


class Ranked(NamedTuple):
    """The final segments of one video, best first."""

    classes: NDArray[np.intp]
    """(N,) index of the class among the prompts."""
    segments: Segments
    """(N, 2) start and end, in fractions of the video."""
    scores: FloatArray
    """(N,) score of each segment."""


def class_scores(cas_logits: FloatArray) -> FloatArray:
    """Softmax over classes and background, with the background row dropped: (K+1, T) -> (K, T)."""
    exponentials = np.exp(cas_logits - cas_logits.max(axis=0))  # (K+1, T)
    return np.asarray(exponentials[:-1] / exponentials.sum(axis=0))


def reported_classes(cas_logits: FloatArray, reported: int | None) -> int:
    """How many of the rows of (K+1, T) a decoder may report: the first ``reported``, or all K; the rest is background.

    Raises:
        ValueError: there are not that many classes.
    """
    K = len(cas_logits) - 1
    if reported is None:
        return K
    if not 1 <= reported <= K:
        raise ValueError(f"{reported} reported classes, expected 1 to {K}")
    return reported


def longest_runs(on: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last position of the longest run of True along the last axis; the earliest of runs of equal length.

    Args:
        on: (..., T)

    Returns:
        Two arrays (...); meaningless where no value is True.
    """
    t = np.arange(on.shape[-1])
    last_off = np.maximum.accumulate(np.where(on, -1, t), axis=-1)  # (..., T)
    length = t - last_off  # (..., T), of the run that ends here; 0 where off
    last = length.argmax(axis=-1)  # (...)
    return last - length.max(axis=-1) + 1, last
