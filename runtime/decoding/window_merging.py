"""Merging of what overlapping windows of a long video propose.

A window ranks its candidates without knowing the rest of the video, and cuts actions at its edges. So candidates are
judged by all windows that hold them: one is good if these windows propose nearly the same segment with a high score.
Its edges are the mean of those of similar candidates. A candidate that one window alone holds keeps its score.

The constants were chosen on joined development videos, which are not among the reference videos.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.decoding.proposals import Ranked
from stale_runtime.decoding.soft_nms import soft_nms
from stale_runtime.segments import FloatArray, Segments, temporal_iou
from stale_runtime.system.sorted_values import distinct_values

EDGE_PENALTY = 0.1
"""Factor for the score of a candidate that a window's edge cuts off."""
VOTE_POWER = 5
"""Exponent of tIoU in a vote; the higher, the more alike a window's candidate must be to support another."""
FUSION_POWER = 8
"""Exponent of tIoU when edges are averaged."""
FUSION_EDGE_PENALTY = 0.2
"""Weight of the edges of a candidate that a window's edge cuts off."""
HELD = 0.9
"""Part of a candidate that a window must contain to have a say about it."""
MISSING_VOTES = 0.5
"""Windows without support that are added to those that hold a candidate: a few votes say less than many."""
SIGMA = 0.8
"""Tolerance of soft-NMS."""
MOST_PER_CLASS = 600
"""How many of the best candidates of a class soft-NMS gets."""
SAME = 0.5
"""Segments that overlap by a greater tIoU show the same action."""
LOWEST_SCORE = 0.003
"""Detections with a lower score are noise."""


class Candidates(NamedTuple):
    """What windows propose."""

    segments: Segments
    """(N, 2) start and end, in snippets of the video."""
    classes: NDArray[np.intp]
    """(N,) index of the class among the prompts."""
    scores: FloatArray
    """(N,), in the window that proposes it."""
    cut_off: NDArray[np.bool_]
    """(N,) whether it touches an edge of its window that is not known to be one of the scene or the video."""
    windows: NDArray[np.intp]
    """(N,) index of the window that proposes it."""

    @classmethod
    def joined(cls, parts: Sequence["Candidates"]) -> "Candidates":
        """The candidates of all parts, one part after the other; none if there are no parts."""
        none = cls(np.zeros((0, 2)), np.zeros(0, np.intp), np.zeros(0), np.zeros(0, np.bool_), np.zeros(0, np.intp))
        parts = [none, *parts]
        return cls(
            np.concatenate([part.segments for part in parts]),
            np.concatenate([part.classes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.cut_off for part in parts]),
            np.concatenate([part.windows for part in parts]),
        )

    def of_windows(self, chosen: NDArray[np.bool_]) -> "Candidates":
        """The candidates of some of the windows (W,), which are numbered anew."""
        kept = chosen[self.windows]
        numbers = np.cumsum(chosen) - 1
        return Candidates(
            self.segments[kept],
            self.classes[kept],
            self.scores[kept],
            self.cut_off[kept],
            numbers[self.windows[kept]],
        )


def judge(candidates: Candidates, windows: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Ranked:
    """Score some candidates by all, and average their edges.

    Args:
        candidates: N candidates of one or several classes, ordered by window.
        windows: (W, 2) start and end of the windows.
        chosen: (N,) candidates to judge.

    Returns:
        The chosen candidates in their order, with new segments and scores.
    """
    scores = candidates.scores * np.where(candidates.cut_off, EDGE_PENALTY, 1)
    segments, votes = candidates.segments.astype(np.float64), np.zeros(len(scores))
    for label in distinct_values(candidates.classes[chosen]):
        others = np.flatnonzero(candidates.classes == label)  # (n,)
        judged = others[chosen[others]]  # (m,)
        overlap = temporal_iou(candidates.segments[judged, None], candidates.segments[others])  # (m, n)
        votes[judged] = _votes(overlap, scores, candidates, windows, judged, others)
        segments[judged] = _mean_edges(overlap, scores, candidates, judged, others)
    return Ranked(candidates.classes[chosen], segments[chosen], votes[chosen])


def suppress(ranked: Ranked, earlier: Ranked, most: int) -> Ranked:
    """Lower the scores of candidates that overlap better ones, class by class.

    Args:
        ranked: N candidates.
        earlier: detections that are final already; they lower the scores of what overlaps them and is no better.
        most: most candidates to return.

    Returns:
        At most ``most`` candidates, best first.
    """
    parts = []
    for label in distinct_values(ranked.classes):
        same = ranked.where(ranked.classes == label).best(MOST_PER_CLASS)
        before = earlier.where(earlier.classes == label)
        decay = np.exp(-(temporal_iou(same.segments[:, None], before.segments) ** 2) / SIGMA)
        scores = same.scores * np.where(before.scores >= same.scores[:, None], decay, 1).prod(axis=1)  # 1 without any
        taken, taken_scores = soft_nms(same.segments, scores, same.classes, sigma=SIGMA, most=most, lowest=LOWEST_SCORE)
        parts.append(same.where(taken)._replace(scores=taken_scores))
    return Ranked.joined(parts).best(most)


def distinct(ranked: Ranked, most: int) -> Segments:
    """The best segments, whatever their class, without those that overlap a better one by more than ``SAME``.

    Args:
        ranked: N candidates.
        most: most segments to return.

    Returns:
        (M, 2), best first.
    """
    taken = np.zeros((0, 2))
    for segment in ranked.where(ranked.scores > LOWEST_SCORE).best(None).segments:
        if len(taken) == most:
            break
        if temporal_iou(segment, taken).max(initial=0) <= SAME:
            taken = np.concatenate([taken, segment[None]])
    return taken


def _votes(
    overlap: FloatArray,
    scores: FloatArray,
    candidates: Candidates,
    windows: NDArray[np.int64],
    judged: NDArray[np.intp],
    others: NDArray[np.intp],
) -> FloatArray:
    """How much the windows that hold each of m candidates support it: (m,)."""
    starts, ends = candidates.segments[judged].T  # (m,)
    window = candidates.windows[others]  # (n,), ascending
    first = np.flatnonzero(np.diff(window, prepend=-1))  # of each window with this class
    support = np.maximum.reduceat(overlap**VOTE_POWER * scores[others], first, axis=1)  # (m, windows with this class)
    shared = np.minimum(ends[:, None], windows[:, 1]) - np.maximum(starts[:, None], windows[:, 0])  # (m, W)
    holds = shared >= HELD * (ends - starts)[:, None]
    own = window[first] == candidates.windows[judged, None]
    counted = (support * (holds[:, window[first]] | own)).sum(axis=1)
    votes = counted * (1 + MISSING_VOTES) / (np.maximum(holds.sum(axis=1), 1) + MISSING_VOTES)
    return np.asarray(np.minimum(votes, 1))


def _mean_edges(
    overlap: FloatArray,
    scores: FloatArray,
    candidates: Candidates,
    judged: NDArray[np.intp],
    others: NDArray[np.intp],
) -> Segments:
    """Starts and ends of m candidates, averaged with those of similar ones: (m, 2)."""
    trust = scores[others] * np.where(candidates.cut_off[others], FUSION_EDGE_PENALTY, 1)
    weights = np.where(overlap > 0.5, overlap**FUSION_POWER * trust, 0) + 1e-9 * (judged[:, None] == others)
    return np.asarray(weights @ candidates.segments[others] / weights.sum(axis=1, keepdims=True))
