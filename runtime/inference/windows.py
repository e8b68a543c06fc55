"""Which windows of a long video are looked at, decided while its snippets arrive."""

from typing import NamedTuple

import numpy as np

from stale_runtime.inference.scene_cuts import CONTEXT, SHORTEST_SCENE, cut_threshold, find_peaks, scene_changes
from stale_runtime.segments import FloatArray

LARGEST = 1024
"""Snippets of the largest windows, unless asked for otherwise."""
SHORTEST, LONGEST = 64, 4096
"""Snippets that the largest windows may have."""
SCALES = 4
"""How many sizes of windows there are, each half of the next."""
SMALLEST = 32
"""Fewest snippets from one cut to another for a window between them."""
STEP = 256
"""After how many more snippets windows are looked at. Every result depends on it, so that a stream gives what a file
gives, whatever the pieces are in which it arrives."""
LOOKAHEAD = 256
"""Snippets after a cut that are known when it is decided."""
HISTORY = 4096
"""Snippets whose changes decide how large a change is a cut."""


class Window(NamedTuple):
    """A stretch of a video."""

    start: int
    end: int
    opens: bool
    """Whether it starts with a scene or the video, so that it cuts off nothing there."""
    closes: bool
    """Whether it ends with a scene or the video."""


class WindowSchedule:
    """The windows of one video: of four sizes, half overlapping, and those from one cut between scenes to another."""

    def __init__(self, largest: int = LARGEST) -> None:
        """Args: largest: snippets of the largest window."""
        self.largest = largest
        self._sizes = tuple(max(largest >> n, 1) for n in range(SCALES))
        self._seen: set[tuple[int, int]] = set()
        self._cuts = [0]
        self._changes: FloatArray = np.zeros(1)
        self._changes_from = 0
        self._rows_from = 0
        self._decided = 0

    @property
    def delay(self) -> int:
        """Snippets after which no window that starts at a snippet is added any more."""
        return self.largest + LOOKAHEAD

    def advance(self, rows: FloatArray, rows_from: int, until: int) -> list[Window]:
        """The windows that have become due after ``STEP`` more snippets.

        Args:
            rows: (n, C) the snippets that are kept.
            rows_from: position of the first of them.
            until: position up to which windows are due; later snippets are not looked at.
        """
        due = [
            Window(end - size, end, end == size, False)
            for size in self._sizes
            for end in range(until - STEP + 1, until + 1)
            if end >= size and (end - size) % max(size // 2, 1) == 0
        ]
        self._add_changes(rows, rows_from, until)
        threshold = cut_threshold(self._changes[-HISTORY:])
        return self._new([*due, *self._between_cuts(until - LOOKAHEAD, threshold)])

    def finish(self, rows: FloatArray, rows_from: int, length: int) -> list[Window]:
        """The windows that are due at the end of the video.

        Args:
            rows: (n, C) the snippets that are kept, up to the end.
            rows_from: position of the first of them.
            length: snippets of the video.
        """
        regular = [
            Window(start, start + size, start == 0, start + size == length)
            for size in self._sizes
            if size < length
            for start in range(0, length - size + 1, max(size // 2, 1))
            if start + size > length - STEP
        ]
        last = [Window(max(length - size, 0), length, size >= length, True) for size in self._sizes]
        self._add_changes(rows, rows_from, length)
        threshold = cut_threshold(self._changes[-HISTORY:])
        self._changes[max(length - SHORTEST_SCENE + 1 - self._changes_from, 0) :] = 0
        cuts = self._between_cuts(length, threshold)
        self._cuts.append(length)
        return self._new([*regular, *last, *cuts, *self._windows_to_last_cut()])

    def _new(self, windows: list[Window]) -> list[Window]:
        found = []
        for window in windows:
            if window[:2] not in self._seen:
                self._seen.add(window[:2])
                found.append(window)
        newest = max((window.end for window in found), default=0)
        self._seen = {place for place in self._seen if place[1] > newest - 4 * self.largest}
        return found

    def _add_changes(self, rows: FloatArray, rows_from: int, until: int) -> None:
        """Compute the changes at positions whose context is known."""
        start = self._changes_from + len(self._changes)
        first = max(start - CONTEXT, 0)
        known = rows[max(first - rows_from, 0) : until - rows_from]
        changes = scene_changes(known)[start - first : until - CONTEXT + 1 - first]
        changes[: max(SHORTEST_SCENE - start, 0)] = 0
        kept = HISTORY + LOOKAHEAD + STEP
        self._changes = np.concatenate([self._changes, changes])
        dropped = max(len(self._changes) - kept, 0)
        self._changes, self._changes_from = self._changes[dropped:], self._changes_from + dropped

    def _between_cuts(self, until: int, threshold: float) -> list[Window]:
        """Decide the cuts up to a position, and return the windows that end there."""
        windows = []
        for peak in find_peaks(self._changes, threshold) + self._changes_from:
            if self._decided < peak <= until:
                self._cuts.append(int(peak))
                windows += self._windows_to_last_cut()
        self._decided = max(until, self._decided)
        self._cuts = self._cuts[-3:]
        return windows

    def _windows_to_last_cut(self) -> list[Window]:
        end = self._cuts[-1]
        return [
            Window(start, end, True, True)
            for start in self._cuts[-3:-1][::-1]
            if SMALLEST <= end - start <= self.largest
        ]
