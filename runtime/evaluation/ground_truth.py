"""Annotated videos, in ActivityNet's JSON format or the original code's."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.video_info import VideoInfo
from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.inputs.videos import LARGEST_FILE, MOST_VIDEOS, check_count, video_id
from stale_runtime.system.files import read_json

MOST_ANNOTATIONS = 1_000_000
"""Most annotations of all videos that are kept; ActivityNet has 30,791."""


class Annotation(NamedTuple):
    """One annotated action."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class AnnotatedVideo:
    """Duration and annotations of one video."""

    duration_s: float | None
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The videos to evaluate on, and their annotations."""

    videos: Mapping[str, AnnotatedVideo]
    """By video id, without ActivityNet's ``v_`` prefix."""
    has_subsets: bool = True
    """Whether it is known which subset a video is in."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All class names in the annotations, sorted."""
        return tuple(sorted({row.label for video in self.videos.values() for row in video.annotations}))

    def of_classes(self, names: Collection[str]) -> "GroundTruth":
        """The same videos, with only the annotations of the given classes."""
        return replace(
            self,
            videos={
                video: AnnotatedVideo(
                    duration_s=known.duration_s,
                    annotations=tuple(row for row in known.annotations if row.label in names),
                )
                for video, known in self.videos.items()
            },
        )


def read_ground_truth(
    path: str | os.PathLike[str], *, subset: str | None = None, video_info: Mapping[str, VideoInfo] | None = None
) -> GroundTruth:
    """Read annotations.

    Two formats are known: ActivityNet's, ``{"database": {id: {"subset", "duration", "annotations"}}}``, and the
    original code's, ``{"v_ID": {"duration_second", "annotations"}}``, which has no subsets. Videos without annotations
    are kept.

    Args:
        path: the JSON file.
        subset: the subset to keep; None for all videos.
        video_info: subsets by video id, see ``read_video_info``. It is used instead of the subsets in the annotations;
            videos that it does not list belong to no subset.

    Raises:
        DatasetError: the file has neither format, or no video of the subset; or a subset is asked for and nothing says
            which videos belong to it.
    """
    path = Path(path)
    database, has_subsets = _database(read_json(path, limit=LARGEST_FILE, error=DatasetError), path)
    check_count(len(database), MOST_VIDEOS, "videos", path)
    if subset is not None and video_info is None and not has_subsets:
        raise DatasetError(
            f"{path}: it does not say which videos are of subset {subset!r}; give annotations with subsets, as "
            "ActivityNet's own, or the original code's video_info_new.csv where --video-info is an option"
        )
    videos: dict[str, AnnotatedVideo] = {}
    subsets: set[str] = set()
    annotations = 0
    for name, video in database.items():
        place = f"{path}: video {name[:60]!r}"
        if not isinstance(video, dict) or not isinstance(video.get("annotations"), list):
            raise DatasetError(f"{place} has no list of 'annotations', expected ActivityNet's JSON format")
        known_subset = _subset(video_id(name), video, video_info)
        subsets.add(str(known_subset)[:40])
        if subset is not None and known_subset != subset:
            continue
        if video_id(name) in videos:
            raise DatasetError(f"{place} is listed twice, with and without v_; remove one of them")
        annotations += len(video["annotations"])
        check_count(annotations, MOST_ANNOTATIONS, "annotations or more", path)
        videos[video_id(name)] = AnnotatedVideo(
            duration_s=_duration(video), annotations=tuple(_annotation(row, place) for row in video["annotations"])
        )
    if not videos:
        found = ", ".join(sorted(subsets)) or "no video at all"
        raise DatasetError(f"{path}: no video of subset {subset!r}, found {found}; give one of these as the subset")
    return GroundTruth(videos=videos, has_subsets=has_subsets or video_info is not None)


def read_segment(row: Mapping[str, Any], place: str) -> tuple[float, float]:
    """Start and end of a row's ``segment``.

    Raises:
        DatasetError: it is not two numbers in order, at most ``LONGEST_S``.
    """
    segment = row.get("segment")
    if not isinstance(segment, list) or len(segment) != 2 or not all(type(x) in (int, float) for x in segment):
        raise DatasetError(f"{place}: segment {str(segment)[:60]}, expected [start, end]")
    start, end = float(segment[0]), float(segment[1])
    if max(abs(start), abs(end)) > LONGEST_S:
        raise DatasetError(f"{place}: segment [{start}, {end}], expected times of at most {LONGEST_S:.0e}")
    if end < start:
        raise DatasetError(f"{place}: segment [{start}, {end}] ends before it starts")
    return start, end


def _database(content: Any, path: Path) -> tuple[dict[str, Any], bool]:
    """Videos by name, and whether the format has subsets."""
    if isinstance(content, dict) and isinstance(content.get("database"), dict):
        return content["database"], True
    if isinstance(content, dict) and any(isinstance(v, dict) and "duration_second" in v for v in content.values()):
        return content, False
    raise DatasetError(
        f"{path}: no 'database' and no 'duration_second', expected annotations in ActivityNet's JSON format or the "
        "original code's"
    )


def _subset(video: str, content: Mapping[str, Any], video_info: Mapping[str, VideoInfo] | None) -> Any:
    if video_info is None:
        return content.get("subset")
    return video_info[video].subset if video in video_info else None


def _annotation(row: Any, place: str) -> Annotation:
    if not isinstance(row, dict) or not isinstance(row.get("label"), str):
        raise DatasetError(f"{place}: annotation {str(row)[:60]}, expected a 'label' and a 'segment'")
    return Annotation(row["label"], *read_segment(row, place))


def _duration(video: Mapping[str, Any]) -> float | None:
    duration = video.get("duration", video.get("duration_second"))
    return float(duration) if isinstance(duration, int | float) else None
