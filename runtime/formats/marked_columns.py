"""The columns of a table that show what annotators marked beside each detection."""

from collections.abc import Iterator, Sequence

from stale_runtime.detections import VideoDetections
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, Annotation, GroundTruth
from stale_runtime.evaluation.marked_actions import FOUND_TIOU, annotations_in_unit_of, overlaps_with_marked
from stale_runtime.formats.times import time_in_unit
from stale_runtime.system.text import one_line

HEADERS = ("marked start", "marked end", "tIoU")
MOST_LISTED = 10
"""Most marked actions that are listed as not found, and most videos as not annotated."""
_NOTHING = ("-", "-", "-")


class MarkedColumns:
    """The marked actions of the videos of a table."""

    def __init__(self, truth: GroundTruth, shown: Sequence[VideoDetections]) -> None:
        """Args: truth: the annotations; shown: the videos, with all detections that score enough."""
        self._shown = [video for video in shown if video.video in truth.videos]
        self._marked = {video.video: annotations_in_unit_of(video, truth.videos[video.video]) for video in self._shown}
        self._not_annotated = [video.video for video in shown if video.video not in truth.videos]

    def cells(self, video: VideoDetections) -> list[tuple[str, str, str]]:
        """The cells of each detection: start and end of the action of its class that it overlaps most, and the tIoU."""
        marked = self._marked.get(video.video) or []
        cells = []
        for overlaps in overlaps_with_marked(video.detections, marked):  # (G,)
            best = int(overlaps.argmax()) if len(marked) else 0
            if not len(marked) or overlaps[best] == 0:
                cells.append(_NOTHING)
                continue
            start, end = (time_in_unit(value, video.unit) for value in marked[best][1:])
            cells.append((start, end, f"{overlaps[best]:.2f}"))
        return cells

    def notes(self) -> Iterator[str]:
        """Sentences on the marked actions that were not found, and on videos that are not compared."""
        marked = [(video, row) for video in self._shown for row in self._actions(video)]
        missed = [(video, row) for video in self._shown for row in self._missed(video)]
        if marked:
            found = f"{len(marked) - len(missed):,} of {len(marked):,} marked actions"
            yield f"{found} were found with a tIoU of {FOUND_TIOU} or more{'; not found:' if missed else '.'}"
        for video, row in missed[:MOST_LISTED]:
            start, end = (time_in_unit(value, video.unit) for value in row[1:])
            yield f"  {one_line(row.label)}, {start} to {end}, in {one_line(video.video)}"
        if len(missed) > MOST_LISTED:
            yield f"  and {len(missed) - MOST_LISTED:,} more"
        unknown = [video for video, actions in self._marked.items() if actions is None]
        yield from _name_videos(unknown, "Nothing says how long these videos are, so they are not compared")
        yield from _name_videos(self._not_annotated, "Not in the ground truth")

    def _actions(self, video: VideoDetections) -> list[Annotation]:
        return [row for row in self._marked[video.video] or [] if row.label != AMBIGUOUS]

    def _missed(self, video: VideoDetections) -> list[Annotation]:
        actions = self._actions(video)
        best = overlaps_with_marked(video.detections, actions).max(axis=0, initial=0.0)  # (G,)
        return [row for row, overlap in zip(actions, best, strict=True) if overlap < FOUND_TIOU]


def _name_videos(names: Sequence[str], why: str) -> Iterator[str]:
    if names:
        rest = f" and {len(names) - MOST_LISTED:,} more" if len(names) > MOST_LISTED else ""
        yield f"{why}: {', '.join(map(one_line, names[:MOST_LISTED]))}{rest}."
