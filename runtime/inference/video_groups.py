"""Short videos that the network gets together, because that takes less time than one after the other."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from stale_runtime.detections import VideoDetections
from stale_runtime.errors import StaleError
from stale_runtime.inference.detector import Detector, WholeVideo
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.lengths import LengthRules
from stale_runtime.inputs.feature_duration import duration_of_features
from stale_runtime.inputs.feature_file import open_features
from stale_runtime.inputs.features import resample_for_graph
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.inputs.videos import is_video, video_id


class VideoGroups:
    """Detects in the feature files of a group that are looked at as a whole, with one forward pass."""

    def __init__(self, detector: Detector, lengths: LengthRules, channels: int) -> None:
        """Args: detector, lengths: of a localizer; channels: C of the features."""
        self._detector, self._lengths, self._channels = detector, lengths, channels

    def detect(
        self, paths: Sequence[Path], prompts: EncodedPrompts, timeline: Timeline, *, evidence: bool
    ) -> dict[Path, VideoDetections]:
        """The detections of those of some files that the network can get together; of none if that fails.

        Args:
            paths: feature files and videos.
            prompts: K encoded prompts.
            timeline: how long the videos of feature files last.
            evidence: as for ``Localizer.detect_video``.
        """
        try:
            length = self._lengths.length_for(1)
            read = {path: self._read(path, length, timeline) for path in paths if not is_video(path)}
            videos = {path: video for path, video in read.items() if video is not None}
            if len(videos) < 2:
                return {}
            found = self._detector.detect_together(list(videos.values()), length, prompts, evidence=evidence)
        except (StaleError, MemoryError):  # detecting them one by one says which is to blame, or works
            return {}
        return dict(zip(videos, found, strict=True))

    def _read(self, path: Path, length: int, timeline: Timeline) -> WholeVideo | None:
        """A feature file; None if it has to be looked at alone, be it to say what is wrong with it."""
        try:
            with open_features(path, self._channels) as file:
                if self._lengths.is_long(file.snippets) or self._lengths.length_for(file.snippets) != length:
                    return None
                duration_s, features = duration_of_features(path, file.snippets, timeline), file.read()
        except StaleError:
            return None
        if self._lengths.window_for(features) is not None:
            return None
        return WholeVideo(video_id(path.stem), resample_for_graph(features, length), duration_s)


def group_paths(paths: Iterable[str | os.PathLike[str]], size: int) -> Iterator[list[Path]]:
    """Consecutive paths, at most so many at once; one at a time unless ``paths`` is a list or tuple."""
    if not isinstance(paths, list | tuple):
        size = 1
    waiting = map(Path, paths)
    while group := list(islice(waiting, size)):
        yield group
