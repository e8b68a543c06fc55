"""Labels from an external classifier of whole videos.

They are off by default: such a classifier was trained on all classes, so the result is not a zero-shot result. The
authors' repository uses them (``surer`` below). The thesis's reads the same file, but keeps the network's labels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from stale_runtime.detections import Detection
from stale_runtime.errors import DatasetError
from stale_runtime.inputs.videos import LARGEST_FILE, MOST_VIDEOS, check_count, video_id
from stale_runtime.system.files import read_json
from stale_runtime.system.text import has_unusable_characters

ExternalMode: TypeAlias = Literal["surer", "always"]
"""Which detections take the label of their video: those whose own score is not above the classifier's, or all."""


class VideoLabel(NamedTuple):
    """The answer of an external classifier for a video."""

    label: str
    score: float


def read_video_labels(path: Path) -> dict[str, VideoLabel]:
    """Read a classifier's answers: ``{"v_...": {"class": "Archery", "score": 0.9}}``, as ``stale_best_score.json``.

    Returns:
        Label and score by video id.

    Raises:
        DatasetError: the file does not have this format.
    """
    content = read_json(path, limit=LARGEST_FILE, error=DatasetError)
    if not isinstance(content, dict):
        raise DatasetError(f'{path}: expected {{"v_...": {{"class": ..., "score": ...}}}}')
    check_count(len(content), MOST_VIDEOS, "videos", path)
    labels: dict[str, VideoLabel] = {}
    for name, answer in content.items():
        if (
            not isinstance(answer, dict)
            or not isinstance(answer.get("class"), str)
            or type(answer.get("score")) not in (int, float)
        ):
            raise DatasetError(f'{path}: video {name[:60]!r}, expected {{"class": a name, "score": a number}}')
        if has_unusable_characters(answer["class"]):
            raise DatasetError(
                f"{path}: video {name[:60]!r}: control characters in {answer['class'][:40]!r}, expected a class name"
            )
        if video_id(name) in labels:
            raise DatasetError(f"{path}: video {name[:60]!r} is listed twice, with and without v_; remove one of them")
        labels[video_id(name)] = VideoLabel(answer["class"], float(answer["score"]))
    return labels


def override_labels(
    detections: tuple[Detection, ...], video: str, labels: Mapping[str, VideoLabel], *, mode: ExternalMode = "surer"
) -> tuple[Detection, ...]:
    """Give a video's label to its detections. Scores and segments stay as they are.

    Args:
        detections: of one video.
        video: its id.
        labels: what ``read_video_labels`` returned.
        mode: which detections take the label.

    Raises:
        DatasetError: the classifier has no answer for this video.

    Source: ``multithread_detection`` in ``utils/postprocess_utils.py``. In the authors' repository it does ``surer``;
    in the thesis's (``STALE_closed``, ``STALE_open``, ``STALE_cpu``) that is a comment, so that no label is replaced.
    ``always`` is a comment in all four of them.
    """
    if video not in labels:
        raise DatasetError(
            f"video {video}: the external classifier has no label for it; leave out the video, or add its label"
        )
    label, score = labels[video]
    return tuple(row if mode == "surer" and row.score > score else row._replace(label=label) for row in detections)
