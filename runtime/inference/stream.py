"""Detection in a video of any length, window by window, while its snippets arrive."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stale_runtime.decoding.decoders import unreported_class
from stale_runtime.decoding.proposals import Ranked
from stale_runtime.decoding.standard_decoder import CLASSES, find_candidates
from stale_runtime.decoding.window_merging import LOWEST_SCORE, Candidates, judge, suppress
from stale_runtime.inference.windows import LARGEST, LOOKAHEAD, STEP, Window, WindowSchedule
from stale_runtime.inputs.features import resample
from stale_runtime.segments import FloatArray

MOST_CANDIDATES = 40
"""Candidates that a window may propose."""
BATCH = 8
"""Most windows that the network gets at once."""
SNIPPETS_PER_DETECTION = 2
"""One detection is returned for so many snippets, but at least ``FEWEST``."""
FEWEST = 100

Forward = Callable[[NDArray[np.float32]], Iterator[tuple[FloatArray, FloatArray]]]
"""Features (B, T, C) of B windows -> class activation sequence (K+1, T) and action masks (T, T) of each."""


class StreamDecoder:
    """Finds actions in snippets that arrive one after the other.

    The result does not depend on the pieces in which they arrive. A detection is returned when no later snippet can
    change it, ``delay`` snippets after its middle.
    """

    def __init__(
        self,
        forward: Forward,
        names: Sequence[str],
        length: int,
        *,
        largest: int = LARGEST,
        classes: int = CLASSES,
    ) -> None:
        """Args: forward: runs the network; names: K classes; length: T; largest: snippets of the largest window."""
        self._forward, self._length, self._classes = forward, length, classes
        self._schedule = WindowSchedule(largest)
        hidden, K = unreported_class(names), len(names)
        self._shown = np.array([k for k in range(K) if k != hidden])
        rows = self._shown if hidden is None else np.append(self._shown, hidden)
        self._rows = np.append(rows, K)  # of the class activation sequence
        self._snippets: NDArray[np.float32] | None = None
        self._snippets_from = 0
        self._stepped = 0
        self._tile = 0
        self._windows = np.zeros((0, 2), np.int64)
        self._candidates = Candidates(
            np.zeros((0, 2)), np.zeros(0, np.intp), np.zeros(0), np.zeros(0, np.bool_), np.zeros(0, np.intp)
        )
        self._final = Ranked(np.zeros(0, np.intp), np.zeros((0, 2)), np.zeros(0))

    @property
    def delay(self) -> int:
        """Most snippets from the middle of a detection to the snippet that makes it final."""
        return self._schedule.largest + self._schedule.delay + STEP

    @property
    def received(self) -> int:
        """Snippets so far."""
        return self._snippets_from + (0 if self._snippets is None else len(self._snippets))

    def push(self, snippets: FloatArray) -> Iterator[Ranked]:
        """Take more snippets (n, C), and return what has become final: segments in snippets, best first."""
        rows = snippets.astype(np.float32)
        self._snippets = rows if self._snippets is None else np.concatenate([self._snippets, rows])
        while self._stepped + STEP < self.received:
            self._stepped += STEP
            self._run(self._schedule.advance(self._snippets, self._snippets_from, self._stepped))
            yield from self._merge(self._stepped - self._schedule.delay)
            self._forget()

    def finish(self) -> Iterator[Ranked]:
        """Return the rest, at the end of the video."""
        if self._snippets is None:
            return
        N = self.received
        self._run(self._schedule.finish(self._snippets, self._snippets_from, N))
        yield from self._merge(N + 2 * self._schedule.largest)

    def push_all(self, features: FloatArray) -> Ranked:
        """All detections of a video (N, C), best first."""
        parts = [part for n in range(0, len(features), STEP) for part in self.push(features[n : n + STEP])]
        parts += self.finish()
        if not parts:
            return self._final
        joined = Ranked(*map(np.concatenate, zip(*parts, strict=True)))
        best_first = np.argsort(-joined.scores, kind="stable")
        return Ranked(*(column[best_first] for column in joined))

    def _run(self, windows: list[Window]) -> None:
        """Add the candidates of some windows."""
        assert self._snippets is not None
        for n in range(0, len(windows), BATCH):
            batch = windows[n : n + BATCH]
            pieces = [self._snippets[w.start - self._snippets_from : w.end - self._snippets_from] for w in batch]
            outputs = self._forward(np.stack([resample(piece, self._length) for piece in pieces]))
            for window, (cas_logits, action_masks) in zip(batch, outputs, strict=True):
                self._add(
                    window,
                    find_candidates(
                        cas_logits[self._rows],
                        action_masks,
                        reported=len(self._shown),
                        most=MOST_CANDIDATES,
                        classes=self._classes,
                    ),
                )

    def _add(self, window: Window, found: Ranked) -> None:
        good = found.scores > LOWEST_SCORE
        segments, scores = found.segments[good], found.scores[good]
        cut_off = (segments[:, 0] == 0) & (not window.opens) | (segments[:, 1] == self._length) & (not window.closes)
        places = window.start + segments * ((window.end - window.start) / self._length)
        number = np.full(len(scores), len(self._windows))
        added = Candidates(places, found.classes[good], scores, cut_off, number)
        self._windows = np.concatenate([self._windows, [window[:2]]])
        self._candidates = Candidates(*map(np.concatenate, zip(self._candidates, added, strict=True)))

    def _merge(self, complete: int) -> Iterator[Ranked]:
        """Return the detections of the tiles up to a position before which no window starts any more."""
        size = self._schedule.largest
        while (self._tile + 1) * size <= complete and self._tile * size < self.received:
            start, end = self._tile * size, (self._tile + 1) * size
            middle = self._candidates.segments.mean(axis=1)
            ranked = judge(self._candidates, self._windows, (start <= middle) & (middle < end))
            most = max(FEWEST, min(size, self.received - start) // SNIPPETS_PER_DETECTION)
            final = suppress(ranked, self._final, most)
            self._tile += 1
            known = Ranked(*map(np.concatenate, zip(self._final, final, strict=True)))
            reaching = known.segments[:, 1] > end - size
            self._final = Ranked(*(column[reaching] for column in known))
            if len(final.scores):
                yield Ranked(self._shown[final.classes], final.segments, final.scores)

    def _forget(self) -> None:
        """Drop the snippets, windows and candidates that nothing needs any more."""
        assert self._snippets is not None
        needed = max(self._stepped - self._schedule.largest - LOOKAHEAD - 2 * STEP, self._snippets_from)
        self._snippets = self._snippets[needed - self._snippets_from :].copy()
        self._snippets_from = needed
        alive = self._windows[:, 1] > self._tile * self._schedule.largest - self._schedule.largest
        chosen = alive[self._candidates.windows]
        renumbered = np.cumsum(alive) - 1
        self._candidates = self._candidates.where(chosen)
        self._candidates = self._candidates._replace(windows=renumbered[self._candidates.windows])
        self._windows = self._windows[alive]
