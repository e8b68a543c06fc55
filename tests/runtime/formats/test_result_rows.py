"""Results of videos as records of plain values."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.errors import DatasetError, FeatureError
from stale_runtime.formats.result_rows import FailedVideo, read_result_row, result_row, row_of_result, settings_text
from stale_runtime.inference.outcome import Outcome

_LABELS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_TIMES = st.floats(0, 1e6)
_DETECTIONS = st.builds(
    lambda label, times, score: Detection(label, min(times), max(times), score),
    _LABELS,
    st.tuples(_TIMES, _TIMES),
    st.floats(-1e3, 1e3),
)
_VIDEOS = st.builds(
    VideoDetections,
    video=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    duration_s=st.none() | st.floats(1e-3, 1e6),
    detections=st.lists(_DETECTIONS, max_size=4).map(tuple),
    window=st.none() | st.integers(1, 10_000),
    recomputed=st.integers(0, 100),
)


def _row(**changes: Any) -> dict[str, Any]:
    detections = [{"label": "Jump", "start": 1.0, "end": 2.5, "score": 0.75}]
    ok = {"video": "abc", "status": "ok", "error": None, "message": None, "duration_s": 60.0, "window": None}
    return {**ok, "recomputed": 0, "detections": detections, "settings": "{}", **changes}


@given(_VIDEOS)
def test_a_row_says_all_that_is_known_of_a_video(video: VideoDetections) -> None:
    row = row_of_result(video, "{}")
    assert read_result_row(row, "here") == video
    assert read_result_row(json.loads(json.dumps(row)), "here") == video  # plain values, to the last digit


def test_the_row_of_a_video_that_failed_says_why() -> None:
    outcome = Outcome(Path("feats/v_abc.npy"), None, FeatureError("feats/v_abc.npy: empty"))
    row = result_row(outcome, '{"a":1}')
    known = {"video": "abc", "status": "failed", "error": "FeatureError", "message": "feats/v_abc.npy: empty"}
    assert row == {**_row(duration_s=None, detections=[]), **known, "settings": '{"a":1}'}
    assert read_result_row(row, "here") == FailedVideo("abc", "FeatureError", "feats/v_abc.npy: empty")


def test_equal_settings_are_equal_text() -> None:
    assert settings_text({"b": 1, "a": "ä"}) == settings_text({"a": "ä", "b": 1}) == '{"a":"ä","b":1}'


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"video": None}, "video None"),
        ({"video": ""}, "video ''"),
        ({"video": "\ud800"}, "expected an id"),
        ({"video": "x" * 5000}, "expected an id"),
        ({"status": "done"}, "status 'done'"),
        ({"status": "failed"}, "error None"),
        ({"duration_s": math.nan}, "duration_s nan"),
        ({"duration_s": 0.0}, "duration_s 0.0"),
        ({"duration_s": "60"}, "duration_s '60'"),
        ({"window": 0}, "window 0"),
        ({"window": True}, "window True"),
        ({"recomputed": -1}, "recomputed -1"),
        ({"recomputed": None}, "recomputed None"),
        ({"detections": None}, "detections None"),
        ({"detections": ["Jump"]}, "detection 'Jump'"),
        ({"detections": [{"label": "Jump", "start": 1.0, "end": 2.0}]}, "expected label, start, end and score"),
        ({"detections": [{"label": 3, "start": 1.0, "end": 2.0, "score": 0.5}]}, "label 3"),
        ({"detections": [{"label": "\udc80", "start": 1.0, "end": 2.0, "score": 0.5}]}, "expected the name of a class"),
        ({"detections": [{"label": "Jump", "start": 1.0, "end": math.nan, "score": 0.5}]}, "finite"),
        ({"detections": [{"label": "Jump", "start": 1.0, "end": 2.0, "score": math.inf}]}, "finite"),
        ({"detections": [{"label": "Jump", "start": 1.0, "end": 2.0, "score": True}]}, "finite"),
        ({"detections": [{"label": "Jump", "start": 2.0, "end": 1.0, "score": 0.5}]}, "ends before it starts"),
        ({"detections": [{"label": "Jump", "start": 0.0, "end": 1e12, "score": 0.5}]}, "times of at most"),
    ],
)
def test_a_row_that_no_run_writes_is_refused(changes: dict[str, Any], named: str) -> None:
    assert isinstance(read_result_row(_row(), "rows.parquet"), VideoDetections)
    with pytest.raises(DatasetError, match=r"^rows\.parquet: ") as caught:
        read_result_row(_row(**changes), "rows.parquet")
    assert named in str(caught.value)
