"""Types and functions that both decoders use: class scores, runs of a mask, proposals, ranked segments."""

from collections.abc import Sequence
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
    """Segments of one video with their scores; from a decoder, best first."""

    classes: NDArray[np.intp]
    """(N,) index of the class among the prompts."""
    segments: Segments
    """(N, 2) start and end, in fractions of the video or in snippets."""
    scores: FloatArray
    """(N,) score of each segment."""

    @classmethod
    def joined(cls, parts: Sequence["Ranked"]) -> "Ranked":
        """The segments of all parts, one part after the other."""
        if not parts:
            return cls(np.zeros(0, np.intp), np.zeros((0, 2)), np.zeros(0))
        return cls(
            np.concatenate([part.classes for part in parts]),
            np.concatenate([part.segments for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Ranked":
        """Some of the segments, by mask or index."""
        return Ranked(self.classes[chosen], self.segments[chosen], self.scores[chosen])

    def best(self, most: int | None) -> "Ranked":
        """The best segments, best first; None for all."""
        return self.where(np.argsort(-self.scores, kind="stable")[:most])


def class_scores(cas_logits: FloatArray) -> FloatArray:
    """Softmax over classes and background, with the background row dropped: (K+1, T) -> (K, T)."""
    scores = cas_logits - cas_logits.max(axis=0)  # (K+1, T)
    np.exp(scores, out=scores)  # in place, because taking memory for large arrays is slow
    scores /= scores.sum(axis=0)
    return np.asarray(scores[:-1])


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
