"""Which windows of a long video are looked at, decided while its snippets arrive.

A short scene is looked at as a whole, a long one through windows of three sizes. No window reaches from one scene into
another, because the network was trained on videos that show one. Where cuts are frequent, they are taken for those
between the shots of one scene.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.inference.scene_cuts import SHORTEST_SHOT, CutFinder
from stale_runtime.segments import FloatArray

LARGEST = 768
"""Snippets of the largest windows, unless asked for otherwise."""
SHORTEST, LONGEST = 64, 4096
"""Snippets that the largest windows may have."""
SMALLEST = 32
"""Snippets that a window has at least, unless its scene has less."""
STEP = 256
"""Snippets after which the windows that have become due are looked at. Every result depends on it, so it is the same
for files and streams, whatever the pieces are in which snippets arrive."""
NEIGHBOURHOOD = 232
"""Snippets on each side of a cut in which cuts are counted."""
SHORTEST_SCENE = 72
"""Snippets: where cuts are closer on average, they part shots, not scenes."""
LOOKAHEAD = CutFinder.DELAY + NEIGHBOURHOOD
"""Snippets after a cut that must be known to decide whether it parts scenes."""


class Window(NamedTuple):
    """A stretch of a video."""

    start: int
    end: int
    opens: bool
    """Whether a scene starts with it, so that it cuts off nothing there."""
    closes: bool
    """Whether a scene ends with it."""


class WindowSchedule:
    """The windows of one video."""

    def __init__(self, largest: int = LARGEST) -> None:
        """Args: largest: snippets of the largest windows."""
        self.largest = largest
        self._sizes = tuple(size for size in (largest // 4, largest // 2, largest) if size >= SMALLEST)
        self._longest_single = 2 * largest // 3  # snippets of a scene that is only looked at as a whole
        self._finder = CutFinder()
        self._decided = 0
        self.scenes = 0
        """Scenes that have ended."""
        self._borders = [0]
        self._next_starts = dict.fromkeys(self._sizes, 0)

    @property
    def delay(self) -> int:
        """Snippets after which no window that starts at a snippet is added any more."""
        return self.largest + LOOKAHEAD

    def advance(self, rows: FloatArray, rows_from: int, until: int) -> list[Window]:
        """The windows that have become due.

        Args:
            rows: (n, C) the snippets that are kept.
            rows_from: position of the first of them.
            until: position up to which snippets are looked at, ``STEP`` more than in the last call.
        """
        self._finder.add(rows, rows_from, until)
        return self._due(until - LOOKAHEAD, until - CutFinder.DELAY)

    def finish(self, rows: FloatArray, rows_from: int, length: int) -> list[Window]:
        """The remaining windows of a video of this length, for ``advance``'s arguments."""
        self._finder.add(rows, rows_from, length)
        return [*self._due(length, length - SHORTEST_SHOT), *self._close_scene(length)]

    def around(self, start: float, end: float, size: int) -> Window:
        """A window around a segment that does not reach into a scene which the segment is not in.

        Args:
            start: of the segment, in snippets.
            end: of the segment.
            size: snippets of the window, if no scene begins or ends there.
        """
        first = round((start + end - size) / 2)
        slack = 0.1 * (end - start)
        opening = max((border for border in self._borders if first <= border <= start + slack), default=None)
        closing = min((border for border in self._borders if end - slack <= border <= first + size), default=None)
        return Window(
            first if opening is None else opening,
            first + size if closing is None else closing,
            opening is not None,
            closing is not None,
        )

    def is_largest(self, window: Window) -> bool:
        """Whether a window is one of the largest in its scene; together these cover the video."""
        return (window.opens and window.closes) or window.end - window.start == self.largest

    def _due(self, until: int, known: int) -> list[Window]:
        """The windows that end before a position, if all cuts up to ``known`` are."""
        windows: list[Window] = []
        cuts = self._finder.cuts(known)
        for cut in cuts[(cuts > self._decided) & (cuts <= until)]:
            if _parts_scenes(cut, cuts, known):
                windows += self._close_scene(int(cut))
        self._decided = max(until, self._decided)
        if until - self._borders[-1] > self._longest_single:
            windows += self._regular(self._sizes, until)
        return windows

    def _close_scene(self, end: int) -> list[Window]:
        """The last windows of the scene that ends here."""
        start = self._borders[-1]
        length = end - start
        windows: list[Window] = []
        if length > self._longest_single:
            sizes = tuple(size for size in self._sizes if size < length)
            windows = self._regular(sizes, end)
            windows += [Window(end - size, end, False, True) for size in sizes]
        if 0 < length <= self.largest:
            windows.append(Window(start, end, True, True))
        self.scenes += 1
        kept = 2 * self.largest + self.delay + STEP  # snippets before this border that ``around`` may be asked for
        self._borders = [border for border in self._borders if border >= end - kept] + [end]
        self._next_starts = dict.fromkeys(self._sizes, end)
        return windows

    def _regular(self, sizes: tuple[int, ...], until: int) -> list[Window]:
        """Half overlapping windows of the last scene that end before a position, which may be the scene's end."""
        windows: list[Window] = []
        for size in sizes:
            while self._next_starts[size] + size < until:
                start = self._next_starts[size]
                windows.append(Window(start, start + size, start == self._borders[-1], False))
                self._next_starts[size] += size // 2
        return windows


def shows_one_scene(features: FloatArray) -> bool:
    """Whether no cut parts the snippets (N, C) of a whole video into scenes."""
    schedule, rows = WindowSchedule(), features.astype(np.float32)
    for until in range(STEP, len(rows), STEP):
        schedule.advance(rows, 0, until)
    schedule.finish(rows, 0, len(rows))
    return schedule.scenes == 1


def _parts_scenes(cut: int, cuts: NDArray[np.intp], known: int) -> bool:
    """Whether the cuts around are so rare that a cut parts scenes, not shots of one scene."""
    start, end = max(cut - NEIGHBOURHOOD, 0), min(cut + NEIGHBOURHOOD, known)
    around = np.count_nonzero((start < cuts) & (cuts < end))
    return bool((end - start) / (around + 1) >= SHORTEST_SCENE)
