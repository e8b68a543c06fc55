"""The times at which a feature recipe looks at a video."""

from collections.abc import Iterable, Iterator


def sample_times(rows: Iterable[int], *, snippet_s: float, frames: int) -> Iterator[float]:
    """The times of the frames of some rows of features.

    Row r covers the time from r * ``snippet_s`` to (r + 1) * ``snippet_s``. Its frames are the ones shown in the
    middle of each of the ``frames`` equal parts of that time.

    Args:
        rows: indices of rows.
        snippet_s: seconds from a row to the next.
        frames: frames a row.

    Yields:
        Seconds from the first frame of the video, ``frames`` for each row.
    """
    for row in rows:
        for part in range(frames):
            yield (row + (part + 0.5) / frames) * snippet_s
