"""Detection while snippets arrive: in a stream, or block by block in a long video."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stale_runtime.decoding.decoders import label_segments
from stale_runtime.decoding.proposals import Ranked
from stale_runtime.detections import Detection
from stale_runtime.errors import FeatureError
from stale_runtime.inference.stream import StreamDecoder
from stale_runtime.inputs.features import (
    EXTRACT_AGAIN,
    LARGEST_VALUE,
    check_shape,
    cut_into_pieces,
    describe_value,
    largest_values,
)
from stale_runtime.segments import FloatArray
from stale_runtime.system.long_calls import time_limit

PIECE_SNIPPETS = 1024
"""More snippets than these are handed to the decoder in pieces, so that it takes no memory for a copy of all."""

DetectWhole = Callable[[FloatArray, float], Sequence[Detection]]
"""Features (T0, C) and the video's duration -> its detections."""


class DetectionStream:
    """Finds actions in snippets that arrive one after the other, and returns each as soon as it is final.

    The detections are those of a file with the same snippets, whatever the pieces in which they are pushed: a stream
    that ends while it is short enough to be looked at as a whole is, at its end. They come in the order in which they
    become final. The memory that it takes does not depend on how long it is. One thread at a time may use a stream;
    several streams of one localizer may run at once.
    """

    def __init__(
        self,
        decoder: StreamDecoder,
        detect_whole: DetectWhole,
        *,
        longest_whole: int,
        names: Sequence[str],
        channels: int,
        snippet_s: float | None,
        timeout_s: float | None = None,
    ) -> None:
        """Start a stream; ``Localizer.stream`` is more convenient.

        Args:
            decoder: looks at it through windows.
            detect_whole: looks at it as a whole, if it is short.
            longest_whole: most snippets of a stream that is looked at as a whole.
            names: K class names.
            channels: C
            snippet_s: seconds from one snippet to the next; None for times in snippets.
            timeout_s: most seconds that a call may take; None for no limit.
        """
        self._time_limit = partial(time_limit, timeout_s, "the stream")
        self._decoder, self._detect_whole = decoder, detect_whole
        self._longest_whole, self._names, self._channels = longest_whole, names, channels
        self._unit = 1.0 if snippet_s is None else snippet_s
        self._held: list[NDArray[np.float32]] = []
        self._received = 0
        self._not_returned: list[Detection] = []
        self._ended = False

    @property
    def received(self) -> int:
        """Snippets so far."""
        return self._received

    @property
    def delay(self) -> int:
        """Most snippets that arrive between the middle of an action and the moment in which its detection is final.

        So long a detection may still change, because windows that contain its action are not complete. Whatever is left
        comes with ``finish``.
        """
        return max(self._decoder.delay, self._longest_whole + 1)

    def push(self, rows: FloatArray) -> list[Detection]:
        """Take the next snippets, and return the detections that have become final.

        Args:
            rows: (n, C) of float16, float32 or float64; n may be 0.

        Returns:
            Detections with times in seconds, or in snippets if ``snippet_s`` is not known.

        Raises:
            FeatureError: wrong type or shape, NaN, infinity or a value that is too large; the message counts snippets
                from 0, from the start of the stream. The snippets before it have been taken, and the next call of
                ``push`` or ``finish`` returns what they have made final.
            BundleError: the graph fails.
            TimeLimitError: it took longer than ``timeout_s``.
            ValueError: the stream has ended.
        """
        if self._ended:
            raise ValueError("push after finish; open another stream")
        rows = np.asarray(rows)
        name = f"features from snippet {self._received} of the stream on"
        check_shape((max(rows.shape[0], 1), *rows.shape[1:]) if rows.ndim else (), rows.dtype, self._channels, name)
        largest = largest_values(rows)  # (n,)
        usable = largest <= LARGEST_VALUE
        good = len(rows) if usable.all() else int(usable.argmin())
        with self._time_limit():
            for piece in cut_into_pieces(rows[:good], PIECE_SNIPPETS):
                self._not_returned += self._take(piece.astype(np.float32))
        if good < len(rows):
            raise FeatureError(
                f"snippet {self._received} of the stream: {describe_value(largest[good])}; {EXTRACT_AGAIN}"
            )
        found, self._not_returned = self._not_returned, []
        return found

    def finish(self) -> list[Detection]:
        """End the stream, and return the remaining detections; none if it has ended before.

        Raises:
            BundleError: the graph fails.
            TimeLimitError: it took longer than ``timeout_s``.
        """
        found, self._not_returned = self._not_returned, []
        if not self._ended and self._received:
            with self._time_limit():
                if self._received <= self._longest_whole:
                    found += self._detect_whole(np.concatenate(self._held), self._received * self._unit)
                else:
                    found += self._label(self._decoder.finish())
        self._ended, self._held = True, []
        return found

    def detections(self, pieces: Iterable[FloatArray]) -> Iterator[Detection]:
        """Push all pieces, finish, and yield each detection as soon as it is final.

        Args:
            pieces: (n, C) each, as for ``push``.

        Raises:
            FeatureError: as for ``push``, or of ``pieces`` itself; after the stream has been finished and what was
                found before has been yielded.
            BundleError: the graph fails.
        """
        problem = None
        try:
            for piece in pieces:
                yield from self.push(piece)
        except FeatureError as error:
            problem = error
        yield from self.finish()
        if problem is not None:
            raise problem

    def _take(self, rows: NDArray[np.float32]) -> Iterable[Detection]:
        self._received += len(rows)
        if self._received <= self._longest_whole:
            self._held.append(rows)
            return ()
        held, self._held = [*self._held, rows], []
        return self._label(self._decoder.push(np.concatenate(held)))

    def _label(self, parts: Iterable[Ranked]) -> Iterator[Detection]:
        for part in parts:
            yield from label_segments(part, self._names, self._unit, longest=self._received)


def decode_blocks(decoder: StreamDecoder, blocks: Iterable[FloatArray], *, most: int | None) -> Ranked:
    """The detections of a long video.

    Args:
        decoder: looks at it through windows.
        blocks: (n, C) consecutive pieces of the video, at least one.
        most: how many of the best detections to return; None for all.

    Returns:
        Segments in snippets, best first.
    """
    parts = [part for block in blocks for part in decoder.push(block)]
    parts += decoder.finish()
    return Ranked.joined(parts).best(most)
