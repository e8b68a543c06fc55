"""Predictions that Label Studio imports, to correct them there."""

import json
from typing import Any, Final
from urllib.parse import quote

from stale_runtime.detections import Detection
from stale_runtime.formats.frames import frame_rate_of, frame_span
from stale_runtime.formats.run_result import RunResult
from stale_runtime.inputs.remote_files import RemoteFile, Source
from stale_runtime.inputs.videos import is_video
from stale_runtime.system.text import as_text, plain_line

_CONTROL, _OBJECT = "actions", "video"
"""Names of the tags in the project's labeling interface."""
_LOCAL_FILES: Final = "/data/local-files/?d="
"""Where Label Studio serves files of its own machine."""


def label_studio_tasks(result: RunResult) -> str:
    """A task for each video, with its detections as a prediction of timeline labels.

    The project's labeling interface needs these tags, and a ``Label`` for each class::

        <View>
          <Video name="video" value="$video" framerate="$fps"/>
          <TimelineLabels name="actions" toName="video"><Label value="Long jump"/></TimelineLabels>
        </View>

    Frames are counted from 1, and the last one belongs to the action, as in what Label Studio exports. It takes the
    number of frames a second from ``fps``, so times are right to a frame even where that is not the video's own. The
    video's path is relative to the current folder, or absolute without the first ``/`` if it was given so; in object
    storage it is the URL, which needs a storage connection in Label Studio. Features are taken to belong to an ``.mp4``
    of their name.

    Source: the tags TimelineLabels and Video, and "Import pre-annotated data", Label Studio's documentation.
    """
    tasks = [_task(result, n) for n in range(len(result.videos))]
    return json.dumps(tasks, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _task(result: RunResult, n: int) -> dict[str, Any]:
    video, path = result.shown[n], result.paths[n]
    rate = frame_rate_of(result, video.video)
    prediction = {
        "model_version": result.version,
        "score": max((row.score for row in video), default=0.0),
        "result": [_region(row, rate, f"action_{number}") for number, row in enumerate(video, start=1)],
    }
    data = {"video": _video_address(path), "fps": rate, "video_id": plain_line(video.video)}
    return {"data": data, "predictions": [prediction]}


def _video_address(path: Source) -> str:
    """Where Label Studio finds a video."""
    if isinstance(path, RemoteFile):
        return as_text(str(path) if is_video(path) else f"{path.parent}/{path.stem}.mp4")
    file = path if is_video(path) else path.with_suffix(".mp4")
    return _LOCAL_FILES + quote(as_text(file.as_posix()).lstrip("/"))


def _region(row: Detection, rate: float, name: str) -> dict[str, Any]:
    first, after = frame_span(row, rate)
    return {
        "id": name,
        "type": "timelinelabels",
        "from_name": _CONTROL,
        "to_name": _OBJECT,
        "value": {"ranges": [{"start": first + 1, "end": after}], "timelinelabels": [plain_line(row.label)]},
        "score": row.score,
    }
