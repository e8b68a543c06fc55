"""Detection in a video of any length, window by window, while its snippets arrive."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from stale_runtime.decoding.decoders import unreported_class
from stale_runtime.decoding.proposals import Ranked
from stale_runtime.decoding.standard_decoder import CLASSES, find_candidates
from stale_runtime.decoding.window_merging import LOWEST_SCORE, Candidates, distinct, judge, suppress
from stale_runtime.inference.forward_pass import Outputs
from stale_runtime.inference.score_curves import WindowCurves
from stale_runtime.inference.windows import LARGEST, LOOKAHEAD, SMALLEST, STEP, Window, WindowSchedule
from stale_runtime.inputs.features import resample
from stale_runtime.segments import FloatArray

MOST_CANDIDATES = 25
"""Candidates that a window may propose."""
BATCH = 2
"""Most windows that the network gets at once, whatever runs it. Exact graphs are slower with more,
because their intermediate results leave the cache; ``ort-fast`` is no faster, because few of one length are due."""
SECOND_LOOKS = 6
"""Segments for each 1,000 snippets that are looked at once more, through a window of their own."""
SECOND_LOOK_SIZE = 3
"""Size of that window, in lengths of the segment."""
SNIPPETS_PER_DETECTION = 4
"""One detection is returned for so many snippets of a tile, but at least ``FEWEST``."""
FEWEST = 100
"""Detections that a tile may have, however short it is, unless more are asked for."""

Forward = Callable[[NDArray[np.float32]], Iterable[Outputs]]
"""Features (B, T, C) of B windows -> the network's outputs for each."""


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
        scene_length: int | None = None,
        largest: int = LARGEST,
        classes: int = CLASSES,
        fewest: int = FEWEST,
        curves: WindowCurves | None = None,
    ) -> None:
        """Start with a new video.

        Args:
            forward: runs the network.
            names: names of the K classes.
            length: T that windows are resampled to.
            scene_length: T that scenes of more than twice ``length`` snippets are resampled to; None for ``length``.
            largest: snippets of the largest windows.
            classes: classes that are considered for each window.
            fewest: detections that a tile may have, however short it is.
            curves: get the outputs for the largest windows; None if nobody wants them.
        """
        self._forward, self._classes, self._fewest = forward, classes, fewest
        self._curves = curves
        self.recomputed = 0
        """Windows that the guard of the approximate localizer has left to the exact one."""
        self._length, self._scene_length = length, scene_length or length
        self._schedule = WindowSchedule(largest)
        hidden, K = unreported_class(names), len(names)
        self._shown = np.array([k for k in range(K) if k != hidden])
        rows = self._shown if hidden is None else np.append(self._shown, hidden)
        self._rows = np.append(rows, K)  # of the class activation sequence
        self._waiting: list[NDArray[np.float32]] = []
        self._received = 0
        self._snippets = np.zeros((0, 0), np.float32)
        self._snippets_from = 0
        self._stepped = 0
        self._tile = 0
        self._windows = np.zeros((0, 2), np.int64)
        self._candidates = Candidates.joined([])
        self._final = Ranked.joined([])

    @property
    def delay(self) -> int:
        """Most snippets from the middle of a detection to the snippet that makes it final."""
        moved = self._schedule.largest // 3 + 1  # by averaging edges: segments of at most ``largest`` overlap by half
        return self._schedule.largest + self._schedule.delay + STEP + moved

    def push(self, snippets: FloatArray) -> Iterator[Ranked]:
        """Take more snippets (n, C), and return what has become final: segments in snippets, best first."""
        self._waiting.append(snippets.astype(np.float32))
        self._received += len(snippets)
        while self._stepped + STEP < self._received:
            self._take_waiting()
            self._stepped += STEP
            self._run(self._schedule.advance(self._snippets, self._snippets_from, self._stepped), self._curves)
            complete = self._stepped - self._schedule.delay
            if self._curves is not None:
                self._curves.settle(complete)
            yield from self._merge(complete)
            self._forget()

    def finish(self) -> Iterator[Ranked]:
        """Return the rest, at the end of the video."""
        if self._received:
            self._take_waiting()
            self._run(self._schedule.finish(self._snippets, self._snippets_from, self._received), self._curves)
            yield from self._merge(self._received + 2 * self._schedule.largest)

    def _take_waiting(self) -> None:
        """Put the snippets that wait behind those that are kept: not one by one, as each time copies all."""
        kept = [self._snippets] if self._snippets.size else []
        if self._waiting:
            self._snippets = np.concatenate([*kept, *self._waiting])
            self._waiting = []

    def _run(self, windows: list[Window], curves: WindowCurves | None = None) -> None:
        """Add the candidates of some windows."""
        by_length = sorted(windows, key=self._length_of)
        for T, same_length in groupby(by_length, key=self._length_of):
            waiting = list(same_length)
            for n in range(0, len(waiting), BATCH):
                self._run_batch(waiting[n : n + BATCH], T, curves)

    def _length_of(self, window: Window) -> int:
        """T that a window is resampled to."""
        long_scene = window.opens and window.closes and window.end - window.start > 2 * self._length
        return self._scene_length if long_scene else self._length

    def _run_batch(self, windows: list[Window], length: int, curves: WindowCurves | None) -> None:
        pieces = [self._snippets[w.start - self._snippets_from : w.end - self._snippets_from] for w in windows]
        outputs = self._forward(np.stack([resample(piece, length) for piece in pieces]))
        for window, (cas_logits, masks, recomputed) in zip(windows, outputs, strict=True):
            self.recomputed += recomputed
            found = find_candidates(
                cas_logits[self._rows],
                masks,
                reported=len(self._shown),
                most=MOST_CANDIDATES,
                classes=self._classes,
            )
            self._add(window, found, length)
            if curves is not None and self._schedule.is_largest(window):
                curves.add(window, cas_logits)

    def _add(self, window: Window, found: Ranked, length: int) -> None:
        found = found.where(found.scores > LOWEST_SCORE)
        segments = found.segments
        cut_off = (segments[:, 0] == 0) & (not window.opens) | (segments[:, 1] == length) & (not window.closes)
        places = window.start + segments * ((window.end - window.start) / length)
        number = np.full(len(segments), len(self._windows))
        added = Candidates(places, found.classes, found.scores, cut_off, number)
        self._windows = np.concatenate([self._windows, [window[:2]]])
        self._candidates = Candidates.joined([self._candidates, added])

    def _merge(self, complete: int) -> Iterator[Ranked]:
        """Return the detections of the tiles up to a position before which no window starts any more."""
        size = self._schedule.largest
        while (self._tile + 1) * size <= complete and self._tile * size < self._received:
            start, end = self._tile * size, min((self._tile + 1) * size, self._received)
            self._look_again(self._judged(start, end), end - start)
            most = max(self._fewest, (end - start) // SNIPPETS_PER_DETECTION)
            final = suppress(self._judged(start, end), self._final, most)
            self._tile += 1
            known = Ranked.joined([self._final, final])
            self._final = known.where(known.segments[:, 1] > end - size)
            if len(final.scores):
                yield final._replace(classes=self._shown[final.classes])

    def _judged(self, start: int, end: int) -> Ranked:
        """The candidates whose middle is in a tile, with the scores that all windows give them."""
        middle = self._candidates.segments.mean(axis=1)
        return judge(self._candidates, self._windows, (start <= middle) & (middle < end))

    def _look_again(self, ranked: Ranked, snippets: int) -> None:
        """Look at the best segments of a tile through windows of their own."""
        windows = []
        for start, end in distinct(ranked, -(-SECOND_LOOKS * snippets // 1000)):
            size = max(round(SECOND_LOOK_SIZE * (end - start)), SMALLEST)
            window = self._schedule.around(start, end, size)
            window = window._replace(start=max(window.start, 0), end=min(window.end, self._received))
            known = (self._windows == window[:2]).all(axis=1).any() or window in windows
            if window.end - window.start <= self._schedule.largest and not known:
                windows.append(window)
        self._run(windows)

    def _forget(self) -> None:
        """Drop the snippets, windows and candidates that nothing needs any more."""
        size = self._schedule.largest
        needed = min(self._tile * size - size, self._stepped - size - LOOKAHEAD - STEP)
        if needed - self._snippets_from >= size:  # not at each step, because it copies the rest
            self._snippets = self._snippets[needed - self._snippets_from :].copy()
            self._snippets_from = needed
        alive = self._windows[:, 1] > self._tile * size - size
        self._candidates = self._candidates.of_windows(alive)
        self._windows = self._windows[alive]
