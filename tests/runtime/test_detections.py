import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.detections import FRACTION, SECONDS, Detection, VideoDetections, detections_csv, unit_of
from stale_runtime.evaluation.results import results_json

ROWS = (Detection("Long jump", 61.5, 3723.0044, 0.91239), Detection("polo", 0.0, 2.5, 0.5))
KNOWN = VideoDetections(video="a", duration_s=4000.0, detections=ROWS)
UNKNOWN = VideoDetections(video="b", duration_s=None, detections=(Detection("polo", 0.25, 0.5, 0.125),))
EMPTY = VideoDetections(video="c", duration_s=3.0, detections=())


def test_detections_are_iterated_and_counted() -> None:
    assert tuple(KNOWN) == ROWS
    assert [label for label, _, _, _ in KNOWN] == ["Long jump", "polo"]
    assert (len(KNOWN), len(EMPTY)) == (2, 0)
    assert (KNOWN.unit, UNKNOWN.unit) == ("seconds", "fraction of the video")


def test_the_best_can_be_kept() -> None:
    assert tuple(KNOWN.top(1)) == ROWS[:1]
    assert KNOWN.top(0).detections == ()
    assert KNOWN.top(2) == KNOWN.top(5) == KNOWN
    assert (KNOWN.top(1).video, KNOWN.top(1).duration_s) == ("a", 4000.0)
    with pytest.raises(ValueError, match=r"top\(-1\), expected 0 or more"):
        KNOWN.top(-1)


@pytest.mark.parametrize(("score", "kept"), [(0.0, 2), (0.5, 2), (0.500001, 1), (1.0, 0)])
def test_weak_ones_can_be_dropped(score: float, kept: int) -> None:
    assert KNOWN.min_score(score) == KNOWN.top(kept)


def test_json_by_value() -> None:
    assert json.loads(UNKNOWN.to_json()) == {
        "video": "b",
        "duration_s": None,
        "unit": "fraction of the video",
        "detections": [{"label": "polo", "score": 0.125, "segment": [0.25, 0.5]}],
    }


def test_json_rows_are_those_of_the_results_format() -> None:
    results = json.loads(results_json([KNOWN, EMPTY], version="x", external=None, run={}))["results"]
    assert [json.loads(video.to_json())["detections"] for video in (KNOWN, EMPTY)] == [results["a"], results["c"]]


def test_csv_of_one_video_is_that_of_several() -> None:
    header, *rows = detections_csv([KNOWN, EMPTY, KNOWN]).splitlines()
    assert KNOWN.to_csv().splitlines() == [header, *rows[:2]]
    assert rows[:2] == rows[2:]
    assert EMPTY.to_csv() == f"{header}\n"


def test_csv_by_value() -> None:
    assert detections_csv([KNOWN, EMPTY]).splitlines() == [
        "video,label,start_s,end_s,score",
        "a,Long jump,61.5,3723.0044,0.91239",
        "a,polo,0.0,2.5,0.5",
    ]
    assert detections_csv([UNKNOWN]).splitlines() == [
        "video,label,start_fraction,end_fraction,score",
        "b,polo,0.25,0.5,0.125",
    ]


def test_csv_has_one_unit() -> None:
    assert unit_of([KNOWN]) == unit_of([]) == SECONDS
    assert unit_of([UNKNOWN]) == FRACTION
    with pytest.raises(ValueError, match="expected one unit for all"):
        detections_csv([KNOWN, UNKNOWN])


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0")), st.floats(0, 1e6), st.floats(0, 2))
def test_csv_reads_back_exactly(label: str, end: float, score: float) -> None:
    video = VideoDetections(video=label, duration_s=1e6, detections=(Detection(label, 0.0, end, score),))
    _, row = csv.reader(io.StringIO(detections_csv([video])))
    assert row[:2] == [label, label]
    assert (float(row[3]), float(row[4])) == (end, score)
