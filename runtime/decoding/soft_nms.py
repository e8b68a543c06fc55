"""Soft-NMS: of segments that overlap, all but the best lose score, gradually instead of at a threshold."""

import numpy as np
from numpy.typing import NDArray

from stale_runtime.segments import FloatArray, Segments, temporal_iou


def soft_nms(
    segments: Segments, scores: FloatArray, classes: NDArray[np.intp], *, sigma: float, most: int, lowest: float = 0.0
) -> tuple[NDArray[np.intp], FloatArray]:
    """Take segments best first, each time multiplying the scores of its class by exp(-tIoU² / sigma).

    Scores never rise, and segments of different classes do not touch one another. It holds an (N, N) matrix, so the
    caller bounds N.

    Args:
        segments: (N, 2) start and end, any unit, start <= end.
        scores: (N,) of equal ones the earlier is taken first.
        classes: (N,) index of each segment's class.
        sigma: how much overlap is forgiven, > 0; larger suppresses less.
        most: how many segments are taken at most.
        lowest: segments are left out once their score is not above this, >= 0.

    Returns:
        Indices of the segments in the order in which they are taken, and their scores then, which never increase:
        (M,) and (M,).

    Raises:
        ValueError: a segment ends before it starts.

    Source: Bodla et al., Soft-NMS, ICCV 2017, the Gaussian form.
    """
    decay = np.exp(-(temporal_iou(segments[:, None], segments) ** 2) / sigma)  # (N, N)
    decay[classes[:, None] != classes] = 1
    np.fill_diagonal(decay, 0)  # what is taken is not taken again
    remaining = scores.astype(np.float64)
    taken = np.empty(min(most, len(scores)), dtype=np.intp)
    taken_scores = np.empty(len(taken))
    for n in range(len(taken)):
        best = remaining.argmax()
        if remaining[best] <= lowest:
            return taken[:n], taken_scores[:n]
        taken[n], taken_scores[n] = best, remaining[best]
        remaining *= decay[best]
    return taken, taken_scores
