"""The result of one of many videos."""

from typing import TYPE_CHECKING, NamedTuple

from stale_runtime.detections import VideoDetections
from stale_runtime.errors import StaleError
from stale_runtime.inputs.remote_files import Source

if TYPE_CHECKING:
    from stale_runtime.evidence import Evidence


class Outcome(NamedTuple):
    """The result of one of many videos: either its detections or an error."""

    path: Source
    detections: VideoDetections | None
    error: StaleError | None

    @property
    def evidence(self) -> "Evidence | None":
        """What a page draws beside the detections; None if there is an error, or it was not asked for or not kept."""
        return None if self.detections is None else self.detections.evidence

    def result(self) -> VideoDetections:
        """The detections.

        Raises:
            StaleError: the error, if there is one.
        """
        if self.error is not None:
            raise self.error
        assert self.detections is not None
        return self.detections
