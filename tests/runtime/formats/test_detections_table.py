from dataclasses import replace

import pytest

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.formats.detections_table import detections_table
from stale_runtime.formats.times import clock_time
from tests.runtime.formats.results import result_of

ROWS = (Detection("Long jump", 61.5, 3723.0044, 0.91239), Detection("polo", 0.0, 2.5, 0.5))
KNOWN = VideoDetections(video="a", duration_s=4000.0, detections=ROWS)
UNKNOWN = VideoDetections(video="b", duration_s=None, detections=(Detection("polo", 0.25, 0.5, 0.125),))
EMPTY = VideoDetections(video="c", duration_s=3.0, detections=())


def test_a_table_by_value() -> None:
    assert detections_table(result_of(KNOWN)).splitlines() == [
        "video    label             start           end    score",
        "-------  ---------  ------------  ------------  -------",
        "a        Long jump  00:01:01.500  01:02:03.004   0.9124",
        "a        polo       00:00:00.000  00:00:02.500   0.5000",
    ]


def test_a_table_says_what_it_leaves_out() -> None:
    text = detections_table(result_of(KNOWN, KNOWN, top=1))
    assert text.count("Long jump") == 2
    assert "polo" not in text
    assert text.endswith("2 weaker detections are not shown; --top N shows more, --format json all.\n")


def test_a_table_says_how_many_score_less_and_how_to_see_them() -> None:
    text = detections_table(result_of(KNOWN, min_score=0.6))
    assert "Long jump" in text
    assert "polo" not in text
    assert text.endswith("1 detection scores below 0.6; --min-score 0 shows it too.\n")
    assert detections_table(result_of(KNOWN, KNOWN, min_score=0.95)) == (
        "No actions found.\n4 detections score below 0.95; --min-score 0 shows them too.\n"
    )
    assert "below" not in detections_table(result_of(KNOWN, min_score=0.5))


def test_a_table_says_that_times_are_fractions() -> None:
    lines = detections_table(result_of(UNKNOWN)).splitlines()
    assert lines[2].split() == ["b", "polo", "0.250", "0.500", "0.1250"]
    assert lines[-1].startswith("Times are fractions of the video; give --duration")
    assert "fractions" not in detections_table(result_of(KNOWN))


def test_a_table_of_nothing() -> None:
    assert detections_table(result_of(EMPTY)) == "No actions found.\n"
    assert detections_table(result_of()) == "No actions found.\n"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "00:00:00.000"),
        (0.0004, "00:00:00.000"),
        (0.9996, "00:00:01.000"),
        (59.9996, "00:01:00.000"),
        (3599.9999, "01:00:00.000"),
        (3661.001, "01:01:01.001"),
        (360000.0, "100:00:00.000"),
    ],
)
def test_clock_times(seconds: float, expected: str) -> None:
    assert clock_time(seconds) == expected


def test_no_name_breaks_a_table() -> None:
    rows = (Detection("polo\n\x1b[31m", 0.0, 0.5, 0.9),)
    video = VideoDetections(video="\x1b]0;evil\x07\na", duration_s=None, detections=rows)
    table = detections_table(result_of(video))
    assert "\x1b" not in table
    assert "\x07" not in table
    assert len(table.splitlines()) == len(detections_table(result_of(replace(video, video="a"))).splitlines())
