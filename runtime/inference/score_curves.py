"""Curves of class scores over the time of a video, for a page that shows how its detections came about."""

from collections.abc import Iterable, Sequence

import numpy as np

from stale_runtime.decoding.decoders import unreported_class
from stale_runtime.decoding.proposals import class_scores
from stale_runtime.detections import Detection
from stale_runtime.evidence import MOST_CLASSES, MOST_POINTS, ClassScores
from stale_runtime.inference.windows import Window
from stale_runtime.segments import FloatArray


def whole_curves(cas_logits: FloatArray) -> FloatArray:
    """The curves of a video that was looked at as a whole: of its T positions, or the highest of each stretch of them.

    Args:
        cas_logits: (K+1, T) class activation sequence, background last.

    Returns:
        (K, n) in [0, 1], n at most ``MOST_POINTS``.
    """
    scores = class_scores(cas_logits)  # (K, T)
    _, T = scores.shape
    points = min(T, MOST_POINTS)
    starts = (2 * T * np.arange(points) + points) // (2 * points)  # rounded: no time is off by over half a position
    return np.maximum.reduceat(scores, starts, axis=1)


class WindowCurves:
    """The curves of a video that is looked at through windows, joined while they are computed.

    Where windows overlap, the score of a snippet is a mean in which a window counts more, the farther its border is
    away. So curves don't jump where a window begins or ends. Only the highest score of each stretch is kept, and so the
    memory that this takes does not depend on the length of the video.
    """

    def __init__(self, classes: int, snippets: int) -> None:
        """Start with a new video.

        Args:
            classes: K
            snippets: T0 of the video.
        """
        self._snippets = snippets
        self._points = min(snippets, MOST_POINTS)
        self._cells_a_point = -(-snippets // self._points)
        self._highest = np.zeros((classes, self._points), np.float32)
        self._first = 0  # cell that the next two begin with; a cell is a snippet, or somewhat less
        self._sums = np.zeros((classes, 0), np.float32)
        self._weights = np.zeros(0, np.float32)

    def add(self, window: Window, cas_logits: FloatArray) -> None:
        """Add what the network gave for a window.

        Args:
            window: does not start before the position up to which the curves are settled.
            cas_logits: (K+1, T) for the window, background last.
        """
        first, end = self._cell(window.start), self._cell(window.end)
        middles = (np.arange(first, end) + 0.5) * self._cell_snippets  # (n,)
        fraction = (middles - window.start) / (window.end - window.start)
        weights = np.minimum(middles - window.start, window.end - middles).astype(np.float32) + 1
        missing = end - self._first - len(self._weights)
        if missing > 0:
            self._sums = np.pad(self._sums, ((0, 0), (0, missing)))
            self._weights = np.pad(self._weights, (0, missing))
        place = slice(first - self._first, end - self._first)
        self._sums[:, place] += weights * _scores_at(class_scores(cas_logits), fraction)
        self._weights[place] += weights

    def settle(self, until: int) -> None:
        """Reduce what comes before a position, in snippets, to points of the curves; no more windows start there."""
        count = min(self._cell(until) - self._first, len(self._weights))
        if count <= 0:
            return
        means = self._sums[:, :count] / np.maximum(self._weights[:count], np.finfo(np.float32).tiny)  # (K, count)
        points, starts = np.unique((self._first + np.arange(count)) // self._cells_a_point, return_index=True)
        highest = np.maximum.reduceat(means, starts, axis=1)  # (K, points)
        self._highest[:, points] = np.maximum(self._highest[:, points], highest)
        self._sums, self._weights = self._sums[:, count:].copy(), self._weights[count:]
        self._first += count

    def finish(self) -> FloatArray:
        """The curves (K, n) in [0, 1] of the whole video."""
        self.settle(self._snippets)
        return self._highest

    @property
    def _cell_snippets(self) -> float:
        return self._snippets / (self._points * self._cells_a_point)

    def _cell(self, position: int) -> int:
        """The first cell whose middle is not before a position in snippets."""
        return max(int(np.ceil(position / self._cell_snippets - 0.5)), 0)


def pick_curves(
    curves: FloatArray, names: Sequence[str], found: Iterable[Detection], duration_s: float | None
) -> ClassScores:
    """The curves of the classes that matter in a video.

    Args:
        curves: (K, n) of all classes, evenly spread over the video.
        names: of the K classes.
        found: the video's detections, best first.
        duration_s: of the video; None for times in fractions of it.
    """
    labels: list[str] = []
    for row in found:
        if row.label not in labels:
            labels.append(row.label)
            if len(labels) == MOST_CLASSES:
                break
    rows = [names.index(label) for label in labels]
    if not rows:
        best_first = np.argsort(-curves.mean(axis=1), kind="stable").tolist()
        rows = [k for k in best_first if k != unreported_class(names)][:MOST_CLASSES]
    _, n = curves.shape
    times = (np.arange(n) + 0.5) * ((duration_s or 1) / n)
    return ClassScores(labels=tuple(names[k] for k in rows), times=times, scores=curves[rows])


def _scores_at(scores: FloatArray, fraction: FloatArray) -> FloatArray:
    """Scores (K, T) at fractions (n,) of their time, between the middles of the T positions linearly: (K, n)."""
    _, T = scores.shape
    position = np.clip(fraction * T - 0.5, 0, T - 1)
    lower = position.astype(np.intp)
    weight = (position - lower).astype(np.float32)
    return np.asarray((1 - weight) * scores[:, lower] + weight * scores[:, np.minimum(lower + 1, T - 1)])
