"""The result of one of many videos."""

from pathlib import Path
from typing import NamedTuple

from stale_runtime.detections import VideoDetections
from stale_runtime.errors import StaleError


class Outcome(NamedTuple):
    """The result of one of many videos: either its detections or an error."""

    path: Path
    detections: VideoDetections | None
    error: StaleError | None

    def result(self) -> VideoDetections:
        """The detections.

        Raises:
            StaleError: the error, if there is one.
        """
        if self.error is not None:
            raise self.error
        assert self.detections is not None
        return self.detections
