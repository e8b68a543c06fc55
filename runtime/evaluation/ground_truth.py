"""Annotated videos, in ActivityNet's JSON format or the original code's."""

import os
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.label_spelling import NO_SPELLINGS, LabelSpellings
from stale_runtime.evaluation.segment_rows import as_number, read_label, read_segment
from stale_runtime.evaluation.thumos14 import is_text_form, read_class_files, whole_subset_name
from stale_runtime.evaluation.video_info import VideoInfo
from stale_runtime.inputs.videos import LARGEST_FILE, MOST_VIDEOS, check_count, video_id
from stale_runtime.system.files import read_json
from stale_runtime.system.text import fold

MOST_ANNOTATIONS = 1_000_000
"""Most annotations of all videos that are kept; ActivityNet has 30,791."""

AMBIGUOUS = "Ambiguous"
"""The label with which THUMOS14 marks segments that may or may not be an action. It is not a class."""


class Annotation(NamedTuple):
    """One annotated action."""

    label: str
    start_s: float
    end_s: float

    def is_outside(self, duration_s: float) -> bool:
        """Whether nothing of it lies within a video that lasts so many seconds."""
        return self.start_s >= duration_s or (self.start_s < 0 and self.end_s <= 0)


@dataclass(frozen=True, kw_only=True)
class AnnotatedVideo:
    """Duration and annotations of one video."""

    duration_s: float | None
    annotations: tuple[Annotation, ...]
    subset: str | None = None
    """None if nothing says it."""


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The videos to evaluate on, and their annotations."""

    videos: Mapping[str, AnnotatedVideo]
    """By video id, without ActivityNet's ``v_`` prefix."""
    has_subsets: bool = True
    """Whether it is known which subset a video is in."""
    unlisted: tuple[str, ...] = ()
    """Annotated videos that a subset was asked of and ``video_info`` does not list, so that they are left out."""
    spellings: LabelSpellings = NO_SPELLINGS
    """How the labels of all subsets were spelt in the file, and how they are here."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All class names in the annotations, sorted."""
        labels = {row.label for video in self.videos.values() for row in video.annotations}
        return tuple(sorted(labels - {AMBIGUOUS}))

    @property
    def ambiguous_segments(self) -> int:
        """Number of segments that are labelled ``Ambiguous``."""
        return sum(row.label == AMBIGUOUS for video in self.videos.values() for row in video.annotations)

    @property
    def outside_segments(self) -> int:
        """Number of segments that lie wholly outside their video, as far as its duration is known."""
        return sum(
            row.is_outside(video.duration_s)
            for video in self.videos.values()
            if video.duration_s is not None and video.duration_s > 0
            for row in video.annotations
        )

    def of_classes(self, names: Collection[str]) -> "GroundTruth":
        """The same videos, with only the annotations of the given classes, and the ambiguous segments.

        Names count as the same if they differ only in capitals, blanks or invisible marks.
        """
        wanted = set(map(fold, names))
        kept = {label for label in self.labels if fold(label) in wanted} | {AMBIGUOUS}
        return self._where(lambda row: row.label in kept)

    def spelt_like(self, names: Iterable[str]) -> "GroundTruth":
        """The same annotations, with labels spelt like the class names that they are meant to be (see ``fold``).

        Args:
            names: class names, such as prompts.
        """
        known = {fold(name): name for name in names}
        videos = {
            video: replace(
                annotated,
                annotations=tuple(
                    row._replace(label=known.get(fold(row.label), row.label)) for row in annotated.annotations
                ),
            )
            for video, annotated in self.videos.items()
        }
        return replace(self, videos=videos)

    def without_ambiguous(self) -> "GroundTruth":
        """The same videos without the segments that are labelled ``Ambiguous``.

        Source: OpenTAD, which leaves them out of its training targets, ``opentad/datasets/thumos.py``.
        """
        return self._where(lambda row: row.label != AMBIGUOUS)

    def without_outside(self) -> "GroundTruth":
        """The same videos without segments that lie wholly outside their video, which would be targets of its edge."""
        videos = dict(self.videos)
        for name, video in self.videos.items():
            duration_s = video.duration_s
            if duration_s is not None and duration_s > 0:
                inside = tuple(row for row in video.annotations if not row.is_outside(duration_s))
                videos[name] = replace(video, annotations=inside)
        return replace(self, videos=videos)

    def _where(self, keep: Callable[[Annotation], bool]) -> "GroundTruth":
        videos = {
            video: replace(known, annotations=tuple(filter(keep, known.annotations)))
            for video, known in self.videos.items()
        }
        return replace(self, videos=videos)


def read_ground_truth(
    path: str | os.PathLike[str],
    *,
    subset: str | None = None,
    video_info: Mapping[str, VideoInfo] | None = None,
    option: str | None = None,
) -> GroundTruth:
    """Read annotations.

    Three formats are known: ActivityNet's, ``{"database": {id: {"subset", "duration", "annotations"}}}``; the original
    code's, ``{"v_ID": {"duration_second", "annotations"}}``, which has no subsets; and THUMOS14's text files, one for
    each class. Videos without annotations are kept. Labels that differ only in capitals or blanks are one class, spelt
    as most of all subsets' annotations spell it.

    Args:
        path: a JSON file; or, of THUMOS14, a folder of text files, or one of them (``.txt``).
        subset: the subset to keep; None for all videos. Case does not matter, and ``val`` is ``validation``, ``train``
            is ``training`` and ``testing`` is ``test``.
        video_info: subsets by video id, see ``read_video_info``. It is used instead of the subsets in the annotations,
            and for durations that these lack. Videos that it does not list belong to no subset.
        option: the command-line option that named the subset, for messages.

    Raises:
        DatasetError: the file has neither format, or no video of the subset; or a subset is asked for and nothing says
            which videos belong to it.
    """
    path = Path(path)
    if is_text_form(path):
        database, has_subsets = read_class_files(path, most=MOST_ANNOTATIONS)
    else:
        database, has_subsets = _database(read_json(path, limit=LARGEST_FILE, error=DatasetError), path)
    check_count(len(database), MOST_VIDEOS, "videos", path)
    if not database:
        raise DatasetError(f"{path}: no video, expected at least one; check that these are the annotations you mean")
    if subset is not None and video_info is None and not has_subsets:
        other = "name the files CLASS_val.txt or CLASS_test.txt" if is_text_form(path) else "annotations with subsets"
        raise DatasetError(
            f"{path}: it does not say which videos are of subset {subset!r}; give --video-info FILE, such as the "
            f"original code's video_info_new.csv, or {other}"
        )
    spellings = LabelSpellings.choose(_labels(database), fixed=AMBIGUOUS)
    videos: dict[str, AnnotatedVideo] = {}
    subsets: set[str] = set()
    unlisted: list[str] = []
    count = 0
    for name, video in database.items():
        place = f"{path}: video {name[:60]!r}"
        if not isinstance(video, dict):
            raise DatasetError(f"{place} has no list of 'annotations', expected ActivityNet's JSON format")
        if not name.strip():
            raise DatasetError(f"{place}, expected the id of a video; correct or remove it")
        info = (video_info or {}).get(video_id(name))
        known_subset = video.get("subset") if video_info is None else info and info.subset
        subsets.add("none" if known_subset is None else reprlib.repr(known_subset).strip("'")[:40])
        if subset is not None and video_info is not None and info is None and video.get("annotations"):
            unlisted.append(video_id(name))
        if subset is not None and not _is_same_subset(known_subset, subset):
            continue
        if video_id(name) in videos:
            raise DatasetError(f"{place} is listed twice, with and without v_; remove one of them")
        rows = _rows_of(video, place, may_lack=subset is None and _is_same_subset(known_subset, "test"))
        count += len(rows)
        check_count(count, MOST_ANNOTATIONS, "annotations or more", path)
        videos[video_id(name)] = AnnotatedVideo(
            duration_s=_duration(video, info),
            annotations=tuple(_annotation(row, place, spellings) for row in rows),
            subset=known_subset if isinstance(known_subset, str) else None,
        )
    if not videos:
        found = ", ".join(sorted(subsets))
        raise DatasetError(
            f"{path}: no video of subset {subset!r}, found {found}; give one of these as {option or 'the subset'}"
        )
    has_subsets = has_subsets or video_info is not None
    return GroundTruth(videos=videos, has_subsets=has_subsets, unlisted=tuple(unlisted), spellings=spellings)


def _labels(database: Mapping[str, Any]) -> Iterator[str]:
    """The labels of all subsets, so that a class has one spelling in all of them."""
    for video in database.values():
        rows = video.get("annotations") if isinstance(video, dict) else None
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and isinstance(row.get("label"), str):
                yield row["label"]


def _rows_of(video: Mapping[str, Any], place: str, *, may_lack: bool) -> list[Any]:
    """The annotations of a video; ``may_lack`` for videos of the test subset, which are published without any."""
    rows = video.get("annotations")
    if rows is None and may_lack:
        return []
    if not isinstance(rows, list):
        raise DatasetError(
            f"{place} has no list of 'annotations', expected ActivityNet's JSON format; if nothing happens in it, give "
            "it an empty list"
        )
    return rows


def _database(content: Any, path: Path) -> tuple[dict[str, Any], bool]:
    """Videos by name, and whether the format has subsets."""
    if isinstance(content, dict) and isinstance(content.get("database"), dict):
        database = content["database"]
        return database, any(isinstance(video, dict) and "subset" in video for video in database.values())
    if isinstance(content, dict) and any(isinstance(v, dict) and "duration_second" in v for v in content.values()):
        return content, False
    raise DatasetError(
        f"{path}: no 'database' and no 'duration_second', expected annotations in ActivityNet's JSON format or the "
        "original code's"
    )


def _is_same_subset(known: Any, asked: str) -> bool:
    """Whether these are the same subset, which may be written ``val``, ``validation`` or ``Validation``."""
    return isinstance(known, str) and whole_subset_name(known) == whole_subset_name(asked)


def _annotation(row: Any, place: str, spellings: LabelSpellings) -> Annotation:
    label = spellings.by_label[read_label(row, place, "annotation")]
    if not label:
        raise DatasetError(f"{place}: annotation with an empty label, expected the name of a class")
    return Annotation(label, *read_segment(row, place))


def _duration(video: Mapping[str, Any], info: VideoInfo | None) -> float | None:
    duration = as_number(video.get("duration", video.get("duration_second")))
    return info.duration_s if duration is None and info is not None else duration
